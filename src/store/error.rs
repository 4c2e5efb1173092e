//! Why a call to a store brought nothing. Closed, and without any text of the store. Pure but for the error types.

use std::{error::Error as StdError, io};

use http::HeaderMap;
use object_store::client::HttpError;

use super::no_response::NoResponse;
use crate::connect_error::ConnectError;

/// Why a call to a store brought nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum StoreError {
    /// No answer of the store's came.
    #[error("{0}")]
    NoResponse(NoResponse),
    /// It says in its own words that it cannot now.
    #[error("the store says that it cannot now")]
    Unavailable,
    /// It knows the credentials, and they may not do this.
    #[error("the store denies this to the credentials")]
    AccessDenied,
    /// It does not take the credentials: expired, replaced, or wrong, or signed by a clock that is wrong. Worth reading
    /// the Secret again, once.
    #[error("the store does not take the credentials, or this machine's clock is wrong")]
    CredentialsRefused,
    /// The bucket, container or folder does not exist.
    #[error("the bucket, container or folder does not exist")]
    BucketMissing,
    /// Other bytes are there under the same key. They are not touched.
    #[error("other bytes are there under the same key")]
    Conflict,
    /// This option is wrong, as far as the store's answer tells.
    #[error("the store's option {0} is wrong")]
    Misconfigured(&'static str),
    /// It does not refuse to overwrite what is there: evidence could be replaced.
    #[error("the store does not know conditional writes (If-None-Match), which evidence needs")]
    NoConditionalWrites,
    /// It lacks something that an option asks for.
    #[error("the store does not know something that an option asks for")]
    Unsupported,
    /// The store calls the request wrong, and does not say which option is to blame.
    #[error("the store refuses the request")]
    Refused,
}

impl StoreError {
    /// Whether nobody answered, so that others may well wait for the same in vain. A refusal, or an answer that is no use, is
    /// about the request that it answers.
    #[must_use]
    pub const fn is_silence(self) -> bool {
        match self {
            Self::NoResponse(
                NoResponse::Resolve
                | NoResponse::Refused
                | NoResponse::Tls
                | NoResponse::TimedOut
                | NoResponse::Cut
                | NoResponse::OutOfOrder,
            ) => true,
            Self::NoResponse(NoResponse::TooLarge | NoResponse::Unusable)
            | Self::Unavailable
            | Self::AccessDenied
            | Self::CredentialsRefused
            | Self::BucketMissing
            | Self::Conflict
            | Self::Misconfigured(_)
            | Self::NoConditionalWrites
            | Self::Unsupported
            | Self::Refused => false,
        }
    }

    /// One word for it, as a log line has it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::NoResponse(why) => why.label(),
            Self::Unavailable => "unavailable",
            Self::AccessDenied => "access_denied",
            Self::CredentialsRefused => "credentials_refused",
            Self::BucketMissing => "bucket_missing",
            Self::Conflict => "conflict",
            Self::Misconfigured(_) => "misconfigured",
            Self::NoConditionalWrites => "no_conditional_writes",
            Self::Unsupported => "unsupported",
            Self::Refused => "request_refused",
        }
    }
}

impl From<NoResponse> for StoreError {
    fn from(why: NoResponse) -> Self {
        Self::NoResponse(why)
    }
}

/// A body over its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer is too large")]
pub(crate) struct TooLarge;

/// What the store said when it did not say yes. Travels inside of `object_store`'s errors, in place of the answer's
/// text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store answered {status}")]
pub(crate) struct Refusal {
    status: u16,
    code: Code,
}

/// The words of the stores that matter here. Everything else is `Other`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Code {
    /// Another key, or one that is no more, or a signature of another time.
    Credentials,
    /// The bucket or container is not there.
    NoBucket,
    /// The bucket is there, the object is not.
    NoObject,
    /// The region is another one.
    Region,
    /// The key of the key management service.
    EncryptionKey,
    /// Busy, or not yet ready.
    Busy,
    /// Removed by its name, and kept as a noncurrent version, or for a while as deleted.
    Versioned,
    /// The store does not know the condition under which something is to be created.
    Condition,
    /// Anything else.
    Other,
    /// There is no error of a store's in it.
    None,
}

