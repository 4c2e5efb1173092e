//! Crash points: places in the create protocol and in storing evidence at which a test ends the process, or holds it.
//! Without the cargo feature `crash-points` they are nothing.

// Without it the tests on the API server would find no crash point, and wait for one.
#[cfg(all(test, not(feature = "crash-points")))]
compile_error!(
    "every test needs the feature crash-points, which the package's dev-dependency on itself turns on"
);

/// A place in the create protocol or in storing evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failpoint {
    /// Before the claim is written.
    BeforeClaim,
    /// The claim is written; the portal was not asked.
    AfterClaim,
    /// The answer is here; it is not written.
    AfterAnswer,
    /// The answer is written; nobody was told.
    AfterRecord,
    /// The end is here, and nothing is pending; it is not written.
    BeforeSettling,
    /// Every object is in the store, but for the manifest.
    BeforeManifest,
    /// What was stored is in the store; it is not written.
    AfterUpload,
}

/// Ends the process, as if killed, if the environment variable `OKID_CRASH_POINT` names this point. If
/// `OKID_HOLD_POINT` names it, the file of `OKID_HOLD_FILE` is made, and nothing goes on until it is removed; only the
/// first one to come by is held.
#[cfg(feature = "crash-points")]
pub(crate) async fn reach(point: Failpoint) {
    use std::{fs, sync::atomic::AtomicBool, sync::atomic::Ordering, time::Duration};

    static HELD: AtomicBool = AtomicBool::new(false);
    let names = |variable| std::env::var(variable).is_ok_and(|name| name == format!("{point:?}"));
    if names("OKID_CRASH_POINT") {
        std::process::abort();
    }
    if names("OKID_HOLD_POINT")
        && let Some(file) = std::env::var_os("OKID_HOLD_FILE")
        && !HELD.swap(true, Ordering::Relaxed)
        && fs::write(&file, "").is_ok()
    {
        while fs::exists(&file).unwrap_or(false) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Nothing.
#[cfg(not(feature = "crash-points"))]
#[expect(clippy::unused_async, reason = "with the feature it waits")]
pub(crate) async fn reach(_: Failpoint) {}
