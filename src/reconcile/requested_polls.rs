//! Polls that notifications request: three at once for each session, then one in five seconds, and always one after the
//! last notification. State only: the time is an argument. May depend on `request_limits`.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::request_limits::RequestLimits;
use crate::{fairness::FairnessKey, index::RecordId, priority::Priority};

/// How many polls of one session may follow each other at once.
const AT_ONCE: u32 = 3;
/// After those, one poll in this time.
const EVERY: Duration = Duration::from_secs(5);
/// A requested poll is urgent if none was requested for this long before: whoever can send notifications cannot put the
/// polls of many sessions ahead of all others again and again.
const CALM: Duration = Duration::from_mins(1);
/// A poll is wanted for this long. By then the schedule has polled the session, if it may be polled at all.
const WANTED_FOR: Duration = Duration::from_hours(1);
/// Entries that are looked through for those that may be dropped, each time their number has doubled from this.
const FEW: usize = 64;

/// The requested polls by verification. A verification is in here only while a poll of it is wanted, and for a while after.
#[derive(Debug)]
pub(crate) struct RequestedPolls(Mutex<Requests>);

#[derive(Debug)]
struct Requests {
    by_record: HashMap<RecordId, Request>,
    limits: RequestLimits,
    look_through_at: usize,
}

#[derive(Clone, Copy, Debug)]
struct Request {
    /// From when three polls may follow each other at once again.
    recovered_at: Instant,
    /// When the last notification arrived.
    notified_at: Instant,
    /// The poll that is wanted and was not sent yet.
    wanted: Option<Wanted>,
    /// When the last notification arrived before the poll that was sent, until its response is remembered.
    awaiting_response: Option<Instant>,
}

/// A poll that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// From when it may be sent.
    pub(crate) from: Instant,
    /// Whether it goes before those that the schedule plans.
    pub(crate) is_urgent: bool,
}

impl Wanted {
    /// The priority of that poll, and of its reconcile. `planned`: that of a poll which the schedule plans.
    pub(crate) const fn priority(self, planned: Priority) -> Priority {
        if self.is_urgent { Priority::Requested } else { planned }
    }
}

impl RequestedPolls {
    /// `spacing`: the time between two requests at the rate of a key; zero, if that has no limit.
    pub(crate) fn new(spacing: Duration) -> Self {
        let limits = RequestLimits::new(spacing);
        Self(Mutex::new(Requests { by_record: HashMap::new(), limits, look_through_at: FEW }))
    }

    /// Requests a poll, and returns the one that is wanted now. `None` if one is wanted already, which answers this request
    /// too.
    pub(crate) fn request(
        &self,
        record_id: RecordId,
        fairness_key: FairnessKey,
        now: Instant,
    ) -> Option<Wanted> {
        let mut requests = self.0.lock();
        requests.drop_recovered(now);
        if let Some(request) = requests.by_record.get_mut(&record_id)
            && request.wanted_now(now).is_some()
        {
            request.notified_at = now;
            return None;
        }
        let before = requests.by_record.get(&record_id).copied();
        let recovered_at = before.map_or(now, |before| before.recovered_at.max(now));
        let soonest = recovered_at.checked_sub(EVERY * (AT_ONCE - 1)).unwrap_or(now);
        let is_urgent = before.is_none_or(|before| before.is_calm(now));
        // One that is left to the schedule is wanted as well: whichever poll comes next answers it.
        let allowed = requests.limits.take(fairness_key, is_urgent, now).unwrap_or(now + WANTED_FOR);
        let wanted = Wanted { from: soonest.max(allowed), is_urgent };
        let request = Request {
            recovered_at: recovered_at + EVERY,
            notified_at: now,
            wanted: Some(wanted),
            awaiting_response: before.and_then(|before| before.awaiting_response),
        };
        requests.by_record.insert(record_id, request);
        Some(wanted)
    }

    /// The poll that is wanted now: it was not sent yet, or its response was lost on the way into status.
    pub(crate) fn wanted(&self, record_id: RecordId, now: Instant) -> Option<Wanted> {
        let request = self.request_of(record_id)?;
        let again = request.awaits_response(now).then_some(Wanted { from: now, is_urgent: false });
        request.wanted_now(now).filter(|wanted| wanted.from <= now).or(again)
    }

    /// The poll that is wanted in the future.
    pub(crate) fn wanted_later(&self, record_id: RecordId, now: Instant) -> Option<Wanted> {
        self.request_of(record_id)?.wanted.filter(|wanted| wanted.from > now)
    }

