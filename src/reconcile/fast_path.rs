//! A look that finds nothing new: most do, and those neither read the resource nor write. Whatever else comes of it
//! goes through the tables, in a whole turn.

use std::time::Duration;

use jiff::SignedDuration;
use tokio::time::Instant;

use super::{
    Reconciler,
    accounts::Account,
    cache_entry::{PollContext, PortalWait},
    create::Caller,
    observe::Observed,
};
use crate::{
    api::Verification,
    fairness::FairnessKey,
    index::RecordId,
    lifecycle::{
        CompactState, Conclusion, Deadline, PollBaseline, SECRET_READ_AGAIN, Step, StepOutcome, Wait,
        is_outage,
    },
    portal::{
        Call, Details, PortalError, PortalUrl, VerificationId,
        budget::{Admission, Closed},
    },
    workqueue::Disposition,
};

/// A pause that keeps a look waiting longer than this is told in status.
const PAUSE_UNTOLD: Duration = Duration::from_mins(1);

/// What is due so soon after a pause waits for that.
const WITH_THE_PAUSE: SignedDuration = SignedDuration::from_secs(5);

/// What came of a glance.
pub(crate) enum FastPath {
    /// Nothing new; this is when to look again.
    Nothing(Disposition),
    /// It takes a whole turn.
    Reconcile(Option<Answer>),
}

/// What the portal answered already, for the turn that judges it.
pub(crate) struct Answer {
    /// Whom it was asked of.
    pub(crate) standing: Box<PollContext>,
    /// What it said.
    pub(crate) result: Result<Details, PortalError>,
}

/// Who is looked at, as it was remembered.
struct Subject {
    namespace: String,
    standing: Box<PollContext>,
    compact: CompactState,
    fairness_key: FairnessKey,
    /// Whether status shows that calls to the portal wait.
    is_told: bool,
}

impl Reconciler {
    /// Looks without reading the resource, where nothing but a look is due.
    pub(crate) async fn fast_path(&self, record_id: RecordId) -> FastPath {
        if let Some(fast_path) = self.await_key(record_id).await {
            return fast_path;
        }
        let Some(Subject { namespace, standing, compact, fairness_key, is_told }) = self.subject(record_id)
        else {
            return FastPath::Reconcile(None);
        };
        let now = self.clock.now();
        if !standing.baseline.is_plain_at(now) {
            return FastPath::Reconcile(None);
        }
        let priority = standing.baseline.priority();
        if let Some(due) = compact.due_after(now) {
            return FastPath::Nothing(Disposition::At(self.clock.instant(due), priority, fairness_key));
        }
        let Ok(Ok(key)) = self.secrets.key(&namespace, &standing.account.secret).await else {
            return FastPath::Reconcile(None);
        };
        let budget = self.budgets.budget(&standing.account.portal, key.identity(), fairness_key);
        let pass = match budget.admit(Instant::now(), Call::Poll, priority) {
            Admission::Go(pass) => pass,
            Admission::Wait { until, closed } => {
                self.note_wait(record_id, &standing.account, closed, is_told);
                return if !is_told && self.is_worth_telling(closed, until, &compact) {
                    FastPath::Reconcile(None)
                } else {
                    FastPath::Nothing(Disposition::At(comes_again(closed, until), priority, fairness_key))
                };
            }
        };
        let caller = Caller { portal: &standing.account.portal, key: &key, pass };
        let result = self.ask(caller, standing.baseline.id()).await;
        let stretch = budget.stretch(Instant::now());
        let plain = result.as_ref().ok().filter(|_| !is_told);
        let unchanged = plain.and_then(|details| {
            standing.baseline.unchanged(&compact, details, self.clock.now(), standing.jitter_seed, stretch)
        });
        let Some(unchanged) = unchanged else {
            return FastPath::Reconcile(Some(Answer { standing, result }));
        };
        if let Some(entry) = self.index().get_mut(record_id) {
            entry.remember_calm(unchanged.compact);
            entry.portal_wait = None;
        }
        let next = self.clock.instant(unchanged.next);
        FastPath::Nothing(Disposition::At(next, unchanged.priority, fairness_key))
    }

    fn subject(&self, record_id: RecordId) -> Option<Subject> {
        let index = self.index();
        let view = index.view(record_id).filter(|view| !view.deleting && !view.leaving)?;
        Some(Subject {
            standing: Box::new(view.payload.poll_context()?.clone()),
            compact: *view.payload.compact()?,
            namespace: view.namespace.to_owned(),
            fairness_key: view.payload.fairness_key,
            is_told: view.payload.portal_wait.is_some_and(|portal_wait| portal_wait.is_told),
        })
    }

    /// Remembers what the next call of one waits for, for the metrics.
    fn note_wait(&self, record_id: RecordId, account: &Account, closed: Closed, is_told: bool) {
        let portal_wait =
            self.waits_at(&account.portal, closed).map(|portal_wait| PortalWait { is_told, ..portal_wait });
        if let Some(entry) = self.index().get_mut(record_id) {
            entry.portal_wait = portal_wait;
        }
    }

    fn waits_at(&self, portal: &PortalUrl, closed: Closed) -> Option<PortalWait> {
        self.number_of(portal).map(|portal| PortalWait { portal, closed, is_told: false })
    }

