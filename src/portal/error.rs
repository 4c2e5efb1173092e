//! What can go wrong with a call: every failure becomes one of a few kinds.
//!
//! Pure and total: each status code from 100 to 999 has a place, for a create and for a look. The
//! kinds follow from what must be done next, and from who gave the answer ([`Provenance`]): a gateway
//! on the way knows nothing of keys, sessions and images. What a create's failure says about the
//! session (none was made, or nobody knows) is [`PortalError::certainty`].

use std::{fmt, time::Duration};

use serde::de::IgnoredAny;

/// Creates, or polls, with a refused key pause for this long before one request tries again. A bad key costs two requests
/// in five minutes.
pub(crate) const REFUSED_KEY_PAUSE: Duration = Duration::from_secs(150);

/// Which of the portal's calls is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    /// `POST /api/generate-verification`: makes a session, and must not be repeated lightly.
    Create,
    /// `GET /api/get-verification-details/{id}`: may be repeated at will.
    Poll,
}

/// Who gave an error answer, as far as its form tells (docs/decisions/0020).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Provenance {
    /// The portal's word: the body is a JSON object, or holds one of the guide's sentences or the codes seen with them.
    Portal,
    /// A 4xx in any other form, an empty body included: the portal's, or a gateway's.
    Unclear,
    /// A 5xx in any other form, and 407: somebody on the way (RFC 9110 §3.7).
    Intermediary,
}

impl Provenance {
    /// Grades an error answer, of a status from 400 to 599, by the start of its body. A JSON object that is cut off is
    /// not recognised.
    #[must_use]
    pub fn of(status: u16, body: &[u8]) -> Self {
        if status == 407 {
            Self::Intermediary
        } else if is_json_object(body) || GUIDES_WORDS.iter().any(|words| holds(body, words)) {
            Self::Portal
        } else if status < 500 {
            Self::Unclear
        } else {
            Self::Intermediary
        }
    }
}

/// Why a call has no usable answer.
///
/// Holds numbers and names of ours only, never a text of the portal's, so it may be printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PortalError {
    /// Not one byte of the request left: the portal cannot know of it.
    #[error("the request was not sent")]
    NotSent(#[source] NotSent),
    /// 401 in the portal's word: it does not know the API key.
    #[error("the portal does not know the API key")]
    KeyRejected,
    /// 403 in the portal's word: the API key may not do this, or may not read this session.
    #[error("the portal denies access with this API key")]
    AccessDenied,
    /// 400, 422, and every other 4xx without a place of its own, in the portal's word: the request itself is refused.
    #[error("the portal refuses the request")]
    Invalid,
    /// 404 and 410 in the portal's word: the session or image, or on a create the call itself, is not there.
    #[error("the portal does not find what was asked for")]
    NotFound,
    /// 409 in the portal's word: it sees a conflict with something that is there.
    #[error("the portal reports a conflict")]
    Conflict,
    /// 3xx: the portal points elsewhere. Never followed, because the API key would go along.
    #[error("the portal answers with a redirect, which is not followed")]
    Redirected,
    /// The portal answers that it is "not configured" (guide, "Troubleshooting").
    #[error("the portal is not configured")]
    Unconfigured,
    /// A 4xx that is not in the portal's word: perhaps a gateway's. It says nothing about the key, the session or the
    /// image.
    #[error("something between the operator and the portal may have answered {status}")]
    Unclear {
        /// The status code.
        status: u16,
    },
    /// 429, or 503 with a usable `Retry-After`: too many requests.
    #[error("the portal asks for fewer requests")]
    Limited {
        /// How long it wants to be left alone, at most 15 minutes; `None` when it does not say.
        retry_after: Option<Duration>,
    },
    /// Anything that leaves open what the portal did.
    #[error("the portal's answer is lost")]
    Failed(#[source] Failed),
}

/// Why a request was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    /// The portal's name has no address.
    #[error("the portal's host name could not be resolved")]
    Resolve,
    /// The portal's host refused the connection.
    #[error("the portal's host refuses connections")]
    Refused,
    /// The host could not be reached, or the connection was not there in time.
    #[error("no connection to the portal could be made")]
    Connect,
    /// The TLS handshake failed, the portal's certificate included.
    #[error("no trusted TLS connection to the portal could be made")]
    Tls,
    /// The request could not be put into words, so nobody tried.
    #[error("the request could not be built")]
    Build,
}

