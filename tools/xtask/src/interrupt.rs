//! Ctrl-C and other signals that stop a command.

use anyhow::{Context as _, Result};
use tokio::signal::unix::{SignalKind, signal};

/// A future that completes on SIGINT, SIGTERM or SIGHUP, which no longer end the process. Must be called within a runtime.
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

/// A runtime for a command, on the current thread.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("start tokio's runtime")
}
