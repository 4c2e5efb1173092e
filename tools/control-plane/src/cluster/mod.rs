//! A real Kubernetes cluster with one node, on this machine and without Docker. Starts processes, and configures the network.
//!
//! It runs Pods: containerd and runc start them, kube-proxy routes their Services, and `CoreDNS` knows the names of these.
//! Everything runs in namespaces of its own ([`node`]), so that nothing outside of the cluster's folder changes but for one
//! network device, over which this machine reaches the node. There is no registry: images come from archives
//! ([`Cluster::load`]). The network does not enforce `NetworkPolicy`.
//!
//! It needs Linux, root, and the packages that [`missing_packages`] names.

mod configuration;
mod error;
mod node;
mod programs;

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use self::configuration::{NODE, PAUSE_IMAGE, SERVICES};
pub use self::error::ClusterError;
use self::node::Node;
pub use self::programs::{ClusterPrograms, missing_packages};
use crate::folder::Folder;
use crate::kubeconfig::{CONTEXT, kubeconfig};
use crate::oci;
use crate::process::{self, Child, Signal};
use crate::server::{User, random_token, tokens};

const CLEANUP: &str = include_str!("cleanup.sh");
const API_SERVER_PORT: u16 = 6443;
const KUBELET: &str = "kubelet";
const KUBELET_PORT: u16 = 10_250;
const KUBELET_STOPS_WITHIN: Duration = Duration::from_secs(30);
const READY_WITHIN: Duration = Duration::from_mins(5);
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// A cluster hides what is below them from its own processes, its folder included.
const HIDDEN: [&str; 2] = ["/run", "/var"];

/// A running cluster. Dropping this value ends it and removes its folder.
///
/// The fields are dropped in this order.
#[derive(Debug)]
pub struct Cluster {
    components: Vec<(&'static str, Child)>,
    node: Node,
    folder: Folder,
    programs: ClusterPrograms,
}

impl Cluster {
    /// Starts a cluster, and waits until its node is ready and Pods can be created in the namespace `default`. `api_server` has
    /// further arguments of kube-apiserver, such as those of an audit log.
    ///
    /// # Errors
    /// [`ClusterError`], with the end of the log of the program that failed.
    pub fn start(programs: &ClusterPrograms, api_server: &[String]) -> Result<Self, ClusterError> {
        let plugins = programs::plugins()?;
        let folder = Folder::with_cleanup("okid-cluster-", CLEANUP).map_err(ClusterError::Folder)?;
        if HIDDEN.iter().any(|hidden| folder.path().starts_with(hidden)) {
            return Err(ClusterError::HiddenFolder(folder.path().to_owned()));
        }
        let log = folder.path().join("node.log");
        let node = Node::start(&programs.folder, folder.lifeline().map_err(ClusterError::Folder)?, &log)?;
        let mut cluster = Self { components: Vec::new(), node, folder, programs: programs.clone() };
        cluster.configure(plugins)?;
        cluster.start_control_plane(api_server)?;
        cluster.start_node()?;
        Ok(cluster)
    }

    /// Writes the configuration of every program.
    fn configure(&self, plugins: &Path) -> Result<(), ClusterError> {
        let (folder, address) = (self.folder.path(), self.node.address());
        let administrator =
            User { token: random_token(), name: "admin".into(), groups: vec!["system:masters".into()] };
        let server = format!("https://{address}:{API_SERVER_PORT}");
        let authority = folder.join("certificates/apiserver.crt");
        let credentials = kubeconfig(&server, &authority, &administrator.name, &administrator.token);
        let network = folder.join("networks/pods.conflist");
        let files = [
            ("tokens.csv", tokens(std::iter::once(&administrator))),
            ("kubeconfig", credentials),
            // Pods must not ask the resolvers of this machine.
            ("resolv.conf", String::new()),
            ("containerd.toml", configuration::containerd(folder, plugins)),
            ("networks/pods.conflist", configuration::network(folder)),
            ("kubelet.json", configuration::kubelet(folder, address)),
            ("kube-proxy.json", configuration::kube_proxy(&self.kubeconfig_path())),
            ("Corefile", configuration::coredns(address, &self.kubeconfig_path(), CONTEXT)),
        ];
        let networks = network.parent().unwrap_or(folder);
        fs::create_dir_all(networks)
            .map_err(|source| ClusterError::File { path: networks.to_owned(), source })?;
        for (name, content) in files {
            let path = folder.join(name);
            fs::write(&path, content).map_err(|source| ClusterError::File { path, source })?;
        }
        Ok(())
    }

