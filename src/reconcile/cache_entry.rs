//! What this process remembers of each live verification: the payload of the index. There may be a hundred thousand, so
//! data that most of them lack is behind a pointer. State only.

use std::sync::Arc;

use jiff::Timestamp;

use super::{
    accounts::Account,
    claim::Claim,
    key_wait::KeyWait,
    sessions::{SessionKey, Sessions},
    unreported::Unreported,
};
use crate::{
    api::{Phase, StoredObject, Verification},
    cluster::fairness_key,
    fairness::FairnessKey,
    index::{Index, RecordId},
    lifecycle::{CompactState, KnownSession, LocalState, PollBaseline, PollSchedule, UploadOutcome},
    portal::{VerificationId, budget::Closed},
    priority::Priority,
};

mod first;

/// What is remembered of one verification.
#[derive(Clone, Debug)]
pub(crate) struct CacheEntry {
    history: History,
    /// What a poll needs that does not read the resource; none if the next reconcile reads it.
    poll_context: Option<Box<PollContext>>,
    /// Data that few verifications have.
    rare: Option<Box<Rare>>,
    /// What its next call waits for at the portal.
    pub(crate) portal_wait: Option<PortalWait>,
    /// Its session, once there is one.
    pub(crate) session: Option<SessionKey>,
    /// The fairness key of its reconciles.
    pub(crate) fairness_key: FairnessKey,
    /// Counts the changes by other clients.
    changes: u16,
    /// Reconciles in a row that failed because of the API server.
    failures: u8,
    /// Its phase, for the metrics; it fills a byte that the alignment leaves free.
    phase: Option<Phase>,
}

/// Data that few verifications have at a time.
#[derive(Clone, Debug, Default)]
struct Rare {
    /// What is waited for, if it is a key and no other call is due.
    key_wait: Option<KeyWait>,
    /// Its session according to status, if the poll context does not hold the same.
    known: Option<KnownSession>,
    /// The claim that was found, and since when.
    claim: Option<Box<Claim>>,
    /// Evidence that was stored but could not be recorded in status yet.
    unwritten: Option<Box<UploadOutcome>>,
    /// What is to be reported of a write whose response was lost.
    unreported: Option<Box<Unreported>>,
    /// When it is reconciled first, once this replica leads.
    plan: Option<Box<Plan>>,
}

/// When a verification is reconciled first by a replica that was a standby when it saw it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Plan {
    /// Somewhere in its interval, from when the replica leads.
    Poll(PollSchedule),
    /// At that time.
    At(Timestamp),
}

impl Rare {
    const fn is_empty(&self) -> bool {
        let Self { key_wait, known, claim, unwritten, unreported, plan } = self;
        key_wait.is_none()
            && known.is_none()
            && claim.is_none()
            && unwritten.is_none()
            && unreported.is_none()
            && plan.is_none()
    }
}

/// Failures and the schedule.
#[derive(Clone, Debug)]
enum History {
    /// Without failures.
    Compact(CompactState),
    /// With failures.
    Full(Box<LocalState>),
}

/// What a poll on the fast path needs.
#[derive(Clone, Debug)]
pub(crate) struct PollContext {
    /// The answer that changes nothing.
    pub(crate) baseline: PollBaseline,
    pub(crate) account: Arc<Account>,
}

impl PollContext {
    /// The session that is polled, as the status has it.
    fn known_session(&self) -> KnownSession {
        self.baseline.known_session(self.account.portal.as_str().into())
    }
}

/// What the next call to the portal waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PortalWait {
    /// The number of the portal among the allowed ones.
    pub(crate) portal: u16,
    /// Why calls are not admitted.
    pub(crate) closed: Closed,
    /// Whether status shows it, so that the next answer must clear it.
    pub(crate) is_shown: bool,
}

impl CacheEntry {
    /// The entry of a verification that another client changed: its next reconcile reads it.
    #[must_use]
    pub(crate) fn changed(&self, object: &Verification) -> Self {
        let mut entry = Self { fairness_key: fairness_key(object), ..self.clone() };
        entry.show(object);
        entry.read_next();
        entry
    }

    /// Takes over the phase of the resource, which this process has read or written.
    pub(crate) fn show(&mut self, object: &Verification) {
        self.phase = object.status.as_ref().and_then(|status| status.phase);
    }

    /// The phase of the resource; one that was never reconciled is `Pending`.
    pub(crate) fn phase(&self) -> Phase {
        self.phase.unwrap_or(Phase::Pending)
    }

