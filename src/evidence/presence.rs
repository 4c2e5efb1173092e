//! Removes the objects of an upload whose resource was deleted meanwhile. May depend on `context`, `not_now` and `removal`, and on
//! `cluster`, `lifecycle` and `store`.
//!
//! Two processes may work on a resource for a while: the one that shuts down still stores, and the next one removes. An object
//! that the first puts after the second has listed the folder would stay forever, unnoticed. So an upload whose objects are to
//! be removed with the resource reads the resource again: before the manifest, and after the last byte. The watch is no proof,
//! because a resource may also have left the watch. Objects that are retained do not need this.

use std::{sync::atomic::Ordering, time::Duration};

use kube::ResourceExt;
use tokio::time::{Instant, sleep};

use super::{
    context::{Evidence, Upload, UploadReport},
    not_now::NotNow,
    removal::keys_of,
};
use crate::{
    api::{DeletionPolicy, Verification},
    backoff::Backoff,
    cluster::Read,
    lifecycle::{Event, RemovalOutcome, UploadOutcome},
    store::ObjectKey,
};

/// Pause before the resource is read again after a get without a response, and the longest one.
const ASK_AGAIN: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
/// Pauses before each attempt to remove the objects of a resource that is gone. No later reconcile does it.
const REMOVE_AFTER: [Duration; 3] = [Duration::ZERO, Duration::from_secs(11), Duration::from_secs(30)];

/// Whether a resource exists, by the API server's own answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    /// It exists and is not deleted: its evidence is removed later than now.
    Here,
    /// It is deleted, and a finalizer still holds it; with what is to become of its evidence.
    Deleted(DeletionPolicy),
    /// It does not exist. Another one of the same name is not this one.
    Gone,
    /// The API server did not answer.
    Unknown,
}

impl Evidence {
    /// Whether an upload is to be completed whose objects are to be removed with the resource.
    pub(super) async fn check_presence(&self, upload: &Upload<'_>) -> Result<(), NotNow> {
        if upload.spec.deletion_policy == DeletionPolicy::Retain {
            return Ok(());
        }
        match self.presence(upload.object).await {
            Presence::Here => Ok(()),
            Presence::Deleted(_) | Presence::Gone => Err(NotNow::Changed),
            Presence::Unknown => Err(NotNow::Later(Instant::now() + ASK_AGAIN.wait(0))),
        }
    }

    /// After something may have been put: removes it again if the resource is gone or deleted, and reports what cannot
    /// be removed. Objects whose requests have no certain result may still arrive.
    pub(super) async fn remove_if_gone(
        &self,
        upload: &Upload<'_>,
        report: &mut UploadReport,
        end: Result<(), NotNow>,
    ) -> Result<(), NotNow> {
        let may_be_put = !report.outcome.prefix.is_empty();
        if upload.spec.deletion_policy == DeletionPolicy::Retain || !may_be_put {
            return end;
        }
        let is_gone = match self.known_presence(upload.object).await {
            Presence::Here | Presence::Unknown | Presence::Deleted(DeletionPolicy::Retain) => return end,
            Presence::Deleted(DeletionPolicy::Delete) => false,
            Presence::Gone => true,
        };
        let removed = self.remove_again(upload, &report.outcome).await;
        report.event = left(removed, upload.may_arrive.load(Ordering::Relaxed), is_gone);
        if is_gone && report.event.is_none() {
            let (namespace, name) = upload.name();
            tracing::info!(
                namespace,
                name,
                "removed the objects of an upload whose verification was deleted"
            );
        }
        if !is_gone && removed != RemovalOutcome::All {
            // The removal of the deleted resource finds them by its status.
            return end;
        }
        report.outcome = UploadOutcome::default();
        Err(NotNow::Changed)
    }

