//! Ctrl-C, and its kin. Touches the process' signals.

use anyhow::{Context as _, Result};
use tokio::signal::unix::{SignalKind, signal};

/// From now on, SIGINT, SIGTERM and SIGHUP do not end this process, but this future. Needs tokio's runtime.
pub(crate) fn interruption() -> Result<impl Future<Output = ()>> {
    let listen = |kind| signal(kind).context("listen to signals");
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hangup = listen(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    })
}

/// A runtime for a command, on this thread.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("start tokio's runtime")
}
