//! What is counted, by Prometheus' naming. No label names a person, a resource, a key or an id, and no host but those of
//! the allowed portals.

use std::{collections::HashMap, sync::atomic::AtomicU64, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::{
    lifecycle::Event,
    portal::{PortalError, PortalUrl, budget::Closed},
};

/// A call to the portal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    call: &'static str,
    result: &'static str,
}

/// One object of evidence that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EvidenceLabels {
    result: &'static str,
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    reason: &'static str,
}

/// A portal, by the host in the list of the allowed ones.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PortalLabels {
    portal: String,
}

/// Why calls to a portal wait.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClosedLabels {
    portal: String,
    state: &'static str,
}

/// The process's metrics.
pub struct Metrics {
    registry: Registry,
    calls: Family<CallLabels, Counter>,
    events: Family<EventLabels, Counter>,
    evidence: Family<EvidenceLabels, Counter>,
    gates: Gates,
    /// Reads of verifications from the API server.
    pub verification_reads: Counter,
    /// Reads of Secrets from the API server.
    pub secret_reads: Counter,
    portal_clock_skew: Family<PortalLabels, Gauge>,
    /// How far the API server's clock is ahead of this machine's, in seconds.
    pub api_server_clock_skew: Gauge,
    /// Writes of status that were sent.
    pub status_writes: Counter,
    /// Creates whose answer was lost.
    pub lost_answers: Counter,
    /// Sessions that the portal holds, or may hold where the answer was lost, and no resource publishes.
    pub orphan_sessions: Counter,
    /// Retries to record an answer that came to nothing.
    pub record_retries: Counter,
    /// Reconciler that come again because the API server gave no usable answer: none, a refusal, or one conflict after
    /// another.
    pub turns_repeated: Counter,
    /// Events that were not published.
    pub events_dropped: Counter,
    /// Verifications whose evidence is left in the store, or may be, with nothing that removes it any more.
    pub evidence_orphaned: Counter,
    /// Reconciler that panicked.
    pub turn_panics: Counter,
    /// Objects that could not be decoded.
    pub undecodable: Counter,
    /// Interruptions of the watch.
    pub watch_interruptions: Counter,
    /// When something came last by the watch, in seconds since 1970.
    pub watch_silent_since: Gauge,
    /// How often the API server's state went back.
    pub server_rewinds: Counter,
    /// Live verifications.
    pub live: Gauge,
    /// Reconciler under way.
    pub turns_under_way: Gauge,
    /// Reconciler that are due and wait for a slot.
    pub turns_waiting: Gauge,
    /// Bytes that the records of live verifications take, in the table and in the queue.
    pub records_bytes: Gauge,
    /// Memory that is held for images in flight, in bytes.
    pub evidence_bytes: Gauge,
    /// How late turns begin, in seconds.
    pub lateness: Histogram,
}

