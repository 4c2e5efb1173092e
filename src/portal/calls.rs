//! Every request to okID. Each one is counted, recorded in the failure log and reported to its budget, and measures the
//! portal's clock.
//!
//! May depend on the rest of `portal`, which does not depend on this file, on `clock` and `metrics`.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::time::Instant;

use super::{
    allowed::{AllowedPortals, ImageQuery, PortalUrl},
    budget::{Budget, Budgets, Closed, RequestPermit},
    client::{MAX_RESPONSE_BYTES, PortalClient},
    error::{Failed, PortalError},
    failures::{PortalFailureLog, creates_with, polls_of},
    key::{ApiKey, KeyIdentity},
    verification_id::VerificationId,
    wire::{Created, Details},
};
use crate::{
    clock::{Clock, Dated},
    fairness::FairnessKey,
    metrics::Metrics,
};

/// The id of a probe. It belongs to no session: only whether the portal responds matters.
const PROBE_ID: &str = "probe";

/// The portals. The only holder of a [`PortalClient`].
pub(crate) struct Portal {
    client: PortalClient,
    budgets: Budgets,
    allowed: AllowedPortals,
    default: PortalUrl,
    link_path: String,
    failures: PortalFailureLog,
    clock: Clock,
    metrics: Arc<Metrics>,
}

/// The administrator's settings for portals.
pub(crate) struct PortalSettings {
    /// Portals that may be called.
    pub(crate) allowed: AllowedPortals,
    /// The portal of a resource that names none.
    pub(crate) default_portal: PortalUrl,
    /// Path of the person's link at a portal.
    pub(crate) link_path: String,
}

/// A portal and a key, with the permit of their budget for one request.
pub(crate) struct Caller<'a> {
    pub(crate) portal: &'a PortalUrl,
    pub(crate) key: &'a ApiKey,
    pub(crate) permit: RequestPermit,
}

/// The result of a create.
pub(crate) struct CreateResult {
    pub(crate) result: Result<Created, PortalError>,
    /// Whether the other creates at that portal may continue.
    pub(crate) resumes_creates: bool,
}

/// An image as the portal sent it.
pub(crate) struct ImageBody {
    pub(crate) bytes: Bytes,
    pub(crate) content_type: Option<String>,
}

