//! The API keys that the portal knows. May depend on nothing of this crate.

use std::sync::Arc;

use parking_lot::Mutex;

/// The known keys, in the order they were added.
#[derive(Debug, Default)]
pub(crate) struct Keys(Mutex<Vec<Arc<str>>>);

impl Keys {
    pub(crate) fn add(&self, key: &str) {
        let mut keys = self.0.lock();
        if !keys.iter().any(|known| **known == *key) {
            keys.push(key.into());
        }
    }

    /// Returns whether the key was known.
    pub(crate) fn remove(&self, key: &str) -> bool {
        let mut keys = self.0.lock();
        let before = keys.len();
        keys.retain(|known| **known != *key);
        keys.len() < before
    }

    pub(crate) fn find(&self, key: &str) -> Option<Arc<str>> {
        self.0.lock().iter().find(|known| ***known == *key).cloned()
    }

    pub(crate) fn first(&self) -> Option<Arc<str>> {
        self.0.lock().first().cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<str>> {
        self.0.lock().clone()
    }
}

/// The part of a key that may be shown: its first four characters, or none of a short key.
pub(crate) fn shown(key: &str) -> String {
    if key.chars().count() < 8 {
        return "…".to_owned();
    }
    key.chars().take(4).chain(['…']).collect()
}
