//! What the response to a single request means: the codes of the stores, and the errors of the library. Total, and pure but for
//! the error types.

use std::{error::Error as StdError, io};

use http::HeaderMap;
use object_store::client::HttpError;

use super::{error::StoreError, no_response::NoResponse};
use crate::connect_error::ConnectError;

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

/// Why a single request did not succeed, as far as the next step depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestError {
    /// An object exists already, or is being written.
    AlreadyExists,
    /// Nothing is there.
    NotFound,
    /// The store never had the request: why.
    NotSent(StoreError),
    /// The store may or may not have done it: the error, if nothing better becomes known.
    Unknown(StoreError),
    /// It did not happen: why.
    Failed(StoreError),
}

impl RequestError {
    /// The error of the whole call, once there is no other attempt.
    pub(crate) const fn into_error(self) -> StoreError {
        match self {
            Self::NotSent(error) | Self::Unknown(error) | Self::Failed(error) => error,
            Self::AlreadyExists | Self::NotFound => StoreError::Unavailable,
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
    fn answer_to_removal(self) -> RequestError {
        match (self.status, self.code) {
            (304 | 403 | 409 | 412, Code::None) => RequestError::Unknown(NoResponse::Unusable.into()),
            _ => self.answer(),
        }
    }

    fn answer(self) -> RequestError {
        match (self.status, self.code) {
            (_, Code::Credentials) | (401, _) => RequestError::Failed(StoreError::CredentialsRefused),
            (_, Code::NoBucket) => RequestError::Failed(StoreError::BucketMissing),
            (_, Code::Region) | (300..=303 | 305..=399, _) => {
                RequestError::Failed(StoreError::Misconfigured("region"))
            }
            (_, Code::EncryptionKey) => RequestError::Failed(StoreError::Misconfigured("aws_sse_kms_key_id")),
            // What is versioned is gone by its name.
            (404, Code::NoObject) | (_, Code::Versioned) => RequestError::NotFound,
            (400 | 501, Code::Condition) => RequestError::Failed(StoreError::NoConditionalWrites),
            (501, _) => RequestError::Failed(StoreError::Unsupported),
            (502..=504, _) | (500, Code::None) => RequestError::Unknown(NoResponse::OutOfOrder.into()),
            (403, _) => RequestError::Failed(StoreError::AccessDenied),
            (304 | 409 | 412, _) => RequestError::AlreadyExists,
            // Any other 404 is of another server on the way, or of one that gives out tokens: the object may be there.
            (404, _) => RequestError::Unknown(NoResponse::Unusable.into()),
            (_, Code::Busy) | (408 | 425 | 429 | 500..=599, _) => {
                RequestError::Unknown(StoreError::Unavailable)
            }
            (400..=499, _) => RequestError::Failed(StoreError::Refused),
            _ => RequestError::Unknown(NoResponse::Unusable.into()),
        }
    }
}

/// What an error of the library means. Total: what it does not know is `Unknown`.
pub(crate) fn classify(error: &object_store::Error) -> RequestError {
    if let Some(http) = find::<HttpError>(error) {
        return classify_http(http);
    }
    if matches!(error, object_store::Error::AlreadyExists { .. }) {
        return RequestError::AlreadyExists;
    }
    if matches!(error, object_store::Error::NotFound { .. }) {
        return RequestError::NotFound;
    }
    if find::<TooLarge>(error).is_some() {
        return RequestError::Failed(NoResponse::TooLarge.into());
    }
    // From a file that holds a token. Otherwise it is an answer that cannot be read.
    match find::<io::Error>(error).map(classify_file) {
        Some(RequestError::Failed(error)) => RequestError::Failed(error),
        _ => RequestError::Unknown(NoResponse::Unusable.into()),
    }
}

/// As [`classify`], of what a removal asks for: see [`Refusal::answer_to_removal`].
pub(crate) fn classify_removal(error: &object_store::Error) -> RequestError {
    find::<Refusal>(error).map_or_else(|| classify(error), |refusal| refusal.answer_to_removal())
}

/// As [`classify_http`], of a removal.
pub(crate) fn classify_http_removal(error: &HttpError) -> RequestError {
    find::<Refusal>(error).map_or_else(|| classify_http(error), |refusal| refusal.answer_to_removal())
}

/// What an error of a local file means. Its system answers for a folder: what it says is about the one request, as is a
/// quota that is used up.
pub(crate) fn classify_file(error: &io::Error) -> RequestError {
    let is = |kind| error.kind() == kind;
    if is(io::ErrorKind::PermissionDenied) || is(io::ErrorKind::ReadOnlyFilesystem) {
        return RequestError::Failed(StoreError::AccessDenied);
    }
    if is(io::ErrorKind::NotFound) {
        return RequestError::NotFound;
    }
    if is(io::ErrorKind::AlreadyExists) {
        RequestError::AlreadyExists
    } else {
        RequestError::Unknown(StoreError::Unavailable)
    }
}

/// Whether the store has removed an object by its name, and keeps it as a noncurrent version, or for a while as deleted.
pub(crate) fn is_versioned(error: &(dyn StdError + 'static)) -> bool {
    find::<Refusal>(error).is_some_and(|refusal| refusal.code == Code::Versioned)
}

/// What an error of a single request means.
pub(crate) fn classify_http(error: &HttpError) -> RequestError {
    if let Some(refusal) = find::<Refusal>(error) {
        return refusal.answer();
    }
    if find::<TooLarge>(error).is_some() {
        return RequestError::Failed(NoResponse::TooLarge.into());
    }
    let Some(error) = find::<reqwest::Error>(error) else {
        return RequestError::Unknown(NoResponse::Unusable.into());
    };
    if error.is_builder() {
        return RequestError::Failed(StoreError::Refused);
    }
    let not_sent = |why: NoResponse| RequestError::NotSent(why.into());
    if !error.is_connect() {
        let why = if error.is_timeout() { NoResponse::TimedOut } else { NoResponse::Cut };
        return RequestError::Unknown(why.into());
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
        let error = RequestError::Failed;
        for (status, code, answer) in [
            (403, "AccessDenied", error(StoreError::AccessDenied)),
            (403, "InvalidAccessKeyId", error(StoreError::CredentialsRefused)),
            (403, "SignatureDoesNotMatch", error(StoreError::CredentialsRefused)),
            (400, "ExpiredToken", error(StoreError::CredentialsRefused)),
            (403, "RequestTimeTooSkewed", error(StoreError::CredentialsRefused)),
            (401, "", error(StoreError::CredentialsRefused)),
            (404, "NoSuchBucket", error(StoreError::BucketMissing)),
            (404, "NoSuchKey", RequestError::NotFound),
            (404, "BlobNotFound", RequestError::NotFound),
            (404, "Other", RequestError::Unknown(NoResponse::Unusable.into())),
            (301, "PermanentRedirect", error(StoreError::Misconfigured("region"))),
            (307, "", error(StoreError::Misconfigured("region"))),
            (400, "AuthorizationHeaderMalformed", error(StoreError::Misconfigured("region"))),
            (400, "KMS.NotFoundException", error(StoreError::Misconfigured("aws_sse_kms_key_id"))),
            (400, "InvalidRequest", error(StoreError::Refused)),
            (400, "RequestTimeout", RequestError::Unknown(StoreError::Unavailable)),
            (409, "ConditionalRequestConflict", RequestError::AlreadyExists),
            (412, "PreconditionFailed", RequestError::AlreadyExists),
            (429, "", RequestError::Unknown(StoreError::Unavailable)),
            (500, "InternalError", RequestError::Unknown(StoreError::Unavailable)),
            (503, "SlowDown", RequestError::Unknown(NoResponse::OutOfOrder.into())),
            (501, "NotImplemented", error(StoreError::Unsupported)),
        ] {
            assert_eq!(Refusal::read(status, None, xml(code).as_bytes()).answer(), answer, "{status} {code}");
        }
    }

    #[test]
    fn the_header_of_azure_and_the_json_of_token_endpoints_are_read_too() {
        let refused = RequestError::Failed(StoreError::CredentialsRefused);
        assert_eq!(Refusal::read(403, Some("AuthenticationFailed"), b"").answer(), refused);
        assert_eq!(
            Refusal::read(400, None, br#"{"error":"invalid_client","error_description":"x"}"#).answer(),
            refused
        );
        let missing = RequestError::Failed(StoreError::BucketMissing);
        assert_eq!(Refusal::read(404, Some("ContainerNotFound"), b"").answer(), missing);
        assert_eq!(Refusal::read(404, Some("BlobNotFound"), b"").answer(), RequestError::NotFound);
        let html = Refusal::read(404, None, b"<html>no such page</html>").answer();
        assert_eq!(html, RequestError::Unknown(NoResponse::Unusable.into()));
    }

    #[test]
    fn only_who_gives_no_answer_is_silent() {
        let silence = |status, body: &str| match Refusal::read(status, None, body.as_bytes()).answer() {
            RequestError::Failed(error) | RequestError::Unknown(error) | RequestError::NotSent(error) => {
                error.is_silence()
            }
            RequestError::AlreadyExists | RequestError::NotFound => false,
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
        assert_eq!(
            classify_file(&full),
            RequestError::Unknown(StoreError::Unavailable),
            "one tenant's quota"
        );
    }

    #[test]
    fn a_store_without_conditional_writes_is_told_from_one_that_lacks_something_else() {
        let said = |header: &str| {
            let body = format!("<Error><Code>NotImplemented</Code><Header>{header}</Header></Error>");
            Refusal::read(501, None, body.as_bytes()).answer()
        };
        assert_eq!(said("If-None-Match"), RequestError::Failed(StoreError::NoConditionalWrites));
        assert_eq!(said("x-amz-server-side-encryption"), RequestError::Failed(StoreError::Unsupported));
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