    /// Notes that a poll is sent now, which answers what was requested so far. Returns when the last notification arrived
    /// that it answers, if one was requested.
    pub(crate) fn sent(&self, record_id: RecordId) -> Option<Instant> {
        let mut requests = self.0.lock();
        let request = requests.by_record.get_mut(&record_id)?;
        if request.wanted.take().is_some() {
            request.awaiting_response = Some(request.notified_at);
        }
        request.awaiting_response
    }

    /// Notes that the response to the poll that was sent is remembered, so that it is not sent again.
    pub(crate) fn responded(&self, record_id: RecordId) {
        if let Some(request) = self.0.lock().by_record.get_mut(&record_id) {
            request.awaiting_response = None;
        }
    }

    /// Forgets a verification that is gone.
    pub(crate) fn forget(&self, record_id: RecordId) {
        self.0.lock().by_record.remove(&record_id);
    }

    /// Bytes in use, approximately.
    pub(crate) fn memory(&self) -> usize {
        let requests = self.0.lock();
        requests.by_record.capacity() * (size_of::<(RecordId, Request)>() + 1) + requests.limits.memory()
    }

    fn request_of(&self, record_id: RecordId) -> Option<Request> {
        self.0.lock().by_record.get(&record_id).copied()
    }
}

impl Request {
    /// The poll that is wanted, unless it has been for too long.
    fn wanted_now(&self, now: Instant) -> Option<Wanted> {
        self.wanted.filter(|wanted| now.saturating_duration_since(wanted.from) < WANTED_FOR)
    }

    /// Whether a poll was sent whose response is not remembered, not too long ago.
    fn awaits_response(&self, now: Instant) -> bool {
        self.awaiting_response
            .is_some_and(|notified_at| now.saturating_duration_since(notified_at) < WANTED_FOR)
    }

    /// Whether there was no notification for a while.
    fn is_calm(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.notified_at) >= CALM
    }

    /// Whether it says something that a new one would not say.
    fn matters(&self, now: Instant) -> bool {
        self.awaits_response(now)
            || self.wanted_now(now).is_some()
            || self.recovered_at > now
            || !self.is_calm(now)
    }
}

