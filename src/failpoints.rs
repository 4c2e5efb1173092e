//! Failpoints: places in the create protocol and in storing evidence where a test aborts the process or holds it.
//! Without the cargo feature `failpoints` they do nothing. Depends on nothing of this crate.

// Without the feature the tests on the API server would never reach a failpoint, and would wait for it in vain.
#[cfg(all(test, not(feature = "failpoints")))]
compile_error!("tests need the feature failpoints, which the package's dev-dependency on itself enables");

/// A place in the create protocol or in storing evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failpoint {
    /// Before the claim is written.
    BeforeClaim,
    /// The claim is written; the portal has not been asked.
    AfterClaim,
    /// The portal has responded; the response is not recorded.
    AfterResponse,
    /// The response is recorded; nothing has been reported.
    AfterRecord,
    /// The session is final and nothing is pending; the final status is not written.
    BeforeSettling,
    /// Every object but the manifest is in the store.
    BeforeManifest,
    /// Everything is in the store; the status does not say so yet.
    AfterUpload,
}

/// Aborts the process if the environment variable `OKID_FAILPOINT_ABORT` names this failpoint. If `OKID_FAILPOINT_HOLD`
/// names it, creates the file that `OKID_FAILPOINT_HOLD_FILE` names and waits until the file is removed; only the first
/// caller is held.
#[cfg(feature = "failpoints")]
pub(crate) async fn failpoint(point: Failpoint) {
    use std::{fs, sync::atomic::AtomicBool, sync::atomic::Ordering, time::Duration};

    static HELD: AtomicBool = AtomicBool::new(false);
    let names = |variable| std::env::var(variable).is_ok_and(|name| name == format!("{point:?}"));
    if names("OKID_FAILPOINT_ABORT") {
        std::process::abort();
    }
    if names("OKID_FAILPOINT_HOLD")
        && let Some(file) = std::env::var_os("OKID_FAILPOINT_HOLD_FILE")
        && !HELD.swap(true, Ordering::Relaxed)
        && fs::write(&file, "").is_ok()
    {
        while fs::exists(&file).unwrap_or(false) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Does nothing.
#[cfg(not(feature = "failpoints"))]
pub(crate) async fn failpoint(_: Failpoint) {}
