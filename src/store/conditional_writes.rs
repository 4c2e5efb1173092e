//! Whether a store refuses to overwrite when it is asked to: found out once for each store, namespace and process.
//!
//! A store that does not know conditional writes says so, or passes over the condition without a word and overwrites. The
//! second kind is found out by putting the first object that was stored a second time, and a
//! third time if that is taken: one of them must be refused.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

/// A store that overwrote is asked again after this: it may be another version by then.
const AGAIN: Duration = Duration::from_mins(10);
/// Most stores that are remembered; with more they are asked again.
const MOST: usize = 4096;

/// What is known of stores, by whatever tells one from others.
#[derive(Debug, Default)]
pub(crate) struct ConditionalWrites {
    found: Mutex<HashMap<String, Support>>,
}

#[derive(Clone, Copy, Debug)]
enum Support {
    OnTrial,
    Supported,
    Unsupported(Instant),
}

/// The trial that finds out whether a store supports conditional writes. If it is dropped without a result, the next object
/// starts another one.
pub(crate) struct Trial<'a> {
    conditional_writes: &'a ConditionalWrites,
    store: &'a str,
}

impl ConditionalWrites {
    /// Whether that store is known to overwrite.
    pub(crate) fn are_unsupported(&self, store: &str) -> bool {
        match self.found.lock().get(store) {
            Some(Support::Unsupported(at)) => at.elapsed() < AGAIN,
            Some(Support::OnTrial | Support::Supported) | None => false,
        }
    }

    /// Leave to ask that store, if nobody has and nobody does.
    pub(crate) fn ask<'a>(&'a self, store: &'a str) -> Option<Trial<'a>> {
        let mut found = self.found.lock();
        match found.get(store) {
            Some(Support::OnTrial | Support::Supported) => return None,
            Some(Support::Unsupported(_)) | None => {}
        }
        if found.len() >= MOST {
            found.clear();
        }
        found.insert(store.to_owned(), Support::OnTrial);
        Some(Trial { conditional_writes: self, store })
    }
}

impl Trial<'_> {
    /// It refused to overwrite.
    pub(crate) fn succeeded(self) {
        self.conditional_writes.found.lock().insert(self.store.to_owned(), Support::Supported);
    }

    /// It overwrote.
    pub(crate) fn failed(self) {
        self.conditional_writes
            .found
            .lock()
            .insert(self.store.to_owned(), Support::Unsupported(Instant::now()));
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        let mut found = self.conditional_writes.found.lock();
        if matches!(found.get(self.store), Some(Support::OnTrial)) {
            found.remove(self.store);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_store_is_asked_once_and_again_where_no_answer_came_or_it_overwrote() {
        let conditional_writes = ConditionalWrites::default();
        let trial = conditional_writes.ask("one").unwrap();
        assert!(conditional_writes.ask("one").is_none() && conditional_writes.ask("other").is_some());
        drop(trial);
        conditional_writes.ask("one").unwrap().succeeded();
        assert!(conditional_writes.ask("one").is_none() && !conditional_writes.are_unsupported("one"));

        conditional_writes.ask("two").unwrap().failed();
        assert!(conditional_writes.are_unsupported("two"));
        tokio::time::advance(AGAIN).await;
        assert!(!conditional_writes.are_unsupported("two"), "it may know them by now");
        conditional_writes.ask("two").unwrap().succeeded();
    }
}
