//! What holds back requests to portals.

use std::{collections::HashMap, sync::atomic::AtomicU64, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::Unit,
};

use super::registrar::{Registrar, gauge};

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

/// The gauges of what holds back requests to portals.
pub(super) struct Closures {
    closed: Family<ClosedLabels, Gauge>,
    seconds: Family<ClosedLabels, Gauge<f64, AtomicU64>>,
    waiting: Family<ClosedLabels, Gauge>,
}

impl Closures {
    pub(super) fn new(okid: &mut Registrar) -> Self {
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

    pub(super) fn set<'a>(&self, portals: impl IntoIterator<Item = (&'a str, &'static str, Closure)>) {
        let mut hosts: HashMap<ClosedLabels, Closure> = HashMap::new();
        for (host, state, closure) in portals {
            let of_host = hosts.entry(ClosedLabels { portal: host.to_owned(), state }).or_default();
            of_host.left = of_host.left.max(closure.left);
            of_host.waiting = of_host.waiting.saturating_add(closure.waiting);
        }
        for (labels, Closure { left, waiting }) in hosts {
            self.closed.get_or_create(&labels).set(i64::from(left.is_some()));
            self.seconds.get_or_create(&labels).set(left.unwrap_or_default().as_secs_f64());
            self.waiting.get_or_create(&labels).set(gauge(waiting));
        }
    }
}
