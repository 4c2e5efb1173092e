//! Removes objects of one store: some by their keys, or all in a folder.

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
/// Objects of one folder that are removed at the same time.
const DELETES_AT_ONCE: usize = 4;

impl Store {
    /// Removes objects, the manifest first: it says that the others are all there. Then a few at a time. What is not there
    /// counts as removed. Answers in the order of the keys, the manifest first.
    ///
    /// # Errors
    ///
    /// [`StoreError`] for the first object that can be neither removed nor is to stay. Others may be gone; it may be
    /// repeated.
    pub async fn delete(
        &self,
        folder: &Folder,
        keys: &[ObjectKey],
    ) -> Result<Vec<(ObjectKey, Removal)>, StoreError> {
        self.delete_tracked(folder, keys, &AtomicBool::new(false)).await
    }

    /// As [`delete`](Self::delete); notes that the store answered.
    async fn delete_tracked(
        &self,
        folder: &Folder,
        keys: &[ObjectKey],
        has_answered: &AtomicBool,
    ) -> Result<Vec<(ObjectKey, Removal)>, StoreError> {
        let delete = async |key: ObjectKey| {
            let removal = self.delete_with_retries(folder, &key).await?;
            has_answered.store(true, Ordering::Relaxed);
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

    /// Removes every object of ours in a folder: first what is `known` to be there, so that nothing of that
    /// depends on a listing, then what the store lists, each time the manifest first. Goes on where the store keeps
    /// something.
    ///
    /// # Errors
    ///
    /// [`StoreError`], as of [`keys`](Self::keys) and [`delete`](Self::delete). It may be repeated.
    pub async fn clear(&self, folder: &Folder, known: &[ObjectKey]) -> Result<Cleared, StoreError> {
        self.clear_tracked(folder, known, &AtomicBool::new(false)).await
    }

    /// As [`clear`](Self::clear), for no longer than that. A store that responded at first counts as
    /// one that responds: what is left is removed later.
    ///
    /// # Errors
    ///
    /// As of [`clear`](Self::clear); [`NoResponse::TimedOut`] where nothing at all was answered.
    pub async fn clear_within(
        &self,
        folder: &Folder,
        known: &[ObjectKey],
        longest: Duration,
    ) -> Result<Cleared, StoreError> {
        let has_answered = AtomicBool::new(false);
        let cleared = timeout(longest, self.clear_tracked(folder, known, &has_answered)).await;
        match cleared.unwrap_or(Err(NoResponse::TimedOut.into())) {
            Err(error) if error.is_silence() && has_answered.load(Ordering::Relaxed) => {
                Ok(Cleared { remainder: Remainder::Listed, ..Cleared::default() })
            }
            cleared => cleared,
        }
    }

    async fn clear_tracked(
        &self,
        folder: &Folder,
        known: &[ObjectKey],
        has_answered: &AtomicBool,
    ) -> Result<Cleared, StoreError> {
        let mut ends: BTreeMap<_, _> =
            self.delete_tracked(folder, known, has_answered).await?.into_iter().collect();
        let mut remainder = Remainder::Listed;
        for _ in 0..LISTINGS {
            let listed = match self.keys(folder).await {
                Ok(listed) => {
                    has_answered.store(true, Ordering::Relaxed);
                    listed
                }
                Err(StoreError::AccessDenied) => {
                    remainder = Remainder::Unlisted;
                    break;
                }
                Err(error) => return Err(error),
            };
            let is_kept = |key: &&ObjectKey| ends.get(*key) == Some(&Removal::Kept);
            let mut keys: Vec<_> = listed.iter().filter(|key| !is_kept(key)).cloned().collect();
            if keys.is_empty() {
                remainder = Remainder::Nothing;
                break;
            }
            // A full listing may have ended before it.
            let manifest = ObjectKey::manifest();
            if listed.len() == MAX_KEYS && !ends.contains_key(&manifest) && !keys.contains(&manifest) {
                keys.push(manifest);
            }
            ends.extend(self.delete_tracked(folder, &keys, has_answered).await?);
        }
        let ended =
            |as_: Removal| ends.iter().filter(|(_, end)| **end == as_).map(|(key, _)| key.clone()).collect();
        Ok(Cleared { kept: ended(Removal::Kept), versioned: ended(Removal::Versioned), remainder })
    }

    async fn delete_with_retries(&self, folder: &Folder, key: &ObjectKey) -> Result<Removal, StoreError> {
        let path = self.requests.path(folder, key)?;
        self.with_retries(|| async {
            match self.requests.delete(&path).await {
                Ok(removal) => Ok(removal),
                Err(RequestError::NotFound) => Ok(Removal::Removed),
                Err(RequestError::Failed(StoreError::AccessDenied) | RequestError::AlreadyExists) => {
                    Ok(Removal::Kept)
                }
                Err(error) => Err(error),
            }
        })
        .await
    }
}
