//! Notifications about sessions that no live verification has yet, as when the portal is faster than the record of the
//! session. State only: the time is an argument.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::sessions::SessionKey;

/// How long a notification waits for its verification.
const KEPT_FOR: Duration = Duration::from_mins(1);
/// The most that wait at one portal: then the older half gives way. One portal cannot drive out those of another.
const MOST: usize = 10_000;

/// When each session was notified, by portal.
#[derive(Debug, Default)]
pub(crate) struct EarlyNotifications(Mutex<HashMap<String, Kept>>);

/// The notifications of one portal, in two generations, so that none is ever searched for those that are too old: every
/// commit asks for one.
#[derive(Debug)]
struct Kept {
    newer: HashMap<SessionKey, Instant>,
    /// Those from before the newer ones began.
    older: HashMap<SessionKey, Instant>,
    began_at: Instant,
}

impl Kept {
    fn new(now: Instant) -> Self {
        Self { newer: HashMap::new(), older: HashMap::new(), began_at: now }
    }

    fn keep(&mut self, session: SessionKey, now: Instant) {
        if self.newer.len() >= MOST / 2 || !is_fresh(self.began_at, now) {
            self.older = std::mem::take(&mut self.newer);
            self.began_at = now;
        }
        self.newer.insert(session, now);
    }

    fn take(&mut self, session: SessionKey) -> Option<Instant> {
        self.older.remove(&session).max(self.newer.remove(&session))
    }

    fn is_empty(&self) -> bool {
        self.newer.is_empty() && self.older.is_empty()
    }
}

impl EarlyNotifications {
    /// Keeps a notification for a minute, or until many newer ones have arrived.
    pub(crate) fn keep(&self, portal: &str, session: SessionKey, now: Instant) {
        let mut portals = self.0.lock();
        match portals.get_mut(portal) {
            Some(kept) => kept.keep(session, now),
            None => portals.entry(portal.to_owned()).or_insert_with(|| Kept::new(now)).keep(session, now),
        }
    }

    /// Whether the session was notified in the last minute. That is then forgotten.
    pub(crate) fn take(&self, session: SessionKey, now: Instant) -> bool {
        let mut portals = self.0.lock();
        let mut found = portals.values_mut().filter_map(|kept| kept.take(session));
        let is_found = found.any(|notified_at| is_fresh(notified_at, now));
        portals.retain(|_, kept| !kept.is_empty());
        is_found
    }

    /// Bytes in use, approximately.
    pub(crate) fn memory(&self) -> usize {
        let capacity_of = |kept: &Kept| kept.newer.capacity() + kept.older.capacity();
        let capacity: usize = self.0.lock().values().map(capacity_of).sum();
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
    fn a_notification_is_kept_for_a_minute_while_others_come_and_go() {
        let (early, sessions, now) = (EarlyNotifications::default(), Sessions::default(), Instant::now());
        let later = |seconds| now + Duration::from_secs(seconds);
        early.keep("one", session(&sessions, 4), now);
        early.keep("one", session(&sessions, 1), later(50));
        for seconds in 51..109 {
            early.keep("one", session(&sessions, 2), later(seconds));
        }
        assert!(early.take(session(&sessions, 1), later(109)));
        early.keep("one", session(&sessions, 3), later(110));
        early.keep("one", session(&sessions, 3), later(175));
        assert!(early.take(session(&sessions, 3), later(176)), "the later one counts");
        assert!(!early.take(session(&sessions, 3), later(177)));
    }

    #[test]
    fn in_a_flood_the_oldest_give_way_and_those_of_another_portal_do_not() {
        let (early, sessions, now) = (EarlyNotifications::default(), Sessions::default(), Instant::now());
        let flood = 5 * MOST;
        let kept = || {
            let portals = early.0.lock();
            portals["one"].newer.len() + portals["one"].older.len()
        };
        early.keep("two", session(&sessions, 1), now);
        for number in 2..flood {
            early.keep("one", session(&sessions, number), now);
            assert!(kept() <= MOST);
        }
        assert!(early.take(session(&sessions, 1), now), "of another portal");
        let mut latest = flood - MOST / 2..flood;
        assert!(latest.all(|number| early.take(session(&sessions, number), now)));
        assert!(!early.take(session(&sessions, 2), now), "the oldest");
    }
}
