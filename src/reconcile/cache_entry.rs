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
    api::{Phase, StoredObject, Verification},
    clock::Clock,
    cluster::fairness_key,
    fairness::FairnessKey,
    index::{Index, RecordId},
    lifecycle::{
        CompactState, FirstReconcile, KnownSession, LocalState, PollBaseline, UploadOutcome, first_reconcile,
    },
    portal::{VerificationId, budget::Closed},
};

/// What is remembered of one verification.
#[derive(Clone, Debug)]
pub(crate) struct CacheEntry {
    history: History,
    /// What a poll needs that does not read the resource; nothing, where the next reconcile reads it.
    poll_context: Option<Box<PollContext>>,
    /// What few have.
    rare: Option<Box<Rare>>,
    /// What its next call waits for at the portal.
    pub(crate) portal_wait: Option<PortalWait>,
    /// Its session, once there is one.
    pub(crate) session: Option<SessionKey>,
    /// Whose share its turns take.
    pub(crate) fairness_key: FairnessKey,
    /// Counts the changes that others made.
    changes: u16,
    /// Reconciler in a row that the API server kept from their end.
    failures: u8,
    /// Its phase, for the metrics; it fills a byte that the alignment leaves free.
    phase: Option<Phase>,
}

/// What is remembered of few verifications at a time.
#[derive(Clone, Debug, Default)]
struct Rare {
    /// What is waited for, if it is a key and no other call is due.
    key_wait: Option<KeyWait>,
    /// Its session as status told of it, where the poll context does not say the same.
    known: Option<KnownSession>,
    /// The claim that was found, and since when.
    claim: Option<Claim>,
    /// What was stored as evidence, and could not be written into status yet.
    unwritten: Option<Box<UploadOutcome>>,
    /// What is to be reported of a write whose response was lost.
    unreported: Option<Box<Unreported>>,
}

/// Failures and the schedule.
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

