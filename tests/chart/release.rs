//! A release on a real API server: installation, upgrade, rollback and uninstallation by Helm; the operator with the
//! permissions of the chart; and the programs that the chart's hooks run. There is no node, so the tests run the programs of
//! the Pods themselves.

use std::process::Command;
use std::time::Duration;

use control_plane::Folder;
use control_plane::process::{self, Child, Lifeline, Signal};
use okid_sandbox::{Person, Sandbox, Verdict};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::helm::{Document, RELEASE, Rendered, chart, helm, render_with, repository, texts};
use crate::notes::first_verification;
use crate::objects::{cluster, kubectl, restricted, run};
use crate::{holds, until};

const DEFINITION: &str = "customresourcedefinition/verifications.okid.io";

/// Helm with the administrator's kubeconfig; its output.
fn helm_in(cluster: &Cluster, arguments: &[&str]) -> String {
    let mut command = helm(arguments);
    command.env("KUBECONFIG", cluster.kubeconfig());
    let (output, errors, succeeded) = run(command, "");
    assert!(succeeded, "helm {arguments:?}: {errors}");
    assert!(!errors.to_lowercase().contains("warn"), "helm {arguments:?}: {errors}");
    output
}

/// kubectl, which must succeed; its output.
pub(crate) fn kubectl_in(cluster: &Cluster, arguments: &[&str], input: &str) -> String {
    let (output, errors, succeeded) = kubectl(cluster, arguments, input);
    assert!(succeeded, "kubectl {arguments:?}: {errors}");
    output
}

pub(crate) fn get(cluster: &Cluster, namespace: &str, what: &str) -> Value {
    let text = kubectl_in(cluster, &["--namespace", namespace, "get", what, "--output", "json"], "");
    serde_json::from_str(&text).unwrap()
}

/// The chart as an older version: its definition lacks a printer column.
fn older_chart(folder: &Folder) -> String {
    let copy = folder.path().join("older");
    let copied = Command::new("cp").arg("-r").arg(chart()).arg(&copy).status().unwrap();
    assert!(copied.success());
    let file = copy.join("files/verifications.okid.io.yaml");
    let mut definition: Value = serde_norway::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let columns = definition["spec"]["versions"][0]["additionalPrinterColumns"].as_array_mut().unwrap();
    columns.pop().unwrap();
    std::fs::write(&file, definition.to_string()).unwrap();
    copy.to_str().unwrap().to_owned()
}

fn columns(definition: &Value) -> usize {
    definition["spec"]["versions"][0]["additionalPrinterColumns"].as_array().unwrap().len()
}

