//! The gate of a key: until the portal has accepted it, its calls go one at a time, and what it is refused rests. No
//! clock: `now` is an argument.
//!
//! Creates and polls are refused apart. One refused create closes creates, because nothing else finds out whether they
//! work and none is repeated to confirm anything. A poll is about one session: a 403 says nothing of the others, and one
//! 401 may be somebody's mistake. Polls pause when two sessions were answered 401, or the only one twice, and none 200 in
//! between.

use std::time::Duration;

use tokio::time::Instant;

use super::Closed;
use crate::{
    backoff::Backoff,
    portal::error::{Call, PortalError, REFUSED_KEY_PAUSE},
};

/// Two 401 to the only session of a key confirm each other when they are this far apart.
const CONFIRMED_AFTER: Duration = Duration::from_secs(5);
/// Those behind the first call come again after as long as it has been under way, from the first to the second.
const BEHIND_THE_FIRST: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// Each call in a row without any answer doubles the wait of those behind the next one, up to this.
const BEHIND_SILENCE: Duration = Duration::from_mins(1);

/// A session, by a hash.
pub(super) type SessionHash = u64;

/// What is known of a key, and who finds out more.
#[derive(Debug)]
pub(super) struct KeyGate {
    standing: KeyState,
    creates: Half,
    polls: Half,
    /// The 401 that another one would confirm.
    suspect: Option<(SessionHash, Instant)>,
    sessions: Sessions,
}

/// What is known of a key.
#[derive(Clone, Copy, Debug)]
enum KeyState {
    /// It was never used: one call at a time.
    Unproven,
    /// The portal knows it, and denied a poll: polls go freely, creates one at a time.
    Known,
    /// The portal accepts it.
    Good,
}

/// What is known of creates, or of polls.
#[derive(Debug)]
struct Half {
    /// They were refused; after this one call tries again.
    refused_until: Option<Instant>,
    /// Since when a call finds out for the others.
    tried_since: Option<Instant>,
    /// How many calls in a row should have found out, and were not answered at all.
    silent: u32,
}

/// Which sessions were polled with the key, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sessions {
    None,
    One(SessionHash),
    Several,
}

impl KeyGate {
    /// The gate of a key that was never used.
    pub(super) const fn new() -> Self {
        Self {
            standing: KeyState::Unproven,
            creates: Half::new(),
            polls: Half::new(),
            suspect: None,
            sessions: Sessions::None,
        }
    }

    /// Until when no such call may go out at all.
    pub(super) fn refused_until(&self, now: Instant, call: Call) -> Option<Instant> {
        self.half(call).refused_until.filter(|until| now < *until)
    }

    /// Until when creates or polls, whichever are longer, are refused; in the past while it is tried again, or is to be.
    pub(super) fn closed_until(&self) -> Option<Instant> {
        self.creates.refused_until.max(self.polls.refused_until)
    }

    /// Whether such a call has to wait for another one to find out, and if so, the earliest time to come again, and why.
    pub(super) fn is_tried(&self, now: Instant, call: Call) -> Option<(Instant, Closed)> {
        if !self.tries(call) {
            return None;
        }
        let half = self.half(call);
        // A key that nobody ever used is tried by one call, whichever it is.
        let other = match self.standing {
            KeyState::Unproven => self.half(other(call)).tried_since,
            KeyState::Known | KeyState::Good => None,
        };
        let since = half.tried_since.or(other)?;
        let (least, most) = BEHIND_THE_FIRST;
        let wait = match half.silent {
            0 => now.saturating_duration_since(since).clamp(least, most),
            silent => Backoff::new(most, BEHIND_SILENCE).wait(silent),
        };
        let closed = if half.refused_until.is_some() { Closed::KeyRejected } else { Closed::Rate };
        Some((now + wait, closed))
    }

    /// A call goes out. True, if it finds out for the others: it must be reported or given back.
    pub(super) const fn goes(&mut self, now: Instant, call: Call) -> bool {
        let tries = self.tries(call);
        if tries {
            self.half_mut(call).tried_since = Some(now);
        }
        tries
    }

