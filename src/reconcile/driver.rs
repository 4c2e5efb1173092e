//! The turn itself, as a list of its steps.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::ResourceExt;
use tokio::time::Instant;

use super::{
    cache_entry::{CacheEntry, published},
    create::{Create, Probe, Recorded},
    fast_path::{Answer, FastPath},
    observe::Observed,
    reconciler::Reconciler,
};
use crate::{
    api::{Verification, VerificationStatus},
    backoff::Backoff,
    cluster::{Read, Written, is_written},
    evidence::{RemovalReport, UploadReport},
    failpoints::{Failpoint, failpoint},
    index::RecordId,
    lifecycle::{
        AdmissionFact, Blocker, Conclusion, EvidenceState, Facts, Requeue, State, Step, StepOutcome, Wait,
        attempts, conclude, decide, state,
    },
    portal::{
        Call, Caller, Details, PortalError,
        budget::{Admission, Closed, RequestPermit},
    },
    priority::Priority,
    workqueue::{Disposition, DueReconcile},
};

/// When the API server did not answer, the turn comes again after this, longer with each time.
const AGAIN: Backoff = Backoff::new(Duration::from_secs(2), Duration::from_mins(2));
/// How often a write that met a conflict is concluded anew within the turn.
const CONFLICTS: usize = 5;

/// Whether the step that was decided calls the portal.
enum Leave {
    /// It may, now.
    Call(RequestPermit),
    /// The portal has answered already.
    Answered(Result<Details, PortalError>),
    /// It does not, or may not now.
    NoCall,
}

impl Reconciler {
    /// Reconciles whatever is due, until [`stop`](Self::stop), and returns when nothing is in flight any more.
    pub(crate) async fn run(self: &Arc<Self>) {
        let (reconciler, panicked) = (Arc::clone(self), Arc::clone(self));
        let reconcile = move |due: DueReconcile| {
            let reconciler = Arc::clone(&reconciler);
            async move {
                reconciler.metrics.queue_delay.observe(due.queue_delay.as_secs_f64());
                let started = Instant::now();
                let disposition = reconciler.take(due.record_id).await;
                reconciler.metrics.reconcile(disposition.label(), started.elapsed());
                disposition
            }
        };
        let on_panic = move |record_id| {
            panicked.metrics.reconcile_panics.inc();
            let index = panicked.index();
            let (namespace, name) = index
                .view(record_id)
                .map_or_else(Default::default, |view| (view.namespace.to_owned(), view.name.to_owned()));
            tracing::error!(namespace, name, "reconcile panicked; retrying in 5 minutes");
        };
        self.queue.run(reconcile, on_panic, self.shutdown.clone()).await;
    }

    /// Begins no other reconcile.
    pub(crate) fn stop(&self) {
        self.shutdown.cancel();
    }

