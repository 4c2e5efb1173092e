//! The gauges of `/metrics` that the index and the queue provide. May depend on `reconciler`, `cache_entry` and `metrics`.

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
        // The index is locked while they are counted.
        let mut live = [0_usize; Phase::ALL.len()];
        let mut waiting = vec![[0_usize; Closed::ALL.len()]; self.portal.allowed().iter().count()];
        let memory = {
            let index = self.index();
            let mut heap = 0;
            let mut previous_key = 0;
            for (_, entry) in index.iter() {
                heap += entry.heap();
                live[entry.phase() as usize] += 1;
                previous_key += usize::from(entry.needs_previous_key());
                if let Some(PortalWait { portal, closed, is_shown: _ }) = entry.portal_wait
                    && let Some(waiting) = waiting.get_mut(usize::from(portal))
                {
                    waiting[closed as usize] += 1;
                }
            }
            self.metrics.previous_key_sessions.set(gauge(previous_key));
            index.memory() + heap
        };
        let left = self.portal.closed(Instant::now());
        let closures = self.portal.allowed().iter().zip(&waiting).flat_map(|(portal, waiting)| {
            let left = &left;
            Closed::SHOWN.into_iter().map(move |closed| {
                let left = left.get(&(portal.clone(), closed)).copied();
                (portal.host(), closed.label(), Closure { left, waiting: waiting[closed as usize] })
            })
        });
        self.metrics.closures(closures);
        self.metrics.live(Phase::ALL.map(Phase::as_str).into_iter().zip(live));
        let silent = i64::try_from(self.cluster.last_contact().since_watch().as_secs()).unwrap_or(i64::MAX);
        self.metrics.watch_last_event.set(self.clock.local().as_second().saturating_sub(silent));
        self.metrics.reconciles_in_flight.set(gauge(plan.in_flight));
        self.metrics.queue_depth.set(gauge(plan.ready.iter().sum()));
        self.metrics.evidence_inflight_bytes.set(gauge(self.evidence.bytes_in_flight()));
        let notified = self.requested_polls.memory() + self.early_notifications.memory();
        self.metrics.cache_bytes.set(gauge(memory + self.sessions.memory() + plan.memory + notified));
        self.metrics.api_server_clock_skew.set(self.clock.server_skew().as_secs());
        for portal in self.portal.allowed().iter() {
            if let Some(skew) = self.clock.portal_skew(portal.as_str()) {
                self.metrics.portal_clock_skew(portal.host(), skew.as_secs());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_and_reasons_are_counted_under_their_own_numbers() {
        assert_eq!(Phase::ALL.map(|phase| phase as usize), std::array::from_fn(|number| number));
        assert_eq!(Closed::ALL.map(|closed| closed as usize), std::array::from_fn(|number| number));
    }
}
