//! Whether a store supports conditional writes: checked once for each store, namespace and process.
//!
//! A store that does not support them says so, or ignores the condition and overwrites. The second kind is detected by
//! putting the first object a second time, and a third time if that succeeds: one of the two must be refused.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

/// A store that overwrote is checked again after this: it may have been upgraded.
const AGAIN: Duration = Duration::from_mins(10);
/// The most stores that are remembered; beyond that, all are checked again.
const MOST: usize = 4096;

/// Which stores support conditional writes, by store and namespace.
#[derive(Debug, Default)]
pub(crate) struct ConditionalWrites {
    found: Mutex<HashMap<String, Support>>,
}

#[derive(Clone, Copy, Debug)]
enum Support {
    BeingChecked,
    Supported,
    Unsupported(Instant),
}

/// A check whether a store supports conditional writes. If it is dropped without a result, the next object starts another
/// one.
pub(crate) struct SupportCheck<'a> {
    conditional_writes: &'a ConditionalWrites,
    store: &'a str,
}

impl ConditionalWrites {
    /// Whether the store is known to overwrite.
    pub(crate) fn are_unsupported(&self, store: &str) -> bool {
        match self.found.lock().get(store) {
            Some(Support::Unsupported(at)) => at.elapsed() < AGAIN,
            Some(Support::BeingChecked | Support::Supported) | None => false,
        }
    }

    /// Starts a check, unless one is running or has succeeded.
    pub(crate) fn check<'a>(&'a self, store: &'a str) -> Option<SupportCheck<'a>> {
        let mut found = self.found.lock();
        match found.get(store) {
            Some(Support::BeingChecked | Support::Supported) => return None,
            Some(Support::Unsupported(_)) | None => {}
        }
        if found.len() >= MOST {
            found.clear();
        }
        found.insert(store.to_owned(), Support::BeingChecked);
        Some(SupportCheck { conditional_writes: self, store })
    }
}

impl SupportCheck<'_> {
    /// The store refused to overwrite.
    pub(crate) fn succeeded(self) {
        self.conditional_writes.found.lock().insert(self.store.to_owned(), Support::Supported);
    }

    /// The store overwrote.
    pub(crate) fn failed(self) {
        self.conditional_writes
            .found
            .lock()
            .insert(self.store.to_owned(), Support::Unsupported(Instant::now()));
    }
}

impl Drop for SupportCheck<'_> {
    fn drop(&mut self) {
        let mut found = self.conditional_writes.found.lock();
        if matches!(found.get(self.store), Some(Support::BeingChecked)) {
            found.remove(self.store);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_store_is_checked_once_and_again_without_a_result_or_after_it_overwrote() {
        let conditional_writes = ConditionalWrites::default();
        let check = conditional_writes.check("one").unwrap();
        assert!(conditional_writes.check("one").is_none() && conditional_writes.check("other").is_some());
        drop(check);
        conditional_writes.check("one").unwrap().succeeded();
        assert!(conditional_writes.check("one").is_none() && !conditional_writes.are_unsupported("one"));

        conditional_writes.check("two").unwrap().failed();
        assert!(conditional_writes.are_unsupported("two"));
        tokio::time::advance(AGAIN).await;
        assert!(!conditional_writes.are_unsupported("two"), "it may support them by now");
        conditional_writes.check("two").unwrap().succeeded();
    }
}
