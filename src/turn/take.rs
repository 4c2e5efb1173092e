//! The turn itself, as a list of its steps.

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use tokio::time::Instant;

use crate::{
    api::{Condition, ConditionType, Verification, VerificationStatus},
    lifecycle::{
        Blocker, Conclusion, EvidenceStanding, Facts, Gate, Happened, Next, Past, Step, Wait, conclude,
        decide, ledger, past,
    },
    portal::{
        Call, Details, Trouble,
        budget::{Admission, Closed, Pass},
    },
    priority::Priority,
    watch::{Next as Turned, Slot},
};

use super::{
    Turns,
    act::{Caller, Create, Ping, Recorded, lost_answers},
    crash::{self, Point},
    glance::{Answer, Glance},
    memory::{Memory, published},
    observe::Observed,
    status::{Read, Written, is_written},
};

/// When the API server did not answer, the turn comes again after this, longer with each time.
const AGAIN: (Duration, Duration) = (Duration::from_secs(2), Duration::from_mins(2));
/// How often a write that met a conflict is concluded anew within the turn.
const CONFLICTS: usize = 5;

/// Whether the step that was decided calls the portal.
enum Leave {
    /// It may, now.
    Call(Pass),
    /// The portal has answered already.
    Answered(Result<Details, Trouble>),
    /// It does not, or may not now.
    NoCall,
}

impl Turns {
    /// Takes one turn of one verification.
    pub async fn take(&self, slot: Slot) -> Turned {
        let answer = match self.glance(slot).await {
            Glance::Nothing(next) => return next,
            Glance::Turn(answer) => answer,
        };
        let Some((namespace, name, mut memory)) = self.remembered(slot) else { return Turned::Gone };
        // What was waited for has come, or something else is due.
        memory.key_wait = None;
        memory.waits = None;
        if memory.untold.is_some() {
            // Only a read says whether a write whose answer was lost is there.
            drop(self.fresh.take(slot));
        }
        let (read, since, too_large) = self.fresh_or_read(slot, &namespace, &name).await;
        self.tell_if_written(slot, &mut memory, &read);
        let object = match read {
            Read::Found(object) => object,
            Read::Gone => return Turned::Park,
            Read::Unknown => return self.again(slot, &memory),
        };
        let status = object.status.clone().unwrap_or_default();
        let past = past(&object.uid().unwrap_or_default(), &status);
        let Ok(mut observed) = self.observe(&object, &past, &mut memory).await else {
            return self.again(slot, &memory);
        };
        observed.facts.too_large = too_large;
        observed.since = since;
        let owes_evidence = owes_evidence(&past, &observed.facts);
        if let Some(stored) = memory.unwritten.take_if(|_| owes_evidence) {
            let happened = Happened::Store(*stored);
            return Box::pin(self.conclude(slot, object, &Step::Store, &happened, observed, memory)).await;
        }
        let (mut step, mut leave) = self.decide(&past, &status, &mut observed, answer);
        if let (Step::Wait(Wait::Breaker(until)), Past::Fresh | Past::Refused | Past::Lost) = (&step, &past) {
            let until = *until;
            observed.facts.gate = match self.ping(&observed).await {
                Ping::NotNow => Gate::Breaker(until),
                Ping::Answered => Gate::Open,
                Ping::Silent(again) => Gate::Breaker(until.min(self.clock.time(again))),
            };
            (step, leave) = self.decide(&past, &status, &mut observed, None);
        }
        if self.joins_those_who_wait(slot, &step, &observed, &memory) {
            observed.facts.gate = Gate::Open;
            (step, leave) = self.decide(&past, &status, &mut observed, None);
        }
        let happened = match (&step, leave, observed.caller()) {
            (Step::Create { attempt }, Leave::Call(admitted), Some((portal, key))) => {
                let caller = Caller { portal, key, pass: admitted };
                let create = Create { slot, attempt: *attempt, object: &object, observed: &observed };
                let recorded = Box::pin(self.create(caller, create, &mut memory)).await;
                return self.finish_create(slot, &object, &observed, recorded, memory);
            }
            (Step::Look(id) | Step::Adopt(id), Leave::Call(admitted), Some((portal, key))) => {
                Happened::Look(self.ask(Caller { portal, key, pass: admitted }, id).await)
            }
            (_, Leave::Answered(result), _) => Happened::Look(result),
            (Step::Store, _, _) => Happened::Store(self.store(&object, &observed).await),
            (Step::AddFinalizer, _, _) => Happened::AddFinalizer(self.add_finalizer(&object).await),
            (Step::RemoveEvidence { let_go }, _, _) => {
                let unwritten = memory.unwritten.as_deref();
                let evidence = &observed.facts.evidence;
                let removed =
                    Box::pin(self.remove_evidence(slot, &object, evidence, unwritten, *let_go)).await;
                Happened::Remove(removed)
            }
            (_, Leave::Call(_) | Leave::NoCall, _) => Happened::Nothing,
        };
        observed.read_clocks(&self.clock);
        // On the heap, as all that is large and not waited in for long: a turn that waits for its place is no larger for it.
        Box::pin(self.conclude(slot, object, &step, &happened, observed, memory)).await
    }