    /// Takes in how a call ended; `session` is whom a poll was about.
    pub(super) fn ended(
        &mut self,
        now: Instant,
        call: Call,
        session: Option<SessionHash>,
        tried: bool,
        result: Result<(), &PortalError>,
    ) {
        if let Some(session) = session {
            self.sessions = match self.sessions {
                Sessions::None => Sessions::One(session),
                one @ Sessions::One(only) if only == session => one,
                Sessions::One(_) | Sessions::Several => Sessions::Several,
            };
        }
        let is_answered = match (call, result) {
            (_, Ok(()) | Err(PortalError::Invalid | PortalError::NotFound | PortalError::Conflict)) => {
                self.accepted(call, result.is_ok());
                true
            }
            (Call::Create, Err(PortalError::KeyRejected | PortalError::AccessDenied)) => {
                self.creates.refuse(now);
                true
            }
            (Call::Poll, Err(PortalError::AccessDenied)) => {
                // A probe that is denied its own session shows that the portal knows the key.
                if self.polls.refused_until.is_none_or(|until| until <= now) {
                    self.known();
                }
                true
            }
            (Call::Poll, Err(PortalError::KeyRejected)) => {
                self.doubted(now, session, tried);
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
        let is_free = !self.tries(call);
        let half = self.half_mut(call);
        if is_answered {
            half.silent = 0;
        } else if tried
            && matches!(
                result,
                Err(PortalError::NotSent(_) | PortalError::Unclear { .. } | PortalError::Failed(_))
            )
        {
            half.silent = half.silent.saturating_add(1);
        }
        if tried || is_free {
            half.tried_since = None;
        }
    }

    /// The call that was to find out did not go out, or nobody knows how it ended.
    pub(super) const fn gave_back(&mut self, call: Call) {
        self.half_mut(call).tried_since = None;
    }

    fn accepted(&mut self, call: Call, fully: bool) {
        self.standing = KeyState::Good;
        self.half_mut(call).refused_until = None;
        match call {
            Call::Poll if fully => self.suspect = None,
            Call::Poll | Call::Create => {}
        }
    }

    const fn known(&mut self) {
        self.polls.refused_until = None;
        match self.standing {
            KeyState::Unproven => self.standing = KeyState::Known,
            KeyState::Known | KeyState::Good => {}
        }
    }

    /// A poll was answered 401.
    fn doubted(&mut self, now: Instant, session: Option<SessionHash>, tried: bool) {
        if let Some(until) = self.polls.refused_until {
            // Those that were under way when polls paused say nothing new.
            if tried && until <= now {
                self.polls.refuse(now);
            }
            return;
        }
        let Some(session) = session else { return };
        match self.suspect {
            None => self.suspect = Some((session, now)),
            Some((other, _)) if other != session => self.polls.refuse(now),
            Some((_, at))
                if self.sessions != Sessions::Several
                    && now.saturating_duration_since(at) >= CONFIRMED_AFTER =>
            {
                self.polls.refuse(now);
            }
            Some(_) => {}
        }
    }

    /// Whether such a call finds out something about the key.
    pub(super) const fn tries(&self, call: Call) -> bool {
        if self.half(call).refused_until.is_some() {
            return true;
        }
        match (self.standing, call) {
            (KeyState::Unproven, _) | (KeyState::Known, Call::Create) => true,
            (KeyState::Known, Call::Poll) | (KeyState::Good, _) => false,
        }
    }

    const fn half(&self, call: Call) -> &Half {
        match call {
            Call::Create => &self.creates,
            Call::Poll => &self.polls,
        }
    }

    const fn half_mut(&mut self, call: Call) -> &mut Half {
        match call {
            Call::Create => &mut self.creates,
            Call::Poll => &mut self.polls,
        }
    }
}

impl Half {
    const fn new() -> Self {
        Self { refused_until: None, tried_since: None, silent: 0 }
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