    /// Takes one turn of one verification.
    async fn take(&self, record_id: RecordId) -> Disposition {
        let answer = match self.fast_path(record_id).await {
            FastPath::Nothing(next) => return next,
            FastPath::Reconcile(answer) => answer,
        };
        let Some((namespace, name, mut entry)) = self.remembered(record_id) else { return Disposition::Done };
        // What was waited for has come, or something else is due.
        entry.set_key_wait(None);
        entry.portal_wait = None;
        if entry.unreported().is_some() {
            // Only a read says whether a write whose answer was lost is there.
            drop(self.recent.take(record_id));
        }
        let (read, since, too_large) = self.fresh_or_read(record_id, &namespace, &name).await;
        self.tell_if_written(record_id, &mut entry, &read);
        let object = match read {
            Read::Found(object) => object,
            Read::Gone => return Disposition::AwaitChange,
            Read::Unknown => return self.again(record_id, &entry),
        };
        let status = object.status.clone().unwrap_or_default();
        let state = state(&object.uid().unwrap_or_default(), &status);
        let Ok(mut observed) = self.observe(&object, &state, &mut entry).await else {
            return self.again(record_id, &entry);
        };
        observed.facts.too_large = too_large;
        observed.since = since;
        let owes_evidence = owes_evidence(&state, &observed.facts);
        if let Some(stored) = entry.unwritten().filter(|_| owes_evidence).cloned() {
            entry.set_unwritten(None);
            let outcome = StepOutcome::Store(stored);
            return Box::pin(self.conclude(record_id, object, &Step::Store, &outcome, observed, entry)).await;
        }
        let (mut step, mut leave) = self.decide(&state, &status, &mut observed, answer);
        if let (Step::Wait(Wait::Breaker(until)), State::Fresh | State::Refused | State::OutcomeUnknown) =
            (&step, &state)
        {
            let until = *until;
            observed.facts.admission = match self.ping(&observed).await {
                Probe::NotNow => AdmissionFact::Breaker(until),
                Probe::Answered => AdmissionFact::Open,
                Probe::Silent(again) => AdmissionFact::Breaker(until.min(self.clock.time(again))),
            };
            (step, leave) = self.decide(&state, &status, &mut observed, None);
        }
        if self.joins_those_who_wait(record_id, &step, &observed, &entry) {
            observed.facts.admission = AdmissionFact::Open;
            (step, leave) = self.decide(&state, &status, &mut observed, None);
        }
        let outcome = match (&step, leave, observed.caller()) {
            (Step::Create { attempt }, Leave::Call(admitted), Some((portal, key))) => {
                let caller = Caller { portal, key, permit: admitted };
                let create = Create { record_id, attempt: *attempt, object: &object, observed: &observed };
                let recorded = Box::pin(self.create(caller, create, &mut entry)).await;
                return self.finish_create(record_id, &object, &observed, recorded, entry);
            }
            (Step::Poll(id) | Step::Adopt(id), Leave::Call(admitted), Some((portal, key))) => {
                StepOutcome::Poll(self.poll(Caller { portal, key, permit: admitted }, id).await)
            }
            (_, Leave::Answered(result), _) => StepOutcome::Poll(result),
            (Step::Store, _, _) => {
                let stored = self.evidence.store(&object, &observed.facts, observed.source()).await;
                let UploadReport { outcome, event } = stored;
                if let Some(event) = event {
                    self.tell(&object, event);
                }
                StepOutcome::Store(outcome)
            }
            (Step::AddFinalizer, _, _) => {
                StepOutcome::AddFinalizer(self.evidence.add_finalizer(&object).await)
            }
            (Step::RemoveEvidence { release_when }, _, _) => {
                let unwritten = entry.unwritten();
                let evidence = &observed.facts.evidence;
                let removed =
                    Box::pin(self.evidence.remove(&object, evidence, unwritten, *release_when)).await;
                let RemovalReport { outcome, event_if_released } = removed;
                if let Some(event) = event_if_released {
                    self.tell_when_let_go(record_id, &object, event);
                }
                StepOutcome::Remove(outcome)
            }
            (_, Leave::Call(_) | Leave::NoCall, _) => StepOutcome::Nothing,
        };
        observed.read_clocks(&self.clock);
        // On the heap, as all that is large and not waited in for long: a turn that waits for its place is no larger for it.
        Box::pin(self.conclude(record_id, object, &step, &outcome, observed, entry)).await
    }

    /// The resource: as it came a moment ago, if nothing newer is known, or else as it is read now. With it, when it came,
    /// and whether the record of a session might not fit into it.
    async fn fresh_or_read(&self, record_id: RecordId, namespace: &str, name: &str) -> (Read, Instant, bool) {
        if let Some((object, since)) = self.recent.take(record_id) {
            let version = object.metadata.resource_version.as_deref().unwrap_or_default();
            if self.index().is_current(record_id, version) {
                return (Read::Found(object), since, false);
            }
        }
        let (read, too_large) = self.cluster.get_and_weigh(namespace, name).await;
        if let Read::Found(object) = &read
            && self
                .index()
                .is_outdated(record_id, object.metadata.resource_version.as_deref().unwrap_or_default())
        {
            self.cluster.newest_version().suspect_rollback();
        }
        (read, Instant::now(), too_large)
    }

