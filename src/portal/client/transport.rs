//! What a failed exchange says: was the request sent, or was its answer lost?
//!
//! This decides whether a create may be repeated freely, so it is careful in one direction:
//! "not sent" is only said when the HTTP library failed before it had a connection to write to.
//! Causes are told apart by type, never by text, and nothing is printed.

use std::{error::Error as StdError, io};

use crate::portal::trouble::{Failed, NotSent, Trouble};

/// The trouble behind an error of the HTTP library.
pub(super) fn judge_transport(error: &reqwest::Error) -> Trouble {
    if error.is_builder() {
        Trouble::NotSent(NotSent::Build)
    } else if error.is_connect() {
        // Resolving, connecting and the TLS handshake, time-outs of these included: the request
        // is written only after them.
        Trouble::NotSent(connect_cause(error))
    } else if error.is_timeout() {
        Trouble::Failed(Failed::TimedOut)
    } else {
        Trouble::Failed(Failed::Cut)
    }
}

fn connect_cause(error: &reqwest::Error) -> NotSent {
    if error.is_dns() {
        return NotSent::Resolve;
    }
    let mut source = error.source();
    while let Some(cause) = source {
        if is_tls(cause) {
            return NotSent::Tls;
        }
        source = cause.source();
    }
    NotSent::Connect
}

/// Whether this very error, or one that an I/O error wraps without naming it as its source, is of
/// a TLS handshake. Connecting never meets an end of file; a handshake that is hung up on does.
fn is_tls(error: &(dyn StdError + 'static)) -> bool {
    if error.is::<rustls::Error>() {
        return true;
    }
    error.downcast_ref::<io::Error>().is_some_and(|error| {
        error.kind() == io::ErrorKind::UnexpectedEof || error.get_ref().is_some_and(|inner| is_tls(inner))
    })
}
