//! Removes objects from one store: some by their keys, or all in a folder.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::timeout;

use super::{
    super::{
        classify::RequestError,
        error::StoreError,
        no_response::NoResponse,
        object::{Cleared, Remainder, Removal},
        path::{Folder, ObjectKey},
        request::MAX_KEYS,
    },
    Store,
};

/// Listings of one folder in one [`Store::clear`]; each has at most 64 keys.
const LISTINGS: usize = 8;
/// How many objects of one folder are removed at the same time.
const DELETES_AT_ONCE: usize = 4;

impl Store {
    /// Removes objects: first the manifest, which says that the evidence is complete, then the others, a few at a time. An
    /// object that does not exist counts as removed. Returns the results in the order of the keys, the manifest first.
    ///
    /// # Errors
    ///
    /// [`StoreError`] for the first object whose removal fails. Others may have been removed; the call may be repeated.
    pub async fn delete(
        &self,
        folder: &Folder,
        keys: &[ObjectKey],
    ) -> Result<Vec<(ObjectKey, Removal)>, StoreError> {
        self.delete_tracked(folder, keys, &AtomicBool::new(false)).await
    }

    /// As [`delete`](Self::delete); notes whether the store responded.
    async fn delete_tracked(
        &self,
        folder: &Folder,
        keys: &[ObjectKey],
        has_responded: &AtomicBool,
    ) -> Result<Vec<(ObjectKey, Removal)>, StoreError> {
        let delete = async |key: ObjectKey| {
            let removal = self.delete_with_retries(folder, &key).await?;
            has_responded.store(true, Ordering::Relaxed);
            Ok::<_, StoreError>((key, removal))
        };
        let manifest = ObjectKey::manifest();
        let (first, others): (Vec<_>, Vec<_>) = keys.iter().cloned().partition(|key| *key == manifest);
        let mut removals = Vec::with_capacity(keys.len());
        for key in first {
            removals.push(delete(key).await?);
        }
        let others: Vec<_> = stream::iter(others).map(delete).buffered(DELETES_AT_ONCE).try_collect().await?;
        removals.extend(others);
        Ok(removals)
    }

    /// Removes every object of the operator in a folder: first those that are `known`, so that their removal does not depend
    /// on a listing, then those that the store lists, each time the manifest first. Continues if the store retains an object.
    ///
    /// # Errors
    ///
    /// [`StoreError`], as of [`keys`](Self::keys) and [`delete`](Self::delete). The call may be repeated.
    pub async fn clear(&self, folder: &Folder, known: &[ObjectKey]) -> Result<Cleared, StoreError> {
        self.clear_tracked(folder, known, &AtomicBool::new(false)).await
    }

    /// As [`clear`](Self::clear), within a time limit. If the store responded at first and then no longer, the objects that are
    /// left are reported as listed; they are removed later.
    ///
    /// # Errors
    ///
    /// As of [`clear`](Self::clear); [`NoResponse::TimedOut`] if the store did not respond at all.
    pub async fn clear_within(
        &self,
        folder: &Folder,
        known: &[ObjectKey],
        longest: Duration,
    ) -> Result<Cleared, StoreError> {
        let has_responded = AtomicBool::new(false);
        let cleared = timeout(longest, self.clear_tracked(folder, known, &has_responded)).await;
        match cleared.unwrap_or(Err(NoResponse::TimedOut.into())) {
            Err(error) if error.is_unresponsive() && has_responded.load(Ordering::Relaxed) => {
                Ok(Cleared { remainder: Remainder::Listed, ..Cleared::default() })
            }
            cleared => cleared,
        }
    }

    async fn clear_tracked(
        &self,
        folder: &Folder,
        known: &[ObjectKey],
        has_responded: &AtomicBool,
    ) -> Result<Cleared, StoreError> {
        let mut removals: BTreeMap<_, _> =
            self.delete_tracked(folder, known, has_responded).await?.into_iter().collect();
        let mut remainder = Remainder::Listed;
        for _ in 0..LISTINGS {
            let listed = match self.keys(folder).await {
                Ok(listed) => {
                    has_responded.store(true, Ordering::Relaxed);
                    listed
                }
                Err(StoreError::AccessDenied) => {
                    remainder = Remainder::Unlisted;
                    break;
                }
                Err(error) => return Err(error),
            };
            let is_retained = |key: &&ObjectKey| removals.get(*key) == Some(&Removal::Retained);
            let mut keys: Vec<_> = listed.iter().filter(|key| !is_retained(key)).cloned().collect();
            if keys.is_empty() {
                remainder = Remainder::Nothing;
                break;
            }
            // A full listing may end before it.
            let manifest = ObjectKey::manifest();
            if listed.len() == MAX_KEYS && !removals.contains_key(&manifest) && !keys.contains(&manifest) {
                keys.push(manifest);
            }
            removals.extend(self.delete_tracked(folder, &keys, has_responded).await?);
        }
        let with = |result: Removal| {
            removals.iter().filter(|(_, removal)| **removal == result).map(|(key, _)| key.clone()).collect()
        };
        Ok(Cleared { retained: with(Removal::Retained), versioned: with(Removal::Versioned), remainder })
    }

    async fn delete_with_retries(&self, folder: &Folder, key: &ObjectKey) -> Result<Removal, StoreError> {
        let path = self.requests.path(folder, key)?;
        self.with_retries(|| async {
            match self.requests.delete(&path).await {
                Ok(removal) => Ok(removal),
                Err(RequestError::NotFound) => Ok(Removal::Removed),
                Err(RequestError::Failed(StoreError::AccessDenied) | RequestError::AlreadyExists) => {
                    Ok(Removal::Retained)
                }
                Err(error) => Err(error),
            }
        })
        .await
    }
}
