//! The gauges of `/metrics`.

use std::collections::HashMap;

use tokio::time::Instant;

use super::{cache_entry::PortalWait, reconciler::Reconciler};
use crate::{metrics::Shut, portal::budget::Closed};

impl Reconciler {
    /// Brings the gauges up to date.
    pub(crate) fn measure(&self) {
        let gauge = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let plan = self.queue.snapshot();
        let mut waiting: HashMap<_, usize> = HashMap::new();
        let (live, index) = {
            let index = self.index();
            let mut heap = 0;
            for (_, entry) in index.iter() {
                heap += entry.heap();
                if let Some(PortalWait { portal, closed, is_told: _ }) = entry.portal_wait {
                    *waiting.entry((usize::from(portal), closed)).or_default() += 1;
                }
            }
            (index.len(), index.memory() + heap)
        };
        let left = self.portal.closed(Instant::now());
        let gates = self.portal.allowed().iter().enumerate().flat_map(|(number, portal)| {
            let (left, waiting) = (&left, &waiting);
            Closed::SHOWN.into_iter().map(move |closed| {
                let left = left.get(&(portal.clone(), closed)).copied();
                let waiting = waiting.get(&(number, closed)).copied().unwrap_or_default();
                (portal, closed, Shut { left, waiting })
            })
        });
        self.metrics.closed(gates);
        self.metrics.live.set(gauge(live));
        let silent =
            i64::try_from(self.cluster.last_contact().watch_silent_for().as_secs()).unwrap_or(i64::MAX);
        self.metrics.watch_silent_since.set(self.clock.local().as_second().saturating_sub(silent));
        self.metrics.turns_under_way.set(gauge(plan.in_flight));
        self.metrics.turns_waiting.set(gauge(plan.ready.iter().sum()));
        self.metrics.evidence_bytes.set(gauge(self.evidence.bytes_in_flight()));
        self.metrics.records_bytes.set(gauge(index + self.sessions.memory() + plan.memory));
        self.metrics.api_server_clock_skew.set(self.clock.server_ahead().as_secs());
        for (portal, ahead) in self.clock.portals_ahead() {
            self.metrics.portal_clock_skew(&portal, ahead.as_secs());
        }
    }
}
