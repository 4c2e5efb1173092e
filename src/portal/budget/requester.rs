//! Who asks for admission. Pure. May depend on nothing of this crate.

/// Who asks for admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Requester {
    /// The namespace.
    pub(super) namespace: u32,
    /// Whether it reads the resource before it asks again.
    pub(super) reads_to_retry: bool,
}
