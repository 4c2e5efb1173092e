//! `cargo xtask control-plane`. Starts processes.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use control_plane::{ControlPlane, KubernetesVersion, Programs, Progress};

use crate::interrupt::{interruption, runtime};
use crate::out;

/// Run etcd and an API server to experiment with, until Ctrl-C.
///
/// There is no node, no controller-manager and no operator. Its data is deleted when it stops.
#[derive(Debug, clap::Args)]
#[command(after_help = "Paste the two lines that it prints into another terminal, then:
  kubectl apply --server-side -f crds/
  cargo run -- run")]
pub(crate) struct Arguments {
    #[command(flatten)]
    version: Version,
}

/// Which Kubernetes to run.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(crate) struct Version {
    /// Run the API server and kubectl of this minor of Kubernetes, such as 1.33, in place of the newest. They are built once,
    /// even if `KUBEBUILDER_ASSETS` is set.
    #[arg(long, value_name = "MINOR")]
    kubernetes: Option<KubernetesVersion>,
}

pub(crate) fn run(&Arguments { version }: &Arguments) -> Result<ExitCode> {
    let control_plane = version.start()?;
    // Until signals are handled here, the supervisors stop etcd and the API server.
    runtime()?.block_on(async {
        let interruption = interruption()?;
        print_exports(&control_plane.kubeconfig_path(), &control_plane.programs().kubectl);
        eprintln!("# Ctrl-C stops it");
        interruption.await;
        anyhow::Ok(())
    })?;
    eprintln!("stopping");
    control_plane.stop()?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the exports for another terminal, with which `kubectl` there is this one and talks to this API server.
pub(crate) fn print_exports(kubeconfig: &Path, kubectl: &Path) {
    out::line(format_args!("export KUBECONFIG='{}'", kubeconfig.display()));
    if let Some(folder) = kubectl.parent() {
        out::line(format_args!("export PATH='{}':\"$PATH\"", folder.display()));
    }
}

impl Version {
    /// Starts a control plane of this version, and builds its programs first if they are missing.
    pub(crate) fn start(self) -> Result<ControlPlane> {
        let progress = Progress::detect();
        let programs = match self.kubernetes {
            Some(version) => Programs::of_version(version, progress)?,
            None => Programs::find_or_build(progress)?,
        };
        eprintln!("starting etcd and kube-apiserver (about 5 seconds)");
        Ok(ControlPlane::start(&programs, &[])?)
    }
}

/// Starts a control plane of the version that [`Programs::find_or_build`] has.
pub(crate) fn start() -> Result<ControlPlane> {
    Version::default().start()
}