    /// The resource: as it came a moment ago, if nothing newer is known, or else as it is read now. With it, when it came,
    /// and whether the record of a session might not fit into it.
    async fn fresh_or_read(&self, slot: Slot, namespace: &str, name: &str) -> (Read, Instant, bool) {
        if let Some((object, since)) = self.fresh.take(slot) {
            let version = object.metadata.resource_version.as_deref().unwrap_or_default();
            if self.table().is_at(slot, version) {
                return (Read::Found(object), since, false);
            }
        }
        let (read, too_large) = self.read_and_weigh(namespace, name).await;
        if let Read::Found(object) = &read
            && self.table().is_past(slot, object.metadata.resource_version.as_deref().unwrap_or_default())
        {
            self.newest.suspect();
        }
        (read, Instant::now(), too_large)
    }

    /// Where the first answer to a new key is waited for, this one is woken when it comes. True, if it has come meanwhile.
    fn joins_those_who_wait(&self, slot: Slot, step: &Step, observed: &Observed, memory: &Memory) -> bool {
        let (Step::Wait(Wait::Rate(_)), Some((portal, key)), Some(budget)) =
            (step, observed.caller(), &observed.budget)
        else {
            return false;
        };
        let is_awaited = || budget.awaits_first_answer(Instant::now());
        if !is_awaited() {
            return false;
        }
        self.first_answers.join(portal, key.identity(), slot, memory.lane);
        if is_awaited() {
            return false;
        }
        self.first_answers.leave(portal, key.identity(), slot);
        true
    }

    fn remembered(&self, slot: Slot) -> Option<(String, String, Memory)> {
        let table = self.table();
        let view = table.view(slot)?;
        Some((view.namespace.to_owned(), view.name.to_owned(), view.payload.clone()))
    }

    /// Decides; for a step that calls the portal, asks the gate for a place, and decides again if there is none.
    fn decide(
        &self,
        past: &Past,
        status: &VerificationStatus,
        observed: &mut Observed,
        answer: Option<Answer>,
    ) -> (Step, Leave) {
        let step = decide(past, ledger(status), &observed.facts);
        let decide_again = |observed: &mut Observed, call, until, closed| {
            observed.facts.gate = gate(closed, self.clock.time(until));
            let cause = observed.budget.as_ref().and_then(|budget| budget.cause(call, closed));
            observed.facts.closed_by = cause.as_ref().and_then(Blocker::of);
            (decide(past, ledger(status), &observed.facts), Leave::NoCall)
        };
        let (call, priority) = match &step {
            Step::Create { attempt: _ } => (Call::Create, Priority::Create),
            Step::Adopt(_) => (Call::Look, Priority::Create),
            Step::Look(id) => {
                let account = observed.account.as_ref();
                match answer.filter(|answer| account.is_some_and(|account| answer.is_of(account, id))) {
                    Some(answer) => return (step, Leave::Answered(answer.result)),
                    None => (Call::Look, look_priority(status, &observed.facts)),
                }
            }
            // It asks for a place for each object by itself.
            Step::Store => {
                let closed = observed.budget.as_ref().and_then(|budget| budget.closed(Instant::now()));
                return match closed {
                    Some((until, closed)) => decide_again(observed, Call::Look, until, closed),
                    None => (step, Leave::NoCall),
                };
            }
            Step::Forget
            | Step::Rest
            | Step::Settle
            | Step::Restore(_)
            | Step::Show(_)
            | Step::Grant(_)
            | Step::Wait(_)
            | Step::End
            | Step::GiveUpRefused
            | Step::GiveUpLost
            | Step::AddFinalizer
            | Step::GiveUpEvidence
            | Step::RemoveEvidence { let_go: _ } => return (step, Leave::NoCall),
        };
        let Some(budget) = &observed.budget else { return (step, Leave::NoCall) };
        match budget.admit(Instant::now(), call, priority) {
            Admission::Go(admitted) => (step, Leave::Call(admitted)),
            Admission::Wait { until, closed } => decide_again(observed, call, until, closed),
        }
    }

