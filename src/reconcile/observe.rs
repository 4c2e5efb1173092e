//! Observes: collects the facts about a resource, its portal, its key and its store. May depend on `reconciler`, `cache_entry`,
//! `accounts` and `keys`, and on `lifecycle`, `cluster` (Secrets), `portal` (budget) and `evidence` (destination). Writes nothing.

use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt;
use tokio::time::Instant;

use super::{
    accounts::Account,
    cache_entry::CacheEntry,
    claim::Claim,
    keys::{ChosenKey, FoundKeys},
    reconciler::Reconciler,
};
use crate::{
    api::{
        EVIDENCE_FINALIZER, RECONCILE_REQUESTED_AT, RETRY, Verification, VerificationStatus,
        is_kept_by_git_ops,
    },
    clock::Clock,
    cluster::ReadSecret,
    evidence::Source,
    index::Uid,
    lifecycle::{
        Announced, Bounds, CleanupFacts, Deadline, DestinationFact, Due, EvidenceFacts, EvidenceState, Facts,
        InFlight, KeyFact, KeyFault, KeyVersion, KnownSession, LocalState, ParsedStatus, PollRequest,
        PortalFact, State, evidence_state, jitter_seed, restored, sanitize,
    },
    portal::{ApiKey, PortalUrl, VerificationId, budget::Budget},
};

/// The facts, and what a call needs.
pub(crate) struct Observed {
    pub(crate) facts: Facts,
    pub(crate) account: Option<Account>,
    /// The key to call with.
    pub(crate) key: Option<Arc<ApiKey>>,
    /// What that key was chosen from.
    pub(crate) found: FoundKeys,
    /// The budget of the portal and the key.
    pub(crate) budget: Option<Budget>,
}

/// The facts that are not read from the resource.
struct Surroundings {
    now: Timestamp,
    portal_now: Option<Timestamp>,
    portal: PortalFact,
    link_path: String,
    key: KeyFact,
    key_version: KeyVersion,
    in_flight: InFlight,
    holder: String,
    stretch: f64,
    announced: Announced,
    polled_at: Option<Timestamp>,
    /// Whether a notification requests a poll.
    is_notified: bool,
    too_large: bool,
    known: Option<KnownSession>,
    destination: DestinationFact,
    local_state: LocalState,
}

impl Observed {
    /// The portal's time now, if it is known.
    fn portal_now(&self, clock: &Clock) -> Option<Timestamp> {
        self.account.as_ref().and_then(|account| clock.portal_now(account.portal.as_str()))
    }

    /// Reads the clocks again: a call took time, and its response may have carried the portal's time.
    pub(super) fn read_clocks(&mut self, clock: &Clock) {
        self.facts.now = clock.now();
        self.facts.portal_now = self.portal_now(clock);
    }

    /// Replaces all facts from the resource with those of another version, and reads the clocks.
    pub(super) fn refresh(&mut self, object: &Verification, status: &VerificationStatus, clock: &Clock) {
        self.read_clocks(clock);
        // A poll that was requested since has not been made, so only the request that this reconcile started with is
        // acknowledged.
        let requested = self.facts.reconcile_requested.take();
        self.facts = facts(object, status, Surroundings::of(&self.facts));
        self.facts.reconcile_requested = requested;
    }

    /// Where the evidence comes from.
    pub(super) fn source(&self) -> Option<Source<'_>> {
        let (account, key) = (self.account.as_ref()?, self.key.as_deref()?);
        Some(Source { portal: &account.portal, key, budget: self.budget.clone()? })
    }
}

impl Surroundings {
    fn of(facts: &Facts) -> Self {
        let facts = facts.clone();
        Self {
            now: facts.now,
            portal_now: facts.portal_now,
            portal: facts.portal,
            link_path: facts.link_path,
            key: facts.key,
            key_version: facts.key_version,
            in_flight: facts.in_flight,
            holder: facts.holder,
            stretch: facts.stretch,
            announced: facts.announced,
            polled_at: facts.polled_at,
            // What was requested when this reconcile began, it has done.
            is_notified: false,
            too_large: facts.too_large,
            known: facts.known,
            destination: facts.evidence.destination,
            local_state: facts.local_state,
        }
    }
}

