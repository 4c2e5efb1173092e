//! Prometheus metrics of the process. No label names a person, a resource, a key or an id, and no host but those of the
//! allowed portals. Depends on no other module: labels are text that callers pass.

mod process;
mod sample;

use std::{
    collections::HashMap,
    fmt::{self, Debug},
    hash::Hash,
    sync::atomic::AtomicU64,
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::{Metric, Registry, Unit},
};
use tokio::time::Instant;

use process::ProcessCollector;

/// The media type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of the durations of requests, in seconds.
const REQUEST_SECONDS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// Upper bounds of how long a reconcile waits or runs, in seconds.
const RECONCILE_SECONDS: [f64; 8] = [0.001, 0.005, 0.025, 0.1, 0.5, 2.0, 10.0, 60.0];

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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClosedLabels {
    portal: String,
    state: &'static str,
}

/// How long requests to a portal are held back.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Closure {
    /// For how long still, for the key that waits longest. Zero while the next call is finding out whether the portal works
    /// again; `None` if nothing is held back.
    pub(crate) left: Option<Duration>,
    /// How many Verifications wait.
    pub(crate) waiting: usize,
}

/// The help of a gauge.
const PREVIOUS_KEY_SESSIONS: &str = "Live sessions that need the API key under previousKey, or may need it because they are suspended or were not polled since the start";

/// Labels of a family.
trait Labels: Clone + Debug + Eq + Hash + EncodeLabelSet + Send + Sync + 'static {}

impl<L: Clone + Debug + Eq + Hash + EncodeLabelSet + Send + Sync + 'static> Labels for L {}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// The metrics of the process.
pub struct Metrics {
    okid: Registry,
    process: Registry,
    portal_requests: Family<RequestLabels, Counter>,
    portal_request_duration: Histograms<CallLabels>,
    api_server_request_duration: Histograms<ApiServerLabels>,
    reconcile_duration: Histograms<OutcomeLabels>,
    evidence_objects: Family<ResultLabels, Counter>,
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

/// Registers metrics; the registry writes its prefix before their names.
struct Registrar(Registry);

impl Registrar {
    fn plain<M: Metric + Clone + Default>(&mut self, name: &str, help: &str) -> M {
        let metric = M::default();
        self.0.register(name, help, metric.clone());
        metric
    }

    /// The unit becomes the end of the name.
    fn with_unit<M: Metric + Clone + Default>(&mut self, name: &str, help: &str, unit: Unit) -> M {
        let metric = M::default();
        self.0.register_with_unit(name, help, unit, metric.clone());
        metric
    }

    fn request_seconds<L: Labels>(&mut self, name: &str, help: &str) -> Histograms<L> {
        self.seconds(name, help, || Histogram::new(REQUEST_SECONDS))
    }

    fn reconcile_seconds<L: Labels>(&mut self, name: &str, help: &str) -> Histograms<L> {
        self.seconds(name, help, || Histogram::new(RECONCILE_SECONDS))
    }

    fn build_info(&mut self) {
        let info = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        self.0.register("build", "The operator's version", info);
    }

    fn queue_delay(&mut self) -> Histogram {
        let queue_delay = Histogram::new(RECONCILE_SECONDS);
        let help = "How long reconciles waited after they were due";
        self.0.register_with_unit("queue_delay", help, Unit::Seconds, queue_delay.clone());
        queue_delay
    }

    fn seconds<L: Labels>(&mut self, name: &str, help: &str, make: fn() -> Histogram) -> Histograms<L> {
        let histograms = Histograms::new_with_constructor(make);
        self.0.register_with_unit(name, help, Unit::Seconds, histograms.clone());
        histograms
    }
}

impl Metrics {
    /// Metrics that count from zero.
    #[must_use]
    pub fn new() -> Self {
        let mut process = Registry::default();
        process.register_collector(Box::new(ProcessCollector));
        let mut okid = Registrar(Registry::with_prefix("okid"));
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
            api_server_rollbacks: okid.plain(
                "api_server_rollbacks",
                "Times that the API server's state went back, as after a restore of etcd from a backup",
            ),
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
            okid: okid.0,
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
        let mut hosts: HashMap<ClosedLabels, Closure> = HashMap::new();
        for (host, state, closure) in portals {
            let of_host = hosts.entry(ClosedLabels { portal: host.to_owned(), state }).or_default();
            of_host.left = of_host.left.max(closure.left);
            of_host.waiting = of_host.waiting.saturating_add(closure.waiting);
        }
        for (labels, Closure { left, waiting }) in hosts {
            self.closures.closed.get_or_create(&labels).set(i64::from(left.is_some()));
            self.closures.seconds.get_or_create(&labels).set(left.unwrap_or_default().as_secs_f64());
            self.closures.waiting.get_or_create(&labels).set(gauge(waiting));
        }
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

/// The value of a gauge.
pub(crate) fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
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

/// The gauges of what holds back requests to portals.
struct Closures {
    closed: Family<ClosedLabels, Gauge>,
    seconds: Family<ClosedLabels, Gauge<f64, AtomicU64>>,
    waiting: Family<ClosedLabels, Gauge>,
}

impl Closures {
    fn new(okid: &mut Registrar) -> Self {
        Self {
            closed: okid.plain(
                "portal_closed",
                "Whether requests to a portal are held back for some key (1) or not (0), by state",
            ),
            seconds: okid.with_unit(
                "portal_closed",
                "How long requests to a portal are still held back, for the key that waits longest; 0 while a request tests \
                 whether the portal works again",
                Unit::Seconds,
            ),
            waiting: okid.plain(
                "portal_waiting",
                "Verifications whose next request to a portal is held back, by state",
            ),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
