//! Notifications about sessions that no live verification has yet, as when the portal is faster than the record of the
//! session. State only: the time is an argument.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::sessions::SessionKey;

/// How long a notification waits for its verification.
const KEPT_FOR: Duration = Duration::from_mins(1);
/// The most that wait at one portal. One portal cannot drive out those of another.
const MOST: usize = 10_000;

/// When each session was notified, by portal.
#[derive(Debug, Default)]
pub(crate) struct EarlyNotifications(Mutex<HashMap<String, HashMap<SessionKey, Instant>>>);

impl EarlyNotifications {
    /// Keeps a notification for a minute, unless too many are kept.
    pub(crate) fn keep(&self, portal: &str, session: SessionKey, now: Instant) {
        let mut portals = self.0.lock();
        let sessions = portals.entry(portal.to_owned()).or_default();
        if sessions.len() >= MOST {
            sessions.retain(|_, notified_at| is_fresh(*notified_at, now));
        }
        if sessions.len() < MOST {
            sessions.insert(session, now);
        }
    }

    /// Whether the session was notified in the last minute. That is then forgotten.
    pub(crate) fn take(&self, session: SessionKey, now: Instant) -> bool {
        let mut portals = self.0.lock();
        let mut found = portals.values_mut().filter_map(|sessions| sessions.remove(&session));
        let is_found = found.any(|notified_at| is_fresh(notified_at, now));
        portals.retain(|_, sessions| !sessions.is_empty());
        is_found
    }

    /// Bytes in use, approximately.
    pub(crate) fn memory(&self) -> usize {
        let capacity: usize = self.0.lock().values().map(HashMap::capacity).sum();
        capacity * (size_of::<(SessionKey, Instant)>() + 1)
    }
}

fn is_fresh(notified_at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(notified_at) < KEPT_FOR
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{portal::VerificationId, reconcile::sessions::Sessions};

    fn session(sessions: &Sessions, number: usize) -> SessionKey {
        sessions.key("https://one.test", &VerificationId::parse(&format!("ver_{number}")).unwrap())
    }

    #[test]
    fn a_notification_is_kept_for_a_minute_and_found_once() {
        let (early, sessions, now) = (EarlyNotifications::default(), Sessions::default(), Instant::now());
        let [one, two] = [1, 2].map(|number| session(&sessions, number));
        early.keep("one", one, now);
        early.keep("one", two, now);
        let later = now + KEPT_FOR;
        assert!(early.take(one, later - Duration::from_millis(1)));
        assert!(!early.take(one, now), "it was found");
        assert!(!early.take(two, later));
        assert!(early.0.lock().is_empty());
    }

    #[test]
    fn a_portal_that_floods_drives_out_neither_others_nor_its_own_and_recovers() {
        let (early, sessions, now) = (EarlyNotifications::default(), Sessions::default(), Instant::now());
        early.keep("two", session(&sessions, 1), now);
        for number in 2..MOST + 100 {
            early.keep("one", session(&sessions, number), now);
        }
        assert_eq!(early.0.lock()["one"].len(), MOST);
        assert!(early.take(session(&sessions, 1), now) && early.take(session(&sessions, 2), now));
        early.keep("one", session(&sessions, 1), now + KEPT_FOR);
        early.keep("one", session(&sessions, 2), now + KEPT_FOR);
        assert_eq!(early.0.lock()["one"].len(), 2);
    }
}
