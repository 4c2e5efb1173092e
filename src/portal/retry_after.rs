//! How long the portal asks to wait: the `Retry-After` header (RFC 9110 §10.2.3).
//!
//! Pure: the time is an argument. May depend on nothing of this crate.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;

/// Longest wait that is honoured. A portal that asks for more gets the next request after this.
pub const LONGEST: Duration = Duration::from_mins(15);

/// Parses a `Retry-After` header: whole seconds, or an HTTP date.
///
/// A date is relative to the response's own `Date` header, so that a wrong clock on either side does not matter; without
/// a valid one it is relative to `now`. A date in the past gives zero; the caller then waits as long as without the
/// header. The result is at most [`LONGEST`]; `None` for anything else (negative numbers, fractions, words).
#[must_use]
pub(crate) fn parse_retry_after(value: &[u8], date: Option<&[u8]>, now: Timestamp) -> Option<Duration> {
    let value = str::from_utf8(value).ok()?.trim_ascii();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // Digits that do not fit are still a number, and a large one.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)).min(LONGEST));
    }
    let until = httpdate::parse_http_date(value).ok()?;
    let since = date.and_then(parse_date).unwrap_or_else(|| now.into());
    Some(until.duration_since(since).unwrap_or_default().min(LONGEST))
}

fn parse_date(value: &[u8]) -> Option<SystemTime> {
    httpdate::parse_http_date(str::from_utf8(value).ok()?.trim_ascii()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(value: &str, date: Option<&str>) -> Option<u64> {
        let now = "2024-01-01T12:00:00Z".parse().unwrap();
        parse_retry_after(value.as_bytes(), date.map(str::as_bytes), now).map(|wait| wait.as_secs())
    }

    #[test]
    fn seconds_are_parsed_and_capped() {
        assert_eq!(parsed("0", None), Some(0));
        assert_eq!(parsed(" 120 ", None), Some(120));
        assert_eq!(parsed("900", None), Some(900));
        assert_eq!(parsed("901", None), Some(900));
        assert_eq!(parsed("315360000", None), Some(900));
        assert_eq!(parsed(&"9".repeat(40), None), Some(900));
    }

    #[test]
    fn a_date_is_relative_to_the_date_of_the_response() {
        let at = "Mon, 01 Jan 2024 12:01:00 GMT";
        assert_eq!(parsed(at, None), Some(60));
        assert_eq!(parsed(at, Some("Mon, 01 Jan 2024 12:00:50 GMT")), Some(10));
        assert_eq!(parsed(at, Some("yesterday")), Some(60));
        assert_eq!(parsed(at, Some("Mon, 01 Jan 2024 12:02:00 GMT")), Some(0));
        assert_eq!(parsed("Sun, 01 Jan 2034 12:00:00 GMT", None), Some(900));
        assert_eq!(parsed("Monday, 01-Jan-24 12:01:00 GMT", None), Some(60));
        assert_eq!(parsed("Mon Jan  1 12:01:00 2024", None), Some(60));
    }

    #[test]
    fn garbage_gives_no_wait() {
        for garbage in
            ["", " ", "-1", "+5", "1.5", "5s", "soon", "1e3", "0x10", "١٢", "2024-01-01T12:01:00Z", "NaN"]
        {
            assert_eq!(parsed(garbage, None), None, "{garbage}");
        }
    }

    proptest! {
        #[test]
        fn no_header_makes_parsing_panic_or_wait_too_long(value in prop::collection::vec(any::<u8>(), 0..40), date in prop::collection::vec(any::<u8>(), 0..40)) {
            let wait = parse_retry_after(&value, Some(&date), Timestamp::UNIX_EPOCH);
            prop_assert!(wait.is_none_or(|wait| wait <= LONGEST));
        }
    }
}
