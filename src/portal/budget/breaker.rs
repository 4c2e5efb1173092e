//! Two circuit breakers: one for polls, one for creates.
//!
//! No clock: `now` is an argument. May depend on `backoff` and on [`waitlist`](super::waitlist).
//!
//! A closed breaker admits all requests. An open one admits none until a half-open period, in which single requests, the
//! trials, find out whether the portal has recovered. While creates are not admitted, probes (GETs without effect) find out
//! whether the portal responds at all.

use std::time::Duration;

use tokio::time::Instant;

use super::waitlist::Waitlist;
use crate::backoff::Backoff;

/// The failure rate of polls is measured over this time, in two halves.
const WINDOW: Duration = Duration::from_secs(20);
/// Fewer failures than this never open the breaker.
const MIN_FAILURES: u32 = 5;
/// An open breaker admits one poll in this time.
const TRIAL_INTERVAL: Duration = Duration::from_secs(1);
/// No poll is deferred for longer than this.
const MAX_WAIT: Duration = Duration::from_mins(2);
/// While creates wait, a probe is sent this often.
pub(crate) const PROBE_INTERVAL: Duration = Duration::from_secs(30);
/// While the trial of a create is in flight, the others try again after this.
const DURING_A_TRIAL: Duration = Duration::from_secs(5);

/// The breaker for polls: it opens when more than half of them fail, and one success closes it.
#[derive(Debug)]
pub(super) struct PollBreaker {
    /// Successes and failures in this half of the window, and in the one before.
    halves: [(u32, u32); 2],
    half_began: Instant,
    is_open: bool,
    next_trial: Instant,
    /// Deferred polls, each of which may become a trial.
    waitlist: Waitlist,
}

impl PollBreaker {
    pub(super) const fn new(now: Instant) -> Self {
        let waitlist = Waitlist::new(now, MAX_WAIT);
        Self { halves: [(0, 0); 2], half_began: now, is_open: false, next_trial: now, waitlist }
    }

    /// Admits a poll, or says when to try again.
    pub(super) fn admit(&mut self, now: Instant) -> Result<(), Instant> {
        if !self.is_open {
            return Ok(());
        }
        if self.next_trial <= now {
            // A trial that is a little late does not delay the next one.
            self.next_trial = (self.next_trial + TRIAL_INTERVAL).max(now + TRIAL_INTERVAL / 2);
            return Ok(());
        }
        Err(self.waitlist.join(now, TRIAL_INTERVAL))
    }

    pub(super) fn succeeded(&mut self, now: Instant) {
        if self.is_open {
            *self = Self::new(now);
        }
        self.roll_window(now);
        self.halves[0].0 += 1;
    }

    pub(super) fn failed(&mut self, now: Instant) {
        self.roll_window(now);
        self.halves[0].1 += 1;
        let (succeeded, failed) = (self.halves[0].0 + self.halves[1].0, self.halves[0].1 + self.halves[1].1);
        if !self.is_open && failed >= MIN_FAILURES && failed > succeeded {
            self.is_open = true;
            self.next_trial = now + TRIAL_INTERVAL;
        }
    }

    /// While it is open, when the next trial is due.
    pub(super) fn open_until(&self) -> Option<Instant> {
        self.is_open.then_some(self.next_trial)
    }

    fn roll_window(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.half_began);
        if passed >= WINDOW {
            self.halves = [(0, 0); 2];
            self.half_began = now;
        } else if passed >= WINDOW / 2 {
            self.halves = [(0, 0), self.halves[0]];
            self.half_began = now;
        }
    }
}

/// What a failed create means for the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Its outcome is unknown: another attempt may leave another orphan session.
    OutcomeUnknown,
    /// It created nothing: another attempt costs nothing.
    Harmless,
}

impl Failure {
    const fn backoff(self) -> Backoff {
        match self {
            Self::OutcomeUnknown => Backoff::new(Duration::from_mins(1), Duration::from_mins(10)),
            Self::Harmless => Backoff::new(Duration::from_secs(5), Duration::from_mins(5)),
        }
    }
}

/// The time in which probes are sent, at most one in each [`PROBE_INTERVAL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProbeWindow {
    /// When the next probe may be sent.
    pub opens: Instant,
    /// When a create may be sent instead.
    pub closes: Instant,
}

