//! Conclusions of a create: made, not made, or nobody knows.

use std::time::Duration;

use crate::{
    api::{Phase, Reason, SessionState},
    lifecycle::{
        blocker::Blocker,
        conditions::whole_seconds,
        decide::asks_a_person,
        event::Event,
        overlay::{Overlay, Stall},
        past::Ledger,
        report::{clean_list, storable},
        schedule::{backoff, next_look, pace, wait_after_lost},
        streaks::{Streaks, later},
    },
    portal::{trouble::Trouble, wire::Created},
};

use super::{
    Conclusion, Draft, Next,
    wait::{SECRET_READ_AGAIN, fingerprint},
};

/// A refused key closes the gate for this long, so that one bad key costs two calls in five minutes.
const KEY_GATE: Duration = Duration::from_secs(150);
/// How long a pause lasts at least, whatever its `Retry-After` says.
pub(super) const PAUSE: Duration = Duration::from_secs(5);

impl Draft<'_> {
    pub(super) fn create(mut self, answer: &Result<Created, Trouble>, ledger: Ledger) -> Conclusion {
        let trouble = match answer {
            Ok(created) => return self.created(created),
            Err(trouble) => trouble,
        };
        if let Trouble::Failed(_) = trouble {
            let after = Ledger { orphans: ledger.orphans.saturating_add(1), ..ledger };
            return self.lost(after, wait_after_lost(after));
        }
        self.session().state = Some(SessionState::NotCreated);
        self.picture.session = Some(Reason::Refused);
        self.picture.credentials = self.credentials_unless_missing();
        let next = self.refused(trouble);
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
        self.status.flow = clean_list(&created.flow);
        self.status.modules = clean_list(&created.modules);
        self.status.phase = Some(Phase::AwaitingUser);
        let fingerprint = fingerprint(self.facts);
        let session = self.session();
        session.state = Some(SessionState::Created);
        session.created_at = Some(now);
        session.key_fingerprint = fingerprint;
        self.picture.credentials = Some(Reason::Accepted);
        self.streaks = Streaks { shown_at: self.streaks.shown_at, ..Streaks::default() };
        self.events.push(Event::SessionCreated);
        let pace = pace(&self.status, &self.streaks, self.facts.bounds, self.facts.times());
        let at = next_look(&pace, self.facts.now, self.facts.seed, self.facts.stretch);
        let next = self.due_at(at);
        self.finish(next)
    }

    /// What a refusal shows and when it is tried again; the same for a create and an adoption, but for the session.
    pub(super) fn refused(&mut self, trouble: &Trouble) -> Next {
        let failures = self.one_more_failure();
        self.streaks.blocked_since = None;
        let wait = |least, most, seed| {
            backoff(Duration::from_secs(least), Duration::from_secs(most), failures, seed)
        };
        let seed = self.facts.seed;
        match Blocker::of(trouble) {
            Some(blocker) => self.block(blocker),
            None => self.picture.overlay = self.standing_overlay(),
        }
        match trouble {
            // Nobody knows who refuses what is unclear, so it is no refusal of the portal's.
            Trouble::NotSent(_) | Trouble::Unclear { status: _ } => {
                self.picture.session = self.picture.session.map(|_| Reason::NotYet);
                self.due(wait(5, 300, seed))
            }
            Trouble::KeyRejected => self.refused_key_at_the_gate(Blocker::KeyRejected),
            Trouble::AccessDenied => self.refused_key_at_the_gate(Blocker::AccessDenied),
            Trouble::Invalid | Trouble::Conflict => self.due(wait(30, 600, seed)),
            Trouble::NotFound | Trouble::Redirected | Trouble::Unconfigured => self.due(wait(60, 600, seed)),
            Trouble::Limited { retry_after } => {
                self.pause();
                self.due(retry_after.unwrap_or_default().max(PAUSE))
            }
            Trouble::Failed(_) => self.due(wait(2, 120, seed)),
        }
    }

    fn refused_key_at_the_gate(&mut self, refusal: Blocker) -> Next {
        self.refused_key(refusal);
        let at = later(self.facts.now, KEY_GATE);
        self.streaks.next = Some(at);
        Next::At(at.min(later(self.facts.now, SECRET_READ_AGAIN)))
    }

    /// Shows that the portal refuses the key, as Stalled after a grace.
    pub(super) fn refused_key(&mut self, refusal: Blocker) {
        let session_key = self.status.session.as_ref().and_then(|s| s.key_fingerprint.clone());
        let key = fingerprint(self.facts);
        let rotated = self.has_session() && session_key.is_some() && session_key != key;
        let refusal = if refusal == Blocker::AccessDenied && rotated { Blocker::KeyRotated } else { refusal };
        self.picture.credentials = Some(refusal.reason());
        self.streaks.refused_key = key;
        self.block(refusal);
    }

    /// The claim led to no request: as if it had never been.
    pub(super) fn not_sent(mut self) -> Conclusion {
        self.session().state = Some(SessionState::NotCreated);
        self.picture.overlay = self.standing_overlay();
        self.picture.credentials = self.credentials_unless_missing();
        let next = self.due(Duration::from_secs(5));
        self.finish(next)
    }

    /// A claim was found and nobody knows its answer; the wait for quiet was wait enough for the first.
    pub(super) fn give_up_lost(self, ledger: Ledger) -> Conclusion {
        let after = Ledger { orphans: ledger.orphans.saturating_add(1), ..ledger };
        let wait = if after.unforgiven() <= 1 { Duration::ZERO } else { wait_after_lost(after) };
        self.lost(after, wait)
    }

    fn lost(mut self, ledger: Ledger, wait: Duration) -> Conclusion {
        let session = self.session();
        session.state = Some(SessionState::Unknown);
        session.orphans = session.orphans.saturating_add(1).min(session.attempt);
        self.picture.session = Some(Reason::OutcomeUnknown);
        self.picture.credentials = self.credentials_unless_missing();
        self.events.push(Event::CreateOutcomeUnknown);
        let next = self.due(wait);
        if asks_a_person(ledger, self.facts.on_unknown) {
            self.picture.overlay = Overlay::Stalled(Stall::CreateOutcomeUnknown);
            return self.finish(Next::Watch);
        }
        self.picture.overlay = Overlay::Healing;
        self.finish(next)
    }
}