/// All facts of one version of a resource.
fn facts(object: &Verification, status: &VerificationStatus, surroundings: Surroundings) -> Facts {
    let Surroundings {
        now,
        portal_now,
        portal,
        link_path,
        key,
        key_version,
        in_flight,
        holder,
        stretch,
        announced,
        polled_at,
        is_notified,
        too_large,
        known,
        destination,
        local_state,
    } = surroundings;
    let uid = object.uid().unwrap_or_default();
    let annotation = |name: &str| object.annotations().get(name).and_then(|value| sanitize(value));
    let reconcile_requested = annotation(RECONCILE_REQUESTED_AT);
    let is_requested =
        reconcile_requested.is_some() && reconcile_requested != status.last_handled_reconcile_at;
    let adopt = adoption(object, &uid, status);
    // A person who names the session need not wait for the schedule after an unknown outcome.
    let is_named = adopt.is_some() && status.observed_generation != object.metadata.generation;
    let request = match (is_notified, is_requested || is_named) {
        (true, _) => PollRequest::Notification,
        (false, true) => PollRequest::Person,
        (false, false) => PollRequest::None,
    };
    let created_at = object.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
    let bounds = Bounds::of(&object.spec);
    Facts {
        now,
        portal_now,
        jitter_seed: jitter_seed(Uid::of(&uid)),
        created_at,
        generation: object.metadata.generation.unwrap_or_default(),
        deleting: object.metadata.deletion_timestamp.is_some(),
        suspend: object.spec.suspend,
        mode: object.spec.mode,
        ready_when: object.spec.ready_when,
        on_unknown: object.spec.on_unknown_outcome,
        bounds,
        adopt,
        deadline: deadline(object, created_at, now, &local_state),
        portal,
        link_path,
        due: Due::of(now, request, &key, &local_state, bounds),
        key,
        key_version,
        in_flight,
        retry: annotation(RETRY).filter(|token| Some(token) != status.last_handled_retry.as_ref()),
        reconcile_requested,
        holder,
        stretch,
        announced,
        polled_at,
        too_large,
        known: known.filter(|_| status.verification_id.is_none()),
        evidence: EvidenceFacts {
            destination,
            has_finalizer: object.finalizers().iter().any(|finalizer| finalizer == EVIDENCE_FINALIZER),
            deleted_at: object.metadata.deletion_timestamp.as_ref().map(|time| time.0),
            ..EvidenceFacts::of(object.spec.evidence.clone(), status)
        },
        cleanup: object
            .spec
            .ttl_after_finished
            .map(|ttl| CleanupFacts { ttl: ttl.get(), managed_by_git_ops: is_kept_by_git_ops(object) }),
        local_state,
        uid,
    }
}

impl Reconciler {
    /// Observes a resource. `too_large`: whether it might have no room for the record of a session; `is_notified`: whether a
    /// notification requests a poll.
    pub(super) async fn observe(
        &self,
        object: &Verification,
        (too_large, is_notified): (bool, bool),
        entry: &mut CacheEntry,
    ) -> Result<Observed, ReadSecret> {
        let status = object.status.clone().unwrap_or_default();
        let uid = object.uid().unwrap_or_default();
        let parsed = ParsedStatus::of(&uid, &status);
        let destination = self.destination(object, parsed.state()).await;
        let chosen = self.key_of(object, &parsed).await?;
        let used = chosen.as_ref().and_then(ChosenKey::used);
        let account = self
            .portal_of(object, &status)
            .map(|portal| Account::new(portal, &object.spec.api_key_secret_ref, used));
        let local_state = entry.local_state();
        // While no key is read, as of a suspended session, it may be either.
        let assumed = KeyVersion::assumed(&object.spec);
        let key_version = chosen.as_ref().map_or(assumed, |chosen| chosen.version);
        let (key, found) = match chosen {
            None => (Err(KeyFault::SecretNotFound), FoundKeys::default()),
            Some(ChosenKey { key, version: _, found }) => (key, found),
        };
        let key_fact = match &key {
            Ok(key) => KeyFact::Usable { fingerprint: key.fingerprint(&uid) },
            Err(fault) => KeyFact::Missing(*fault),
        };
        let key = key.ok();
        let budget = match (&account, &key) {
            (Some(account), Some(key)) => {
                Some(self.portal.budget(&account.portal, key.identity(), entry.fairness_key))
            }
            _ => None,
        };
        let surroundings = Surroundings {
            now: self.clock.now(),
            portal_now: account.as_ref().and_then(|account| self.clock.portal_now(account.portal.as_str())),
            portal: account
                .as_ref()
                .map_or(PortalFact::NotAllowed, |account| PortalFact::Allowed(account.portal.clone())),
            link_path: self.portal.link_path().to_owned(),
            key: key_fact,
            key_version,
            in_flight: self.in_flight(parsed.state(), &status, entry),
            holder: self.new_holder(),
            stretch: budget.as_ref().map_or(1.0, |budget| budget.stretch(Instant::now())),
            announced: match (&account, &key) {
                (Some(account), Some(key)) => self.announcements.of(&account.portal, key.identity()),
                _ => Announced::Nothing,
            },
            polled_at: budget.as_ref().and_then(Budget::polled_at).map(|at| self.clock.past_time(at)),
            is_notified: is_notified && matches!(parsed.state(), State::Open { .. }),
            too_large,
            known: entry.known(),
            destination,
            local_state,
        };
        Ok(Observed { facts: facts(object, &status, surroundings), account, key, found, budget })
    }

