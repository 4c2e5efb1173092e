//! What one portal may be asked with one key: rate, pauses, breakers, and the gate of a refused key. No clock: `now` is
//! an argument.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    APART, BudgetSettings, Closed,
    breaker::{CreateBreaker, Failure, PollBreaker},
    gate::{KeyGate, SessionHash},
    line::Lines,
    shares::Shares,
    uses_reserve,
    whole::Whole,
};
use crate::{
    backoff::Backoff,
    portal::error::{Call, PortalError},
    priority::Priority,
};

/// Pauses in a row double from the first to the second, unless a `Retry-After` asks for more.
const PAUSE: Backoff = Backoff::new(Duration::from_secs(5), Duration::from_mins(2));
/// No pause is longer.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_mins(15);
/// A budget that nobody used for this long is dropped.
const UNUSED: Duration = Duration::from_hours(1);
/// One with which no call ever went out is dropped after this: it holds nothing but places in line.
const UNTRIED: Duration = Duration::from_mins(1);

/// What a call finds out for the others.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Probes {
    pub(super) key: bool,
    pub(super) creates: bool,
}

/// What calls of a kind have met last that kept others from going out.
#[derive(Clone, Copy, Debug, Default)]
struct Cause {
    refused: Option<PortalError>,
    failed: Option<PortalError>,
}

/// One portal and key.
#[derive(Debug)]
pub(super) struct BudgetState {
    shares: Option<Shares>,
    looks: PollBreaker,
    creates: CreateBreaker,
    paused_until: Option<Instant>,
    pauses: u32,
    key: KeyGate,
    /// What closed the gate to creates, and to looks.
    causes: [Cause; 2],
    /// Those who wait for the rate, or for another call to find out something.
    lines: Lines,
    used_at: Instant,
    /// Whether a call ever went out.
    is_tried: bool,
    /// When a poll was last answered with 200 and the session that was asked for.
    pub(super) polled_at: Option<Instant>,
}

impl BudgetState {
    pub(super) fn new(settings: BudgetSettings, now: Instant) -> Self {
        Self {
            shares: settings.key_rate.map(|rate| Shares::new(rate, settings.burst, now)),
            looks: PollBreaker::new(now),
            creates: CreateBreaker::default(),
            paused_until: None,
            pauses: 0,
            key: KeyGate::new(),
            causes: [Cause::default(); 2],
            lines: Lines::new(now),
            used_at: now,
            is_tried: false,
            polled_at: None,
        }
    }

    pub(super) fn is_unused(&self, now: Instant) -> bool {
        let dropped_after = if self.is_tried { UNUSED } else { UNTRIED };
        now.saturating_duration_since(self.used_at) >= dropped_after
    }

    /// Whether a call ever went out.
    pub(super) const fn is_tried(&self) -> bool {
        self.is_tried
    }

    /// Whether the call may go out, and what it probes. What could refuse it is asked from the harshest on, and only
    /// the last ones take something.
    pub(super) fn admit(
        &mut self,
        whole: &mut Whole,
        now: Instant,
        (call, priority): (Call, Priority),
        namespace: u32,
    ) -> Result<Probes, (Instant, Closed)> {
        self.used_at = now;
        if let Some(until) = self.key.refused_until(now, call) {
            return Err((until, Closed::KeyRejected));
        }
        if let Some((from, closed)) = self.key.is_tried(now, call) {
            return Err((self.line_up(namespace, priority, from), closed));
        }
        if let Some(until) = self.paused_until.filter(|until| *until > now) {
            return Err((until, Closed::Paused));
        }
        let probes_creates = match call {
            Call::Create => match self.creates.admit(now) {
                Ok(probes) => probes,
                Err(until) if self.creates.is_probed() => {
                    return Err((self.line_up(namespace, priority, until), Closed::Breaker));
                }
                Err(until) => return Err((until, Closed::Breaker)),
            },
            Call::Poll => {
                self.looks.admit(now).map_err(|until| (until, Closed::Breaker))?;
                false
            }
        };
        if let Err(until) = self.take(whole, now, (call, priority), namespace) {
            if probes_creates {
                self.creates.gave_back();
            }
            return Err((until, Closed::Rate));
        }
        self.is_tried = true;
        Ok(Probes { key: self.key.goes(now, call), creates: probes_creates })
    }

    /// Takes a token of the key and a place at the portal, or neither.
    fn take(
        &mut self,
        whole: &mut Whole,
        now: Instant,
        (call, priority): (Call, Priority),
        namespace: u32,
    ) -> Result<(), Instant> {
        if let Some(shares) = &mut self.shares {
            shares.take(now, namespace, priority, uses_reserve(priority))?;
        }
        let admitted = whole.admit(now, namespace, priority, self.key.tries(call));
        if admitted.is_err()
            && let Some(shares) = &mut self.shares
        {
            shares.give_back(namespace);
        }
        admitted
    }

    /// When to come again: those who are sent away come back as fast as the full rate lets them go.
    fn line_up(&mut self, namespace: u32, priority: Priority, from: Instant) -> Instant {
        match &mut self.shares {
            Some(shares) => shares.line_up(namespace, priority, from),
            None => self.lines.place(priority, from, APART),
        }
    }

    /// The call did not go out, or nobody knows how it ended.
    pub(super) fn gave_back(&mut self, call: Call, probes: Probes) {
        if probes.key {
            self.key.gave_back(call);
        }
        if probes.creates {
            self.creates.gave_back();
        }
    }

