//! One verification's turn: observe → decide → act → conclude → write.
//!
//! May touch every room. [`take`](Turns::take) is the whole story (and `glance` the short one, of
//! a look that finds nothing new); `act` and `evidence` choose nothing, `status` is the only writer of status, and only this room logs changes at info, counts and emits events, after the write.

mod accounts;
mod act;
mod clock;
mod complaints;
mod crash;
mod events;
mod evidence;
mod first_answers;
mod fresh;
mod glance;
mod key_wait;
mod memory;
mod observe;
mod outages;
mod secrets;
mod sessions;
mod status;
mod take;
mod untold;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kube::{Client, ResourceExt};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    api::Verification,
    fair::FairSemaphore,
    lifecycle::KnownSession,
    metrics::{Metrics, Shut},
    portal::{
        AllowedPortals, PortalClient, PortalUrl,
        budget::{Budgets, Closed},
    },
    watch::{Due, Heard, Newest, Slot, Table},
};

use memory::Waits;

pub use accounts::Accounts;
pub use clock::{Clock, Dated, ServerDates};
pub use complaints::Complaints;
pub use events::{OwnPod, Reporter};
pub use evidence::{Archive, Lanes, STORING_AT_ONCE, STORING_AT_ONCE_OF_ONE, ToldTroubles};
pub use first_answers::FirstAnswers;
pub use fresh::{Fresh, is_small, lean};
pub use memory::{Memory, lane, seed};
pub use outages::Outages;
pub use secrets::Secrets;
pub use sessions::Sessions;
pub use untold::Departed;

/// Most calls about verifications that are under way at the API server at the same time, and of one namespace. More would
/// not go faster, only later: what a small namespace asks for would wait behind what a large one has under way.
pub const SERVER_CALLS: (usize, usize) = (32, 16);

/// A loop without a sign of life for longer than this is stuck.
const STUCK: Duration = Duration::from_mins(1);
/// After this long without an answer of the API server `/readyz` says so.
const CUT_OFF: Duration = Duration::from_mins(1);

/// What every turn works with.
pub struct Turns {
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
    pub table: Mutex<Table<Memory>>,
    /// Who waits for the first answer to a new key.
    pub first_answers: FirstAnswers,
    /// When the API server was last heard of.
    pub heard: Heard,
    /// How far the API server's resourceVersions are known to be.
    pub newest: Newest,
    /// Resources as they came a moment ago.
    pub fresh: Fresh,
    /// Which resource each live session belongs to, as far as this process has seen.
    pub sessions: Sessions,
    /// Who asks which portal.
    pub accounts: Accounts,
    /// What evidence is stored with.
    pub archive: Archive,
    /// Whose turn it is.
    pub due: Due,
    /// What the API server gives no usable answer to.
    pub complaints: Arc<Complaints>,
    /// What is the matter with which portal.
    pub outages: Outages,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Tells what has happened.
    pub reporter: Reporter,
    /// What is still to be told of those that are gone from the watch.
    pub departed: Departed,
    /// Cancelled when the process is to end.
    pub ending: CancellationToken,
}

impl Turns {
    /// The table. A turn that panicked while it held the lock left it whole: every operation on it is complete.
    pub fn table(&self) -> MutexGuard<'_, Table<Memory>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which loop does not go on any more, if one does not; the API server has no say in it.
    #[must_use]
    pub fn stuck(&self) -> Option<&'static str> {
        let is_late = |silent: Option<Duration>| silent.is_some_and(|silent| silent > STUCK);
        if is_late(self.heard.follower_silent_for()) {
            Some("what follows the watch")
        } else if is_late(self.due.silent_for()) {
            Some("what takes the turns")
        } else {
            None
        }
    }

    /// Whether the API server has given no answer for a minute.
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        self.heard.server_silent_for() > CUT_OFF
    }

    /// Brings the gauges up to date.
    pub fn measure(&self) {
        let gauge = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let plan = self.due.snapshot();
        let mut waiting: HashMap<_, usize> = HashMap::new();
        let (live, table) = {
            let table = self.table();
            let mut heap = 0;
            for (_, memory) in table.iter() {
                heap += memory.heap();
                if let Some(Waits { portal, closed, is_told: _ }) = memory.waits {
                    *waiting.entry((usize::from(portal), closed)).or_default() += 1;
                }
            }
            (table.len(), table.memory() + heap)
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
        let silent = i64::try_from(self.heard.watch_silent_for().as_secs()).unwrap_or(i64::MAX);
        self.metrics.watch_silent_since.set(self.clock.local().as_second().saturating_sub(silent));
        self.metrics.turns_under_way.set(gauge(plan.in_flight));
        self.metrics.turns_waiting.set(gauge(plan.ready.iter().sum()));
        self.metrics.evidence_bytes.set(gauge(self.archive.bytes.held()));
        self.metrics.records_bytes.set(gauge(table + self.sessions.memory() + plan.memory));
        self.metrics.api_server_clock_skew.set(self.clock.server_ahead().as_secs());
        for (portal, ahead) in self.clock.portals_ahead() {
            self.metrics.portal_clock_skew(&portal, ahead.as_secs());
        }
    }

    /// What is known of a verification that somebody changed.
    pub fn changed(&self, memory: &Memory, object: &Verification) -> Memory {
        let mut memory = memory.changed(object);
        memory.know(self.known(object));
        memory
    }

    /// The session that the status of a resource tells of.
    fn known(&self, object: &Verification) -> Option<KnownSession> {
        let session = KnownSession::of(object.metadata.uid.as_deref()?, object.status.as_ref()?)?;
        let portal = self.accounts.portal(&session.portal);
        Some(session.at(portal))
    }

    /// Notes what this process wrote; its echo is nothing new, also where it came before the answer to the write.
    fn wrote(&self, slot: Slot, written: &Verification) {
        let Some(version) = written.metadata.resource_version.as_deref() else { return };
        self.newest.reached(version);
        let mut table = self.table();
        let has_echoed = table.is_at(slot, version);
        table.wrote(slot, version, |memory| {
            if has_echoed {
                memory.take_back_a_change();
            }
        });
    }

    /// What is known of a verification that this process sees for the first time, and when its first turn is.
    pub fn first(&self, object: &Verification) -> (Memory, Instant) {
        let (mut memory, at) = Memory::first(object, &self.clock);
        if let Some((portal, id)) = memory::published(object) {
            memory.session = self.sessions.take(portal, &id, &object.uid().unwrap_or_default());
        }
        memory.know(self.known(object));
        (memory, at)
    }
}
