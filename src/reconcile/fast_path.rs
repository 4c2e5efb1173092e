//! A look that finds nothing new: most do, and those neither read the resource nor write. Whatever else comes of it
//! goes through the tables, in a whole turn.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    accounts::Account,
    cache_entry::{PollContext, PortalWait},
    reconciler::Reconciler,
};
use crate::{
    fairness::FairnessKey,
    index::RecordId,
    lifecycle::{CompactState, SECRET_READ_AGAIN, is_outage},
    portal::{
        Call, Caller, Details, PortalError, VerificationId,
        budget::{Admission, Closed},
    },
    workqueue::Disposition,
};

/// A pause that keeps a look waiting longer than this is told in status.
const PAUSE_UNTOLD: Duration = Duration::from_mins(1);

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
        let Ok(Ok(key)) = self.cluster.secrets().key(&namespace, &standing.account.secret).await else {
            return FastPath::Reconcile(None);
        };
        let budget = self.portal.budget(&standing.account.portal, key.identity(), fairness_key);
        let permit = match budget.admit(Instant::now(), Call::Poll, priority) {
            Admission::Go(permit) => permit,
            Admission::Wait { until, closed } => {
                self.note_wait(record_id, &standing.account, closed, is_told);
                return if !is_told && self.is_worth_telling(closed, until, &compact) {
                    FastPath::Reconcile(None)
                } else {
                    FastPath::Nothing(Disposition::At(comes_again(closed, until), priority, fairness_key))
                };
            }
        };
        let caller = Caller { portal: &standing.account.portal, key: &key, permit };
        let result = self.poll(caller, standing.baseline.id()).await;
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

    /// Asks for the Secret of one that waits for its key; nothing, if no key is what it waits for.
    pub(crate) async fn await_key(&self, record_id: RecordId) -> Option<FastPath> {
        let (namespace, wait, fairness_key) = {
            let index = self.index();
            let view = index.view(record_id).filter(|view| !view.deleting && !view.settling)?;
            (view.namespace.to_owned(), view.payload.key_wait()?.clone(), view.payload.fairness_key)
        };
        let found = self.cluster.secrets().key(&namespace, &wait.account.secret).await;
        let again = wait.again(&found, self.clock.now());
        Some(again.map_or(FastPath::Reconcile(None), |again| {
            let when = self.clock.instant(again).max(Instant::now());
            FastPath::Nothing(Disposition::At(when, wait.priority, fairness_key))
        }))
    }

    fn subject(&self, record_id: RecordId) -> Option<Subject> {
        let index = self.index();
        let view = index.view(record_id).filter(|view| !view.deleting && !view.settling)?;
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

impl Answer {
    /// Whether this is what a look would ask: the session, the portal and, by its Secret, the key.
    pub(crate) fn is_of(&self, account: &Account, id: &VerificationId) -> bool {
        self.standing.baseline.id() == id && *self.standing.account == *account
    }
}
