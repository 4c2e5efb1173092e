//! Maps the response to a single request, or the library's error, to a [`RequestError`]. Total. Pure but for the library's error
//! types.

use std::{error::Error as StdError, io};

use http::HeaderMap;
use object_store::client::HttpError;

use super::{error::StoreError, no_response::NoResponse};
use crate::connect_error::ConnectError;

/// A body over its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the response is too large")]
pub(crate) struct TooLarge;

/// The error response of a store, without its text. `object_store`'s errors carry it as their source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store responded with status {status}")]
pub(crate) struct ErrorResponse {
    status: u16,
    code: Code,
}

/// The error codes of the stores, as far as they matter. Everything else is `Other`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Code {
    /// The key is wrong, was removed or has expired, or the signature has.
    Credentials,
    /// The bucket or container does not exist.
    NoBucket,
    /// The bucket exists, the object does not.
    NoObject,
    /// The region is wrong.
    Region,
    /// The key of the key management service cannot be used.
    EncryptionKey,
    /// The store is busy or not ready.
    Busy,
    /// The object was removed, but a noncurrent version or a soft-deleted object is retained.
    Versioned,
    /// The store does not support the condition of a conditional write.
    Condition,
    /// Anything else.
    Other,
    /// The response has no error code of a store.
    None,
}

impl Code {
    fn of(code: &str) -> Self {
        match code {
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

    fn of_token(code: &str) -> Self {
        let code = Self::of(code.trim());
        if code == Self::Other { Self::None } else { code }
    }
}

/// Why a single request did not succeed, as far as the next step depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestError {
    /// An object exists or is being written.
    AlreadyExists,
    /// The object does not exist.
    NotFound,
    /// The store did not receive the request.
    NotSent(StoreError),
    /// The store may have executed the request. The error of the call, unless more becomes known.
    Unknown(StoreError),
    /// The store did not execute the request.
    Failed(StoreError),
}

impl RequestError {
    /// The error of the call after the last attempt.
    pub(crate) const fn into_error(self) -> StoreError {
        match self {
            Self::NotSent(error) | Self::Unknown(error) | Self::Failed(error) => error,
            Self::AlreadyExists | Self::NotFound => StoreError::Unavailable,
        }
    }
}

impl ErrorResponse {
    /// Parses an error response: its status, the value of `x-ms-error-code`, and the start of its body.
    pub(crate) fn read(status: u16, header: Option<&str>, body: &[u8]) -> Self {
        let body = String::from_utf8_lossy(body);
        let named = header.or_else(|| between(&body, "<Code>", "</Code>"));
        // Of token endpoints. Gateways write such bodies too, so an unknown code in one is not a store's.
        let token = between(&body, "\"error\":\"", "\"").or_else(|| between(&body, "\"error\": \"", "\""));
        let header = between(&body, "<Header>", "</Header>").unwrap_or_default();
        let code = match named {
            _ if header.trim().eq_ignore_ascii_case("if-none-match") => Code::Condition,
            Some(named) => Code::of(named.trim()),
            None => token.map_or(Code::None, Code::of_token),
        };
        Self { status, code }
    }

    /// Whether the headers of a successful removal say that a version is retained: behind a delete marker (S3), or soft-deleted
    /// (Azure). Google does not say.
    pub(crate) fn of_removal(status: u16, headers: &HeaderMap) -> Option<Self> {
        let says = |name, expected: &str| {
            let value = headers.get(name).and_then(|value| value.to_str().ok());
            value.is_some_and(|value| value.eq_ignore_ascii_case(expected))
        };
        let is_retained = says("x-amz-delete-marker", "true") || says("x-ms-delete-type-permanent", "false");
        is_retained.then_some(Self { status, code: Code::Versioned })
    }

    /// As [`error`](Self::error), for a request of a removal. Only the store itself can end a removal, so without an error code
    /// of a store these statuses count as those of a gateway.
    fn removal_error(self) -> RequestError {
        match (self.status, self.code) {
            (304 | 403 | 409 | 412, Code::None) => RequestError::Unknown(NoResponse::Unusable.into()),
            _ => self.error(),
        }
    }

    fn error(self) -> RequestError {
        match (self.status, self.code) {
            (_, Code::Credentials) | (401, _) => RequestError::Failed(StoreError::CredentialsRefused),
            (_, Code::NoBucket) => RequestError::Failed(StoreError::BucketMissing),
            (_, Code::Region) | (300..=303 | 305..=399, _) => {
                RequestError::Failed(StoreError::Misconfigured("region"))
            }
            (_, Code::EncryptionKey) => RequestError::Failed(StoreError::Misconfigured("aws_sse_kms_key_id")),
            // A versioned object no longer exists under its key.
            (404, Code::NoObject) | (_, Code::Versioned) => RequestError::NotFound,
            (400 | 501, Code::Condition) => RequestError::Failed(StoreError::NoConditionalWrites),
            (501, _) => RequestError::Failed(StoreError::Unsupported),
            (502..=504, _) | (500, Code::None) => RequestError::Unknown(NoResponse::OutOfOrder.into()),
            (403, _) => RequestError::Failed(StoreError::AccessDenied),
            (304 | 409 | 412, _) => RequestError::AlreadyExists,
            // Any other 404 is from a gateway or a token endpoint: the object may exist.
            (404, _) => RequestError::Unknown(NoResponse::Unusable.into()),
            (_, Code::Busy) | (408 | 425 | 429 | 500..=599, _) => {
                RequestError::Unknown(StoreError::Unavailable)
            }
            (400..=499, _) => RequestError::Failed(StoreError::Refused),
            _ => RequestError::Unknown(NoResponse::Unusable.into()),
        }
    }
}

/// Maps an error of the library. Total: an unknown error is `Unknown`.
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
    // An I/O error is about a token file. Any other error is a response that cannot be read.
    match find::<io::Error>(error).map(classify_file) {
        Some(RequestError::Failed(error)) => RequestError::Failed(error),
        _ => RequestError::Unknown(NoResponse::Unusable.into()),
    }
}

