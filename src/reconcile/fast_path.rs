//! The fast path: a poll that changes nothing neither reads nor writes the resource. Most polls are of this kind.
//! Everything else continues with a full reconcile. May depend on `reconciler`, `cache_entry`, `accounts` and
//! `key_wait`, and on `lifecycle`, `portal`, `index` and `workqueue`; not on `cluster`.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    accounts::Account,
    cache_entry::{PollContext, PortalWait},
    key_wait::KeyWait,
    observe::Observed,
    reconciler::Reconciler,
};
use crate::{
    api::VerificationStatus,
    fairness::FairnessKey,
    index::{RecordId, Uid},
    lifecycle::{CompactState, SECRET_READ_AGAIN, Spacing, Unchanged, is_outage, jitter_seed},
    portal::{
        Call, Caller, Details, PortalError, VerificationId,
        budget::{Admission, Closed},
    },
    workqueue::Disposition,
};

/// A pause that delays a poll longer than this is shown in status.
const PAUSE_SHOWN_AFTER: Duration = Duration::from_mins(1);

/// An answer of the portal that changes something.
pub(crate) struct Answer {
    /// With the key that the portal was asked with.
    context: Box<PollContext>,
    /// When the notification arrived that had requested the poll, if one had.
    pub(super) notified_at: Option<Instant>,
    pub(super) result: Result<Details, PortalError>,
}

/// A cached verification that waits for a key.
struct WaitsForKey {
    namespace: String,
    key_wait: KeyWait,
    fairness_key: FairnessKey,
}

/// A cached verification whose next poll does not read the resource.
struct Polled {
    uid: Uid,
    namespace: String,
    context: Box<PollContext>,
    compact: CompactState,
    fairness_key: FairnessKey,
    /// Whether status shows that calls to the portal wait.
    is_shown: bool,
}

impl Reconciler {
    /// Polls without reading the resource if only a poll is due. An error ends the reconcile: nothing has changed, and
    /// it says when the next one is due.
    pub(super) async fn fast_path(&self, record_id: RecordId) -> Result<Option<Answer>, Disposition> {
        if let Some(waits) = self.waits_for_key(record_id) {
            return self.await_key(waits).await;
        }
        let Some(Polled { uid, namespace, context, compact, fairness_key, is_shown }) =
            self.polled(record_id)
        else {
            return Ok(None);
        };
        let now = self.clock.now();
        if !context.baseline.is_plain_at(now) {
            return Ok(None);
        }
        let (wanted, planned) =
            (self.requested_polls.wanted(record_id, Instant::now()), context.baseline.priority());
        let (due, priority) = match wanted {
            Some(wanted) => (context.baseline.held_until(&compact, now), wanted.priority(planned)),
            None => (compact.due_after(now), planned),
        };
        if let Some(due) = due {
            return Err(Disposition::At(self.clock.instant(due), priority, fairness_key));
        }
        let Some((entry, identity)) = context.account.used() else { return Ok(None) };
        // After a rotation, a full reconcile chooses the key.
        let found = self.cluster.secrets().key(&namespace, entry).await;
        let Some(key) = found.ok().and_then(Result::ok).filter(|key| key.identity() == identity) else {
            return Ok(None);
        };
        let budget =
            self.portal.budget(&context.account.portal, key.identity(), fairness_key).with_free_retries();
        let spacing = || Spacing {
            jitter_seed: jitter_seed(uid),
            stretch: budget.stretch(Instant::now()),
            announced: self.announcements.of(&context.account.portal, identity),
        };
        let confirmed_at = self.announcements.confirmed_at(&context.account.portal, identity);
        if let Some(confirmed_at) = confirmed_at.filter(|_| wanted.is_none() && !is_shown)
            && let Some(deferred) =
                context.baseline.deferred(&compact, self.clock.past_time(confirmed_at), now, spacing())
        {
            return Err(self.unchanged(record_id, deferred, fairness_key));
        }
        let ask = || budget.admit(Instant::now(), Call::Poll, priority);
        let mut admission = ask();
        let caller = (&context.account.portal, key.identity());
        if matches!(admission, Admission::Wait { until: _, closed: Closed::Rate })
            && self.joins_first_responses(record_id, fairness_key, caller, &budget)
        {
            admission = ask();
        }
        let permit = match admission {
            Admission::Go(permit) => permit,
            Admission::Wait { until, closed } => {
                self.note_wait(record_id, &context.account, closed, is_shown);
                return if !is_shown && self.is_worth_showing(closed, until, &compact) {
                    Ok(None)
                } else {
                    Err(Disposition::At(retry_at(closed, until), priority, fairness_key))
                };
            }
        };
        let caller = Caller { portal: &context.account.portal, key: &key, permit };
        let notified_at = self.requested_polls.sent(record_id);
        let result = self.poll(caller, context.baseline.id()).await;
        let plain = result.as_ref().ok().filter(|_| !is_shown);
        let unchanged = plain
            .and_then(|details| context.baseline.unchanged(&compact, details, self.clock.now(), spacing()));
        let Some(unchanged) = unchanged else {
            return Ok(Some(Answer { context, notified_at, result }));
        };
        self.requested_polls.responded(record_id);
        Err(self.unchanged(record_id, unchanged, fairness_key))
    }

