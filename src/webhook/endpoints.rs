//! The names under which notifications arrive: a YAML file that is read once at start-up. Each name belongs to one allowed
//! portal, because session ids are unique only per portal, and has its secrets in a file of its own. No I/O.
//!
//! ```yaml
//! webhooks:
//! - name: okid                                  # POST /notify/okid
//!   portal: https://verify.test.okid.io         # the default portal, if it is left out
//!   secretsFile: /etc/okid-operator/webhooks/okid
//!   hmac:                                       # or: bearer: {}
//!     header: X-Signature
//!     encoding: hex                             # or base64
//!     prefix: sha256=                           # none, if it is left out
//! ```

use std::{collections::BTreeMap, path::PathBuf};

use http::{
    HeaderName,
    header::{
        CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, FORWARDED, HOST, PROXY_AUTHORIZATION, TE, TRAILER,
        TRANSFER_ENCODING, UPGRADE, VIA,
    },
};
use serde::Deserialize;

use super::{
    authentication::{Encoding, Scheme, Signature},
    forward::FORWARDED_BY_A_REPLICA,
};
use crate::portal::{AllowedPortals, PortalUrl};

/// The most names.
const MOST_NAMES: usize = 100;
/// The most characters of a name.
const NAME_CHARS: usize = 63;

/// What arrives under one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// Whose sessions the notifications are about.
    pub(super) portal: PortalUrl,
    /// How they are checked.
    pub(super) scheme: Scheme,
    /// The file with the secrets, one in each line.
    pub(super) secrets_file: PathBuf,
}

/// The endpoints by name; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints(pub(super) BTreeMap<String, Endpoint>);

