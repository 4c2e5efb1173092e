//! Whether the portal accepts a key. Until it does, requests with the key go one at a time; kinds of request for which
//! it refuses the key pause.
//!
//! No clock: `now` is an argument. May depend on `backoff`, [`closed`](super::closed), [`sent_request`](super::sent_request) and [`PortalError`]. The request that
//! finds out for the others whether the key is accepted is a trial.
//!
//! Creates and polls are refused separately. One refused create pauses creates, because nothing else finds out whether they
//! work, and a create is never repeated to confirm anything. A poll is about one session: a 403 says nothing about the
//! others, and one 401 may be a mistake. Polls pause when two sessions got 401, or the only one twice, and none 200 in
//! between.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    closed::Closed,
    sent_request::{SentRequest, SessionHash, Trial},
};
use crate::{
    backoff::Backoff,
    portal::error::{Call, PortalError, REFUSED_KEY_PAUSE},
};

/// Two 401 for the only session of a key confirm each other if they are this far apart.
const CONFIRMED_AFTER: Duration = Duration::from_secs(5);
/// Requests that wait for a trial try again after the time that it has been in flight, within these bounds.
const DURING_A_TRIAL: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// Each trial in a row without any response doubles that time, up to this.
const MAX_WAIT: Duration = Duration::from_mins(1);

/// What is known of a key, and which trials are in flight.
#[derive(Debug)]
pub(super) struct KeyState {
    acceptance: Acceptance,
    creates: CallState,
    polls: CallState,
    /// An unconfirmed 401.
    suspect: Option<(SessionHash, Instant)>,
    sessions: PolledSessions,
}

/// Whether the portal accepts a key.
#[derive(Clone, Copy, Debug)]
enum Acceptance {
    /// It was never used: one request at a time.
    Unproven,
    /// The portal knows it but denied a poll: polls are free, creates go one at a time.
    Known,
    /// The portal accepts it.
    Good,
}

/// What is known of creates, or of polls.
#[derive(Debug)]
struct CallState {
    /// The key was refused for them; after this time a trial may start.
    refused_until: Option<Instant>,
    /// When the trial started that is in flight.
    trial_since: Option<Instant>,
    /// How many trials in a row got no response.
    silent_trials: u32,
}

/// How many sessions were polled with the key, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PolledSessions {
    None,
    One(SessionHash),
    Several,
}

impl KeyState {
    /// The state of a key that was never used.
    pub(super) const fn new() -> Self {
        Self {
            acceptance: Acceptance::Unproven,
            creates: CallState::new(),
            polls: CallState::new(),
            suspect: None,
            sessions: PolledSessions::None,
        }
    }

    /// Until when no such request is admitted at all.
    pub(super) fn refused_until(&self, now: Instant, call: Call) -> Option<Instant> {
        self.call_state(call).refused_until.filter(|until| now < *until)
    }

    /// Until when creates or polls are refused, whichever is later; in the past while a trial is due or in flight.
    pub(super) fn latest_refusal(&self) -> Option<Instant> {
        self.creates.refused_until.max(self.polls.refused_until)
    }

    /// Whether such a request has to wait for a trial, and if so, the earliest time to try again, and the reason.
    pub(super) fn waits_for_trial(&self, now: Instant, call: Call) -> Option<(Instant, Closed)> {
        if !self.needs_trial(call) {
            return None;
        }
        let state = self.call_state(call);
        // An unused key has one trial, whichever its kind.
        let other = match self.acceptance {
            Acceptance::Unproven => self.call_state(other(call)).trial_since,
            Acceptance::Known | Acceptance::Good => None,
        };
        let since = state.trial_since.or(other)?;
        let (least, most) = DURING_A_TRIAL;
        let wait = match state.silent_trials {
            0 => now.saturating_duration_since(since).clamp(least, most),
            silent_trials => Backoff::new(most, MAX_WAIT).wait(silent_trials),
        };
        let closed = if state.refused_until.is_some() { Closed::KeyRejected } else { Closed::Rate };
        Some((now + wait, closed))
    }

    /// Records that a request is sent. True if it is a trial: its end must be recorded, or it is abandoned.
    pub(super) const fn started(&mut self, now: Instant, call: Call) -> bool {
        let is_trial = self.needs_trial(call);
        if is_trial {
            self.call_state_mut(call).trial_since = Some(now);
        }
        is_trial
    }

