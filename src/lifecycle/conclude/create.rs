//! Conclusions of a create: created, not created, or unknown.

use std::time::Duration;

use super::{
    Conclusion, Draft, Requeue,
    wait::{SECRET_READ_AGAIN, fingerprint},
};
use crate::{
    api::{Phase, Reason, SessionState},
    lifecycle::{
        blocker::Blocker,
        conditions::whole_seconds,
        decide::awaits_person,
        event::Event,
        interruption::{Interruption, Stall},
        local_state::LocalState,
        portal_report::{sanitize_list, storable},
        schedule::{backoff, next_poll, poll_schedule, wait_after_unknown},
        since::later,
        state::{Attempts, restored},
    },
    portal::{
        error::{PortalError, REFUSED_KEY_PAUSE},
        wire::Created,
    },
};

/// A pause lasts at least this long, whatever `Retry-After` says.
pub(super) const PAUSE: Duration = Duration::from_secs(5);

impl Draft<'_> {
    pub(super) fn create(mut self, answer: &Result<Created, PortalError>, attempts: Attempts) -> Conclusion {
        let error = match answer {
            Ok(created) => return self.created(created),
            Err(error) => error,
        };
        if let PortalError::Failed(_) = error {
            let after = Attempts { orphans: attempts.orphans.saturating_add(1), ..attempts };
            return self.outcome_unknown(after, wait_after_unknown(after));
        }
        self.session().state = Some(SessionState::NotCreated);
        self.inputs.session = Some(Reason::Refused);
        self.inputs.credentials = self.credentials_unless_missing();
        let next = self.refused(error);
        self.finish(next)
    }

    fn created(mut self, created: &Created) -> Conclusion {
        let now = whole_seconds(self.facts.now);
        self.status.verification_id = Some(created.id.as_str().to_owned());
        self.status.expires_at = created.expires_at.and_then(storable).filter(|end| {
            let is_over = self.facts.portal_now.is_some_and(|portal_now| *end <= portal_now);
            if is_over {
                self.events.push(Event::ExpiryUnusable);
            }
            !is_over
        });
        self.status.flow = sanitize_list(&created.flow);
        self.status.modules = sanitize_list(&created.modules);
        self.status.phase = Some(Phase::AwaitingUser);
        let fingerprint = fingerprint(self.facts);
        let session = self.session();
        session.state = Some(SessionState::Created);
        session.created_at = Some(now);
        session.key_fingerprint = fingerprint;
        self.inputs.credentials = Some(Reason::Accepted);
        self.local_state = LocalState { shown_at: self.local_state.shown_at, ..LocalState::default() };
        self.events.push(Event::SessionCreated);
        let poll_schedule =
            poll_schedule(&self.status, &self.local_state, self.facts.bounds, self.facts.times());
        let at = next_poll(&poll_schedule, self.facts.now, self.facts.spacing());
        let next = self.due_at(at);
        self.finish(next)
    }

    /// What a refusal shows and when it is retried; the same for a create and an adoption, except for the session.
    pub(super) fn refused(&mut self, error: &PortalError) -> Requeue {
        let failures = self.one_more_failure();
        self.local_state.blocked_since = None;
        let wait = |least, most, jitter_seed| {
            backoff(Duration::from_secs(least), Duration::from_secs(most), failures, jitter_seed)
        };
        let jitter_seed = self.facts.jitter_seed;
        match Blocker::of(error) {
            Some(blocker) => self.block(blocker),
            None => self.inputs.interruption = self.lasting_interruption(),
        }
        match error {
            // It is unclear who refuses, so this is not a refusal by the portal.
            PortalError::NotSent(_) | PortalError::Unclear { status: _ } => {
                self.inputs.session = self.inputs.session.map(|_| Reason::NotYet);
                self.due(wait(5, 300, jitter_seed))
            }
            PortalError::KeyRejected => self.rejected_key(Blocker::KeyRejected),
            PortalError::AccessDenied => self.rejected_key(Blocker::AccessDenied),
            PortalError::Invalid | PortalError::Conflict => self.due(wait(30, 600, jitter_seed)),
            PortalError::NotFound | PortalError::Redirected | PortalError::Unconfigured => {
                self.due(wait(60, 600, jitter_seed))
            }
            PortalError::Limited { retry_after } => {
                self.pause();
                self.due(retry_after.unwrap_or_default().max(PAUSE))
            }
            PortalError::Failed(_) => self.due(wait(2, 120, jitter_seed)),
        }
    }

    fn rejected_key(&mut self, refusal: Blocker) -> Requeue {
        self.refused_key(refusal);
        let at = later(self.facts.now, REFUSED_KEY_PAUSE);
        self.local_state.next = Some(at);
        Requeue::At(at.min(later(self.facts.now, SECRET_READ_AGAIN)))
    }

    /// Shows that the portal refuses the key, as Stalled after a grace.
    pub(super) fn refused_key(&mut self, refusal: Blocker) {
        // The fingerprint in a status from a backup is for another uid, and equals none of this resource's.
        let session = self.status.session.as_ref().filter(|_| !restored(&self.facts.uid, &self.status));
        let session_key = session.and_then(|session| session.key_fingerprint.clone());
        let key = fingerprint(self.facts);
        let is_another = session_key.is_some() && session_key != key && refusal == Blocker::AccessDenied;
        let is_rotated = self.has_session() && (is_another || self.facts.key_version.is_previous());
        let refusal = if is_rotated { Blocker::KeyRotated } else { refusal };
        self.inputs.credentials = Some(refusal.reason());
        self.local_state.refused_key = key;
        self.block(refusal);
    }

    /// The claim led to no request: the attempt is not counted as unknown.
    pub(super) fn not_sent(mut self) -> Conclusion {
        self.session().state = Some(SessionState::NotCreated);
        self.inputs.interruption = self.lasting_interruption();
        self.inputs.credentials = self.credentials_unless_missing();
        let failures = self.one_more_failure();
        let wait = backoff(Duration::from_secs(5), Duration::from_mins(5), failures, self.facts.jitter_seed);
        let next = self.due(wait);
        self.finish(next)
    }

    /// An earlier claim was found whose outcome is unknown. After the first one, no further wait is needed: the wait
    /// until no request could be in flight was long enough.
    pub(super) fn abandon_unknown(self, attempts: Attempts) -> Conclusion {
        let after = Attempts { orphans: attempts.orphans.saturating_add(1), ..attempts };
        let wait = if after.unacknowledged() <= 1 { Duration::ZERO } else { wait_after_unknown(after) };
        self.outcome_unknown(after, wait)
    }

    fn outcome_unknown(mut self, attempts: Attempts, wait: Duration) -> Conclusion {
        let session = self.session();
        session.state = Some(SessionState::Unknown);
        session.orphans = session.orphans.saturating_add(1).min(session.attempt);
        self.inputs.session = Some(Reason::OutcomeUnknown);
        self.inputs.credentials = self.credentials_unless_missing();
        self.events.push(Event::CreateOutcomeUnknown);
        let next = self.due(wait);
        if awaits_person(attempts, self.facts.on_unknown) {
            self.inputs.interruption = Interruption::Stalled(Stall::CreateOutcomeUnknown);
            return self.finish(Requeue::AwaitChange);
        }
        self.inputs.interruption = Interruption::RetryingCreate;
        self.finish(next)
    }
}