impl PollContext {
    /// The session that is polled, as the status told of it.
    fn known_session(&self) -> KnownSession {
        self.baseline.known_session(self.account.portal.as_str().into())
    }
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
            poll_context: None,
            rare: None,
            portal_wait: None,
            session: None,
            fairness_key: fairness_key(object),
            changes: 0,
            failures: 0,
            phase: status.phase,
        };
        let suspended = suspended.then_some(Timestamp::UNIX_EPOCH);
        entry.remember(LocalState { next: due, last_poll, suspended, ..LocalState::default() });
        (entry, at.map_or_else(Instant::now, |at| clock.instant(at)))
    }

    /// What is known of a verification that somebody changed: its next reconcile reads it.
    #[must_use]
    pub(crate) fn changed(&self, object: &Verification) -> Self {
        let mut entry = Self { fairness_key: fairness_key(object), ..self.clone() };
        entry.show(object);
        entry.read_next();
        entry
    }

    /// Takes the phase of the resource, which this process has seen or written.
    pub(crate) fn show(&mut self, object: &Verification) {
        self.phase = object.status.as_ref().and_then(|status| status.phase);
    }

    /// The phase of the resource; one that was never reconciled is `Pending`.
    pub(crate) fn phase(&self) -> Phase {
        self.phase.unwrap_or(Phase::Pending)
    }

    /// The next reconcile reads the resource, whatever was known of it.
    pub(crate) fn read_next(&mut self) {
        self.set_poll_context(None);
        self.set_key_wait(None);
        self.changes = self.changes.wrapping_add(1);
    }

    /// What is kept after a reconcile that began with what `kept` was: somebody may have changed the resource meanwhile,
    /// and then the next reconcile reads it.
    pub(crate) fn unless_changed(self, kept: &Self) -> Self {
        let is_unchanged = self.changes == kept.changes;
        // The reconcile may have written a later one than it began with.
        let mut entry = Self { phase: kept.phase, ..self };
        if is_unchanged {
            return entry;
        }
        entry.fairness_key = kept.fairness_key;
        entry.changes = kept.changes;
        entry.set_poll_context(None);
        entry.set_key_wait(None);
        if entry.known().is_none() {
            entry.know(kept.known());
        }
        entry
    }

    /// Keeps this after a turn of the verification of that uid. If that was deleted meanwhile, its session is forgotten:
    /// what was known of it then may not have had one yet.
    pub(crate) fn keep(self, index: &mut Index<Self>, record_id: RecordId, uid: &str, sessions: &Sessions) {
        if let Some(kept) = index.get_mut(record_id) {
            *kept = self.unless_changed(kept);
        } else if let Some(session) = self.session.filter(|_| index.find_by_uid(uid).is_none()) {
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
        let Some(session) = session else { return };
        let is_said = self.poll_context.as_deref().is_some_and(|context| context.known_session() == session);
        self.with_rare(|rare| rare.known = (!is_said).then_some(session));
    }

    /// The session that a status told of.
    pub(crate) fn known(&self) -> Option<KnownSession> {
        let kept = self.rare.as_ref().and_then(|rare| rare.known.clone());
        kept.or_else(|| self.poll_context.as_deref().map(PollContext::known_session))
    }

    /// What a poll needs that does not read the resource.
    pub(crate) fn poll_context(&self) -> Option<&PollContext> {
        self.poll_context.as_deref()
    }

    /// Keeps what polls need, or makes the next reconcile read the resource. The session that is known stays known.
    pub(crate) fn set_poll_context(&mut self, context: Option<Box<PollContext>>) {
        let known = self.known();
        self.poll_context = context;
        self.know(known);
    }

    /// What is waited for, if it is a key and no other call is due.
    pub(crate) fn key_wait(&self) -> Option<&KeyWait> {
        self.rare.as_ref()?.key_wait.as_ref()
    }

    /// Keeps what is waited for.
    pub(crate) fn set_key_wait(&mut self, key_wait: Option<KeyWait>) {
        self.with_rare(|rare| rare.key_wait = key_wait);
    }

    /// The claim that was found, and since when.
    pub(crate) fn claim(&self) -> Option<Claim> {
        self.rare.as_ref()?.claim
    }

    /// Keeps the claim that was found.
    pub(crate) fn set_claim(&mut self, claim: Option<Claim>) {
        self.with_rare(|rare| rare.claim = claim);
    }

    /// What was stored as evidence, and could not be written into status yet.
    pub(crate) fn unwritten(&self) -> Option<&UploadOutcome> {
        self.rare.as_ref()?.unwritten.as_deref()
    }

    /// Keeps what was stored, until it can be written into status.
    pub(crate) fn set_unwritten(&mut self, stored: Option<UploadOutcome>) {
        self.with_rare(|rare| rare.unwritten = stored.map(Box::new));
    }

    /// What is to be reported of a write whose response was lost.
    pub(crate) fn unreported(&self) -> Option<&Unreported> {
        self.rare.as_ref()?.unreported.as_deref()
    }

    /// Keeps what is to be reported, and returns what was kept before.
    pub(crate) fn replace_unreported(
        &mut self,
        unreported: Option<Box<Unreported>>,
    ) -> Option<Box<Unreported>> {
        let mut before = None;
        self.with_rare(|rare| before = std::mem::replace(&mut rare.unreported, unreported));
        before
    }

    /// Changes what few have; nothing is kept for those who have nothing of it.
    fn with_rare(&mut self, change: impl FnOnce(&mut Rare)) {
        let mut rare = self.rare.take().unwrap_or_default();
        change(&mut rare);
        let Rare { key_wait, known, claim, unwritten, unreported } = &*rare;
        let is_empty = key_wait.is_none()
            && known.is_none()
            && claim.is_none()
            && unwritten.is_none()
            && unreported.is_none();
        self.rare = (!is_empty).then_some(rare);
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
    pub(crate) fn heap(&self) -> usize {
        let history = match &self.history {
            History::CompactState(_) => 0,
            History::Troubled(local_state) => size_of::<LocalState>() + local_state.misses.heap(),
        };
        let id = |id: &VerificationId| id.as_str().len() + 2 * size_of::<usize>();
        let context =
            self.poll_context().map_or(0, |context| size_of_val(context) + id(context.baseline.id()));
        let rare = self.rare.as_deref().map_or(0, |rare| {
            let Rare { key_wait: _, known, claim: _, unwritten, unreported } = rare;
            let known = known.as_ref().map_or(0, |known| id(&known.id));
            let unwritten = unwritten.as_deref().map_or(0, |stored| {
                size_of::<UploadOutcome>() + stored.objects.len() * size_of::<StoredObject>()
            });
            size_of_val(rare) + known + unwritten + unreported.as_deref().map_or(0, size_of_val)
        });
        history + context + rare
    }
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
    use crate::index::Applied;

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

    fn open_session(expires_at: &str) -> (Verification, CacheEntry) {
        let object: Verification = serde_json::from_value(json!({
            "apiVersion": "okid.io/v1alpha1",
            "kind": "Verification",
            "metadata": {"namespace": "kyc", "name": "alice", "uid": "one", "resourceVersion": "1"},
            "spec": {"apiKeySecretRef": {"name": "okid"}},
            "status": {
                "phase": "AwaitingUser", "verificationId": "ver_1", "expiresAt": expires_at,
                "session": {
                    "attempt": 2, "state": "Created", "uid": "one", "portal": "https://portal.test",
                    "createdAt": "2026-11-27T10:00:00Z",
                },
            },
        }))
        .unwrap();
        let entry = CacheEntry::first(&object, &Clock::start()).0;
        (object, entry)
    }

    fn poll_context(object: &Verification) -> Box<PollContext> {
        let status = object.status.as_ref().unwrap();
        let now: Timestamp = "2026-11-27T10:00:30Z".parse().unwrap();
        let times = crate::lifecycle::Times { now, portal_now: Some(now) };
        let local = LocalState { seen: std::num::NonZeroU64::new(1), ..LocalState::default() };
        let bounds = crate::lifecycle::Bounds::of(&object.spec);
        let deadline = "2026-12-04T10:00:00Z".parse().unwrap();
        let baseline = PollBaseline::of(status, &local, bounds, deadline, times).unwrap();
        let portals = crate::portal::AllowedPortals::new(["https://portal.test"], false).unwrap();
        let portal = portals.iter().next().unwrap().clone();
        let account = Arc::new(Account { portal, secret: object.spec.api_key_secret_ref.clone() });
        Box::new(PollContext { baseline, account, jitter_seed: 0 })
    }

    #[test]
    fn a_session_is_kept_once_and_stays_known_when_the_next_reconcile_reads_the_resource() {
        for expires_at in ["2026-11-27T11:00:00Z", "2026-11-27T09:00:00Z"] {
            let (object, mut entry) = open_session(expires_at);
            let known = KnownSession::of("one", object.status.as_ref().unwrap()).unwrap();
            assert_eq!(entry.known(), None);
            entry.know(Some(known.clone()));
            assert_eq!(entry.known().as_ref(), Some(&known));
            entry.set_poll_context(Some(poll_context(&object)));
            assert!(entry.rare.is_none(), "the context says the same");
            assert_eq!(entry.known().as_ref(), Some(&known), "as the status says it, expiry included");
            assert_eq!(entry.changed(&object).known().as_ref(), Some(&known));
            let after = entry.clone().unless_changed(&CacheEntry { changes: 7, ..entry.clone() });
            assert!(after.poll_context().is_none());
            assert_eq!(after.known().as_ref(), Some(&known));
            let other =
                KnownSession::of("one", open_session("2026-11-27T12:00:00Z").0.status.as_ref().unwrap());
            entry.know(other.clone());
            assert_eq!(entry.known(), other, "what was told last counts");
        }
    }

    #[test]
    fn what_few_verifications_have_takes_no_memory_of_the_others() {
        let (object, mut entry) = open_session("2026-11-27T11:00:00Z");
        entry.set_poll_context(Some(poll_context(&object)));
        entry.set_claim(Some(Claim { attempt: 1, seen: Instant::now(), never_sent: false }));
        assert!(entry.rare.is_some());
        entry.set_claim(None);
        assert!(entry.rare.is_none());
        assert!(size_of::<CacheEntry>() <= 80, "{}", size_of::<CacheEntry>());
        assert!(entry.heap() <= 80, "{}", entry.heap());
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
        let Applied::New(record_id) =
            index.applied(&object.metadata, |_| CacheEntry::first(&object, &clock).0)
        else {
            panic!("it is new");
        };
        let mut entry = index.get(record_id).unwrap().clone();
        let id = VerificationId::parse("ver_1").unwrap();
        entry.session = sessions.take("https://one.example", &id, "one");
        let removed = index.deleted("one").unwrap();
        assert_eq!(removed.payload.session, None, "so there is nothing to forget when it is deleted");
        entry.keep(&mut index, record_id, "one", &sessions);
        assert!(sessions.take("https://one.example", &id, "two").is_some());
    }
}
