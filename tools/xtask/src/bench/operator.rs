//! The real operator as an optimized process of its own. Starts processes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use control_plane::process::{Child, Command, Lifeline, Signal};
use serde_json::Value;

use super::prometheus;
use crate::cargo::build;

const SERVES: &str = "serving /livez";
const RECEIVES: &str = "receiving notifications";
const WITHIN: Duration = Duration::from_secs(15);

/// A running operator. Dropping it kills the process.
pub(super) struct Operator {
    process: Child,
    admin: SocketAddr,
}

/// How to run it.
pub(super) struct Run<'a> {
    pub(super) kubeconfig: &'a Path,
    pub(super) portal: &'a str,
    /// Additional arguments.
    pub(super) arguments: &'a [String],
    /// Folder of its log.
    pub(super) folder: &'a Path,
    /// The process that must outlive it.
    pub(super) needs: Option<Lifeline>,
}

/// Builds the operator alone, as it is shipped: other packages would enable more features of its dependencies.
pub(super) fn program() -> Result<PathBuf> {
    let mut programs = build(&["--release", "--package=okid-operator"])?;
    programs.remove("okid-operator").context("find the built operator")
}

impl Operator {
    /// Starts the operator and waits until it serves its metrics.
    pub(super) fn start(program: &Path, run: Run<'_>) -> Result<Self> {
        let Run { kubeconfig, portal, arguments, folder, needs } = run;
        let mut command = Command::new(program)
            .args([
                "run",
                "--allowed-portal",
                portal,
                "--admin-address",
                "127.0.0.1:0",
                "--leader-elect=false",
            ])
            .args(arguments)
            .env("KUBECONFIG", kubeconfig);
        if let Some(needs) = needs {
            command = command.needs(needs);
        }
        let process = command.start(folder.join("okid-operator.log"))?;
        let line = process.wait_for_line(SERVES, WITHIN)?;
        let line: Value = serde_json::from_str(&line).context("read the operator's log")?;
        let address = line["address"].as_str().context("find the operator's admin address")?;
        let admin = address.parse().context("read the operator's admin address")?;
        Ok(Self { process, admin })
    }

    /// The process id.
    pub(super) fn id(&self) -> u32 {
        self.process.id()
    }

    /// The text of its metrics.
    pub(super) fn metrics(&self) -> Result<String> {
        self.check()?;
        prometheus::get(self.admin, "/metrics")
    }

    /// Where it receives notifications.
    pub(super) fn webhook_address(&self) -> Result<SocketAddr> {
        let line = self.process.wait_for_line(RECEIVES, WITHIN)?;
        let line: Value = serde_json::from_str(&line).context("read the operator's log")?;
        let address = line["webhook_address"].as_str().context("find the operator's webhook address")?;
        address.parse().context("read the operator's webhook address")
    }

    /// Whether it is ready.
    pub(super) fn is_ready(&self) -> Result<bool> {
        self.check()?;
        Ok(prometheus::get(self.admin, "/readyz").is_ok())
    }

    /// Stops it as Kubernetes would.
    pub(super) fn stop(self) -> Result<()> {
        let status = self.process.stop(Signal::Terminate, WITHIN)?;
        ensure!(
            status.success(),
            "the operator exited with {status}; the end of its log:\n{}",
            self.process.log_tail()
        );
        Ok(())
    }

    /// Fails with the end of its log if the process has exited.
    pub(super) fn check(&self) -> Result<()> {
        if let Some(status) = self.process.try_wait()? {
            bail!("the operator exited ({status}); the end of its log:\n{}", self.process.log_tail());
        }
        Ok(())
    }
}
