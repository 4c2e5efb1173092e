//! What evidence is stored with: [`Evidence`] for the process, [`Upload`] for one verification. Calls nothing. May depend on the
//! files of state in this module.
//!
//! The files that work with them depend on this one, not the other way round.

use std::sync::{Arc, atomic::AtomicBool};

use kube::ResourceExt as _;

use super::{
    destination::ResolvedDestination,
    failures::StoreFailureLog,
    limits::{EndpointLimits, STORING_AT_ONCE, STORING_AT_ONCE_OF_ONE},
    own_objects::OwnObjects,
};
use crate::{
    api::{EvidenceSpec, ImageKind, Verification, VerificationStatus},
    clock::Clock,
    cluster::Cluster,
    fairness::FairSemaphore,
    lifecycle::{Event, Facts, RemovalOutcome, UploadOutcome},
    metrics::Metrics,
    portal::{ApiKey, Portal, PortalUrl, VerificationId, budget::Budget},
    store::{ByteBudget, Endpoints, StoreBreaker, StoreHttp, Stores},
};

/// Stores, endpoints and limits.
pub(crate) struct EvidenceContext {
    /// The administrator's stores.
    pub stores: Stores,
    /// Hosts that credentials of a namespace may name.
    pub endpoints: Endpoints,
    /// The client for all stores.
    pub http: StoreHttp,
    /// Objects that this process has put.
    pub own: OwnObjects,
    /// Bytes of images in flight.
    pub bytes: ByteBudget,
    /// Permits for verifications whose evidence is stored or removed:
    /// [`STORING_AT_ONCE`], of one namespace
    /// [`STORING_AT_ONCE_OF_ONE`].
    pub permits: Arc<FairSemaphore>,
    /// The part of both that each endpoint may use.
    pub limits: EndpointLimits,
    /// Stores that do not answer.
    pub breaker: StoreBreaker,
    /// Failures of stores that were logged.
    pub failures: StoreFailureLog,
    /// Images that may not be stored.
    pub forbidden: Vec<ImageKind>,
}

impl EvidenceContext {
    /// Stores evidence at these stores and endpoints; nothing is in flight yet.
    #[must_use]
    pub(crate) fn new(
        stores: Stores,
        endpoints: Endpoints,
        http: StoreHttp,
        forbidden: Vec<ImageKind>,
    ) -> Self {
        Self {
            stores,
            endpoints,
            http,
            own: OwnObjects::default(),
            bytes: ByteBudget::default(),
            permits: FairSemaphore::new(STORING_AT_ONCE, STORING_AT_ONCE_OF_ONE),
            limits: EndpointLimits::default(),
            breaker: StoreBreaker::default(),
            failures: StoreFailureLog::default(),
            forbidden,
        }
    }
}

/// Stores evidence, and removes it.
pub(crate) struct Evidence {
    pub(super) context: EvidenceContext,
    pub(super) cluster: Arc<Cluster>,
    pub(super) portal: Arc<Portal>,
    pub(super) clock: Clock,
    pub(super) metrics: Arc<Metrics>,
}

impl Evidence {
    /// Reads from that portal and from Secrets of that cluster.
    pub(crate) const fn new(
        context: EvidenceContext,
        cluster: Arc<Cluster>,
        portal: Arc<Portal>,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { context, cluster, portal, clock, metrics }
    }

    /// Bytes of images in flight.
    pub(crate) fn bytes_in_flight(&self) -> usize {
        self.context.bytes.held()
    }
}

/// Where evidence comes from: a portal, the key for it, and their budget.
pub(crate) struct Source<'a> {
    pub(crate) portal: &'a PortalUrl,
    pub(crate) key: &'a ApiKey,
    pub(crate) budget: Budget,
}

/// The upload of what is pending of one verification.
pub(super) struct Upload<'a> {
    pub(super) object: &'a Verification,
    pub(super) spec: &'a EvidenceSpec,
    pub(super) facts: &'a Facts,
    pub(super) source: Source<'a>,
    /// The session.
    pub(super) id: VerificationId,
    pub(super) destination: ResolvedDestination,
    /// How many images are requested at the same time.
    pub(super) at_once: usize,
    /// Whether a request to the store has no certain result, so that its object may still arrive.
    pub(super) may_arrive: AtomicBool,
}

impl Upload<'_> {
    /// The status once it has that outcome.
    pub(super) fn status_with(&self, outcome: &UploadOutcome) -> VerificationStatus {
        let status = self.object.status.clone().unwrap_or_default();
        let evidence = Some(outcome.added_to(status.evidence.as_ref()));
        VerificationStatus { evidence, ..status }
    }

    /// Namespace and name of the resource, for the log.
    pub(super) fn name(&self) -> (String, String) {
        (self.object.namespace().unwrap_or_default(), self.object.name_any())
    }
}

/// The result of an upload.
pub(crate) struct UploadReport {
    pub(crate) outcome: UploadOutcome,
    /// What happened to evidence whose resource went away meanwhile.
    pub(crate) event: Option<Event>,
}

/// The result of a removal.
pub(crate) struct RemovalReport {
    pub(crate) outcome: RemovalOutcome,
    /// What the release of the resource leaves in the store, where it is unknown whether the resource was released.
    pub(crate) event_if_released: Option<Event>,
}
