//! A resource that went away while its evidence was stored.
//!
//! Two processes may know of a resource for a while: the one that ends still stores, and the next one removes. What the
//! first puts after the second has looked would stay for ever, and nobody would know. So whoever has put something that
//! is to be removed with its resource reads the resource again: before the manifest, and after the last byte. The watch
//! is no proof, because a resource may also have left the watch. What is to be retained is not looked after: it stays.

use std::time::Duration;

use kube::{Api, ResourceExt};
use tokio::time::{Instant, error::Elapsed, sleep, timeout};

use super::{batch::NotNow, destination::ResolvedDestination, removal::keys_of};
use crate::{
    api::{DeletionPolicy, EvidenceSpec, EvidenceStatus, Verification},
    backoff::Backoff,
    cluster::{DEADLINE, ServerCall, says_gone},
    lifecycle::{Event, RemovalOutcome, UploadOutcome},
    reconcile::Reconciler,
    store::ObjectKey,
};

/// When the API server did not say whether the resource is there, it is asked again after this, at most every thirty
/// seconds.
const ASK_AGAIN: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
/// Waits before each try to remove what was put for a resource that is gone. No later turn does it.
const REMOVE_AFTER: [Duration; 3] = [Duration::ZERO, Duration::from_secs(11), Duration::from_secs(30)];

/// Whether a resource is there, by the API server's own word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    /// It is, and nobody has deleted it: whoever removes its evidence one day looks later than now.
    Here,
    /// It is deleted, and something still holds it; what is to become of its evidence.
    Deleted(DeletionPolicy),
    /// It is not there. Another one of the same name is not this one.
    Gone,
    /// Nobody knows.
    Unknown,
}

impl Reconciler {
    /// Whether what is stored is to be completed, where it is to be removed with its resource.
    pub(crate) async fn check_presence(
        &self,
        object: &Verification,
        spec: &EvidenceSpec,
    ) -> Result<(), NotNow> {
        if spec.deletion_policy == DeletionPolicy::Retain {
            return Ok(());
        }
        match self.presence(object).await {
            Presence::Here => Ok(()),
            Presence::Deleted(_) | Presence::Gone => Err(NotNow::Changed),
            Presence::Unknown => Err(NotNow::Later(Instant::now() + ASK_AGAIN.wait(0))),
        }
    }

    /// After something may have been put: removes it again where the resource is gone, or is going, and is not there any
    /// more to be stored for; tells what cannot be removed. What was sent and not answered for certain may still arrive.
    pub(crate) async fn unless_gone(
        &self,
        object: &Verification,
        spec: &EvidenceSpec,
        place: &ResolvedDestination,
        stored: &mut UploadOutcome,
        (end, may_arrive): (Result<(), NotNow>, bool),
    ) -> Result<(), NotNow> {
        let may_be_put = !stored.prefix.is_empty();
        if spec.deletion_policy == DeletionPolicy::Retain || !may_be_put {
            return end;
        }
        let presence = self.presence_in_the_end(object).await;
        let is_gone = match presence {
            Presence::Here | Presence::Unknown | Presence::Deleted(DeletionPolicy::Retain) => return end,
            Presence::Deleted(DeletionPolicy::Delete) => false,
            Presence::Gone => true,
        };
        let written = object.status.as_ref().and_then(|status| status.evidence.as_ref());
        let removed = self.remove_again(object, place, &stored.added_to(written)).await;
        if let Some(event) = left(removed, may_arrive, is_gone) {
            self.tell(object, event);
        } else if is_gone {
            tracing::info!(
                namespace = object.namespace().unwrap_or_default(),
                name = object.name_any(),
                "removed what was stored while the verification went away"
            );
        }
        if !is_gone && removed != RemovalOutcome::All {
            // The turn that removes the evidence knows it by status.
            return end;
        }
        *stored = UploadOutcome::default();
        Err(NotNow::Changed)
    }

    /// Removes what was put, and whatever else is in the folder, which is of this uid alone.
    async fn remove_again(
        &self,
        object: &Verification,
        place: &ResolvedDestination,
        evidence: &EvidenceStatus,
    ) -> RemovalOutcome {
        let keys: Vec<ObjectKey> = keys_of(evidence);
        for pause in REMOVE_AFTER {
            sleep(pause).await;
            let Some(entered) = self.evidence.enter(place).await else { continue };
            match self.clear(object, place, &keys, entered.pass).await {
                Ok(
                    removed @ (RemovalOutcome::All
                    | RemovalOutcome::Versioned
                    | RemovalOutcome::Unlisted
                    | RemovalOutcome::GaveUp),
                ) => {
                    return removed;
                }
                Ok(RemovalOutcome::NotYet | RemovalOutcome::NotTried) | Err(_) => {}
            }
        }
        RemovalOutcome::GaveUp
    }

