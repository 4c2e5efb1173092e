//! Commits the outcome of a step: concludes, writes, and after a conflict concludes again from the newer resource. Then
//! updates the cache entry, logs, counts and reports. May depend on `reconciler`, `reconciliation`, `cache_entry` and
//! `versions`, and on `lifecycle`, `cluster` and `workqueue`.
//!
//! The outcome of a create is recorded for as long as the resource carries the claim and the process lives, because it
//! is known nowhere else. Any other outcome is left to another reconcile after five conflicts, or when a write fails.

use std::time::Duration;

use kube::ResourceExt;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    cache_entry::published,
    notify::news,
    reconciler::Reconciler,
    reconciliation::Reconciliation,
    versions::{applies_to, is_recorded, minimal_record, still_claims},
    wait::is_poll_deferred,
};
use crate::{
    api::{Verification, VerificationStatus},
    backoff::Backoff,
    cluster::{Read, Written, is_written},
    failpoints::{Failpoint, failpoint},
    lifecycle::{Conclusion, CreateOutcome, Event, Requeue, StepOutcome, UNKNOWN_ANSWER, conclude},
    portal::Certainty,
    priority::Priority,
    workqueue::Disposition,
};

/// Maximum number of conflicts before an outcome is left to another reconcile.
const CONFLICTS: u32 = 5;
/// The first wait between two attempts to record the outcome of a create.
const RECORD_AGAIN_AFTER: Duration = Duration::from_millis(200);
/// Waits between two attempts to record the outcome of a create.
const RECORD_EVERY: Backoff = Backoff::new(RECORD_AGAIN_AFTER, Duration::from_secs(5));
/// The same for a resource that is too large for the record, and may become smaller.
const TOO_LARGE_EVERY: Backoff = Backoff::new(RECORD_AGAIN_AFTER, Duration::from_mins(1));

/// How a commit continues.
enum Next {
    /// The status was written; the current resource.
    Written(Box<Verification>),
    /// There was nothing to write.
    Unchanged,
    /// Conclude and write again.
    Again,
    /// The outcome is dropped, or left to another reconcile.
    End(Disposition),
}

impl Reconciler {
    /// Commits the outcome of a step.
    pub(super) async fn commit(
        &self,
        mut reconciliation: Reconciliation,
        outcome: StepOutcome,
    ) -> Disposition {
        // The step took time, and a response may have carried the portal's time.
        reconciliation.observed.read_clocks(&self.clock);
        let (next, conclusion) = loop {
            let conclusion = self.conclude(&mut reconciliation, &outcome);
            let next = match &conclusion.status {
                None => Next::Unchanged,
                Some(after) => self.write(&mut reconciliation, &outcome, &conclusion, after).await,
            };
            if !matches!(next, Next::Again) {
                break (next, conclusion);
            }
        };
        if reconciliation.claim.is_some() {
            failpoint(Failpoint::AfterRecord).await;
        }
        match next {
            Next::Written(written) => self.finish(reconciliation, &outcome, Some(&written), conclusion),
            Next::Unchanged | Next::Again => self.finish(reconciliation, &outcome, None, conclusion),
            Next::End(disposition) => disposition,
        }
    }

    /// Concludes, and remembers what the next call waits for.
    fn conclude(&self, reconciliation: &mut Reconciliation, outcome: &StepOutcome) -> Conclusion {
        let Reconciliation { record_id, observed, .. } = &*reconciliation;
        let parsed = reconciliation.parsed();
        let mut conclusion = conclude(&parsed, outcome, &observed.facts);
        let before = parsed.status();
        let is_deferred = is_poll_deferred(before, outcome, &conclusion, &observed.facts);
        if is_deferred {
            // Status may show less than the last answer, or something that the next one clears.
            conclusion.local_state.seen = Some(UNKNOWN_ANSWER);
        }
        let portal_wait = self.portal_wait(outcome, observed, &conclusion);
        // A concurrent reconcile that lets creates continue must find this one waiting.
        if let (Some(portal_wait), Some(cached)) = (portal_wait, self.index().get_mut(*record_id)) {
            cached.portal_wait = Some(portal_wait);
        }
        // While an outage is shown, its end is awaited without any read.
        let is_shown = portal_wait.is_some_and(|portal_wait| portal_wait.is_shown);
        let poll_context =
            (!is_shown || is_deferred).then(|| self.poll_context(observed, before, outcome, &conclusion));
        let key_wait = self.key_wait(parsed.state(), observed, &conclusion);
        let entry = &mut reconciliation.entry;
        entry.portal_wait = portal_wait;
        entry.set_key_wait(key_wait);
        if let Some(poll_context) = poll_context {
            entry.set_poll_context(poll_context);
        }
        conclusion
    }

