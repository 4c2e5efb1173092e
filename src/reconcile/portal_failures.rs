//! Tells what is the matter with a portal: one line when it begins and one when it ends, not one for each session at each
//! poll, because there may be a hundred thousand of them. Each line names what went wrong by a word of ours.

use std::{
    error::Error as _,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::portal::{KeyIdentity, PortalError, PortalUrl, VerificationId};

/// An outage in which nothing failed for this long is over. Longer than any session waits until it is asked for again after a
/// failure.
const QUIET: Duration = Duration::from_mins(5);
/// The same for an outage that was told of creates. Longer than those with a key wait for the next try while they fail.
const QUIET_OF_CREATES: Duration = Duration::from_mins(30);
/// Most outages that are known at once: more are not told.
const MOST: usize = 256;

/// Whose call it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// A poll of a session, by its hash.
    Poll(u64),
    /// A create with a key, by its hash: what fails with one key may well succeed with another.
    Create(u64),
}

/// Whose call a poll of that session is.
pub(crate) fn polls_of(session: &VerificationId) -> Whose {
    Whose::Poll(hash(session))
}

/// Whose call a create with that key is.
pub(crate) fn creates_with(key: KeyIdentity) -> Whose {
    Whose::Create(hash(&key))
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// What fails now, as far as it was told: one outage for each portal and word.
#[derive(Debug, Default)]
pub struct PortalFailureLog(Mutex<Vec<Outage>>);

#[derive(Debug)]
struct Outage {
    portal: PortalUrl,
    word: &'static str,
    /// Whose failure was told. The outage is over when that one is answered: others may fail for reasons of their own.
    whose: Whose,
    last: Instant,
}

impl PortalFailureLog {
    /// Takes note of how a call to a portal ended, and tells the beginning and the end of an outage.
    pub(crate) fn note(&self, portal: &PortalUrl, whose: Whose, answer: Result<(), &PortalError>) {
        let now = Instant::now();
        match answer {
            // It is kept to and shown; nothing is the matter.
            Err(PortalError::Limited { retry_after: _ }) => {}
            Err(error) if !error.is_answer_of_the_portal() => {
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
        let mut portal_failures = self.0.lock();
        let known = portal_failures.iter_mut().find(|outage| outage.word == word && outage.portal == *portal);
        if let Some(known) = known {
            let is_over = known.is_quiet(now);
            known.last = now;
            if is_over {
                known.whose = whose;
            }
            return is_over;
        }
        if portal_failures.len() >= MOST {
            return false;
        }
        portal_failures.push(Outage { portal: portal.clone(), word, whose, last: now });
        true
    }

    /// The words of the outages that this answer ends.
    fn answered(&self, portal: &PortalUrl, whose: Whose, now: Instant) -> Vec<&'static str> {
        let mut portal_failures = self.0.lock();
        let ended =
            |outage: &mut Outage| outage.portal == *portal && (outage.whose == whose || outage.is_quiet(now));
        portal_failures.extract_if(.., ended).map(|outage| outage.word).collect()
    }
}

impl Outage {
    fn is_quiet(&self, now: Instant) -> bool {
        let in_flight = match self.whose {
            Whose::Poll(_) => QUIET,
            Whose::Create(_) => QUIET_OF_CREATES,
        };
        now.saturating_duration_since(self.last) > in_flight
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
        let later = now + QUIET + Duration::from_secs(1);
        assert!(portal_failures.failed(&portal, "tls", ALICE, now));
        assert!(portal_failures.answered(&portal, BOB, now + QUIET).is_empty());
        assert_eq!(portal_failures.answered(&portal, BOB, later), ["tls"]);
        assert!(portal_failures.failed(&portal, "tls", ALICE, now));
        assert!(portal_failures.failed(&portal, "tls", BOB, later));
        assert_eq!(portal_failures.answered(&portal, BOB, later), ["tls"], "it is told of bob by now");
    }

    #[test]
    fn creates_with_another_key_that_succeed_do_not_end_what_was_told_of_a_key() {
        let (portal_failures, portal, begun) =
            (PortalFailureLog::default(), portal("one.example"), Instant::now());
        let with = |key: &str| creates_with(ApiKey::parse(key.as_bytes()).unwrap().identity());
        assert!(portal_failures.failed(&portal, "server_error", with("bad"), begun));
        // The longest wait between two tries of those that fail, and others that succeed all the time.
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