    /// Records how a request ended.
    pub(super) fn ended(&mut self, now: Instant, sent: SentRequest, result: Result<(), &PortalError>) {
        let SentRequest { call, session, trial: Trial { key: is_trial, creates: _ } } = sent;
        if let Some(session) = session {
            self.sessions = match self.sessions {
                PolledSessions::None => PolledSessions::One(session),
                one @ PolledSessions::One(only) if only == session => one,
                PolledSessions::One(_) | PolledSessions::Several => PolledSessions::Several,
            };
        }
        let is_settled = match (call, result) {
            (_, Ok(()) | Err(PortalError::Invalid | PortalError::NotFound | PortalError::Conflict)) => {
                self.accepted(call, result.is_ok());
                true
            }
            (Call::Create, Err(PortalError::KeyRejected | PortalError::AccessDenied)) => {
                self.creates.refuse(now);
                true
            }
            (Call::Poll, Err(PortalError::AccessDenied)) => {
                // A trial that is denied access to its session shows that the portal knows the key.
                if self.polls.refused_until.is_none_or(|until| until <= now) {
                    self.known();
                }
                true
            }
            (Call::Poll, Err(PortalError::KeyRejected)) => {
                self.unauthorized(now, session, is_trial);
                true
            }
            (
                _,
                Err(
                    PortalError::NotSent(_)
                    | PortalError::Redirected
                    | PortalError::Unconfigured
                    | PortalError::Unclear { status: _ }
                    | PortalError::Limited { retry_after: _ }
                    | PortalError::Failed(_),
                ),
            ) => false,
        };
        let needs_no_trial = !self.needs_trial(call);
        let state = self.call_state_mut(call);
        if is_settled {
            state.silent_trials = 0;
        } else if is_trial
            && matches!(
                result,
                Err(PortalError::NotSent(_) | PortalError::Unclear { .. } | PortalError::Failed(_))
            )
        {
            state.silent_trials = state.silent_trials.saturating_add(1);
        }
        if is_trial || needs_no_trial {
            state.trial_since = None;
        }
    }

    /// Records that a trial was not sent, or that its result is unknown.
    pub(super) const fn trial_abandoned(&mut self, call: Call) {
        self.call_state_mut(call).trial_since = None;
    }

    fn accepted(&mut self, call: Call, fully: bool) {
        self.acceptance = Acceptance::Good;
        self.call_state_mut(call).refused_until = None;
        match call {
            Call::Poll if fully => self.suspect = None,
            Call::Poll | Call::Create => {}
        }
    }

    const fn known(&mut self) {
        self.polls.refused_until = None;
        match self.acceptance {
            Acceptance::Unproven => self.acceptance = Acceptance::Known,
            Acceptance::Known | Acceptance::Good => {}
        }
    }

    /// Records a 401 to a poll.
    fn unauthorized(&mut self, now: Instant, session: Option<SessionHash>, is_trial: bool) {
        if let Some(until) = self.polls.refused_until {
            // Polls that were in flight when the pause began say nothing new.
            if is_trial && until <= now {
                self.polls.refuse(now);
            }
            return;
        }
        let Some(session) = session else { return };
        match self.suspect {
            None => self.suspect = Some((session, now)),
            Some((other, _)) if other != session => self.polls.refuse(now),
            Some((_, at))
                if self.sessions != PolledSessions::Several
                    && now.saturating_duration_since(at) >= CONFIRMED_AFTER =>
            {
                self.polls.refuse(now);
            }
            Some(_) => {}
        }
    }

    /// Whether the next such request is a trial.
    pub(super) const fn needs_trial(&self, call: Call) -> bool {
        if self.call_state(call).refused_until.is_some() {
            return true;
        }
        match (self.acceptance, call) {
            (Acceptance::Unproven, _) | (Acceptance::Known, Call::Create) => true,
            (Acceptance::Known, Call::Poll) | (Acceptance::Good, _) => false,
        }
    }

    const fn call_state(&self, call: Call) -> &CallState {
        match call {
            Call::Create => &self.creates,
            Call::Poll => &self.polls,
        }
    }

    const fn call_state_mut(&mut self, call: Call) -> &mut CallState {
        match call {
            Call::Create => &mut self.creates,
            Call::Poll => &mut self.polls,
        }
    }
}

impl CallState {
    const fn new() -> Self {
        Self { refused_until: None, trial_since: None, silent_trials: 0 }
    }

    fn refuse(&mut self, now: Instant) {
        self.refused_until = Some(now + REFUSED_KEY_PAUSE);
    }
}

const fn other(call: Call) -> Call {
    match call {
        Call::Create => Call::Poll,
        Call::Poll => Call::Create,
    }
}