impl Code {
    fn of(word: &str) -> Self {
        match word {
            // S3 and STS
            "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" | "InvalidToken"
            | "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidClientTokenId"
            | "RequestTimeTooSkewed"
            | "UnrecognizedClientException" | "InvalidIdentityToken"
            // Google
            | "AuthenticationRequired" | "InvalidSecurity"
            // Azure and its token endpoint
            | "AuthenticationFailed" | "InvalidAuthenticationInfo" | "NoAuthenticationInformation"
            | "invalid_client" | "invalid_grant" | "unauthorized_client" => Self::Credentials,
            "NoSuchBucket" | "ContainerNotFound" | "ContainerBeingDeleted" | "ContainerDisabled" => {
                Self::NoBucket
            }
            // S3 and Google; Azure
            "NoSuchKey" | "BlobNotFound" => Self::NoObject,
            "PermanentRedirect" | "TemporaryRedirect" | "AuthorizationHeaderMalformed"
            | "IllegalLocationConstraintException" => Self::Region,
            "KMS.NotFoundException" | "KMS.DisabledException" | "KMS.KMSInvalidStateException"
            | "KMS.InvalidKeyUsageException" => Self::EncryptionKey,
            "SlowDown" | "RequestTimeout" | "InternalError" | "ServerBusy" | "OperationTimedOut"
            | "ServiceUnavailable" | "OperationAborted" => Self::Busy,
            _ => Self::Other,
        }
    }

    fn of_token(word: &str) -> Self {
        let code = Self::of(word.trim());
        if code == Self::Other { Self::None } else { code }
    }
}

/// What came of a call that did not succeed, as far as the next step depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Something is there already, or is being written.
    Exists,
    /// Nothing is there.
    NotFound,
    /// The store never had the request: why.
    NotSent(StoreError),
    /// The store may or may not have done it: what is to be said if it stays so.
    Unknown(StoreError),
    /// It has not, and says why.
    Trouble(StoreError),
}

impl Answer {
    /// What is to be said of it once nothing better comes.
    pub(crate) const fn told(self) -> StoreError {
        match self {
            Self::NotSent(error) | Self::Unknown(error) | Self::Trouble(error) => error,
            Self::Exists | Self::NotFound => StoreError::Unavailable,
        }
    }
}

impl Refusal {
    /// Reads what a store said: its status, the value of `x-ms-error-code`, and the start of its body.
    pub(crate) fn read(status: u16, header: Option<&str>, body: &[u8]) -> Self {
        let body = String::from_utf8_lossy(body);
        let word = header.or_else(|| between(&body, "<Code>", "</Code>"));
        // Of token endpoints. Gateways write such a body too, so what is unknown in it is no store's.
        let token = between(&body, "\"error\":\"", "\"").or_else(|| between(&body, "\"error\": \"", "\""));
        let header = between(&body, "<Header>", "</Header>").unwrap_or_default();
        let code = match word {
            _ if header.trim().eq_ignore_ascii_case("if-none-match") => Code::Condition,
            Some(word) => Code::of(word.trim()),
            None => token.map_or(Code::None, Code::of_token),
        };
        Self { status, code }
    }

    /// What the headers of a removal that succeeded say of what is left: a delete marker in front of it (S3), or that it
    /// is not deleted for good (Azure). Google says nothing.
    pub(crate) fn of_removal(status: u16, headers: &HeaderMap) -> Option<Self> {
        let says = |name, word: &str| {
            let value = headers.get(name).and_then(|value| value.to_str().ok());
            value.is_some_and(|value| value.eq_ignore_ascii_case(word))
        };
        let is_left = says("x-amz-delete-marker", "true") || says("x-ms-delete-type-permanent", "false");
        is_left.then_some(Self { status, code: Code::Versioned })
    }

    /// As [`answer`](Self::answer), of what a removal asks for: what ends it is only believed to the store itself. Without a
    /// code of a store's, the same status is one of a gateway's.
    fn answer_to_removal(self) -> Answer {
        match (self.status, self.code) {
            (304 | 403 | 409 | 412, Code::None) => Answer::Unknown(NoResponse::Unusable.into()),
            _ => self.answer(),
        }
    }

    fn answer(self) -> Answer {
        match (self.status, self.code) {
            (_, Code::Credentials) | (401, _) => Answer::Trouble(StoreError::CredentialsRefused),
            (_, Code::NoBucket) => Answer::Trouble(StoreError::BucketMissing),
            (_, Code::Region) | (300..=303 | 305..=399, _) => {
                Answer::Trouble(StoreError::Misconfigured("region"))
            }
            (_, Code::EncryptionKey) => Answer::Trouble(StoreError::Misconfigured("aws_sse_kms_key_id")),
            // What is versioned is gone by its name.
            (404, Code::NoObject) | (_, Code::Versioned) => Answer::NotFound,
            (400 | 501, Code::Condition) => Answer::Trouble(StoreError::NoConditionalWrites),
            (501, _) => Answer::Trouble(StoreError::Unsupported),
            (502..=504, _) | (500, Code::None) => Answer::Unknown(NoResponse::OutOfOrder.into()),
            (403, _) => Answer::Trouble(StoreError::AccessDenied),
            (304 | 409 | 412, _) => Answer::Exists,
            // Any other 404 is of another server on the way, or of one that gives out tokens: the object may be there.
            (404, _) => Answer::Unknown(NoResponse::Unusable.into()),
            (_, Code::Busy) | (408 | 425 | 429 | 500..=599, _) => Answer::Unknown(StoreError::Unavailable),
            (400..=499, _) => Answer::Trouble(StoreError::Refused),
            _ => Answer::Unknown(NoResponse::Unusable.into()),
        }
    }
}

