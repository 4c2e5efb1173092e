//! Conclusions about `spec.ttlAfterFinished`, and of deleting the resource.

use std::time::Duration;

use super::{Conclusion, Draft, Requeue};
use crate::{
    api::{Condition, ConditionType, Reason},
    lifecycle::{
        cleanup::{CleanupFacts, DeletionOutcome},
        event::Event,
        evidence::EvidenceState,
        facts::Facts,
        schedule::{LONGEST, backoff, ttl_checked_at},
        step::Wait,
    },
};

/// The shortest wait after a deletion that was refused; the longest is an hour.
const REFUSED_FOR: Duration = Duration::from_mins(5);

/// The reason of `CleanupReady`, if there is `spec.ttlAfterFinished`. A refusal stays for as long as the resource is to be
/// deleted: only another attempt shows whether it is still refused.
pub(super) fn planned(facts: &Facts, before: &[Condition]) -> Option<Reason> {
    let cleanup = facts.cleanup?;
    let is_over = facts.cleanup_at().is_some_and(|end| end <= facts.now);
    let was_refused = is_over && reason_in(before) == Some(Reason::DeletionForbidden);
    Some(match (cleanup.managed_by_git_ops, was_refused) {
        (true, _) => Reason::ManagedByGitOps,
        (false, true) => Reason::DeletionForbidden,
        (false, false) => Reason::Scheduled,
    })
}

fn reason_in(conditions: &[Condition]) -> Option<Reason> {
    let shown = Condition::find(conditions, ConditionType::CleanupReady)?;
    Reason::from_word(&shown.reason)
}

impl Draft<'_> {
    /// Nothing is pending any more: the resource is deleted when its time has passed.
    pub(super) fn schedule_cleanup(mut self, cleanup: CleanupFacts) -> Conclusion {
        if cleanup.managed_by_git_ops {
            return self.finish(Requeue::AwaitChange);
        }
        let was_pending =
            self.before.outcome.is_none() || self.facts.evidence.state == EvidenceState::Pending;
        let ends_at = self.facts.cleanup_at().filter(|_| !was_pending);
        let end = ends_at.unwrap_or_else(|| cleanup.end(self.facts.now));
        if end <= self.facts.now {
            return self.finish(Requeue::Now);
        }
        self.waits_for = Some(Wait::Ttl(end));
        let at = ttl_checked_at(end, self.facts.now, self.facts.jitter_seed);
        self.finish(Requeue::At(at))
    }

    pub(super) fn delete(mut self, deleted: DeletionOutcome) -> Conclusion {
        match deleted {
            // The change of the resource wakes it, and its end removes it from the watch.
            DeletionOutcome::Deleted => self.unwritten(Requeue::AwaitChange),
            // It may go on for long, as with an admission webhook that fails, and the spec may be edited meanwhile.
            DeletionOutcome::StoreUnresponsive | DeletionOutcome::Unknown => {
                let next = self.retry_soon();
                self.finish(next)
            }
            DeletionOutcome::Refused => {
                self.inputs.cleanup = self.inputs.cleanup.map(|_| Reason::DeletionForbidden);
                let failures = self.one_more_failure();
                let wait = backoff(REFUSED_FOR, LONGEST, failures, self.facts.jitter_seed);
                let next = self.due(wait);
                self.finish(next)
            }
        }
    }

    /// Reports once that a finished resource is not deleted because of Git.
    pub(super) fn report_git_ops(&mut self) {
        let is_kept = self.status.outcome.is_some() && self.inputs.cleanup == Some(Reason::ManagedByGitOps);
        let was_kept = self.before.outcome.is_some()
            && reason_in(&self.before.conditions) == Some(Reason::ManagedByGitOps);
        if is_kept && !was_kept {
            self.events.push(Event::ManagedByGitOps);
        }
    }
}