    /// Where the first answer to a new key is waited for, this one is woken when it comes. True, if it has come meanwhile.
    fn joins_those_who_wait(
        &self,
        record_id: RecordId,
        step: &Step,
        observed: &Observed,
        entry: &CacheEntry,
    ) -> bool {
        let (Step::Wait(Wait::Rate(_)), Some((portal, key)), Some(budget)) =
            (step, observed.caller(), &observed.budget)
        else {
            return false;
        };
        let is_awaited = || budget.awaits_first_response(Instant::now());
        if !is_awaited() {
            return false;
        }
        self.first_responses.join(portal, key.identity(), record_id, entry.fairness_key);
        if is_awaited() {
            return false;
        }
        self.first_responses.leave(portal, key.identity(), record_id);
        true
    }

    fn remembered(&self, record_id: RecordId) -> Option<(String, String, CacheEntry)> {
        let index = self.index();
        let view = index.view(record_id)?;
        Some((view.namespace.to_owned(), view.name.to_owned(), view.payload.clone()))
    }

    /// Decides; for a step that calls the portal, asks the gate for a place, and decides again if there is none.
    fn decide(
        &self,
        state: &State,
        status: &VerificationStatus,
        observed: &mut Observed,
        answer: Option<Answer>,
    ) -> (Step, Leave) {
        let step = decide(state, attempts(status), &observed.facts);
        let decide_again = |observed: &mut Observed, call, until, closed| {
            observed.facts.admission = admission(closed, self.clock.time(until));
            let cause = observed.budget.as_ref().and_then(|budget| budget.cause(call, closed));
            observed.facts.closed_by = cause.as_ref().and_then(Blocker::of);
            (decide(state, attempts(status), &observed.facts), Leave::NoCall)
        };
        let (call, priority) = match &step {
            Step::Create { attempt: _ } => (Call::Create, Priority::Create),
            Step::Adopt(_) => (Call::Poll, Priority::Create),
            Step::Poll(id) => {
                let account = observed.account.as_ref();
                match answer.filter(|answer| account.is_some_and(|account| answer.is_of(account, id))) {
                    Some(answer) => return (step, Leave::Answered(answer.result)),
                    None => (Call::Poll, look_priority(status, &observed.facts)),
                }
            }
            // It asks for a place for each object by itself.
            Step::Store => {
                let closed = observed.budget.as_ref().and_then(|budget| budget.closed(Instant::now()));
                return match closed {
                    Some((until, closed)) => decide_again(observed, Call::Poll, until, closed),
                    None => (step, Leave::NoCall),
                };
            }
            Step::Release
            | Step::NoOp
            | Step::Settle
            | Step::Restore(_)
            | Step::Show(_)
            | Step::Retry(_)
            | Step::Wait(_)
            | Step::Fail
            | Step::GiveUpRefused
            | Step::GiveUpLost
            | Step::AddFinalizer
            | Step::GiveUpEvidence
            | Step::RemoveEvidence { release_when: _ } => return (step, Leave::NoCall),
        };
        let Some(budget) = &observed.budget else { return (step, Leave::NoCall) };
        match budget.admit(Instant::now(), call, priority) {
            Admission::Go(admitted) => (step, Leave::Call(admitted)),
            Admission::Wait { until, closed } => decide_again(observed, call, until, closed),
        }
    }

    fn finish_create(
        &self,
        record_id: RecordId,
        object: &Verification,
        observed: &Observed,
        recorded: Recorded,
        mut entry: CacheEntry,
    ) -> Disposition {
        match recorded {
            Recorded::Written(written, conclusion) => {
                entry.set_poll_context(self.standing_of_new(observed, &written, &conclusion));
                self.finish(record_id, object, Some(&written), conclusion, entry)
            }
            Recorded::Unwritten(conclusion) => self.finish(record_id, object, None, conclusion, entry),
            Recorded::Gone => {
                if let Some(session) = entry.session {
                    self.sessions.forget(session);
                }
                Disposition::AwaitChange
            }
        }
    }