    fn start_control_plane(&mut self, api_server: &[String]) -> Result<(), ClusterError> {
        let folder = self.folder.path().to_owned();
        let programs = self.programs.control_plane.clone();
        let address = self.node.address().to_string();
        let certificates = folder.join("certificates");
        // The server generates this key with its certificate, before it reads it for the tokens of ServiceAccounts.
        let key = certificates.join("apiserver.key");

        let etcd = self.node.command(&text(&programs.etcd))?;
        self.run(
            "etcd",
            etcd.arg("--data-dir").arg(folder.join("etcd")).args([
                "--unsafe-no-fsync",
                "--log-level",
                "error",
            ]),
        )?;
        let command = self
            .node
            .command(&text(&programs.kube_apiserver))?
            .args(["--etcd-servers", "http://127.0.0.1:2379"])
            .args(["--bind-address", &address, "--advertise-address", &address])
            .args(["--secure-port", &API_SERVER_PORT.to_string()])
            .arg("--cert-dir")
            .arg(&certificates)
            .arg("--token-auth-file")
            .arg(folder.join("tokens.csv"))
            .args(["--service-account-issuer", "https://kubernetes.default.svc"])
            .arg("--service-account-key-file")
            .arg(&key)
            .arg("--service-account-signing-key-file")
            .arg(&key)
            .args(["--service-cluster-ip-range", SERVICES])
            .args(["--authorization-mode", "RBAC", "--allow-privileged"])
            .arg("--kubelet-preferred-address-types=InternalIP")
            .args(api_server);
        self.run("kube-apiserver", command)?;
        self.wait("the API server is ready", |cluster| {
            if !certificates.join("apiserver.crt").is_file() {
                return Ok(Some("it has no certificate yet".into()));
            }
            cluster.refusal(&["get", "--raw", "/readyz"])
        })?;

        let controllers = self
            .node
            .command(&text(&self.programs.path("kube-controller-manager")))?
            .arg("--kubeconfig")
            .arg(self.kubeconfig_path())
            .args(["--use-service-account-credentials", "--leader-elect=false"])
            .arg("--service-account-private-key-file")
            .arg(&key)
            .arg("--root-ca-file")
            .arg(certificates.join("apiserver.crt"));
        self.run("kube-controller-manager", controllers)?;
        let scheduler = self
            .node
            .command(&text(&self.programs.path("kube-scheduler")))?
            .arg("--kubeconfig")
            .arg(self.kubeconfig_path())
            .arg("--leader-elect=false");
        self.run("kube-scheduler", scheduler)
    }

    fn start_node(&mut self) -> Result<(), ClusterError> {
        let folder = self.folder.path().to_owned();
        let containerd = self
            .node
            .command(&text(&self.programs.path("containerd")))?
            .arg("--config")
            .arg(folder.join("containerd.toml"));
        self.run("containerd", containerd)?;
        self.wait("containerd is ready", |cluster| refusal(cluster.ctr().arg("version")))?;
        self.load_pause()?;

        let proxy = self
            .node
            .command(&text(&self.programs.path("kube-proxy")))?
            .arg("--config")
            .arg(folder.join("kube-proxy.json"));
        self.run("kube-proxy", proxy)?;
        let dns = self
            .node
            .command(&text(&self.programs.path("coredns")))?
            .arg("-conf")
            .arg(folder.join("Corefile"));
        self.run("coredns", dns)?;
        self.start_kubelet()?;
        self.wait("the node is ready", |cluster| {
            cluster.refusal(&["wait", "--for=condition=Ready", "--timeout=1s", "node", NODE])
        })?;
        self.wait("Pods can be created", |cluster| {
            cluster.refusal(&["get", "serviceaccount", "default", "--namespace=default"])
        })
    }

