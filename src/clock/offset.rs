//! How far another machine's clock is ahead of ours, by the `Date` of its responses. Pure: times are arguments.

use jiff::{SignedDuration, Timestamp};

/// How many responses in a row must contradict the offset before it is corrected: one may come from a proxy.
const CONTRADICTIONS: u8 = 3;

/// The `Date` of a response, and when its request was sent and the response received, by our clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dated {
    /// When the request was sent.
    pub sent: Timestamp,
    /// When the response was received.
    pub received: Timestamp,
    /// The response's `Date` in whole seconds, plus the `Age` that a cache adds.
    pub date: Timestamp,
}

/// How far another clock is ahead of ours, negative if it is behind. Nothing before the first response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offset {
    ahead: Option<SignedDuration>,
    contradictions: u8,
}

impl Offset {
    /// How far the other clock is ahead, if that is known.
    pub(crate) const fn ahead(&self) -> Option<SignedDuration> {
        self.ahead
    }

    /// The offset after one more response. It stays as long as responses agree with it, and is then corrected no
    /// further than they require: a `Date` has whole seconds, and lies somewhere between request and response.
    #[must_use]
    pub(crate) fn after(self, response: Dated) -> Self {
        let Dated { sent, received, date } = response;
        let least = date.duration_since(received.max(sent));
        let most = date.duration_since(sent).saturating_add(SignedDuration::from_secs(1));
        let known = self.ahead.unwrap_or_default();
        let nearest = known.clamp(least, most);
        let contradictions = if nearest == known { 0 } else { self.contradictions.saturating_add(1) };
        if self.ahead.is_none() || contradictions >= CONTRADICTIONS {
            Self { ahead: Some(nearest), contradictions: 0 }
        } else {
            Self { contradictions, ..self }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: f64) -> Timestamp {
        Timestamp::from_second(1_700_000_000).unwrap() + SignedDuration::from_secs_f64(seconds)
    }

    /// A response of a clock that is that many seconds ahead, dated half way between request and response.
    fn response(sent: f64, takes: f64, ahead: f64) -> Dated {
        let date = Timestamp::from_second(at(sent + takes / 2.0 + ahead).as_second()).unwrap();
        Dated { sent: at(sent), received: at(sent + takes), date }
    }

    fn after(responses: &[Dated]) -> Option<f64> {
        let offset = responses.iter().fold(Offset::default(), |offset, response| offset.after(*response));
        offset.ahead().map(|ahead| ahead.as_secs_f64())
    }

    #[test]
    fn nothing_is_known_before_the_first_response() {
        assert_eq!(after(&[]), None);
    }

    #[test]
    fn a_clock_that_agrees_with_ours_has_no_offset() {
        assert_eq!(after(&[response(0.3, 0.1, 0.0), response(7.9, 2.0, 0.0)]), Some(0.0));
    }

    #[test]
    fn one_response_that_contradicts_all_others_changes_nothing() {
        let (right, wrong) = (response(0.0, 0.1, 0.0), response(9.0, 0.1, 86_400.0));
        assert_eq!(after(&[right, wrong, wrong, right, wrong, wrong]), Some(0.0));
        assert!((after(&[right, wrong, wrong, wrong]).unwrap() - 86_400.0).abs() <= 1.0, "three in a row do");
    }

    proptest! {
        #[test]
        fn the_first_response_measures_the_other_clock_within_the_time_that_it_took(
            sent in 0.0_f64..1e6, takes in 0.0_f64..30.0, ahead in -1e7_f64..1e7,
        ) {
            let measured = after(&[response(sent, takes, ahead)]).unwrap();
            prop_assert!((measured - ahead).abs() <= takes / 2.0 + 1.001, "{measured} {ahead}");
        }

        #[test]
        fn no_response_makes_it_panic(
            sent: i32, received: i32, date in proptest::option::of(any::<i32>()),
        ) {
            let at = |second: i32| Timestamp::from_second(second.into()).unwrap();
            for date in [date.map_or(Timestamp::MAX, at), Timestamp::MIN] {
                let response = Dated { sent: at(sent), received: at(received), date };
                prop_assert!(Offset::default().after(response).after(response).ahead().is_some());
            }
        }
    }
}
