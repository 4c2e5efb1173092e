//! `spec.ttlAfterFinished`: when a finished resource is deleted. Pure.

use std::time::Duration;

use jiff::Timestamp;

use super::since::later;

/// What a decision may know about `spec.ttlAfterFinished`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleanupFacts {
    /// How long the resource stays after nothing is pending any more.
    pub ttl: Duration,
    /// Whether Git would bring the resource back, so that it is not deleted.
    pub managed_by_git_ops: bool,
}

/// The outcome of deleting the resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeletionOutcome {
    /// It is deleted, or its deletion has begun.
    Deleted,
    /// The API server refuses.
    Refused,
    /// The store of its evidence does not respond, so it is not deleted yet.
    StoreUnresponsive,
    /// Another client has changed it, or the outcome is unknown.
    Unknown,
}

impl CleanupFacts {
    /// When a resource is deleted for which nothing has been pending since then.
    #[must_use]
    pub fn end(self, since: Timestamp) -> Timestamp {
        later(since, self.ttl)
    }
}