/// What an error of the library means. Total: what it does not know is `Unknown`.
pub(crate) fn judge(error: &object_store::Error) -> Answer {
    if let Some(http) = find::<HttpError>(error) {
        return judge_http(http);
    }
    if matches!(error, object_store::Error::AlreadyExists { .. }) {
        return Answer::Exists;
    }
    if matches!(error, object_store::Error::NotFound { .. }) {
        return Answer::NotFound;
    }
    if find::<TooLarge>(error).is_some() {
        return Answer::Trouble(NoResponse::TooLarge.into());
    }
    // From a file that holds a token. Otherwise it is an answer that cannot be read.
    match find::<io::Error>(error).map(judge_file) {
        Some(Answer::Trouble(error)) => Answer::Trouble(error),
        _ => Answer::Unknown(NoResponse::Unusable.into()),
    }
}

/// As [`judge`], of what a removal asks for: see [`Refusal::answer_to_removal`].
pub(crate) fn judge_removal(error: &object_store::Error) -> Answer {
    find::<Refusal>(error).map_or_else(|| judge(error), |refusal| refusal.answer_to_removal())
}

/// As [`judge_http`], of a removal.
pub(crate) fn judge_http_removal(error: &HttpError) -> Answer {
    find::<Refusal>(error).map_or_else(|| judge_http(error), |refusal| refusal.answer_to_removal())
}

/// What an error of a local file means. Its system answers for a folder: what it says is about the one request, as is a
/// quota that is used up.
pub(crate) fn judge_file(error: &io::Error) -> Answer {
    let is = |kind| error.kind() == kind;
    if is(io::ErrorKind::PermissionDenied) || is(io::ErrorKind::ReadOnlyFilesystem) {
        return Answer::Trouble(StoreError::AccessDenied);
    }
    if is(io::ErrorKind::NotFound) {
        return Answer::NotFound;
    }
    if is(io::ErrorKind::AlreadyExists) { Answer::Exists } else { Answer::Unknown(StoreError::Unavailable) }
}