/// An invalid file.
#[derive(Debug, thiserror::Error)]
pub enum InvalidEndpoints {
    /// It is not YAML, or has other fields.
    #[error("the file cannot be read as a list of webhooks: {0}")]
    Form(String),
    /// It has no entry, or too many.
    #[error("write 1 to {MOST_NAMES} entries under `webhooks`")]
    Number,
    /// A name is not usable in a URL. Holds the position of its entry, from 1.
    #[error("entry {0}: name: write 1 to {NAME_CHARS} lower-case letters, digits and -")]
    Name(usize),
    /// Two entries have one name.
    #[error("{0}: another entry has the same name")]
    SameName(String),
    /// The portal is not allowed.
    #[error("{0}: portal: this is not one of the allowed portals; add it with --allowed-portal")]
    Portal(String),
    /// There is no way to check a call, or there are two.
    #[error("{0}: write either `bearer: {{}}` or `hmac` with a header")]
    Scheme(String),
    /// The header has no valid name, or cannot be forwarded as it came.
    #[error(
        "{0}: hmac.header: write the name of the portal's header, such as X-Signature, and none that each connection sets"
    )]
    Header(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    webhooks: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Entry {
    name: String,
    portal: Option<String>,
    secrets_file: PathBuf,
    bearer: Option<Bearer>,
    hmac: Option<HmacEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bearer {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HmacEntry {
    header: String,
    encoding: Encoding,
    #[serde(default)]
    prefix: String,
}

impl Endpoints {
    /// Parses the file's text.
    ///
    /// # Errors
    ///
    /// [`InvalidEndpoints`] for the first error.
    pub fn parse(
        text: &str,
        allowed: &AllowedPortals,
        default_portal: &PortalUrl,
    ) -> Result<Self, InvalidEndpoints> {
        let file: File =
            serde_norway::from_str(text).map_err(|error| InvalidEndpoints::Form(error.to_string()))?;
        if file.webhooks.is_empty() || file.webhooks.len() > MOST_NAMES {
            return Err(InvalidEndpoints::Number);
        }
        let mut endpoints = BTreeMap::new();
        for (position, entry) in (1..).zip(file.webhooks) {
            let Entry { name, portal, secrets_file, bearer, hmac } = entry;
            if !is_name(&name) {
                return Err(InvalidEndpoints::Name(position));
            }
            let portal = portal.map_or_else(|| Ok(default_portal.clone()), |url| allowed.permit(&url));
            let portal = portal.map_err(|_| InvalidEndpoints::Portal(name.clone()))?;
            let scheme = match (bearer, hmac) {
                (Some(Bearer {}), None) => Scheme::Bearer,
                (None, Some(HmacEntry { header, encoding, prefix })) => {
                    let header =
                        HeaderName::from_bytes(header.as_bytes()).ok().filter(is_forwarded_as_it_came);
                    let header = header.ok_or_else(|| InvalidEndpoints::Header(name.clone()))?;
                    Scheme::Hmac(Signature { header, encoding, prefix })
                }
                (None, None) | (Some(Bearer {}), Some(_)) => return Err(InvalidEndpoints::Scheme(name)),
            };
            if endpoints.insert(name.clone(), Endpoint { portal, scheme, secrets_file }).is_some() {
                return Err(InvalidEndpoints::SameName(name));
            }
        }
        Ok(Self(endpoints))
    }

    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

fn is_name(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=NAME_CHARS).contains(&text.len()) && text.bytes().all(is_inner)
}

/// Whether a header is the sender's own: proxies and HTTP clients neither set nor remove it.
fn is_forwarded_as_it_came(header: &HeaderName) -> bool {
    const OF_A_CONNECTION: [HeaderName; 12] = [
        CONNECTION,
        CONTENT_LENGTH,
        CONTENT_TYPE,
        EXPECT,
        FORWARDED,
        HOST,
        PROXY_AUTHORIZATION,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
        VIA,
    ];
    let text = header.as_str();
    !OF_A_CONNECTION.contains(header)
        && text != "keep-alive"
        && !text.starts_with("x-forwarded-")
        && *header != FORWARDED_BY_A_REPLICA
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Endpoints, String> {
        let allowed = AllowedPortals::new(["https://one.test", "https://two.test"], false).unwrap();
        let default_portal = allowed.iter().next().unwrap().clone();
        Endpoints::parse(text, &allowed, &default_portal).map_err(|invalid| invalid.to_string())
    }

    #[test]
    fn each_name_has_a_portal_a_scheme_and_a_file() {
        let text = "webhooks:\n\
                    - {name: one, secretsFile: /a, bearer: {}}\n\
                    - {name: two, portal: 'https://two.test/', secretsFile: /b, hmac: {header: X-Signature, encoding: base64, prefix: v1=}}\n";
        let Endpoints(endpoints) = parse(text).unwrap();
        let (one, two) = (&endpoints["one"], &endpoints["two"]);
        assert_eq!((one.portal.as_str(), &one.scheme), ("https://one.test", &Scheme::Bearer));
        assert_eq!((two.portal.as_str(), two.secrets_file.to_str()), ("https://two.test", Some("/b")));
        let header = HeaderName::from_static("x-signature");
        let signature = Signature { header, encoding: Encoding::Base64, prefix: "v1=".to_owned() };
        assert_eq!(two.scheme, Scheme::Hmac(signature));
    }

    #[test]
    fn an_entry_that_cannot_be_used_is_named_with_what_to_do() {
        let entry = |entry: &str| parse(&format!("webhooks: [{entry}]")).unwrap_err();
        assert!(parse("webhooks: []").unwrap_err().starts_with("write 1 to 100 entries"));
        assert!(parse("hooks: []").unwrap_err().contains("unknown field `hooks`"));
        assert!(
            entry("{name: a, secretsFile: /a, bearer: {}, secret: x}").contains("unknown field `secret`")
        );
        for name in ["''", "A", "a/b", "a.b"] {
            let refusal = entry(&format!("{{name: {name}, secretsFile: /a, bearer: {{}}}}"));
            assert!(refusal.starts_with("entry 1: name:"), "{refusal}");
        }
        let same = "{name: a, secretsFile: /a, bearer: {}}";
        assert!(entry(&format!("{same}, {same}")).starts_with("a: another entry"));
        let refusal = entry("{name: a, portal: 'https://three.test', secretsFile: /a, bearer: {}}");
        assert!(refusal.contains("--allowed-portal"), "{refusal}");
        assert!(entry("{name: a, secretsFile: /a}").starts_with("a: write either"));
        let both = "{name: a, secretsFile: /a, bearer: {}, hmac: {header: X-A, encoding: hex}}";
        assert!(entry(both).starts_with("a: write either"));
        for header in
            ["'X A'", "Host", "content-length", "Keep-Alive", "X-Forwarded-For", "Okid-Operator-Forwarded"]
        {
            let refusal =
                entry(&format!("{{name: a, secretsFile: /a, hmac: {{header: {header}, encoding: hex}}}}"));
            assert!(refusal.starts_with("a: hmac.header: write the name"), "{header}: {refusal}");
        }
    }
}