    /// As [`presence`](Self::presence), for as long as the process lives: nobody else knows what was put.
    async fn presence_in_the_end(&self, object: &Verification) -> Presence {
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
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let api: Api<Verification> = self.api(&namespace);
        let answer = timeout(DEADLINE, api.get(&name)).await;
        let presence = presence(object, &answer);
        if presence != Presence::Gone {
            self.failures.note(ServerCall::GetVerification, (&namespace, &name), &answer);
        }
        presence
    }
}

/// What is to be told of what was put for a resource that is gone, or is going. While it is going, the turn that removes
/// its evidence tells what that leaves; but it does not know of what may still arrive.
fn left(removed: RemovalOutcome, may_arrive: bool, is_gone: bool) -> Option<Event> {
    removed.leaves().filter(|_| is_gone).or_else(|| may_arrive.then_some(Event::EvidenceOrphaned))
}

/// What an answer says of a resource. A 404 counts only with the API server's own words about this name: what follows
/// from it cannot be taken back.
fn presence(object: &Verification, answer: &Result<kube::Result<Verification>, Elapsed>) -> Presence {
    match answer {
        Ok(Ok(now)) if now.uid() != object.uid() => Presence::Gone,
        Ok(Ok(now)) if now.metadata.deletion_timestamp.is_none() => Presence::Here,
        Ok(Ok(now)) => {
            let policy = now.spec.evidence.as_ref().map(|spec| spec.deletion_policy);
            Presence::Deleted(policy.unwrap_or(DeletionPolicy::Retain))
        }
        Ok(Err(kube::Error::Api(status))) => {
            if says_gone(status, &object.name_any()) {
                Presence::Gone
            } else {
                Presence::Unknown
            }
        }
        Ok(Err(_)) | Err(_) => Presence::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use serde_json::{Value, json};

    use super::*;

    fn resource(uid: &str, policy: &str) -> Verification {
        serde_json::from_value(json!({
            "apiVersion": "okid.io/v1alpha1",
            "kind": "Verification",
            "metadata": {"namespace": "team-a", "name": "alice", "uid": uid},
            "spec": {
                "apiKeySecretRef": {"name": "okid-api-key"},
                "evidence": {"images": [], "destination": {"store": "evidence"}, "deletionPolicy": policy},
            },
        }))
        .unwrap()
    }

    #[test]
    fn what_is_left_of_a_resource_that_is_gone_is_told_also_where_it_only_may_be() {
        for may_arrive in [false, true] {
            let arrives = may_arrive.then_some(Event::EvidenceOrphaned);
            assert_eq!(left(RemovalOutcome::All, may_arrive, true), arrives);
            assert_eq!(left(RemovalOutcome::GaveUp, may_arrive, true), Some(Event::EvidenceOrphaned));
            assert_eq!(left(RemovalOutcome::Versioned, may_arrive, true), Some(Event::EvidenceVersionsLeft));
            // The turn that removes it tells the rest.
            for removed in [RemovalOutcome::All, RemovalOutcome::GaveUp, RemovalOutcome::Versioned] {
                assert_eq!(left(removed, may_arrive, false), arrives, "{removed:?}");
            }
        }
    }

    fn refused(status: Value) -> kube::Error {
        kube::Error::Api(Box::new(serde_json::from_value(status).unwrap()))
    }

    #[test]
    fn only_the_api_servers_own_word_says_that_a_resource_is_gone() {
        let alice = resource("1", "Delete");
        let of = |answer| presence(&alice, &answer);
        assert_eq!(of(Ok(Ok(resource("1", "Delete")))), Presence::Here);
        assert_eq!(of(Ok(Ok(resource("2", "Delete")))), Presence::Gone);
        for policy in [DeletionPolicy::Delete, DeletionPolicy::Retain] {
            let mut deleted = resource("1", &format!("{policy:?}"));
            deleted.metadata.deletion_timestamp = Some(Time(jiff::Timestamp::UNIX_EPOCH));
            assert_eq!(of(Ok(Ok(deleted))), Presence::Deleted(policy));
        }
        let not_found = json!({
            "status": "Failure", "message": "verifications.okid.io \"alice\" not found", "reason": "NotFound",
            "details": {"name": "alice", "group": "okid.io", "kind": "verifications"}, "code": 404,
        });
        assert_eq!(of(Ok(Err(refused(not_found)))), Presence::Gone);
        for other in [
            // As the client tells a page of somebody on the way.
            json!({"status": "Failure", "message": "default backend - 404", "reason": "Failed to parse error data", "code": 404}),
            // As the API server says it while it does not serve the resource.
            json!({"status": "Failure", "message": "the server could not find the requested resource", "reason": "NotFound", "details": {}, "code": 404}),
            json!({"status": "Failure", "message": "forbidden", "reason": "Forbidden", "details": {"name": "alice"}, "code": 403}),
        ] {
            assert_eq!(of(Ok(Err(refused(other.clone())))), Presence::Unknown, "{other}");
        }
    }
}
