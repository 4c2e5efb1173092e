//! The API server accepts everything that the chart renders, in a namespace that enforces the restricted standard, and warns
//! about nothing.

use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::cluster::Cluster;
use crate::helm::{Document, RELEASE, case, rendered};
use crate::skips::skip;

/// Definitions of others, in a Go module.
struct Definitions {
    group: &'static str,
    module: &'static str,
    files: &'static [&'static str],
    /// What is said if the module cannot be had.
    skipped: &'static str,
}

const DEFINITIONS: [Definitions; 2] = [
    Definitions {
        group: "monitoring.coreos.com",
        module: "github.com/prometheus-operator/prometheus-operator@v0.85.0",
        files: &[
            "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
            "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
        ],
        skipped: "the monitors are",
    },
    Definitions {
        group: "gateway.networking.k8s.io",
        module: "sigs.k8s.io/gateway-api@v1.6.3",
        files: &["config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"],
        skipped: "the routes are",
    },
];

/// The cluster of this program. It has no definition: the chart brings it.
pub(crate) async fn cluster() -> &'static Cluster {
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    CLUSTER.get_or_init(Cluster::start).await
}

/// Runs a command with that input; returns its output, its errors and warnings, and whether it succeeded.
pub(crate) fn run(mut command: Command, input: &str) -> (String, String, bool) {
    use std::io::Write as _;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = command.spawn().expect("start a program");
    // The pipe is dropped at the end of the statement, so that the program sees the end of its input.
    running.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("write the input");
    let output = running.wait_with_output().expect("run a program");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (text(output.stdout), text(output.stderr), output.status.success())
}

pub(crate) fn kubectl(cluster: &Cluster, arguments: &[&str], input: &str) -> (String, String, bool) {
    let mut kubectl = cluster.kubectl();
    kubectl.args(arguments);
    run(kubectl, input)
}

/// A namespace that enforces the restricted standard.
pub(crate) fn restricted(cluster: &Cluster, name: &str) {
    let labels: Value = ["enforce", "warn"]
        .map(|mode| (format!("pod-security.kubernetes.io/{mode}"), json!("restricted")))
        .into_iter()
        .collect();
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
    let applied = kubectl(cluster, &["apply", "--server-side", "--filename", "-"], &namespace.to_string());
    assert!(applied.2, "{applied:?}");
}

fn dry_run(cluster: &Cluster, manifest: &str) -> (String, String, bool) {
    let arguments = [
        "apply",
        "--server-side",
        "--force-conflicts",
        "--dry-run=server",
        "--validate=strict",
        "--filename",
        "-",
    ];
    kubectl(cluster, &arguments, manifest)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_server_accepts_every_object_of_every_case_without_a_warning() {
    let cluster = cluster().await;
    for namespace in [RELEASE, "team-a", "okid-leases"] {
        restricted(cluster, namespace);
    }
    let missing = install_definitions(cluster);
    for (case, rendered) in rendered() {
        let is_known = |document: &&Document| {
            let version = document.object["apiVersion"].as_str().unwrap();
            !missing.iter().any(|group| version.starts_with(group))
        };
        let documents: Vec<_> =
            rendered.documents.iter().filter(is_known).map(|document| document.text.as_str()).collect();
        let (output, warnings, succeeded) = dry_run(cluster, &documents.join("\n---\n"));
        assert!(succeeded && warnings.is_empty(), "{case}: {warnings}");
        assert_eq!(output.lines().count(), documents.len(), "{case}: {output}");
    }
}

/// Installs the definitions of others. The groups whose module cannot be had.
fn install_definitions(cluster: &Cluster) -> Vec<&'static str> {
    let mut missing = Vec::new();
    for Definitions { group, module, files, skipped } in DEFINITIONS {
        let Some(folder) = control_plane::go_module(module) else {
            skip(skipped, &format_args!("{module} cannot be downloaded"));
            missing.push(group);
            continue;
        };
        for file in files {
            let text = std::fs::read_to_string(folder.join(file)).unwrap();
            let apply = ["apply", "--server-side", "--filename", "-"];
            let (_, errors, succeeded) = kubectl(cluster, &apply, &text);
            assert!(succeeded, "{errors}");
        }
    }
    let wait = ["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"];
    assert!(kubectl(cluster, &wait, "").2);
    missing
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_the_standard_forbids_would_be_refused() {
    let cluster = cluster().await;
    restricted(cluster, RELEASE);
    let [pod] = case("default").of_kind("Pod").try_into().unwrap();
    let mut pod = pod.object.clone();
    pod["spec"]["containers"][0]["securityContext"]["capabilities"] = json!({});
    let (_, errors, succeeded) = dry_run(cluster, &pod.to_string());
    assert!(!succeeded && errors.contains("violates PodSecurity \"restricted:latest\""), "{errors}");
}
