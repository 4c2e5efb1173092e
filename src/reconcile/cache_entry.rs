//! What this process remembers of each live verification: the payload of the table. A hundred thousand are kept, so
//! what most of them do not have lies behind a pointer.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use jiff::Timestamp;
use kube::ResourceExt;
use tokio::time::Instant;

use super::{
    accounts::Account,
    key_wait::KeyWait,
    sessions::{SessionKey, Sessions},
    unreported::Unreported,
};
use crate::{
    api::{StoredObject, Verification},
    clock::Clock,
    fairness::FairnessKey,
    index::{Index, RecordId},
    lifecycle::{
        CompactState, FirstReconcile, KnownSession, LocalState, PollBaseline, UploadOutcome, first_reconcile,
    },
    portal::{VerificationId, budget::Closed},
};

/// What is remembered of one verification.
#[derive(Clone, Debug)]
pub struct CacheEntry {
    history: History,
    /// What a look needs that does not read the resource; nothing, where the next turn reads it.
    pub(crate) standing: Option<Box<PollContext>>,
    /// What is waited for, if it is a key and no other call is due.
    pub(crate) key_wait: Option<Box<KeyWait>>,
    /// Its session as status told it, once there is one.
    known: Option<Box<KnownSession>>,
    /// The claim that was found, and since when.
    pub(crate) claim: Option<Box<Claim>>,
    /// What was stored as evidence, and could not be written into status yet.
    pub(crate) unwritten: Option<Box<UploadOutcome>>,
    /// What is to be told of a write whose answer was lost.
    pub(crate) unreported: Option<Box<Unreported>>,
    /// What its next call waits for at the portal.
    pub(crate) portal_wait: Option<PortalWait>,
    /// Its session, once there is one.
    pub session: Option<SessionKey>,
    /// Whose share its turns take.
    pub fairness_key: FairnessKey,
    /// Counts the changes that others made.
    changes: u16,
    /// Reconciler in a row that the API server kept from their end.
    failures: u8,
}

/// LocalState of trouble and the schedule.
#[derive(Clone, Debug)]
enum History {
    /// In short.
    CompactState(CompactState),
    /// With trouble in it.
    Troubled(Box<LocalState>),
}

/// How a session is looked at while nothing new is found.
#[derive(Clone, Debug)]
pub(crate) struct PollContext {
    /// What to compare answers with.
    pub(crate) baseline: PollBaseline,
    /// Whom to ask, as whom.
    pub(crate) account: Arc<Account>,
    /// A hash of the uid.
    pub(crate) jitter_seed: u64,
}

/// A portal's gate that is closed to a verification's next call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PortalWait {
    /// The number of the portal among the allowed ones.
    pub(crate) portal: u16,
    /// Why it is closed.
    pub(crate) closed: Closed,
    /// Whether status says so, which the next answer has to take back.
    pub(crate) is_told: bool,
}

/// A claim without a recorded answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim {
    /// The number of the attempt.
    pub(crate) attempt: u32,
    /// When this process first saw it.
    pub(crate) seen: Instant,
    /// Whether this process knows that its request was not sent.
    pub(crate) never_sent: bool,
}

impl CacheEntry {
    /// What is known of a verification that this process sees for the first time, and when its first turn is.
    pub(crate) fn first(object: &Verification, clock: &Clock) -> (Self, Instant) {
        let now = clock.now();
        let status = object.status.clone().unwrap_or_default();
        let uid = object.uid().unwrap_or_default();
        let FirstReconcile { at, due, last_poll, suspended } =
            first_reconcile(&uid, &status, &object.spec, object.metadata.generation, jitter_seed(&uid), now);
        let mut entry = Self {
            history: History::CompactState(CompactState::default()),
            standing: None,
            key_wait: None,
            portal_wait: None,
            known: None,
            claim: None,
            unwritten: None,
            unreported: None,
            session: None,
            fairness_key: fairness_key(object),
            changes: 0,
            failures: 0,
        };
        let suspended = suspended.then_some(Timestamp::UNIX_EPOCH);
        entry.remember(LocalState { next: due, last_poll, suspended, ..LocalState::default() });
        (entry, at.map_or_else(Instant::now, |at| clock.instant(at)))
    }