    fn finish_create(
        &self,
        slot: Slot,
        object: &Verification,
        observed: &Observed,
        recorded: Recorded,
        mut memory: Memory,
    ) -> Turned {
        match recorded {
            Recorded::Written(written, conclusion) => {
                memory.standing = self.standing_of_new(observed, &written, &conclusion);
                self.finish(slot, object, Some(&written), conclusion, memory)
            }
            Recorded::Unwritten(conclusion) => self.finish(slot, object, None, conclusion, memory),
            Recorded::Gone => {
                if let Some(session) = memory.session {
                    self.sessions.forget(session);
                }
                Turned::Park
            }
        }
    }

    /// Concludes and writes. What came of the step is not lost to a conflict: it is concluded anew on what is there. What
    /// was stored is not lost to an API server that takes no writes either: the next turn writes it.
    async fn conclude(
        &self,
        slot: Slot,
        object: Box<Verification>,
        step: &Step,
        happened: &Happened,
        mut observed: Observed,
        mut memory: Memory,
    ) -> Turned {
        let mut current = object;
        for _ in 0..CONFLICTS {
            let status = current.status.clone().unwrap_or_default();
            let uid = current.uid().unwrap_or_default();
            let conclusion =
                conclude(&status, &past(&uid, &status), ledger(&status), step, happened, &observed.facts);
            memory.waits = self.waits(step, happened, &observed);
            // Who opens the way while this turn still writes has to find it among those who wait.
            if let (Some(waits), Some(kept)) = (memory.waits, self.table().get_mut(slot)) {
                kept.waits = Some(waits);
            }
            // While an outage is shown, those who wait for its end go on without reading anything.
            if !memory.waits.is_some_and(|waits| waits.is_told) {
                memory.standing = self.standing(&observed, happened, &conclusion);
            }
            memory.key_wait = self.key_wait(step, &past(&uid, &status), &observed, &conclusion);
            let Some(after) = &conclusion.status else {
                let next = self.finish(slot, &current, None, conclusion, memory);
                self.keep_fresh(slot, current, &observed);
                return next;
            };
            // The watch's selector drops what is settled; its DELETED must find the record marked.
            if after.settled {
                crash::reach(Point::BeforeSettling).await;
                self.table().leaving(slot);
            }
            let written = self.write(&current, after).await;
            if after.settled && matches!(written, Written::Conflict | Written::Refused | Written::TooLarge) {
                self.table().staying(slot);
            }
            match written {
                Written::Done(written) => {
                    return self.finish(slot, &current, Some(&written), conclusion, memory);
                }
                Written::Same => {
                    let next = self.finish(slot, &current, None, conclusion, memory);
                    self.keep_fresh(slot, current, &observed);
                    return next;
                }
                Written::Gone => return Turned::Park,
                Written::Refused | Written::TooLarge => return self.write_again(slot, happened, &memory),
                Written::Unknown => {
                    self.tell_when_written(slot, &current, after, &conclusion.events);
                    return self.write_again(slot, happened, &memory);
                }
                Written::Conflict => {}
            }
            let namespace = current.namespace().unwrap_or_default();
            let read = match self.read(&namespace, &current.name_any()).await {
                Read::Found(read) => read,
                Read::Gone => return Turned::Park,
                Read::Unknown => {
                    self.tell_when_written(slot, &current, after, &conclusion.events);
                    return self.write_again(slot, happened, &memory);
                }
            };
            // The client repeats what had no answer, so the conflict may be with our own write.
            if read.uid() == current.uid() && is_written(&read, after) {
                if after.settled {
                    self.table().leaving(slot);
                }
                return self.finish(slot, &current, Some(&read), conclusion, memory);
            }
            let found = past(&uid, &read.status.clone().unwrap_or_default());
            let same_spec = read.metadata.generation == current.metadata.generation;
            let same_ground = read.uid() == current.uid()
                && read.metadata.deletion_timestamp.is_none()
                && found == past(&uid, &status);
            // What is in the store is there, whatever the spec says by now.
            if !same_ground || !(same_spec || matches!(happened, Happened::Store(_))) {
                return Turned::At(Instant::now(), Priority::Nudge, memory.lane);
            }
            if same_spec {
                observed.read_clocks(&self.clock);
            } else {
                let Ok(anew) = self.observe(&read, &found, &mut memory).await else {
                    return self.write_again(slot, happened, &memory);
                };
                observed = anew;
            }
            current = read;
        }
        self.write_again(slot, happened, &memory)
    }

    /// Keeps a resource that waits for its session and was not written: its next turn may come before it is too old.
    fn keep_fresh(&self, slot: Slot, object: Box<Verification>, observed: &Observed) {
        if !observed.facts.too_large
            && object.status.as_ref().is_none_or(|status| status.verification_id.is_none())
        {
            self.fresh.keep(slot, object, observed.since);
        }
    }

