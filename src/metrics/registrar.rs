//! Registers metrics: their names, help texts, units and buckets.

use std::{fmt::Debug, hash::Hash};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, histogram::Histogram, info::Info},
    registry::{Metric, Registry, Unit},
};

/// Upper bounds of the durations of requests, in seconds.
const REQUEST_SECONDS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// Upper bounds of how long a reconcile waits or runs, in seconds.
const RECONCILE_SECONDS: [f64; 8] = [0.001, 0.005, 0.025, 0.1, 0.5, 2.0, 10.0, 60.0];

/// Labels of a family.
pub(super) trait Labels: Clone + Debug + Eq + Hash + EncodeLabelSet + Send + Sync + 'static {}

impl<L: Clone + Debug + Eq + Hash + EncodeLabelSet + Send + Sync + 'static> Labels for L {}

pub(super) type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// Registers metrics; the registry writes its prefix before their names.
pub(super) struct Registrar(Registry);

impl Registrar {
    pub(super) fn with_prefix(prefix: &str) -> Self {
        Self(Registry::with_prefix(prefix))
    }

    pub(super) fn into_registry(self) -> Registry {
        self.0
    }

    pub(super) fn plain<M: Metric + Clone + Default>(&mut self, name: &str, help: &str) -> M {
        let metric = M::default();
        self.0.register(name, help, metric.clone());
        metric
    }

    /// The unit becomes the end of the name.
    pub(super) fn with_unit<M: Metric + Clone + Default>(&mut self, name: &str, help: &str, unit: Unit) -> M {
        let metric = M::default();
        self.0.register_with_unit(name, help, unit, metric.clone());
        metric
    }

    pub(super) fn request_seconds<L: Labels>(&mut self, name: &str, help: &str) -> Histograms<L> {
        self.seconds(name, help, || Histogram::new(REQUEST_SECONDS))
    }

    pub(super) fn reconcile_seconds<L: Labels>(&mut self, name: &str, help: &str) -> Histograms<L> {
        self.seconds(name, help, || Histogram::new(RECONCILE_SECONDS))
    }

    pub(super) fn build_info(&mut self) {
        let info = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        self.0.register("build", "The operator's version", info);
    }

    pub(super) fn queue_delay(&mut self) -> Histogram {
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

/// The value of a gauge.
pub(crate) fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
