//! The Lease that elects a leader: get, create and update. `leader` decides what is written, and when. May depend on
//! kube's client, `request` and `rollback`.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Resource as _};
use tokio::time::{Instant, error::Elapsed, timeout};

use super::{error::ApiError, request::post_params, verifications::Cluster};

/// The annotation with the address at which the leader receives notifications that other replicas forward.
const WEBHOOK_ADDRESS: &str = "okid.io/webhook-address";

/// Where the Lease is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeaseRef {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// What a Lease says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LeaseRecord {
    /// Who holds it; empty if nobody does.
    pub(crate) holder: String,
    /// How long after a change the other replicas leave it alone, if the Lease says so.
    pub(crate) duration: Option<Duration>,
    /// When the holder acquired it, by the holder's clock. Others only compare it.
    pub(crate) acquired_at: Option<Timestamp>,
    /// When it was last renewed, by the holder's clock. Others only compare it.
    pub(crate) renewed_at: Option<Timestamp>,
    /// How many times it passed from one holder to another.
    pub(crate) transitions: i32,
}

/// A Lease at one resourceVersion, which a write replaces.
#[derive(Clone, Debug)]
pub(crate) struct StoredLease {
    pub(crate) record: LeaseRecord,
    object: Lease,
}

/// Why a write did not succeed.
#[derive(Debug)]
pub(crate) enum LeaseNotWritten {
    /// Another client wrote first.
    Conflict,
    /// It was refused, or there was no usable response, so it may have been written.
    Failed(ApiError),
}

impl LeaseRecord {
    fn of(spec: Option<&LeaseSpec>) -> Self {
        let Some(spec) = spec else { return Self::default() };
        let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        Self {
            holder: spec.holder_identity.clone().unwrap_or_default(),
            duration: seconds.filter(|seconds| *seconds > 0).map(Duration::from_secs),
            acquired_at: spec.acquire_time.as_ref().map(|time| time.0),
            renewed_at: spec.renew_time.as_ref().map(|time| time.0),
            transitions: spec.lease_transitions.unwrap_or_default(),
        }
    }

    /// Writes the record into a spec and leaves its other fields as they are.
    fn write_to(&self, spec: &mut LeaseSpec) {
        let Self { holder, duration, acquired_at, renewed_at, transitions } = self;
        spec.holder_identity = Some(holder.clone());
        spec.lease_duration_seconds =
            duration.map(|duration| i32::try_from(duration.as_secs()).unwrap_or(i32::MAX));
        spec.acquire_time = acquired_at.map(MicroTime);
        spec.renew_time = renewed_at.map(MicroTime);
        spec.lease_transitions = Some(*transitions);
    }
}

impl StoredLease {
    /// Where the leader receives notifications that other replicas forward, if it says so.
    pub(crate) fn webhook_address(&self) -> Option<&str> {
        self.object.metadata.annotations.as_ref()?.get(WEBHOOK_ADDRESS).map(String::as_str)
    }

    /// Says so, or not any more.
    pub(crate) fn set_webhook_address(&mut self, address: Option<String>) {
        if let Some(address) = address {
            let annotations = self.object.metadata.annotations.get_or_insert_default();
            annotations.insert(WEBHOOK_ADDRESS.to_owned(), address);
        } else if let Some(annotations) = &mut self.object.metadata.annotations {
            annotations.remove(WEBHOOK_ADDRESS);
        }
    }
}

impl From<Lease> for StoredLease {
    fn from(object: Lease) -> Self {
        Self { record: LeaseRecord::of(object.spec.as_ref()), object }
    }
}

impl Cluster {
    /// Gets the Lease; `None` if it does not exist.
    ///
    /// # Errors
    ///
    /// Why there was no usable response within `deadline`.
    pub(crate) async fn get_lease(
        &self,
        at: &LeaseRef,
        deadline: Duration,
    ) -> Result<Option<StoredLease>, ApiError> {
        let answer = timeout(deadline, self.leases(at).get_opt(&at.name)).await;
        let found = self.usable(answer).map_err(|error| reported(error.as_ref()))?;
        if let Some(found) = &found {
            self.newest_version().lease_read(version(found));
        }
        Ok(found.map(StoredLease::from))
    }

    /// Creates the Lease with that record.
    ///
    /// # Errors
    ///
    /// [`LeaseNotWritten`].
    pub(crate) async fn create_lease(
        &self,
        at: &LeaseRef,
        record: &LeaseRecord,
        deadline: Duration,
    ) -> Result<StoredLease, LeaseNotWritten> {
        let mut spec = LeaseSpec::default();
        record.write_to(&mut spec);
        let metadata = ObjectMeta { name: Some(at.name.clone()), ..ObjectMeta::default() };
        let lease = Lease { metadata, spec: Some(spec) };
        let known = self.newest_version().get();
        let answer = timeout(deadline, self.leases(at).create(&post_params(), &lease)).await;
        self.lease_written(known, answer)
    }

