//! The effects of a step. Nothing is chosen here.

use std::time::Duration;

use kube::ResourceExt;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    cache_entry::{CacheEntry, Claim},
    observe::Observed,
    reconciler::Reconciler,
};
use crate::{
    api::{SessionState, Verification, VerificationStatus},
    backoff::Backoff,
    clock::Stopwatch,
    cluster::{DEADLINE, Read, Written},
    failpoints::{Failpoint, failpoint},
    fairness::Permit,
    index::RecordId,
    lifecycle::{Conclusion, CreateOutcome, Event, ParsedStatus, StepOutcome, claim, conclude},
    portal::{
        ApiKey, Call, Caller, Certainty, CreateAnswer, Details, PortalError, PortalUrl, VerificationId,
        budget::Admission,
    },
    priority::Priority,
};

/// A claim that is written for longer than this is not followed by a request: the process may have been asleep since.
const CLAIM_AGE: Duration = Duration::from_secs(5);
/// Who pings comes again after this.
const PING_AGAIN: Duration = Duration::from_secs(31);
/// The first wait between two attempts to record a response.
const RECORDED_AGAIN_AFTER: Duration = Duration::from_millis(200);
/// Waits between two attempts to record a response.
const RECORD_EVERY: Backoff = Backoff::new(RECORDED_AGAIN_AFTER, Duration::from_secs(5));

/// The same for a resource that is too large for the response, and may become smaller.
const TOO_LARGE_EVERY: Backoff = Backoff::new(RECORDED_AGAIN_AFTER, Duration::from_mins(1));

/// A create of one resource.
#[derive(Clone, Copy)]
pub(crate) struct Create<'a> {
    pub(crate) record_id: RecordId,
    pub(crate) attempt: u32,
    pub(crate) object: &'a Verification,
    pub(crate) observed: &'a Observed,
}

/// What came of asking whether the portal answers at all.
pub(crate) enum Probe {
    /// It was not for this turn to ask.
    NotNow,
    /// It does.
    Answered,
    /// It does not; this turn's verification asks again then.
    Silent(Instant),
}

/// How a create went, as far as its turn is concerned.
pub(crate) enum Recorded {
    /// Concluded and written.
    Written(Box<Verification>, Conclusion),
    /// Nothing was claimed, or what was claimed is for a later turn.
    Unwritten(Conclusion),
    /// The resource is gone, or is another one.
    Gone,
}

impl Reconciler {
    /// Asks how a session stands.
    pub(crate) async fn poll(&self, caller: Caller<'_>, id: &VerificationId) -> Result<Details, PortalError> {
        let (portal, key) = (caller.portal, caller.key);
        let answer = self.portal.poll(caller, id).await;
        self.wake_those_who_waited(portal, key, &answer);
        answer
    }

    /// Claims, asks the portal once for a session, and records the answer for as long as the process lives.
    pub(crate) async fn create(
        &self,
        caller: Caller<'_>,
        create: Create<'_>,
        entry: &mut CacheEntry,
    ) -> Recorded {
        let Create { record_id, attempt, object, observed } = create;
        let before = object.status.clone().unwrap_or_default();
        let conclude_unwritten = |end: CreateOutcome| {
            let parsed = ParsedStatus::of(&observed.facts.uid, &before);
            conclude(&parsed, &StepOutcome::Create(end), &observed.facts)
        };
        failpoint(Failpoint::BeforeClaim).await;
        // A claim ages from when it goes out, however long others of its namespace went before it.
        let permit = self.cluster.permit_to_write(object).await;
        let begun = Stopwatch::now();
        let claim = claim(&before, attempt, &observed.facts);
        let claimed = match self.claim(permit, object, &claim, attempt).await {
            Claimed::Ours(claimed) => claimed,
            Claimed::Lost => return Recorded::Unwritten(conclude_unwritten(CreateOutcome::ClaimLost)),
            Claimed::Unknown => {
                // It may be written all the same; then this process knows that nothing was asked.
                entry.set_claim(Some(Claim { attempt, seen: begun.instant(), never_sent: true }));
                self.metrics.reconcile_retries.inc();
                return Recorded::Unwritten(conclude_unwritten(CreateOutcome::ClaimNotWritten));
            }
        };
        self.wrote(record_id, &claimed);
        // What is known of an earlier claim says nothing of this one, should its turn not come to its end.
        entry.set_claim(None);
        if let Some(kept) = self.index().get_mut(record_id) {
            kept.set_claim(None);
        }
        failpoint(Failpoint::AfterClaim).await;
        let end = if begun.is_older_than(DEADLINE + CLAIM_AGE) {
            drop(caller);
            CreateOutcome::NotSent
        } else {
            let (portal, key) = (caller.portal, caller.key);
            let created = self.portal.create(caller, |id| {
                entry.session = self.sessions.take(portal.as_str(), id, &observed.facts.uid);
                entry.session.is_some()
            });
            let CreateAnswer { answer, resumes_creates } = created.await;
            entry.portal_wait = self.waits_after(portal, answer.as_ref().err());
            if resumes_creates {
                self.wake_creates(portal);
            }
            self.wake_those_who_waited(portal, key, &answer);
            CreateOutcome::Answered(answer)
        };
        failpoint(Failpoint::AfterResponse).await;
        let recorded = self.record(claimed, attempt, end, observed).await;
        failpoint(Failpoint::AfterRecord).await;
        recorded
    }

