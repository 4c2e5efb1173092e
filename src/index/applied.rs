//! What a change of the index did to its records. Pure.

use super::record_id::RecordId;

/// What applying an object changed.
#[derive(Debug)]
pub(crate) enum Applied<R> {
    /// The object is new.
    New(RecordId),
    /// The object is new and has the name of another one, which must have been deleted.
    Replaced {
        /// The new record.
        record_id: RecordId,
        /// The record that had the name before.
        removed: Removed<R>,
    },
    /// The object changed since it was last applied or written.
    Changed(RecordId),
    /// This version is known already; often it is the echo of our own write.
    Unchanged(RecordId),
    /// This version is older than the one that is known, and was ignored.
    Stale(RecordId),
}

impl<R> Applied<R> {
    /// The record of the object, or of its namesake where that is newer.
    #[must_use]
    pub(crate) fn record_id(&self) -> RecordId {
        match self {
            Self::New(record_id)
            | Self::Replaced { record_id, removed: _ }
            | Self::Changed(record_id)
            | Self::Unchanged(record_id)
            | Self::Stale(record_id) => *record_id,
        }
    }
}

/// Why a record was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RemovalReason {
    /// Its verification was marked with [`Index::mark_settling`](super::Index::mark_settling): it is settled and still exists.
    Settled,
    /// Its verification no longer exists.
    Deleted,
}

/// A record that was removed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Removed<R> {
    /// The id that it had, which finds nothing now.
    pub record_id: RecordId,
    /// Why it was removed.
    pub reason: RemovalReason,
    /// What the caller stored with it.
    pub payload: R,
}
