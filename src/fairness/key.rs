//! Whose share something takes. Depends on nothing of this crate.

use std::{
    hash::{BuildHasher, Hash, RandomState},
    sync::LazyLock,
};

/// Whose share something takes. The hashes differ from process to process, so that nobody can choose a name that takes
/// the share of another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct FairnessKey {
    /// The namespace.
    pub namespace: u32,
    /// The part of the namespace: the portal and the Secret with the key.
    pub key: u32,
}

impl FairnessKey {
    /// The share of that `key` in a namespace.
    #[must_use]
    pub(crate) fn new(namespace: &str, key: &impl Hash) -> Self {
        Self { namespace: hash(namespace), key: hash(key) }
    }

    /// The share of a namespace as a whole.
    #[must_use]
    pub(crate) fn of_namespace(namespace: &str) -> Self {
        Self { namespace: hash(namespace), key: 0 }
    }
}

fn hash(value: &(impl Hash + ?Sized)) -> u32 {
    static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    u32::try_from(HASHER.hash_one(value) >> 32).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_a_namespace_belongs_to_the_share_of_that_namespace() {
        let whole = FairnessKey::of_namespace("team-a");
        let keys = ["one", "two"].map(|secret| FairnessKey::new("team-a", &secret));
        assert!(keys.iter().all(|key| key.namespace == whole.namespace));
        assert_ne!(keys[0].key, keys[1].key);
        assert_ne!(FairnessKey::new("team-b", &"one").namespace, whole.namespace);
    }
}