    /// What is known of a verification that somebody changed: its next turn reads it.
    #[must_use]
    pub fn changed(&self, object: &Verification) -> Self {
        Self {
            standing: None,
            key_wait: None,
            fairness_key: fairness_key(object),
            changes: self.changes.wrapping_add(1),
            ..self.clone()
        }
    }

    /// The next turn reads the resource, whatever was known of it.
    pub fn read_next(&mut self) {
        self.standing = None;
        self.key_wait = None;
        self.changes = self.changes.wrapping_add(1);
    }

    /// What is kept after a turn that began with what `kept` was: somebody may have changed the resource meanwhile, and
    /// then the next turn reads it.
    pub(crate) fn unless_changed(self, kept: &Self) -> Self {
        if self.changes == kept.changes {
            self
        } else {
            let known = self.known.clone().or_else(|| kept.known.clone());
            Self {
                standing: None,
                key_wait: None,
                fairness_key: kept.fairness_key,
                changes: kept.changes,
                known,
                ..self
            }
        }
    }

    /// Keeps this after a turn of the verification of that uid. If that was deleted meanwhile, its session is forgotten:
    /// what was known of it then may not have had one yet.
    pub(crate) fn keep(self, index: &mut Index<Self>, record_id: RecordId, uid: &str, sessions: &Sessions) {
        if let Some(kept) = index.get_mut(record_id) {
            *kept = self.unless_changed(kept);
        } else if let Some(session) = self.session.filter(|_| index.slot_of_uid(uid).is_none()) {
            sessions.forget(session);
        }
    }

    /// A change that was counted was the echo of a write of this process.
    pub(crate) const fn take_back_a_change(&mut self) {
        self.changes = self.changes.wrapping_sub(1);
    }

    /// Whether it waits for its session, because creates at that portal go one at a time.
    pub(crate) fn waits_to_create_at(&self, portal: u16) -> bool {
        let portal_wait =
            |portal_wait: PortalWait| portal_wait.portal == portal && portal_wait.closed == Closed::Breaker;
        self.session.is_none() && self.portal_wait.is_some_and(portal_wait)
    }

    /// Keeps the session that a status tells of.
    pub(crate) fn know(&mut self, session: Option<KnownSession>) {
        if let Some(session) = session.filter(|session| self.known.as_deref() != Some(session)) {
            self.known = Some(Box::new(session));
        }
        if let (Some(known), Some(standing)) = (&self.known, &mut self.standing) {
            standing.baseline.share(&known.id);
        }
    }

    /// The session that a status told of.
    pub(crate) fn known(&self) -> Option<&KnownSession> {
        self.known.as_deref()
    }

    /// The streaks, at length.
    pub(crate) fn local_state(&self) -> LocalState {
        match &self.history {
            History::CompactState(compact) => compact.local_state(),
            History::Troubled(local_state) => (**local_state).clone(),
        }
    }

    /// The streaks, if there is no trouble in them.
    pub(crate) const fn compact(&self) -> Option<&CompactState> {
        match &self.history {
            History::CompactState(compact) => Some(compact),
            History::Troubled(_) => None,
        }
    }

    /// Counts a turn that the API server kept from its end, and returns how many there were in a row before.
    pub(crate) fn one_more_failure(&mut self) -> u8 {
        let before = self.failures;
        self.failures = before.saturating_add(1);
        before
    }

    /// Keeps the streaks of a turn that came to its end.
    pub(crate) fn remember(&mut self, local_state: LocalState) {
        self.failures = 0;
        self.history = match CompactState::of(&local_state) {
            Some(compact) => History::CompactState(compact),
            None => History::Troubled(Box::new(local_state)),
        };
    }

    /// Keeps what followed a look that found nothing new.
    pub(crate) fn remember_calm(&mut self, compact: CompactState) {
        self.history = History::CompactState(compact);
    }