    /// Replaces the record of a Lease that is unchanged since it was read.
    ///
    /// # Errors
    ///
    /// [`LeaseNotWritten`].
    pub(crate) async fn update_lease(
        &self,
        at: &LeaseRef,
        read: StoredLease,
        record: &LeaseRecord,
        deadline: Duration,
    ) -> Result<StoredLease, LeaseNotWritten> {
        let mut lease = read.object;
        lease.meta_mut().managed_fields = None;
        record.write_to(lease.spec.get_or_insert_default());
        let known = self.newest_version().get();
        let answer = timeout(deadline, self.leases(at).replace(&at.name, &post_params(), &lease)).await;
        self.lease_written(known, answer)
    }

    /// `known` is the newest version that was known before the request.
    fn lease_written(
        &self,
        known: Option<u64>,
        answer: Result<kube::Result<Lease>, Elapsed>,
    ) -> Result<StoredLease, LeaseNotWritten> {
        let written = self.usable(answer).map_err(|error| not_written(error.as_ref()))?;
        self.newest_version().lease_written(known, version(&written), Instant::now());
        Ok(StoredLease::from(written))
    }

    /// The namespace of the Pod's `ServiceAccount` or of the kubeconfig's context; `default` if that names none.
    pub(crate) fn own_namespace(&self) -> &str {
        self.client.default_namespace()
    }

    fn leases(&self, at: &LeaseRef) -> Api<Lease> {
        Api::namespaced(self.client.clone(), &at.namespace)
    }

    /// Notes that the API server responded, if it did. The error is `None` if the deadline passed.
    fn usable<T>(&self, answer: Result<kube::Result<T>, Elapsed>) -> Result<T, Option<kube::Error>> {
        let answer = answer.map_err(|_| None)?;
        if answer.is_ok() {
            self.last_contact().server_responded();
        }
        answer.map_err(Some)
    }
}

fn version(lease: &Lease) -> &str {
    lease.metadata.resource_version.as_deref().unwrap_or_default()
}

fn reported(error: Option<&kube::Error>) -> ApiError {
    error.map_or(ApiError::TIMED_OUT, ApiError::from)
}

/// A Lease that was deleted meanwhile has to be read again, like one that changed.
fn not_written(error: Option<&kube::Error>) -> LeaseNotWritten {
    match error {
        Some(kube::Error::Api(status)) if status.code == 409 => LeaseNotWritten::Conflict,
        error => LeaseNotWritten::Failed(reported(error)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn stored(spec: &serde_json::Value) -> StoredLease {
        let lease = json!({"metadata": {"name": "okid-operator", "labels": {"a": "b"}}, "spec": spec});
        StoredLease::from(serde_json::from_value::<Lease>(lease).unwrap())
    }

    #[test]
    fn a_record_is_read_as_client_go_writes_it_and_changes_no_other_field() {
        let written = json!({
            "holderIdentity": "one_1", "leaseDurationSeconds": 15, "leaseTransitions": 3,
            "acquireTime": "2026-11-27T09:00:00.000001Z", "renewTime": "2026-11-27T09:00:09.000002Z",
            "strategy": "OldestEmulationVersion",
        });
        let lease = stored(&written);
        let record = LeaseRecord {
            holder: "one_1".to_owned(),
            duration: Some(Duration::from_secs(15)),
            acquired_at: Some("2026-11-27T09:00:00.000001Z".parse().unwrap()),
            renewed_at: Some("2026-11-27T09:00:09.000002Z".parse().unwrap()),
            transitions: 3,
        };
        assert_eq!(lease.record, record);
        let mut spec = lease.object.spec.unwrap();
        record.write_to(&mut spec);
        assert_eq!(serde_json::to_value(spec).unwrap(), written);
    }

    #[test]
    fn the_webhook_address_is_an_annotation_beside_those_of_others() {
        let mut lease = stored(&json!({}));
        assert_eq!(lease.webhook_address(), None);
        lease.object.metadata.annotations = Some([("a".to_owned(), "b".to_owned())].into());
        lease.set_webhook_address(Some("10.0.0.7:8443".to_owned()));
        assert_eq!(lease.webhook_address(), Some("10.0.0.7:8443"));
        lease.set_webhook_address(None);
        assert_eq!(lease.webhook_address(), None);
        assert_eq!(lease.object.metadata.annotations.unwrap().len(), 1);
    }

    #[test]
    fn a_lease_that_says_nothing_useful_is_held_by_nobody_and_names_no_duration() {
        assert_eq!(LeaseRecord::of(None), LeaseRecord::default());
        for seconds in [0, -1, i32::MIN] {
            let record = stored(&json!({"holderIdentity": "one", "leaseDurationSeconds": seconds})).record;
            assert_eq!((record.holder.as_str(), record.duration), ("one", None), "{seconds}");
        }
    }

    #[test]
    fn only_a_conflict_says_that_nothing_was_written() {
        let refused = |code: u16| {
            let status = kube::core::Status::failure("", "").with_code(code);
            not_written(Some(&kube::Error::Api(status.boxed())))
        };
        assert!(matches!(refused(409), LeaseNotWritten::Conflict));
        for code in [403, 404, 500] {
            assert!(matches!(refused(code), LeaseNotWritten::Failed(_)), "{code}");
        }
        assert!(matches!(not_written(None), LeaseNotWritten::Failed(why) if why == ApiError::TIMED_OUT));
    }
}