/// Why an answer is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failed {
    /// A 5xx that says nothing more.
    #[error("the portal answered {0}")]
    ServerError(u16),
    /// A final status that HTTP has no class for (1xx, 6xx and beyond).
    #[error("the portal answered with the unknown status {0}")]
    UnknownStatus(u16),
    /// No whole answer in time; 408 and nginx's 499 are the same, seen from a gateway.
    #[error("the portal did not answer in time")]
    TimedOut,
    /// The connection ended after the request was sent, before a whole answer was there.
    #[error("the connection was cut before the answer was complete")]
    Cut,
    /// A 2xx whose body is missing or cannot be used.
    #[error("the portal's answer cannot be used")]
    Unusable,
    /// A body over the limit.
    #[error("the portal's answer is too large")]
    TooLarge,
    /// A body in a content coding that nobody asked for and that is not decoded.
    #[error("the portal's answer is compressed with {0}, which was not asked for")]
    Encoded(ContentCoding),
}

/// A content coding (RFC 9110 §8.4.1) that is not decoded; gzip and deflate are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentCoding {
    /// `br`.
    Brotli,
    /// `zstd`.
    Zstd,
    /// `compress`.
    Compress,
    /// Any other one, or several.
    Other,
}

impl fmt::Display for ContentCoding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Brotli => "brotli",
            Self::Zstd => "zstd",
            Self::Compress => "compress",
            Self::Other => "an unknown content coding",
        })
    }
}

/// What a failed create says about the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certainty {
    /// The portal made none: another try costs nothing.
    NotCreated,
    /// The portal may have made one that nobody will ever use.
    Unknown,
}

impl PortalError {
    /// What this trouble, met on a create, says about the session. The third case, a session that was made and is known,
    /// is no trouble.
    #[must_use]
    pub const fn certainty(&self) -> Certainty {
        match self {
            Self::NotSent(_)
            | Self::KeyRejected
            | Self::AccessDenied
            | Self::Invalid
            | Self::NotFound
            | Self::Conflict
            | Self::Redirected
            | Self::Unconfigured
            | Self::Unclear { status: _ }
            | Self::Limited { retry_after: _ } => Certainty::NotCreated,
            Self::Failed(_) => Certainty::Unknown,
        }
    }

    /// Whether it refuses the API key. A 403 to a poll is about the session and says that the portal knows the key.
    #[must_use]
    pub(crate) const fn refuses_key(&self, call: Call) -> bool {
        match (call, self) {
            (Call::Create | Call::Poll, Self::KeyRejected) | (Call::Create, Self::AccessDenied) => true,
            (Call::Poll, Self::AccessDenied)
            | (
                _,
                Self::NotSent(_)
                | Self::Invalid
                | Self::NotFound
                | Self::Conflict
                | Self::Redirected
                | Self::Unconfigured
                | Self::Unclear { status: _ }
                | Self::Limited { retry_after: _ }
                | Self::Failed(_),
            ) => false,
        }
    }

    /// Whether the portal itself has answered, and could: what a probe that asks whether it is there waits for. A pause
    /// may be anybody's, and a redirect too.
    #[must_use]
    pub const fn is_answer_of_the_portal(&self) -> bool {
        match self {
            Self::KeyRejected
            | Self::AccessDenied
            | Self::Invalid
            | Self::NotFound
            | Self::Conflict
            | Self::Unconfigured => true,
            Self::NotSent(_)
            | Self::Redirected
            | Self::Unclear { status: _ }
            | Self::Limited { retry_after: _ }
            | Self::Failed(_) => false,
        }
    }

