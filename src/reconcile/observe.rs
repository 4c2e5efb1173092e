//! From a resource and what is remembered of it to the facts of the moment.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::ResourceExt;
use tokio::time::Instant;

use super::{
    accounts::Account,
    cache_entry::{CacheEntry, Claim, jitter_seed},
    reconciler::Reconciler,
};
use crate::{
    api::{EVIDENCE_FINALIZER, RECONCILE_REQUESTED_AT, RETRY, Verification, VerificationStatus},
    clock::Clock,
    cluster::ReadSecret,
    evidence::Source,
    lifecycle::{
        Bounds, Deadline, DestinationFact, Due, EvidenceFacts, EvidenceState, Facts, InFlight, KeyFact,
        LocalState, PortalFact, State, restored, sanitize,
    },
    portal::{ApiKey, PortalUrl, VerificationId, budget::Budget},
};

/// No request of a claim that was found can be in flight after this: claim 10 s, age 5 s, request 30 s.
pub(crate) const QUIET: Duration = Duration::from_secs(45);

/// The facts, and what a call is made with.
pub(crate) struct Observed {
    pub(crate) facts: Facts,
    pub(crate) account: Option<Account>,
    pub(crate) key: Option<Arc<ApiKey>>,
    /// How much the portal may be asked with that key.
    pub(crate) budget: Option<Budget>,
    /// When the resource came that this is read from.
    pub(crate) since: Instant,
}

impl Observed {
    /// The portal's time now, if it is known.
    pub(crate) fn portal_now(&self, clock: &Clock) -> Option<Timestamp> {
        self.account.as_ref().and_then(|account| clock.portal_now(&account.portal))
    }

    /// A call has taken its time, and its answer may have told the portal's.
    pub(crate) fn read_clocks(&mut self, clock: &Clock) {
        self.facts.now = clock.now();
        self.facts.portal_now = self.portal_now(clock);
    }

    /// Whom to ask, and with what key.
    pub(crate) fn caller(&self) -> Option<(&PortalUrl, &ApiKey)> {
        Some((&self.account.as_ref()?.portal, self.key.as_deref()?))
    }

    /// Where evidence comes from.
    pub(crate) fn source(&self) -> Option<Source<'_>> {
        let (portal, key) = self.caller()?;
        Some(Source { portal, key, budget: self.budget.clone()? })
    }
}

impl Reconciler {
    /// Observes a resource. The gate is open here: it is asked only for a step that needs it.
    pub(crate) async fn observe(
        &self,
        object: &Verification,
        state: &State,
        entry: &mut CacheEntry,
    ) -> Result<Observed, ReadSecret> {
        let now = self.clock.now();
        let status = object.status.clone().unwrap_or_default();
        let uid = object.uid().unwrap_or_default();
        let namespace = object.namespace().unwrap_or_default();
        let account = self
            .portal_of(object, &status)
            .map(|portal| Account { portal, secret: object.spec.api_key_secret_ref.clone() });
        let local_state = entry.local_state();
        let evidence = self.evidence_facts(object, &status, state).await;
        let key = if calls_nothing(object, state, evidence.state) {
            None
        } else {
            Some(self.cluster.secrets().key(&namespace, &object.spec.api_key_secret_ref).await?)
        };
        let key_fact = match &key {
            None => KeyFact::Missing(crate::lifecycle::KeyFault::SecretNotFound),
            Some(Ok(key)) => KeyFact::Usable { fingerprint: key.fingerprint(&uid) },
            Some(Err(fault)) => KeyFact::Missing(*fault),
        };
        let key = key.and_then(Result::ok);
        let budget = match (&account, &key) {
            (Some(account), Some(key)) => {
                Some(self.portal.budget(&account.portal, key.identity(), entry.fairness_key))
            }
            _ => None,
        };
        let stretch = budget.as_ref().map_or(1.0, |budget| budget.stretch(Instant::now()));
        let polled_at = budget.as_ref().and_then(Budget::polled_at).map(|at| self.clock.past(at));
        let annotation = |name: &str| object.annotations().get(name).and_then(|value| sanitize(value));
        let reconcile_requested = annotation(RECONCILE_REQUESTED_AT);
        let nudged = reconcile_requested.is_some() && reconcile_requested != status.last_handled_reconcile_at;
        let adopt = adoption(object, &uid, &status);
        // A person who names the session need not wait for the schedule of the create that was lost.
        let named = adopt.is_some() && status.observed_generation != object.metadata.generation;
        let born = object.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
        let facts = Facts {
            now,
            portal_now: account.as_ref().and_then(|account| self.clock.portal_now(&account.portal)),
            jitter_seed: jitter_seed(&uid),
            born,
            generation: object.metadata.generation.unwrap_or_default(),
            deleting: object.metadata.deletion_timestamp.is_some(),
            suspend: object.spec.suspend,
            mode: object.spec.mode,
            ready_when: object.spec.ready_when,
            on_unknown: object.spec.on_unknown_outcome,
            bounds: Bounds::of(&object.spec),
            adopt,
            deadline: deadline(object, born, now, &local_state),
            portal: account
                .as_ref()
                .map_or(PortalFact::NotAllowed, |account| PortalFact::Allowed(account.portal.clone())),
            link_path: self.portal.link_path().to_owned(),
            due: Due::of(now, nudged || named, &key_fact, &local_state, Bounds::of(&object.spec)),
            key: key_fact,
            in_flight: self.in_flight(state, &status, entry),
            retry: annotation(RETRY).filter(|token| Some(token) != status.last_handled_retry.as_ref()),
            reconcile_requested,
            holder: self.holder.clone(),
            stretch,
            polled_at,
            too_large: false,
            known: entry.known().filter(|_| status.verification_id.is_none()),
            evidence,
            local_state,
            uid,
        };
        Ok(Observed { facts, account, key, budget, since: Instant::now() })
    }