    /// Writes the status, and says how to continue.
    async fn write(
        &self,
        reconciliation: &mut Reconciliation,
        outcome: &StepOutcome,
        conclusion: &Conclusion,
        after: &VerificationStatus,
    ) -> Next {
        let record_id = reconciliation.record_id;
        // The watch's selector drops a settled resource: its DELETED event must find the record marked.
        if after.settled {
            failpoint(Failpoint::BeforeSettling).await;
            self.index().mark_settling(record_id);
        }
        let written = self.cluster.write_status(&reconciliation.object, after).await;
        if after.settled && matches!(written, Written::Conflict | Written::Refused | Written::TooLarge) {
            self.index().unmark_settling(record_id);
        }
        match written {
            Written::Done(written) => Next::Written(written),
            written if reconciliation.claim.is_some() => {
                self.after_unwritten_record(reconciliation, outcome, after, written).await
            }
            Written::Same => Next::Unchanged,
            Written::Conflict => self.after_conflict(reconciliation, outcome, conclusion, after).await,
            Written::Gone => Next::End(Disposition::AwaitChange),
            Written::Refused | Written::TooLarge => self.write_later(reconciliation, outcome),
            Written::Failed | Written::Unknown => {
                self.report_when_written(reconciliation, after, &conclusion.events);
                self.write_later(reconciliation, outcome)
            }
        }
    }

    /// Continues with the version that another client wrote, if the outcome still applies to it.
    async fn after_conflict(
        &self,
        reconciliation: &mut Reconciliation,
        outcome: &StepOutcome,
        conclusion: &Conclusion,
        after: &VerificationStatus,
    ) -> Next {
        let (namespace, name) = reconciliation.name();
        let (read, too_large) = self.cluster.get_and_weigh(&namespace, &name).await;
        let read = match read {
            Read::Found(read) => read,
            Read::Gone => return Next::End(Disposition::AwaitChange),
            Read::Unknown => {
                self.report_when_written(reconciliation, after, &conclusion.events);
                return self.write_later(reconciliation, outcome);
            }
        };
        let is_same = read.uid() == reconciliation.object.uid();
        // The client retries automatically, so the conflict may be with our own write.
        if is_same && is_written(&read, after) {
            if after.settled {
                self.index().mark_settling(reconciliation.record_id);
            }
            return Next::Written(read);
        }
        let has_same_spec = read.metadata.generation == reconciliation.object.metadata.generation;
        // The objects are in the store, whatever the spec says by now.
        if !applies_to(&read, reconciliation) || !(has_same_spec || matches!(outcome, StepOutcome::Store(_)))
        {
            let fairness_key = reconciliation.entry.fairness_key;
            return Next::End(Disposition::At(Instant::now(), Priority::Requested, fairness_key));
        }
        reconciliation.failed_writes += 1;
        if reconciliation.failed_writes == CONFLICTS {
            return self.write_later(reconciliation, outcome);
        }
        if has_same_spec {
            reconciliation.replace(read, &self.clock);
        } else {
            let observed = self.observe(&read, (too_large, false), &mut reconciliation.entry).await;
            let Ok(observed) = observed else {
                return self.write_later(reconciliation, outcome);
            };
            reconciliation.restart(read, observed);
        }
        Next::Again
    }

    /// Records the outcome of a create again, for as long as the resource carries the claim.
    async fn after_unwritten_record(
        &self,
        reconciliation: &mut Reconciliation,
        outcome: &StepOutcome,
        after: &VerificationStatus,
        written: Written,
    ) -> Next {
        // Without the fields that the schema refuses or the resource has no room for.
        let written = match written {
            Written::Refused | Written::TooLarge => {
                let record = minimal_record(&reconciliation.status, after);
                self.cluster.write_status(&reconciliation.object, &record).await
            }
            written @ (Written::Same
            | Written::Done(_)
            | Written::Conflict
            | Written::Gone
            | Written::Failed
            | Written::Unknown) => written,
        };
        let is_too_large = matches!(written, Written::TooLarge);
        let has_failed = match written {
            Written::Done(written) => return Next::Written(written),
            Written::Same => return Next::Written(reconciliation.object.clone()),
            Written::Gone => return self.orphaned(reconciliation, outcome),
            // The resource may become smaller, but a process that shuts down does not wait for that.
            Written::TooLarge if self.shutdown.is_cancelled() => {
                return self.orphaned(reconciliation, outcome);
            }
            Written::Conflict => false,
            Written::TooLarge | Written::Failed | Written::Unknown | Written::Refused => true,
        };
        let (namespace, name) = reconciliation.name();
        let is_unread = match self.cluster.get_to_record(&namespace, &name).await {
            Read::Found(now) if still_claims(&now, reconciliation) => {
                reconciliation.replace(now, &self.clock);
                false
            }
            Read::Found(now) if is_recorded(&now, &reconciliation.object, after) => {
                return Next::Written(now);
            }
            Read::Found(_) | Read::Gone => return self.orphaned(reconciliation, outcome),
            Read::Unknown => true,
        };
        if has_failed || is_unread {
            self.metrics.status_record_retries.inc();
            self.wait_to_record(reconciliation, is_too_large).await;
        }
        Next::Again
    }