    /// Concludes and writes. What came of the step is not lost to a conflict: it is concluded anew on what is there. What
    /// was stored is not lost to an API server that takes no writes either: the next turn writes it.
    async fn conclude(
        &self,
        record_id: RecordId,
        object: Box<Verification>,
        step: &Step,
        outcome: &StepOutcome,
        mut observed: Observed,
        mut entry: CacheEntry,
    ) -> Disposition {
        let mut current = object;
        for _ in 0..CONFLICTS {
            let status = current.status.clone().unwrap_or_default();
            let uid = current.uid().unwrap_or_default();
            let conclusion =
                conclude(&status, &state(&uid, &status), attempts(&status), step, outcome, &observed.facts);
            entry.portal_wait = self.portal_wait(step, outcome, &observed);
            // Who opens the way while this turn still writes has to find it among those who wait.
            if let (Some(portal_wait), Some(kept)) = (entry.portal_wait, self.index().get_mut(record_id)) {
                kept.portal_wait = Some(portal_wait);
            }
            // While an outage is shown, those who wait for its end go on without reading anything.
            if !entry.portal_wait.is_some_and(|portal_wait| portal_wait.is_told) {
                entry.set_poll_context(self.standing(&observed, outcome, &conclusion));
            }
            entry.set_key_wait(self.key_wait(step, &state(&uid, &status), &observed, &conclusion));
            let Some(after) = &conclusion.status else {
                let next = self.finish(record_id, &current, None, conclusion, entry);
                self.keep_fresh(record_id, current, &observed);
                return next;
            };
            // The watch's selector drops what is settled; its DELETED must find the record marked.
            if after.settled {
                failpoint(Failpoint::BeforeSettling).await;
                self.index().mark_settling(record_id);
            }
            let written = self.cluster.write_status(&current, after).await;
            if after.settled && matches!(written, Written::Conflict | Written::Refused | Written::TooLarge) {
                self.index().unmark_settling(record_id);
            }
            match written {
                Written::Done(written) => {
                    return self.finish(record_id, &current, Some(&written), conclusion, entry);
                }
                Written::Same => {
                    let next = self.finish(record_id, &current, None, conclusion, entry);
                    self.keep_fresh(record_id, current, &observed);
                    return next;
                }
                Written::Gone => return Disposition::AwaitChange,
                Written::Refused | Written::TooLarge => return self.write_again(record_id, outcome, &entry),
                Written::Failed | Written::Unknown => {
                    self.tell_when_written(record_id, &current, after, &conclusion.events);
                    return self.write_again(record_id, outcome, &entry);
                }
                Written::Conflict => {}
            }
            let namespace = current.namespace().unwrap_or_default();
            let read = match self.cluster.get(&namespace, &current.name_any()).await {
                Read::Found(read) => read,
                Read::Gone => return Disposition::AwaitChange,
                Read::Unknown => {
                    self.tell_when_written(record_id, &current, after, &conclusion.events);
                    return self.write_again(record_id, outcome, &entry);
                }
            };
            // The client repeats what had no answer, so the conflict may be with our own write.
            if read.uid() == current.uid() && is_written(&read, after) {
                if after.settled {
                    self.index().mark_settling(record_id);
                }
                return self.finish(record_id, &current, Some(&read), conclusion, entry);
            }
            let found = state(&uid, &read.status.clone().unwrap_or_default());
            let same_spec = read.metadata.generation == current.metadata.generation;
            let same_ground = read.uid() == current.uid()
                && read.metadata.deletion_timestamp.is_none()
                && found == state(&uid, &status);
            // What is in the store is there, whatever the spec says by now.
            if !same_ground || !(same_spec || matches!(outcome, StepOutcome::Store(_))) {
                return Disposition::At(Instant::now(), Priority::Requested, entry.fairness_key);
            }
            if same_spec {
                observed.read_clocks(&self.clock);
            } else {
                let Ok(anew) = self.observe(&read, &found, &mut entry).await else {
                    return self.write_again(record_id, outcome, &entry);
                };
                observed = anew;
            }
            current = read;
        }
        self.write_again(record_id, outcome, &entry)
    }

