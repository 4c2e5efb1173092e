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
        Blocker, Conclusion, EvidenceState, Facts, NotAdmitted, ParsedStatus, PortalStep, Refusal, Requeue,
        State, Step, StepOutcome, Transition, Wait, after_refusal, conclude, decide,
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

/// Whether the step that was decided may call the portal.
enum Leave {
    /// It may, now.
    Call(RequestPermit),
    /// The portal has answered already.
    Answered(Result<Details, PortalError>),
    /// It may not now.
    Refused(NotAdmitted),
    /// It makes no call of its own.
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
        let parsed = ParsedStatus::of(&object.uid().unwrap_or_default(), &status);
        let Ok(mut observed) = self.observe(&object, parsed.state(), &mut entry).await else {
            return self.again(record_id, &entry);
        };
        observed.facts.too_large = too_large;
        observed.since = since;
        let owes_evidence = owes_evidence(parsed.state(), &observed.facts);
        if let Some(stored) = entry.unwritten().filter(|_| owes_evidence).cloned() {
            entry.set_unwritten(None);
            let outcome = StepOutcome::Store(stored);
            return Box::pin(self.conclude(record_id, object, &outcome, observed, entry)).await;
        }
        let step = decide(&parsed, &observed.facts);
        let mut leave = self.ask_leave(&step, &status, &observed, answer);
        if let Leave::Refused(NotAdmitted { refusal: Refusal::Breaker(until), step: of, cause }) = leave
            && matches!(parsed.state(), State::Fresh | State::Refused | State::OutcomeUnknown)
        {
            let refused = |until| NotAdmitted { step: of, refusal: Refusal::Breaker(until), cause };
            leave = match self.ping(&observed).await {
                Probe::NotNow => Leave::Refused(refused(until)),
                Probe::Answered => self.ask_leave(&step, &status, &observed, None),
                Probe::Silent(again) => Leave::Refused(refused(until.min(self.clock.time(again)))),
            };
        }
        if let Leave::Refused(not_admitted) = &leave
            && self.joins_those_who_wait(record_id, not_admitted, &observed, &entry)
        {
            leave = self.ask_leave(&step, &status, &observed, None);
        }
        let outcome = match (step, leave, observed.caller()) {
            (_, Leave::Refused(not_admitted), _) => StepOutcome::NotAdmitted(not_admitted),
            (Step::Create { attempt }, Leave::Call(admitted), Some((portal, key))) => {
                let caller = Caller { portal, key, permit: admitted };
                let create = Create { record_id, attempt, object: &object, observed: &observed };
                let recorded = Box::pin(self.create(caller, create, &mut entry)).await;
                return self.finish_create(record_id, &object, &observed, recorded, entry);
            }
            (Step::Poll(id), Leave::Call(admitted), Some((portal, key))) => {
                let answer = self.poll(Caller { portal, key, permit: admitted }, &id).await;
                StepOutcome::Poll { id, answer }
            }
            (Step::Adopt(id), Leave::Call(admitted), Some((portal, key))) => {
                let answer = self.poll(Caller { portal, key, permit: admitted }, &id).await;
                StepOutcome::Adopt { id, answer }
            }
            (Step::Poll(id), Leave::Answered(answer), _) => StepOutcome::Poll { id, answer },
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
                    Box::pin(self.evidence.remove(&object, evidence, unwritten, release_when)).await;
                let RemovalReport { outcome, event_if_released } = removed;
                if let Some(event) = event_if_released {
                    self.tell_when_let_go(record_id, &object, event);
                }
                StepOutcome::RemoveEvidence(outcome)
            }
            (Step::Transition(transition), _, _) => StepOutcome::Transition(transition),
            (
                Step::Create { attempt: _ } | Step::Adopt(_) | Step::Poll(_),
                Leave::Call(_) | Leave::Answered(_) | Leave::NoCall,
                _,
            ) => StepOutcome::NotPerformed,
        };
        observed.read_clocks(&self.clock);
        // On the heap, as all that is large and not waited in for long: a turn that waits for its place is no larger for it.
        Box::pin(self.conclude(record_id, object, &outcome, observed, entry)).await
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
        not_admitted: &NotAdmitted,
        observed: &Observed,
        entry: &CacheEntry,
    ) -> bool {
        let (Transition::Wait(Wait::Admission(Refusal::Rate(_))), Some((portal, key)), Some(budget)) =
            (after_refusal(not_admitted, &observed.facts), observed.caller(), &observed.budget)
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

    /// Asks for admission of the call that a step makes.
    fn ask_leave(
        &self,
        step: &Step,
        status: &VerificationStatus,
        observed: &Observed,
        answer: Option<Answer>,
    ) -> Leave {
        let Some(portal_step) = step.portal_step() else { return Leave::NoCall };
        let Some(budget) = &observed.budget else { return Leave::NoCall };
        let refused = |call, until, closed| {
            let cause = budget.cause(call, closed).as_ref().and_then(Blocker::of);
            Leave::Refused(NotAdmitted {
                step: portal_step,
                refusal: refusal(closed, self.clock.time(until)),
                cause,
            })
        };
        let (call, priority) = match portal_step {
            PortalStep::Create => (Call::Create, Priority::Create),
            PortalStep::Adopt => (Call::Poll, Priority::Create),
            PortalStep::Poll => (Call::Poll, look_priority(status, &observed.facts)),
            // Admission is asked for each object on its own.
            PortalStep::Store => {
                return match budget.closed(Instant::now()) {
                    Some((until, closed)) => refused(Call::Poll, until, closed),
                    None => Leave::NoCall,
                };
            }
        };
        if let (Step::Poll(id), Some(account)) = (step, &observed.account)
            && let Some(answer) = answer.filter(|answer| answer.is_of(account, id))
        {
            return Leave::Answered(answer.result);
        }
        match budget.admit(Instant::now(), call, priority) {
            Admission::Go(admitted) => Leave::Call(admitted),
            Admission::Wait { until, closed } => refused(call, until, closed),
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
        outcome: &StepOutcome,
        mut observed: Observed,
        mut entry: CacheEntry,
    ) -> Disposition {
        let mut current = object;
        for _ in 0..CONFLICTS {
            let status = current.status.clone().unwrap_or_default();
            let uid = current.uid().unwrap_or_default();
            let parsed = ParsedStatus::of(&uid, &status);
            let conclusion = conclude(&parsed, outcome, &observed.facts);
            entry.portal_wait = self.portal_wait(outcome, &observed, &conclusion);
            // Who opens the way while this turn still writes has to find it among those who wait.
            if let (Some(portal_wait), Some(kept)) = (entry.portal_wait, self.index().get_mut(record_id)) {
                kept.portal_wait = Some(portal_wait);
            }
            // While an outage is shown, those who wait for its end go on without reading anything.
            if !entry.portal_wait.is_some_and(|portal_wait| portal_wait.is_told) {
                entry.set_poll_context(self.standing(&observed, outcome, &conclusion));
            }
            entry.set_key_wait(self.key_wait(parsed.state(), &observed, &conclusion));
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
            let read_status = read.status.clone().unwrap_or_default();
            let found = ParsedStatus::of(&uid, &read_status);
            let same_spec = read.metadata.generation == current.metadata.generation;
            let same_ground = read.uid() == current.uid()
                && read.metadata.deletion_timestamp.is_none()
                && found.state() == parsed.state();
            // What is in the store is there, whatever the spec says by now.
            if !same_ground || !(same_spec || matches!(outcome, StepOutcome::Store(_))) {
                return Disposition::At(Instant::now(), Priority::Requested, entry.fairness_key);
            }
            if same_spec {
                observed.read_clocks(&self.clock);
            } else {
                let Ok(anew) = self.observe(&read, found.state(), &mut entry).await else {
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
        let Conclusion { status: _, next, priority, local_state, events, waits_for: _ } = conclusion;
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

const fn refusal(closed: Closed, until: Timestamp) -> Refusal {
    match closed {
        Closed::Paused => Refusal::Paused(until),
        Closed::Breaker => Refusal::Breaker(until),
        Closed::KeyRejected => Refusal::KeyRejected(until),
        Closed::Rate => Refusal::Rate(until),
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