    /// The label of a request's result in the metrics.
    pub(crate) fn result_label<T>(answer: &Result<T, Self>) -> &'static str {
        answer.as_ref().err().map_or("ok", Self::label)
    }

    /// The value of a metric's label: one of a closed set of words.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::NotSent(NotSent::Resolve) => "resolve",
            Self::NotSent(NotSent::Refused) => "refused",
            Self::NotSent(NotSent::Connect) => "connect",
            Self::NotSent(NotSent::Tls) => "tls",
            Self::NotSent(NotSent::Build) => "build",
            Self::KeyRejected => "key_rejected",
            Self::AccessDenied => "access_denied",
            Self::Invalid => "invalid",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Redirected => "redirected",
            Self::Unconfigured => "unconfigured",
            Self::Unclear { status: _ } => "unclear",
            Self::Limited { retry_after: _ } => "limited",
            Self::Failed(Failed::ServerError(_)) => "server_error",
            Self::Failed(Failed::UnknownStatus(_)) => "unknown_status",
            Self::Failed(Failed::TimedOut) => "timed_out",
            Self::Failed(Failed::Cut) => "cut",
            Self::Failed(Failed::Unusable) => "unusable",
            Self::Failed(Failed::TooLarge) => "too_large",
            Self::Failed(Failed::Encoded(ContentCoding::Brotli)) => "encoded_br",
            Self::Failed(Failed::Encoded(ContentCoding::Zstd)) => "encoded_zstd",
            Self::Failed(Failed::Encoded(ContentCoding::Compress)) => "encoded_compress",
            Self::Failed(Failed::Encoded(ContentCoding::Other)) => "encoded_other",
        }
    }
}

/// Judges an answer by its status: `Ok` when its body holds what was asked for.
///
/// - `retry_after`: what [`read_retry_after`](super::retry_after::read_retry_after) made of the
///   header, if there was one.
/// - `body`: the start of the body, which tells who gave the answer.
///
/// Of the 2xx, 200 to 203 carry an answer. 204 and beyond do not, so a create is left open by them.
///
/// A 408 means that the portal did not get the whole request (RFC 9110 §15.5.9), but gateways send
/// it for a portal that was too slow, and 499 likewise. A session may have been made then, so both
/// count as an answer that timed out, in any form. 425 says that nothing was done (RFC 8470 §5.2):
/// it stays with the other 4xx. A pause is kept to whoever asks for it.
///
/// # Errors
///
/// The [`PortalError`] that the answer stands for.
pub fn judge_status(
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
        (400..=599, _) if holds(body, NOT_CONFIGURED) => PortalError::Unconfigured,
        (408 | 499, _) => PortalError::Failed(Failed::TimedOut),
        (400..=499, _) => match Provenance::of(status, body) {
            Provenance::Portal => refused(status),
            Provenance::Unclear | Provenance::Intermediary => PortalError::Unclear { status },
        },
        (503, _) if retry_after.is_some() => PortalError::Limited { retry_after },
        (500..=599, _) => PortalError::Failed(Failed::ServerError(status)),
        (..200 | 600.., _) => PortalError::Failed(Failed::UnknownStatus(status)),
    })
}