    /// Remembers that nothing new is known, and when the next poll is due.
    fn unchanged(&self, record_id: RecordId, unchanged: Unchanged, fairness_key: FairnessKey) -> Disposition {
        let Unchanged { compact, next, priority } = unchanged;
        if let Some(entry) = self.index().get_mut(record_id) {
            entry.remember_compact(compact);
            entry.portal_wait = None;
        }
        Disposition::At(self.clock.instant(next), priority, fairness_key)
    }

    fn waits_for_key(&self, record_id: RecordId) -> Option<WaitsForKey> {
        let index = self.index();
        let view = index.view(record_id).filter(|view| !view.deleting && !view.settling)?;
        Some(WaitsForKey {
            key_wait: view.payload.key_wait()?.clone(),
            namespace: view.namespace.to_owned(),
            fairness_key: view.payload.fairness_key,
        })
    }

    /// Reads the Secret. A full reconcile follows if it has changed, or if something else is due.
    async fn await_key(&self, waits: WaitsForKey) -> Result<Option<Answer>, Disposition> {
        let WaitsForKey { namespace, key_wait, fairness_key } = waits;
        let (secrets, account) = (self.cluster.secrets(), &key_wait.account);
        let found = secrets.key(&namespace, &account.current).await;
        let previous = match account.previous.as_ref().filter(|_| key_wait.previous.is_some()) {
            Some(entry) => Some(secrets.key(&namespace, entry).await),
            None => None,
        };
        let now = self.clock.now();
        let Some(again) = key_wait.again(&found, previous.as_ref(), now) else { return Ok(None) };
        let when = self.clock.instant(again).max(Instant::now());
        Err(Disposition::At(when, key_wait.priority, fairness_key))
    }

    fn polled(&self, record_id: RecordId) -> Option<Polled> {
        let index = self.index();
        let view = index.view(record_id).filter(|view| !view.deleting && !view.settling)?;
        Some(Polled {
            uid: view.uid,
            context: Box::new(view.payload.poll_context()?.clone()),
            compact: *view.payload.compact()?,
            namespace: view.namespace.to_owned(),
            fairness_key: view.payload.fairness_key,
            is_shown: view.payload.portal_wait.is_some_and(|portal_wait| portal_wait.is_shown),
        })
    }

    /// Remembers what the next call waits for, for the metrics.
    fn note_wait(&self, record_id: RecordId, account: &Account, closed: Closed, is_shown: bool) {
        let portal_wait =
            self.waits_at(&account.portal, closed).map(|portal_wait| PortalWait { is_shown, ..portal_wait });
        if let Some(entry) = self.index().get_mut(record_id) {
            entry.portal_wait = portal_wait;
        }
    }

