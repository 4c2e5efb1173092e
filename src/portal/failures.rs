//! Logs outages of portals: one line when an outage begins and one when it ends, because a line for each failed poll of a
//! hundred thousand sessions would be useless. Each line names the kind of error by its label.
//!
//! May depend on `incidents` and on the pure files of [`portal`](super).

use std::{
    error::Error as _,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{allowed::PortalUrl, error::PortalError, key::KeyIdentity, verification_id::VerificationId};
use crate::incidents::Incidents;

/// An outage ends once nothing has failed for this long. Longer than any wait between a failure and the next poll.
const RESOLVE_TIMEOUT: Duration = Duration::from_mins(5);
/// The same for creates. Longer than creates with a key wait after a failure until the next attempt.
const CREATE_RESOLVE_TIMEOUT: Duration = Duration::from_mins(30);
/// Most outages at a time; further ones are not reported.
const MAX_OUTAGES: usize = 256;

/// Which requests succeed or fail together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestGroup {
    /// Polls of a session, by its hash.
    Poll(u64),
    /// Creates with a key, by its hash: a create that fails with one key may succeed with another.
    Create(u64),
}

/// The group of the polls of a session.
pub(super) fn polls_of(session: &VerificationId) -> RequestGroup {
    RequestGroup::Poll(hash(session))
}

/// The group of the creates with a key.
pub(super) fn creates_with(key: KeyIdentity) -> RequestGroup {
    RequestGroup::Create(hash(&key))
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// The current outages: one for each portal and kind of error, with the group whose failure was reported. An outage is over
/// when a request of that group succeeds; others may fail for other reasons.
#[derive(Debug, Default)]
pub(super) struct PortalFailureLog(Mutex<Incidents<(PortalUrl, &'static str), RequestGroup>>);

impl PortalFailureLog {
    /// Records the result of a request, and logs the beginning and the end of an outage.
    pub(super) fn note(&self, portal: &PortalUrl, group: RequestGroup, result: Result<(), &PortalError>) {
        let now = Instant::now();
        match result {
            // A pause is honoured and shown; it is not an outage.
            Err(PortalError::Limited { retry_after: _ }) => {}
            Err(error) if !error.is_from_the_portal() => {
                let label = error.label();
                if self.failed(portal, label, group, now) {
                    let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
                    tracing::warn!(
                        portal = portal.as_str(),
                        error = label,
                        "requests to the portal fail: {why}; retrying"
                    );
                }
            }
            Ok(()) | Err(_) => {
                for label in self.succeeded(portal, group, now) {
                    tracing::info!(
                        portal = portal.as_str(),
                        error = label,
                        "requests to the portal succeed again"
                    );
                }
            }
        }
    }

    /// Whether this failure begins an outage.
    fn failed(&self, portal: &PortalUrl, label: &'static str, group: RequestGroup, now: Instant) -> bool {
        let mut outages = self.0.lock();
        let outage = (portal.clone(), label);
        if outages.len() >= MAX_OUTAGES && outages.get_mut(&outage).is_none() {
            return false;
        }
        outages.failed(outage, group, group.resolve_timeout(), now).0
    }

    /// The labels of the outages that this success ends.
    fn succeeded(&self, portal: &PortalUrl, group: RequestGroup, now: Instant) -> Vec<&'static str> {
        let ended = self.0.lock().resolve(now, |outage| {
            outage.key.0 == *portal && (outage.detail == group || outage.has_timed_out(now))
        });
        ended.into_iter().map(|(_, label)| label).collect()
    }
}

impl RequestGroup {
    const fn resolve_timeout(self) -> Duration {
        match self {
            Self::Poll(_) => RESOLVE_TIMEOUT,
            Self::Create(_) => CREATE_RESOLVE_TIMEOUT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::portal::{AllowedPortals, ApiKey};

    const ALICE: RequestGroup = RequestGroup::Poll(1);
    const BOB: RequestGroup = RequestGroup::Poll(2);

    fn portal(host: &str) -> PortalUrl {
        let url = format!("https://{host}");
        AllowedPortals::new([&url], false).unwrap().permit(&url).unwrap()
    }

    #[test]
    fn an_outage_is_reported_once_and_ends_when_the_reported_group_succeeds() {
        let (portal_failures, portal, now) =
            (PortalFailureLog::default(), portal("one.example"), Instant::now());
        assert!(portal_failures.failed(&portal, "timed_out", ALICE, now));
        assert!((0..200).all(|_| !portal_failures.failed(&portal, "timed_out", BOB, now)));
        assert!(portal_failures.succeeded(&portal, BOB, now).is_empty(), "others may succeed meanwhile");
        assert_eq!(portal_failures.succeeded(&portal, ALICE, now), ["timed_out"]);
        assert!(portal_failures.succeeded(&portal, ALICE, now).is_empty());
    }

    #[test]
    fn each_portal_and_each_kind_of_error_is_a_separate_outage() {
        let (portal_failures, one, two) =
            (PortalFailureLog::default(), portal("one.example"), portal("two.example"));
        let now = Instant::now();
        assert!(portal_failures.failed(&one, "timed_out", ALICE, now));
        assert!(portal_failures.failed(&one, "too_large", ALICE, now));
        assert!(portal_failures.failed(&two, "timed_out", ALICE, now));
        assert_eq!(portal_failures.succeeded(&one, ALICE, now), ["timed_out", "too_large"]);
        assert_eq!(portal_failures.succeeded(&two, ALICE, now), ["timed_out"]);
    }

    #[test]
    fn an_outage_without_failures_is_over_after_five_minutes() {
        let (portal_failures, portal, now) =
            (PortalFailureLog::default(), portal("one.example"), Instant::now());
        let later = now + RESOLVE_TIMEOUT + Duration::from_secs(1);
        assert!(portal_failures.failed(&portal, "tls", ALICE, now));
        assert!(portal_failures.succeeded(&portal, BOB, now + RESOLVE_TIMEOUT).is_empty());
        assert_eq!(portal_failures.succeeded(&portal, BOB, later), ["tls"]);
        assert!(portal_failures.failed(&portal, "tls", ALICE, now));
        assert!(portal_failures.failed(&portal, "tls", BOB, later));
        assert_eq!(portal_failures.succeeded(&portal, BOB, later), ["tls"], "it is reported for bob by now");
    }

    #[test]
    fn creates_with_another_key_do_not_end_the_outage_of_a_key() {
        let (portal_failures, portal, begun) =
            (PortalFailureLog::default(), portal("one.example"), Instant::now());
        let with = |key: &str| creates_with(ApiKey::parse(key.as_bytes()).unwrap().identity());
        assert!(portal_failures.failed(&portal, "server_error", with("bad"), begun));
        // The longest wait between two failing attempts, while others succeed all the time.
        for minute in 1..60 {
            let now = begun + Duration::from_mins(minute);
            assert!(portal_failures.succeeded(&portal, with("good"), now).is_empty());
            assert!(minute % 12 != 0 || !portal_failures.failed(&portal, "server_error", with("bad"), now));
        }
        assert_eq!(
            portal_failures.succeeded(&portal, with("bad"), begun + Duration::from_hours(1)),
            ["server_error"]
        );
    }
}
