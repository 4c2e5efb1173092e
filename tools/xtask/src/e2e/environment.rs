//! The cluster that the test runs in, and the clients for it. Starts processes.

use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use control_plane::cluster::{Cluster, ClusterPrograms};
use control_plane::{Folder, Progress, helm};
use serde_json::Value;

use super::command::{Finished, finish, output};
use crate::cargo::root;

/// The cluster of kind, and its only node.
const KIND_CLUSTER: &str = "okid-e2e";
const KIND_NODE: &str = "okid-e2e-control-plane";
const KIND_CONFIGURATION: &str = "tests/kind/cluster.yaml";
const AUDIT_POLICY: &str = "tests/e2e/audit-policy.yaml";
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Where the cluster comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Source {
    /// It is started on this machine, as `cargo xtask cluster up` does. Needs Linux and root.
    Local,
    /// kind starts it. Needs kind, Docker and kubectl.
    Kind,
    /// It is the one of KUBECONFIG, and its nodes can pull the images. Needs kubectl.
    Current,
}

/// A running cluster. Dropping this value ends a local one.
pub(super) struct Environment {
    /// Dropped before the folder, which it writes to.
    running: Running,
    kubectl: PathBuf,
    kubeconfig: Option<PathBuf>,
    helm: PathBuf,
    folder: Folder,
}

enum Running {
    Local(Box<Cluster>),
    Kind,
    Current,
}

impl Environment {
    /// Starts the cluster, and builds what is missing for that.
    pub(super) fn start(source: Source) -> Result<Self> {
        let helm = helm(Progress::detect())?;
        let folder = Folder::create("okid-e2e-").context("create a temporary folder")?;
        let path = folder.path().join("kubeconfig");
        let (running, kubectl, kubeconfig) = match source {
            Source::Local => {
                let programs = ClusterPrograms::find_or_build(Progress::detect())?;
                let policy = root().join(AUDIT_POLICY);
                let audit = [
                    format!("--audit-policy-file={}", policy.display()),
                    format!("--audit-log-path={}", audit_log(folder.path()).display()),
                ];
                let cluster = Box::new(Cluster::start(&programs, &audit)?);
                let kubeconfig = cluster.kubeconfig_path();
                (Running::Local(cluster), programs.control_plane.kubectl, Some(kubeconfig))
            }
            Source::Kind => {
                let configuration = root().join(KIND_CONFIGURATION);
                let mut kind = Command::new("kind");
                kind.args(["create", "cluster", "--name", KIND_CLUSTER, "--wait", "3m", "--config"]);
                output(kind.arg(configuration).arg("--kubeconfig").arg(&path), "")?;
                (Running::Kind, "kubectl".into(), Some(path))
            }
            Source::Current => (Running::Current, "kubectl".into(), None),
        };
        Ok(Self { running, kubectl, kubeconfig, helm, folder })
    }

    /// Ends the cluster, unless it was there before.
    pub(super) fn end(self) -> Result<()> {
        match self.running {
            Running::Local(cluster) => cluster.stop()?,
            Running::Kind => {
                let mut kind = Command::new("kind");
                output(kind.args(["delete", "cluster", "--name", KIND_CLUSTER]), "")?;
            }
            Running::Current => {}
        }
        Ok(())
    }

    /// Loads an image from an archive, and returns whether it did: the nodes of a cluster that was not started here pull it.
    pub(super) fn load(&self, archive: &Path) -> Result<bool> {
        match &self.running {
            Running::Local(cluster) => cluster.load(archive)?,
            Running::Kind => {
                let mut kind = Command::new("kind");
                output(kind.args(["load", "image-archive", "--name", KIND_CLUSTER]).arg(archive), "")?;
            }
            Running::Current => return Ok(false),
        }
        Ok(true)
    }

    /// Restarts the kubelet, and returns whether it did.
    pub(super) fn restart_kubelet(&mut self) -> Result<bool> {
        match &mut self.running {
            Running::Local(cluster) => cluster.restart_kubelet()?,
            Running::Kind => {
                let mut docker = Command::new("docker");
                output(docker.args(["exec", KIND_NODE, "systemctl", "restart", "kubelet"]), "")?;
            }
            Running::Current => return Ok(false),
        }
        Ok(true)
    }