    /// Whether status must show a refused admission, which needs a full reconcile.
    fn is_worth_showing(&self, closed: Closed, until: Instant, compact: &CompactState) -> bool {
        match closed {
            // A rejected key is shown only on verifications whose own calls were rejected.
            Closed::Rate | Closed::KeyRejected => false,
            Closed::Breaker => is_outage(&compact.local_state(), self.clock.now()),
            Closed::Paused => {
                let due = compact.due().unwrap_or_else(|| self.clock.now());
                let wait = Duration::try_from(self.clock.time(until).duration_since(due));
                wait.is_ok_and(|wait| wait >= PAUSE_SHOWN_AFTER)
            }
        }
    }
}

/// When to try again after a refused admission. An updated Secret holds another key.
fn retry_at(closed: Closed, until: Instant) -> Instant {
    match closed {
        Closed::KeyRejected => until.min(Instant::now() + SECRET_READ_AGAIN),
        Closed::Rate | Closed::Breaker | Closed::Paused => until,
    }
}

impl Answer {
    /// Whether this is the answer to the poll of that session that a reconcile with these facts would send. It does not
    /// answer a poll that was requested later, and what the portal says of an old key does not hold for a new one.
    pub(super) fn answers(
        &self,
        id: &VerificationId,
        observed: &Observed,
        status: &VerificationStatus,
    ) -> bool {
        self.context.baseline.id() == id
            && observed.account.as_ref() == Some(&*self.context.account)
            && observed.key.is_some()
            && !observed.facts.requests_poll(status)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        api::{ApiKeySecretRef, Phase},
        lifecycle::{KeyVersion, PollBaseline, PortalFact, UNKNOWN_ANSWER, fixtures},
        portal::ApiKey,
        reconcile::{accounts::UsedKey, keys::FoundKeys},
    };

    #[test]
    fn an_answer_counts_for_the_poll_that_was_sent_and_for_none_requested_since() {
        let (mut facts, mut status) = (fixtures::facts(), fixtures::open(Phase::AwaitingUser));
        facts.local_state.seen = Some(UNKNOWN_ANSWER);
        let deadline = fixtures::after(1_000_000);
        let baseline =
            PollBaseline::of(&status, &facts.local_state, facts.bounds, deadline, facts.times()).unwrap();
        let PortalFact::Allowed(portal) = facts.portal.clone() else { panic!("the portal is allowed") };
        let key = |text: &[u8]| Arc::new(ApiKey::parse(text).unwrap());
        let account_of = |name: &str, key: &ApiKey, version| {
            let previous_key = Some("apiKeyOld".to_owned());
            let secret = ApiKeySecretRef { name: name.to_owned(), key: "apiKey".to_owned(), previous_key };
            let used = UsedKey { identity: key.identity(), version };
            Some(Account::new(portal.clone(), &secret, Some(used)))
        };
        let used = key(b"sk_one");
        let account = Arc::new(account_of("okid", &used, KeyVersion::Current).unwrap());
        let answer = Answer {
            context: Box::new(PollContext { baseline, account }),
            notified_at: None,
            result: Err(PortalError::KeyRejected),
        };
        let mut observed = Observed {
            facts,
            account: account_of("okid", &used, KeyVersion::Current),
            key: Some(Arc::clone(&used)),
            found: FoundKeys::default(),
            budget: None,
        };
        let id = fixtures::id().unwrap();
        assert!(answer.answers(&id, &observed, &status));
        let other = VerificationId::parse("ver_other").unwrap();
        assert!(!answer.answers(&other, &observed, &status));

        observed.account = account_of("okid", &key(b"sk_two"), KeyVersion::Current);
        assert!(!answer.answers(&id, &observed, &status), "the key was rotated since");
        observed.account = account_of("okid", &used, KeyVersion::Previous);
        assert!(!answer.answers(&id, &observed, &status), "it is the previous key by now");
        observed.account = account_of("okid", &used, KeyVersion::Current);

        observed.facts.reconcile_requested = Some("1".to_owned());
        assert!(!answer.answers(&id, &observed, &status), "a poll was requested since");
        status.last_handled_reconcile_at = Some("1".to_owned());
        assert!(answer.answers(&id, &observed, &status), "the poll was made");

        observed.account = account_of("another", &used, KeyVersion::Current);
        assert!(!answer.answers(&id, &observed, &status), "the resource names another key by now");
    }
}
