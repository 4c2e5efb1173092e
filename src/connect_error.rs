//! Why a connection could not be made, for the portal's client and the stores'. May depend on nothing of this crate.
//!
//! Causes are distinguished by type, never by text, and nothing is printed.

use std::{error::Error as StdError, io};

/// Why a connection could not be made. The request was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectError {
    /// The host name has no address.
    Resolve,
    /// The host refused the connection.
    Refused,
    /// The TLS handshake failed, including an untrusted certificate.
    Tls,
    /// The host is unreachable, or the connection was not established in time.
    Unreachable,
}

impl ConnectError {
    /// The cause of an error for which [`reqwest::Error::is_connect`] holds.
    pub(crate) fn of(error: &reqwest::Error) -> Self {
        if error.is_dns() {
            return Self::Resolve;
        }
        let mut source = error.source();
        while let Some(cause) = source {
            if is_tls(cause) {
                return Self::Tls;
            }
            if cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::ConnectionRefused)
            {
                return Self::Refused;
            }
            source = cause.source();
        }
        Self::Unreachable
    }
}

/// Whether the error, or one that an I/O error wraps without naming it as its source, belongs to a TLS handshake. A TCP
/// connect never meets an end of file; a handshake does when the peer hangs up.
fn is_tls(error: &(dyn StdError + 'static)) -> bool {
    if error.is::<rustls::Error>() {
        return true;
    }
    error.downcast_ref::<io::Error>().is_some_and(|error| {
        error.kind() == io::ErrorKind::UnexpectedEof || error.get_ref().is_some_and(|inner| is_tls(inner))
    })
}
