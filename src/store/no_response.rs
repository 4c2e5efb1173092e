//! Why a store did not respond. Pure.

/// Why a store did not respond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum NoResponse {
    /// Its host name has no address.
    #[error("the store's host name could not be resolved")]
    Resolve,
    /// The connection was refused or failed.
    #[error("the connection to the store was refused or failed")]
    Refused,
    /// The TLS handshake failed, or the certificate is not trusted.
    #[error("no trusted TLS connection to the store could be established")]
    Tls,
    /// No complete response in time.
    #[error("the store did not respond in time")]
    TimedOut,
    /// The connection was closed before the response was complete.
    #[error("the connection to the store was closed before the response was complete")]
    Cut,
    /// 502, 503 or 504, or 500 without an error code of a store.
    #[error("the store, or a gateway in front of it, is out of order")]
    OutOfOrder,
    /// The response is over its limit.
    #[error("the store's response is too large")]
    TooLarge,
    /// The response is not that of a store.
    #[error("the response is unusable, or it is not from a store")]
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

    /// The value of a log field.
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