/// Counters by their labels.
fn family<L>(registry: &mut Registry, name: &str, help: &str) -> Family<L, Counter>
where
    L: Clone + std::fmt::Debug + Eq + std::hash::Hash + EncodeLabelSet + Send + Sync + 'static,
{
    let family = Family::default();
    registry.register(name, help, family.clone());
    family
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
        let mut registry = Registry::with_prefix("okid");
        let mut counter = |name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let status_writes = counter("status_writes", "Writes of status that were sent");
        let lost_answers = counter("lost_answers", "Creates whose answer was lost");
        let orphan_sessions = counter(
            "orphan_sessions",
            "Sessions that the portal holds, or may hold, and no resource publishes",
        );
        let record_retries = counter("record_retries", "Retries to record an answer that came to nothing");
        let turns_repeated = counter(
            "turns_repeated",
            "Reconciler repeated because the API server gave no usable answer: none, a refusal, or conflict after conflict",
        );
        let events_dropped = counter("events_dropped", "Events that were not published");
        let evidence_orphaned = counter(
            "evidence_orphaned",
            "Verifications whose evidence is left in the store, or may be, and nothing removes it any more",
        );
        let turn_panics = counter("turn_panics", "Reconciler that panicked");
        let undecodable = counter("undecodable_objects", "Objects that could not be decoded");
        let server_rewinds = counter(
            "api_server_rewinds",
            "Times that the state of the API server went back, as after a restore of etcd from a backup",
        );
        let watch_interruptions = counter("watch_interruptions", "Interruptions of the watch");
        let verification_reads = counter(
            "verification_reads",
            "Reads of verifications from the API server, lists and watches aside",
        );
        let secret_reads = counter("secret_reads", "Reads of Secrets from the API server");
        let calls = family(&mut registry, "portal_calls", "Calls to the portal by result");
        let events = family(&mut registry, "events", "Events published by reason");
        let help = "Retries to store an object of evidence by result";
        let evidence = family(&mut registry, "evidence_objects", help);
        let gates = Gates::new(&mut registry);
        let mut gauge = |name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let watch_silent_since =
            gauge("watch_silent_since_timestamp_seconds", "When the watch last brought anything");
        let live = gauge("live_verifications", "Verifications that are watched");
        let turns_under_way = gauge("turns_under_way", "Reconciler under way");
        let turns_waiting = gauge("turns_waiting", "Reconciler that are due and wait for a slot");
        let records_bytes = gauge("records_bytes", "Memory of the records of live verifications");
        let evidence_bytes = gauge("evidence_bytes", "Memory that is held for images in flight");
        let api_server_clock_skew = gauge(
            "api_server_clock_skew_seconds",
            "How far the API server's clock is ahead of this machine's",
        );
        let portal_clock_skew = Family::default();
        registry.register(
            "portal_clock_skew_seconds",
            "How far the portal's clock is ahead of the API server's",
            portal_clock_skew.clone(),
        );
        let lateness = Histogram::new([0.001, 0.005, 0.025, 0.1, 0.5, 2.0, 10.0, 60.0]);
        registry.register("turn_lateness_seconds", "How late turns begin", lateness.clone());
        Self {
            registry,
            calls,
            events,
            evidence,
            gates,
            verification_reads,
            secret_reads,
            portal_clock_skew,
            api_server_clock_skew,
            status_writes,
            lost_answers,
            orphan_sessions,
            record_retries,
            turns_repeated,
            events_dropped,
            evidence_orphaned,
            turn_panics,
            undecodable,
            watch_interruptions,
            watch_silent_since,
            server_rewinds,
            live,
            turns_under_way,
            turns_waiting,
            records_bytes,
            evidence_bytes,
            lateness,
        }
    }

    /// Counts a call to the portal.
    pub(crate) fn call<T>(&self, call: &'static str, answer: &Result<T, PortalError>) {
        let result = answer.as_ref().err().map_or("ok", PortalError::label);
        self.calls.get_or_create(&CallLabels { call, result }).inc();
    }

    /// Counts a try to store an object of evidence.
    pub(crate) fn evidence(&self, result: &'static str) {
        self.evidence.get_or_create(&EvidenceLabels { result }).inc();
    }

    /// Shows what keeps calls to the portals waiting. Portals may differ by path alone; each host is shown once.
    pub(crate) fn closed<'a>(&self, portals: impl IntoIterator<Item = (&'a PortalUrl, Closed, Shut)>) {
        let mut hosts: HashMap<ClosedLabels, Shut> = HashMap::new();
        for (portal, closed, shut) in portals {
            let labels = ClosedLabels { portal: portal.host().to_owned(), state: closed.label() };
            let of_host = hosts.entry(labels).or_default();
            of_host.left = of_host.left.max(shut.left);
            of_host.waiting = of_host.waiting.saturating_add(shut.waiting);
        }
        for (labels, Shut { left, waiting }) in hosts {
            self.gates.closed.get_or_create(&labels).set(i64::from(left.is_some()));
            self.gates.seconds.get_or_create(&labels).set(left.unwrap_or_default().as_secs_f64());
            self.gates.waiting.get_or_create(&labels).set(i64::try_from(waiting).unwrap_or(i64::MAX));
        }
    }

    /// Counts a published event.
    pub(crate) fn event(&self, event: Event) {
        self.events.get_or_create(&EventLabels { reason: event.reason() }).inc();
    }

    /// Shows how far a portal's clock is ahead of the API server's.
    pub(crate) fn portal_clock_skew(&self, portal: &PortalUrl, seconds: i64) {
        let labels = PortalLabels { portal: portal.host().to_owned() };
        self.portal_clock_skew.get_or_create(&labels).set(seconds);
    }

    /// All metrics as `OpenMetrics` text.
    ///
    /// # Errors
    ///
    /// None that occur: the text is written into memory.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut body = String::new();
        text::encode(&mut body, &self.registry)?;
        Ok(body)
    }
}

/// What keeps calls to a portal waiting.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shut {
    /// For how long still, for the key for which it is longest; zero, if that is for the next call to find out, and `None`
    /// if nothing does.
    pub(crate) left: Option<Duration>,
    /// How many verifications wait for it.
    pub(crate) waiting: usize,
}

/// The gauges of what is closed of a portal.
struct Gates {
    closed: Family<ClosedLabels, Gauge>,
    seconds: Family<ClosedLabels, Gauge<f64, AtomicU64>>,
    waiting: Family<ClosedLabels, Gauge>,
}

impl Gates {
    fn new(registry: &mut Registry) -> Self {
        let gates =
            Self { closed: Family::default(), seconds: Family::default(), waiting: Family::default() };
        registry.register(
            "portal_closed",
            "1 while calls to a portal wait, for any key: paused, as the portal asked; breaker_open or key_rejected, until a \
             call finds out that it works again; else 0",
            gates.closed.clone(),
        );
        registry.register(
            "portal_closed_seconds",
            "How long calls to a portal still wait, for the key for which it is longest: paused, as the portal asked; \
             breaker_open and key_rejected, until the next call finds out whether it works again, and 0 during that call",
            gates.seconds.clone(),
        );
        registry.register(
            "portal_waiting",
            "Verifications whose next call to a portal waits: paused, breaker_open, key_rejected",
            gates.waiting.clone(),
        );
        gates
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::portal::AllowedPortals;

    #[test]
    fn portals_of_one_host_show_the_longest_wait_and_all_who_wait_whichever_comes_last() {
        let urls = ["https://one.example/a", "https://one.example/b"];
        let allowed = AllowedPortals::new(urls, false).unwrap();
        let metrics = Metrics::new();
        let shut =
            [(Some(Duration::from_secs(7)), 3), (None, 2)].map(|(left, waiting)| Shut { left, waiting });
        for order in [shut, [shut[1], shut[0]]] {
            metrics.closed(allowed.iter().zip(order).map(|(portal, shut)| (portal, Closed::Breaker, shut)));
            let text = metrics.text().unwrap();
            for shown in ["closed{A} 1\n", "closed_seconds{A} 7.0\n", "waiting{A} 5\n"] {
                let labels = r#"{portal="one.example",state="breaker_open"}"#;
                assert!(text.contains(&format!("okid_portal_{}", shown.replace("{A}", labels))), "{text}");
            }
        }
    }
}
