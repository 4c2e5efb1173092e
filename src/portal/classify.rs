//! Maps a response of the portal, by its status and the start of its body, to success or a [`PortalError`].
//!
//! Pure and total: every status code from 100 to 999 has a result, for a create and for a poll. May depend on
//! [`error`](super::error). What an error means depends on who sent it ([`Provenance`]): a gateway in front of the portal
//! knows nothing of keys, sessions and images.

use std::time::Duration;

use serde::de::IgnoredAny;

use super::error::{Call, Failed, PortalError};

/// Who sent an error response, as far as its form tells (docs/decisions/0020).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Provenance {
    /// The portal: the body is a JSON object, or contains one of the guide's sentences or the codes seen with them.
    Portal,
    /// A 4xx in any other form, an empty body included: from the portal or a gateway.
    Unclear,
    /// A 5xx in any other form, and 407: from a gateway or proxy (RFC 9110 §3.7).
    Intermediary,
}

impl Provenance {
    /// Classifies an error response with a status from 400 to 599 by the start of its body. A JSON object that is cut off
    /// is not recognized.
    #[must_use]
    pub(crate) fn of(status: u16, body: &[u8]) -> Self {
        if status == 407 {
            Self::Intermediary
        } else if is_json_object(body) || GUIDE_PHRASES.iter().any(|phrase| contains(body, phrase)) {
            Self::Portal
        } else if status < 500 {
            Self::Unclear
        } else {
            Self::Intermediary
        }
    }
}

/// Classifies a response: `Ok` if its body holds what was requested.
///
/// - `retry_after`: the header as parsed by [`parse_retry_after`](super::retry_after::parse_retry_after), if present.
/// - `body`: the start of the body, which tells who sent the response.
///
/// Of the 2xx, 200 to 203 have a body. 204 and above do not, so the outcome of a create is unknown after them.
///
/// A 408 means that the portal did not receive the whole request (RFC 9110 §15.5.9), but gateways also send it for a
/// portal that was too slow, and likewise 499. The portal may have created a session, so both count as a response that
/// timed out, in any form. 425 says that nothing was done (RFC 8470 §5.2), so it is treated as any other 4xx. A pause is
/// honoured whoever asks for it.
///
/// # Errors
///
/// The [`PortalError`] that the response stands for.
pub(crate) fn classify_status(
    call: Call,
    status: u16,
    retry_after: Option<Duration>,
    body: &[u8],
) -> Result<(), PortalError> {
    Err(match (status, call) {
        (200..=203, Call::Create | Call::Poll) => return Ok(()),
        (204..=299, _) => PortalError::Failed(Failed::Unusable),
        (300..=399, _) => PortalError::Redirected,
        (429, _) => PortalError::Limited { retry_after },
        (407, _) => PortalError::Unclear { status },
        (400..=599, _) if contains(body, NOT_CONFIGURED) => PortalError::Unconfigured,
        (408 | 499, _) => PortalError::Failed(Failed::TimedOut),
        (400..=499, _) => match Provenance::of(status, body) {
            Provenance::Portal => refusal(status),
            Provenance::Unclear | Provenance::Intermediary => PortalError::Unclear { status },
        },
        (503, _) if retry_after.is_some() => PortalError::Limited { retry_after },
        (500..=599, _) => PortalError::Failed(Failed::ServerError(status)),
        (..200 | 600.., _) => PortalError::Failed(Failed::UnknownStatus(status)),
    })
}

/// What the portal means by a 4xx.
const fn refusal(status: u16) -> PortalError {
    match status {
        401 => PortalError::KeyRejected,
        403 => PortalError::AccessDenied,
        404 | 410 => PortalError::NotFound,
        409 => PortalError::Conflict,
        _ => PortalError::Invalid,
    }
}

/// The guide's "Server not configured", and its code `SERVER_NOT_CONFIGURED`.
const NOT_CONFIGURED: &[u8] = b"server not configured";

/// The sentences that the guide names, and the codes that are seen with them. A space also matches `_`.
const GUIDE_PHRASES: [&[u8]; 4] = [
    b"invalid api key provided",
    b"invalid_api_key",
    b"api key does not have access to this verification",
    NOT_CONFIGURED,
];

/// Whether a body contains a phrase as whole words, in any case. The form of error bodies is not specified.
fn contains(body: &[u8], phrase: &[u8]) -> bool {
    let is_in_a_word =
        |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    body.windows(phrase.len()).enumerate().any(|(start, window)| {
        let matches = window
            .iter()
            .zip(phrase)
            .all(|(have, want)| have.to_ascii_lowercase() == *want || (*want == b' ' && *have == b'_'));
        matches
            && !is_in_a_word(start.checked_sub(1).and_then(|before| body.get(before)))
            && !is_in_a_word(body.get(start + phrase.len()))
    })
}

fn is_json_object(body: &[u8]) -> bool {
    body.trim_ascii_start().first() == Some(&b'{') && serde_json::from_slice::<IgnoredAny>(body).is_ok()
}

#[cfg(test)]
mod tests;
