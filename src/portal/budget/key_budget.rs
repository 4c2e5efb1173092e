//! The budget of one portal and key: rate, pauses, breakers, and the state of the key.
//!
//! No clock: `now` is an argument. May depend on the other files of [`budget`](super) but [`budgets`](super::budgets) and
//! [`permit`](super::permit).

use std::time::Duration;

use tokio::time::Instant;

use super::{
    breaker::{CreateBreaker, Failure, PollBreaker, ProbeWindow},
    closed::Closed,
    fair_share::FairShares,
    key_state::KeyState,
    portal_budget::PortalBudget,
    requester::Requester,
    sent_request::{SentRequest, Trial},
    settings::{BudgetSettings, UNLIMITED_SPACING, uses_reserve},
    waitlist::Waitlists,
};
use crate::{
    backoff::Backoff,
    portal::error::{Call, PortalError},
    priority::Priority,
};

/// The length of consecutive pauses, unless a `Retry-After` asks for more.
const PAUSE: Backoff = Backoff::new(Duration::from_secs(5), Duration::from_mins(2));
/// Longest pause.
pub(super) const MAX_PAUSE: Duration = Duration::from_mins(15);
/// An unused budget is dropped after this.
const DROP_AFTER: Duration = Duration::from_hours(1);
/// A budget with which no request was ever sent is dropped after this: it holds nothing but waitlists.
const DROP_NEW_AFTER: Duration = Duration::from_mins(1);

/// The last errors of a kind of request because of which others are not admitted.
#[derive(Clone, Copy, Debug, Default)]
struct Cause {
    refused: Option<PortalError>,
    failed: Option<PortalError>,
}

/// The budget of one portal and key.
#[derive(Debug)]
pub(super) struct KeyBudget {
    shares: Option<FairShares>,
    poll_breaker: PollBreaker,
    create_breaker: CreateBreaker,
    paused_until: Option<Instant>,
    pauses: u32,
    key: KeyState,
    /// Why creates, and polls, are not admitted.
    causes: [Cause; 2],
    /// Requests that wait for the rate or for a trial, if the rate is unlimited.
    waitlists: Waitlists,
    used_at: Instant,
    /// Whether a request was ever admitted.
    was_used: bool,
    /// When a poll last got 200 and the requested session.
    pub(super) polled_at: Option<Instant>,
}

impl KeyBudget {
    pub(super) fn new(settings: BudgetSettings, now: Instant) -> Self {
        Self {
            shares: settings.key_rate.map(|rate| FairShares::new(rate, settings.burst, now)),
            poll_breaker: PollBreaker::new(now),
            create_breaker: CreateBreaker::default(),
            paused_until: None,
            pauses: 0,
            key: KeyState::new(),
            causes: [Cause::default(); 2],
            waitlists: Waitlists::new(now),
            used_at: now,
            was_used: false,
            polled_at: None,
        }
    }

    pub(super) fn is_unused(&self, now: Instant) -> bool {
        let dropped_after = if self.was_used { DROP_AFTER } else { DROP_NEW_AFTER };
        now.saturating_duration_since(self.used_at) >= dropped_after
    }

    /// Whether a request was ever admitted.
    pub(super) const fn was_used(&self) -> bool {
        self.was_used
    }

    /// Admits a request and says of what it is a trial, or says when to try again and why. The strictest checks come first,
    /// and only the last ones consume anything.
    pub(super) fn admit(
        &mut self,
        portal: &mut PortalBudget,
        now: Instant,
        (call, priority): (Call, Priority),
        requester: Requester,
    ) -> Result<Trial, (Instant, Closed)> {
        let namespace = requester.namespace;
        self.used_at = now;
        if let Some(until) = self.key.refused_until(now, call) {
            return Err((until, Closed::KeyRejected));
        }
        if let Some((from, closed)) = self.key.waits_for_trial(now, call) {
            return Err((self.defer(namespace, priority, from), closed));
        }
        if let Some(until) = self.paused_until.filter(|until| *until > now) {
            return Err((until, Closed::Paused));
        }
        let is_create_trial = match call {
            Call::Create => match self.create_breaker.admit(now) {
                Ok(is_trial) => is_trial,
                Err(until) if self.create_breaker.is_half_open() => {
                    return Err((self.defer(namespace, priority, until), Closed::Breaker));
                }
                Err(until) => return Err((until, Closed::Breaker)),
            },
            Call::Poll => {
                self.poll_breaker.admit(now).map_err(|until| (until, Closed::Breaker))?;
                false
            }
        };
        if let Err(until) = self.take(portal, now, (call, priority), requester) {
            if is_create_trial {
                self.create_breaker.trial_abandoned();
            }
            return Err((until, Closed::Rate));
        }
        self.was_used = true;
        Ok(Trial { key: self.key.started(now, call), creates: is_create_trial })
    }

    /// Takes a token of the key and a permit of the portal, or neither.
    fn take(
        &mut self,
        portal: &mut PortalBudget,
        now: Instant,
        (call, priority): (Call, Priority),
        requester: Requester,
    ) -> Result<(), Instant> {
        // Those that a full portal refuses are no demand for the rate: however often they ask, they are sent once.
        portal.has_room(now, requester, priority, self.key.needs_trial(call))?;
        let namespace = requester.namespace;
        if let Some(shares) = &mut self.shares {
            shares.take(now, namespace, priority, uses_reserve(priority))?;
        }
        let admitted = portal.admit(now, namespace, priority);
        if admitted.is_err()
            && let Some(shares) = &mut self.shares
        {
            shares.restore(namespace);
        }
        admitted
    }

