//! Executes the step that was decided. It makes one choice only: a step that calls the portal needs admission, and a refusal is
//! its outcome. May depend on `reconciler`, `reconciliation` and `fast_path`, and on the modules that it calls: `cluster`,
//! `portal`, `evidence`, `lifecycle`.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::{fast_path::Answer, reconciler::Reconciler, reconciliation::Reconciliation};
use crate::{
    cluster::Deletion,
    evidence::{RemovalReport, UploadReport},
    fairness::FairnessKey,
    index::RecordId,
    lifecycle::{
        Blocker, CompactState, DeletionOutcome, NotAdmitted, PortalStep, Refusal, ReleaseWhen,
        RemovalOutcome, State, Step, StepOutcome, Transition, UploadOutcome, Wait, after_refusal,
        poll_schedule,
    },
    portal::{
        ApiKey, Call, Caller, Details, KeyIdentity, PortalError, PortalUrl, VerificationId,
        budget::{Admission, Budget, Closed, RequestPermit},
    },
    priority::Priority,
};

/// A verification whose probe got no response probes again after this.
const PROBE_AGAIN_AFTER: Duration = Duration::from_secs(31);

/// How the call of a step was admitted.
enum Admitted {
    /// The call may be sent now.
    Call(RequestPermit),
    /// The portal has answered already, on the fast path.
    Answered(Answer),
    /// The step makes no call, or asks for admission of each call separately.
    WithoutCall,
}

/// The result of a probe.
enum Probe {
    /// Another verification probes.
    NotDue,
    /// The portal responds.
    Response,
    /// It does not respond; this verification probes again at this time.
    NoResponse(Instant),
}

impl Reconciler {
    /// Performs the step. An upload that an earlier reconcile could not record is committed first.
    pub(super) async fn act(
        &self,
        step: Step,
        reconciliation: &mut Reconciliation,
        answer: Option<Answer>,
    ) -> StepOutcome {
        if let Some(uploaded) = reconciliation.take_unwritten() {
            return StepOutcome::Store(uploaded);
        }
        let admission = self.admit(&step, reconciliation, answer).await;
        if !matches!(admission, Err(NotAdmitted { refusal: Refusal::Breaker(_), .. })) {
            self.probe_slots.release(reconciliation.record_id);
        }
        let admitted = match admission {
            Ok(admitted) => admitted,
            Err(not_admitted) => return StepOutcome::NotAdmitted(not_admitted),
        };
        let account = reconciliation.account();
        let account = account.as_ref().map(|(portal, key)| (portal, &**key));
        match (step, admitted, account) {
            (Step::Transition(transition), _, _) => StepOutcome::Transition(transition),
            (Step::Create { attempt }, Admitted::Call(permit), Some((portal, key))) => {
                let caller = Caller { portal, key, permit };
                StepOutcome::Create(self.create(caller, attempt, reconciliation).await)
            }
            (Step::Adopt(id), Admitted::Call(permit), Some((portal, key))) => {
                let answer = self.poll(Caller { portal, key, permit }, &id).await;
                StepOutcome::Adopt { id, answer }
            }
            (Step::Poll(id), Admitted::Call(permit), Some((portal, key))) => {
                // What is requested from now on may be about something that this poll does not show.
                reconciliation.notified_at = self.requested_polls.sent(reconciliation.record_id);
                let answer = self.poll(Caller { portal, key, permit }, &id).await;
                StepOutcome::Poll { id, answer }
            }
            (Step::Poll(id), Admitted::Answered(answer), _) => {
                reconciliation.notified_at = answer.notified_at;
                StepOutcome::Poll { id, answer: answer.result }
            }
            (Step::Store, _, _) => StepOutcome::Store(self.store(reconciliation).await),
            (Step::AddFinalizer, _, _) => {
                StepOutcome::AddFinalizer(self.evidence.add_finalizer(&reconciliation.object).await)
            }
            (Step::RemoveEvidence { release_when }, _, _) => {
                StepOutcome::RemoveEvidence(self.remove_evidence(reconciliation, release_when).await)
            }
            (Step::Delete { awaits_store }, _, _) => {
                StepOutcome::Delete(self.delete(reconciliation, awaits_store).await)
            }
            (
                Step::Create { attempt: _ } | Step::Adopt(_) | Step::Poll(_),
                Admitted::Call(_) | Admitted::Answered(_) | Admitted::WithoutCall,
                _,
            ) => StepOutcome::NotPerformed,
        }
    }

    /// Stores pending evidence, and reports what happened to it if its resource went away meanwhile.
    async fn store(&self, reconciliation: &Reconciliation) -> UploadOutcome {
        let (object, observed) = (&reconciliation.object, &reconciliation.observed);
        let UploadReport { outcome, event } =
            self.evidence.store(object, &observed.facts, observed.source()).await;
        if let Some(event) = event {
            self.report(object, event);
        }
        outcome
    }

