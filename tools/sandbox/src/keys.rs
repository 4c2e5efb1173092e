//! The API keys the portal knows.
//!
//! May touch: nothing else.

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

    /// Says whether the key was known.
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

/// What of a key may be shown: its first four characters, of a short key none.
pub(crate) fn shown(key: &str) -> String {
    if key.chars().count() < 8 {
        return "…".to_owned();
    }
    key.chars().take(4).chain(['…']).collect()
}