    /// What is closed, and until when: a pause, a breaker, a refused key. The last two stay closed until a call finds out
    /// that they need not, however long that takes.
    pub(super) fn closed_now(&self, now: Instant) -> impl Iterator<Item = (Closed, Instant)> {
        let breakers = [self.looks.open_until(), self.creates.open_until()];
        let breaker = breakers.into_iter().flatten().max().map(|until| (Closed::Breaker, until.max(now)));
        let paused = self.paused_until.map(|until| (Closed::Paused, until));
        let refused = self.key.closed_until().map(|until| (Closed::KeyRejected, until.max(now)));
        paused.filter(|(_, until)| *until > now).into_iter().chain(breaker).chain(refused)
    }

    /// How much every interval is to be stretched, at least 1.
    pub(super) fn stretch(&mut self, now: Instant, namespace: u32) -> f64 {
        self.shares.as_mut().map_or(1.0, |shares| shares.stretch(now, namespace))
    }

    /// Whether a call without effect shall find out now if the portal answers.
    pub(super) fn ping(&mut self, now: Instant) -> bool {
        self.creates.ping(now)
    }

    /// Whether creates wait for the answer to the first call with the key.
    pub(super) fn awaits_first_answer(&self, now: Instant) -> bool {
        self.key.is_tried(now, Call::Create).is_some()
    }

    pub(super) fn closed(&self, now: Instant) -> Option<(Instant, Closed)> {
        let refused = self.key.refused_until(now, Call::Poll).map(|until| (until, Closed::KeyRejected));
        let closed = refused.or_else(|| self.paused_until.map(|until| (until, Closed::Paused)));
        closed.filter(|(until, _)| *until > now)
    }

    /// What the last of those calls met for which such calls may not go out now, as far as it is known.
    pub(super) const fn cause(&self, call: Call, closed: Closed) -> Option<PortalError> {
        let [of_creates, of_looks] = self.causes;
        let cause = match call {
            Call::Create => of_creates,
            Call::Poll => of_looks,
        };
        match closed {
            Closed::KeyRejected => cause.refused,
            Closed::Breaker => cause.failed,
            Closed::Paused | Closed::Rate => None,
        }
    }

    fn note_cause(&mut self, call: Call, error: PortalError) {
        let [of_creates, of_looks] = &mut self.causes;
        match (call, error) {
            (_, PortalError::Limited { retry_after: _ }) | (Call::Poll, PortalError::AccessDenied) => {}
            (Call::Create, PortalError::KeyRejected | PortalError::AccessDenied) => {
                of_creates.refused = Some(error);
            }
            (Call::Poll, PortalError::KeyRejected) => of_looks.refused = Some(error),
            (
                _,
                PortalError::NotSent(_)
                | PortalError::Invalid
                | PortalError::NotFound
                | PortalError::Conflict
                | PortalError::Redirected
                | PortalError::Unconfigured
                | PortalError::Unclear { status: _ }
                | PortalError::Failed(_),
            ) => match call {
                Call::Create => of_creates.failed = Some(error),
                Call::Poll if !error.is_answer_of_the_portal() => of_looks.failed = Some(error),
                Call::Poll => {}
            },
        }
    }

    /// Takes in how a call ended. True, if creates that had to wait may go on by it.
    pub(super) fn report(
        &mut self,
        now: Instant,
        call: Call,
        session: Option<SessionHash>,
        probes: Probes,
        result: Result<(), &PortalError>,
    ) -> bool {
        let mut creates_go_on = false;
        self.key.ended(now, call, session, probes.key, result);
        if let Err(error) = result {
            self.note_cause(call, *error);
        }
        match result {
            Ok(()) => {
                self.pauses = 0;
                match call {
                    Call::Create => creates_go_on = self.creates.succeeded(),
                    Call::Poll => self.creates.portal_answers(now),
                }
                self.looks.succeeded(now);
            }
            Err(PortalError::Limited { retry_after }) => {
                // Those that were under way when the pause began say nothing new.
                if self.paused_until.is_none_or(|until| until <= now) {
                    self.pauses = self.pauses.saturating_add(1);
                }
                let own = PAUSE.wait(self.pauses.saturating_sub(1));
                // No time at all, or a date that has passed, is no leave to go on as before.
                let pause = retry_after.map_or(own, |asked| asked.max(own)).min(LONGEST_PAUSE);
                self.paused_until =
                    Some(self.paused_until.map_or(now + pause, |until| until.max(now + pause)));
                if let Some(shares) = &mut self.shares {
                    shares.halve(now);
                }
                if probes.creates {
                    self.creates.gave_back();
                }
            }
            Err(error) => self.failed(now, call, probes, error),
        }
        creates_go_on
    }

    fn failed(&mut self, now: Instant, call: Call, probes: Probes, error: &PortalError) {
        let failure = match error {
            PortalError::Failed(_) => Some(Failure::Lost),
            PortalError::NotSent(_)
            | PortalError::Invalid
            | PortalError::NotFound
            | PortalError::Conflict
            | PortalError::Redirected
            | PortalError::Unconfigured
            | PortalError::Unclear { status: _ } => Some(Failure::Harmless),
            PortalError::KeyRejected
            | PortalError::AccessDenied
            | PortalError::Limited { retry_after: _ } => None,
        };
        match (call, failure) {
            (Call::Create, Some(failure)) => self.creates.failed(now, failure, probes.creates),
            (Call::Create, None) => self.creates.gave_back(),
            (Call::Poll, _) => {
                if error.is_answer_of_the_portal() {
                    self.looks.succeeded(now);
                    self.creates.portal_answers(now);
                } else {
                    self.looks.failed(now);
                    self.creates.portal_is_silent();
                }
            }
        }
    }
}
