//! Which live verification has which session, as far as this process has seen: an id that belongs to one of them is no
//! answer to another one's create. An id names a session of its portal, so two portals may give the same.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    num::NonZeroU64,
};

use parking_lot::Mutex;

use crate::portal::VerificationId;

/// A session, by a hash that no other process can foresee.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SessionKey(NonZeroU64);

/// The sessions of live verifications: hashes only, so that a hundred thousand fit.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    hasher: RandomState,
    holders: Mutex<HashMap<SessionKey, u64>>,
}

impl Sessions {
    /// Takes a session of the portal with that base URL for the resource of that uid; nothing, if another one has it.
    pub(crate) fn take(&self, portal: &str, id: &VerificationId, uid: &str) -> Option<SessionKey> {
        let key = self.key(portal, id);
        let holder = self.hasher.hash_one(uid);
        (*self.holders.lock().entry(key).or_insert(holder) == holder).then_some(key)
    }

    /// Forgets a session whose resource is gone or over.
    pub(crate) fn forget(&self, key: SessionKey) {
        self.holders.lock().remove(&key);
    }

    /// Bytes in use, approximately.
    pub(crate) fn memory(&self) -> usize {
        self.holders.lock().capacity() * (size_of::<(SessionKey, u64)>() + 1)
    }

    fn key(&self, portal: &str, id: &VerificationId) -> SessionKey {
        SessionKey(NonZeroU64::new(self.hasher.hash_one((portal, id))).unwrap_or(NonZeroU64::MIN))
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(sessions.take(PORTAL, &id, "three"), None, "the first one's is still its own");
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
}
