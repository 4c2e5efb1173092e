//! Polls that notifications request: three at once for each session, then one in five seconds, and always one after the
//! last notification. State only: the time is an argument.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::index::RecordId;

/// How many polls of one session may follow each other at once.
const AT_ONCE: u32 = 3;
/// After those, one poll in this time.
const EVERY: Duration = Duration::from_secs(5);
/// Entries that are looked through for those that may be dropped, each time their number has doubled from this.
const FEW: usize = 64;

/// The requested polls by verification. A verification is in here only while a poll of it is wanted, and for a while after.
#[derive(Debug)]
pub(crate) struct RequestedPolls(Mutex<Requests>);

#[derive(Debug)]
struct Requests {
    by_record: HashMap<RecordId, Request>,
    look_through_at: usize,
}

#[derive(Clone, Copy, Debug)]
struct Request {
    /// From when three polls may follow each other at once again.
    recovered_at: Instant,
    /// From when a poll is wanted that was not sent yet.
    wanted_from: Option<Instant>,
}

impl Default for RequestedPolls {
    fn default() -> Self {
        Self(Mutex::new(Requests { by_record: HashMap::new(), look_through_at: FEW }))
    }
}

impl RequestedPolls {
    /// Requests a poll, and returns when to send it. `None` if one is wanted already, which answers this request too.
    pub(crate) fn request(&self, record_id: RecordId, now: Instant) -> Option<Instant> {
        let mut requests = self.0.lock();
        requests.drop_recovered(now);
        let fresh = Request { recovered_at: now, wanted_from: None };
        let request = requests.by_record.entry(record_id).or_insert(fresh);
        if request.wanted_from.is_some() {
            return None;
        }
        let recovered_at = request.recovered_at.max(now);
        let soonest = recovered_at.checked_sub(EVERY * (AT_ONCE - 1)).unwrap_or(now);
        let wanted_from = soonest.max(now);
        *request = Request { recovered_at: recovered_at + EVERY, wanted_from: Some(wanted_from) };
        request.wanted_from
    }

    /// Whether a poll is wanted now.
    pub(crate) fn is_wanted(&self, record_id: RecordId, now: Instant) -> bool {
        self.wanted_from(record_id).is_some_and(|wanted_from| wanted_from <= now)
    }

    /// From when on a poll is wanted, if that is in the future.
    pub(crate) fn wanted_later(&self, record_id: RecordId, now: Instant) -> Option<Instant> {
        self.wanted_from(record_id).filter(|wanted_from| *wanted_from > now)
    }

    /// Notes that a poll is sent now, which answers what was requested so far. True if one was requested.
    pub(crate) fn sent(&self, record_id: RecordId) -> bool {
        let mut requests = self.0.lock();
        requests.by_record.get_mut(&record_id).is_some_and(|request| request.wanted_from.take().is_some())
    }

    /// Forgets a verification that is gone.
    pub(crate) fn forget(&self, record_id: RecordId) {
        self.0.lock().by_record.remove(&record_id);
    }

    /// Bytes in use, approximately.
    pub(crate) fn memory(&self) -> usize {
        self.0.lock().by_record.capacity() * (size_of::<(RecordId, Request)>() + 1)
    }

    fn wanted_from(&self, record_id: RecordId) -> Option<Instant> {
        self.0.lock().by_record.get(&record_id)?.wanted_from
    }
}

impl Requests {
    fn drop_recovered(&mut self, now: Instant) {
        if self.by_record.len() < self.look_through_at {
            return;
        }
        self.by_record.retain(|_, request| request.wanted_from.is_some() || request.recovered_at > now);
        self.look_through_at = (2 * self.by_record.len()).max(FEW);
        self.by_record.shrink_to(self.look_through_at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: RecordId = RecordId { index: 1, tag: 0 };
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn ten_thousand_requests_lead_to_three_polls_at_once_and_then_one_in_five_seconds() {
        let (requested, begun) = (RequestedPolls::default(), Instant::now());
        let mut sent = Vec::new();
        for number in 0..10_000_u32 {
            let now = begun + Duration::from_millis(2) * number;
            requested.request(ONE, now);
            if requested.is_wanted(ONE, now) {
                assert!(requested.sent(ONE));
                sent.push(now.duration_since(begun).as_secs());
            }
        }
        assert_eq!(sent, [0, 0, 0, 5, 10, 15]);
        let end = begun + SECOND * 20;
        assert!(requested.wanted_later(ONE, end).is_none_or(|at| at <= end + EVERY));
    }

    #[test]
    fn the_last_notification_is_followed_by_a_poll_whatever_came_before() {
        let (requested, now) = (RequestedPolls::default(), Instant::now());
        for _ in 0..3 {
            assert_eq!(requested.request(ONE, now), Some(now));
            assert!(requested.sent(ONE));
        }
        let wanted_from = requested.request(ONE, now).unwrap();
        assert_eq!(wanted_from, now + EVERY);
        assert!(!requested.is_wanted(ONE, now) && requested.is_wanted(ONE, wanted_from));
        assert_eq!(requested.wanted_later(ONE, now), Some(wanted_from));
        assert_eq!(requested.request(ONE, now), None, "one poll answers both");
        assert!(requested.sent(ONE), "a regular poll answers it as well");
        assert!(!requested.sent(ONE) && requested.wanted_later(ONE, now).is_none());
        assert_eq!(requested.request(ONE, now), Some(now + EVERY * 2));
    }

    #[test]
    fn verifications_that_had_no_notification_for_a_while_take_no_memory() {
        let (requested, begun) = (RequestedPolls::default(), Instant::now());
        for index in 0..10_000 {
            let record_id = RecordId { index, tag: 0 };
            requested.request(record_id, begun + SECOND * index);
            requested.sent(record_id);
        }
        assert!(requested.0.lock().by_record.len() <= FEW);
        requested.request(ONE, begun);
        requested.forget(ONE);
        assert!(!requested.is_wanted(ONE, begun));
    }
}
