//! Why a call to a store brought nothing. Closed, and without any text of the store. Pure but for the error types.

use std::{error::Error as StdError, io};

use http::HeaderMap;
use object_store::client::{HttpError, HttpErrorKind};

/// Why a call to a store brought nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum StoreTrouble {
    /// It does not answer, or says that it cannot now.
    #[error("the store does not answer, or not usefully")]
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
    /// The store calls the request wrong, and does not say which option is to blame.
    #[error("the store refuses the request")]
    Refused,
}

/// What the store said when it did not say yes. Travels inside of `object_store`'s errors, in place of the answer's
/// text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store answered {status}")]
pub(super) struct Refusal {
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
    /// Anything else, or nothing.
    Other,
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
}

/// What came of a call that did not succeed, as far as the next step depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Something is there already, or is being written.
    Exists,
    /// Nothing is there.
    NotFound,
    /// The store never had the request.
    NotSent,
    /// The store may or may not have done it.
    Unknown,
    /// It has not, and says why.
    Trouble(StoreTrouble),
}

impl Refusal {
    /// Reads what a store said: its status, the value of `x-ms-error-code`, and the start of its body.
    pub(super) fn read(status: u16, header: Option<&str>, body: &[u8]) -> Self {
        let body = String::from_utf8_lossy(body);
        let word = header
            .or_else(|| between(&body, "<Code>", "</Code>"))
            .or_else(|| between(&body, "\"error\":\"", "\""))
            .or_else(|| between(&body, "\"error\": \"", "\""));
        Self { status, code: word.map_or(Code::Other, |word| Code::of(word.trim())) }
    }

    /// What the headers of a removal that succeeded say of what is left: a delete marker in front of it (S3), or that it
    /// is not deleted for good (Azure). Google says nothing.
    pub(super) fn of_removal(status: u16, headers: &HeaderMap) -> Option<Self> {
        let says = |name, word: &str| {
            let value = headers.get(name).and_then(|value| value.to_str().ok());
            value.is_some_and(|value| value.eq_ignore_ascii_case(word))
        };
        let is_left = says("x-amz-delete-marker", "true") || says("x-ms-delete-type-permanent", "false");
        is_left.then_some(Self { status, code: Code::Versioned })
    }

    fn answer(self) -> Answer {
        match (self.status, self.code) {
            (_, Code::Credentials) | (401, _) => Answer::Trouble(StoreTrouble::CredentialsRefused),
            (_, Code::NoBucket) => Answer::Trouble(StoreTrouble::BucketMissing),
            (_, Code::Region) | (300..=303 | 305..=399, _) => {
                Answer::Trouble(StoreTrouble::Misconfigured("region"))
            }
            (_, Code::EncryptionKey) => Answer::Trouble(StoreTrouble::Misconfigured("aws_sse_kms_key_id")),
            // What is versioned is gone by its name.
            (404, Code::NoObject) | (_, Code::Versioned) => Answer::NotFound,
            (403, _) => Answer::Trouble(StoreTrouble::AccessDenied),
            (304 | 409 | 412, _) => Answer::Exists,
            // Any other 404 is of another server on the way, or of one that gives out tokens: the object may be there.
            (_, Code::Busy) | (404 | 408 | 425 | 429 | 500..=599, _) => Answer::Unknown,
            (400..=499, _) => Answer::Trouble(StoreTrouble::Refused),
            _ => Answer::Unknown,
        }
    }
}

/// What an error of the library means. Total: what it does not know is `Unknown`.
pub(super) fn judge(error: &object_store::Error) -> Answer {
    if let Some(http) = find::<HttpError>(error) {
        return judge_http(http);
    }
    if matches!(error, object_store::Error::AlreadyExists { .. }) {
        return Answer::Exists;
    }
    if matches!(error, object_store::Error::NotFound { .. }) {
        return Answer::NotFound;
    }
    // From a file that holds a token. Otherwise it is an answer that cannot be read, or no answer.
    match find::<io::Error>(error).map(judge_file) {
        Some(Answer::Trouble(trouble)) => Answer::Trouble(trouble),
        _ => Answer::Unknown,
    }
}

