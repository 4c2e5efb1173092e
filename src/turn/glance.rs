//! A look that finds nothing new: most do, and those neither read the resource nor write. Whatever else comes of it
//! goes through the tables, in a whole turn.

use std::time::Duration;

use jiff::SignedDuration;
use tokio::time::Instant;

use crate::{
    api::Verification,
    fair::FairnessKey,
    lifecycle::{Calm, Conclusion, Deadline, Happened, Routine, SECRET_READ_AGAIN, Step, Wait, is_outage},
    portal::{
        Call, Details, PortalUrl, Trouble, VerificationId,
        budget::{Admission, Closed},
    },
    watch::{Next as Turned, Slot},
};

use super::{
    Turns,
    accounts::Account,
    act::Caller,
    memory::{Standing, Waits},
    observe::Observed,
};

/// A pause that keeps a look waiting longer than this is told in status.
const PAUSE_UNTOLD: Duration = Duration::from_mins(1);

/// What is due so soon after a pause waits for that.
const WITH_THE_PAUSE: SignedDuration = SignedDuration::from_secs(5);

/// What came of a glance.
pub(super) enum Glance {
    /// Nothing new; this is when to look again.
    Nothing(Turned),
    /// It takes a whole turn.
    Turn(Option<Answer>),
}

/// What the portal answered already, for the turn that judges it.
pub(super) struct Answer {
    /// Whom it was asked of.
    pub(super) standing: Box<Standing>,
    /// What it said.
    pub(super) result: Result<Details, Trouble>,
}

/// Who is looked at, as it was remembered.
struct Subject {
    namespace: String,
    standing: Box<Standing>,
    calm: Calm,
    lane: FairnessKey,
    /// Whether status shows that calls to the portal wait.
    is_told: bool,
}

impl Turns {
    /// Looks without reading the resource, where nothing but a look is due.
    pub(super) async fn glance(&self, slot: Slot) -> Glance {
        if let Some(glance) = self.await_key(slot).await {
            return glance;
        }
        let Some(Subject { namespace, standing, calm, lane, is_told }) = self.subject(slot) else {
            return Glance::Turn(None);
        };
        let now = self.clock.now();
        if !standing.routine.is_plain_at(now) {
            return Glance::Turn(None);
        }
        let priority = standing.routine.priority();
        if let Some(due) = calm.due_after(now) {
            return Glance::Nothing(Turned::At(self.clock.instant(due), priority, lane));
        }
        let Ok(Ok(key)) = self.secrets.key(&namespace, &standing.account.secret).await else {
            return Glance::Turn(None);
        };
        let budget = self.budgets.budget(&standing.account.portal, key.identity(), lane);
        let pass = match budget.admit(Instant::now(), Call::Look, priority) {
            Admission::Go(pass) => pass,
            Admission::Wait { until, closed } => {
                self.note_wait(slot, &standing.account, closed, is_told);
                return if !is_told && self.is_worth_telling(closed, until, &calm) {
                    Glance::Turn(None)
                } else {
                    Glance::Nothing(Turned::At(comes_again(closed, until), priority, lane))
                };
            }
        };
        let caller = Caller { portal: &standing.account.portal, key: &key, pass };
        let result = self.ask(caller, standing.routine.id()).await;
        let stretch = budget.stretch(Instant::now());
        let plain = result.as_ref().ok().filter(|_| !is_told);
        let nothing_new = plain.and_then(|details| {
            standing.routine.nothing_new(&calm, details, self.clock.now(), standing.seed, stretch)
        });
        let Some(nothing_new) = nothing_new else {
            return Glance::Turn(Some(Answer { standing, result }));
        };
        if let Some(memory) = self.table().get_mut(slot) {
            memory.remember_calm(nothing_new.calm);
            memory.waits = None;
        }
        let next = self.clock.instant(nothing_new.next);
        Glance::Nothing(Turned::At(next, nothing_new.priority, lane))
    }

    fn subject(&self, slot: Slot) -> Option<Subject> {
        let table = self.table();
        let view = table.view(slot).filter(|view| !view.deleting && !view.leaving)?;
        Some(Subject {
            standing: view.payload.standing.clone()?,
            calm: *view.payload.calm()?,
            namespace: view.namespace.to_owned(),
            lane: view.payload.lane,
            is_told: view.payload.waits.is_some_and(|waits| waits.is_told),
        })
    }