    /// Removes evidence. What the release leaves in the store is reported once the release is confirmed.
    async fn remove_evidence(
        &self,
        reconciliation: &Reconciliation,
        release_when: ReleaseWhen,
    ) -> RemovalOutcome {
        let object = &reconciliation.object;
        let facts = &reconciliation.observed.facts.evidence;
        let unwritten = reconciliation.entry.unwritten();
        let removed = Box::pin(self.evidence.remove(object, facts, unwritten, release_when)).await;
        let RemovalReport { outcome, event_if_released } = removed;
        if let Some(event) = event_if_released {
            self.report_when_released(reconciliation.record_id, object, event);
        }
        outcome
    }

    /// Deletes the resource, if it is still the version that was decided about.
    async fn delete(&self, reconciliation: &Reconciliation, awaits_store: bool) -> DeletionOutcome {
        if awaits_store && !self.evidence.store_responds(&reconciliation.object).await {
            return DeletionOutcome::StoreUnresponsive;
        }
        match self.cluster.delete(&reconciliation.object).await {
            Deletion::Done | Deletion::Gone => {
                let (namespace, name) = reconciliation.name();
                tracing::info!(namespace, name, "deleted the verification: spec.ttlAfterFinished has passed");
                DeletionOutcome::Deleted
            }
            Deletion::Refused => DeletionOutcome::Refused,
            Deletion::Conflict | Deletion::Unknown => DeletionOutcome::Unknown,
        }
    }

    /// Asks for admission of the step's call. While creates wait, a probe finds out whether the portal responds again.
    /// While the first response to a new key is awaited, this verification is woken when it arrives.
    async fn admit(
        &self,
        step: &Step,
        reconciliation: &Reconciliation,
        answer: Option<Answer>,
    ) -> Result<Admitted, NotAdmitted> {
        let Some(portal_step) = step.portal_step() else { return Ok(Admitted::WithoutCall) };
        if let Step::Poll(id) = step
            && let Some(answer) =
                answer.filter(|answer| answer.answers(id, &reconciliation.observed, &reconciliation.status))
        {
            return Ok(Admitted::Answered(answer));
        }
        let mut admission = self.ask_for_admission(portal_step, reconciliation);
        if let Err(NotAdmitted { step, refusal: Refusal::Breaker(until), cause }) = admission
            && matches!(
                reconciliation.parsed().state(),
                State::Fresh | State::Refused | State::OutcomeUnknown
            )
        {
            let refused = |until| Err(NotAdmitted { step, refusal: Refusal::Breaker(until), cause });
            admission = match self.probe(reconciliation).await {
                Probe::NotDue => {
                    let slot = self.probe_slot(reconciliation).map(|slot| self.clock.time(slot));
                    refused(slot.map_or(until, |slot| slot.min(until)))
                }
                Probe::Response => self.ask_for_admission(portal_step, reconciliation),
                Probe::NoResponse(again) => refused(until.min(self.clock.time(again))),
            };
        }
        if let Err(not_admitted) = &admission
            && self.awaits_first_response(not_admitted, reconciliation)
        {
            admission = self.ask_for_admission(portal_step, reconciliation);
        }
        admission
    }

    fn ask_for_admission(
        &self,
        step: PortalStep,
        reconciliation: &Reconciliation,
    ) -> Result<Admitted, NotAdmitted> {
        let Some(budget) = &reconciliation.observed.budget else { return Ok(Admitted::WithoutCall) };
        let refused = |call, until, closed| {
            let cause = budget.cause(call, closed).as_ref().and_then(Blocker::of);
            Err(NotAdmitted { step, refusal: refusal(closed, self.clock.time(until)), cause })
        };
        let (call, priority, retries_read) = match step {
            PortalStep::Create => (Call::Create, Priority::Create, true),
            PortalStep::Adopt => (Call::Poll, Priority::Create, true),
            // A refused poll of a session without failures is remembered, so the fast path tries again and reads nothing.
            PortalStep::Poll => {
                let is_plain = CompactState::of(&reconciliation.observed.facts.local_state).is_some();
                (Call::Poll, self.poll_priority(reconciliation), !is_plain)
            }
            // An upload asks for admission of each call separately.
            PortalStep::Store => {
                return match budget.closed(Instant::now()) {
                    Some((until, closed)) => refused(Call::Poll, until, closed),
                    None => Ok(Admitted::WithoutCall),
                };
            }
        };
        let requester = budget.clone();
        let requester = if retries_read { requester } else { requester.with_free_retries() };
        match requester.admit(Instant::now(), call, priority) {
            Admission::Go(permit) => Ok(Admitted::Call(permit)),
            Admission::Wait { until, closed } => refused(call, until, closed),
        }
    }