    /// Whether the spec's destination may be used for evidence. Once there is a session, it is too late to refuse one.
    async fn destination(&self, object: &Verification, state: &State) -> DestinationFact {
        let is_relevant =
            matches!(state, State::Fresh | State::Refused | State::OutcomeUnknown) && !object.spec.suspend;
        let refusal = if is_relevant { self.evidence.refuse_destination(object).await } else { None };
        refusal.map_or(DestinationFact::Allowed, |refusal| DestinationFact::Refused(refusal.to_string()))
    }

    /// The key to call with, or what is wrong with it; `None` if no call is to be made.
    async fn key_of(
        &self,
        object: &Verification,
        parsed: &ParsedStatus<'_>,
    ) -> Result<Option<ChosenKey>, ReadSecret> {
        let evidence = evidence_state(object.spec.evidence.as_ref(), parsed.status());
        if makes_no_call(object, parsed.state(), evidence) {
            return Ok(None);
        }
        let namespace = object.namespace().unwrap_or_default();
        let (uid, status) = (object.uid().unwrap_or_default(), parsed.status());
        let session = status.session.as_ref().filter(|_| status.verification_id.is_some());
        self.choose_key(&namespace, &object.spec.api_key_secret_ref, (&uid, session)).await.map(Some)
    }

    /// The portal of its session, otherwise of its spec, if it may be called.
    fn portal_of(&self, object: &Verification, status: &VerificationStatus) -> Option<PortalUrl> {
        let recorded = status
            .verification_id
            .as_ref()
            .and(status.session.as_ref())
            .and_then(|session| session.portal.as_deref());
        self.portal.permit(recorded.or(object.spec.portal.as_deref()))
    }

    fn in_flight(&self, state: &State, status: &VerificationStatus, entry: &mut CacheEntry) -> InFlight {
        let session = status.session.as_ref().filter(|_| *state == State::Claimed);
        let now = Instant::now();
        let claim = Claim::observed(entry.claim(), session, now);
        entry.set_claim(claim.clone());
        let Some(claim) = claim.filter(|_| session.is_some()) else { return InFlight::None };
        if claim.never_sent {
            InFlight::NeverSent
        } else if claim.none_in_flight_at() <= now {
            InFlight::None
        } else {
            InFlight::Possible(self.clock.time(claim.none_in_flight_at()))
        }
    }
}

/// Whether no call to the portal follows, so that the key need not be read.
fn makes_no_call(object: &Verification, state: &State, evidence: EvidenceState) -> bool {
    let has_finished = matches!(state, State::Finished(_)) && evidence != EvidenceState::Pending;
    object.metadata.deletion_timestamp.is_some()
        || object.spec.suspend
        || has_finished
        || matches!(state, State::Settled | State::Inconsistent(_))
}

fn adoption(object: &Verification, uid: &str, status: &VerificationStatus) -> Option<VerificationId> {
    let restored_id = status.verification_id.as_deref().filter(|_| restored(uid, status));
    let named = object.spec.adopt.as_ref().map(|adopt| adopt.verification_id.as_str());
    restored_id.or(named).and_then(|id| VerificationId::parse(id).ok())
}

fn deadline(
    object: &Verification,
    created_at: Timestamp,
    now: Timestamp,
    local_state: &LocalState,
) -> Deadline {
    let at = jiff::SignedDuration::try_from(object.spec.active_deadline.get())
        .ok()
        .and_then(|by| created_at.checked_add(by).ok())
        .unwrap_or(Timestamp::MAX);
    Deadline::of(at, now, local_state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::Phase, lifecycle::fixtures};

    #[test]
    fn a_poll_that_is_requested_during_another_reconcile_is_not_acknowledged_by_it() {
        let status = fixtures::open(Phase::AwaitingUser);
        let requested = |at: &str| {
            let mut object = fixtures::verification("alice");
            object.metadata.generation = Some(2);
            object.annotations_mut().insert(RECONCILE_REQUESTED_AT.to_owned(), at.to_owned());
            object
        };
        for begun_with in [None, Some("1".to_owned())] {
            let facts = Facts { reconcile_requested: begun_with.clone(), ..fixtures::facts() };
            let found = FoundKeys::default();
            let mut observed = Observed { facts, account: None, key: None, found, budget: None };
            observed.refresh(&requested("2"), &status, &Clock::start());
            assert_eq!(observed.facts.generation, 2, "the other facts come from the new version");
            assert_eq!(observed.facts.reconcile_requested, begun_with);
        }
    }
}
