//! The turn itself, as a list of its steps.

use std::time::Duration;

use kube::ResourceExt;
use tokio::time::Instant;

use crate::{
    api::{Condition, ConditionType, Verification, VerificationStatus},
    lifecycle::{
        Conclusion, Facts, Gate, Happened, Next, Past, Step, Urgency, conclude, decide, ledger, past,
    },
    portal::{
        Call,
        budget::{Admission, Closed, Priority as CallPriority},
    },
    watch::{Next as Turned, Priority, Slot},
};

use super::{
    Turns,
    act::{Caller, Recorded, lost_answers},
    memory::{Memory, priority},
    observe::Observed,
    status::{Read, Written},
};

/// When the API server did not answer, the turn comes again after this, longer with each time.
const AGAIN: (Duration, Duration) = (Duration::from_secs(2), Duration::from_mins(2));
/// How often a write that met a conflict is concluded anew within the turn.
const CONFLICTS: usize = 5;

impl Turns {
    /// Takes one turn of one verification.
    pub async fn take(&self, slot: Slot) -> Turned {
        let Some((namespace, name, mut memory)) = self.remembered(slot) else { return Turned::Gone };
        let object = match self.read(&namespace, &name).await {
            Read::Found(object) => object,
            Read::Gone => return Turned::Park,
            Read::Unknown => return self.again(&memory),
        };
        let status = object.status.clone().unwrap_or_default();
        let past = past(&object.uid().unwrap_or_default(), &status);
        let Ok(mut observed) = self.observe(&object, &past, &mut memory).await else {
            return self.again(&memory);
        };
        let (step, caller) = self.decide(&past, &status, &mut observed, &memory);
        match (step, caller) {
            (Step::Create { attempt }, Some(place)) => {
                let Some((portal, key)) = observed.portal.as_ref().zip(observed.key.as_deref()) else {
                    return self.again(&memory);
                };
                let caller = Caller { portal, key, pass: place };
                match self.create(caller, &object, attempt, &observed, &mut memory).await {
                    Recorded::Written(written, conclusion) => {
                        self.finish(slot, &object, Some(&written), conclusion, memory)
                    }
                    Recorded::Unwritten(conclusion) => self.finish(slot, &object, None, conclusion, memory),
                    Recorded::Gone => Turned::Park,
                }
            }
            (step @ (Step::Look(_) | Step::Adopt(_)), Some(place)) => {
                let Some((portal, key)) = observed.portal.as_ref().zip(observed.key.as_deref()) else {
                    return self.again(&memory);
                };
                let (Step::Look(id) | Step::Adopt(id)) = &step else { return self.again(&memory) };
                let happened = self.look(Caller { portal, key, pass: place }, id).await;
                self.conclude(slot, object, &step, &happened, observed.facts, memory).await
            }
            (step, _) => self.conclude(slot, object, &step, &Happened::Nothing, observed.facts, memory).await,
        }
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
        memory: &Memory,
    ) -> (Step, Option<crate::portal::budget::Pass>) {
        let step = decide(past, ledger(status), &observed.facts);
        let (call, urgency) = match &step {
            Step::Create { attempt: _ } => (Call::Create, CallPriority::Create),
            Step::Adopt(_) => (Call::Look, CallPriority::Create),
            Step::Look(_) => (Call::Look, self.call_priority(status, &observed.facts, memory)),
            Step::Forget
            | Step::Rest
            | Step::Settle
            | Step::Show(_)
            | Step::Grant(_)
            | Step::Wait(_)
            | Step::End
            | Step::GiveUpRefused
            | Step::GiveUpLost => return (step, None),
        };
        let Some((portal, key)) = observed.portal.as_ref().zip(observed.key.as_deref()) else {
            return (step, None);
        };
        let budget = self.budgets.budget(portal, key.identity());
        match budget.admit(Instant::now(), call, urgency) {
            Admission::Go(place) => (step, Some(place)),
            Admission::Wait { until, closed } => {
                let until = self.clock.time(until);
                observed.facts.gate = match closed {
                    Closed::Paused => Gate::Paused(until),
                    Closed::Breaker => Gate::Breaker(until),
                    Closed::KeyBad => Gate::KeyBad(until),
                    Closed::Rate => Gate::Rate(until),
                };
                (decide(past, ledger(status), &observed.facts), None)
            }
        }
    }