    /// Removes what was put, and all else in the folder, which belongs to this uid alone.
    async fn remove_again(&self, upload: &Upload<'_>, outcome: &UploadOutcome) -> RemovalOutcome {
        let written = upload.object.status.as_ref().and_then(|status| status.evidence.as_ref());
        let keys: Vec<ObjectKey> = keys_of(&outcome.added_to(written));
        for pause in REMOVE_AFTER {
            sleep(pause).await;
            let Some(access) = self.context.enter(&upload.destination).await else { continue };
            match self.clear(upload.object, &upload.destination, &keys, access.pass).await {
                Ok(
                    removed @ (RemovalOutcome::All
                    | RemovalOutcome::Versioned
                    | RemovalOutcome::Unlisted
                    | RemovalOutcome::Abandoned),
                ) => {
                    return removed;
                }
                Ok(RemovalOutcome::NotYet | RemovalOutcome::NotTried) | Err(_) => {}
            }
        }
        RemovalOutcome::Abandoned
    }

    /// As [`presence`](Self::presence), for as long as the process lives: nothing else knows what was put.
    async fn known_presence(&self, object: &Verification) -> Presence {
        let mut failures = 0;
        loop {
            match self.presence(object).await {
                Presence::Unknown => {}
                known @ (Presence::Here | Presence::Deleted(_) | Presence::Gone) => return known,
            }
            sleep(ASK_AGAIN.wait(failures)).await;
            failures = failures.saturating_add(1);
        }
    }

    async fn presence(&self, object: &Verification) -> Presence {
        let namespace = object.namespace().unwrap_or_default();
        presence(object, &self.cluster.get_ahead(&namespace, &object.name_any()).await)
    }
}

/// The event for what is left of a resource that is gone or deleted. While it is only deleted, the reconcile that
/// removes its evidence reports what that leaves, but does not know what may still arrive.
fn left(removed: RemovalOutcome, may_arrive: bool, is_gone: bool) -> Option<Event> {
    removed.leaves().filter(|_| is_gone).or_else(|| may_arrive.then_some(Event::EvidenceOrphaned))
}

/// The presence of a resource, by a get of its name.
fn presence(object: &Verification, read: &Read) -> Presence {
    match read {
        Read::Found(now) if now.uid() != object.uid() => Presence::Gone,
        Read::Found(now) if now.metadata.deletion_timestamp.is_none() => Presence::Here,
        Read::Found(now) => {
            let policy = now.spec.evidence.as_ref().map(|spec| spec.deletion_policy);
            Presence::Deleted(policy.unwrap_or(DeletionPolicy::Retain))
        }
        Read::Gone => Presence::Gone,
        Read::Unknown => Presence::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::lifecycle::fixtures;

    fn resource(uid: &str, policy: DeletionPolicy) -> Verification {
        let mut object = fixtures::verification("alice");
        object.metadata.uid = Some(uid.to_owned());
        object.spec.evidence = Some(fixtures::evidence_spec(policy));
        object
    }

    #[test]
    fn evidence_of_a_resource_that_is_gone_is_reported_even_if_it_only_may_be_left() {
        for may_arrive in [false, true] {
            let arrives = may_arrive.then_some(Event::EvidenceOrphaned);
            assert_eq!(left(RemovalOutcome::All, may_arrive, true), arrives);
            assert_eq!(left(RemovalOutcome::Abandoned, may_arrive, true), Some(Event::EvidenceOrphaned));
            assert_eq!(left(RemovalOutcome::Versioned, may_arrive, true), Some(Event::EvidenceVersionsLeft));
            // The reconcile that removes it reports the rest.
            for removed in [RemovalOutcome::All, RemovalOutcome::Abandoned, RemovalOutcome::Versioned] {
                assert_eq!(left(removed, may_arrive, false), arrives, "{removed:?}");
            }
        }
    }

    #[test]
    fn another_uid_is_another_resource_and_no_response_says_nothing() {
        let alice = resource("1", DeletionPolicy::Delete);
        let found = |object| presence(&alice, &Read::Found(Box::new(object)));
        assert_eq!(found(resource("1", DeletionPolicy::Delete)), Presence::Here);
        assert_eq!(found(resource("2", DeletionPolicy::Delete)), Presence::Gone);
        for policy in [DeletionPolicy::Delete, DeletionPolicy::Retain] {
            let mut deleted = resource("1", policy);
            deleted.metadata.deletion_timestamp = Some(Time(jiff::Timestamp::UNIX_EPOCH));
            assert_eq!(found(deleted), Presence::Deleted(policy));
        }
        assert_eq!(presence(&alice, &Read::Gone), Presence::Gone);
        assert_eq!(presence(&alice, &Read::Unknown), Presence::Unknown);
    }
}
