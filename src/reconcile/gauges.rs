//! The gauges of `/metrics`.

use std::collections::HashMap;

use tokio::time::Instant;

use super::{cache_entry::PortalWait, reconciler::Reconciler};
use crate::{
    api::Phase,
    metrics::{Closure, gauge},
    portal::budget::Closed,
};

impl Reconciler {
    /// Updates the gauges.
    pub(crate) fn measure(&self) {
        let plan = self.queue.snapshot();
        let mut waiting: HashMap<_, usize> = HashMap::new();
        let mut live: HashMap<_, usize> = Phase::ALL.map(|phase| (phase, 0)).into();
        let memory = {
            let index = self.index();
            let mut heap = 0;
            for (_, entry) in index.iter() {
                heap += entry.heap();
                *live.entry(entry.phase()).or_default() += 1;
                if let Some(PortalWait { portal, closed, is_shown: _ }) = entry.portal_wait {
                    *waiting.entry((usize::from(portal), closed)).or_default() += 1;
                }
            }
            index.memory() + heap
        };
        let left = self.portal.closed(Instant::now());
        let closures = self.portal.allowed().iter().enumerate().flat_map(|(number, portal)| {
            let (left, waiting) = (&left, &waiting);
            Closed::SHOWN.into_iter().map(move |closed| {
                let left = left.get(&(portal.clone(), closed)).copied();
                let waiting = waiting.get(&(number, closed)).copied().unwrap_or_default();
                (portal.host(), closed.label(), Closure { left, waiting })
            })
        });
        self.metrics.closures(closures);
        self.metrics.live(live.into_iter().map(|(phase, count)| (phase.as_str(), count)));
        let silent = i64::try_from(self.cluster.last_contact().since_watch().as_secs()).unwrap_or(i64::MAX);
        self.metrics.watch_last_event.set(self.clock.local().as_second().saturating_sub(silent));
        self.metrics.reconciles_in_flight.set(gauge(plan.in_flight));
        self.metrics.queue_depth.set(gauge(plan.ready.iter().sum()));
        self.metrics.evidence_inflight_bytes.set(gauge(self.evidence.bytes_in_flight()));
        self.metrics.cache_bytes.set(gauge(memory + self.sessions.memory() + plan.memory));
        self.metrics.api_server_clock_skew.set(self.clock.server_skew().as_secs());
        for portal in self.portal.allowed().iter() {
            if let Some(skew) = self.clock.portal_skew(portal.as_str()) {
                self.metrics.portal_clock_skew(portal.host(), skew.as_secs());
            }
        }
    }
}
