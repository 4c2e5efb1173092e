//! One verification's turn: observe → decide → act → conclude → write.
//!
//! May touch every room. [`take`](Turns::take) is the whole story; `act` chooses nothing, `status` is the only writer,
//! and only this room logs changes at info, counts and emits events, after the write.

mod act;
mod clock;
mod crash;
mod events;
mod memory;
mod observe;
mod secrets;
mod status;
mod take;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kube::{Client, ResourceExt};

use crate::{
    api::Verification,
    metrics::Metrics,
    portal::{AllowedPortals, PortalClient, PortalUrl, VerificationId, budget::Budgets},
    watch::{Due, Table},
};

pub use clock::Clock;
pub use events::Reporter;
pub use memory::{Memory, lane, seed};
pub use secrets::Secrets;

/// What every turn works with.
pub struct Turns {
    /// The API server.
    pub client: Client,
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
    /// The local clock, immune to jumps after the start.
    pub clock: Clock,
    /// Who is alive.
    pub table: Mutex<Table<Memory>>,
    /// Which resource each live session belongs to, as far as this process has seen.
    pub sessions: Mutex<HashMap<VerificationId, Box<str>>>,
    /// Whose turn it is.
    pub due: Due,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Tells what has happened.
    pub reporter: Reporter,
}

impl Turns {
    /// The table. A turn that panicked while it held the lock left it whole: every operation on it is complete.
    pub fn table(&self) -> MutexGuard<'_, Table<Memory>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sessions by the resource that publishes them.
    pub(super) fn sessions(&self) -> MutexGuard<'_, HashMap<VerificationId, Box<str>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes whose session a published id is.
    pub fn note_session(&self, object: &Verification) {
        let id = object.status.as_ref().and_then(|status| status.verification_id.as_deref());
        if let (Some(Ok(id)), Some(uid)) = (id.map(VerificationId::parse), object.uid()) {
            self.sessions().entry(id).or_insert_with(|| uid.into());
        }
    }
}
