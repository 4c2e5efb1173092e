//! How much a turn, or a call to the portal, matters when not all can go at once. Touches nothing.

/// What kind of turn or call it is, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Somebody waits for a link.
    Create,
    /// Somebody asked for it.
    Nudge,
    /// The person has given everything, and the verdict is near.
    Finishing,
    /// The person is at it.
    Active,
    /// Nothing has happened for a while.
    Idle,
}

impl Priority {
    /// All of them, the most urgent first.
    pub const ALL: [Self; 5] = [Self::Create, Self::Nudge, Self::Finishing, Self::Active, Self::Idle];

    /// The value for a label of a metric.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Nudge => "nudge",
            Self::Finishing => "finishing",
            Self::Active => "active",
            Self::Idle => "idle",
        }
    }
}
