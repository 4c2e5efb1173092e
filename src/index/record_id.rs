//! The id of a record in the index. Depends on nothing.

use std::fmt;

/// Identifies one record of an [`Index`](super::Index), and the same object in the work queue.
///
/// The position of a removed record is reused with another tag: an id that outlives its record finds nothing, never
/// another verification.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RecordId {
    pub(crate) index: u32,
    pub(crate) tag: u32,
}

impl RecordId {
    /// Whether this id was issued after `other` for the same position. Tags may wrap around; two ids that are compared
    /// are never two thousand million apart.
    pub(crate) fn is_newer_than(self, other: Self) -> bool {
        let distance = self.tag.wrapping_sub(other.tag);
        distance != 0 && distance < u32::MAX / 2
    }
}

impl fmt::Debug for RecordId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "RecordId({}.{})", self.index, self.tag)
    }
}