    /// Whether the check has ended and nothing is left to store.
    pub(crate) const fn has_ended(&self) -> bool {
        matches!(self.phase, Some(Phase::Verified | Phase::Rejected | Phase::Expired | Phase::Failed))
    }

    /// The priority of its first reconcile.
    pub(crate) const fn first_priority(&self) -> Priority {
        if self.has_ended() { Priority::Idle } else { Priority::Create }
    }

    /// Makes the next reconcile read the resource.
    pub(crate) fn read_next(&mut self) {
        self.set_poll_context(None);
        self.set_key_wait(None);
        self.changes = self.changes.wrapping_add(1);
    }

    /// The entry after a reconcile, where `cached` is the one in the index. Another client may have changed the
    /// resource meanwhile: then the next reconcile reads it.
    fn merged_with(self, cached: &Self) -> Self {
        let is_unchanged = self.changes == cached.changes;
        // The reconcile may have written a later one than it started from.
        let mut entry = Self { phase: cached.phase, ..self };
        // A write whose response was lost during the reconcile is noted in the index only.
        if entry.unreported().is_none() && cached.unreported().is_some() {
            drop(entry.replace_unreported(cached.unreported().cloned().map(Box::new)));
        }
        if is_unchanged {
            return entry;
        }
        entry.fairness_key = cached.fairness_key;
        entry.changes = cached.changes;
        entry.set_poll_context(None);
        entry.set_key_wait(None);
        if entry.known().is_none() {
            entry.know(cached.known());
        }
        entry
    }

    /// Puts the entry into the index after a reconcile of the verification with this uid. If that was deleted
    /// meanwhile, its session is forgotten, because the entry may not have held one when it was removed.
    pub(crate) fn store(self, index: &mut Index<Self>, record_id: RecordId, uid: &str, sessions: &Sessions) {
        if let Some(cached) = index.get_mut(record_id) {
            *cached = self.merged_with(cached);
        } else if let Some(session) = self.session.filter(|_| index.find_by_uid(uid).is_none()) {
            sessions.forget(session);
        }
    }

    /// Does not count a change that was only the echo of this process's own write.
    pub(crate) const fn uncount_change(&mut self) {
        self.changes = self.changes.wrapping_sub(1);
    }

    /// Whether it waits because creates at that portal are admitted one at a time.
    pub(crate) fn waits_to_create_at(&self, portal: u16) -> bool {
        let portal_wait =
            |portal_wait: PortalWait| portal_wait.portal == portal && portal_wait.closed == Closed::Breaker;
        self.session.is_none() && self.portal_wait.is_some_and(portal_wait)
    }

    /// Remembers the session of a status.
    pub(crate) fn know(&mut self, session: Option<KnownSession>) {
        let Some(session) = session else { return };
        let has_context =
            self.poll_context.as_deref().is_some_and(|context| context.known_session() == session);
        self.with_rare(|rare| rare.known = (!has_context).then_some(session));
    }

    /// The last session of its status.
    pub(crate) fn known(&self) -> Option<KnownSession> {
        let known = self.rare.as_ref().and_then(|rare| rare.known.clone());
        known.or_else(|| self.poll_context.as_deref().map(PollContext::known_session))
    }

    /// What a poll needs that does not read the resource.
    pub(crate) fn poll_context(&self) -> Option<&PollContext> {
        self.poll_context.as_deref()
    }

    /// Remembers what polls need, or makes the next reconcile read the resource. The session is kept.
    pub(crate) fn set_poll_context(&mut self, context: Option<Box<PollContext>>) {
        let known = self.known();
        self.poll_context = context;
        self.know(known);
    }

    /// What is waited for, if it is a key and no other call is due.
    pub(crate) fn key_wait(&self) -> Option<&KeyWait> {
        self.rare.as_ref()?.key_wait.as_ref()
    }

    pub(crate) fn set_key_wait(&mut self, key_wait: Option<KeyWait>) {
        self.with_rare(|rare| rare.key_wait = key_wait);
    }

    /// The claim that was found, and since when.
    pub(crate) fn claim(&self) -> Option<&Claim> {
        self.rare.as_ref()?.claim.as_deref()
    }

    pub(crate) fn set_claim(&mut self, claim: Option<Claim>) {
        self.with_rare(|rare| rare.claim = claim.map(Box::new));
    }

