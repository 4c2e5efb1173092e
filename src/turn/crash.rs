//! Crash points: places in the create protocol at which a test ends the process. Without the cargo feature
//! `crash-points` they are nothing.

/// A place in the create protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Point {
    /// Before the claim is written.
    BeforeClaim,
    /// The claim is written; the portal was not asked.
    AfterClaim,
    /// The answer is here; it is not written.
    AfterAnswer,
    /// The answer is written; nobody was told.
    AfterRecord,
}

/// Ends the process, as if killed, if the environment variable `OKID_CRASH_POINT` names this point.
#[cfg(feature = "crash-points")]
pub(super) fn reach(point: Point) {
    if std::env::var("OKID_CRASH_POINT").is_ok_and(|name| name == format!("{point:?}")) {
        std::process::abort();
    }
}

/// Nothing.
#[cfg(not(feature = "crash-points"))]
pub(super) const fn reach(_: Point) {}