impl Requests {
    fn drop_recovered(&mut self, now: Instant) {
        if self.by_record.len() < self.look_through_at {
            return;
        }
        self.by_record.retain(|_, request| request.matters(now));
        self.look_through_at = (2 * self.by_record.len()).max(FEW);
        self.by_record.shrink_to(self.look_through_at);
        self.limits.drop_unused(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: RecordId = RecordId { index: 1, tag: 0 };
    const KEY: FairnessKey = FairnessKey { namespace: 1, key: 1 };
    const SECOND: Duration = Duration::from_secs(1);

    fn unlimited() -> RequestedPolls {
        RequestedPolls::new(Duration::ZERO)
    }

    fn is_wanted(requested: &RequestedPolls, now: Instant) -> bool {
        requested.wanted(ONE, now).is_some()
    }

    /// Requests a poll, and returns from when it is wanted.
    fn request(requested: &RequestedPolls, now: Instant) -> Option<Instant> {
        requested.request(ONE, KEY, now).map(|wanted| wanted.from)
    }

    /// Sends a poll whose response is remembered, and returns whether one was requested.
    fn poll(requested: &RequestedPolls, record_id: RecordId) -> bool {
        let sent = requested.sent(record_id);
        requested.responded(record_id);
        sent.is_some()
    }

    #[test]
    fn ten_thousand_requests_lead_to_three_polls_at_once_and_then_one_in_five_seconds() {
        let (requested, begun) = (unlimited(), Instant::now());
        let mut sent = Vec::new();
        for number in 0..10_000_u32 {
            let now = begun + Duration::from_millis(2) * number;
            requested.request(ONE, KEY, now);
            if is_wanted(&requested, now) {
                assert!(poll(&requested, ONE));
                sent.push(now.duration_since(begun).as_secs());
            }
        }
        assert_eq!(sent, [0, 0, 0, 5, 10, 15]);
        let end = begun + SECOND * 20;
        assert!(requested.wanted_later(ONE, end).is_none_or(|wanted| wanted.from <= end + EVERY));
    }

    #[test]
    fn the_last_notification_is_followed_by_a_poll_whatever_came_before() {
        let (requested, now) = (unlimited(), Instant::now());
        for _ in 0..3 {
            assert_eq!(request(&requested, now), Some(now));
            assert!(poll(&requested, ONE));
        }
        let from = request(&requested, now).unwrap();
        assert_eq!(from, now + EVERY);
        assert!(!is_wanted(&requested, now) && is_wanted(&requested, from));
        assert_eq!(requested.wanted_later(ONE, now).map(|wanted| wanted.from), Some(from));
        assert_eq!(request(&requested, now), None, "one poll answers both");
        assert!(poll(&requested, ONE), "a regular poll answers it as well");
        assert!(!poll(&requested, ONE) && requested.wanted_later(ONE, now).is_none());
        assert_eq!(request(&requested, now), Some(now + EVERY * 2));
    }

    #[test]
    fn a_poll_answers_the_last_notification_that_arrived_before_it() {
        let (requested, now) = (unlimited(), Instant::now());
        requested.request(ONE, KEY, now);
        requested.request(ONE, KEY, now + SECOND);
        assert_eq!(requested.sent(ONE), Some(now + SECOND));
        requested.request(ONE, KEY, now + SECOND * 2);
        assert_eq!(requested.sent(ONE), Some(now + SECOND * 2), "the response to the first was lost");
    }

    #[test]
    fn a_poll_whose_response_was_lost_on_the_way_into_status_is_wanted_again() {
        let (requested, now) = (unlimited(), Instant::now());
        requested.request(ONE, KEY, now);
        assert!(requested.sent(ONE).is_some());
        assert!(is_wanted(&requested, now), "the reconcile ended before anything was remembered");
        assert_eq!(requested.wanted_later(ONE, now), None, "its retry is not hastened");
        assert!(poll(&requested, ONE), "the next poll answers the same request");
        assert!(!is_wanted(&requested, now) && !poll(&requested, ONE));
    }

    #[test]
    fn a_requested_poll_is_urgent_only_after_a_minute_without_notifications() {
        let (requested, begun) = (unlimited(), Instant::now());
        let mut urgent = Vec::new();
        for seconds in (0..600).step_by(5).chain([654, 655, 720]) {
            let now = begun + SECOND * seconds;
            let wanted = requested.request(ONE, KEY, now).unwrap();
            assert_eq!(requested.wanted(ONE, now), Some(wanted));
            assert!(poll(&requested, ONE));
            urgent.extend(wanted.is_urgent.then_some(seconds));
        }
        assert_eq!(urgent, [0, 720]);
    }

    #[test]
    fn a_poll_that_could_not_be_sent_is_wanted_for_an_hour() {
        let (requested, begun) = (unlimited(), Instant::now());
        requested.request(ONE, KEY, begun);
        assert!(is_wanted(&requested, begun + WANTED_FOR - SECOND));
        assert!(!is_wanted(&requested, begun + WANTED_FOR));
        let fill = |seconds: u32| {
            for index in 2..200 {
                let record_id = RecordId { index, tag: 0 };
                requested.request(record_id, KEY, begun + SECOND * seconds);
                requested.sent(record_id);
            }
        };
        fill(1);
        assert!(requested.0.lock().by_record.len() > FEW, "they are wanted, or their responses are awaited");
        requested.request(RecordId { index: 1000, tag: 0 }, KEY, begun + WANTED_FOR * 2);
        requested.0.lock().look_through_at = FEW;
        requested.request(RecordId { index: 1001, tag: 0 }, KEY, begun + WANTED_FOR * 2);
        assert_eq!(requested.0.lock().by_record.len(), 2);
    }

    #[test]
    fn beyond_the_limit_of_its_key_a_request_is_answered_by_the_poll_that_is_planned() {
        let (requested, now) = (RequestedPolls::new(Duration::from_millis(20)), Instant::now());
        for index in 2..10_000 {
            requested.request(RecordId { index, tag: 0 }, KEY, now);
        }
        let wanted = requested.request(ONE, KEY, now).unwrap();
        assert_eq!(wanted, Wanted { from: now + WANTED_FOR, is_urgent: true });
        assert_eq!(requested.sent(ONE), Some(now));
        let other = FairnessKey { namespace: 2, ..KEY };
        let wanted = requested.request(RecordId { index: 10_000, tag: 0 }, other, now);
        assert_eq!(wanted, Some(Wanted { from: now, is_urgent: true }));
    }

    #[test]
    fn verifications_that_had_no_notification_for_a_while_take_no_memory() {
        let (requested, begun) = (unlimited(), Instant::now());
        for index in 0..10_000 {
            let record_id = RecordId { index, tag: 0 };
            requested.request(record_id, KEY, begun + SECOND * index);
            poll(&requested, record_id);
        }
        assert!(requested.0.lock().by_record.len() <= 2 * FEW);
        requested.request(ONE, KEY, begun);
        requested.forget(ONE);
        assert!(!is_wanted(&requested, begun));
    }
}
