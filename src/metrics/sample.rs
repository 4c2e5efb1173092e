//! Metrics with a sample of every family, for the reference page and for tests: a family without samples is not written.

use std::time::Duration;

use super::{Closure, Metrics};

impl Metrics {
    /// Metrics of which every family has a sample.
    #[must_use]
    pub fn sample() -> Self {
        let metrics = Self::new();
        for call in ["create", "poll"] {
            metrics.portal_request(call).end("ok");
        }
        metrics.api_server_request("patch", "verifications/status", Duration::from_millis(3));
        metrics.reconcile("requeue", Duration::from_millis(7));
        metrics.evidence_object("stored");
        metrics.event("Verified");
        metrics.notification("okid", "accepted");
        metrics.webhook_connection_closed("rate");
        metrics.live([("Pending", 2), ("InProgress", 0)]);
        metrics.closures([("portal.example:8443", "paused", Closure::default())]);
        metrics.portal_clock_skew("portal.example:8443", -3);
        metrics
    }
}
