//! Conclusions of waiting: nothing is new except what the resource waits for.

use std::time::Duration;

use jiff::Timestamp;

use super::{Conclusion, Draft, Requeue};
use crate::{
    api::Reason,
    lifecycle::{
        blocker::Blocker,
        facts::Facts,
        interruption::Interruption,
        key_fact::{KeyFact, KeyFault},
        local_state::LocalState,
        schedule::ttl_checked_at,
        since::{elapsed, later},
        state::State,
        step::{Refusal, Wait},
    },
};

/// Errors of an open session stay out of status for this long: an outage must not write every status.
pub(super) const OUTAGE_SHOWN_AFTER: Duration = Duration::from_mins(5);
/// A poll that has been due for this long counts as failed: a single response may be lost.
const OVERDUE: Duration = Duration::from_mins(1);
/// A pause stays out of the status of a session for this long.
const PAUSE_SHOWN_AFTER: Duration = Duration::from_mins(1);
/// How often the Secret is read again while the portal refuses its key.
pub(crate) const SECRET_READ_AGAIN: Duration = Duration::from_mins(1);
/// A shorter wait for the rate limit is not worth a write.
const SHORT: Duration = Duration::from_secs(1);
/// How often a missing key is looked for at first.
pub(crate) const MISSING_KEY_CHECKED_EVERY: Duration = Duration::from_secs(4);
/// For how long it is looked for that often.
const MISSING_KEY_CHECKED_OFTEN_FOR: Duration = Duration::from_mins(10);

impl Draft<'_> {
    pub(super) fn wait(mut self, wait: Wait, state: &State) -> Conclusion {
        self.waits_for = Some(wait);
        if let Wait::Admission(Refusal::Rate(until)) = wait
            && elapsed(self.facts.now, until) < SHORT
        {
            return self.unwritten(Requeue::At(until));
        }
        self.inputs.interruption = self.lasting_interruption();
        self.inputs.credentials = self.credentials_unless_missing();
        let now = self.facts.now;
        let next = match wait {
            Wait::Key(fault) => self.wait_for_key(fault),
            Wait::Admission(refusal) => self.wait_for_admission(refusal, state),
            Wait::InFlight(until) => Requeue::At(until),
            Wait::Ttl(end) => Requeue::At(ttl_checked_at(end, now, self.facts.jitter_seed)),
            Wait::Due(at) if self.local_state.refused_key.is_some() => {
                Requeue::At(at.min(later(now, SECRET_READ_AGAIN)))
            }
            Wait::Due(at) => Requeue::At(at),
        };
        if !matches!(wait, Wait::Key(_)) && matches!(self.facts.key, KeyFact::Usable { .. }) {
            self.local_state.key_missing = None;
        }
        // This write acknowledges a requested poll, so the schedule must remember the request.
        if self.facts.requests_poll(self.before) {
            self.local_state.next = Some(match wait {
                Wait::Due(at) => at,
                Wait::Key(_) | Wait::Admission(_) | Wait::InFlight(_) | Wait::Ttl(_) => now,
            });
        }
        self.finish(next)
    }

    fn wait_for_admission(&mut self, refusal: Refusal, state: &State) -> Requeue {
        let now = self.facts.now;
        match refusal {
            // An open session shows only what its own polls met.
            Refusal::KeyRejected(until)
                if matches!(state, State::Open { .. }) && !self.was_refused_this_key() =>
            {
                Requeue::At(until.min(later(now, SECRET_READ_AGAIN)))
            }
            Refusal::KeyRejected(until) => self.wait_for_another_key(until),
            Refusal::Paused(until) => {
                let since = self.pause();
                if !self.has_session() || elapsed(since, now) >= PAUSE_SHOWN_AFTER {
                    Requeue::At(until)
                } else {
                    Requeue::At(until.min(later(since, PAUSE_SHOWN_AFTER)))
                }
            }
            Refusal::Breaker(until) if !self.has_session() && *state != State::Claimed => {
                let shown_at = self.block_behind(self.refused_for.unwrap_or(Blocker::NoUsableAnswer));
                Requeue::At(shown_at.map_or(until, |shown_at| until.min(shown_at)))
            }
            Refusal::Breaker(until) => {
                let is_shown = self.failure_is_shown() || is_outage(&self.local_state, now);
                if is_shown && *state != State::Claimed {
                    self.inputs.interruption = self.retry_interruption();
                }
                Requeue::At(until)
            }
            Refusal::Rate(until) => Requeue::At(until),
        }
    }

    /// Whether the portal refused the current key in a call for this resource.
    fn was_refused_this_key(&self) -> bool {
        self.local_state.refused_key.is_some() && self.local_state.refused_key == fingerprint(self.facts)
    }

    /// The portal refuses this key, so no call is made with it for a while.
    fn wait_for_another_key(&mut self, until: Timestamp) -> Requeue {
        let again = until.min(later(self.facts.now, SECRET_READ_AGAIN));
        let denied = match self.credentials_before() {
            _ if self.facts.key_version.is_previous() && self.has_session() => Blocker::KeyRotated,
            Some(Reason::AccessDenied) => Blocker::AccessDenied,
            Some(Reason::KeyRotated) => Blocker::KeyRotated,
            _ => Blocker::KeyRejected,
        };
        // Without a refusal of its own, the resource shows what others have met.
        if !self.has_session() && !self.was_refused_this_key() {
            let met = self.refused_for;
            let denied = met
                .filter(|met| matches!(met, Blocker::KeyRejected | Blocker::AccessDenied))
                .unwrap_or(denied);
            let shown_at = self.block_behind(denied);
            if self.inputs.interruption.blocker() == Some(denied) {
                self.inputs.credentials = Some(denied.reason());
            }
            return Requeue::At(shown_at.map_or(again, |shown_at| again.min(shown_at)));
        }
        self.inputs.credentials = Some(denied.reason());
        let lasting = self.lasting_interruption();
        self.block(denied);
        // A stall that is shown already stays until this one becomes Stalled as well.
        if let (Interruption::Stalled(_), Interruption::Blocked(_)) = (lasting, self.inputs.interruption) {
            self.inputs.interruption = lasting;
        }
        Requeue::At(again)
    }

    fn wait_for_key(&mut self, fault: KeyFault) -> Requeue {
        self.inputs.credentials = Some(fault.reason());
        self.local_state.blocked_since = None;
        if !self.has_session() {
            self.inputs.interruption = Interruption::Blocked(Blocker::Key(fault));
        }
        let since = *self.local_state.key_missing.get_or_insert(self.facts.now);
        Requeue::At(missing_key_checked_at(since, self.facts.now))
    }

    /// Failed requests show at once while there is no link, and after five minutes once there is one.
    pub(super) fn failure_is_shown(&self) -> bool {
        !self.has_session()
            || self
                .local_state
                .failing
                .is_some_and(|failing| is_shown_since(failing.since, &self.local_state, self.facts.now))
            || self.interruption_before() == Interruption::Retry
    }

    /// A failed request does not replace an unknown outcome or an error that only a person can resolve.
    pub(super) fn retry_interruption(&self) -> Interruption {
        match self.lasting_interruption() {
            lasting @ (Interruption::RetryingCreate | Interruption::Stalled(_)) => lasting,
            Interruption::None
            | Interruption::Blocked(_)
            | Interruption::Retry
            | Interruption::RateLimited
            | Interruption::Suspended => Interruption::Retry,
        }
    }

    /// Shows a pause that the portal asked for: at once while there is no link, otherwise once it is long enough.
    /// Returns when it began.
    pub(super) fn pause(&mut self) -> Timestamp {
        let since = *self.local_state.paused.get_or_insert(self.facts.now);
        let lasting = self.lasting_interruption();
        let is_shown = !self.has_session() || elapsed(since, self.facts.now) >= PAUSE_SHOWN_AFTER;
        self.inputs.interruption = match lasting {
            Interruption::Stalled(_) => lasting,
            Interruption::RetryingCreate if !self.has_session() => lasting,
            _ if is_shown => Interruption::RateLimited,
            Interruption::None
            | Interruption::Blocked(_)
            | Interruption::Retry
            | Interruption::RateLimited
            | Interruption::RetryingCreate
            | Interruption::Suspended => lasting,
        };
        since
    }
}

