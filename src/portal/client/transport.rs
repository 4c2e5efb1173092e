//! What a failed request means: it was not sent, or its response was lost. May depend on [`ConnectError`] and
//! [`PortalError`].
//!
//! This decides whether a create may be repeated freely, so it errs in one direction: "not sent" means that the HTTP
//! library failed before it had a connection to write to. Causes are distinguished by type, never by text.

use std::error::Error as _;

use crate::{
    connect_error::ConnectError,
    portal::error::{Failed, NotSent, PortalError},
};

/// Classifies an error of the HTTP library.
pub(super) fn classify_transport(error: &reqwest::Error) -> PortalError {
    if error.is_builder() {
        PortalError::NotSent(NotSent::Build)
    } else if error.is_connect() {
        // Name resolution, TCP connect and TLS handshake, including their timeouts: the request is only written after
        // them.
        PortalError::NotSent(ConnectError::of(error).into())
    } else if error.is_timeout() {
        PortalError::Failed(Failed::TimedOut)
    } else {
        PortalError::Failed(Failed::Cut)
    }
}

/// Why there is no response.
pub(super) struct TransportError {
    pub(super) error: PortalError,
    /// Whether and how the peer says that it has not processed the request.
    pub(super) unprocessed: Option<Unprocessed>,
}

/// How a peer says that it has not processed a request (RFC 9113 §8.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unprocessed {
    /// It accepts no more concurrent requests.
    Refused,
    /// The connection is closing, and the request came after the last one that is processed.
    GoneAway,
}

/// How the peer says that it has not processed the request; `None` if it may have processed it.
pub(super) fn unprocessed(error: &reqwest::Error) -> Option<Unprocessed> {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(error) = cause.downcast_ref::<h2::Error>().filter(|error| error.is_remote()) {
            let refused =
                (error.reason() == Some(h2::Reason::REFUSED_STREAM)).then_some(Unprocessed::Refused);
            return if error.is_go_away() { Some(Unprocessed::GoneAway) } else { refused };
        }
        source = cause.source();
    }
    None
}

impl From<ConnectError> for NotSent {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Resolve => Self::Resolve,
            ConnectError::Refused => Self::Refused,
            ConnectError::Tls => Self::Tls,
            ConnectError::Unreachable => Self::Connect,
        }
    }
}
