//! A handle to one record of the table. Touches nothing.

use std::fmt;

/// Names one record of a [`Index`](super::Index), and the same object in [`WorkQueue`](super::WorkQueue).
///
/// The place of a removed record is used again, but with another tag: a handle that outlives its
/// record finds nothing, never another verification.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId {
    pub(crate) index: u32,
    pub(crate) tag: u32,
}

impl RecordId {
    /// Whether this handle was given out after `other`, for the same place. The count of tags may
    /// wrap around; two handles that are compared are never two thousand million apart.
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
