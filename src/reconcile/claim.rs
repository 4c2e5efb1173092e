//! A claim without a recorded outcome, as this process has found it. State only.

use std::time::Duration;

use tokio::time::Instant;

use crate::api::Session;

/// After this time, no request of a claim that was found can be in flight: claim 10 s, age 5 s, request 30 s.
const IN_FLIGHT_FOR: Duration = Duration::from_secs(45);

/// A claim without a recorded outcome.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    /// The number of the attempt.
    attempt: i32,
    /// Who wrote it.
    holder: Option<String>,
    /// When this process first saw it.
    pub(super) seen: Instant,
    /// Whether this process knows that its request was not sent.
    pub(crate) never_sent: bool,
}

impl Claim {
    /// What is known once a resource was read that carries the claim of this session, or no claim. A claim whose write
    /// got no response may still arrive.
    pub(crate) fn observed(known: Option<&Self>, session: Option<&Session>, now: Instant) -> Option<Self> {
        match session {
            Some(session) => {
                let known = known.filter(|known| known.is_of(session)).cloned();
                Some(known.unwrap_or_else(|| Self::found(session, now)))
            }
            None => known.filter(|known| known.never_sent && now < known.none_in_flight_at()).cloned(),
        }
    }

    /// A claim that this process sees for the first time.
    fn found(session: &Session, now: Instant) -> Self {
        let Session { attempt, holder, .. } = session;
        Self { attempt: *attempt, holder: holder.clone(), seen: now, never_sent: false }
    }

    /// A claim that this process tried to write at that time. It did not send the request.
    pub(crate) fn never_sent(session: &Session, at: Instant) -> Self {
        Self { never_sent: true, ..Self::found(session, at) }
    }

    /// From when on no request of it can be in flight.
    pub(crate) fn none_in_flight_at(&self) -> Instant {
        self.seen + IN_FLIGHT_FOR
    }

    /// Whether it is the claim of this session. After a rollback of etcd another claim may have the same number.
    fn is_of(&self, session: &Session) -> bool {
        self.attempt == session.attempt && self.holder == session.holder
    }

    /// Bytes behind its pointers.
    pub(crate) fn heap(&self) -> usize {
        self.holder.as_ref().map_or(0, String::capacity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_of_the_same_number_by_another_holder_is_another_claim() {
        let session = Session { attempt: 1, holder: Some("one/0".to_owned()), ..Session::default() };
        let claim = Claim::found(&session, Instant::now());
        assert!(claim.is_of(&session));
        assert!(!claim.is_of(&Session { attempt: 2, ..session.clone() }));
        assert!(!claim.is_of(&Session { holder: Some("one/1".to_owned()), ..session.clone() }));
        assert!(!claim.is_of(&Session { holder: None, ..session }));
    }

    #[test]
    fn a_claim_that_arrives_after_its_write_timed_out_is_known_not_to_have_been_sent() {
        let session = Session { attempt: 1, holder: Some("one/0".to_owned()), ..Session::default() };
        let begun = Instant::now();
        let (soon, late) = (begun + Duration::from_secs(30), begun + IN_FLIGHT_FOR);
        let written = Claim::never_sent(&session, begun);
        let before = Claim::observed(Some(&written), None, soon);
        let arrived = Claim::observed(before.as_ref(), Some(&session), soon).unwrap();
        assert!(arrived.never_sent);
        assert!(Claim::observed(Some(&written), None, late).is_none(), "it is not remembered for ever");

        let sent = Claim::found(&session, begun);
        assert!(Claim::observed(Some(&sent), None, soon).is_none(), "its outcome was recorded");
    }
}