    /// While creates wait for the portal, one of them finds out whether it responds.
    async fn probe(&self, reconciliation: &Reconciliation) -> Probe {
        let account = reconciliation.account().zip(reconciliation.observed.budget.as_ref());
        let Some(((portal, key), budget)) = account else { return Probe::NotDue };
        if !budget.may_probe(Instant::now()) {
            return Probe::NotDue;
        }
        let Admission::Go(permit) = budget.admit(Instant::now(), Call::Poll, Priority::Requested) else {
            return Probe::NoResponse(Instant::now() + PROBE_AGAIN_AFTER);
        };
        let answer = self.portal.probe(Caller { portal: &portal, key: &key, permit }).await;
        self.wake_waiting_for_first_response(&portal, &key, &answer);
        match answer {
            Err(error) if !error.is_from_the_portal() => {
                Probe::NoResponse(Instant::now() + PROBE_AGAIN_AFTER)
            }
            Ok(_) | Err(_) => Probe::Response,
        }
    }

    /// When this verification is to send a probe.
    fn probe_slot(&self, reconciliation: &Reconciliation) -> Option<Instant> {
        let (portal, key) = reconciliation.account()?;
        let now = Instant::now();
        let window = reconciliation.observed.budget.as_ref()?.probe_window(now)?;
        self.probe_slots.assign(reconciliation.record_id, (portal, key.identity()), window, now)
    }

    /// Waits for the first response to a new key, if the call waits for that. True if it has arrived meanwhile.
    fn awaits_first_response(&self, not_admitted: &NotAdmitted, reconciliation: &Reconciliation) -> bool {
        let Reconciliation { record_id, entry, observed, .. } = reconciliation;
        let (Transition::Wait(Wait::Admission(Refusal::Rate(_))), Some((portal, key)), Some(budget)) =
            (after_refusal(not_admitted, &observed.facts), reconciliation.account(), &observed.budget)
        else {
            return false;
        };
        self.joins_first_responses(*record_id, entry.fairness_key, (&portal, key.identity()), budget)
    }

    /// Waits for the first response to a new key, if calls wait for it. True if it has arrived meanwhile.
    pub(super) fn joins_first_responses(
        &self,
        record_id: RecordId,
        fairness_key: FairnessKey,
        (portal, key): (&PortalUrl, KeyIdentity),
        budget: &Budget,
    ) -> bool {
        let is_awaited = || budget.awaits_first_response(Instant::now());
        if !is_awaited() {
            return false;
        }
        self.first_responses.join(portal, key, record_id, fairness_key);
        if is_awaited() {
            return false;
        }
        self.first_responses.leave(portal, key, record_id);
        true
    }

    /// Polls a session.
    pub(super) async fn poll(&self, caller: Caller<'_>, id: &VerificationId) -> Result<Details, PortalError> {
        let (portal, key) = (caller.portal, caller.key);
        let answer = self.portal.poll(caller, id).await;
        self.wake_waiting_for_first_response(portal, key, &answer);
        answer
    }

    /// The first response to a new key ends the wait of all others with that key.
    pub(super) fn wake_waiting_for_first_response<T>(
        &self,
        portal: &PortalUrl,
        key: &ApiKey,
        answer: &Result<T, PortalError>,
    ) {
        for (record_id, fairness_key) in self.first_responses.woken_by(portal, key.identity(), answer) {
            self.queue.enqueue(record_id, Priority::Create, fairness_key);
        }
    }

    fn poll_priority(&self, reconciliation: &Reconciliation) -> Priority {
        let Reconciliation { record_id, status, observed, .. } = reconciliation;
        let facts = &observed.facts;
        if facts.requests_poll(status) {
            return Priority::Requested;
        }
        let planned = poll_schedule(status, &facts.local_state, facts.bounds, facts.times()).stage.priority();
        let wanted = self.requested_polls.wanted(*record_id, Instant::now());
        wanted.map_or(planned, |wanted| wanted.priority(planned))
    }

    /// Lets the creates at a portal continue.
    pub(super) fn wake_waiting_to_create(&self, portal: &PortalUrl) {
        let Some(portal) = self.portal.number_of(portal) else { return };
        let waiting: Vec<_> = {
            let index = self.index();
            let waiting = index.iter().filter(|(_, entry)| entry.waits_to_create_at(portal));
            waiting.map(|(record_id, entry)| (record_id, entry.fairness_key)).collect()
        };
        for (record_id, fairness_key) in waiting {
            self.queue.enqueue(record_id, Priority::Create, fairness_key);
        }
    }
}

const fn refusal(closed: Closed, until: Timestamp) -> Refusal {
    match closed {
        Closed::Paused => Refusal::Paused(until),
        Closed::Breaker => Refusal::Breaker(until),
        Closed::KeyRejected => Refusal::KeyRejected(until),
        Closed::Rate => Refusal::Rate(until),
    }
}
