//! Who goes next where many share what is scarce: by namespace first, then by key. Knows neither Kubernetes nor the
//! portal.
//!
//! A namespace has one share however many Secrets it names and however many resources it has, because all of them may be
//! one tenant's; inside a namespace each key has one share.

mod queue;
mod semaphore;

use std::{
    hash::{BuildHasher, Hash, RandomState},
    sync::LazyLock,
};

pub use queue::FairQueue;
pub use semaphore::{FairSemaphore, Permit};

/// Whose share something is taken from. Hashes that no other process can foresee, so that nobody can choose a name that
/// shares with another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FairnessKey {
    /// The namespace.
    pub namespace: u32,
    /// What parts those of one namespace: the portal and the Secret with the key.
    pub key: u32,
}

impl FairnessKey {
    /// The share of a namespace and, inside of it, of those with that `key`.
    #[must_use]
    pub fn new(namespace: &str, key: &impl Hash) -> Self {
        Self { namespace: hash(namespace), key: hash(key) }
    }

    /// The share of a namespace, where nothing parts those who are in it.
    #[must_use]
    pub fn of_namespace(namespace: &str) -> Self {
        Self { namespace: hash(namespace), key: 0 }
    }
}

fn hash(value: &(impl Hash + ?Sized)) -> u32 {
    static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    u32::try_from(HASHER.hash_one(value) >> 32).unwrap_or_default()
}
