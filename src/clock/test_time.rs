//! What tests do to time, by the environment. Without the cargo feature `failpoints` it is nothing.

use jiff::SignedDuration;

/// How much time a test lets pass for everybody, the API server and the portals included: the seconds in the file that
/// the environment variable `OKID_CLOCK_FILE` names.
#[cfg(feature = "failpoints")]
pub(super) fn time_passed() -> SignedDuration {
    use std::{env, ffi::OsString, fs, sync::LazyLock};

    static FILE: LazyLock<Option<OsString>> = LazyLock::new(|| env::var_os("OKID_CLOCK_FILE"));
    let text = FILE.as_ref().and_then(|file| fs::read_to_string(file).ok());
    SignedDuration::from_secs(text.and_then(|text| text.parse().ok()).unwrap_or_default())
}

/// How wrong a test sets the local clock: ahead by the seconds in the environment variable `OKID_CLOCK_SKEW`, or behind
/// if they are negative.
#[cfg(feature = "failpoints")]
pub(super) fn local_skew() -> SignedDuration {
    use std::{env, sync::LazyLock};

    static SKEW: LazyLock<i64> = LazyLock::new(|| {
        env::var("OKID_CLOCK_SKEW").ok().and_then(|text| text.parse().ok()).unwrap_or_default()
    });
    SignedDuration::from_secs(*SKEW)
}

/// No time passes.
#[cfg(not(feature = "failpoints"))]
pub(super) const fn time_passed() -> SignedDuration {
    SignedDuration::ZERO
}

/// The clock is right.
#[cfg(not(feature = "failpoints"))]
pub(super) const fn local_skew() -> SignedDuration {
    SignedDuration::ZERO
}