/// The breaker for creates: one failure opens it. Then one create at a time is admitted, with increasing waits, until one
/// succeeds. No other resource writes a claim meanwhile, so an outage leaves no claims without a request.
#[derive(Debug, Default)]
pub(super) struct CreateBreaker {
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    failure: Failure,
    failures: u32,
    failed_at: Instant,
    next: Instant,
    /// Whether the breaker is half-open.
    trial_in_flight: bool,
    next_probe: Instant,
    /// Whether a response to another request would be new information.
    is_silent: bool,
    /// Whether the portal responded to another request since the failure.
    has_responded: bool,
}

impl CreateBreaker {
    /// Admits a create, or says when to try again. `Ok(true)` is a trial: its end must be recorded, or it is abandoned.
    pub(super) fn admit(&mut self, now: Instant) -> Result<bool, Instant> {
        let Some(open) = &mut self.open else { return Ok(false) };
        if open.trial_in_flight {
            return Err(now + DURING_A_TRIAL);
        }
        if now < open.next {
            return Err(open.next);
        }
        open.trial_in_flight = true;
        Ok(true)
    }

    /// Whether a trial is in flight.
    pub(super) fn is_half_open(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.trial_in_flight)
    }

    /// Records a successful create. True if that closed the breaker.
    pub(super) const fn succeeded(&mut self) -> bool {
        self.open.take().is_some()
    }

    /// Whether the caller should send a probe now. If so, no other caller should for a while.
    pub(super) fn may_probe(&mut self, now: Instant) -> bool {
        let Some(open) = self.open.as_mut().filter(|open| open.next_probe <= now && now < open.next) else {
            return false;
        };
        // A probe that is a little late does not delay the next one.
        open.next_probe = (open.next_probe + PROBE_INTERVAL).max(now + PROBE_INTERVAL / 2);
        true
    }

    /// While creates wait, when probes are sent.
    pub(super) fn probe_window(&self, now: Instant) -> Option<ProbeWindow> {
        let open = self.open.as_ref().filter(|open| !open.trial_in_flight && now < open.next)?;
        Some(ProbeWindow { opens: open.next_probe, closes: open.next })
    }

    /// Records that a trial ended without saying anything about the portal.
    pub(super) const fn trial_abandoned(&mut self) {
        if let Some(open) = &mut self.open {
            open.trial_in_flight = false;
        }
    }

    pub(super) fn failed(&mut self, now: Instant, failure: Failure, is_trial: bool) {
        let before = match &self.open {
            // Creates that were in flight when it opened say nothing new.
            Some(open) if !is_trial => (open.failures, open.trial_in_flight),
            Some(open) => (open.failures.saturating_add(1), false),
            None => (0, false),
        };
        let (failures, trial_in_flight) = before;
        // A portal that responded before this failure may respond all along. One that did not may be down.
        let has_responded = self.open.as_ref().is_some_and(|open| open.has_responded);
        let wait = failure.backoff().wait(failures);
        self.open = Some(Open {
            failure,
            failures,
            failed_at: now,
            next: now + wait,
            trial_in_flight,
            next_probe: now + PROBE_INTERVAL,
            is_silent: !has_responded,
            has_responded: has_responded && !is_trial,
        });
    }

    /// Records that the portal did not respond to another request, so that its next response is new information.
    pub(super) const fn portal_did_not_respond(&mut self) {
        if let Some(open) = &mut self.open {
            open.is_silent = true;
        }
    }

    /// Records that the portal responded to another request. If it was silent before, or responded to none between the last
    /// two failures, it has recovered, and the next trial need not wait longer than the shortest wait. A portal that responded
    /// all along and still fails to create sessions says nothing new by it.
    pub(super) fn portal_responded(&mut self, now: Instant) {
        let Some(open) = &mut self.open else { return };
        open.has_responded = true;
        if open.is_silent {
            let shortest = open.failure.backoff().wait(0);
            open.next = open.next.min((open.failed_at + shortest).max(now));
        }
    }

    /// While it is open, when the next trial is due.
    pub(super) fn open_until(&self) -> Option<Instant> {
        self.open.as_ref().map(|open| open.next)
    }
}

#[cfg(test)]
mod tests;
