//! Everything that runs in a demo: a control plane, the sandbox portal, the operator. Starts processes.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Error, Result, anyhow, bail, ensure};
use control_plane::ControlPlane;
use control_plane::process::{self, Child, Signal};

use super::evidence::Store;
use super::programs;
use crate::cargo::root;

const CRD: &str = "crds/verifications.okid.io.yaml";
const SECRET: &str = "examples/secret.yaml";
const VERIFICATION: &str = "examples/evidence-named-store.yaml";
/// What the sandbox prints before its address.
const LISTENS: &str = "okid-sandbox listens on ";
const LISTENS_WITHIN: Duration = Duration::from_secs(10);
const STOP_WITHIN: Duration = Duration::from_secs(15);

/// A scripted person, as options of the sandbox.
pub(super) struct Person {
    /// The verdict.
    pub(super) verdict: &'static str,
    /// Time for each module.
    pub(super) pace: &'static str,
    /// Lifetime of the session.
    pub(super) expiry: &'static str,
}

/// The running processes, in the order in which they are stopped.
pub(super) struct Environment {
    operator: Child,
    sandbox: Child,
    control_plane: ControlPlane,
    /// In the folder of the control plane, with which it is deleted.
    pub(super) store: Store,
    since: Instant,
}

impl Environment {
    /// Builds and starts everything, installs the CRD, and applies the Secret. Without a scripted person, the sandbox waits
    /// for one in a browser. The store that the example names is a folder.
    pub(super) fn start(person: Option<&Person>) -> Result<Self> {
        let built = programs::build()?;
        let control_plane = crate::control_plane::start()?;
        let since = Instant::now();
        run(control_plane.kubectl().args(["apply", "--server-side", "--filename", CRD]))?;
        run(control_plane.kubectl().args([
            "wait",
            "--for=condition=Established",
            "--timeout=30s",
            "--filename",
            CRD,
        ]))?;
        run(control_plane.kubectl().args(["apply", "--filename", SECRET]))?;

        let sandbox = start_sandbox(built.sandbox, &control_plane, person)?;
        let line = sandbox.wait_for_line(LISTENS, LISTENS_WITHIN)?;
        let (_, portal) = line.split_once(LISTENS).context("read the sandbox's address")?;
        let store = Store::create(control_plane.folder())?;
        let operator = start_operator(built.operator, &control_plane, &sandbox, portal, &store)?;
        Ok(Self { operator, sandbox, control_plane, store, since })
    }

    /// Applies the Verification.
    pub(super) fn apply_examples(&self) -> Result<()> {
        run(self.kubectl().args(["apply", "--filename", VERIFICATION]))
    }

    /// How long the control plane has been running.
    pub(super) fn age(&self) -> Duration {
        self.since.elapsed()
    }

    pub(super) fn kubeconfig_path(&self) -> PathBuf {
        self.control_plane.kubeconfig_path()
    }

    pub(super) fn kubectl_path(&self) -> &Path {
        &self.control_plane.programs().kubectl
    }

    /// kubectl with the administrator's kubeconfig, in the repository's root folder.
    pub(super) fn kubectl(&self) -> Command {
        let mut kubectl = self.control_plane.kubectl();
        kubectl.current_dir(root());
        kubectl
    }

    /// The phase of a Verification.
    pub(super) fn phase(&self, name: &str) -> Result<String> {
        output(self.kubectl().args(["get", "verification", name, "--output", "jsonpath={.status.phase}"]))
    }

    /// Fails if a process has exited, and names it.
    pub(super) fn check(&self) -> Result<()> {
        for (name, process) in [
            ("the operator", &self.operator),
            ("the sandbox portal", &self.sandbox),
            ("kube-apiserver", self.control_plane.api_server()),
        ] {
            if let Some(status) = process.try_wait()? {
                bail!("{name} exited ({status}); the end of its log:\n{}", process.log_tail());
            }
        }
        Ok(())
    }

    /// Adds the end of the operator's log to an error if the operator still runs, because the log is deleted at the end.
    pub(super) fn explain(&self, error: Error) -> Error {
        match self.check() {
            Ok(()) => anyhow!("{error:#}; the end of the operator's log:\n{}", self.operator.log_tail()),
            Err(_) => error,
        }
    }

    /// Stops the operator, the sandbox and the control plane, in this order.
    pub(super) fn stop(self) -> Result<()> {
        let Self { operator, sandbox, control_plane, store: _, since: _ } = self;
        let status = operator.stop(Signal::Terminate, STOP_WITHIN)?;
        ensure!(
            status.success(),
            "the operator exited with {status}; the end of its log:\n{}",
            operator.log_tail()
        );
        sandbox.stop(Signal::Terminate, STOP_WITHIN)?;
        control_plane.stop()?;
        Ok(())
    }
}

fn start_sandbox(program: PathBuf, control_plane: &ControlPlane, person: Option<&Person>) -> Result<Child> {
    // The key of the example, so that the demo needs no other.
    let template = "--output=go-template={{.data.apiKey | base64decode}}";
    let key = output(control_plane.kubectl().args(["get", "--filename", SECRET, template]))?;
    let mut sandbox = process::Command::new(program)
        .args(["--listen", "127.0.0.1:0"])
        .env("OKID_SANDBOX_API_KEY", key.trim())
        .needs(control_plane.lifeline()?);
    if let Some(Person { verdict, pace, expiry }) = person {
        sandbox = sandbox.args(["--person", verdict, "--pace", pace, "--expiry", expiry]);
    }
    Ok(sandbox.start(control_plane.folder().join("okid-sandbox.log"))?)
}

fn start_operator(
    program: PathBuf,
    control_plane: &ControlPlane,
    sandbox: &Child,
    portal: &str,
    store: &Store,
) -> Result<Child> {
    let operator = process::Command::new(program)
        .arg("run")
        .args(["--allowed-portal", portal, "--allow-plain-http", "--default-portal", portal])
        .args(["--admin-address", "127.0.0.1:0", "--leader-elect=false"])
        .env("OKID_STORES_FILE", &store.file)
        .env("KUBECONFIG", control_plane.kubeconfig_path())
        .needs(sandbox.lifeline()?)
        .start(control_plane.folder().join("okid-operator.log"))?;
    Ok(operator)
}

/// Runs kubectl and discards its output.
fn run(kubectl: &mut Command) -> Result<()> {
    output(kubectl).map(drop)
}

/// Runs kubectl and returns its output.
fn output(kubectl: &mut Command) -> Result<String> {
    let arguments: Vec<_> = kubectl.get_args().map(std::ffi::OsStr::to_string_lossy).collect();
    let line = format!("kubectl {}", arguments.join(" "));
    let output = kubectl.current_dir(root()).output().with_context(|| format!("run {line}"))?;
    ensure!(
        output.status.success(),
        "{line} exited with {}:\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).with_context(|| format!("read the output of {line}"))
}