impl Portal {
    /// Sends requests with this client, within these budgets.
    pub(crate) fn new(
        client: PortalClient,
        budgets: Budgets,
        settings: PortalSettings,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Self {
        let PortalSettings { allowed, default_portal: default, link_path } = settings;
        let failures = PortalFailureLog::default();
        Self { client, budgets, allowed, default, link_path, failures, clock, metrics }
    }

    /// Portals that may be called.
    pub(crate) const fn allowed(&self) -> &AllowedPortals {
        &self.allowed
    }

    /// The portal of that URL if it may be called; the default one if none is named.
    pub(crate) fn permit(&self, named: Option<&str>) -> Option<PortalUrl> {
        named.map_or_else(|| Some(self.default.clone()), |named| self.allowed.permit(named).ok())
    }

    /// The number of a portal among the allowed ones.
    pub(crate) fn number_of(&self, portal: &PortalUrl) -> Option<u16> {
        let number = self.allowed.iter().position(|allowed| allowed == portal)?;
        u16::try_from(number).ok()
    }

    /// Path of the person's link at a portal.
    pub(crate) fn link_path(&self) -> &str {
        &self.link_path
    }

    /// The time between two requests at the rate of one key; zero, if there is no limit.
    pub(crate) fn spacing(&self) -> Duration {
        self.budgets.spacing()
    }

    /// The budget of a portal and key, for the share of that fairness key.
    pub(crate) fn budget(&self, portal: &PortalUrl, key: KeyIdentity, share: FairnessKey) -> Budget {
        self.budgets.budget(portal, key, share)
    }

    /// The portals that admit no calls now, why, and for how long.
    pub(crate) fn closed(&self, now: Instant) -> HashMap<(PortalUrl, Closed), Duration> {
        self.budgets.closed(now)
    }

    /// Polls a session.
    pub(crate) async fn poll(&self, caller: Caller<'_>, id: &VerificationId) -> Result<Details, PortalError> {
        let Caller { portal, key, permit } = caller;
        let sent = self.clock.local();
        let request = self.metrics.portal_request("poll");
        let result = self.client.poll(portal, key, id).await;
        self.measure_clock(portal, sent, result.as_ref().ok().and_then(|details| details.date));
        request.end(PortalError::result_label(&result));
        self.failures.note(portal, polls_of(id), result.as_ref().map(drop));
        if result.as_ref().is_ok_and(|details| details.id.as_ref() == Some(id)) {
            permit.polled(Instant::now());
        }
        permit.about(id).report(Instant::now(), result.as_ref().map(drop));
        result
    }

    /// Creates a session with one request. An id that `is_free` rejects belongs to another resource, so the response is
    /// unusable.
    pub(crate) async fn create(
        &self,
        caller: Caller<'_>,
        is_free: impl FnOnce(&VerificationId) -> bool + Send,
    ) -> CreateResult {
        let Caller { portal, key, permit } = caller;
        let sent = self.clock.local();
        let request = self.metrics.portal_request("create");
        let result = self.client.create(portal, key).await;
        self.measure_clock(portal, sent, result.as_ref().ok().and_then(|created| created.date));
        self.failures.note(portal, creates_with(key.identity()), result.as_ref().map(drop));
        let result = result.and_then(|created| {
            if is_free(&created.id) { Ok(created) } else { Err(PortalError::Failed(Failed::Unusable)) }
        });
        request.end(PortalError::result_label(&result));
        let resumes_creates = permit.report(Instant::now(), result.as_ref().map(drop));
        CreateResult { result, resumes_creates }
    }

    /// Requests a session that does not exist, to find out whether the portal responds.
    pub(crate) async fn probe(&self, caller: Caller<'_>) -> Result<Details, PortalError> {
        let Caller { portal, key, permit } = caller;
        let request = self.metrics.portal_request("probe");
        let result = match VerificationId::parse(PROBE_ID) {
            Ok(id) => self.client.poll(portal, key, &id).await,
            Err(_) => Err(PortalError::Failed(Failed::Unusable)),
        };
        request.end(PortalError::result_label(&result));
        permit.report(Instant::now(), result.as_ref().map(drop));
        result
    }

    /// Gets an image of at most `limit` bytes. A larger one is [`Failed::TooLarge`], which does not count as a failure
    /// of the portal.
    pub(crate) async fn image(
        &self,
        caller: Caller<'_>,
        id: &VerificationId,
        query: ImageQuery<'_>,
        limit: usize,
    ) -> Result<ImageBody, PortalError> {
        let Caller { portal, key, permit } = caller;
        let request = self.metrics.portal_request("image");
        let result = self.client.image(portal, key, id, query).await;
        self.failures.note(portal, polls_of(id), result.as_ref().map(drop));
        let image = match result {
            Ok(response) => {
                let content_type = response.content_type();
                response.read(limit).await.map(|bytes| ImageBody { bytes, content_type })
            }
            Err(error) => Err(error),
        };
        request.end(PortalError::result_label(&image));
        report_body(permit.about(id), &image);
        image
    }

    /// Gets the details of a session unchanged, of at most `limit` bytes, as [`image`](Self::image) does.
    pub(crate) async fn results(
        &self,
        caller: Caller<'_>,
        id: &VerificationId,
        limit: usize,
    ) -> Result<Bytes, PortalError> {
        let Caller { portal, key, permit } = caller;
        let request = self.metrics.portal_request("results");
        let result = self.client.results(portal, key, id, limit).await;
        request.end(PortalError::result_label(&result));
        // Below the limit of every response, the request is repeated with a larger limit.
        if limit == MAX_RESPONSE_BYTES || !is_too_large(&result) {
            self.failures.note(portal, polls_of(id), result.as_ref().map(drop));
        }
        report_body(permit.about(id), &result);
        result
    }

    /// Measures the portal's clock by the time in its response.
    fn measure_clock(&self, portal: &PortalUrl, sent: Timestamp, date: Option<Timestamp>) {
        if let Some(date) = date {
            let received = self.clock.local();
            self.clock.measure_portal(portal.as_str(), Dated { sent, received, date });
        }
    }
}

fn is_too_large<T>(result: &Result<T, PortalError>) -> bool {
    matches!(result, Err(PortalError::Failed(Failed::TooLarge)))
}

/// A body that is too large shows that the portal responds as expected.
fn report_body<T>(permit: RequestPermit, result: &Result<T, PortalError>) {
    let result = if is_too_large(result) { Ok(()) } else { result.as_ref().map(drop) };
    permit.report(Instant::now(), result);
}