    /// While creates wait for the portal, one of them finds out whether it answers at all.
    pub(crate) async fn ping(&self, observed: &Observed) -> Probe {
        let caller = observed.caller().zip(observed.budget.as_ref());
        let Some(((portal, key), budget)) = caller else { return Probe::NotNow };
        if !budget.may_probe(Instant::now()) {
            return Probe::NotNow;
        }
        let Admission::Go(permit) = budget.admit(Instant::now(), Call::Poll, Priority::Requested) else {
            return Probe::Silent(Instant::now() + PING_AGAIN);
        };
        let answer = self.portal.probe(Caller { portal, key, permit }).await;
        self.wake_those_who_waited(portal, key, &answer);
        match answer {
            Err(error) if !error.is_from_the_portal() => Probe::Silent(Instant::now() + PING_AGAIN),
            Ok(_) | Err(_) => Probe::Answered,
        }
    }

    /// The first answer to a new key lets all others with that key go on.
    fn wake_those_who_waited<T>(&self, portal: &PortalUrl, key: &ApiKey, answer: &Result<T, PortalError>) {
        for (record_id, fairness_key) in self.first_responses.woken_by(portal, key.identity(), answer) {
            self.queue.enqueue(record_id, Priority::Create, fairness_key);
        }
    }

    /// Those who wait for creates at a portal need not wait any longer.
    fn wake_creates(&self, portal: &PortalUrl) {
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

    async fn claim(
        &self,
        permit: Permit,
        object: &Verification,
        claim: &VerificationStatus,
        attempt: u32,
    ) -> Claimed {
        match self.cluster.write_status_with(permit, object, claim).await {
            Written::Done(claimed) => Claimed::Ours(claimed),
            // The client retries by itself, so a conflict may be with our own write.
            Written::Conflict | Written::Failed | Written::Unknown | Written::Same => {
                let namespace = object.namespace().unwrap_or_default();
                match self.cluster.get(&namespace, &object.name_any()).await {
                    Read::Found(now) if self.is_ours(&now, object, attempt) => Claimed::Ours(now),
                    // Nobody wrote, so no change of the resource will wake it.
                    Read::Found(now) if now.resource_version() == object.resource_version() => {
                        Claimed::Unknown
                    }
                    Read::Found(_) | Read::Gone => Claimed::Lost,
                    Read::Unknown => Claimed::Unknown,
                }
            }
            Written::Gone => Claimed::Lost,
            Written::Refused | Written::TooLarge => Claimed::Unknown,
        }
    }

    /// Whether the resource carries this process's claim of that number.
    fn is_ours(&self, now: &Verification, read: &Verification, attempt: u32) -> bool {
        let session = now.status.as_ref().and_then(|status| status.session.as_ref());
        now.uid() == read.uid()
            && session.is_some_and(|session| {
                session.state == Some(SessionState::Claimed)
                    && session.holder.as_deref() == Some(self.holder.as_str())
                    && u32::try_from(session.attempt) == Ok(attempt)
            })
    }

    /// Writes what came of a claim. Never gives up while the resource carries the claim: the answer is known nowhere
    /// else.
    async fn record(
        &self,
        claimed: Box<Verification>,
        attempt: u32,
        end: CreateOutcome,
        observed: &Observed,
    ) -> Recorded {
        let outcome = StepOutcome::Create(end);
        let namespace = claimed.namespace().unwrap_or_default();
        let name = claimed.name_any();
        let mut failures = 0;
        let never = CancellationToken::new();
        let mut current = claimed;
        loop {
            let mut status = current.status.clone().unwrap_or_default();
            if crate::lifecycle::attempts(&status).attempt < attempt {
                // etcd was restored from a backup since: the claim is written again, with what came of it.
                status = claim(&status, attempt, &observed.facts);
            }
            let facts = self.facts_again(&current, observed);
            let conclusion = conclude(&ParsedStatus::of(&facts.uid, &status), &outcome, &facts);
            let Some(after) = conclusion.status.clone() else { return Recorded::Unwritten(conclusion) };
            let written = match self.cluster.write_status(&current, &after).await {
                Written::Refused | Written::TooLarge => {
                    self.cluster.write_status(&current, &bare(&status, &after)).await
                }
                other @ (Written::Same
                | Written::Done(_)
                | Written::Conflict
                | Written::Gone
                | Written::Failed
                | Written::Unknown) => other,
            };
            let is_too_large = matches!(written, Written::TooLarge);
            let failed = match written {
                Written::Done(object) => return Recorded::Written(object, conclusion),
                Written::Same => return Recorded::Written(current, conclusion),
                Written::Gone => return self.orphaned(&current, &outcome),
                Written::Conflict => false,
                // Somebody made it larger since it was claimed. It may become smaller, but not for a process that ends.
                Written::TooLarge if self.shutdown.is_cancelled() => {
                    return self.orphaned(&current, &outcome);
                }
                Written::TooLarge | Written::Failed | Written::Unknown | Written::Refused => true,
            };
            let unread = match self.cluster.get(&namespace, &name).await {
                Read::Found(now)
                    if self.is_ours(&now, &current, attempt) || has_lost_claim(&now, &current, attempt) =>
                {
                    current = now;
                    false
                }
                Read::Found(now) if is_recorded(&now, &current, &after) => {
                    return Recorded::Written(now, conclusion);
                }
                Read::Found(_) | Read::Gone => return self.orphaned(&current, &outcome),
                Read::Unknown => true,
            };
            if failed || unread {
                self.metrics.status_record_retries.inc();
                let (backoff, ends) =
                    if is_too_large { (TOO_LARGE_EVERY, &self.shutdown) } else { (RECORD_EVERY, &never) };
                tokio::select! {
                    () = sleep(backoff.wait(failures)) => {}
                    () = ends.cancelled() => {}
                }
                failures = failures.saturating_add(1);
            }
        }
    }

    /// The resource of a claim is gone, or is no longer about this claim: a session that was made is nobody's.
    fn orphaned(&self, claimed: &Verification, outcome: &StepOutcome) -> Recorded {
        let (made, said) = match outcome {
            StepOutcome::Create(CreateOutcome::Answered(Ok(_))) => {
                (true, "the portal holds a session that no resource publishes")
            }
            StepOutcome::Create(CreateOutcome::Answered(Err(error))) => (
                error.certainty() == Certainty::Unknown,
                "the portal may hold a session that no resource publishes: the answer to its create was lost",
            ),
            StepOutcome::Create(
                CreateOutcome::ClaimLost | CreateOutcome::ClaimNotWritten | CreateOutcome::NotSent,
            )
            | StepOutcome::Transition(_)
            | StepOutcome::NotAdmitted(_)
            | StepOutcome::NotPerformed
            | StepOutcome::Adopt { id: _, answer: _ }
            | StepOutcome::Poll { id: _, answer: _ }
            | StepOutcome::AddFinalizer(_)
            | StepOutcome::Store(_)
            | StepOutcome::RemoveEvidence(_) => (false, ""),
        };
        if made {
            let namespace = claimed.namespace().unwrap_or_default();
            self.metrics.orphan_sessions.inc();
            // Who watches the resource sees the one, who looks for what became of it the other.
            self.cluster.reporter().report(claimed, Event::OrphanSession);
            self.cluster.reporter().report_on_namespace(&namespace, Event::OrphanSession);
            tracing::warn!(namespace, name = claimed.name_any(), "{said}");
        }
        Recorded::Gone
    }

    /// The facts for a resource that somebody else changed between claim and record.
    fn facts_again(&self, current: &Verification, observed: &Observed) -> crate::lifecycle::Facts {
        crate::lifecycle::Facts {
            now: self.clock.now(),
            portal_now: observed.portal_now(&self.clock),
            generation: current.metadata.generation.unwrap_or_default(),
            mode: current.spec.mode,
            ready_when: current.spec.ready_when,
            on_unknown: current.spec.on_unknown_outcome,
            ..observed.facts.clone()
        }
    }
}

/// What came of a claim.
enum Claimed {
    /// It is written, and by this process.
    Ours(Box<Verification>),
    /// It is not.
    Lost,
    /// Nobody knows.
    Unknown,
}

/// Whether a claim is gone that was written, though attempts never fall: etcd was restored from a backup.
fn has_lost_claim(now: &Verification, claimed: &Verification, attempt: u32) -> bool {
    let status = now.status.clone().unwrap_or_default();
    now.uid() == claimed.uid()
        && status.verification_id.is_none()
        && status.outcome.is_none()
        && crate::lifecycle::attempts(&status).attempt < attempt
}

/// Whether an answer that seemed unwritten is there after all.
fn is_recorded(now: &Verification, read: &Verification, after: &VerificationStatus) -> bool {
    let status = now.status.as_ref();
    now.uid() == read.uid()
        && status.is_some_and(|status| {
            status.verification_id == after.verification_id
                && status.session.as_ref().map(|s| (s.attempt, s.state, s.orphans))
                    == after.session.as_ref().map(|s| (s.attempt, s.state, s.orphans))
        })
}

/// The least that must not be lost where the schema refuses something else: id, state and session.
fn bare(before: &VerificationStatus, after: &VerificationStatus) -> VerificationStatus {
    VerificationStatus {
        verification_id: after.verification_id.clone(),
        phase: after.phase,
        session: after.session.clone(),
        ..before.clone()
    }
}