    fn start_kubelet(&mut self) -> Result<(), ClusterError> {
        let folder = self.folder.path();
        let kubelet = self
            .node
            .command(&text(&self.programs.path(KUBELET)))?
            .arg("--config")
            .arg(folder.join("kubelet.json"))
            .arg("--kubeconfig")
            .arg(self.kubeconfig_path())
            .arg("--root-dir")
            .arg(folder.join("kubelet"))
            .args(["--hostname-override", NODE, "--node-ip", &self.node.address().to_string()]);
        self.run(KUBELET, kubelet)
    }

    /// Ends the kubelet, starts it again, and waits until it answers. Containers keep running meanwhile.
    ///
    /// # Errors
    /// [`ClusterError`], with the end of the log of the program that failed.
    pub fn restart_kubelet(&mut self) -> Result<(), ClusterError> {
        if let Some(index) = self.components.iter().position(|(name, _)| *name == KUBELET) {
            let (_, kubelet) = self.components.remove(index);
            kubelet.stop(Signal::Terminate, KUBELET_STOPS_WITHIN)?;
        }
        // What was stopped is the process that has entered the node: the kubelet ends a little later.
        let address = (self.node.address(), KUBELET_PORT);
        self.wait("the kubelet has ended", |_| {
            Ok(TcpStream::connect(address).is_ok().then(|| "its port is in use".to_owned()))
        })?;
        self.start_kubelet()?;
        self.wait("the kubelet answers", |cluster| {
            cluster.refusal(&["get", "--raw", &format!("/api/v1/nodes/{NODE}/proxy/healthz")])
        })
    }

    fn run(&mut self, name: &'static str, command: process::Command) -> Result<(), ClusterError> {
        let child = command.name(name).start(self.folder.path().join(format!("{name}.log")))?;
        self.components.push((name, child));
        Ok(())
    }

    fn load_pause(&self) -> Result<(), ClusterError> {
        let program = self.programs.path("pause");
        let content = fs::read(&program).map_err(|source| ClusterError::File { path: program, source })?;
        let image = oci::Image {
            names: vec![PAUSE_IMAGE.into()],
            architecture: oci::architecture().into(),
            config: oci::Config {
                user: "65535:65535".into(),
                entrypoint: vec!["/pause".into()],
                ..oci::Config::default()
            },
            files: vec![oci::File { path: "pause".into(), mode: 0o755, content }],
        };
        let path = self.folder.path().join("pause.tar");
        oci::archive(&image)
            .and_then(|archive| fs::write(&path, archive.bytes))
            .map_err(|source| ClusterError::File { path: path.clone(), source })?;
        self.load(&path)
    }

    /// Loads an image from an archive. A Pod uses it if its `imagePullPolicy` is `IfNotPresent` or `Never`.
    ///
    /// # Errors
    /// If the archive is no image for this architecture.
    pub fn load(&self, archive: &Path) -> Result<(), ClusterError> {
        load(&self.programs, self.folder.path(), archive)
    }

    fn ctr(&self) -> Command {
        ctr(&self.programs, self.folder.path())
    }

    /// The address of the node, at which this machine reaches the API server and Services of the type `NodePort`.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.node.address()
    }

    /// The folder of this cluster, which is removed with it.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The file with the administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig_path(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// kubectl with the administrator's kubeconfig, and with its caches in [`Cluster::folder`].
    #[must_use]
    pub fn kubectl(&self) -> Command {
        let mut command = Command::new(&self.programs.control_plane.kubectl);
        command.env("KUBECONFIG", self.kubeconfig_path());
        command.env("KUBECACHEDIR", self.folder.path().join("kubectl-cache"));
        command
    }

