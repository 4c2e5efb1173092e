//! The only writer of status: compare-and-swap, silent when nothing changed, with our own deadline on each call.
//!
//! The API server ignores a uid in a merge patch on `/status`, so no write goes out without the resourceVersion that
//! was read.

use std::time::Duration;

use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use crate::{
    api::{SessionState, Verification, VerificationStatus},
    fair::{FairnessKey, Permit},
};

use super::{Turns, complaints::ServerCall, memory::lane};

/// Longest time one call to the API server may take; its client has no read timeout and retries by itself.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);

/// In which order the calls of one portal and key go to the API server: what was begun is brought to its end first, so
/// that of a thousand new verifications the first has its link long before the last is read.
const ENDS: u8 = 0;
const WRITES: u8 = 1;
const READS: u8 = 2;

/// What came of a write.
pub(super) enum Written {
    /// There was nothing to write.
    Same,
    /// It is written.
    Done(Box<Verification>),
    /// Somebody else wrote first.
    Conflict,
    /// The resource is gone.
    Gone,
    /// The schema refuses a value.
    Refused,
    /// Nobody knows: the API server did not answer, or not usefully.
    Unknown,
}

/// What came of reading a resource.
pub(super) enum Read {
    /// It is there.
    Found(Box<Verification>),
    /// It is not.
    Gone,
    /// Nobody knows.
    Unknown,
}

impl Turns {
    pub(super) fn api(&self, namespace: &str) -> Api<Verification> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Reads the resource as it is now.
    pub(super) async fn read(&self, namespace: &str, name: &str) -> Read {
        let way = self.reporter.give_way();
        let permit = self.server_calls.acquire(FairnessKey::of_namespace(namespace), READS).await;
        self.metrics.verification_reads.inc();
        let answer = timeout(DEADLINE, self.api(namespace).get_opt(name)).await;
        drop((permit, way));
        self.complaints.note(ServerCall::GetVerification, (namespace, name), &answer);
        match answer {
            Ok(Ok(Some(object))) => Read::Found(Box::new(object)),
            Ok(Ok(None)) => Read::Gone,
            Ok(Err(_)) | Err(_) => Read::Unknown,
        }
    }

    /// Waits until a write of that resource's status may go out.
    pub(super) async fn permit_to_write(&self, read: &Verification) -> Permit {
        let _way = self.reporter.give_way();
        let rank = if has_open_claim(read) { ENDS } else { WRITES };
        self.server_calls.acquire(lane(read), rank).await
    }

    /// Writes the status of a resource that is still as it was read.
    pub(super) async fn write(&self, read: &Verification, status: &VerificationStatus) -> Written {
        if read.status.as_ref() == Some(status) {
            return Written::Same;
        }
        let permit = self.permit_to_write(read).await;
        self.write_with(permit, read, status).await
    }

    /// The same, with the permit at hand.
    pub(super) async fn write_with(
        &self,
        permit: Permit,
        read: &Verification,
        status: &VerificationStatus,
    ) -> Written {
        let before = read.status.clone().unwrap_or_default();
        let Some(patch) = patch(&before, status) else { return Written::Same };
        let body = json!({
            "metadata": {"resourceVersion": read.resource_version()},
            "status": patch,
        });
        let namespace = read.namespace().unwrap_or_default();
        let name = read.name_any();
        let params =
            PatchParams { field_manager: Some("okid-operator".to_owned()), ..PatchParams::default() };
        let api = self.api(&namespace);
        self.metrics.status_writes.inc();
        let way = self.reporter.give_way();
        let answer = timeout(DEADLINE, api.patch_status(&name, &params, &Patch::Merge(&body))).await;
        drop((permit, way));
        self.complaints.note(ServerCall::PatchStatus, (&namespace, &name), &answer);
        match answer {
            Ok(Ok(object)) => Written::Done(Box::new(object)),
            Ok(Err(kube::Error::Api(answer))) => match answer.code {
                404 => Written::Gone,
                409 => Written::Conflict,
                422 => Written::Refused,
                _ => Written::Unknown,
            },
            Ok(Err(_)) | Err(_) => Written::Unknown,
        }
    }
}

/// Whether the resource carries a claim, so that the next write is what the portal answered.
fn has_open_claim(object: &Verification) -> bool {
    let session = object.status.as_ref().and_then(|status| status.session.as_ref());
    session.is_some_and(|session| session.state == Some(SessionState::Claimed))
}

/// Whether a resource has that status.
pub(super) fn is_written(found: &Verification, status: &VerificationStatus) -> bool {
    found.status.as_ref().is_some_and(|found| patch(found, status).is_none())
}

/// The merge patch (RFC 7386) that makes one status of another; nothing if they are equal.
fn patch(before: &VerificationStatus, after: &VerificationStatus) -> Option<Value> {
    let (Ok(before), Ok(after)) = (serde_json::to_value(before), serde_json::to_value(after)) else {
        return None;
    };
    difference(&before, &after)
}

fn difference(before: &Value, after: &Value) -> Option<Value> {
    let (Value::Object(old), Value::Object(new)) = (before, after) else {
        return (before != after).then(|| after.clone());
    };
    let mut patch = Map::new();
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, value) in new {
        let changed = old.get(key).map_or_else(|| Some(value.clone()), |old| difference(old, value));
        if let Some(changed) = changed {
            patch.insert(key.clone(), changed);
        }
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 7386, section 2.
    fn merge(target: &mut Value, patch: &Value) {
        let Value::Object(changes) = patch else {
            *target = patch.clone();
            return;
        };
        if !target.is_object() {
            *target = json!({});
        }
        for (key, change) in changes {
            let object = target.as_object_mut().unwrap();
            if change.is_null() {
                object.remove(key);
            } else {
                merge(object.entry(key.clone()).or_insert(Value::Null), change);
            }
        }
    }

    fn status() -> impl Strategy<Value = VerificationStatus> {
        let word = proptest::option::of("[a-z]{1,4}");
        let progress = proptest::collection::btree_map("[a-c]", "[a-c]", 0..3);
        (word.clone(), word, progress, proptest::option::of(0..9_i64)).prop_map(
            |(id, raw, progress, generation)| VerificationStatus {
                verification_id: id,
                portal_status: raw,
                progress,
                observed_generation: generation,
                ..VerificationStatus::default()
            },
        )
    }

    proptest! {
        #[test]
        fn a_patch_makes_one_status_of_the_other(before in status(), after in status()) {
            let mut patched = serde_json::to_value(&before).unwrap();
            if let Some(patch) = patch(&before, &after) {
                merge(&mut patched, &patch);
            }
            prop_assert_eq!(patched, serde_json::to_value(&after).unwrap());
        }

        #[test]
        fn an_equal_status_is_not_written(status in status()) {
            prop_assert_eq!(patch(&status, &status), None);
        }
    }
}