    /// The requests of the operator, one JSON object on each line. `None` if the cluster does not write them.
    pub(super) fn audit_log(&self) -> Result<Option<String>> {
        match &self.running {
            Running::Local(_) => {
                let path = audit_log(self.folder.path());
                fs::read_to_string(&path).map(Some).with_context(|| format!("read {}", path.display()))
            }
            Running::Kind | Running::Current => Ok(None),
        }
    }

    pub(super) fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The folder of kubectl, if it is not in `PATH`.
    pub(super) fn kubectl_folder(&self) -> Option<&Path> {
        self.kubectl.parent().filter(|folder| folder.is_absolute())
    }

    /// A command that finds the cluster as kubectl does, in the repository's root folder.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(root());
        if let Some(kubeconfig) = &self.kubeconfig {
            command.env("KUBECONFIG", kubeconfig);
        }
        command.env("KUBECACHEDIR", self.folder.path().join("kubectl-cache"));
        command
    }

    /// The path of kubectl.
    pub(super) fn kubectl_path(&self) -> &Path {
        &self.kubectl
    }

    /// Runs kubectl, which must succeed, and returns what it printed.
    pub(super) fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        output(self.command(&self.kubectl).args(arguments), "")
    }

    /// Runs kubectl with text as its standard input.
    pub(super) fn kubectl_with(&self, arguments: &[&str], input: &str) -> Result<String> {
        output(self.command(&self.kubectl).args(arguments), input)
    }

    /// Applies an object or a list of them in a namespace.
    pub(super) fn apply(&self, namespace: &str, manifest: &impl Display) -> Result<()> {
        let apply = ["apply", "--namespace", namespace, "--filename=-"];
        self.kubectl_with(&apply, &manifest.to_string()).map(drop)
    }

    /// What `kubectl get` with these arguments prints as JSON.
    pub(super) fn get(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.kubectl(&[&["get", "--output=json"], arguments].concat())?;
        serde_json::from_str(&text).with_context(|| format!("read what kubectl get {arguments:?} printed"))
    }

    /// Runs Helm in a namespace, whether it succeeds or not. Its files are in the folder of the test.
    pub(super) fn helm(&self, namespace: &str, arguments: &[&str]) -> Result<Finished> {
        let mut helm = self.command(&self.helm);
        helm.args(arguments).args(["--namespace", namespace]);
        for (variable, name) in
            [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")]
        {
            helm.env(variable, self.folder.path().join("helm").join(name));
        }
        finish(&mut helm, "")
    }

    /// Runs Helm, which must succeed without a warning, and returns what it printed.
    pub(super) fn helm_succeeds(&self, namespace: &str, arguments: &[&str]) -> Result<String> {
        let Finished { succeeded, output, errors } = self.helm(namespace, arguments)?;
        ensure!(succeeded, "helm {} failed:\n{errors}", arguments.join(" "));
        ensure!(
            !errors.to_lowercase().contains("warn"),
            "helm {} printed a warning:\n{errors}",
            arguments.join(" ")
        );
        Ok(output)
    }

    /// Creates a namespace with the restricted Pod Security Standard, and in it the Secret with the API key.
    pub(super) fn create_namespace(&self, name: &str) -> Result<()> {
        self.kubectl(&["create", "namespace", name])?;
        self.kubectl(&["label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted"])?;
        self.kubectl(&["apply", "--namespace", name, "--filename=examples/secret.yaml"]).map(drop)
    }
}

fn audit_log(folder: &Path) -> PathBuf {
    folder.join("audit.log")
}

/// Waits until something holds, and returns what it is.
pub(super) fn until<T>(
    what: &str,
    within: Duration,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let since = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        ensure!(since.elapsed() < within, "{what}: not within {} s", within.as_secs());
        sleep(POLL_INTERVAL);
    }
}