/// As [`classify`], for a request of a removal: see [`ErrorResponse::removal_error`].
pub(crate) fn classify_removal(error: &object_store::Error) -> RequestError {
    find::<ErrorResponse>(error).map_or_else(|| classify(error), |response| response.removal_error())
}

/// As [`classify_http`], for a removal.
pub(crate) fn classify_http_removal(error: &HttpError) -> RequestError {
    find::<ErrorResponse>(error).map_or_else(|| classify_http(error), |response| response.removal_error())
}

/// Maps an error of a local file. It concerns the one request only, even if a quota is exhausted.
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

/// Whether the object was removed while the store retains a noncurrent version or a soft-deleted object.
pub(crate) fn is_versioned(error: &(dyn StdError + 'static)) -> bool {
    find::<ErrorResponse>(error).is_some_and(|response| response.code == Code::Versioned)
}

/// Maps an error of a single request.
pub(crate) fn classify_http(error: &HttpError) -> RequestError {
    if let Some(response) = find::<ErrorResponse>(error) {
        return response.error();
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
    rest.split_once(after).map(|(between, _)| between)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn xml(code: &str) -> String {
        format!("<?xml version='1.0'?><Error><Code>{code}</Code><Message>canary</Message></Error>")
    }

    #[test]
    fn every_error_code_of_a_store_has_one_meaning() {
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
            assert_eq!(
                ErrorResponse::read(status, None, xml(code).as_bytes()).error(),
                answer,
                "{status} {code}"
            );
        }
    }

    #[test]
    fn the_header_of_azure_and_the_json_of_token_endpoints_are_read_too() {
        let refused = RequestError::Failed(StoreError::CredentialsRefused);
        assert_eq!(ErrorResponse::read(403, Some("AuthenticationFailed"), b"").error(), refused);
        assert_eq!(
            ErrorResponse::read(400, None, br#"{"error":"invalid_client","error_description":"x"}"#).error(),
            refused
        );
        let missing = RequestError::Failed(StoreError::BucketMissing);
        assert_eq!(ErrorResponse::read(404, Some("ContainerNotFound"), b"").error(), missing);
        assert_eq!(ErrorResponse::read(404, Some("BlobNotFound"), b"").error(), RequestError::NotFound);
        let html = ErrorResponse::read(404, None, b"<html>no such page</html>").error();
        assert_eq!(html, RequestError::Unknown(NoResponse::Unusable.into()));
    }

    #[test]
    fn only_a_store_without_a_response_of_its_own_is_unresponsive() {
        let is_unresponsive =
            |status, body: &str| match ErrorResponse::read(status, None, body.as_bytes()).error() {
                RequestError::Failed(error) | RequestError::Unknown(error) | RequestError::NotSent(error) => {
                    error.is_unresponsive()
                }
                RequestError::AlreadyExists | RequestError::NotFound => false,
            };
        for status in [502, 503, 504] {
            assert!(is_unresponsive(status, "") && is_unresponsive(status, &xml("SlowDown")), "{status}");
        }
        assert!(is_unresponsive(500, "<html>500</html>"));
        for (status, code) in [
            (500, "InternalError"),
            (501, "NotImplemented"),
            (403, "AccessDenied"),
            (404, "NoSuchBucket"),
            (400, "InvalidRequest"),
            (429, "TooManyRequests"),
            (507, "InsufficientStorage"),
        ] {
            assert!(!is_unresponsive(status, &xml(code)), "{status} {code}: about that request only");
        }
        let full = io::Error::from(io::ErrorKind::QuotaExceeded);
        assert_eq!(
            classify_file(&full),
            RequestError::Unknown(StoreError::Unavailable),
            "the quota of one tenant"
        );
    }

    #[test]
    fn missing_conditional_writes_are_distinguished_from_other_missing_features() {
        let said = |header: &str| {
            let body = format!("<Error><Code>NotImplemented</Code><Header>{header}</Header></Error>");
            ErrorResponse::read(501, None, body.as_bytes()).error()
        };
        assert_eq!(said("If-None-Match"), RequestError::Failed(StoreError::NoConditionalWrites));
        assert_eq!(said("x-amz-server-side-encryption"), RequestError::Failed(StoreError::Unsupported));
    }

    #[test]
    fn headers_tell_that_a_removal_left_a_version() {
        let of = |name, value| {
            let headers = HeaderMap::from_iter([(
                http::HeaderName::from_static(name),
                http::HeaderValue::from_static(value),
            )]);
            ErrorResponse::of_removal(204, &headers).is_some_and(|response| is_versioned(&response))
        };
        assert!(of("x-amz-delete-marker", "true"));
        assert!(of("x-ms-delete-type-permanent", "false"));
        assert!(!of("x-amz-delete-marker", "false"));
        assert!(!of("x-ms-delete-type-permanent", "true"));
        assert!(!of("x-amz-version-id", "true"));
        assert!(!is_versioned(&ErrorResponse::read(404, None, b"")));
    }

    #[test]
    fn every_status_is_an_error_without_text_from_the_store() {
        for status in 100..=999 {
            let response = ErrorResponse::read(status, None, xml("canary").as_bytes());
            let _ = response.error();
            assert!(!format!("{response} {response:?}").contains("canary"));
        }
    }
}
