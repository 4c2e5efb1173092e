//! Who waits until the portal has given a new key its first answer: they are woken the moment it comes. Touches nothing.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{
    fair::FairnessKey,
    portal::{KeyIdentity, PortalUrl, Trouble},
    watch::Slot,
};

/// Those who wait, by portal and key, each with its fairness key.
#[derive(Debug, Default)]
pub struct FirstAnswers(Mutex<HashMap<(PortalUrl, KeyIdentity), HashMap<Slot, FairnessKey>>>);

impl FirstAnswers {
    /// Joins those who wait. Who does so looks afterwards whether there still is something to wait for.
    pub(super) fn join(&self, portal: &PortalUrl, key: KeyIdentity, slot: Slot, lane: FairnessKey) {
        self.waiting().entry((portal.clone(), key)).or_default().insert(slot, lane);
    }

    /// Those whom an answer ends the wait of. Silence and a refused key end none: those who wait come again by
    /// themselves, one after another.
    pub(super) fn woken_by<T>(
        &self,
        portal: &PortalUrl,
        key: KeyIdentity,
        answer: &Result<T, Trouble>,
    ) -> HashMap<Slot, FairnessKey> {
        let accepts_the_key = match answer {
            Ok(_) | Err(Trouble::Invalid | Trouble::NotFound | Trouble::Conflict) => true,
            Err(
                Trouble::NotSent(_)
                | Trouble::KeyRejected
                | Trouble::AccessDenied
                | Trouble::Redirected
                | Trouble::Unconfigured
                | Trouble::Limited { retry_after: _ }
                | Trouble::Unclear { status: _ }
                | Trouble::Failed(_),
            ) => false,
        };
        let mut waiting = self.waiting();
        if !accepts_the_key || waiting.is_empty() {
            return HashMap::new();
        }
        waiting.remove(&(portal.clone(), key)).unwrap_or_default()
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<(PortalUrl, KeyIdentity), HashMap<Slot, FairnessKey>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