    async fn evidence_facts(
        &self,
        object: &Verification,
        status: &VerificationStatus,
        state: &State,
    ) -> EvidenceFacts {
        // Once there is a session, it is too late to refuse one.
        let is_asked =
            matches!(state, State::Fresh | State::Refused | State::OutcomeUnknown) && !object.spec.suspend;
        let refusal = if is_asked { self.evidence.refuse_destination(object).await } else { None };
        EvidenceFacts {
            destination: refusal
                .map_or(DestinationFact::Allowed, |refusal| DestinationFact::Refused(refusal.to_string())),
            has_finalizer: object.finalizers().iter().any(|finalizer| finalizer == EVIDENCE_FINALIZER),
            deleted_at: object.metadata.deletion_timestamp.as_ref().map(|time| time.0),
            ..EvidenceFacts::of(object.spec.evidence.clone(), status)
        }
    }

    /// The portal it lives at, or would live at, if that may be asked.
    fn portal_of(&self, object: &Verification, status: &VerificationStatus) -> Option<PortalUrl> {
        let lives_at = status
            .verification_id
            .as_ref()
            .and(status.session.as_ref())
            .and_then(|session| session.portal.as_deref());
        self.portal.permit(lives_at.or(object.spec.portal.as_deref()))
    }

    fn in_flight(&self, state: &State, status: &VerificationStatus, entry: &mut CacheEntry) -> InFlight {
        if *state != State::Claimed {
            entry.set_claim(None);
            return InFlight::None;
        }
        let attempt = status.session.as_ref().map_or(0, |session| session.attempt);
        let attempt = u32::try_from(attempt).unwrap_or_default();
        let found = Claim { attempt, seen: Instant::now(), never_sent: false };
        let seen = entry.claim().filter(|claim| claim.attempt == attempt).unwrap_or(found);
        entry.set_claim(Some(seen));
        let quiet_at = seen.seen + QUIET;
        // Another process may hold a claim of the same number.
        let holder = status.session.as_ref().and_then(|session| session.holder.as_deref());
        if seen.never_sent && holder == Some(self.holder.as_str()) {
            InFlight::NeverSent
        } else if quiet_at <= Instant::now() {
            InFlight::None
        } else {
            InFlight::Possible(self.clock.time(quiet_at))
        }
    }
}

/// Whether this turn asks the portal nothing, so that its key need not be read.
fn calls_nothing(object: &Verification, state: &State, evidence: EvidenceState) -> bool {
    let is_over = matches!(state, State::Finished(_)) && evidence != EvidenceState::Pending;
    object.metadata.deletion_timestamp.is_some()
        || object.spec.suspend
        || is_over
        || matches!(state, State::Settled | State::Inconsistent(_))
}

fn adoption(object: &Verification, uid: &str, status: &VerificationStatus) -> Option<VerificationId> {
    let restored_id = status.verification_id.as_deref().filter(|_| restored(uid, status));
    let named = object.spec.adopt.as_ref().map(|adopt| adopt.verification_id.as_str());
    restored_id.or(named).and_then(|id| VerificationId::parse(id).ok())
}

fn deadline(object: &Verification, born: Timestamp, now: Timestamp, local_state: &LocalState) -> Deadline {
    let at = jiff::SignedDuration::try_from(object.spec.active_deadline.get())
        .ok()
        .and_then(|by| born.checked_add(by).ok())
        .unwrap_or(Timestamp::MAX);
    Deadline::of(at, now, local_state)
}
