//! Updates the cache entries: when a verification is first seen, when it has changed, and after a write. May depend on
//! `reconciler` and `cache_entry`, and on `index`.

use std::sync::atomic::Ordering;

use kube::ResourceExt;
use tokio::time::Instant;

use super::{
    cache_entry::{CacheEntry, published},
    reconciler::Reconciler,
};
use crate::{api::Verification, index::RecordId, lifecycle::KnownSession};

impl Reconciler {
    /// The entry of a verification that another client changed.
    pub(super) fn changed(&self, entry: &CacheEntry, object: &Verification) -> CacheEntry {
        let mut entry = entry.changed(object);
        entry.know(self.known(object));
        entry
    }

    /// The session in a resource's status.
    pub(super) fn known(&self, object: &Verification) -> Option<KnownSession> {
        let session = KnownSession::of(object.metadata.uid.as_deref()?, object.status.as_ref()?)?;
        let portal = self.accounts.portal(&session.portal);
        Some(session.at(portal))
    }

    /// Notes a write of this process. Its echo from the watch is not a change, even if it arrives before the response.
    pub(super) fn wrote(&self, record_id: RecordId, written: &Verification) {
        let Some(version) = written.metadata.resource_version.as_deref() else { return };
        self.cluster.newest_version().observed(version);
        let mut index = self.index();
        let has_echoed = index.is_current(record_id, version);
        index.wrote(record_id, version, |entry| {
            entry.show(written);
            if has_echoed {
                entry.uncount_change();
            }
        });
    }

    /// The entry of a verification that this process sees for the first time, and when it is reconciled first.
    pub(super) fn first(&self, object: &Verification) -> (CacheEntry, Instant) {
        let (mut entry, at) = CacheEntry::first(object, &self.clock);
        if let Some((portal, id)) = published(object) {
            entry.session = self.sessions.take(portal, &id, &object.uid().unwrap_or_default());
        }
        entry.know(self.known(object));
        (entry, at)
    }

    /// The entry of a verification that is new or has changed while this replica is a standby.
    pub(super) fn standby_entry(&self, known: Option<&CacheEntry>, object: &Verification) -> CacheEntry {
        let mut entry = CacheEntry::of_standby(known, object, &self.clock);
        if let Some((portal, id)) = published(object) {
            entry.session = self.sessions.take(portal, &id, &object.uid().unwrap_or_default());
        }
        entry.know(self.known(object));
        entry
    }

    /// Begins to schedule reconciles: those of all verifications that are known, and from now on of what is noted.
    /// Nothing is reconciled before [`run`](Self::run).
    pub(crate) fn lead(&self) {
        self.metrics.leader.set(1);
        self.metrics.leader_transitions.inc();
        let begun: Vec<_> = {
            let mut index = self.index();
            self.is_standby.store(false, Ordering::Relaxed);
            let known: Vec<_> = index.iter().map(|(record_id, _)| record_id).collect();
            let begin = |record_id| {
                let uid = index.view(record_id)?.uid;
                let entry = index.get_mut(record_id)?;
                let at = entry.begin(uid, &self.clock);
                Some((record_id, at, entry.first_priority(), entry.fairness_key))
            };
            known.into_iter().filter_map(begin).collect()
        };
        for (record_id, at, priority, fairness_key) in begun {
            self.queue.schedule_by(record_id, at, priority, fairness_key);
        }
    }
}
