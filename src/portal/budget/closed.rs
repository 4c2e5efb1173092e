//! Why a request is not admitted. Pure. May depend on nothing of this crate.

/// Why a request is not admitted: the portal is closed to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Closed {
    /// The portal asked for a pause.
    Paused,
    /// A circuit breaker is open.
    Breaker,
    /// The portal refuses the key.
    KeyRejected,
    /// The rate is used up.
    Rate,
}

impl Closed {
    /// All values, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Paused, Self::Breaker, Self::KeyRejected, Self::Rate];

    /// The values that the metrics show.
    pub(crate) const SHOWN: [Self; 3] = [Self::Paused, Self::Breaker, Self::KeyRejected];

    /// The value of a metric's label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Paused => "paused",
            Self::Breaker => "breaker_open",
            Self::KeyRejected => "key_rejected",
            Self::Rate => "rate",
        }
    }
}