/// Whether the store has removed an object by its name, and keeps it as a noncurrent version, or for a while as deleted.
pub(crate) fn is_versioned(error: &(dyn StdError + 'static)) -> bool {
    find::<Refusal>(error).is_some_and(|refusal| refusal.code == Code::Versioned)
}

/// What an error of a single request means.
pub(crate) fn judge_http(error: &HttpError) -> Answer {
    if let Some(refusal) = find::<Refusal>(error) {
        return refusal.answer();
    }
    if find::<TooLarge>(error).is_some() {
        return Answer::Trouble(NoResponse::TooLarge.into());
    }
    let Some(error) = find::<reqwest::Error>(error) else {
        return Answer::Unknown(NoResponse::Unusable.into());
    };
    if error.is_builder() {
        return Answer::Trouble(StoreError::Refused);
    }
    let not_sent = |why: NoResponse| Answer::NotSent(why.into());
    if !error.is_connect() {
        let why = if error.is_timeout() { NoResponse::TimedOut } else { NoResponse::Cut };
        return Answer::Unknown(why.into());
    }
    match ConnectError::of(error) {
        ConnectError::Resolve => not_sent(NoResponse::Resolve),
        ConnectError::Tls => not_sent(NoResponse::Tls),
        ConnectError::Unreachable if error.is_timeout() => not_sent(NoResponse::TimedOut),
        ConnectError::Refused | ConnectError::Unreachable => not_sent(NoResponse::Refused),
    }
}

fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once(after).map(|(word, _)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn xml(code: &str) -> String {
        format!("<?xml version='1.0'?><Error><Code>{code}</Code><Message>canary</Message></Error>")
    }

    #[test]
    fn what_a_store_says_is_read_in_one_way() {
        let error = Answer::Trouble;
        for (status, code, answer) in [
            (403, "AccessDenied", error(StoreError::AccessDenied)),
            (403, "InvalidAccessKeyId", error(StoreError::CredentialsRefused)),
            (403, "SignatureDoesNotMatch", error(StoreError::CredentialsRefused)),
            (400, "ExpiredToken", error(StoreError::CredentialsRefused)),
            (403, "RequestTimeTooSkewed", error(StoreError::CredentialsRefused)),
            (401, "", error(StoreError::CredentialsRefused)),
            (404, "NoSuchBucket", error(StoreError::BucketMissing)),
            (404, "NoSuchKey", Answer::NotFound),
            (404, "BlobNotFound", Answer::NotFound),
            (404, "Other", Answer::Unknown(NoResponse::Unusable.into())),
            (301, "PermanentRedirect", error(StoreError::Misconfigured("region"))),
            (307, "", error(StoreError::Misconfigured("region"))),
            (400, "AuthorizationHeaderMalformed", error(StoreError::Misconfigured("region"))),
            (400, "KMS.NotFoundException", error(StoreError::Misconfigured("aws_sse_kms_key_id"))),
            (400, "InvalidRequest", error(StoreError::Refused)),
            (400, "RequestTimeout", Answer::Unknown(StoreError::Unavailable)),
            (409, "ConditionalRequestConflict", Answer::Exists),
            (412, "PreconditionFailed", Answer::Exists),
            (429, "", Answer::Unknown(StoreError::Unavailable)),
            (500, "InternalError", Answer::Unknown(StoreError::Unavailable)),
            (503, "SlowDown", Answer::Unknown(NoResponse::OutOfOrder.into())),
            (501, "NotImplemented", error(StoreError::Unsupported)),
        ] {
            assert_eq!(Refusal::read(status, None, xml(code).as_bytes()).answer(), answer, "{status} {code}");
        }
    }

    #[test]
    fn the_header_of_azure_and_the_json_of_token_endpoints_are_read_too() {
        let refused = Answer::Trouble(StoreError::CredentialsRefused);
        assert_eq!(Refusal::read(403, Some("AuthenticationFailed"), b"").answer(), refused);
        assert_eq!(
            Refusal::read(400, None, br#"{"error":"invalid_client","error_description":"x"}"#).answer(),
            refused
        );
        let missing = Answer::Trouble(StoreError::BucketMissing);
        assert_eq!(Refusal::read(404, Some("ContainerNotFound"), b"").answer(), missing);
        assert_eq!(Refusal::read(404, Some("BlobNotFound"), b"").answer(), Answer::NotFound);
        let html = Refusal::read(404, None, b"<html>no such page</html>").answer();
        assert_eq!(html, Answer::Unknown(NoResponse::Unusable.into()));
    }

    #[test]
    fn only_who_gives_no_answer_is_silent() {
        let silence = |status, body: &str| match Refusal::read(status, None, body.as_bytes()).answer() {
            Answer::Trouble(error) | Answer::Unknown(error) | Answer::NotSent(error) => error.is_silence(),
            Answer::Exists | Answer::NotFound => false,
        };
        for status in [502, 503, 504] {
            assert!(silence(status, "") && silence(status, &xml("SlowDown")), "{status}");
        }
        assert!(silence(500, "<html>500</html>"));
        for (status, code) in [
            (500, "InternalError"),
            (501, "NotImplemented"),
            (403, "AccessDenied"),
            (404, "NoSuchBucket"),
            (400, "InvalidRequest"),
            (429, "TooManyRequests"),
            (507, "InsufficientStorage"),
        ] {
            assert!(!silence(status, &xml(code)), "{status} {code}: that request's own");
        }
        let full = io::Error::from(io::ErrorKind::QuotaExceeded);
        assert_eq!(judge_file(&full), Answer::Unknown(StoreError::Unavailable), "one tenant's quota");
    }

    #[test]
    fn a_store_without_conditional_writes_is_told_from_one_that_lacks_something_else() {
        let said = |header: &str| {
            let body = format!("<Error><Code>NotImplemented</Code><Header>{header}</Header></Error>");
            Refusal::read(501, None, body.as_bytes()).answer()
        };
        assert_eq!(said("If-None-Match"), Answer::Trouble(StoreError::NoConditionalWrites));
        assert_eq!(said("x-amz-server-side-encryption"), Answer::Trouble(StoreError::Unsupported));
    }

    #[test]
    fn a_removal_that_leaves_a_version_is_told_by_its_headers() {
        let of = |name, value| {
            let headers = HeaderMap::from_iter([(
                http::HeaderName::from_static(name),
                http::HeaderValue::from_static(value),
            )]);
            Refusal::of_removal(204, &headers).is_some_and(|refusal| is_versioned(&refusal))
        };
        assert!(of("x-amz-delete-marker", "true"));
        assert!(of("x-ms-delete-type-permanent", "false"));
        assert!(!of("x-amz-delete-marker", "false"));
        assert!(!of("x-ms-delete-type-permanent", "true"));
        assert!(!of("x-amz-version-id", "true"));
        assert!(!is_versioned(&Refusal::read(404, None, b"")));
    }

    #[test]
    fn every_status_has_an_answer_and_no_text_of_the_store_stays() {
        for status in 100..=999 {
            let refusal = Refusal::read(status, None, xml("canary").as_bytes());
            let _ = refusal.answer();
            assert!(!format!("{refusal} {refusal:?}").contains("canary"));
        }
    }
}