    /// Remembers what the next call of one waits for, for the metrics.
    fn note_wait(&self, slot: Slot, account: &Account, closed: Closed, is_told: bool) {
        let waits = self.waits_at(&account.portal, closed).map(|waits| Waits { is_told, ..waits });
        if let Some(memory) = self.table().get_mut(slot) {
            memory.waits = waits;
        }
    }

    fn waits_at(&self, portal: &PortalUrl, closed: Closed) -> Option<Waits> {
        self.number_of(portal).map(|portal| Waits { portal, closed, is_told: false })
    }

    /// The number of a portal among the allowed ones.
    pub(super) fn number_of(&self, portal: &PortalUrl) -> Option<u16> {
        let number = self.allowed.iter().position(|allowed| allowed == portal)?;
        u16::try_from(number).ok()
    }

    /// What the next call waits for at the portal, after that answer.
    pub(super) fn waits_after(&self, portal: &PortalUrl, trouble: Option<&Trouble>) -> Option<Waits> {
        let closed = match trouble? {
            Trouble::Limited { retry_after: _ } => Closed::Paused,
            Trouble::KeyRejected => Closed::KeyRejected,
            Trouble::NotSent(_)
            | Trouble::AccessDenied
            | Trouble::Invalid
            | Trouble::NotFound
            | Trouble::Conflict
            | Trouble::Redirected
            | Trouble::Unconfigured
            | Trouble::Unclear { status: _ }
            | Trouble::Failed(_) => return None,
        };
        self.waits_at(portal, closed)
    }

    /// What the next call waits for at the portal, after that step.
    pub(super) fn waits(&self, step: &Step, happened: &Happened, observed: &Observed) -> Option<Waits> {
        if let Happened::Look(answer) = happened {
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
            Wait::Key(_) | Wait::Rate(_) | Wait::Quiet(_) => return None,
        };
        let is_told = closed == Closed::Breaker && is_outage(&observed.facts.streaks, observed.facts.now);
        let waits = self.waits_at(&observed.account.as_ref()?.portal, closed)?;
        Some(Waits { is_told, ..waits })
    }

    /// Whether a closed gate is more than a wait: the tables say what it shows.
    fn is_worth_telling(&self, closed: Closed, until: Instant, calm: &Calm) -> bool {
        match closed {
            // What the portal refused others is shown on those that it was refused, and on no one else.
            Closed::Rate | Closed::KeyRejected => false,
            Closed::Breaker => is_outage(&calm.streaks(), self.clock.now()),
            Closed::Paused => {
                let due = calm.due().unwrap_or_else(|| self.clock.now());
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

impl Turns {
    /// What glances need after a whole turn whose look was answered and is shown in full.
    pub(super) fn standing(
        &self,
        observed: &Observed,
        happened: &Happened,
        conclusion: &Conclusion,
    ) -> Option<Box<Standing>> {
        let Observed { facts, account, key: _, budget: _, since: _ } = observed;
        let (Happened::Look(Ok(_)), Deadline::Ahead(deadline)) = (happened, facts.deadline) else {
            return None;
        };
        let status = conclusion.status.as_ref()?;
        let routine = Routine::of(status, &conclusion.streaks, facts.bounds, deadline, facts.times())?;
        let account = self.accounts.share(account.clone()?);
        Some(Box::new(Standing { routine, account, seed: facts.seed }))
    }
}

impl Turns {
    /// What the first look at a session needs that was created and written down in this turn.
    pub(super) fn standing_of_new(
        &self,
        observed: &Observed,
        written: &Verification,
        conclusion: &Conclusion,
    ) -> Option<Box<Standing>> {
        let Observed { facts, account, key: _, budget: _, since: _ } = observed;
        let Deadline::Ahead(deadline) = facts.deadline else { return None };
        // What the schema refused is for a whole turn.
        let status = conclusion.status.as_ref().filter(|status| written.status.as_ref() == Some(status))?;
        let routine = Routine::of_new(status, &conclusion.streaks, facts.bounds, deadline, facts.times())?;
        let account = self.accounts.share(account.clone()?);
        Some(Box::new(Standing { routine, account, seed: facts.seed }))
    }
}

impl Answer {
    /// Whether this is what a look would ask: the session, the portal and, by its Secret, the key.
    pub(super) fn is_of(&self, account: &Account, id: &VerificationId) -> bool {
        self.standing.routine.id() == id && *self.standing.account == *account
    }
}
