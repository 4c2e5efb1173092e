//! The portal's own time, from an answer's headers: `Date` (RFC 9110 §6.6.1), and `Age` (RFC 9111 §5.1) where the answer
//! comes out of a cache.
//!
//! Pure.

use jiff::{SignedDuration, Timestamp};

/// The time at which the portal would have answered: its `Date`, later by the `Age` in whole seconds. `None` where one of
/// them cannot be read.
pub(super) fn read_answered_at(date: &[u8], age: Option<&[u8]>) -> Option<Timestamp> {
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

    fn read(date: &str, age: Option<&str>) -> Option<String> {
        read_answered_at(date.as_bytes(), age.map(str::as_bytes)).map(|time| time.to_string())
    }

    #[test]
    fn the_portals_time_is_its_date_and_the_age_since() {
        assert_eq!(read(NOON, None).as_deref(), Some("2024-01-01T12:00:00Z"));
        assert_eq!(read(NOON, Some(" 90 ")).as_deref(), Some("2024-01-01T12:01:30Z"));
        assert_eq!(
            read("Monday, 01-Jan-24 12:00:00 GMT", Some("0")).as_deref(),
            Some("2024-01-01T12:00:00Z")
        );
    }

    #[test]
    fn a_date_or_an_age_that_cannot_be_read_is_no_time() {
        for date in ["", "yesterday", "2024-01-01T12:00:00Z"] {
            assert_eq!(read(date, None), None, "{date}");
        }
        for age in ["", "-1", "1.5", "soon", "99999999999999999999", "9223372036854775807"] {
            assert_eq!(read(NOON, Some(age)), None, "{age}");
        }
    }

    proptest! {
        #[test]
        fn no_header_makes_reading_panic(date in prop::collection::vec(any::<u8>(), 0..40), age in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = read_answered_at(&date, Some(&age));
        }
    }
}