    /// Fails if a program of the cluster has exited, and names it.
    ///
    /// # Errors
    /// [`ClusterError::Exited`].
    pub fn check(&self, what: &'static str) -> Result<(), ClusterError> {
        for (program, child) in &self.components {
            if let Some(status) = child.try_wait()? {
                return Err(ClusterError::Exited { program, what, status, log: child.log_tail() });
            }
        }
        Ok(())
    }

    /// Kills every process of the cluster, waits until all are gone, and removes the folder. Pods get no time to end.
    ///
    /// # Errors
    /// If the processes cannot be killed.
    pub fn stop(self) -> Result<(), ClusterError> {
        let Self { components, node, folder, programs: _ } = self;
        node.stop()?;
        drop(components);
        drop(folder);
        Ok(())
    }

    /// Waits until there is no refusal any more.
    fn wait(
        &self,
        what: &'static str,
        refusal: impl Fn(&Self) -> Result<Option<String>, ClusterError>,
    ) -> Result<(), ClusterError> {
        let since = Instant::now();
        loop {
            self.check(what)?;
            let Some(response) = refusal(self)? else { return Ok(()) };
            if since.elapsed() >= READY_WITHIN {
                return Err(ClusterError::Timeout { what, within: READY_WITHIN, response });
            }
            sleep(POLL_INTERVAL);
        }
    }

    /// The error of kubectl if it fails.
    fn refusal(&self, arguments: &[&str]) -> Result<Option<String>, ClusterError> {
        refusal(self.kubectl().args(arguments).arg("--request-timeout=5s"))
    }
}

/// Loads an image into the cluster with this folder, which another process may have started.
///
/// # Errors
/// If the archive is no image for this architecture, or no cluster runs with this folder.
pub fn load(programs: &ClusterPrograms, folder: &Path, archive: &Path) -> Result<(), ClusterError> {
    node::output(ctr(programs, folder).args(["--namespace", "k8s.io", "images", "import"]).arg(archive))
        .map(drop)
}

/// containerd's client. Its socket is reached by its path from outside of the node too.
fn ctr(programs: &ClusterPrograms, folder: &Path) -> Command {
    let mut command = Command::new(programs.path("ctr"));
    command.arg("--address").arg(folder.join("containerd.sock"));
    command
}

fn refusal(command: &mut Command) -> Result<Option<String>, ClusterError> {
    match node::output(command) {
        Ok(_) => Ok(None),
        Err(ClusterError::Failed { output, .. }) => Ok(Some(output)),
        Err(error) => Err(error),
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Stdio;

    use super::*;

    /// The names of the cgroups that the cleanup of a cluster with these containers looks for.
    fn cgroups_looked_for(containers: &[&str]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let find = folder.path().join("find");
        fs::write(&find, "#!/bin/sh\necho \"$6\" >>\"$LOG\"\n").unwrap();
        fs::set_permissions(&find, fs::Permissions::from_mode(0o755)).unwrap();
        let cluster = folder.path().join("cluster");
        let tasks = cluster.join("containerd/state/io.containerd.runtime.v2.task/k8s.io");
        for container in containers {
            fs::create_dir_all(tasks.join(container)).unwrap();
        }
        let path = std::env::var_os("PATH").unwrap();
        let status = Command::new("sh")
            .args(["-c", CLEANUP, "cleanup"])
            .arg(&cluster)
            .env("PATH", [folder.path().as_os_str(), &path].join(":".as_ref()))
            .env("LOG", &log)
            .stdin(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success() && !cluster.exists());
        fs::read_to_string(log).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn the_cleanup_of_a_cluster_removes_the_cgroups_of_its_containers_and_no_others() {
        assert_eq!(cgroups_looked_for(&[]), ["k8s.io"]);
        assert_eq!(cgroups_looked_for(&["0a1b", "2c3d"]), ["0a1b", "2c3d", "k8s.io"]);
    }
}
