//! The create protocol: claim the attempt, send one request. The commit records the outcome, however long that takes. May
//! depend on `reconciler`, `reconciliation`, `claim` and `versions`, and on `lifecycle`, `cluster` and `portal`.

use std::time::Duration;

use kube::ResourceExt;

use super::{
    claim::Claim,
    reconciler::Reconciler,
    reconciliation::{Reconciliation, WrittenClaim},
    versions::{has_claim, is_claimed},
};
use crate::{
    api::{Verification, VerificationStatus},
    clock::Stopwatch,
    cluster::{DEADLINE, Read, Written},
    failpoints::{Failpoint, failpoint},
    fairness::Permit,
    lifecycle::{self, CreateOutcome},
    portal::{Caller, CreateResult},
};

/// A claim that was answered longer ago than this is not followed by a request: the process may have been asleep since.
const CLAIM_AGE: Duration = Duration::from_secs(5);

/// The result of writing a claim.
enum Claimed {
    /// This reconcile wrote it.
    Ours(Box<Verification>),
    /// Another writer was first.
    Lost,
    /// It is unknown whether it was written.
    Unknown,
    /// It was accepted, but the resource does not have it: the API server does not know its fields.
    Pruned,
    /// It was accepted and the resource has it, but not who wrote it, so no reconcile could tell that it is its own.
    WithoutHolder(Box<Verification>),
}

impl Reconciler {
    /// Claims the attempt and sends one create request.
    pub(super) async fn create(
        &self,
        caller: Caller<'_>,
        attempt: u32,
        reconciliation: &mut Reconciliation,
    ) -> CreateOutcome {
        failpoint(Failpoint::BeforeClaim).await;
        // The age of a claim counts from when it is sent, however long the claim waits for its permit.
        let permit = self.cluster.permit_to_write(&reconciliation.object).await;
        if !self.leadership.is_current() {
            // As if the new leader had claimed it.
            return CreateOutcome::ClaimLost;
        }
        let begun = Stopwatch::now();
        let claim = lifecycle::claim(&reconciliation.status, attempt, &reconciliation.observed.facts);
        match self.claim(permit, reconciliation, &claim, attempt).await {
            Claimed::Ours(claimed) => self.note_claim(reconciliation, claimed, attempt),
            Claimed::Lost => return CreateOutcome::ClaimLost,
            Claimed::Pruned => {
                self.cluster.report_dropped_claim();
                self.metrics.reconcile_retries.inc();
                return CreateOutcome::ClaimNotWritten;
            }
            Claimed::WithoutHolder(claimed) => {
                self.cluster.report_dropped_claim();
                self.metrics.reconcile_retries.inc();
                self.note_claim(reconciliation, claimed, attempt);
                return CreateOutcome::NotSent;
            }
            Claimed::Unknown => {
                // If it was written after all, this process knows that no request was sent.
                let claim = claim.session.as_ref().map(|session| Claim::never_sent(session, begun.instant()));
                reconciliation.entry.set_claim(claim);
                self.metrics.reconcile_retries.inc();
                return CreateOutcome::ClaimNotWritten;
            }
        }
        let claimed = Stopwatch::now();
        failpoint(Failpoint::AfterClaim).await;
        let is_too_old = begun.is_older_than(DEADLINE + CLAIM_AGE) || claimed.is_older_than(CLAIM_AGE);
        let outcome = if is_too_old || !self.leadership.is_current() {
            drop(caller);
            CreateOutcome::NotSent
        } else {
            self.send_create(caller, reconciliation).await
        };
        failpoint(Failpoint::AfterResponse).await;
        outcome
    }

    /// Continues with the claimed resource.
    fn note_claim(&self, reconciliation: &mut Reconciliation, claimed: Box<Verification>, attempt: u32) {
        self.wrote(reconciliation.record_id, &claimed);
        // An earlier claim says nothing about this one, in case this reconcile does not finish.
        reconciliation.entry.set_claim(None);
        if let Some(entry) = self.index().get_mut(reconciliation.record_id) {
            entry.set_claim(None);
        }
        let before = reconciliation.replace(claimed, &self.clock);
        let claimed_at = reconciliation.status.session.as_ref().and_then(|session| session.claimed_at);
        reconciliation.claim = Some(WrittenClaim { attempt, claimed_at, before });
    }

    async fn send_create(&self, caller: Caller<'_>, reconciliation: &mut Reconciliation) -> CreateOutcome {
        let (portal, key) = (caller.portal, caller.key);
        let Reconciliation { new_session, observed, .. } = reconciliation;
        let created = self.portal.create(caller, |id| {
            *new_session = self.sessions.reserve(portal.as_str(), id, &observed.facts.uid);
            new_session.is_some()
        });
        let CreateResult { result, resumes_creates } = created.await;
        if resumes_creates {
            self.wake_waiting_to_create(portal);
        }
        self.wake_waiting_for_first_response(portal, key, &result);
        CreateOutcome::Answered(result)
    }

    async fn claim(
        &self,
        permit: Permit,
        reconciliation: &Reconciliation,
        claim: &VerificationStatus,
        attempt: u32,
    ) -> Claimed {
        let object = &reconciliation.object;
        match self.cluster.write_status_with(permit, object, claim).await {
            Written::Done(claimed) if has_claim(&claimed, reconciliation, attempt) => Claimed::Ours(claimed),
            Written::Done(claimed) if is_claimed(&claimed, attempt) => Claimed::WithoutHolder(claimed),
            Written::Done(_) => Claimed::Pruned,
            // The client retries automatically, so a conflict may be with our own write.
            Written::Conflict | Written::Failed | Written::Unknown | Written::Same => {
                let (namespace, name) = reconciliation.name();
                match self.cluster.get_ahead(&namespace, &name).await {
                    Read::Found(now) if has_claim(&now, reconciliation, attempt) => Claimed::Ours(now),
                    // Nothing was written, so no change of the resource would wake it.
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
}