    /// What has happened could not be written: the turn comes again, and does not store again what is stored.
    fn write_again(&self, slot: Slot, happened: &Happened, memory: &Memory) -> Turned {
        if let Happened::Store(stored) = happened
            && (!stored.objects.is_empty() || stored.manifest_sha256.is_some())
            && let Some(kept) = self.table().get_mut(slot)
        {
            kept.unwritten = Some(Box::new(stored.clone()));
        }
        self.again(slot, memory)
    }

    /// After the write: remembers, logs, counts and tells what has happened.
    fn finish(
        &self,
        slot: Slot,
        before: &Verification,
        written: Option<&Verification>,
        conclusion: Conclusion,
        mut memory: Memory,
    ) -> Turned {
        let Conclusion { status: _, next, priority, streaks, events } = conclusion;
        memory.remember(streaks);
        let lane = memory.lane;
        if let Some(written) = written.filter(|_| memory.session.is_none())
            && let Some((portal, id)) = published(written)
        {
            memory.session = self.sessions.take(portal, &id, &written.uid().unwrap_or_default());
        }
        if let Some(written) = written {
            memory.know(self.known(written));
            self.wrote(slot, written);
        }
        {
            let mut table = self.table();
            memory.keep(&mut table, slot, &before.uid().unwrap_or_default(), &self.sessions);
        }
        if let Some(written) = written {
            self.log_change(before, written);
        }
        for event in events {
            self.tell(before, event);
        }
        match next {
            Next::Now => Turned::At(Instant::now(), priority, lane),
            Next::At(at) => Turned::At(self.clock.instant(at), priority, lane),
            Next::Watch | Next::Leave => Turned::Park,
        }
    }

    /// One line for each change of state: of the phase, or of the reason of Ready, Reconciling or Stalled.
    pub(super) fn log_change(&self, before: &Verification, after: &Verification) {
        let reason = |object: &Verification, condition| {
            let status = object.status.as_ref()?;
            Condition::find(&status.conditions, condition).map(|condition| condition.reason.clone())
        };
        let shown = |object: &Verification| {
            [ConditionType::Ready, ConditionType::Reconciling, ConditionType::Stalled]
                .map(|condition| reason(object, condition))
        };
        let phase = |object: &Verification| object.status.as_ref().and_then(|status| status.phase);
        let ledger_of = |object: &Verification| ledger(&object.status.clone().unwrap_or_default());
        let lost = lost_answers(ledger_of(before), ledger_of(after));
        if lost > 0 {
            self.metrics.lost_answers.inc_by(u64::from(lost));
        }
        if phase(before) != phase(after) || shown(before) != shown(after) {
            let [ready, reconciling, stalled] = shown(after);
            tracing::info!(
                namespace = after.namespace().unwrap_or_default(),
                name = after.name_any(),
                phase = phase(after).map_or("", crate::api::Phase::as_str),
                reason = ready.unwrap_or_default(),
                reconciling,
                stalled,
                "the verification changed"
            );
        }
    }

    /// The API server gave no usable answer: the turn comes again, later with each time.
    fn again(&self, slot: Slot, memory: &Memory) -> Turned {
        self.metrics.turns_repeated.inc();
        let failures = self.table().get_mut(slot).map_or(0, Memory::one_more_failure);
        let wait = rand::random_range(AGAIN.0..=longest_wait(failures));
        Turned::At(Instant::now() + wait, Priority::Active, memory.lane)
    }
}

fn look_priority(status: &VerificationStatus, facts: &Facts) -> Priority {
    if facts.asks_for_a_look(status) {
        return Priority::Nudge;
    }
    crate::lifecycle::pace(status, &facts.streaks, facts.bounds, facts.times()).stage.priority()
}

/// Whether what was stored is still to be written down.
fn owes_evidence(past: &Past, facts: &Facts) -> bool {
    matches!(past, Past::Over(_)) && !facts.deleting && facts.evidence.standing == EvidenceStanding::Owed
}

const fn gate(closed: Closed, until: Timestamp) -> Gate {
    match closed {
        Closed::Paused => Gate::Paused(until),
        Closed::Breaker => Gate::Breaker(until),
        Closed::KeyRejected => Gate::KeyRejected(until),
        Closed::Rate => Gate::Rate(until),
    }
}

/// The longest wait after so many turns in a row that the API server kept from their end.
fn longest_wait(failures: u8) -> Duration {
    let (least, most) = AGAIN;
    least.saturating_mul(2_u32.saturating_pow(u32::from(failures) + 1)).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_comes_again_later_with_each_time_and_within_two_minutes() {
        let waits = (0..=u8::MAX).map(longest_wait).collect::<Vec<_>>();
        assert_eq!(waits[..3], [4, 8, 16].map(Duration::from_secs));
        assert!(waits.is_sorted());
        assert_eq!(waits.last(), Some(&Duration::from_mins(2)));
    }
}
