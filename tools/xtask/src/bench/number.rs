//! Names that are made of a number. Pure.

/// A uid in the form that an API server gives out.
pub(super) fn uid(number: u32) -> String {
    format!("{number:08x}-6f6b-4d00-8a53-0000{number:08x}")
}

/// A session's id in the form that the guide shows.
pub(super) fn id(number: u32) -> String {
    format!("ver_{number:024}")
}