    async fn wait_to_record(&self, reconciliation: &mut Reconciliation, is_too_large: bool) {
        let never = CancellationToken::new();
        let (backoff, shutdown) =
            if is_too_large { (TOO_LARGE_EVERY, &self.shutdown) } else { (RECORD_EVERY, &never) };
        tokio::select! {
            () = sleep(backoff.wait(reconciliation.failed_writes)) => {}
            () = shutdown.cancelled() => {}
        }
        reconciliation.failed_writes = reconciliation.failed_writes.saturating_add(1);
        reconciliation.observed.read_clocks(&self.clock);
    }

    /// The resource of a claim is gone or no longer carries the claim, so a created session belongs to no resource.
    fn orphaned(&self, reconciliation: &Reconciliation, outcome: &StepOutcome) -> Next {
        let said = match outcome {
            StepOutcome::Create(CreateOutcome::Answered(Ok(_))) => {
                Some("the portal holds a session that no resource publishes")
            }
            StepOutcome::Create(CreateOutcome::Answered(Err(error)))
                if error.certainty() == Certainty::Unknown =>
            {
                Some(
                    "the portal may hold a session that no resource publishes: the response to its create was lost",
                )
            }
            StepOutcome::Create(_)
            | StepOutcome::Transition(_)
            | StepOutcome::NotAdmitted(_)
            | StepOutcome::NotPerformed
            | StepOutcome::Adopt { id: _, answer: _ }
            | StepOutcome::Poll { id: _, answer: _ }
            | StepOutcome::AddFinalizer(_)
            | StepOutcome::Store(_)
            | StepOutcome::RemoveEvidence(_)
            | StepOutcome::Delete(_) => None,
        };
        if let Some(said) = said {
            let (namespace, name) = reconciliation.name();
            self.metrics.orphan_sessions.inc();
            // One event for clients that watch the resource, one for a later search in the namespace.
            let reporter = self.cluster.reporter();
            reporter.report(&reconciliation.object, Event::OrphanSession);
            reporter.report_on_namespace(&namespace, Event::OrphanSession);
            tracing::warn!(namespace, name, "{said}");
        }
        Next::End(Disposition::AwaitChange)
    }

    /// Leaves the outcome to another reconcile, which does not upload stored objects again.
    fn write_later(&self, reconciliation: &Reconciliation, outcome: &StepOutcome) -> Next {
        let record_id = reconciliation.record_id;
        if let StepOutcome::Store(uploaded) = outcome
            && (!uploaded.objects.is_empty() || uploaded.manifest_sha256.is_some())
            && let Some(cached) = self.index().get_mut(record_id)
        {
            cached.set_unwritten(Some(uploaded.clone()));
        }
        Next::End(self.retry(record_id, &reconciliation.entry))
    }

    /// After the write: remembers, logs, counts and reports.
    fn finish(
        &self,
        reconciliation: Reconciliation,
        outcome: &StepOutcome,
        written: Option<&Verification>,
        conclusion: Conclusion,
    ) -> Disposition {
        let Reconciliation {
            record_id,
            object,
            received_at,
            mut entry,
            observed,
            claim,
            new_session,
            notified_at,
            ..
        } = reconciliation;
        if let Some(written) = written {
            if claim.is_some() {
                entry.set_poll_context(self.poll_context_of_new(&observed, written, &conclusion));
            }
            if entry.session.is_none()
                && new_session.is_none()
                && let Some((portal, id)) = published(written)
            {
                entry.session = self.sessions.take(portal, &id, &observed.facts.uid);
            }
        }
        let Conclusion { status: _, next, priority, local_state, events, waits_for: _ } = conclusion;
        if let Some(news) = news(&object, written, &observed.facts, &local_state) {
            self.learn(&observed, news, notified_at);
        }
        entry.remember(local_state);
        if let Some(written) = written {
            entry.know(self.known(written));
            self.wrote(record_id, written);
        }
        let fairness_key = entry.fairness_key;
        if let Some(new_session) = new_session {
            entry.session = Some(new_session.keep());
        }
        {
            let mut index = self.index();
            entry.store(&mut index, record_id, &observed.facts.uid, &self.sessions);
        }
        if matches!(outcome, StepOutcome::Poll { id: _, answer: Ok(_) }) {
            self.requested_polls.responded(record_id);
        }
        self.request_if_notified(record_id);
        let before = claim.as_ref().map_or(&object, |claim| &claim.before);
        if let Some(written) = written {
            self.log_change(before, written);
        }
        for event in events {
            self.report(before, event);
        }
        // A resource that waits for its session may be reconciled again before the version that was read is too old.
        let has_no_session = object.status.as_ref().is_none_or(|status| status.verification_id.is_none());
        if written.is_none()
            && has_no_session
            && !observed.facts.too_large
            && !matches!(outcome, StepOutcome::Create(_))
        {
            self.recent.insert(record_id, object, received_at);
        }
        match next {
            Requeue::Now => Disposition::At(Instant::now(), priority, fairness_key),
            Requeue::At(at) => Disposition::At(self.clock.instant(at), priority, fairness_key),
            Requeue::AwaitChange | Requeue::Done => Disposition::AwaitChange,
        }
    }
}
