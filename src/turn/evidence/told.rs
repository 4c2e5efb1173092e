//! What a store complains of, told in the log once for each change: a wrong bucket, region or key shows in status as
//! `StoreUnavailable` alone.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use kube::ResourceExt;

use crate::{api::Verification, evidence::StoreTrouble};

use super::{Archive, NotNow, place::Place};

/// Most stores whose trouble is remembered; with more it is told again.
const MOST: usize = 1024;

/// The last trouble of each store with each namespace.
#[derive(Debug, Default)]
pub struct ToldTroubles {
    last: Mutex<HashMap<(String, String), StoreTrouble>>,
}

impl ToldTroubles {
    /// Whether that trouble is another one than before; none forgets it.
    fn is_new(&self, namespace: &str, store: &str, trouble: Option<StoreTrouble>) -> bool {
        // Every change under the lock is complete before it can panic.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let store = (namespace.to_owned(), store.to_owned());
        let Some(trouble) = trouble else {
            last.remove(&store);
            return false;
        };
        if last.len() >= MOST && !last.contains_key(&store) {
            last.clear();
        }
        last.insert(store, trouble) != Some(trouble)
    }
}

impl Archive {
    /// Tells what the store complains of, if that is new. Names neither the store nor anything that it said.
    pub(super) fn tell(&self, object: &Verification, place: &Place, end: &Result<(), NotNow>) {
        let trouble = match end {
            Ok(()) => None,
            Err(NotNow::Store(trouble)) => Some(*trouble),
            Err(NotNow::Conflict(_)) => Some(StoreTrouble::Conflict),
            Err(
                NotNow::Later(_)
                | NotNow::AskAgainAt(_)
                | NotNow::Changed
                | NotNow::Destination(_)
                | NotNow::Trouble(_),
            ) => return,
        };
        self.tell_once(object, place, "evidence is not stored", trouble);
    }

    /// Tells what keeps evidence from being removed, if that is new.
    pub(super) fn tell_removal(&self, object: &Verification, place: &Place, trouble: Option<StoreTrouble>) {
        self.tell_once(object, place, "evidence is not removed", trouble);
    }

    fn tell_once(
        &self,
        object: &Verification,
        place: &Place,
        what: &'static str,
        trouble: Option<StoreTrouble>,
    ) {
        let namespace = object.namespace().unwrap_or_default();
        let about = format!("{} {what}", place.store.location());
        let is_new = self.told.is_new(&namespace, &about, trouble);
        if let Some(trouble) = trouble.filter(|_| is_new) {
            tracing::warn!(namespace, name = object.name_any(), trouble = %trouble, "{what}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_trouble_is_told_once_until_it_is_another_or_was_gone() {
        let told = ToldTroubles::default();
        let is_new = |namespace, trouble| told.is_new(namespace, "s3://evidence", trouble);
        let (missing, region) = (StoreTrouble::BucketMissing, StoreTrouble::Misconfigured("region"));
        assert!(is_new("a", Some(missing)));
        assert!(!is_new("a", Some(missing)));
        assert!(is_new("b", Some(missing)), "others are told for themselves");
        assert!(is_new("a", Some(region)));
        assert!(!is_new("a", None));
        assert!(is_new("a", Some(region)));
    }
}
