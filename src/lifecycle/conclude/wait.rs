//! Conclusions of waiting: nothing new is known but what is waited for.

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
        since::{elapsed, later},
        state::State,
        step::{Refusal, Wait},
    },
};

/// How long errors of an open session stay out of status: an outage must not write every status.
pub(super) const OUTAGE_SHOWN_AFTER: Duration = Duration::from_mins(5);
/// How long a poll has to be due before it counts as not answered: one answer alone may be lost.
const OVERDUE: Duration = Duration::from_mins(1);
/// How long a pause stays out of the status of a session.
const PAUSE_SHOWN_AFTER: Duration = Duration::from_mins(1);
/// How often the Secret is read again while its key is refused.
pub const SECRET_READ_AGAIN: Duration = Duration::from_mins(1);
/// A wait for the rate that is shorter is not worth a write.
const SHORT: Duration = Duration::from_secs(1);
/// How often a missing key is checked for at first.
pub const KEY_SOUGHT_EVERY: Duration = Duration::from_secs(4);
/// How long a missing key is checked for that often.
const KEY_SOUGHT_FOR: Duration = Duration::from_mins(10);

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
            Wait::Due(at) if self.local_state.refused_key.is_some() => {
                Requeue::At(at.min(later(now, SECRET_READ_AGAIN)))
            }
            Wait::Due(at) => Requeue::At(at),
        };
        if !matches!(wait, Wait::Key(_)) && matches!(self.facts.key, KeyFact::Usable { .. }) {
            self.local_state.key_missing = None;
        }
        // A request is echoed by this very write, so the schedule has to remember it.
        if self.facts.requests_poll(self.before) {
            self.local_state.next = Some(match wait {
                Wait::Due(at) => at,
                Wait::Key(_) | Wait::Admission(_) | Wait::InFlight(_) => now,
            });
        }
        self.finish(next)
    }

    fn wait_for_admission(&mut self, refusal: Refusal, state: &State) -> Requeue {
        let now = self.facts.now;
        match refusal {
            // What is shown of an open session is what was answered to its own polls.
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

    /// Whether the portal refused the present key in a call for this resource.
    fn was_refused_this_key(&self) -> bool {
        self.local_state.refused_key.is_some() && self.local_state.refused_key == fingerprint(self.facts)
    }

    /// The portal refuses this key: no call is made with it for a while.
    fn wait_for_another_key(&mut self, until: Timestamp) -> Requeue {
        let again = until.min(later(self.facts.now, SECRET_READ_AGAIN));
        let denied = match self.credentials_before() {
            Some(Reason::AccessDenied) => Blocker::AccessDenied,
            Some(Reason::KeyRotated) => Blocker::KeyRotated,
            _ => Blocker::KeyRejected,
        };
        // Without a refusal of its own, it shows what others have met.
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
        // What a person is waited for already stays shown until this one is Stalled as well.
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
        Requeue::At(key_sought_again(since, self.facts.now))
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

    /// A failure does not replace an unknown outcome, or what only a person can end.
    pub(super) fn retry_interruption(&self) -> Interruption {
        match self.lasting_interruption() {
            lasting @ (Interruption::Healing | Interruption::Stalled(_)) => lasting,
            Interruption::Plain
            | Interruption::Blocked(_)
            | Interruption::Retry
            | Interruption::RateLimited
            | Interruption::Suspended => Interruption::Retry,
        }
    }

    /// Shows a pause that the portal asks for, before there is a link at once and then once it is long enough, and
    /// returns since when it lasts.
    pub(super) fn pause(&mut self) -> Timestamp {
        let since = *self.local_state.paused.get_or_insert(self.facts.now);
        let lasting = self.lasting_interruption();
        let is_shown = !self.has_session() || elapsed(since, self.facts.now) >= PAUSE_SHOWN_AFTER;
        self.inputs.interruption = match lasting {
            Interruption::Stalled(_) => lasting,
            Interruption::Healing if !self.has_session() => lasting,
            _ if is_shown => Interruption::RateLimited,
            Interruption::Plain
            | Interruption::Blocked(_)
            | Interruption::Retry
            | Interruption::RateLimited
            | Interruption::Healing
            | Interruption::Suspended => lasting,
        };
        since
    }
}

/// Whether a session has gone without an answer for so long that its status says so: five minutes after a poll was due,
/// or after the last 200, if a poll has been due for a minute by then.
#[must_use]
pub fn is_outage(local_state: &LocalState, now: Timestamp) -> bool {
    let failing = local_state.failing.map(|failing| failing.since);
    let Some(since) = failing.into_iter().chain(local_state.next).min() else { return false };
    is_shown_since(since, local_state, now)
}

/// Whether errors that last since then are shown.
fn is_shown_since(since: Timestamp, local_state: &LocalState, now: Timestamp) -> bool {
    let without_answer = local_state.last_answer.map_or(Duration::ZERO, |last| elapsed(last, now));
    let overdue = elapsed(since, now);
    overdue >= OUTAGE_SHOWN_AFTER || (overdue >= OVERDUE && without_answer >= OUTAGE_SHOWN_AFTER)
}

/// When to check again for a key that is missing since then.
#[must_use]
pub fn key_sought_again(since: Timestamp, now: Timestamp) -> Timestamp {
    let is_new = elapsed(since, now) < KEY_SOUGHT_FOR;
    later(now, if is_new { KEY_SOUGHT_EVERY } else { SECRET_READ_AGAIN })
}

/// The fingerprint of the key that is used.
pub(super) fn fingerprint(facts: &Facts) -> Option<String> {
    match &facts.key {
        KeyFact::Usable { fingerprint } => Some(fingerprint.clone()),
        KeyFact::Missing(_) => None,
    }
}