/// Waits until the API server serves the resource.
pub(crate) fn until_served(cluster: &Cluster) {
    kubectl_in(cluster, &["wait", "--for=condition=Established", DEFINITION, "--timeout=60s"], "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_a_rollback_and_an_uninstallation_keep_the_resources() {
    let cluster = Cluster::start().await;
    let folder = Folder::create("okid-chart-").unwrap();
    let (older, current) = (older_chart(&folder), chart().to_str().unwrap().to_owned());
    let namespace = ["--namespace", RELEASE];
    restricted(&cluster, RELEASE);

    helm_in(&cluster, &[&["install", RELEASE, &older], &namespace[..]].concat());
    until_served(&cluster);
    let notes = helm_in(&cluster, &[&["get", "notes", RELEASE], &namespace[..]].concat());
    assert!(notes.contains(&format!("uses {}.", okid_operator::portal::DEFAULT_PORTAL)), "{notes}");
    let (manifest, _) = first_verification(&notes);
    let applied = kubectl_in(&cluster, &["--namespace", RELEASE, "apply", "--filename", "-"], &manifest);
    assert_eq!(applied, "verification.okid.io/alice created\n");
    let uid = || get(&cluster, RELEASE, "verification/alice")["metadata"]["uid"].clone();
    let first = uid();
    let before = columns(&get(&cluster, RELEASE, DEFINITION));

    helm_in(&cluster, &[&["upgrade", RELEASE, &current, "--set", "replicas=3"], &namespace[..]].concat());
    assert_eq!(columns(&get(&cluster, RELEASE, DEFINITION)), before + 1, "the definition is upgraded");
    assert_eq!(get(&cluster, RELEASE, "deployment/okid-operator")["spec"]["replicas"], 3);
    helm_in(&cluster, &[&["rollback", RELEASE, "1"], &namespace[..]].concat());
    assert_eq!(columns(&get(&cluster, RELEASE, DEFINITION)), before);
    assert_eq!(get(&cluster, RELEASE, "deployment/okid-operator")["spec"]["replicas"], 2);
    assert_eq!(uid(), first);

    // No node can run the hook.
    let uninstall = [&["uninstall", RELEASE, "--no-hooks"], &namespace[..]].concat();
    let mut command = helm(&uninstall);
    command.env("KUBECONFIG", cluster.kubeconfig());
    let (output, errors, succeeded) = run(command, "");
    assert!(
        succeeded && output.contains("[CustomResourceDefinition] verifications.okid.io"),
        "{output}{errors}"
    );
    assert_eq!(uid(), first);

    helm_in(
        &cluster,
        &[&["install", RELEASE, &current, "--set", "crds.keep=false"], &namespace[..]].concat(),
    );
    assert_eq!(uid(), first, "a later installation adopts the definition that was kept");
    helm_in(&cluster, &[&["uninstall", RELEASE, "--no-hooks"], &namespace[..]].concat());
    let gone = ["wait", "--for=delete", DEFINITION, "--timeout=60s"];
    kubectl_in(&cluster, &gone, "");
}

/// A namespace with a chart that is applied there without Helm, for programs that the test runs in place of the Pods.
struct Installed {
    cluster: &'static Cluster,
    folder: Folder,
    rendered: Rendered,
}

impl Installed {
    /// Applies what the chart renders with these values as a release of that name.
    async fn new(release: &str, case: &str, set: &[&str]) -> Self {
        let cluster = cluster().await;
        for namespace in [RELEASE, "team-a", "team-b", "team-c"] {
            restricted(cluster, namespace);
        }
        let fullname = format!("fullnameOverride=\"{release}\"");
        let rendered = render_with(case, &[&[fullname.as_str()], set].concat()).unwrap();
        let installed = Self { cluster, folder: Folder::create("okid-chart-").unwrap(), rendered };
        // The definition first.
        let (first, others): (Vec<_>, Vec<_>) = installed
            .rendered
            .documents
            .iter()
            .filter(|document| document.kind() != "Pod")
            .partition(|document| document.kind() == "CustomResourceDefinition");
        for documents in [first, others] {
            let texts: Vec<_> = documents.iter().map(|document| document.text.as_str()).collect();
            installed.apply(&texts.join("\n---\n"));
        }
        until_served(cluster);
        installed
    }

    fn apply(&self, manifest: &str) {
        let arguments = ["apply", "--server-side", "--force-conflicts", "--filename", "-"];
        kubectl_in(self.cluster, &arguments, manifest);
    }

    /// The program of a container, with the token of its Pod's `ServiceAccount` and with further arguments.
    fn program(
        &self,
        pod: &Value,
        change: impl Fn(String) -> Option<String>,
        more: &[String],
    ) -> process::Command {
        let account = pod["serviceAccountName"].as_str().unwrap();
        let token = kubectl_in(self.cluster, &["--namespace", RELEASE, "create", "token", account], "");
        let text = std::fs::read_to_string(self.cluster.kubeconfig()).unwrap();
        let mut kubeconfig: Value = serde_norway::from_str(&text).unwrap();
        kubeconfig["users"][0]["user"] = json!({"token": token.trim()});
        let path = self.folder.path().join(format!("{account}.kubeconfig"));
        std::fs::write(&path, kubeconfig.to_string()).unwrap();
        let arguments = texts(&pod["containers"][0]["args"]).into_iter().filter_map(change);
        process::Command::new(env!("CARGO_BIN_EXE_okid-operator"))
            .args(arguments)
            .args(more)
            .env("KUBECONFIG", path)
            .env("OKID_POD_NAME", "okid-operator-0")
            .env("OKID_POD_NAMESPACE", RELEASE)
    }

    fn start(&self, command: process::Command, name: &str) -> Child {
        let needs: Lifeline = self.folder.lifeline().unwrap();
        command.needs(needs).start(self.folder.path().join(name)).unwrap()
    }

    fn pod_of(document: &Document) -> Value {
        document.object["spec"]["template"]["spec"].clone()
    }

    /// The operator, with a portal of the test.
    fn operator(&self, portal: &str) -> Child {
        let pod = self.rendered.deployment()["spec"]["template"]["spec"].clone();
        let more = [format!("--allowed-portal={portal}"), "--allow-plain-http".to_owned()];
        let change =
            |argument: String| match argument.split_once('=').map_or(argument.as_str(), |(flag, _)| flag) {
                "--admin-address" => Some("--admin-address=127.0.0.1:0".to_owned()),
                "--allow-plain-http" | "--allowed-portal" => None,
                _ => Some(argument),
            };
        self.start(self.program(&pod, change, &more), "operator")
    }

    fn label_selector(&self) -> String {
        let labels =
            self.rendered.deployment()["spec"]["selector"]["matchLabels"].as_object().unwrap().clone();
        let labels = labels.into_iter().map(|(name, value)| format!("{name}={}", value.as_str().unwrap()));
        labels.collect::<Vec<_>>().join(",")
    }
}

/// Waits until something holds.
async fn until_it_holds(what: &str, log: impl Fn() -> String, condition: impl Fn() -> bool) {
    until(async || holds(condition()), |()| format!("waited in vain for {what}:\n{}", log())).await;
}

/// Waits until a program ends; returns its exit code and its log.
async fn ended(program: &Child) -> (Option<i32>, String) {
    until_it_holds("the end of a program", || program.log(), || program.try_wait().unwrap().is_some()).await;
    (program.try_wait().unwrap().unwrap().code(), program.log())
}

/// The URL of the operator's admin server.
async fn admin_url(operator: &Child) -> String {
    let address = || {
        operator.log().lines().find_map(|line| {
            let line: Value = serde_json::from_str(line).ok()?;
            line["address"].as_str().map(str::to_owned)
        })
    };
    until_it_holds("the address of the admin server", || operator.log(), || address().is_some()).await;
    format!("http://{}", address().unwrap())
}

/// A check in a namespace that the operator watches, from apply to the verdict.
async fn finishes(installed: &Installed, namespace: &str, labels: Value, operator: &Child) {
    let cluster = installed.cluster;
    let secret = repository("examples/secret.yaml");
    kubectl_in(cluster, &["--namespace", namespace, "apply", "--filename", secret.to_str().unwrap()], "");
    let example = std::fs::read_to_string(repository("examples/verification-minimal.yaml")).unwrap();
    let mut verification: Value = serde_norway::from_str(&example).unwrap();
    verification["metadata"]["labels"] = labels;
    let apply = ["--namespace", namespace, "apply", "--filename", "-"];
    kubectl_in(cluster, &apply, &verification.to_string());
    let verdict = || get(cluster, namespace, "verification/alice")["status"]["outcome"] == "Verified";
    until_it_holds("the verdict", || operator.log(), verdict).await;
    let events = ["--namespace", namespace, "get", "events", "--output", "name"];
    until_it_holds("its events", || operator.log(), || kubectl_in(cluster, &events, "").lines().count() >= 2)
        .await;
    kubectl_in(cluster, &["--namespace", namespace, "delete", "verification", "alice"], "");
}

/// A portal with a person who passes every check at once.
async fn sandbox() -> Sandbox {
    let person = Person::typical(Duration::ZERO, Verdict::Verified);
    Sandbox::builder().key("your-api-key-here").person(person).start().await
}

/// The Pod of `helm test`, with the operator's address in place of the Service's.
async fn check(installed: &Installed, operator: &Child) -> (Option<i32>, String) {
    let [pod] = installed.rendered.of_kind("Pod").try_into().unwrap();
    let keep = |argument: String| (!argument.starts_with("--admin-url")).then_some(argument);
    let url = format!("--admin-url={}", admin_url(operator).await);
    let check = installed.start(installed.program(&pod.object["spec"], keep, &[url]), "check");
    ended(&check).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_charts_cluster_wide_permissions_suffice_and_helm_test_finds_a_missing_one() {
    let set = ["watch.selector=\"chart-test=all\"", "rbac.ttlAfterFinished=true"];
    let installed = Installed::new("okid-all", "default", &set).await;
    let portal = sandbox().await;
    let operator = installed.operator(&portal.url());
    let (code, log) = check(&installed, &operator).await;
    assert_eq!(code, Some(0), "{log}\n{}", operator.log());
    assert!(
        log.contains("ok      ready at http://") && log.contains("ok      may get secrets (core)"),
        "{log}"
    );
    assert!(log.contains("may update leases (coordination.k8s.io) in namespace okid-operator"), "{log}");
    assert!(log.contains("this account as system:serviceaccount:okid-operator:okid-all\n"), "{log}");

    finishes(&installed, "default", json!({"chart-test": "all"}), &operator).await;
    let remove = json!([
        {"op": "remove", "path": "/rules/2"},
        {"op": "test", "path": "/rules/0/verbs/4", "value": "delete"},
        {"op": "remove", "path": "/rules/0/verbs/4"},
    ])
    .to_string();
    let patch = ["patch", "clusterrole", "okid-all", "--type=json", "--patch", &remove];
    kubectl_in(installed.cluster, &patch, "");
    let (code, log) = check(&installed, &operator).await;
    assert_eq!(code, Some(1), "{log}");
    let failed: Vec<_> = log.lines().filter(|line| line.starts_with("FAILED")).collect();
    assert_eq!(failed.len(), 2, "{log}");
    assert!(failed[0].contains("may get secrets (core) in the cluster: not granted"), "{log}");
    assert!(failed[1].contains("may delete verifications (okid.io) in the cluster: not granted"), "{log}");
    operator.signal(Signal::Terminate).unwrap();
    assert_eq!(ended(&operator).await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_charts_permissions_suffice_in_a_list_of_namespaces_and_nowhere_else() {
    let set = ["leaderElection.leaseNamespace=\"team-b\"", "rbac.ttlAfterFinished=true"];
    let installed = Installed::new("okid-two", "namespaces", &set).await;
    let portal = sandbox().await;
    let operator = installed.operator(&portal.url());
    let (code, log) = check(&installed, &operator).await;
    assert_eq!(code, Some(0), "{log}\n{}", operator.log());
    assert!(log.contains("may update leases (coordination.k8s.io) in namespace team-b"), "{log}");
    for namespace in ["team-a", RELEASE] {
        let delete = format!("ok      may delete verifications (okid.io) in namespace {namespace}\n");
        assert!(log.contains(&delete), "{log}");
        finishes(&installed, namespace, json!({}), &operator).await;
    }
    let account = format!("--as=system:serviceaccount:{RELEASE}:okid-two");
    for namespace in ["default", "kube-system"] {
        let question = ["auth", "can-i", "get", "secrets", "--namespace", namespace, &account];
        assert!(!kubectl(installed.cluster, &question, "").2, "{namespace}");
    }
    let delete = ["--namespace", "team-b", "delete", "rolebinding", "okid-two-lease"];
    kubectl_in(installed.cluster, &delete, "");
    let (code, log) = check(&installed, &operator).await;
    assert_eq!(code, Some(1), "{log}");
    let failed: Vec<_> = log.lines().filter(|line| line.starts_with("FAILED")).collect();
    assert!(failed.len() == 3 && failed.iter().all(|line| line.contains("in namespace team-b")), "{log}");
    operator.signal(Signal::Terminate).unwrap();
    assert_eq!(ended(&operator).await.0, Some(0));
}

/// A verification with finalizers, and with evidence in its status if it has a folder.
fn held(installed: &Installed, namespace: &str, name: &str, folder: Option<&str>) {
    let cluster = installed.cluster;
    let manifest = json!({
        "apiVersion": "okid.io/v1alpha1",
        "kind": "Verification",
        "metadata": {"name": name, "finalizers": ["example.com/other", "okid.io/evidence"]},
        "spec": {"apiKeySecretRef": {"name": "okid-api-key"}},
    });
    let apply = ["--namespace", namespace, "apply", "--filename", "-"];
    kubectl_in(cluster, &apply, &manifest.to_string());
    let Some(folder) = folder else { return };
    let objects = json!([{"kind": "Front", "key": "front-original.jpg", "state": "Stored", "size": 1}]);
    let status = json!({"status": {"evidence": {"prefix": folder, "objects": objects}}}).to_string();
    let patch =
        ["--namespace", namespace, "patch", "verification", name, "--subresource=status", "--type=merge"];
    kubectl_in(cluster, &[&patch[..], &["--patch", &status]].concat(), "");
}

fn finalizers(installed: &Installed, namespace: &str, name: &str) -> Vec<String> {
    texts(&get(installed.cluster, namespace, &format!("verification/{name}"))["metadata"]["finalizers"])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_hook_stops_the_operator_and_removes_its_finalizer_but_no_other() {
    let installed =
        Installed::new("okid-hook", "namespaces", &["watch.namespaces=[\"team-b\", \"team-c\"]"]).await;
    let cluster = installed.cluster;
    held(&installed, "team-b", "frida", Some("s3://evidence/kyc/team-b/frida"));
    held(&installed, "team-c", "erik", None);
    // A namespace that this release does not watch.
    held(&installed, "default", "dora", None);
    // A Pod of the operator that has not ended.
    let labels: Value = installed.rendered.deployment()["spec"]["selector"]["matchLabels"].clone();
    let [check] = installed.rendered.of_kind("Pod").try_into().unwrap();
    let mut pod = check.object.clone();
    pod["metadata"] = json!({"name": "okid-hook-pod", "namespace": RELEASE, "labels": labels});
    installed.apply(&pod.to_string());

    let [job] = installed.rendered.of_kind("Job").try_into().unwrap();
    let hook = installed.start(installed.program(&Installed::pod_of(job), Some, &[]), "hook");
    let replicas = || get(cluster, RELEASE, "deployment/okid-hook")["spec"]["replicas"].clone();
    until_it_holds("the operator to be stopped", || hook.log(), || replicas() == 0).await;
    assert_eq!(finalizers(&installed, "team-b", "frida").len(), 2, "it waits for the Pod");
    let selector = installed.label_selector();
    let delete =
        ["--namespace", RELEASE, "delete", "pod", "--selector", &selector, "--grace-period=0", "--force"];
    kubectl_in(cluster, &delete, "");

    let (code, log) = ended(&hook).await;
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(finalizers(&installed, "team-b", "frida"), ["example.com/other"]);
    assert_eq!(finalizers(&installed, "team-c", "erik"), ["example.com/other"]);
    assert_eq!(finalizers(&installed, "default", "dora").len(), 2);
    let line = |name: &str| -> Value {
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.into_iter().find(|line| line["name"] == name).unwrap_or_else(|| panic!("{log}"))
    };
    let frida = line("frida");
    assert_eq!((&frida["level"], &frida["objects"]), (&json!("WARN"), &json!(1)), "{frida}");
    assert_eq!(frida["url"], "s3://evidence/kyc/team-b/frida");
    assert_eq!(line("erik")["level"], "INFO");

    // A second run finds nothing to do.
    let again = installed.start(installed.program(&Installed::pod_of(job), Some, &[]), "again");
    let (code, log) = ended(&again).await;
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("\"released\":0"), "{log}");
    for (namespace, name) in [("team-b", "frida"), ("team-c", "erik"), ("default", "dora")] {
        let none = json!({"metadata": {"finalizers": null}}).to_string();
        let patch =
            ["--namespace", namespace, "patch", "verification", name, "--type=merge", "--patch", &none];
        kubectl_in(cluster, &patch, "");
        kubectl_in(cluster, &["--namespace", namespace, "delete", "verification", name], "");
    }
}
