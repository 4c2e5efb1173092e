//! The portal's own time, from the headers of a response: `Date` (RFC 9110 §6.6.1), and `Age` (RFC 9111 §5.1) if the
//! response comes from a cache.
//!
//! Pure. May depend on nothing of this crate.

use jiff::{SignedDuration, Timestamp};

/// The portal's time when the response arrived: its `Date` plus its `Age` in whole seconds. `None` if one of them is
/// invalid.
pub(super) fn parse_response_time(date: &[u8], age: Option<&[u8]>) -> Option<Timestamp> {
    let text = |value| Some(str::from_utf8(value).ok()?.trim_ascii());
    let date = Timestamp::try_from(httpdate::parse_http_date(text(date)?).ok()?).ok()?;
    let Some(age) = age else { return Some(date) };
    let age = text(age)?;
    let is_number = !age.is_empty() && age.bytes().all(|byte| byte.is_ascii_digit());
    let age = is_number.then(|| age.parse().ok())??;
    date.checked_add(SignedDuration::from_secs(age)).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOON: &str = "Mon, 01 Jan 2024 12:00:00 GMT";

    fn parsed(date: &str, age: Option<&str>) -> Option<String> {
        parse_response_time(date.as_bytes(), age.map(str::as_bytes)).map(|time| time.to_string())
    }

    #[test]
    fn the_portals_time_is_its_date_plus_the_age() {
        assert_eq!(parsed(NOON, None).as_deref(), Some("2024-01-01T12:00:00Z"));
        assert_eq!(parsed(NOON, Some(" 90 ")).as_deref(), Some("2024-01-01T12:01:30Z"));
        assert_eq!(
            parsed("Monday, 01-Jan-24 12:00:00 GMT", Some("0")).as_deref(),
            Some("2024-01-01T12:00:00Z")
        );
    }

    #[test]
    fn an_invalid_date_or_age_gives_no_time() {
        for date in ["", "yesterday", "2024-01-01T12:00:00Z"] {
            assert_eq!(parsed(date, None), None, "{date}");
        }
        for age in ["", "-1", "1.5", "soon", "99999999999999999999", "9223372036854775807"] {
            assert_eq!(parsed(NOON, Some(age)), None, "{age}");
        }
    }

    proptest! {
        #[test]
        fn no_header_makes_parsing_panic(date in prop::collection::vec(any::<u8>(), 0..40), age in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = parse_response_time(&date, Some(&age));
        }
    }
}
