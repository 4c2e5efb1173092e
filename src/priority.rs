//! How urgent a reconcile or a call to the portal is when not all can go at once. Depends on nothing of this crate.

/// The kind of a reconcile or call, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// A person waits for a link.
    Create,
    /// The resource changed, or asks for a poll.
    Requested,
    /// The person has submitted everything; the verdict is near.
    Finishing,
    /// The person is working on the check.
    Active,
    /// Nothing has changed for a while.
    Idle,
}

impl Priority {
    /// All priorities, the most urgent first.
    pub const ALL: [Self; 5] = [Self::Create, Self::Requested, Self::Finishing, Self::Active, Self::Idle];

    /// The value of a metric's label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Requested => "requested",
            Self::Finishing => "finishing",
            Self::Active => "active",
            Self::Idle => "idle",
        }
    }
}
