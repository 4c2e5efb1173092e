//! Logs outages of portals: one line when an outage begins and one when it ends, not one for each session at each
//! poll, because there may be a hundred thousand of them. Each line names what went wrong by a word of ours.

use std::{
    error::Error as _,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{allowed::PortalUrl, error::PortalError, key::KeyIdentity, verification_id::VerificationId};
use crate::incidents::Incidents;

/// An outage in which nothing failed for this long is over. Longer than any session waits until it is polled again after a
/// failure.
const RESOLVE_TIMEOUT: Duration = Duration::from_mins(5);
/// The same for an outage that was reported of creates. Longer than those with a key wait for the next attempt while they
/// fail.
const RESOLVE_TIMEOUT_OF_CREATES: Duration = Duration::from_mins(30);
/// The most outages that are known at once: more are not reported.
const MOST: usize = 256;

/// Whose call it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// A poll of a session, by its hash.
    Poll(u64),
    /// A create with a key, by its hash: what fails with one key may well succeed with another.
    Create(u64),
}

/// Whose call a poll of that session is.
pub(super) fn polls_of(session: &VerificationId) -> Whose {
    Whose::Poll(hash(session))
}

/// Whose call a create with that key is.
pub(super) fn creates_with(key: KeyIdentity) -> Whose {
    Whose::Create(hash(&key))
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// The outages that go on now: one for each portal and kind of failure, with the call whose failure was reported. An outage
/// is over when that call succeeds: others may fail for reasons of their own.
#[derive(Debug, Default)]
pub(super) struct PortalFailureLog(Mutex<Incidents<(PortalUrl, &'static str), Whose>>);

impl PortalFailureLog {
    /// Notes the result of a call to a portal, and logs the beginning and the end of an outage.
    pub(super) fn note(&self, portal: &PortalUrl, whose: Whose, answer: Result<(), &PortalError>) {
        let now = Instant::now();
        match answer {
            // The pause is observed and shown; it is no outage.
            Err(PortalError::Limited { retry_after: _ }) => {}
            Err(error) if !error.is_from_the_portal() => {
                let word = error.label();
                if self.failed(portal, word, whose, now) {
                    let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
                    tracing::warn!(
                        portal = portal.as_str(),
                        word,
                        "requests to the portal fail: {why}; retrying"
                    );
                }
            }
            Ok(()) | Err(_) => {
                for word in self.answered(portal, whose, now) {
                    tracing::info!(portal = portal.as_str(), word, "requests to the portal succeed again");
                }
            }
        }
    }

    /// Whether this failure begins an outage.
    fn failed(&self, portal: &PortalUrl, word: &'static str, whose: Whose, now: Instant) -> bool {
        let mut outages = self.0.lock();
        let outage = (portal.clone(), word);
        if outages.len() >= MOST && outages.get_mut(&outage).is_none() {
            return false;
        }
        outages.failed(outage, whose, whose.resolve_timeout(), now).0
    }

    /// The words of the outages that this answer ends.
    fn answered(&self, portal: &PortalUrl, whose: Whose, now: Instant) -> Vec<&'static str> {
        let ended = self.0.lock().resolve(now, |outage| {
            outage.key.0 == *portal && (outage.detail == whose || outage.has_timed_out(now))
        });
        ended.into_iter().map(|(_, word)| word).collect()
    }
}

impl Whose {
    const fn resolve_timeout(self) -> Duration {
        match self {
            Self::Poll(_) => RESOLVE_TIMEOUT,
            Self::Create(_) => RESOLVE_TIMEOUT_OF_CREATES,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::portal::{AllowedPortals, ApiKey};

    const ALICE: Whose = Whose::Poll(1);
    const BOB: Whose = Whose::Poll(2);

    fn portal(host: &str) -> PortalUrl {
        let url = format!("https://{host}");
        AllowedPortals::new([&url], false).unwrap().permit(&url).unwrap()
    }

    #[test]
    fn an_outage_is_told_once_whoever_fails_and_ends_with_whom_it_was_told_of() {
        let (portal_failures, portal, now) =
            (PortalFailureLog::default(), portal("one.example"), Instant::now());
        assert!(portal_failures.failed(&portal, "timed_out", ALICE, now));
        assert!((0..200).all(|_| !portal_failures.failed(&portal, "timed_out", BOB, now)));
        assert!(portal_failures.answered(&portal, BOB, now).is_empty(), "others may be answered meanwhile");
        assert_eq!(portal_failures.answered(&portal, ALICE, now), ["timed_out"]);
        assert!(portal_failures.answered(&portal, ALICE, now).is_empty());
    }

    #[test]
    fn each_portal_and_each_word_is_an_outage_of_its_own() {
        let (portal_failures, one, two) =
            (PortalFailureLog::default(), portal("one.example"), portal("two.example"));
        let now = Instant::now();
        assert!(portal_failures.failed(&one, "timed_out", ALICE, now));
        assert!(portal_failures.failed(&one, "too_large", ALICE, now));
        assert!(portal_failures.failed(&two, "timed_out", ALICE, now));
        assert_eq!(portal_failures.answered(&one, ALICE, now), ["timed_out", "too_large"]);
        assert_eq!(portal_failures.answered(&two, ALICE, now), ["timed_out"]);
    }

    #[test]
    fn an_outage_without_failures_is_over_after_five_minutes() {
        let (portal_failures, portal, now) =
            (PortalFailureLog::default(), portal("one.example"), Instant::now());
        let later = now + RESOLVE_TIMEOUT + Duration::from_secs(1);
        assert!(portal_failures.failed(&portal, "tls", ALICE, now));
        assert!(portal_failures.answered(&portal, BOB, now + RESOLVE_TIMEOUT).is_empty());
        assert_eq!(portal_failures.answered(&portal, BOB, later), ["tls"]);
        assert!(portal_failures.failed(&portal, "tls", ALICE, now));
        assert!(portal_failures.failed(&portal, "tls", BOB, later));
        assert_eq!(portal_failures.answered(&portal, BOB, later), ["tls"], "it is reported of bob by now");
    }

    #[test]
    fn creates_with_another_key_that_succeed_do_not_end_what_was_told_of_a_key() {
        let (portal_failures, portal, begun) =
            (PortalFailureLog::default(), portal("one.example"), Instant::now());
        let with = |key: &str| creates_with(ApiKey::parse(key.as_bytes()).unwrap().identity());
        assert!(portal_failures.failed(&portal, "server_error", with("bad"), begun));
        // The longest wait between two attempts of those that fail, while others succeed all the time.
        for minute in 1..60 {
            let now = begun + Duration::from_mins(minute);
            assert!(portal_failures.answered(&portal, with("good"), now).is_empty());
            assert!(minute % 12 != 0 || !portal_failures.failed(&portal, "server_error", with("bad"), now));
        }
        assert_eq!(
            portal_failures.answered(&portal, with("bad"), begun + Duration::from_hours(1)),
            ["server_error"]
        );
    }
}
