//! The only writer of status: compare-and-swap, silent when nothing changed, with our own deadline on each call.
//!
//! The API server ignores a uid in a merge patch on `/status`, so no write goes out without the resourceVersion that
//! was read.

use std::time::Duration;

use kube::{
    Api, Client, Resource as _, ResourceExt,
    api::{GetParams, Patch, PatchParams},
    core::{Request, Status},
};
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use super::failures::ServerCall;
use crate::{
    api::{SessionState, Verification, VerificationStatus},
    fairness::{FairnessKey, Permit},
    reconcile::{Reconciler, fairness_key, lean},
};

/// Longest time one call to the API server may take; its client has no read timeout and retries by itself.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// In which order the calls of one portal and key go to the API server: what was begun is brought to its end first, so
/// that of a thousand new verifications the first has its link long before the last is read.
const ENDS: u8 = 0;
const WRITES: u8 = 1;
const READS: u8 = 2;

/// What etcd takes at most, by default, in bytes.
const MOST_BYTES: usize = 1536 * 1024;
/// What a claim and a record add to a resource, at most: a status is bounded to 32 KiB, and the API server's own record of
/// who wrote which field is beside it.
const RECORD_BYTES: usize = 48 * 1024;

/// What came of a write.
pub(crate) enum Written {
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
    /// With it the resource would be larger than the API server or etcd takes.
    TooLarge,
    /// Nobody knows: the API server did not answer, or not usefully.
    Unknown,
}

/// What came of reading a resource.
pub(crate) enum Read {
    /// It is there, without what no turn reads.
    Found(Box<Verification>),
    /// It is not.
    Gone,
    /// Nobody knows.
    Unknown,
}

impl Reconciler {
    pub(crate) fn api(&self, namespace: &str) -> Api<Verification> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Reads the resource as it is now.
    pub(crate) async fn read(&self, namespace: &str, name: &str) -> Read {
        self.read_and_weigh(namespace, name).await.0
    }

    /// Reads the resource as it is now, and says whether the record of a session might not fit into it.
    pub(crate) async fn read_and_weigh(&self, namespace: &str, name: &str) -> (Read, bool) {
        let way = self.reporter.give_way();
        let permit = self.server_calls.acquire(FairnessKey::of_namespace(namespace), READS).await;
        self.metrics.verification_reads.inc();
        let answer = timeout(DEADLINE, get(&self.client, namespace, name)).await;
        drop((permit, way));
        self.failures.note(ServerCall::GetVerification, (namespace, name), &answer);
        match answer {
            Ok(Ok(Some((object, bytes)))) => (Read::Found(lean(object)), !leaves_room(bytes)),
            Ok(Ok(None)) => (Read::Gone, false),
            Ok(Err(_)) | Err(_) => (Read::Unknown, false),
        }
    }

    /// Waits until a write of that resource's status may go out.
    pub(crate) async fn permit_to_write(&self, read: &Verification) -> Permit {
        let _way = self.reporter.give_way();
        let rank = if has_open_claim(read) { ENDS } else { WRITES };
        self.server_calls.acquire(fairness_key(read), rank).await
    }

    /// Writes the status of a resource that is still as it was read.
    pub(crate) async fn write(&self, read: &Verification, status: &VerificationStatus) -> Written {
        if read.status.as_ref() == Some(status) {
            return Written::Same;
        }
        let permit = self.permit_to_write(read).await;
        self.write_with(permit, read, status).await
    }

    /// The same, with the permit at hand.
    pub(crate) async fn write_with(
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
        self.failures.note(ServerCall::PatchStatus, (&namespace, &name), &answer);
        match answer {
            Ok(Ok(object)) => Written::Done(lean(Box::new(object))),
            Ok(Err(kube::Error::Api(answer))) => match answer.code {
                404 if says_gone(&answer, &name) => Written::Gone,
                409 => Written::Conflict,
                422 => Written::Refused,
                code if is_too_large(code, &answer.message) => Written::TooLarge,
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
pub(crate) fn is_written(found: &Verification, status: &VerificationStatus) -> bool {
    found.status.as_ref().is_some_and(|found| patch(found, status).is_none())
}

/// A resource, and how many bytes it has: the API server sends what it keeps, as it keeps it.
async fn get(
    client: &Client,
    namespace: &str,
    name: &str,
) -> kube::Result<Option<(Box<Verification>, usize)>> {
    let path = Verification::url_path(&(), Some(namespace));
    let request = Request::new(path).get(name, &GetParams::default()).map_err(kube::Error::BuildRequest)?;
    match client.request_text(request).await {
        Ok(text) => {
            let object = serde_json::from_str(&text).map_err(kube::Error::SerdeError)?;
            Ok(Some((object, text.len())))
        }
        Err(kube::Error::Api(status)) if says_gone(&status, name) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a refusal is the API server's own word that there is no resource of that name. A 404 of somebody on the way, or
/// of an API server that does not serve the resource at the moment, is none: what follows from it cannot be taken back.
pub(crate) fn says_gone(status: &Status, name: &str) -> bool {
    let is_about_it = status.details.as_ref().is_some_and(|about| about.name == name);
    status.code == 404 && status.reason == "NotFound" && is_about_it
}

/// Whether a resource of that many bytes has room for the record of a session.
const fn leaves_room(bytes: usize) -> bool {
    bytes + RECORD_BYTES <= MOST_BYTES
}

/// Whether a write was refused because of the size of the resource: by the API server, or by etcd, whose words it passes
/// on.
fn is_too_large(code: u16, message: &str) -> bool {
    let of_etcd = || ["request is too large", "larger than max"].iter().any(|words| message.contains(words));
    code == 413 || (code >= 500 && of_etcd())
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

    #[test]
    fn a_resource_leaves_room_for_a_record_up_to_48_kib_below_the_limit_of_etcd() {
        assert!(leaves_room(0) && leaves_room(1488 * 1024));
        assert!(!leaves_room(1488 * 1024 + 1) && !leaves_room(3 * 1024 * 1024));
    }

    #[test]
    fn what_is_too_large_is_told_by_its_code_or_by_the_words_of_etcd() {
        assert!(is_too_large(413, ""));
        assert!(is_too_large(500, "etcdserver: request is too large"));
        assert!(is_too_large(
            500,
            "rpc error: code = ResourceExhausted desc = trying to send message larger than max"
        ));
        assert!(!is_too_large(500, "etcdserver: leader changed"));
        assert!(!is_too_large(400, "a label is too large: request is too large"));
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
