//! `cargo xtask control-plane`. Touches processes.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use control_plane::{ControlPlane, Programs, Progress};

use crate::interrupt::{interruption, runtime};
use crate::out;

/// Starts etcd and an API server to play with, until Ctrl-C.
///
/// Nothing runs in it: there is no node, no controller-manager, and no operator. All it holds is gone with it.
#[derive(Debug, clap::Args)]
#[command(after_help = "In another terminal, paste the two lines it prints, then:
  kubectl apply --server-side -f crds/
  cargo run -- run")]
pub(crate) struct Arguments {}

pub(crate) fn run(Arguments {}: &Arguments) -> Result<ExitCode> {
    let control_plane = start()?;
    // What ends this process before is answered by the watchers of etcd and the API server.
    runtime()?.block_on(async {
        let interruption = interruption()?;
        print_exports(&control_plane.kubeconfig_path(), &control_plane.programs().kubectl);
        eprintln!("# Ctrl-C ends it");
        interruption.await;
        anyhow::Ok(())
    })?;
    eprintln!("ending");
    control_plane.stop()?;
    Ok(ExitCode::SUCCESS)
}

/// Prints what a person pastes into another terminal, so that `kubectl` there is this one and talks to this API server.
pub(crate) fn print_exports(kubeconfig: &Path, kubectl: &Path) {
    out::line(format_args!("export KUBECONFIG='{}'", kubeconfig.display()));
    if let Some(folder) = kubectl.parent() {
        out::line(format_args!("export PATH='{}':\"$PATH\"", folder.display()));
    }
}

/// Starts a control plane, after building what it needs.
pub(crate) fn start() -> Result<ControlPlane> {
    let programs = Programs::find_or_build(Progress::detect())?;
    eprintln!("starting etcd and kube-apiserver (about 5 seconds)");
    Ok(ControlPlane::start(&programs, &[])?)
}
