//! A cluster runs Pods of an image that was built here, and leaves nothing behind.
//!
//! These tests need root, and build the cluster's programs where they are missing, so they only run when they are requested:
//! `OKID_TEST_CLUSTER=1 cargo xtask test -- --package xtask --test cluster`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests may panic")]

#[path = "../../../tests/evidence/harness/skips.rs"]
mod skips;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use skips::skip;

const SOON: Duration = Duration::from_mins(1);
/// In the range of node ports.
const PORT: u16 = 30_090;

/// A cluster of a test, which `cargo xtask cluster` starts and ends.
struct Cluster {
    name: &'static str,
    kubeconfig: PathBuf,
    path: String,
    /// Devices of this machine that came with it.
    devices: BTreeSet<String>,
}

impl Cluster {
    fn up(name: &'static str) -> Self {
        let before = devices();
        let printed = xtask(&["cluster", "up", "--name", name]);
        let exported = |variable: &str| {
            let line = printed.lines().find_map(|line| line.strip_prefix(&format!("export {variable}='")));
            line.unwrap().split('\'').next().unwrap().to_owned()
        };
        let devices = devices().difference(&before).cloned().collect();
        Self { name, kubeconfig: exported("KUBECONFIG").into(), path: exported("PATH"), devices }
    }

    fn folder(&self) -> &Path {
        self.kubeconfig.parent().unwrap()
    }

    fn kubectl(&self, arguments: &[&str], input: &str) -> String {
        let mut kubectl = Command::new(Path::new(&self.path).join("kubectl"));
        kubectl.args(arguments).env("KUBECONFIG", &self.kubeconfig);
        output(&mut kubectl, input)
    }

    fn address(&self) -> Ipv4Addr {
        let server = self.kubectl(&["config", "view", "--output=jsonpath={.clusters[0].cluster.server}"], "");
        server.trim_start_matches("https://").split(':').next().unwrap().parse().unwrap()
    }