/// What the portal means by a 4xx.
const fn refused(status: u16) -> PortalError {
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

/// The sentences that the guide names, and the codes that are seen with them; the space stands for `_` too.
const GUIDES_WORDS: [&[u8]; 4] = [
    b"invalid api key provided",
    b"invalid_api_key",
    b"api key does not have access to this verification",
    NOT_CONFIGURED,
];

/// Whether a body holds these words as words of their own, in any case. The form of error bodies is not specified.
fn holds(body: &[u8], words: &[u8]) -> bool {
    let inner = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    body.windows(words.len()).enumerate().any(|(start, window)| {
        let same = window
            .iter()
            .zip(words)
            .all(|(have, want)| have.to_ascii_lowercase() == *want || (*want == b' ' && *have == b'_'));
        same && !inner(start.checked_sub(1).and_then(|before| body.get(before)))
            && !inner(body.get(start + words.len()))
    })
}

fn is_json_object(body: &[u8]) -> bool {
    body.trim_ascii_start().first() == Some(&b'{') && serde_json::from_slice::<IgnoredAny>(body).is_ok()
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    const CALLS: [Call; 2] = [Call::Create, Call::Poll];
    const MINUTE: Option<Duration> = Some(Duration::from_mins(1));

    /// The same table once more, written as ranges of codes without looking at the code above.
    fn expected(
        status: u16,
        retry_after: Option<Duration>,
        in_the_portals_word: bool,
    ) -> Result<(), PortalError> {
        if status < 200 {
            return Err(PortalError::Failed(Failed::UnknownStatus(status)));
        }
        if status < 204 {
            return Ok(());
        }
        Err(match status {
            204..=299 => PortalError::Failed(Failed::Unusable),
            300..=399 => PortalError::Redirected,
            407 => PortalError::Unclear { status },
            408 | 499 => PortalError::Failed(Failed::TimedOut),
            429 => PortalError::Limited { retry_after },
            400..=498 if !in_the_portals_word => PortalError::Unclear { status },
            401 => PortalError::KeyRejected,
            403 => PortalError::AccessDenied,
            404 | 410 => PortalError::NotFound,
            409 => PortalError::Conflict,
            400..=498 => PortalError::Invalid,
            503 if retry_after.is_some() => PortalError::Limited { retry_after },
            500..=599 => PortalError::Failed(Failed::ServerError(status)),
            _ => PortalError::Failed(Failed::UnknownStatus(status)),
        })
    }

    /// Bodies of the portal.
    const WORDS: [&[u8]; 7] = [
        b"{}",
        b" \n{\"message\":\"anything\"}",
        br#"{"error":"Invalid API key provided","code":"INVALID_API_KEY"}"#,
        b"Invalid API key provided",
        b"<p>API key does not have access to this verification.</p>",
        b"\"INVALID_API_KEY\"",
        br#"{"error":{"deep":[[[[1]]]]}}"#,
    ];

    /// Bodies of gateways, and of nobody.
    const OTHERS: [&[u8]; 9] = [
        b"",
        b"<html><title>Just a moment...</title></html>",
        b"default backend - 404",
        b"Unauthorized",
        br#"["Forbidden"]"#,
        br#""Forbidden""#,
        br#"{"message":"cut o"#,
        b"{\"one\":1} {\"two\":2}",
        b"the invalid api keys",
    ];

    #[test]
    fn every_status_of_both_calls_has_its_kind_by_who_gave_it() {
        let bodies = WORDS.map(|body| (body, true)).into_iter().chain(OTHERS.map(|body| (body, false)));
        for (body, in_the_portals_word) in bodies {
            for (status, call) in (100..=999).flat_map(|status| CALLS.map(|call| (status, call))) {
                for retry_after in [None, MINUTE] {
                    assert_eq!(
                        judge_status(call, status, retry_after, body),
                        expected(status, retry_after, in_the_portals_word),
                        "{call:?} {status} {}",
                        body.escape_ascii()
                    );
                }
            }
        }
    }

    #[test]
    fn an_error_is_the_portals_word_or_unclear_or_of_somebody_on_the_way() {
        for status in 400..=599_u16 {
            for body in WORDS {
                let by = if status == 407 { Provenance::Intermediary } else { Provenance::Portal };
                assert_eq!(Provenance::of(status, body), by, "{status} {}", body.escape_ascii());
            }
            let other =
                if status == 407 || status >= 500 { Provenance::Intermediary } else { Provenance::Unclear };
            for body in OTHERS {
                assert_eq!(Provenance::of(status, body), other, "{status} {}", body.escape_ascii());
            }
        }
    }

    #[test]
    fn only_the_portals_word_says_anything_of_key_session_or_image() {
        for status in 300..=999 {
            for (body, retry_after) in OTHERS.into_iter().flat_map(|body| [(body, None), (body, MINUTE)]) {
                let error = judge_status(Call::Poll, status, retry_after, body).unwrap_err();
                assert!(!error.is_answer_of_the_portal(), "{status} {error:?}");
            }
        }
        assert!(judge_status(Call::Poll, 404, None, b"{}").unwrap_err().is_answer_of_the_portal());
    }

    #[test]
    fn only_an_answer_that_rules_a_session_out_lets_a_create_be_repeated_freely() {
        for status in 100..=999_u16 {
            for (retry_after, body) in [(None, OTHERS[0]), (MINUTE, OTHERS[0]), (None, WORDS[0])] {
                let Err(error) = judge_status(Call::Create, status, retry_after, body) else {
                    continue;
                };
                let ruled_out = matches!(status, 300..=499) && !matches!(status, 408 | 499)
                    || status == 503 && retry_after.is_some();
                let certainty = if ruled_out { Certainty::NotCreated } else { Certainty::Unknown };
                assert_eq!(error.certainty(), certainty, "{status}");
            }
        }
    }

    #[test]
    fn a_request_that_never_left_made_no_session() {
        for cause in [NotSent::Resolve, NotSent::Refused, NotSent::Connect, NotSent::Tls, NotSent::Build] {
            assert_eq!(PortalError::NotSent(cause).certainty(), Certainty::NotCreated);
        }
    }

    #[test]
    fn a_lost_answer_leaves_open_whether_there_is_a_session() {
        for cause in [
            Failed::TimedOut,
            Failed::Cut,
            Failed::Unusable,
            Failed::TooLarge,
            Failed::Encoded(ContentCoding::Zstd),
            Failed::ServerError(500),
            Failed::UnknownStatus(600),
        ] {
            assert_eq!(PortalError::Failed(cause).certainty(), Certainty::Unknown);
        }
    }

    #[test]
    fn a_portal_that_says_it_is_not_configured_is_believed_with_any_error_status() {
        let bodies: [&[u8]; 5] = [
            br#"{"error":"Server not configured"}"#,
            br#"{"code":"SERVER_NOT_CONFIGURED","message":"x"}"#,
            b"server not configured",
            b"<h1>Server Not Configured</h1>",
            b"subserver not configured; Server not configured.",
        ];
        for body in bodies {
            for status in (400..=599).filter(|status| !matches!(status, 407 | 429)) {
                assert_eq!(
                    judge_status(Call::Create, status, MINUTE, body),
                    Err(PortalError::Unconfigured),
                    "{status}"
                );
            }
            assert_eq!(
                judge_status(Call::Poll, 429, None, body),
                Err(PortalError::Limited { retry_after: None })
            );
            assert_eq!(judge_status(Call::Create, 200, None, body), Ok(()));
            assert_eq!(judge_status(Call::Create, 302, None, body), Err(PortalError::Redirected));
        }
    }

    #[test]
    fn similar_words_are_not_taken_for_a_missing_configuration() {
        let bodies: [&[u8]; 5] = [
            b"",
            b"server is not configured",
            b"webserver not configured",
            b"SERVER_NOT_CONFIGURED_YET",
            b"server not configure",
        ];
        for body in bodies {
            assert_eq!(
                judge_status(Call::Create, 500, None, body),
                Err(PortalError::Failed(Failed::ServerError(500))),
                "{}",
                body.escape_ascii()
            );
        }
    }

    #[test]
    fn a_trouble_prints_its_cause_only_in_its_source() {
        let error = PortalError::Failed(Failed::ServerError(502));
        assert_eq!(error.to_string(), "the portal's answer is lost");
        assert_eq!(error.source().unwrap().to_string(), "the portal answered 502");
        assert_eq!(error.label(), "server_error");
    }
}