    fn call_priority(&self, status: &VerificationStatus, facts: &Facts, memory: &Memory) -> CallPriority {
        if facts.reconcile_requested != status.last_handled_reconcile_at {
            return CallPriority::Nudge;
        }
        let pace = crate::lifecycle::pace(status, &memory.streaks, facts.bounds, self.clock.now());
        match pace.stage.urgency() {
            Urgency::Create => CallPriority::Create,
            Urgency::Nudge => CallPriority::Nudge,
            Urgency::Finishing => CallPriority::Finishing,
            Urgency::Active => CallPriority::Active,
            Urgency::Idle => CallPriority::Idle,
        }
    }

    /// Concludes and writes. What came of the step is not lost to a conflict: it is concluded anew on what is there.
    async fn conclude(
        &self,
        slot: Slot,
        object: Box<Verification>,
        step: &Step,
        happened: &Happened,
        mut facts: Facts,
        memory: Memory,
    ) -> Turned {
        let mut current = object;
        for _ in 0..CONFLICTS {
            let status = current.status.clone().unwrap_or_default();
            let uid = current.uid().unwrap_or_default();
            let conclusion = conclude(&status, &past(&uid, &status), ledger(&status), step, happened, &facts);
            let Some(after) = &conclusion.status else {
                return self.finish(slot, &current, None, conclusion, memory);
            };
            // The watch's selector drops what is settled; its DELETED must find the record marked.
            if after.settled {
                self.table().leaving(slot);
            }
            let written = self.write(&current, after).await;
            if after.settled && !matches!(written, Written::Done(_)) {
                self.table().staying(slot);
            }
            match written {
                Written::Done(written) => {
                    return self.finish(slot, &current, Some(&written), conclusion, memory);
                }
                Written::Same => return self.finish(slot, &current, None, conclusion, memory),
                Written::Gone => return Turned::Park,
                Written::Refused | Written::Unknown => return self.again(&memory),
                Written::Conflict => {}
            }
            let namespace = current.namespace().unwrap_or_default();
            let read = match self.read(&namespace, &current.name_any()).await {
                Read::Found(read) => read,
                Read::Gone => return Turned::Park,
                Read::Unknown => return self.again(&memory),
            };
            let same_ground = read.uid() == current.uid()
                && read.metadata.deletion_timestamp.is_none()
                && read.metadata.generation == current.metadata.generation
                && past(&uid, &read.status.clone().unwrap_or_default()) == past(&uid, &status);
            if !same_ground {
                return Turned::At(Instant::now(), Priority::Nudge, memory.lane);
            }
            facts.now = self.clock.now();
            current = read;
        }
        self.again(&memory)
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
        let Conclusion { status: _, next, urgency, streaks, events } = conclusion;
        memory.streaks = streaks;
        let lane = memory.lane;
        {
            let mut table = self.table();
            if let Some(version) = written.and_then(|written| written.metadata.resource_version.as_deref()) {
                table.wrote(slot, version, |kept| *kept = memory);
            } else if let Some(kept) = table.get_mut(slot) {
                *kept = memory;
            }
        }
        if let Some(written) = written {
            self.log_change(before, written);
        }
        for event in events {
            self.reporter.tell(before, event);
        }
        match next {
            Next::Now => Turned::At(Instant::now(), priority(urgency), lane),
            Next::At(at) => Turned::At(self.clock.instant(at), priority(urgency), lane),
            Next::Watch | Next::Leave => Turned::Park,
        }
    }

    /// One line for each change of state.
    fn log_change(&self, before: &Verification, after: &Verification) {
        let ready = |object: &Verification| {
            object
                .status
                .as_ref()
                .and_then(|status| Condition::find(&status.conditions, ConditionType::Ready))
                .map_or_else(String::new, |ready| ready.reason.clone())
        };
        let phase = |object: &Verification| object.status.as_ref().and_then(|status| status.phase);
        let ledger_of = |object: &Verification| ledger(&object.status.clone().unwrap_or_default());
        let lost = lost_answers(ledger_of(before), ledger_of(after));
        if lost > 0 {
            self.metrics.lost_answers.inc_by(u64::from(lost));
        }
        if phase(before) != phase(after) || ready(before) != ready(after) {
            tracing::info!(
                namespace = after.namespace().unwrap_or_default(),
                name = after.name_any(),
                phase = phase(after).map_or("", crate::api::Phase::as_str),
                reason = ready(after),
                "the verification changed"
            );
        }
    }

    /// The API server gave no usable answer: the turn comes again.
    fn again(&self, memory: &Memory) -> Turned {
        let (least, most) = AGAIN;
        let wait = rand::random_range(least..(least * 4).min(most));
        self.metrics.turns_repeated.inc();
        Turned::At(Instant::now() + wait, Priority::Active, memory.lane)
    }
}