    /// Evidence that was stored but could not be recorded in status yet.
    pub(crate) fn unwritten(&self) -> Option<&UploadOutcome> {
        self.rare.as_ref()?.unwritten.as_deref()
    }

    pub(crate) fn set_unwritten(&mut self, stored: Option<UploadOutcome>) {
        self.with_rare(|rare| rare.unwritten = stored.map(Box::new));
    }

    /// The report of a write whose response was lost.
    pub(crate) fn unreported(&self) -> Option<&Unreported> {
        self.rare.as_ref()?.unreported.as_deref()
    }

    /// Replaces the report, and returns the previous one.
    pub(crate) fn replace_unreported(
        &mut self,
        unreported: Option<Box<Unreported>>,
    ) -> Option<Box<Unreported>> {
        let mut before = None;
        self.with_rare(|rare| before = std::mem::replace(&mut rare.unreported, unreported));
        before
    }

    /// Changes the rare data, and frees it if nothing is left.
    fn with_rare(&mut self, change: impl FnOnce(&mut Rare)) {
        if let Some(rare) = &mut self.rare {
            change(rare);
            if rare.is_empty() {
                self.rare = None;
            }
        } else {
            let mut rare = Rare::default();
            change(&mut rare);
            self.rare = (!rare.is_empty()).then(|| Box::new(rare));
        }
    }

    /// The local state in full.
    pub(crate) fn local_state(&self) -> LocalState {
        match &self.history {
            History::Compact(compact) => compact.local_state(),
            History::Full(local_state) => (**local_state).clone(),
        }
    }

    /// The local state, if it has no failures.
    pub(crate) const fn compact(&self) -> Option<&CompactState> {
        match &self.history {
            History::Compact(compact) => Some(compact),
            History::Full(_) => None,
        }
    }

    /// Whether its session needs the key from before a rotation, or may need it because its keys were not read.
    pub(crate) fn needs_previous_key(&self) -> bool {
        match &self.history {
            History::Compact(compact) => compact.needs_previous_key(),
            History::Full(local_state) => local_state.key_version.is_previous(),
        }
    }

    /// Counts a reconcile that failed because of the API server, and returns how many failed in a row before.
    pub(crate) fn one_more_failure(&mut self) -> u8 {
        let before = self.failures;
        self.failures = before.saturating_add(1);
        before
    }

    /// Remembers the local state after a reconcile.
    pub(crate) fn remember(&mut self, local_state: LocalState) {
        self.failures = 0;
        self.history = match CompactState::of(&local_state) {
            Some(compact) => History::Compact(compact),
            None => History::Full(Box::new(local_state)),
        };
    }

    /// Remembers the local state after a poll that changed nothing.
    pub(crate) fn remember_compact(&mut self, compact: CompactState) {
        self.history = History::Compact(compact);
    }

    /// Bytes behind the pointers, approximately.
    #[must_use]
    pub(crate) fn heap(&self) -> usize {
        let history = match &self.history {
            History::Compact(_) => 0,
            History::Full(local_state) => size_of::<LocalState>() + local_state.misses.heap(),
        };
        let id = |id: &VerificationId| id.as_str().len() + 2 * size_of::<usize>();
        let context =
            self.poll_context().map_or(0, |context| size_of_val(context) + id(context.baseline.id()));
        let rare = self.rare.as_deref().map_or(0, |rare| {
            let Rare { key_wait: _, known, claim, unwritten, unreported, plan } = rare;
            let known = known.as_ref().map_or(0, |known| id(&known.id));
            let unwritten = unwritten.as_deref().map_or(0, |stored| {
                size_of::<UploadOutcome>() + stored.objects.len() * size_of::<StoredObject>()
            });
            let plan = plan.as_deref().map_or(0, size_of_val);
            let claim = claim.as_deref().map_or(0, |claim| size_of_val(claim) + claim.heap());
            let unreported = unreported.as_deref().map_or(0, size_of_val);
            size_of_val(rare) + known + claim + unwritten + unreported + plan
        });
        history + context + rare
    }
}

/// The session that a resource publishes: the base URL of its portal, and its id.
pub(crate) fn published(object: &Verification) -> Option<(&str, VerificationId)> {
    let status = object.status.as_ref()?;
    let id = VerificationId::parse(status.verification_id.as_deref()?).ok()?;
    let portal = status.session.as_ref().and_then(|session| session.portal.as_deref());
    Some((portal.unwrap_or_default(), id))
}

#[cfg(test)]
mod tests;