    /// Keeps a resource that waits for its session and was not written: its next turn may come before it is too old.
    fn keep_fresh(&self, record_id: RecordId, object: Box<Verification>, observed: &Observed) {
        if !observed.facts.too_large
            && object.status.as_ref().is_none_or(|status| status.verification_id.is_none())
        {
            self.recent.keep(record_id, object, observed.since);
        }
    }

    /// What has happened could not be written: the turn comes again, and does not store again what is stored.
    fn write_again(&self, record_id: RecordId, outcome: &StepOutcome, entry: &CacheEntry) -> Disposition {
        if let StepOutcome::Store(stored) = outcome
            && (!stored.objects.is_empty() || stored.manifest_sha256.is_some())
            && let Some(kept) = self.index().get_mut(record_id)
        {
            kept.set_unwritten(Some(stored.clone()));
        }
        self.again(record_id, entry)
    }

    /// After the write: remembers, logs, counts and tells what has happened.
    fn finish(
        &self,
        record_id: RecordId,
        before: &Verification,
        written: Option<&Verification>,
        conclusion: Conclusion,
        mut entry: CacheEntry,
    ) -> Disposition {
        let Conclusion { status: _, next, priority, local_state, events } = conclusion;
        entry.remember(local_state);
        let fairness_key = entry.fairness_key;
        if let Some(written) = written.filter(|_| entry.session.is_none())
            && let Some((portal, id)) = published(written)
        {
            entry.session = self.sessions.take(portal, &id, &written.uid().unwrap_or_default());
        }
        if let Some(written) = written {
            entry.know(self.known(written));
            self.wrote(record_id, written);
        }
        {
            let mut index = self.index();
            entry.keep(&mut index, record_id, &before.uid().unwrap_or_default(), &self.sessions);
        }
        if let Some(written) = written {
            self.log_change(before, written);
        }
        for event in events {
            self.tell(before, event);
        }
        match next {
            Requeue::Now => Disposition::At(Instant::now(), priority, fairness_key),
            Requeue::At(at) => Disposition::At(self.clock.instant(at), priority, fairness_key),
            Requeue::AwaitChange | Requeue::Done => Disposition::AwaitChange,
        }
    }

    /// The API server gave no usable answer: the turn comes again, later with each time.
    fn again(&self, record_id: RecordId, entry: &CacheEntry) -> Disposition {
        self.metrics.reconcile_retries.inc();
        let failures = self.index().get_mut(record_id).map_or(0, CacheEntry::one_more_failure);
        let wait = AGAIN.jittered(u32::from(failures) + 1, rand::random());
        Disposition::At(Instant::now() + wait, Priority::Active, entry.fairness_key)
    }
}

fn look_priority(status: &VerificationStatus, facts: &Facts) -> Priority {
    if facts.asks_for_a_look(status) {
        return Priority::Requested;
    }
    crate::lifecycle::poll_schedule(status, &facts.local_state, facts.bounds, facts.times()).stage.priority()
}

/// Whether what was stored is still to be written down.
fn owes_evidence(state: &State, facts: &Facts) -> bool {
    matches!(state, State::Finished(_)) && !facts.deleting && facts.evidence.state == EvidenceState::Pending
}

const fn admission(closed: Closed, until: Timestamp) -> AdmissionFact {
    match closed {
        Closed::Paused => AdmissionFact::Paused(until),
        Closed::Breaker => AdmissionFact::Breaker(until),
        Closed::KeyRejected => AdmissionFact::KeyRejected(until),
        Closed::Rate => AdmissionFact::Rate(until),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_comes_again_later_with_each_time_and_within_two_minutes() {
        let portal_wait =
            (0..=u8::MAX).map(|failures| AGAIN.jittered(u32::from(failures) + 1, 1.0)).collect::<Vec<_>>();
        assert_eq!(portal_wait[..3], [4, 8, 16].map(Duration::from_secs));
        assert!(portal_wait.is_sorted());
        assert_eq!(portal_wait.last(), Some(&Duration::from_mins(2)));
    }
}
