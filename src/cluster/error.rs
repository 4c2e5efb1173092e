//! Why a request to the API server failed, in a form that may be logged: a code and a reason, never text of a response.
//!
//! Causes are classified by type. May depend on the errors of kube's client.

use std::{borrow::Cow, error::Error as StdError, fmt, io};

use kube::client::AuthError;

/// The most letters of a reason. Kubernetes' longest, `UnsupportedMediaType`, has 20.
const REASON_LETTERS: usize = 40;

/// The proxy to the API server did not connect.
#[derive(Debug, thiserror::Error)]
#[error("connect to the API server through the proxy")]
pub(crate) struct ProxyFailed(#[source] pub(crate) Box<dyn StdError + Send + Sync>);

/// Why a request to the API server failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    code: Option<u16>,
    reason: Cow<'static, str>,
}

impl ApiError {
    /// There was no response within our deadline.
    pub(crate) const TIMED_OUT: Self = Self { code: None, reason: Cow::Borrowed("timed out") };

    /// There was a response that cannot have come from an API server.
    pub(crate) const UNUSABLE: Self = Self { code: None, reason: Cow::Borrowed("no usable response") };

    /// The HTTP status code, if there was a response.
    #[must_use]
    pub(crate) const fn code(&self) -> Option<u16> {
        self.code
    }

    /// The reason: that of the API server's response, such as `Forbidden`, or ours.
    #[must_use]
    pub(crate) fn reason(&self) -> &str {
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

/// A reason is a CamelCase word. Anything else in its place may come from a proxy's page.
fn word(reason: &str) -> Cow<'static, str> {
    let is_word = reason.len() <= REASON_LETTERS && reason.bytes().all(|byte| byte.is_ascii_alphabetic());
    if is_word { Cow::Owned(reason.to_owned()) } else { Cow::Borrowed("") }
}

/// The first cause whose name does not come from a response, a program or a file.
fn cause(error: &(dyn StdError + 'static)) -> Option<Cow<'static, str>> {
    if error.is::<AuthError>() {
        return Some(Cow::Borrowed("the credentials of the kubeconfig or ServiceAccount cannot be obtained"));
    }
    if error.is::<serde_json::Error>() {
        return Some(Cow::Borrowed("the response cannot be decoded"));
    }
    if let Some(ProxyFailed(inner)) = error.downcast_ref::<ProxyFailed>() {
        let why = cause(inner.as_ref()).unwrap_or(Cow::Borrowed("refused"));
        return Some(Cow::Owned(format!("the proxy does not connect: {why}")));
    }
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return Some(Cow::Owned(error.to_string()));
    }
    if let Some(error) = error.downcast_ref::<io::Error>() {
        // An I/O error may wrap another one that is not its source.
        let inner = error.get_ref().and_then(|inner| cause(inner));
        return Some(inner.unwrap_or_else(|| Cow::Owned(error.kind().to_string())));
    }
    cause(error.source()?)
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn text(error: &kube::Error) -> String {
        ApiError::from(error).to_string()
    }

    fn refused(code: u16, reason: &str) -> kube::Error {
        let status = Status::failure("canary: the object was {...}", reason).with_code(code);
        kube::Error::Api(status.boxed())
    }

    #[test]
    fn a_response_is_reported_by_its_code_and_word_and_never_by_its_text() {
        assert_eq!(text(&refused(403, "Forbidden")), "403 Forbidden");
        assert_eq!(text(&refused(502, "Failed to parse error data")), "502");
        assert_eq!(text(&refused(500, "ver_canary")), "500");
        assert_eq!(text(&refused(422, "")), "422");
    }

    #[test]
    fn a_missing_response_is_reported_by_its_cause_and_never_by_what_was_read() {
        let service = |error: io::Error| kube::Error::Service(Box::new(error));
        assert_eq!(text(&service(io::ErrorKind::ConnectionRefused.into())), "connection refused");
        let wrapped = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        assert_eq!(
            text(&service(io::Error::new(io::ErrorKind::InvalidData, wrapped))),
            "invalid peer certificate: UnknownIssuer"
        );
        let proxied = |cause: Box<dyn StdError + Send + Sync>| service(io::Error::other(ProxyFailed(cause)));
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused).into();
        assert_eq!(text(&proxied(refused)), "the proxy does not connect: connection refused");
        assert_eq!(text(&proxied("user:canary".into())), "the proxy does not connect: refused");
        let quoting = serde_json::from_str::<bool>("\"canary\"").unwrap_err();
        assert_eq!(text(&kube::Error::SerdeError(quoting)), "the response cannot be decoded");
        let program = AuthError::AuthExec("canary".to_owned());
        let reason = text(&kube::Error::Auth(program));
        assert_eq!(reason, "the credentials of the kubeconfig or ServiceAccount cannot be obtained");
        assert_eq!(text(&kube::Error::TlsRequired), "no usable response");
    }
}
