//! `cargo xtask control-plane`. Starts processes.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use control_plane::{ControlPlane, Programs, Progress};

use crate::interrupt::{interruption, runtime};
use crate::out;

/// Run etcd and an API server to experiment with, until Ctrl-C.
///
/// There is no node, no controller-manager and no operator. Its data is deleted when it stops.
#[derive(Debug, clap::Args)]
#[command(after_help = "Paste the two lines that it prints into another terminal, then:
  kubectl apply --server-side -f crds/
  cargo run -- run")]
pub(crate) struct Arguments {}

pub(crate) fn run(Arguments {}: &Arguments) -> Result<ExitCode> {
    let control_plane = start()?;
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

/// Starts a control plane, and builds its programs first if they are missing.
pub(crate) fn start() -> Result<ControlPlane> {
    let programs = Programs::find_or_build(Progress::detect())?;
    eprintln!("starting etcd and kube-apiserver (about 5 seconds)");
    Ok(ControlPlane::start(&programs, &[])?)
}