    /// Whatever is left of it, in words.
    fn remains(&self) -> Vec<String> {
        let folder = self.folder().to_str().unwrap();
        let mut remains: Vec<_> = devices().intersection(&self.devices).cloned().collect();
        if self.folder().exists() {
            remains.push(folder.to_owned());
        }
        for process in fs::read_dir("/proc").unwrap() {
            let process = process.unwrap().path();
            // A process may have exited since.
            let line = fs::read(process.join("cmdline")).unwrap_or_default();
            let mounts = fs::read_to_string(process.join("mounts")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if line.contains(folder) || mounts.contains(folder) {
                remains.push(format!("{} {line}", process.display()));
            }
        }
        remains
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        xtask(&["cluster", "down", "--name", self.name]);
    }
}

/// Whether these tests are requested. Otherwise counts the test as skipped.
fn is_requested() -> bool {
    let is_requested = std::env::var_os("OKID_TEST_CLUSTER").is_some();
    if !is_requested {
        skip("the cluster is", &"it needs root; set OKID_TEST_CLUSTER=1 to run its tests");
    }
    is_requested
}

#[test]
fn a_pod_of_a_built_image_is_ready_and_its_service_answers_and_nothing_is_left() {
    if !is_requested() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("sandbox.tar");
    let archive = archive.to_str().unwrap();
    xtask(&["image", "sandbox", "--dev", "--out", archive]);

    let cluster = Cluster::up("test-pod");
    xtask(&["cluster", "load", archive, "--name", cluster.name]);
    cluster.kubectl(&["apply", "--filename=-"], &manifests());
    cluster.kubectl(&["rollout", "status", "deployment/sandbox", "--namespace=sandbox", "--timeout=2m"], "");

    let response = get(cluster.address(), "/sandbox/requests");
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    let service = ["get", "service", "sandbox", "--namespace=sandbox", "--output=jsonpath={.spec.clusterIP}"];
    let service: Ipv4Addr = cluster.kubectl(&service, "").parse().unwrap();
    let name = "sandbox.sandbox.svc.cluster.local";
    until("the Service has a name", || resolve(cluster.address(), name) == Some(service));

    let container = [
        "get",
        "pods",
        "--namespace=sandbox",
        "--output=jsonpath={.items[0].status.containerStatuses[0].containerID}",
    ];
    let container = cluster.kubectl(&container, "").trim_start_matches("containerd://").to_owned();
    let cgroups =
        || output(Command::new("find").args(["/sys/fs/cgroup", "-type", "d", "-name", &container]), "");
    assert_ne!(cgroups(), "");

    xtask(&["cluster", "down", "--name", cluster.name]);
    assert_eq!(cluster.remains(), [""; 0]);
    assert_eq!(cgroups(), "");
}

#[test]
fn nothing_is_left_of_a_cluster_whose_keeper_is_killed() {
    if !is_requested() {
        return;
    }
    let cluster = Cluster::up("test-killed");
    assert_ne!(cluster.remains(), [""; 0]);
    let lock = control_plane::cache_folder().unwrap().join("cluster").join(cluster.name).join("lock");
    let keeper = fs::read_to_string(lock).unwrap();
    output(Command::new("kill").args(["-s", "KILL", &keeper]), "");
    until("nothing is left", || cluster.remains().is_empty());
}

/// The sandbox portal in a namespace with the restricted Pod Security Standard, and a Service for it.
fn manifests() -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "
apiVersion: v1
kind: Namespace
metadata: {{name: sandbox, labels: {{pod-security.kubernetes.io/enforce: restricted}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: sandbox, namespace: sandbox}}
spec:
  type: NodePort
  selector: {{app: sandbox}}
  ports: [{{port: 80, targetPort: 8090, nodePort: {PORT}}}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: sandbox, namespace: sandbox}}
spec:
  selector: {{matchLabels: {{app: sandbox}}}}
  template:
    metadata: {{labels: {{app: sandbox}}}}
    spec:
      securityContext: {{runAsNonRoot: true, seccompProfile: {{type: RuntimeDefault}}}}
      containers:
      - name: sandbox
        image: ghcr.io/okid-io/okid-sandbox:{version}
        imagePullPolicy: Never
        args: [--api-key, some-key]
        readinessProbe: {{httpGet: {{path: /sandbox/requests, port: 8090}}, periodSeconds: 1}}
        securityContext:
          allowPrivilegeEscalation: false
          readOnlyRootFilesystem: true
          capabilities: {{drop: [ALL]}}
"
    )
}

/// Runs `cargo xtask` and returns what it printed.
fn xtask(arguments: &[&str]) -> String {
    output(Command::new(env!("CARGO_BIN_EXE_xtask")).args(arguments), "")
}

/// Runs a command, which must succeed, and returns its output.
fn output(command: &mut Command, input: &str) -> String {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() || std::thread::panicking(), "{command:?}: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// The network devices of this machine that clusters create.
fn devices() -> BTreeSet<String> {
    let devices = fs::read_dir("/sys/class/net").unwrap();
    let names = devices.map(|device| device.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("okid")).collect()
}

/// The response to a request, once kube-proxy has the routes of the Service.
fn get(address: Ipv4Addr, path: &str) -> String {
    let mut connected = None;
    until("the Service is reached", || {
        connected = TcpStream::connect((address, PORT)).ok();
        connected.is_some()
    });
    let mut stream = connected.unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: sandbox\r\nConnection: close\r\n\r\n").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < SOON, "{what}: not within {SOON:?}");
        sleep(Duration::from_millis(20));
    }
}

/// Asks the DNS server at this address for the only IPv4 address of a name.
fn resolve(server: Ipv4Addr, name: &str) -> Option<Ipv4Addr> {
    let mut query = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(u8::try_from(label.len()).unwrap());
        query.extend(label.as_bytes());
    }
    query.extend([0, 0, 1, 0, 1]);
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket.send_to(&query, (server, 53)).unwrap();
    let mut response = [0; 512];
    let length = socket.recv(&mut response).unwrap();
    let answers = u16::from_be_bytes([response[6], response[7]]);
    // The address ends the only answer.
    (answers == 1).then(|| {
        let end = response.get(..length).unwrap().last_chunk::<4>().unwrap();
        Ipv4Addr::from(*end)
    })
}
