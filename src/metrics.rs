//! Prometheus metrics of the process. No label names a person, a resource, a key or an id, and no host but those of the
//! allowed portals. Depends on no other module: labels are text that callers pass.

mod closures;
mod process;
mod registrar;
mod sample;

use std::{fmt, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use tokio::time::Instant;

use closures::Closures;
use process::ProcessCollector;
use registrar::{Histograms, Registrar};

pub(crate) use closures::Closure;
pub(crate) use registrar::gauge;

/// The media type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    call: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    call: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ApiServerLabels {
    verb: &'static str,
    resource: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NotificationLabels {
    name: String,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabels {
    phase: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PortalLabels {
    portal: String,
}

/// The help of `okid_webhook_notifications_total`.
const WEBHOOK_NOTIFICATIONS: &str =
    "Calls of the webhook port, by the name in their path and what became of them";
/// The help of `okid_webhook_connections_closed_total`.
const WEBHOOK_CONNECTIONS_CLOSED: &str =
    "Connections of the webhook port that the operator closed before the caller did, by reason";
/// The help of `okid_api_server_rollbacks_total`.
const API_SERVER_ROLLBACKS: &str =
    "Times that the API server's state went back, as after a restore of etcd from a backup";
/// The help of `okid_previous_key_sessions`.
const PREVIOUS_KEY_SESSIONS: &str = "Live sessions that need the API key under previousKey, or may need it because they are suspended or were not polled since the start";

/// The metrics of the process.
pub struct Metrics {
    okid: Registry,
    process: Registry,
    portal_requests: Family<RequestLabels, Counter>,
    portal_request_duration: Histograms<CallLabels>,
    api_server_request_duration: Histograms<ApiServerLabels>,
    reconcile_duration: Histograms<OutcomeLabels>,
    evidence_objects: Family<ResultLabels, Counter>,
    webhook_notifications: Family<NotificationLabels, Counter>,
    webhook_connections_closed: Family<ReasonLabels, Counter>,
    events: Family<ReasonLabels, Counter>,
    live: Family<PhaseLabels, Gauge>,
    closures: Closures,
    portal_clock_skew: Family<PortalLabels, Gauge>,
    /// Reads of Verifications from the API server, without lists and watches.
    pub verification_reads: Counter,
    /// Reads of Secrets from the API server.
    pub secret_reads: Counter,
    /// Status writes that were sent.
    pub status_writes: Counter,
    /// Retries of the write that records the response to a create request.
    pub status_record_retries: Counter,
    /// Create requests whose outcome is unknown because the response was lost.
    pub create_unknown_outcome: Counter,
    /// Sessions that exist at the portal, or may exist, without a Verification that publishes them.
    pub orphan_sessions: Counter,
    /// Reconciles that are retried because the API server did not answer, refused, or reported one conflict after another.
    pub reconcile_retries: Counter,
    /// Reconciles that panicked.
    pub reconcile_panics: Counter,
    /// Events that were dropped.
    pub events_dropped: Counter,
    /// Verifications whose evidence stays in the store, or may, although nothing removes it any more.
    pub evidence_orphaned: Counter,
    /// Objects of the watch that could not be decoded.
    pub undecodable_objects: Counter,
    /// Interruptions of the watch.
    pub watch_interruptions: Counter,
    /// Lists of verifications that are not complete: one of each watched namespace, or one of all.
    pub incomplete_lists: Gauge,
    /// Times that the state of the API server went back.
    pub api_server_rollbacks: Counter,
    /// When the watch last delivered something, as a Unix timestamp.
    pub watch_last_event: Gauge,
    /// How far the API server's clock is ahead of this machine's, in seconds.
    pub api_server_clock_skew: Gauge,
    /// Whether this replica reconciles: 1 or 0.
    pub leader: Gauge,
    /// How often this replica began or ceased to lead.
    pub leader_transitions: Counter,
    /// Reconciles that are running.
    pub reconciles_in_flight: Gauge,
    /// Reconciles that are due and wait to run.
    pub queue_depth: Gauge,
    /// How long reconciles waited after they were due, in seconds.
    pub queue_delay: Histogram,
    /// Bytes of memory for live Verifications, in the index and in the queue.
    pub cache_bytes: Gauge,
    /// Live sessions that need the API key from before a rotation, or may need it.
    pub previous_key_sessions: Gauge,
    /// Bytes of memory for evidence on its way from a portal to a store.
    pub evidence_inflight_bytes: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Metrics that count from zero.
    #[must_use]
    pub fn new() -> Self {
        let mut process = Registry::default();
        process.register_collector(Box::new(ProcessCollector));
        let mut okid = Registrar::with_prefix("okid");
        okid.build_info();
        let queue_delay = okid.queue_delay();
        Self {
            portal_requests: okid.plain("portal_requests", "Requests to portals, by call and result"),
            portal_request_duration: okid
                .request_seconds("portal_request_duration", "How long requests to portals took, by call"),
            api_server_request_duration: okid.request_seconds(
                "api_server_request_duration",
                "How long the Kubernetes API server took to begin its response, by verb and resource",
            ),
            reconcile_duration: okid
                .reconcile_seconds("reconcile_duration", "How long reconciles ran, by outcome"),
            evidence_objects: okid
                .plain("evidence_objects", "Attempts to store an object of evidence, by result"),
            webhook_notifications: okid.plain("webhook_notifications", WEBHOOK_NOTIFICATIONS),
            webhook_connections_closed: okid.plain("webhook_connections_closed", WEBHOOK_CONNECTIONS_CLOSED),
            events: okid.plain("events", "Published events, by reason"),
            live: okid.plain("live_verifications", "Verifications that are not settled, by phase"),
            closures: Closures::new(&mut okid),
            portal_clock_skew: okid.with_unit(
                "portal_clock_skew",
                "How far the portal's clock is ahead of the API server's",
                Unit::Seconds,
            ),
            verification_reads: okid
                .plain("verification_reads", "Reads of Verifications from the API server, without lists and watches"),
            secret_reads: okid.plain("secret_reads", "Reads of Secrets from the API server"),
            status_writes: okid.plain("status_writes", "Status writes that were sent"),
            status_record_retries: okid
                .plain("status_record_retries", "Retries of the write that records the response to a create request"),
            create_unknown_outcome: okid
                .plain("create_unknown_outcome", "Create requests whose response was lost, so their outcome is unknown"),
            orphan_sessions: okid.plain(
                "orphan_sessions",
                "Sessions that exist at the portal, or may exist, without a Verification that publishes them",
            ),
            reconcile_retries: okid.plain(
                "reconcile_retries",
                "Reconciles retried because the API server did not answer, refused, or reported repeated conflicts",
            ),
            reconcile_panics: okid.plain("reconcile_panics", "Reconciles that panicked"),
            events_dropped: okid.plain("events_dropped", "Events that could not be published"),
            evidence_orphaned: okid.plain(
                "evidence_orphaned",
                "Verifications whose evidence is left in the store, or may be, with nothing that removes it",
            ),
            undecodable_objects: okid.plain("undecodable_objects", "Objects of the watch that could not be decoded"),
            watch_interruptions: okid.plain("watch_interruptions", "Interruptions of the watch"),
            incomplete_lists: okid.plain(
                "incomplete_lists",
                "Lists of Verifications that are not complete: one of each watched namespace, or one of all",
            ),
            api_server_rollbacks: okid.plain("api_server_rollbacks", API_SERVER_ROLLBACKS),
            watch_last_event: okid.with_unit(
                "watch_last_event_timestamp",
                "Unix time at which the watch last delivered something",
                Unit::Seconds,
            ),
            api_server_clock_skew: okid.with_unit(
                "api_server_clock_skew",
                "How far the API server's clock is ahead of this machine's",
                Unit::Seconds,
            ),
            leader: okid.plain("leader", "Whether this replica leads (1) or is a standby (0)"),
            leader_transitions: okid
                .plain("leader_transitions", "Times that this replica began to lead, or ceased to"),
            reconciles_in_flight: okid.plain("reconciles_in_flight", "Reconciles that are running"),
            queue_depth: okid.plain("queue_depth", "Reconciles that are due and wait to run"),
            queue_delay,
            previous_key_sessions: okid.plain("previous_key_sessions", PREVIOUS_KEY_SESSIONS),
            cache_bytes: okid.with_unit("cache", "Memory of the cache of live Verifications", Unit::Bytes),
            evidence_inflight_bytes: okid.with_unit(
                "evidence_inflight",
                "Memory for evidence on its way from a portal to a store",
                Unit::Bytes,
            ),
            okid: okid.into_registry(),
            process,
        }
    }

    /// Starts the clock of a request to a portal.
    pub(crate) fn portal_request(&self, call: &'static str) -> PortalRequest<'_> {
        PortalRequest { metrics: self, call, started: Instant::now() }
    }

    /// Counts a request to the API server.
    pub(crate) fn api_server_request(&self, verb: &'static str, resource: &str, duration: Duration) {
        let labels = ApiServerLabels { verb, resource: resource.to_owned() };
        self.api_server_request_duration.get_or_create(&labels).observe(duration.as_secs_f64());
    }

    /// Counts a reconcile that has ended.
    pub(crate) fn reconcile(&self, outcome: &'static str, duration: Duration) {
        self.reconcile_duration.get_or_create(&OutcomeLabels { outcome }).observe(duration.as_secs_f64());
    }

    /// Counts an attempt to store an object of evidence.
    pub(crate) fn evidence_object(&self, result: &'static str) {
        self.evidence_objects.get_or_create(&ResultLabels { result }).inc();
    }

    /// Counts a call of the webhook port. The name is empty if there is none of that name.
    pub(crate) fn notification(&self, name: &str, result: &'static str) {
        self.webhook_notifications.get_or_create(&NotificationLabels { name: name.to_owned(), result }).inc();
    }

    /// Counts a connection of the webhook port that the operator closed.
    pub(crate) fn webhook_connection_closed(&self, reason: &'static str) {
        self.webhook_connections_closed.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// Counts a published event.
    pub(crate) fn event(&self, reason: &'static str) {
        self.events.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// Sets how many Verifications are in each phase.
    pub(crate) fn live(&self, phases: impl IntoIterator<Item = (&'static str, usize)>) {
        for (phase, count) in phases {
            self.live.get_or_create(&PhaseLabels { phase }).set(gauge(count));
        }
    }

    /// Sets what holds back requests to portals, by host and state. Portals may differ by path alone: each host is shown once,
    /// with the longest closure and everything that waits.
    pub(crate) fn closures<'a>(&self, portals: impl IntoIterator<Item = (&'a str, &'static str, Closure)>) {
        self.closures.set(portals);
    }

    /// Sets how far a portal's clock is ahead of the API server's.
    pub(crate) fn portal_clock_skew(&self, host: &str, seconds: i64) {
        self.portal_clock_skew.get_or_create(&PortalLabels { portal: host.to_owned() }).set(seconds);
    }

    /// All metrics in the `OpenMetrics` text format, whose media type is [`CONTENT_TYPE`].
    ///
    /// # Errors
    ///
    /// Never in practice: writing to a `String` does not fail.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut body = String::new();
        text::encode_registry(&mut body, &self.okid)?;
        text::encode_registry(&mut body, &self.process)?;
        text::encode_eof(&mut body)?;
        Ok(body)
    }
}

/// A request to a portal that has not ended.
pub(crate) struct PortalRequest<'a> {
    metrics: &'a Metrics,
    call: &'static str,
    started: Instant,
}

impl PortalRequest<'_> {
    /// Counts the request.
    pub(crate) fn end(self, result: &'static str) {
        let Self { metrics, call, started } = self;
        metrics.portal_requests.get_or_create(&RequestLabels { call, result }).inc();
        let duration = metrics.portal_request_duration.get_or_create(&CallLabels { call });
        duration.observe(started.elapsed().as_secs_f64());
    }
}

#[cfg(test)]
pub(crate) mod tests;
