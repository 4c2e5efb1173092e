//! Validates the values of options. Pure.

use serde::Deserialize;
use url::Url;

use super::known::Shape;

/// The maximum size of a value. A service account's key has about 2,400 bytes.
pub(crate) const MAX_VALUE_BYTES: usize = 16 * 1024;

/// Whether a flag is true.
pub(crate) fn is_true(text: &str) -> bool {
    matches!(text.to_ascii_lowercase().as_str(), "1" | "true" | "on" | "yes" | "y")
}

/// A mode as for `chmod`: three octal digits, with or without a leading zero.
pub(crate) fn mode(text: &str) -> Option<u32> {
    let is_mode = text.len() == 3 || (text.len() == 4 && text.starts_with('0'));
    let digits = text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    (is_mode && digits).then(|| u32::from_str_radix(text, 8).ok()).flatten()
}

/// The normalized value; `None` if it is invalid.
pub(crate) fn check(shape: Shape, text: &str) -> Option<String> {
    if text.is_empty() || text.len() > MAX_VALUE_BYTES {
        return None;
    }
    // The library puts values into headers, and panics if a header cannot contain them.
    let is_printable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let only = |others: &[u8], longest: usize| {
        text.len() <= longest
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || others.contains(&byte))
    };
    let is_fit = match shape {
        Shape::Text | Shape::Endpoint => is_printable && text.trim() == text,
        Shape::Flag | Shape::PlainHttp => {
            is_true(text) || matches!(text.to_ascii_lowercase().as_str(), "0" | "false" | "off" | "no" | "n")
        }
        Shape::Checksum => ["sha256", "crc64nvme"].contains(&text.to_ascii_lowercase().as_str()),
        // Not `sse-c`: it needs a key that a Secret may not contain.
        Shape::Encryption => ["AES256", "aws:kms", "aws:kms:dsse"].contains(&text),
        Shape::Region => only(b"-", 32),
        Shape::Account => only(b"", 24),
        Shape::Tenant => only(b"-.", 128) && !text.contains(".."),
        Shape::FileMode => mode(text).is_some_and(|mode| mode & 0o600 == 0o600),
        Shape::DirMode => mode(text).is_some_and(|mode| mode & 0o700 == 0o700),
        Shape::ServiceAccount => return service_account(text),
    };
    is_fit.then(|| text.to_owned())
}

/// A normalized endpoint: the host in lower case, no default port, no trailing slash. `None` if it is not an http or https URL,
/// or has a user, a query or a fragment.
pub(crate) fn endpoint(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    let is_one = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    is_one.then(|| url.as_str().trim_end_matches('/').to_owned())
}

/// The three required fields of a service account's key. The library would also read an address from it, and whether to skip
/// authentication.
fn service_account(text: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct ServiceAccount {
        private_key: String,
        private_key_id: String,
        client_email: String,
        #[serde(default)]
        gcs_base_url: Option<String>,
        #[serde(default)]
        disable_oauth: bool,
    }
    let key: ServiceAccount = serde_json::from_str(text).ok()?;
    if key.gcs_base_url.is_some() || key.disable_oauth {
        return None;
    }
    let fields = serde_json::json!({
        "private_key": key.private_key,
        "private_key_id": key.private_key_id,
        "client_email": key.client_email,
    });
    Some(fields.to_string())
}
