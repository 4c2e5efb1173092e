//! Which live verification has which session, as far as this process knows: an id that belongs to one of them cannot be
//! the response to the create of another. Ids are unique only per portal. State only.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasher, RandomState},
    num::NonZeroU64,
    sync::Arc,
};

use parking_lot::Mutex;

use crate::{
    index::{ShortUid, Uid},
    portal::VerificationId,
};

/// A session, as a hash that no other process can predict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SessionKey(NonZeroU64);

/// A session that was taken for a resource whose cache entry does not hold it yet. If it is dropped before, as by a
/// panic, the session is released, because nothing else would do it.
#[derive(Debug)]
pub(crate) struct ReservedSession {
    sessions: Arc<Sessions>,
    key: SessionKey,
    is_kept: bool,
}

impl ReservedSession {
    /// The session, for the cache entry.
    pub(crate) fn keep(mut self) -> SessionKey {
        self.is_kept = true;
        self.key
    }
}

impl Drop for ReservedSession {
    fn drop(&mut self) {
        if !self.is_kept {
            self.sessions.forget(self.key);
        }
    }
}

/// The sessions of live verifications: hashes only, so that a hundred thousand fit.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    hasher: RandomState,
    holders: Mutex<HashMap<SessionKey, ShortUid>>,
}

impl Sessions {
    /// Takes a session of the portal with this base URL for the resource with this uid; `None` if another resource has
    /// it.
    pub(crate) fn take(&self, portal: &str, id: &VerificationId, uid: &str) -> Option<SessionKey> {
        let key = self.key(portal, id);
        let holder = Uid::of(uid).short();
        (*self.holders.lock().entry(key).or_insert(holder) == holder).then_some(key)
    }

    /// Takes a session as [`take`](Self::take) does, until it is kept.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        portal: &str,
        id: &VerificationId,
        uid: &str,
    ) -> Option<ReservedSession> {
        let key = self.key(portal, id);
        let holder = Uid::of(uid).short();
        // If the resource already has it, the cache entry releases it.
        let is_kept = match self.holders.lock().entry(key) {
            Entry::Vacant(free) => {
                free.insert(holder);
                false
            }
            Entry::Occupied(taken) if *taken.get() == holder => true,
            Entry::Occupied(_) => return None,
        };
        Some(ReservedSession { sessions: Arc::clone(self), key, is_kept })
    }

    /// Releases a session whose resource is gone or finished.
    pub(crate) fn forget(&self, key: SessionKey) {
        self.holders.lock().remove(&key);
    }

    /// The uid of the resource that has a session.
    pub(crate) fn holder(&self, key: SessionKey) -> Option<ShortUid> {
        self.holders.lock().get(&key).copied()
    }

    /// Bytes in use, approximately.
    pub(crate) fn memory(&self) -> usize {
        self.holders.lock().capacity() * (size_of::<(SessionKey, ShortUid)>() + 1)
    }

    /// The session with this id at the portal with this base URL.
    pub(crate) fn key(&self, portal: &str, id: &VerificationId) -> SessionKey {
        SessionKey(NonZeroU64::new(self.hasher.hash_one((portal, id))).unwrap_or(NonZeroU64::MIN))
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    const PORTAL: &str = "https://verify.test.okid.io";

    #[test]
    fn two_portals_may_give_the_same_id() {
        let sessions = Sessions::default();
        let id = VerificationId::parse("ver_1001").unwrap();
        let one = sessions.take(PORTAL, &id, "one").unwrap();
        let two = sessions.take("https://verify.okid.example", &id, "two").unwrap();
        assert_ne!(one, two);
        sessions.forget(two);
        assert_eq!(sessions.take(PORTAL, &id, "three"), None, "the session still belongs to the first");
    }

    #[test]
    fn a_session_belongs_to_the_first_until_that_one_is_gone() {
        let sessions = Sessions::default();
        let id = VerificationId::parse("ver_1").unwrap();
        let key = sessions.take(PORTAL, &id, "one").unwrap();
        assert_eq!(sessions.take(PORTAL, &id, "one"), Some(key));
        assert_eq!(sessions.take(PORTAL, &id, "two"), None);
        sessions.forget(key);
        assert_eq!(sessions.take(PORTAL, &id, "two"), Some(key));
    }

    #[test]
    fn a_session_whose_reconcile_panics_before_it_is_kept_is_free_again() {
        let sessions = Arc::new(Sessions::default());
        let id = VerificationId::parse("ver_1").unwrap();
        let reserve = |uid| sessions.reserve(PORTAL, &id, uid);
        let panics = catch_unwind(AssertUnwindSafe(|| {
            let _reserved = reserve("one").unwrap();
            panic!("between the create and its record");
        }));
        assert!(panics.is_err() && sessions.holders.lock().is_empty());

        let key = reserve("two").unwrap().keep();
        assert!(reserve("one").is_none(), "it is kept");
        drop(reserve("two").unwrap());
        assert!(reserve("one").is_none(), "it was kept earlier");
        sessions.forget(key);
        assert!(reserve("one").is_some());
    }
}