    /// The number of a portal among the allowed ones.
    pub(crate) fn number_of(&self, portal: &PortalUrl) -> Option<u16> {
        let number = self.allowed.iter().position(|allowed| allowed == portal)?;
        u16::try_from(number).ok()
    }

    /// What the next call waits for at the portal, after that answer.
    pub(crate) fn waits_after(&self, portal: &PortalUrl, error: Option<&PortalError>) -> Option<PortalWait> {
        let closed = match error? {
            PortalError::Limited { retry_after: _ } => Closed::Paused,
            PortalError::KeyRejected => Closed::KeyRejected,
            PortalError::NotSent(_)
            | PortalError::AccessDenied
            | PortalError::Invalid
            | PortalError::NotFound
            | PortalError::Conflict
            | PortalError::Redirected
            | PortalError::Unconfigured
            | PortalError::Unclear { status: _ }
            | PortalError::Failed(_) => return None,
        };
        self.waits_at(portal, closed)
    }

    /// What the next call waits for at the portal, after that step.
    pub(crate) fn portal_wait(
        &self,
        step: &Step,
        outcome: &StepOutcome,
        observed: &Observed,
    ) -> Option<PortalWait> {
        if let StepOutcome::Poll(answer) = outcome {
            return self.waits_after(&observed.account.as_ref()?.portal, answer.as_ref().err());
        }
        let Step::Wait(wait) = step else { return None };
        let closed = match wait {
            Wait::KeyRejected(_) => Closed::KeyRejected,
            Wait::Paused(_) => Closed::Paused,
            Wait::Breaker(_) => Closed::Breaker,
            // Who was told to pause itself has its own time, which is that of the pause.
            Wait::Due(at) => match observed.budget.as_ref()?.closed(Instant::now())? {
                (until, Closed::Paused) if at.duration_since(self.clock.time(until)) <= WITH_THE_PAUSE => {
                    Closed::Paused
                }
                (_, Closed::Paused | Closed::Breaker | Closed::KeyRejected | Closed::Rate) => return None,
            },
            Wait::Key(_) | Wait::Rate(_) | Wait::InFlight(_) => return None,
        };
        let is_told = closed == Closed::Breaker && is_outage(&observed.facts.local_state, observed.facts.now);
        let portal_wait = self.waits_at(&observed.account.as_ref()?.portal, closed)?;
        Some(PortalWait { is_told, ..portal_wait })
    }

    /// Whether a closed gate is more than a wait: the tables say what it shows.
    fn is_worth_telling(&self, closed: Closed, until: Instant, compact: &CompactState) -> bool {
        match closed {
            // What the portal refused others is shown on those that it was refused, and on no one else.
            Closed::Rate | Closed::KeyRejected => false,
            Closed::Breaker => is_outage(&compact.local_state(), self.clock.now()),
            Closed::Paused => {
                let due = compact.due().unwrap_or_else(|| self.clock.now());
                let wait = Duration::try_from(self.clock.time(until).duration_since(due));
                wait.is_ok_and(|wait| wait >= PAUSE_UNTOLD)
            }
        }
    }
}

/// When to come again to a gate that is closed until then: a Secret that is repaired opens another gate.
fn comes_again(closed: Closed, until: Instant) -> Instant {
    match closed {
        Closed::KeyRejected => until.min(Instant::now() + SECRET_READ_AGAIN),
        Closed::Rate | Closed::Breaker | Closed::Paused => until,
    }
}

impl Reconciler {
    /// What glances need after a whole turn whose look was answered and is shown in full.
    pub(crate) fn standing(
        &self,
        observed: &Observed,
        outcome: &StepOutcome,
        conclusion: &Conclusion,
    ) -> Option<Box<PollContext>> {
        let Observed { facts, account, key: _, budget: _, since: _ } = observed;
        let (StepOutcome::Poll(Ok(_)), Deadline::Ahead(deadline)) = (outcome, facts.deadline) else {
            return None;
        };
        let status = conclusion.status.as_ref()?;
        let baseline =
            PollBaseline::of(status, &conclusion.local_state, facts.bounds, deadline, facts.times())?;
        let account = self.accounts.share(account.clone()?);
        Some(Box::new(PollContext { baseline, account, jitter_seed: facts.jitter_seed }))
    }
}

impl Reconciler {
    /// What the first look at a session needs that was created and written down in this turn.
    pub(crate) fn standing_of_new(
        &self,
        observed: &Observed,
        written: &Verification,
        conclusion: &Conclusion,
    ) -> Option<Box<PollContext>> {
        let Observed { facts, account, key: _, budget: _, since: _ } = observed;
        let Deadline::Ahead(deadline) = facts.deadline else { return None };
        // What the schema refused is for a whole turn.
        let status = conclusion.status.as_ref().filter(|status| written.status.as_ref() == Some(status))?;
        let baseline =
            PollBaseline::of_new(status, &conclusion.local_state, facts.bounds, deadline, facts.times())?;
        let account = self.accounts.share(account.clone()?);
        Some(Box::new(PollContext { baseline, account, jitter_seed: facts.jitter_seed }))
    }
}

impl Answer {
    /// Whether this is what a look would ask: the session, the portal and, by its Secret, the key.
    pub(crate) fn is_of(&self, account: &Account, id: &VerificationId) -> bool {
        self.standing.baseline.id() == id && *self.standing.account == *account
    }
}
