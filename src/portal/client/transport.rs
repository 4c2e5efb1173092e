//! What a failed exchange says: was the request sent, or was its answer lost?
//!
//! This decides whether a create may be repeated freely, so it is careful in one direction:
//! "not sent" is only said when the HTTP library failed before it had a connection to write to.
//! Causes are told apart by type, never by text, and nothing is printed.

use std::error::Error as _;

use crate::{
    connect_error::ConnectError,
    portal::error::{Failed, NotSent, PortalError},
};

/// The trouble behind an error of the HTTP library.
pub(super) fn judge_transport(error: &reqwest::Error) -> PortalError {
    if error.is_builder() {
        PortalError::NotSent(NotSent::Build)
    } else if error.is_connect() {
        // Resolving, connecting and the TLS handshake, time-outs of these included: the request
        // is written only after them.
        PortalError::NotSent(ConnectError::of(error).into())
    } else if error.is_timeout() {
        PortalError::Failed(Failed::TimedOut)
    } else {
        PortalError::Failed(Failed::Cut)
    }
}

/// Why there is no answer.
pub(super) struct TransportError {
    pub(super) error: PortalError,
    /// The peer says that it has not processed the request.
    pub(super) unprocessed: Option<Unprocessed>,
}

/// How a peer says that it has not processed a request (RFC 9113 §8.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unprocessed {
    /// It takes no more at a time.
    Refused,
    /// The connection ends, and the request comes after the last one that is processed.
    GoneAway,
}

/// What the peer says of a request that was not answered. Those that may have been processed end otherwise.
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