    /// Bytes that lie behind the pointers, about.
    #[must_use]
    pub fn heap(&self) -> usize {
        let history = match &self.history {
            History::CompactState(_) => 0,
            History::Troubled(local_state) => size_of::<LocalState>() + local_state.misses.heap(),
        };
        let standing = self.standing.as_deref().map_or(0, size_of_val);
        // The routine shares the id.
        let known =
            self.known.as_deref().map_or(0, |known| size_of_val(known) + known.id.as_str().len() + 16);
        let claim =
            self.claim.as_deref().map_or(0, size_of_val) + self.key_wait.as_deref().map_or(0, size_of_val);
        let unwritten = self.unwritten.as_deref().map_or(0, |stored| {
            size_of::<UploadOutcome>() + stored.objects.len() * size_of::<StoredObject>()
        });
        let unreported = self.unreported.as_deref().map_or(0, size_of_val);
        history + standing + known + claim + unwritten + unreported
    }
}

/// Whose share a verification's turns take: its namespace's, and there its portal's and key's.
#[must_use]
pub fn fairness_key(object: &Verification) -> FairnessKey {
    let namespace = object.namespace().unwrap_or_default();
    FairnessKey::new(&namespace, &(&object.spec.portal, &object.spec.api_key_secret_ref))
}

/// A hash of the uid: the only chance that the schedule knows.
#[must_use]
pub fn jitter_seed(uid: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    uid.hash(&mut hasher);
    hasher.finish()
}

/// The session that a resource publishes: the base URL of its portal, and its id.
pub(crate) fn published(object: &Verification) -> Option<(&str, VerificationId)> {
    let status = object.status.as_ref()?;
    let id = VerificationId::parse(status.verification_id.as_deref()?).ok()?;
    let portal = status.session.as_ref().and_then(|session| session.portal.as_deref());
    Some((portal.unwrap_or_default(), id))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::index::Seen;

    #[test]
    fn only_who_waits_for_creates_at_a_portal_is_woken_when_they_go_on_there() {
        let object: Verification = serde_json::from_value(json!({
            "apiVersion": "okid.io/v1alpha1",
            "kind": "Verification",
            "metadata": {"namespace": "kyc", "name": "alice", "uid": "one", "resourceVersion": "1"},
            "spec": {"apiKeySecretRef": {"name": "okid"}},
        }))
        .unwrap();
        let fresh = CacheEntry::first(&object, &Clock::start()).0;
        let waiting = |closed| CacheEntry {
            portal_wait: Some(PortalWait { portal: 1, closed, is_told: false }),
            ..fresh.clone()
        };
        assert!(waiting(Closed::Breaker).waits_to_create_at(1));
        assert!(!waiting(Closed::Breaker).waits_to_create_at(2));
        for closed in [Closed::Paused, Closed::KeyRejected, Closed::Rate] {
            assert!(!waiting(closed).waits_to_create_at(1));
        }
        assert!(!fresh.waits_to_create_at(1), "it does not wait for the portal");
        let session = Sessions::default().take("", &VerificationId::parse("ver_1").unwrap(), "one");
        assert!(!CacheEntry { session, ..waiting(Closed::Breaker) }.waits_to_create_at(1));
    }

    #[test]
    fn a_session_that_is_recorded_while_its_resource_is_deleted_is_not_held_for_ever() {
        let object: Verification = serde_json::from_value(json!({
            "apiVersion": "okid.io/v1alpha1",
            "kind": "Verification",
            "metadata": {"namespace": "kyc", "name": "alice", "uid": "one", "resourceVersion": "1"},
            "spec": {"apiKeySecretRef": {"name": "okid"}},
        }))
        .unwrap();
        let (sessions, clock) = (Sessions::default(), Clock::start());
        let mut index = Index::new();
        let Seen::New(record_id) = index.seen(&object.metadata, |_| CacheEntry::first(&object, &clock).0)
        else {
            panic!("it is new");
        };
        let mut entry = index.get(record_id).unwrap().clone();
        let id = VerificationId::parse("ver_1").unwrap();
        entry.session = sessions.take("https://one.example", &id, "one");
        let removed = index.gone("one").unwrap();
        assert_eq!(removed.payload.session, None, "so there is nothing to forget when it is deleted");
        entry.keep(&mut index, record_id, "one", &sessions);
        assert!(sessions.take("https://one.example", &id, "two").is_some());
    }
}
