//! Why no answer of a store's came. Pure.

/// Why no answer of a store's came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum NoResponse {
    /// Its host has no address.
    #[error("the store's host name could not be resolved")]
    Resolve,
    /// Nobody takes a connection there.
    #[error("the connection to the store was refused, or could not be made")]
    Refused,
    /// The TLS handshake failed, the store's certificate included.
    #[error("no trusted TLS connection to the store could be made")]
    Tls,
    /// No whole answer in time.
    #[error("the store did not answer in time")]
    TimedOut,
    /// The connection ended before a whole answer was there.
    #[error("the connection to the store was cut")]
    Cut,
    /// A status that says that nobody could answer: 502, 503, 504, or 500 without an error of the store's own.
    #[error("the store, or a gateway before it, is out of order")]
    OutOfOrder,
    /// An answer over its limit.
    #[error("the store's answer is too large")]
    TooLarge,
    /// Something came that is no answer of a store.
    #[error("what answers in the store's place is no store, or its answer is unusable")]
    Unusable,
}

impl NoResponse {
    /// Every cause.
    pub const ALL: [Self; 8] = [
        Self::Resolve,
        Self::Refused,
        Self::Tls,
        Self::TimedOut,
        Self::Cut,
        Self::OutOfOrder,
        Self::TooLarge,
        Self::Unusable,
    ];

    /// One word for it, as a line of the log has it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Refused => "refused",
            Self::Tls => "tls",
            Self::TimedOut => "timeout",
            Self::Cut => "cut",
            Self::OutOfOrder => "out_of_order",
            Self::TooLarge => "too_large",
            Self::Unusable => "unusable",
        }
    }
}
