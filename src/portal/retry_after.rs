//! How long the portal asks us to stay away: the `Retry-After` header (RFC 9110 §10.2.3).
//!
//! Pure: the time is an argument.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;

/// Longest wait that is honoured. A portal that asks for more is asked again after this.
pub const LONGEST: Duration = Duration::from_mins(15);

/// Reads a `Retry-After` header: whole seconds, or an HTTP date.
///
/// A date is counted from the answer's own `Date` header, so that it does not matter whose clock is
/// wrong; without a readable one it is counted from `now`. A date that has passed is no wait at
/// all; who reads it waits as long as without the header then. The result is at most [`LONGEST`];
/// `None` for anything else (negative, a fraction, words).
#[must_use]
pub fn read_retry_after(value: &[u8], date: Option<&[u8]>, now: Timestamp) -> Option<Duration> {
    let value = str::from_utf8(value).ok()?.trim_ascii();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // Digits that do not fit are still a number, and a large one.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)).min(LONGEST));
    }
    let until = httpdate::parse_http_date(value).ok()?;
    let since = date.and_then(read_date).unwrap_or_else(|| now.into());
    Some(until.duration_since(since).unwrap_or_default().min(LONGEST))
}

fn read_date(value: &[u8]) -> Option<SystemTime> {
    httpdate::parse_http_date(str::from_utf8(value).ok()?.trim_ascii()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(value: &str, date: Option<&str>) -> Option<u64> {
        let now = "2024-01-01T12:00:00Z".parse().unwrap();
        read_retry_after(value.as_bytes(), date.map(str::as_bytes), now).map(|wait| wait.as_secs())
    }

    #[test]
    fn seconds_are_read_and_capped() {
        assert_eq!(read("0", None), Some(0));
        assert_eq!(read(" 120 ", None), Some(120));
        assert_eq!(read("900", None), Some(900));
        assert_eq!(read("901", None), Some(900));
        assert_eq!(read("315360000", None), Some(900));
        assert_eq!(read(&"9".repeat(40), None), Some(900));
    }

    #[test]
    fn a_date_counts_from_the_answers_own_date() {
        let at = "Mon, 01 Jan 2024 12:01:00 GMT";
        assert_eq!(read(at, None), Some(60));
        assert_eq!(read(at, Some("Mon, 01 Jan 2024 12:00:50 GMT")), Some(10));
        assert_eq!(read(at, Some("yesterday")), Some(60));
        assert_eq!(read(at, Some("Mon, 01 Jan 2024 12:02:00 GMT")), Some(0));
        assert_eq!(read("Sun, 01 Jan 2034 12:00:00 GMT", None), Some(900));
        assert_eq!(read("Monday, 01-Jan-24 12:01:00 GMT", None), Some(60));
        assert_eq!(read("Mon Jan  1 12:01:00 2024", None), Some(60));
    }

    #[test]
    fn garbage_is_no_wait() {
        for garbage in
            ["", " ", "-1", "+5", "1.5", "5s", "soon", "1e3", "0x10", "١٢", "2024-01-01T12:01:00Z", "NaN"]
        {
            assert_eq!(read(garbage, None), None, "{garbage}");
        }
    }

    proptest! {
        #[test]
        fn no_header_makes_reading_panic_or_wait_too_long(value in prop::collection::vec(any::<u8>(), 0..40), date in prop::collection::vec(any::<u8>(), 0..40)) {
            let wait = read_retry_after(&value, Some(&date), Timestamp::UNIX_EPOCH);
            prop_assert!(wait.is_none_or(|wait| wait <= LONGEST));
        }
    }
}
