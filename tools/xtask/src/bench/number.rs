//! Identifiers derived from a number. Pure.

/// A uid in the format of an API server.
pub(super) fn uid(number: u32) -> String {
    format!("{number:08x}-6f6b-4d00-8a53-0000{number:08x}")
}

/// The id of a session in the format of the guide.
pub(super) fn id(number: u32) -> String {
    format!("ver_{number:024}")
}