    /// When to try again: deferred requests come back as fast as the full rate admits them.
    fn defer(&mut self, namespace: u32, priority: Priority, from: Instant) -> Instant {
        match &mut self.shares {
            Some(shares) => shares.defer(namespace, priority, from),
            None => self.waitlists.join(priority, from, UNLIMITED_SPACING),
        }
    }

    /// Records that the request was not sent, or that its result is unknown.
    pub(super) fn abandoned(&mut self, call: Call, trial: Trial) {
        if trial.key {
            self.key.trial_abandoned(call);
        }
        if trial.creates {
            self.create_breaker.trial_abandoned();
        }
    }

    /// Why requests are not admitted, and until when: a pause, a breaker, a refused key. The last two stay until a trial
    /// succeeds, however long that takes.
    pub(super) fn closed_reasons(&self, now: Instant) -> impl Iterator<Item = (Closed, Instant)> {
        let breakers = [self.poll_breaker.open_until(), self.create_breaker.open_until()];
        let breaker = breakers.into_iter().flatten().max().map(|until| (Closed::Breaker, until.max(now)));
        let paused = self.paused_until.map(|until| (Closed::Paused, until));
        let refused = self.key.latest_refusal().map(|until| (Closed::KeyRejected, until.max(now)));
        paused.filter(|(_, until)| *until > now).into_iter().chain(breaker).chain(refused)
    }

    /// The factor by which every interval is stretched, at least 1.
    pub(super) fn stretch(&mut self, now: Instant, namespace: u32) -> f64 {
        self.shares.as_mut().map_or(1.0, |shares| shares.stretch(now, namespace))
    }

    /// Whether the caller should send a probe now.
    pub(super) fn may_probe(&mut self, now: Instant) -> bool {
        self.create_breaker.may_probe(now)
    }

    /// While creates wait, when probes are sent.
    pub(super) fn probe_window(&self, now: Instant) -> Option<ProbeWindow> {
        self.create_breaker.probe_window(now)
    }

    /// Whether creates wait for the response to the first request with the key.
    pub(super) fn awaits_first_response(&self, now: Instant) -> bool {
        self.key.waits_for_trial(now, Call::Create).is_some()
    }

    /// Until when no poll is admitted, whatever the rate, and why.
    pub(super) fn closed(&self, now: Instant) -> Option<(Instant, Closed)> {
        let refused = self.key.refused_until(now, Call::Poll).map(|until| (until, Closed::KeyRejected));
        let closed = refused.or_else(|| self.paused_until.map(|until| (until, Closed::Paused)));
        closed.filter(|(until, _)| *until > now)
    }

    /// The last error because of which such requests are not admitted, if it is known.
    pub(super) const fn cause(&self, call: Call, closed: Closed) -> Option<PortalError> {
        let [of_creates, of_polls] = self.causes;
        let cause = match call {
            Call::Create => of_creates,
            Call::Poll => of_polls,
        };
        match closed {
            Closed::KeyRejected => cause.refused,
            Closed::Breaker => cause.failed,
            Closed::Paused | Closed::Rate => None,
        }
    }

    fn note_cause(&mut self, call: Call, error: PortalError) {
        let [of_creates, of_polls] = &mut self.causes;
        match (call, error) {
            (_, PortalError::Limited { retry_after: _ }) | (Call::Poll, PortalError::AccessDenied) => {}
            (Call::Create, PortalError::KeyRejected | PortalError::AccessDenied) => {
                of_creates.refused = Some(error);
            }
            (Call::Poll, PortalError::KeyRejected) => of_polls.refused = Some(error),
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
                Call::Poll if !error.is_from_the_portal() => of_polls.failed = Some(error),
                Call::Poll => {}
            },
        }
    }

    /// Records how a request ended. True if creates that had to wait may continue.
    pub(super) fn report(
        &mut self,
        now: Instant,
        sent: SentRequest,
        result: Result<(), &PortalError>,
    ) -> bool {
        let SentRequest { call, session: _, trial } = sent;
        let mut creates_may_continue = false;
        self.key.ended(now, sent, result);
        if let Err(error) = result {
            self.note_cause(call, *error);
        }
        match result {
            Ok(()) => {
                self.pauses = 0;
                match call {
                    Call::Create => creates_may_continue = self.create_breaker.succeeded(),
                    Call::Poll => self.create_breaker.portal_responded(now),
                }
                self.poll_breaker.succeeded(now);
            }
            Err(PortalError::Limited { retry_after }) => {
                // Requests that were in flight when the pause began say nothing new.
                if self.paused_until.is_none_or(|until| until <= now) {
                    self.pauses = self.pauses.saturating_add(1);
                }
                let own = PAUSE.wait(self.pauses.saturating_sub(1));
                // Zero, or a date in the past, does not mean to continue as before.
                let pause = retry_after.map_or(own, |requested| requested.max(own)).min(MAX_PAUSE);
                self.paused_until =
                    Some(self.paused_until.map_or(now + pause, |until| until.max(now + pause)));
                if let Some(shares) = &mut self.shares {
                    shares.halve(now);
                }
                if trial.creates {
                    self.create_breaker.trial_abandoned();
                }
            }
            Err(error) => self.failed(now, call, trial, error),
        }
        creates_may_continue
    }

    fn failed(&mut self, now: Instant, call: Call, trial: Trial, error: &PortalError) {
        let failure = match error {
            PortalError::Failed(_) => Some(Failure::OutcomeUnknown),
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
            (Call::Create, Some(failure)) => self.create_breaker.failed(now, failure, trial.creates),
            (Call::Create, None) => self.create_breaker.trial_abandoned(),
            (Call::Poll, _) => {
                if error.is_from_the_portal() {
                    self.poll_breaker.succeeded(now);
                    self.create_breaker.portal_responded(now);
                } else {
                    self.poll_breaker.failed(now);
                    self.create_breaker.portal_did_not_respond();
                }
            }
        }
    }
}
