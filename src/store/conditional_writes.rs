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
pub(crate) struct Conditions {
    found: Mutex<HashMap<String, Finding>>,
}

#[derive(Clone, Copy, Debug)]
enum Finding {
    BeingAsked,
    Kept,
    Ignored(Instant),
}

/// The question whether a store keeps conditions. Another one asks if it is dropped without an answer.
pub(crate) struct Question<'a> {
    conditions: &'a Conditions,
    store: &'a str,
}

impl Conditions {
    /// Whether that store is known to overwrite.
    pub(crate) fn are_ignored(&self, store: &str) -> bool {
        match self.found.lock().get(store) {
            Some(Finding::Ignored(at)) => at.elapsed() < AGAIN,
            Some(Finding::BeingAsked | Finding::Kept) | None => false,
        }
    }

    /// Leave to ask that store, if nobody has and nobody does.
    pub(crate) fn ask<'a>(&'a self, store: &'a str) -> Option<Question<'a>> {
        let mut found = self.found.lock();
        match found.get(store) {
            Some(Finding::BeingAsked | Finding::Kept) => return None,
            Some(Finding::Ignored(_)) | None => {}
        }
        if found.len() >= MOST {
            found.clear();
        }
        found.insert(store.to_owned(), Finding::BeingAsked);
        Some(Question { conditions: self, store })
    }
}

impl Question<'_> {
    /// It refused to overwrite.
    pub(crate) fn are_kept(self) {
        self.conditions.found.lock().insert(self.store.to_owned(), Finding::Kept);
    }

    /// It overwrote.
    pub(crate) fn are_ignored(self) {
        self.conditions.found.lock().insert(self.store.to_owned(), Finding::Ignored(Instant::now()));
    }
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        let mut found = self.conditions.found.lock();
        if matches!(found.get(self.store), Some(Finding::BeingAsked)) {
            found.remove(self.store);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_store_is_asked_once_and_again_where_no_answer_came_or_it_overwrote() {
        let conditions = Conditions::default();
        let question = conditions.ask("one").unwrap();
        assert!(conditions.ask("one").is_none() && conditions.ask("other").is_some());
        drop(question);
        conditions.ask("one").unwrap().are_kept();
        assert!(conditions.ask("one").is_none() && !conditions.are_ignored("one"));

        conditions.ask("two").unwrap().are_ignored();
        assert!(conditions.are_ignored("two"));
        tokio::time::advance(AGAIN).await;
        assert!(!conditions.are_ignored("two"), "it may know them by now");
        conditions.ask("two").unwrap().are_kept();
    }
}