/// What an error of a local file means.
pub(super) fn judge_file(error: &io::Error) -> Answer {
    let is = |kind| error.kind() == kind;
    if is(io::ErrorKind::PermissionDenied) || is(io::ErrorKind::ReadOnlyFilesystem) {
        return Answer::Trouble(StoreTrouble::AccessDenied);
    }
    if is(io::ErrorKind::NotFound) {
        return Answer::NotFound;
    }
    if is(io::ErrorKind::AlreadyExists) { Answer::Exists } else { Answer::Unknown }
}

/// Whether the store has removed an object by its name, and keeps it as a noncurrent version, or for a while as deleted.
pub(super) fn is_versioned(error: &(dyn StdError + 'static)) -> bool {
    find::<Refusal>(error).is_some_and(|refusal| refusal.code == Code::Versioned)
}

/// What an error of a single request means.
pub(super) fn judge_http(error: &HttpError) -> Answer {
    match find::<Refusal>(error) {
        Some(refusal) => refusal.answer(),
        None if error.kind() == HttpErrorKind::Connect => Answer::NotSent,
        None => Answer::Unknown,
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
        let trouble = Answer::Trouble;
        for (status, code, answer) in [
            (403, "AccessDenied", trouble(StoreTrouble::AccessDenied)),
            (403, "InvalidAccessKeyId", trouble(StoreTrouble::CredentialsRefused)),
            (403, "SignatureDoesNotMatch", trouble(StoreTrouble::CredentialsRefused)),
            (400, "ExpiredToken", trouble(StoreTrouble::CredentialsRefused)),
            (403, "RequestTimeTooSkewed", trouble(StoreTrouble::CredentialsRefused)),
            (401, "", trouble(StoreTrouble::CredentialsRefused)),
            (404, "NoSuchBucket", trouble(StoreTrouble::BucketMissing)),
            (404, "NoSuchKey", Answer::NotFound),
            (404, "BlobNotFound", Answer::NotFound),
            (404, "Other", Answer::Unknown),
            (301, "PermanentRedirect", trouble(StoreTrouble::Misconfigured("region"))),
            (307, "", trouble(StoreTrouble::Misconfigured("region"))),
            (400, "AuthorizationHeaderMalformed", trouble(StoreTrouble::Misconfigured("region"))),
            (400, "KMS.NotFoundException", trouble(StoreTrouble::Misconfigured("aws_sse_kms_key_id"))),
            (400, "InvalidRequest", trouble(StoreTrouble::Refused)),
            (400, "RequestTimeout", Answer::Unknown),
            (409, "ConditionalRequestConflict", Answer::Exists),
            (412, "PreconditionFailed", Answer::Exists),
            (429, "", Answer::Unknown),
            (500, "InternalError", Answer::Unknown),
            (503, "SlowDown", Answer::Unknown),
        ] {
            assert_eq!(Refusal::read(status, None, xml(code).as_bytes()).answer(), answer, "{status} {code}");
        }
    }

    #[test]
    fn the_header_of_azure_and_the_json_of_token_endpoints_are_read_too() {
        let refused = Answer::Trouble(StoreTrouble::CredentialsRefused);
        assert_eq!(Refusal::read(403, Some("AuthenticationFailed"), b"").answer(), refused);
        assert_eq!(
            Refusal::read(400, None, br#"{"error":"invalid_client","error_description":"x"}"#).answer(),
            refused
        );
        let missing = Answer::Trouble(StoreTrouble::BucketMissing);
        assert_eq!(Refusal::read(404, Some("ContainerNotFound"), b"").answer(), missing);
        assert_eq!(Refusal::read(404, Some("BlobNotFound"), b"").answer(), Answer::NotFound);
        assert_eq!(Refusal::read(404, None, b"<html>no such page</html>").answer(), Answer::Unknown);
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
