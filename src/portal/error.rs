//! Why a request to the portal failed: every failure is one of a few kinds, by what has to be done next.
//!
//! Pure. May depend on nothing of this crate. [`classify`](super::classify) maps responses to these kinds, the client
//! maps the failures of the network.

use std::{fmt, time::Duration};

/// Creates, or polls, with a refused key pause for this long before one request tries again. A bad key costs two requests
/// in five minutes.
pub(crate) const REFUSED_KEY_PAUSE: Duration = Duration::from_secs(150);

/// The two kinds of request that are admitted and classified separately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    /// `POST /api/generate-verification`: creates a session, so it is never repeated lightly.
    Create,
    /// `GET /api/get-verification-details/{id}`: has no effect, so it may be repeated at will.
    Poll,
}

/// Why a request brought no usable response.
///
/// Holds only numbers and names of this crate, never text of the portal, so it may be printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PortalError {
    /// Not one byte of the request was sent: the portal cannot know of it.
    #[error("the request was not sent")]
    NotSent(#[source] NotSent),
    /// 401 from the portal: it does not know the API key.
    #[error("the portal does not know the API key")]
    KeyRejected,
    /// 403 from the portal: the API key may not do this, or may not read this session.
    #[error("the portal denies access with this API key")]
    AccessDenied,
    /// 400, 422 and every other 4xx from the portal without a variant of its own: it refuses the request itself.
    #[error("the portal refuses the request")]
    Invalid,
    /// 404 and 410 from the portal: the session or image does not exist; for a create, the endpoint.
    #[error("the portal did not find what was requested")]
    NotFound,
    /// 409 from the portal.
    #[error("the portal reports a conflict")]
    Conflict,
    /// 3xx. A redirect is never followed, because the API key would be sent along.
    #[error("the portal responded with a redirect, which is not followed")]
    Redirected,
    /// The portal says that it is "not configured" (guide, "Troubleshooting").
    #[error("the portal is not configured")]
    Unconfigured,
    /// A 4xx that is not recognized as the portal's, perhaps a gateway's. It says nothing about the key, the session or
    /// the image.
    #[error("a gateway in front of the portal may have responded with {status}")]
    Unclear {
        /// The status code.
        status: u16,
    },
    /// 429, or 503 with a usable `Retry-After`: too many requests.
    #[error("the portal asks for fewer requests")]
    Limited {
        /// How long the portal asks to wait, at most 15 minutes; `None` when it does not say.
        retry_after: Option<Duration>,
    },
    /// The request was sent, and it is unknown what the portal did.
    #[error("the portal's response was lost")]
    Failed(#[source] Failed),
}

/// Why a request was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    /// The portal's host name has no address.
    #[error("the portal's host name could not be resolved")]
    Resolve,
    /// The portal's host refused the connection.
    #[error("the portal's host refuses connections")]
    Refused,
    /// The host is unreachable, or the connection was not established in time.
    #[error("no connection to the portal could be established")]
    Connect,
    /// The TLS handshake failed, including an untrusted certificate.
    #[error("no trusted TLS connection to the portal could be established")]
    Tls,
    /// The request could not be built.
    #[error("the request could not be built")]
    Build,
}

/// Why a response is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failed {
    /// A 5xx that says nothing more.
    #[error("the portal responded with {0}")]
    ServerError(u16),
    /// A final status outside the classes of HTTP (1xx, 6xx and beyond).
    #[error("the portal responded with the unknown status {0}")]
    UnknownStatus(u16),
    /// No complete response in time. 408 and nginx's 499 mean the same, as a gateway sees it.
    #[error("the portal did not respond in time")]
    TimedOut,
    /// The connection ended after the request was sent, before the response was complete.
    #[error("the connection was closed before the response was complete")]
    Cut,
    /// A 2xx whose body is missing or cannot be used.
    #[error("the portal's response cannot be used")]
    Unusable,
    /// A body over the limit.
    #[error("the portal's response is too large")]
    TooLarge,
    /// A body in a content coding that was not requested and that is not decoded.
    #[error("the portal's response is compressed with {0}, which was not requested")]
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
pub(crate) enum Certainty {
    /// The portal created none: another attempt costs nothing.
    NotCreated,
    /// The portal may have created one that nobody will ever use.
    Unknown,
}

impl PortalError {
    /// What this error of a create says about the session. The third case, a session that was created and is known, is
    /// not an error.
    #[must_use]
    pub(crate) const fn certainty(&self) -> Certainty {
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
                Call::Create | Call::Poll,
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

    /// Whether the portal itself responded and was able to: what a probe waits for. A gateway may send a pause or a
    /// redirect as well, so these do not count.
    #[must_use]
    pub(crate) const fn is_from_the_portal(&self) -> bool {
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
    pub(crate) fn result_label<T>(result: &Result<T, Self>) -> &'static str {
        result.as_ref().err().map_or("ok", Self::label)
    }

    /// The value of a metric's label, one of a closed set.
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

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn a_request_that_was_not_sent_created_no_session() {
        for cause in [NotSent::Resolve, NotSent::Refused, NotSent::Connect, NotSent::Tls, NotSent::Build] {
            assert_eq!(PortalError::NotSent(cause).certainty(), Certainty::NotCreated);
        }
    }

    #[test]
    fn a_lost_response_leaves_open_whether_there_is_a_session() {
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
    fn an_error_prints_its_cause_only_in_its_source() {
        let error = PortalError::Failed(Failed::ServerError(502));
        assert_eq!(error.to_string(), "the portal's response was lost");
        assert_eq!(error.source().unwrap().to_string(), "the portal responded with 502");
        assert_eq!(error.label(), "server_error");
    }
}