/// Whether status shows that the polls of a session fail: five minutes after a poll was due, or five minutes after the
/// last 200 if a poll has been due for a minute.
#[must_use]
pub(crate) fn is_outage(local_state: &LocalState, now: Timestamp) -> bool {
    let failing = local_state.failing.map(|failing| failing.since);
    let Some(since) = failing.into_iter().chain(local_state.next).min() else { return false };
    is_shown_since(since, local_state, now)
}

/// Whether errors that began at this time are shown.
fn is_shown_since(since: Timestamp, local_state: &LocalState, now: Timestamp) -> bool {
    let without_answer = local_state.last_answer.map_or(Duration::ZERO, |last| elapsed(last, now));
    let overdue = elapsed(since, now);
    overdue >= OUTAGE_SHOWN_AFTER || (overdue >= OVERDUE && without_answer >= OUTAGE_SHOWN_AFTER)
}

/// When to look again for a key that has been missing since then.
#[must_use]
pub(crate) fn missing_key_checked_at(since: Timestamp, now: Timestamp) -> Timestamp {
    let is_new = elapsed(since, now) < MISSING_KEY_CHECKED_OFTEN_FOR;
    later(now, if is_new { MISSING_KEY_CHECKED_EVERY } else { SECRET_READ_AGAIN })
}

/// The fingerprint of the current key.
pub(super) fn fingerprint(facts: &Facts) -> Option<String> {
    match &facts.key {
        KeyFact::Usable { fingerprint } => Some(fingerprint.clone()),
        KeyFact::Missing(_) => None,
    }
}
