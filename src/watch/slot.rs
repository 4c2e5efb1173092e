//! A handle to one record of the table. Touches nothing.

use std::fmt;

/// Names one record of a [`Table`](super::Table), and the same object in [`Due`](super::Due).
///
/// The place of a removed record is used again, but with another tag: a handle that outlives its
/// record finds nothing, never another verification.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    pub(super) index: u32,
    pub(super) tag: u32,
}

impl Slot {
    /// Whether this handle was given out after `other`, for the same place. The count of tags may
    /// wrap around; two handles that are compared are never two thousand million apart.
    pub(super) fn is_newer_than(self, other: Self) -> bool {
        let distance = self.tag.wrapping_sub(other.tag);
        distance != 0 && distance < u32::MAX / 2
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Slot({}.{})", self.index, self.tag)
    }
}
