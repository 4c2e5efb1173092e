//! The calls about verifications: get, and compare-and-swap patches of status and finalizers. The only writer of
//! status.
//!
//! The API server ignores a uid in a merge patch on `/status`, so no write goes out without the resourceVersion that
//! was read. Every call has a deadline of its own, because kube's client has no read timeout. May depend on the rest of
//! `cluster`, which does not depend on this file except for the checks that use the same client.

use std::sync::Arc;

use futures::Stream;
use kube::{
    Api, Client, Resource as _, ResourceExt,
    api::{GetParams, Patch},
    core::{Request, Status},
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::{error::Elapsed, timeout};

use super::{
    events::{Reporter, note::OwnPod},
    failures::{FailureLog, ServerCall},
    last_contact::LastContact,
    merge_patch::merge_patch,
    request::{DEADLINE, patch_params},
    rollback::NewestVersion,
    secrets::Secrets,
    watch::{Change, WatchSettings, changes},
};
use crate::{
    api::{SessionState, Verification, VerificationStatus, is_git_ops_annotation, is_git_ops_label},
    fairness::{FairSemaphore, FairnessKey, Permit},
    incidents::Incidents,
    metrics::Metrics,
};

/// Maximum number of calls about verifications in flight at the API server, in total and of one namespace. More would
/// not be faster, only later: the calls of a small namespace would wait behind those of a large one. While several
/// namespaces have calls, each has fewer unless the API server answers all of them without delay.
const CALLS_IN_FLIGHT: (usize, usize) = (32, 16);

/// The order in which the calls of one portal and key go to the API server: what was begun is finished first, and checks
/// that have ended come last, many of which may be deleted at the same time. Records of sessions are urgent, because a
/// session whose record waits may be lost.
const WRITES: u8 = 0;
const READS: u8 = 1;
const ENDED: u8 = 2;

/// What etcd accepts by default, in bytes.
const MOST_BYTES: usize = 1536 * 1024;
/// What a claim and a record add to a resource, at most: a status is bounded to 32 KiB, and the API server's own record
/// of who wrote which field is beside it.
const RECORD_BYTES: usize = 48 * 1024;

/// The API server. The only holder of a [`Client`] for it.
pub(crate) struct Cluster {
    pub(super) client: Client,
    /// For calls about verifications: [`CALLS_IN_FLIGHT`].
    permits: Arc<FairSemaphore>,
    pub(super) failures: Arc<FailureLog>,
    secrets: Secrets,
    reporter: Reporter,
    last_contact: LastContact,
    newest_version: NewestVersion,
    /// Claims that the API server accepted and dropped.
    pub(super) dropped_claims: Mutex<Incidents<(), Vec<()>>>,
    metrics: Arc<Metrics>,
}

/// The result of a write.
#[derive(Debug)]
pub(crate) enum Written {
    /// There was nothing to write.
    Same,
    /// The resource as it is after the write.
    Done(Box<Verification>),
    /// Another client wrote first.
    Conflict,
    /// The resource is gone.
    Gone,
    /// The schema refuses a value.
    Refused,
    /// The resource would become larger than the API server or etcd accepts.
    TooLarge,
    /// The API server answered with another error.
    Failed,
    /// The API server did not answer in time, or not usefully, so the write may have happened.
    Unknown,
}

/// The result of a get.
#[derive(Debug)]
pub(crate) enum Read {
    /// The resource, without the fields that no reconcile reads.
    Found(Box<Verification>),
    /// It does not exist.
    Gone,
    /// The API server did not answer in time, or not usefully.
    Unknown,
}

impl Cluster {
    /// Uses that client, reports events as that instance, which runs in that Pod if it runs in one. Must be called
    /// within a runtime.
    pub(crate) fn new(
        client: Client,
        instance: &str,
        own_pod: Option<OwnPod>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let failures = Arc::new(FailureLog::default());
        Self {
            permits: FairSemaphore::adaptive(CALLS_IN_FLIGHT.0, CALLS_IN_FLIGHT.1),
            secrets: Secrets::new(client.clone(), Arc::clone(&failures), metrics.secret_reads.clone()),
            reporter: Reporter::new(client.clone(), instance, own_pod, Arc::clone(&metrics)),
            failures,
            last_contact: LastContact::default(),
            newest_version: NewestVersion::default(),
            dropped_claims: Mutex::default(),
            metrics,
            client,
        }
    }

    /// API keys and credentials of stores, read at use.
    pub(crate) const fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// Events.
    pub(crate) const fn reporter(&self) -> &Reporter {
        &self.reporter
    }

    /// When the API server was last heard from.
    pub(crate) const fn last_contact(&self) -> &LastContact {
        &self.last_contact
    }

    /// The newest resourceVersion that the API server is known to have reached.
    pub(crate) const fn newest_version(&self) -> &NewestVersion {
        &self.newest_version
    }

    /// Lists and watches the live verifications of one namespace, or of all, that a label selector selects.
    pub(crate) fn watch(
        &self,
        namespace: Option<&str>,
        selector: Option<&str>,
    ) -> impl Stream<Item = Change<Verification>> + Send + use<> {
        let settings =
            WatchSettings { label_selector: selector.map(str::to_owned), ..WatchSettings::default() };
        changes(&self.client, namespace, settings, &self.last_contact)
    }

    /// Gets the resource.
    pub(crate) async fn get(&self, namespace: &str, name: &str) -> Read {
        self.get_and_weigh(namespace, name).await.0
    }

    /// As [`get`](Self::get), ahead of the reads that begin a reconcile: for a caller that holds permits for something
    /// else, which others wait for.
    pub(crate) async fn get_ahead(&self, namespace: &str, name: &str) -> Read {
        self.get_ranked(namespace, name, WRITES).await.0
    }

    /// As [`get`](Self::get), as urgent as the record of a session: for one that could not be written.
    pub(crate) async fn get_to_record(&self, namespace: &str, name: &str) -> Read {
        let _way = self.reporter.begin_status_call();
        let permit = self.permits.acquire_urgently(FairnessKey::of_namespace(namespace)).await;
        self.get_with(permit, namespace, name).await.0
    }

    /// Gets the resource, and says whether the record of a session might not fit into it.
    pub(crate) async fn get_and_weigh(&self, namespace: &str, name: &str) -> (Read, bool) {
        self.get_ranked(namespace, name, READS).await
    }

    /// As [`get_and_weigh`](Self::get_and_weigh), behind all other reads of the namespace: of a check that has ended.
    pub(crate) async fn get_ended(&self, namespace: &str, name: &str) -> (Read, bool) {
        self.get_ranked(namespace, name, ENDED).await
    }

    async fn get_ranked(&self, namespace: &str, name: &str, rank: u8) -> (Read, bool) {
        let _way = self.reporter.begin_status_call();
        let permit = self.permits.acquire(FairnessKey::of_namespace(namespace), rank).await;
        self.get_with(permit, namespace, name).await
    }

    async fn get_with(&self, permit: Permit, namespace: &str, name: &str) -> (Read, bool) {
        self.metrics.verification_reads.inc();
        let answer = timeout(DEADLINE, get(&self.client, namespace, name)).await;
        drop(permit);
        self.failures.note(ServerCall::GetVerification, (namespace, name), &answer);
        match answer {
            Ok(Ok(Some((object, bytes)))) => (Read::Found(prune(object)), !leaves_room(bytes)),
            Ok(Ok(None)) => (Read::Gone, false),
            Ok(Err(_)) | Err(_) => (Read::Unknown, false),
        }
    }

    /// Waits until a write of the resource's status may be sent.
    pub(crate) async fn permit_to_write(&self, read: &Verification) -> Permit {
        let _way = self.reporter.begin_status_call();
        let key = fairness_key(read);
        if has_open_claim(read) {
            self.permits.acquire_urgently(key).await
        } else {
            self.permits.acquire(key, WRITES).await
        }
    }

    /// Waits until a check that has ended may be deleted: behind all reads of the namespace.
    pub(super) async fn permit_to_delete(&self, namespace: &str) -> Permit {
        let _way = self.reporter.begin_status_call();
        self.permits.acquire(FairnessKey::of_namespace(namespace), ENDED).await
    }

    /// Writes the status of a resource that is unchanged since it was read.
    pub(crate) async fn write_status(&self, read: &Verification, status: &VerificationStatus) -> Written {
        if read.status.as_ref() == Some(status) {
            return Written::Same;
        }
        let permit = self.permit_to_write(read).await;
        self.write_status_with(permit, read, status).await
    }

    /// As [`write_status`](Self::write_status), with a permit that is held already.
    pub(crate) async fn write_status_with(
        &self,
        permit: Permit,
        read: &Verification,
        status: &VerificationStatus,
    ) -> Written {
        let before = read.status.clone().unwrap_or_default();
        let Some(patch) = merge_patch(&before, status) else { return Written::Same };
        let body = json!({
            "metadata": {"resourceVersion": read.resource_version()},
            "status": patch,
        });
        self.metrics.status_writes.inc();
        let way = self.reporter.begin_status_call();
        let written = self.patch(ServerCall::PatchStatus, read, body).await;
        drop((permit, way));
        written
    }

    /// Writes the finalizers of a resource that is unchanged since it was read.
    pub(crate) async fn write_finalizers(&self, read: &Verification, finalizers: &[String]) -> Written {
        let metadata = json!({"resourceVersion": read.resource_version(), "finalizers": finalizers});
        self.patch(ServerCall::PatchVerification, read, json!({"metadata": metadata})).await
    }

    /// Sends a merge patch that carries the resourceVersion that was read.
    async fn patch(&self, call: ServerCall, read: &Verification, body: Value) -> Written {
        let (namespace, name) = (read.namespace().unwrap_or_default(), read.name_any());
        let api: Api<Verification> = Api::namespaced(self.client.clone(), &namespace);
        let (params, patch) = (patch_params(), Patch::Merge(body));
        let answer = if call == ServerCall::PatchStatus {
            timeout(DEADLINE, api.patch_status(&name, &params, &patch)).await
        } else {
            timeout(DEADLINE, api.patch(&name, &params, &patch)).await
        };
        self.failures.note(call, (&namespace, &name), &answer);
        written(answer, &name)
    }
}

/// The result of a patch.
fn written(answer: Result<kube::Result<Verification>, Elapsed>, name: &str) -> Written {
    match answer {
        Ok(Ok(object)) => Written::Done(prune(Box::new(object))),
        Ok(Err(kube::Error::Api(status))) => match status.code {
            404 if says_gone(&status, name) => Written::Gone,
            404 => Written::Unknown,
            409 => Written::Conflict,
            422 => Written::Refused,
            code if is_too_large(code, &status.message) => Written::TooLarge,
            _ => Written::Failed,
        },
        Ok(Err(_)) | Err(_) => Written::Unknown,
    }
}

/// The share that the calls and reconciles of a verification use: its namespace's, and within that its portal's and
/// key's.
#[must_use]
pub(crate) fn fairness_key(object: &Verification) -> FairnessKey {
    let namespace = object.namespace().unwrap_or_default();
    let secret = &object.spec.api_key_secret_ref;
    // Both of its keys are one share.
    FairnessKey::new(&namespace, &(&object.spec.portal, &secret.name, &secret.key))
}

/// Removes the fields that no reconcile reads, which may be most of a resource.
#[must_use]
pub(crate) fn prune(mut object: Box<Verification>) -> Box<Verification> {
    object.metadata.managed_fields = None;
    object.metadata.owner_references = None;
    object.labels_mut().retain(|name, _| is_git_ops_label(name));
    object.annotations_mut().retain(|name, _| name.starts_with("okid.io/") || is_git_ops_annotation(name));
    object
}

/// Whether the resource carries a claim, so that the next write is what the portal answered.
fn has_open_claim(object: &Verification) -> bool {
    let session = object.status.as_ref().and_then(|status| status.session.as_ref());
    session.is_some_and(|session| session.state == Some(SessionState::Claimed))
}

/// Whether a resource has that status.
pub(crate) fn is_written(found: &Verification, status: &VerificationStatus) -> bool {
    found.status.as_ref().is_some_and(|found| merge_patch(found, status).is_none())
}

/// A resource and its size in bytes: the API server sends it as etcd stores it.
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

/// Whether the API server itself says that there is no resource of that name. A 404 of a gateway, or of an API server
/// that does not serve the resource at the moment, does not: what follows from it cannot be undone.
pub(super) fn says_gone(status: &Status, name: &str) -> bool {
    let is_about_it = status.details.as_ref().is_some_and(|about| about.name == name);
    status.code == 404 && status.reason == "NotFound" && is_about_it
}

/// Whether a resource of that many bytes has room for the record of a session.
const fn leaves_room(bytes: usize) -> bool {
    bytes + RECORD_BYTES <= MOST_BYTES
}

/// Whether a write was refused because of the size of the resource: by the API server, or by etcd, whose message it
/// passes on.
fn is_too_large(code: u16, message: &str) -> bool {
    let of_etcd = || ["request is too large", "larger than max"].iter().any(|words| message.contains(words));
    code == 413 || (code >= 500 && of_etcd())
}

#[cfg(test)]
mod tests;
