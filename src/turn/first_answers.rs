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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        portal::{AllowedPortals, ApiKey, Failed},
        watch::Table,
    };

    fn slot(table: &mut Table<()>, name: &str) -> Slot {
        let meta = kube::core::ObjectMeta {
            name: Some(name.to_owned()),
            uid: Some(name.to_owned()),
            ..kube::core::ObjectMeta::default()
        };
        table.seen(&meta, |_| ()).slot()
    }

    #[test]
    fn an_answer_that_accepts_the_key_wakes_those_who_wait_for_that_key_once() {
        let allowed = AllowedPortals::new(&["https://portal.test".to_owned()], false).unwrap();
        let portal = allowed.iter().next().unwrap();
        let key = |text: &str| ApiKey::parse(text.as_bytes()).unwrap().identity();
        let lane = FairnessKey::of_namespace("kyc");
        let (waiters, mut table) = (FirstAnswers::default(), Table::new());
        let slots = ["a", "b", "c"].map(|name| slot(&mut table, name));
        waiters.join(portal, key("one"), slots[0], lane);
        waiters.join(portal, key("one"), slots[1], lane);
        waiters.join(portal, key("one"), slots[1], lane);
        waiters.join(portal, key("two"), slots[2], lane);
        let silence = || Err::<(), _>(Trouble::Failed(Failed::TimedOut));
        assert!(waiters.woken_by(portal, key("one"), &silence()).is_empty());
        assert!(waiters.woken_by(portal, key("one"), &Err::<(), _>(Trouble::KeyRejected)).is_empty());
        assert_eq!(waiters.woken_by(portal, key("one"), &Ok(())).len(), 2);
        assert!(waiters.woken_by(portal, key("one"), &Ok(())).is_empty());
        assert!(waiters.woken_by(portal, key("two"), &Ok(())).contains_key(&slots[2]));
    }
}
