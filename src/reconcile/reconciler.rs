//! The reconciler: what every step needs. May depend on the state files of this module; the files with steps depend on
//! it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

use super::{
    accounts::Accounts, announcements::Announcements, cache_entry::CacheEntry,
    early_notifications::EarlyNotifications, first_responses::FirstResponses, probe_slots::ProbeSlots,
    recent::RecentObjects, requested_polls::RequestedPolls, sessions::Sessions, unreported::DepartedReports,
};
use crate::{
    clock::Clock, cluster::Cluster, evidence::Evidence, index::Index, leader::Leadership, metrics::Metrics,
    portal::Portal, workqueue::WorkQueue,
};

/// A loop without a heartbeat for longer than this is stuck.
const STUCK: Duration = Duration::from_mins(1);
/// If the API server does not respond for this long, `/readyz` says so.
const CUT_OFF: Duration = Duration::from_mins(1);

/// What the reconciler calls and measures with.
pub(crate) struct Clients {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) portal: Arc<Portal>,
    pub(crate) evidence: Evidence,
    pub(crate) clock: Clock,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) leadership: Leadership,
}

/// Reconciles verifications.
pub(crate) struct Reconciler {
    pub(super) cluster: Arc<Cluster>,
    pub(super) portal: Arc<Portal>,
    pub(super) evidence: Evidence,
    pub(super) clock: Clock,
    pub(super) metrics: Arc<Metrics>,
    /// Whether this replica may reconcile, claim and create at this moment.
    pub(super) leadership: Leadership,
    /// Whether what is noted is not scheduled, because this replica does not lead yet. Changed under the index's lock.
    pub(super) is_standby: AtomicBool,
    /// The live verifications.
    index: Mutex<Index<CacheEntry>>,
    pub(super) queue: WorkQueue,
    /// Resources that were just read, watched or written.
    pub(super) recent: RecentObjects,
    /// The sessions of live verifications.
    pub(super) sessions: Arc<Sessions>,
    pub(super) accounts: Accounts,
    /// Verifications that wait for the first response to a new key.
    pub(super) first_responses: FirstResponses,
    /// What notifications announce.
    pub(super) announcements: Announcements,
    /// Polls that notifications request.
    pub(super) requested_polls: RequestedPolls,
    /// Notifications about sessions that no live verification has yet.
    pub(super) early_notifications: EarlyNotifications,
    /// Which verification probes when, while creates wait for a portal.
    pub(super) probe_slots: ProbeSlots,
    /// Reports about verifications that left the watch.
    pub(super) departed: DepartedReports,
    /// The name of this process in the holders of its claims.
    process: String,
    /// The number of the next holder.
    next_holder: AtomicU64,
    /// Cancelled when the process shuts down.
    pub(super) shutdown: CancellationToken,
}

impl Reconciler {
    /// Signs its claims with the name of this process, and ends with this shutdown. A standby until it
    /// [leads](Self::lead).
    pub(crate) fn new(
        clients: Clients,
        queue: WorkQueue,
        process: String,
        shutdown: CancellationToken,
    ) -> Self {
        let Clients { cluster, portal, evidence, clock, metrics, leadership } = clients;
        let requested_polls = RequestedPolls::new(portal.spacing());
        Self {
            cluster,
            portal,
            evidence,
            clock,
            metrics,
            leadership,
            is_standby: AtomicBool::new(true),
            index: Mutex::new(Index::new()),
            queue,
            recent: RecentObjects::default(),
            sessions: Arc::default(),
            accounts: Accounts::default(),
            first_responses: FirstResponses::default(),
            announcements: Announcements::default(),
            requested_polls,
            early_notifications: EarlyNotifications::default(),
            probe_slots: ProbeSlots::default(),
            departed: DepartedReports::default(),
            process,
            next_holder: AtomicU64::new(0),
            shutdown,
        }
    }

    /// A name for the claim of one reconcile, which no other reconcile has. A resource that leaves the watch and comes back
    /// is reconciled beside the reconcile that began before, and both may claim the same attempt.
    pub(super) fn new_holder(&self) -> String {
        format!("{}/{}", self.process, self.next_holder.fetch_add(1, Ordering::Relaxed))
    }

    /// The index, locked.
    pub(super) fn index(&self) -> MutexGuard<'_, Index<CacheEntry>> {
        self.index.lock()
    }

    /// Whether this replica leads at this moment.
    pub(crate) fn leads(&self) -> bool {
        !self.is_standby() && self.leadership.is_current()
    }

    /// Whether this replica does not lead yet.
    pub(super) fn is_standby(&self) -> bool {
        self.is_standby.load(Ordering::Relaxed)
    }

    /// Compares the state of the API server with what is known, which a standby does not do.
    pub(crate) fn check_for_rollback(&self) {
        self.cluster.newest_version().suspect_rollback();
    }

    /// The loop that is stuck, if one is. An API server that does not respond makes none stuck.
    pub(crate) fn stuck(&self) -> Option<&'static str> {
        let is_late = |silent: Option<Duration>| silent.is_some_and(|silent| silent > STUCK);
        if is_late(self.cluster.last_contact().since_follower()) {
            Some("the watch")
        } else if is_late(self.queue.since_heartbeat()) {
            Some("the work queue")
        } else {
            None
        }
    }

    /// Whether the API server has not responded for a minute.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.cluster.last_contact().since_server() > CUT_OFF
    }
}
