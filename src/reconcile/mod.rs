//! One verification's turn: observe → decide → act → conclude → write.
//!
//! May touch every room. [`take`](Reconciler::take) is the whole story (and `fast_path` the short one, of
//! a look that finds nothing new); `act` and `evidence` choose nothing, `status` is the only writer of status, and only this room logs changes at info, counts and emits events, after the write.

mod accounts;
mod cache_entry;
mod create;
mod driver;
mod fast_path;
mod first_responses;
mod follow;
mod key_wait;
mod observe;
mod portal_failures;
mod recent;
mod sessions;
mod unreported;

use std::{collections::HashMap, sync::Arc, time::Duration};

use kube::{Client, ResourceExt};
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    api::Verification,
    clock::Clock,
    cluster::{FailureLog, LastContact, NewestVersion, Reporter, Secrets},
    evidence::EvidenceContext,
    fairness::FairSemaphore,
    index::{Index, RecordId},
    lifecycle::KnownSession,
    metrics::{Metrics, Shut},
    portal::{
        AllowedPortals, PortalClient, PortalUrl,
        budget::{Budgets, Closed},
    },
    workqueue::WorkQueue,
};
use cache_entry::PortalWait;

pub use accounts::Accounts;
pub use cache_entry::{CacheEntry, fairness_key, jitter_seed};
pub use first_responses::FirstResponses;
pub(crate) use follow::follow;
pub(crate) use observe::Observed;
pub use portal_failures::PortalFailureLog;
pub(crate) use portal_failures::polls_of;
pub use recent::{RecentObjects, is_small, lean};
pub use sessions::Sessions;
pub use unreported::DepartedReports;

/// Most calls about verifications that are under way at the API server at the same time, and of one namespace. More would
/// not go faster, only later: what a small namespace asks for would wait behind what a large one has under way.
pub const SERVER_CALLS: (usize, usize) = (32, 16);

/// A loop without a sign of life for longer than this is stuck.
const STUCK: Duration = Duration::from_mins(1);
/// After this long without an answer of the API server `/readyz` says so.
const CUT_OFF: Duration = Duration::from_mins(1);

/// What every turn works with.
pub struct Reconciler {
    /// The API server.
    pub client: Client,
    /// Permits for calls about verifications at the API server: [`SERVER_CALLS`].
    pub server_calls: Arc<FairSemaphore>,
    /// API keys, read at use.
    pub secrets: Secrets,
    /// okID over HTTP.
    pub portal: PortalClient,
    /// How much each portal and key may be asked.
    pub budgets: Budgets,
    /// Portals that may be asked.
    pub allowed: AllowedPortals,
    /// The portal of a resource that names none.
    pub default_portal: PortalUrl,
    /// Path of the person's link at a portal.
    pub link_path: String,
    /// This process, as it signs its claims.
    pub holder: String,
    /// The API server's time, and that of each portal.
    pub clock: Clock,
    /// Who is alive.
    pub index: Mutex<Index<CacheEntry>>,
    /// Who waits for the first answer to a new key.
    pub first_responses: FirstResponses,
    /// When the API server was last heard of.
    pub last_contact: LastContact,
    /// How far the API server's resourceVersions are known to be.
    pub newest: NewestVersion,
    /// Resources as they came a moment ago.
    pub recent: RecentObjects,
    /// Which resource each live session belongs to, as far as this process has seen.
    pub sessions: Sessions,
    /// Who asks which portal.
    pub accounts: Accounts,
    /// What evidence is stored with.
    pub evidence: EvidenceContext,
    /// Whose turn it is.
    pub queue: WorkQueue,
    /// What the API server gives no usable answer to.
    pub failures: Arc<FailureLog>,
    /// What is the matter with which portal.
    pub portal_failures: PortalFailureLog,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Tells what has happened.
    pub reporter: Reporter,
    /// What is still to be told of those that are gone from the watch.
    pub departed: DepartedReports,
    /// Cancelled when the process is to end.
    pub ending: CancellationToken,
}

impl Reconciler {
    /// The index, locked.
    pub fn index(&self) -> MutexGuard<'_, Index<CacheEntry>> {
        self.index.lock()
    }

    /// Which loop does not go on any more, if one does not; the API server has no say in it.
    #[must_use]
    pub fn stuck(&self) -> Option<&'static str> {
        let is_late = |silent: Option<Duration>| silent.is_some_and(|silent| silent > STUCK);
        if is_late(self.last_contact.follower_silent_for()) {
            Some("what follows the watch")
        } else if is_late(self.queue.silent_for()) {
            Some("what takes the turns")
        } else {
            None
        }
    }

    /// Whether the API server has given no answer for a minute.
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        self.last_contact.server_silent_for() > CUT_OFF
    }

    /// Brings the gauges up to date.
    pub fn measure(&self) {
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
        let left = self.budgets.closed(Instant::now());
        let gates = self.allowed.iter().enumerate().flat_map(|(number, portal)| {
            let (left, waiting) = (&left, &waiting);
            Closed::SHOWN.into_iter().map(move |closed| {
                let left = left.get(&(portal.clone(), closed)).copied();
                let waiting = waiting.get(&(number, closed)).copied().unwrap_or_default();
                (portal, closed, Shut { left, waiting })
            })
        });
        self.metrics.closed(gates);
        self.metrics.live.set(gauge(live));
        let silent = i64::try_from(self.last_contact.watch_silent_for().as_secs()).unwrap_or(i64::MAX);
        self.metrics.watch_silent_since.set(self.clock.local().as_second().saturating_sub(silent));
        self.metrics.turns_under_way.set(gauge(plan.in_flight));
        self.metrics.turns_waiting.set(gauge(plan.ready.iter().sum()));
        self.metrics.evidence_bytes.set(gauge(self.evidence.bytes.held()));
        self.metrics.records_bytes.set(gauge(index + self.sessions.memory() + plan.memory));
        self.metrics.api_server_clock_skew.set(self.clock.server_ahead().as_secs());
        for (portal, ahead) in self.clock.portals_ahead() {
            self.metrics.portal_clock_skew(&portal, ahead.as_secs());
        }
    }

    /// What is known of a verification that somebody changed.
    pub fn changed(&self, entry: &CacheEntry, object: &Verification) -> CacheEntry {
        let mut entry = entry.changed(object);
        entry.know(self.known(object));
        entry
    }

    /// The session that the status of a resource tells of.
    fn known(&self, object: &Verification) -> Option<KnownSession> {
        let session = KnownSession::of(object.metadata.uid.as_deref()?, object.status.as_ref()?)?;
        let portal = self.accounts.portal(&session.portal);
        Some(session.at(portal))
    }

    /// Notes what this process wrote; its echo is nothing new, also where it came before the answer to the write.
    fn wrote(&self, record_id: RecordId, written: &Verification) {
        let Some(version) = written.metadata.resource_version.as_deref() else { return };
        self.newest.reached(version);
        let mut index = self.index();
        let has_echoed = index.is_at(record_id, version);
        index.wrote(record_id, version, |entry| {
            if has_echoed {
                entry.take_back_a_change();
            }
        });
    }

    /// What is known of a verification that this process sees for the first time, and when its first turn is.
    pub fn first(&self, object: &Verification) -> (CacheEntry, Instant) {
        let (mut entry, at) = CacheEntry::first(object, &self.clock);
        if let Some((portal, id)) = cache_entry::published(object) {
            entry.session = self.sessions.take(portal, &id, &object.uid().unwrap_or_default());
        }
        entry.know(self.known(object));
        (entry, at)
    }
}
