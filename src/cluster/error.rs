//! Why the API server gave no usable answer, as far as a log may tell it: a code and a word, never a text of an answer.
//!
//! Causes are told apart by type. Touches the errors of kube's client.

use std::{borrow::Cow, error::Error as StdError, fmt, io};

use kube::client::AuthError;

/// Most letters of a reason that are told. Kubernetes' longest, `UnsupportedMediaType`, has 20.
const REASON_LETTERS: usize = 40;

/// The proxy on the way to the API server gave no connection.
#[derive(Debug, thiserror::Error)]
#[error("the proxy on the way to the API server gives no connection")]
pub(crate) struct ProxyFailed(#[source] pub(crate) Box<dyn StdError + Send + Sync>);

/// Why the API server gave no usable answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    code: Option<u16>,
    reason: Cow<'static, str>,
}

impl ApiError {
    /// There was no answer within our own deadline.
    pub const TIMED_OUT: Self = Self { code: None, reason: Cow::Borrowed("no answer in time") };

    /// There was an answer that cannot have come from an API server.
    pub const UNUSABLE: Self = Self { code: None, reason: Cow::Borrowed("no usable answer") };

    /// The HTTP status code, if there was an answer.
    #[must_use]
    pub const fn code(&self) -> Option<u16> {
        self.code
    }

    /// The reason: the word of the API server's answer, such as `Forbidden`, or ours.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl From<&kube::Error> for ApiError {
    fn from(error: &kube::Error) -> Self {
        if let kube::Error::Api(status) = error {
            return Self { code: Some(status.code), reason: word(&status.reason) };
        }
        cause(error).map_or(Self::UNUSABLE, |reason| Self { code: None, reason })
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) if self.reason.is_empty() => write!(formatter, "{code}"),
            Some(code) => write!(formatter, "{code} {}", self.reason),
            None => formatter.write_str(&self.reason),
        }
    }
}

/// A reason is a word in CamelCase. Whatever else stands in its place may come from a proxy's page.
fn word(reason: &str) -> Cow<'static, str> {
    let is_word = reason.len() <= REASON_LETTERS && reason.bytes().all(|byte| byte.is_ascii_alphabetic());
    if is_word { Cow::Owned(reason.to_owned()) } else { Cow::Borrowed("") }
}

/// The first cause with a name that is no text of an answer, of a program or of a file.
fn cause(error: &(dyn StdError + 'static)) -> Option<Cow<'static, str>> {
    if error.is::<AuthError>() {
        return Some(Cow::Borrowed("the credentials of the kubeconfig or ServiceAccount cannot be had"));
    }
    if error.is::<serde_json::Error>() {
        return Some(Cow::Borrowed("an answer that cannot be read"));
    }
    if let Some(ProxyFailed(inner)) = error.downcast_ref::<ProxyFailed>() {
        let why = cause(inner.as_ref()).unwrap_or(Cow::Borrowed("it refuses"));
        return Some(Cow::Owned(format!("the proxy gives no connection: {why}")));
    }
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return Some(Cow::Owned(error.to_string()));
    }
    if let Some(error) = error.downcast_ref::<io::Error>() {
        // An I/O error may wrap another one without naming it as its source.
        let inner = error.get_ref().and_then(|inner| cause(inner));
        return Some(inner.unwrap_or_else(|| Cow::Owned(error.kind().to_string())));
    }
    cause(error.source()?)
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn told(error: &kube::Error) -> String {
        ApiError::from(error).to_string()
    }

    fn refused(code: u16, reason: &str) -> kube::Error {
        let status = Status::failure("canary: the object was {...}", reason).with_code(code);
        kube::Error::Api(status.boxed())
    }

    #[test]
    fn an_answer_is_told_by_its_code_and_its_word_and_never_by_its_text() {
        assert_eq!(told(&refused(403, "Forbidden")), "403 Forbidden");
        assert_eq!(told(&refused(502, "Failed to parse error data")), "502");
        assert_eq!(told(&refused(500, "ver_canary")), "500");
        assert_eq!(told(&refused(422, "")), "422");
    }

    #[test]
    fn a_missing_answer_is_told_by_its_cause_and_never_by_what_was_read() {
        let service = |error: io::Error| kube::Error::Service(Box::new(error));
        assert_eq!(told(&service(io::ErrorKind::ConnectionRefused.into())), "connection refused");
        let wrapped = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        assert_eq!(
            told(&service(io::Error::new(io::ErrorKind::InvalidData, wrapped))),
            "invalid peer certificate: UnknownIssuer"
        );
        let proxied = |cause: Box<dyn StdError + Send + Sync>| service(io::Error::other(ProxyFailed(cause)));
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused).into();
        assert_eq!(told(&proxied(refused)), "the proxy gives no connection: connection refused");
        assert_eq!(told(&proxied("user:canary".into())), "the proxy gives no connection: it refuses");
        let quoting = serde_json::from_str::<bool>("\"canary\"").unwrap_err();
        assert_eq!(told(&kube::Error::SerdeError(quoting)), "an answer that cannot be read");
        let program = AuthError::AuthExec("canary".to_owned());
        let said = told(&kube::Error::Auth(program));
        assert_eq!(said, "the credentials of the kubeconfig or ServiceAccount cannot be had");
        assert_eq!(told(&kube::Error::TlsRequired), "no usable answer");
    }
}
