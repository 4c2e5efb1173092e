//! The types of single values, each parsed from the text of a flag. Pure.

use std::{fmt, net::IpAddr, str::FromStr};

use clap::ValueEnum;
use ipnet::IpNet;
use url::Url;

use crate::api::ImageKind;

/// Longest path of a link. Together with a portal's URL (256), an id (128) and the mode it fits into `status.portalUrl`.
const LINK_PATH_CHARS: usize = 512;

/// Path of the identity check page below a portal's URL: `/` or `/verify`, without query or fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkPath(String);

/// The text is not a [`LinkPath`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "write a path such as /verify: it begins with /, has no ? or #, and has at most {LINK_PATH_CHARS} characters"
)]
pub struct InvalidLinkPath;

impl LinkPath {
    /// The path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LinkPath {
    type Err = InvalidLinkPath;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = text.starts_with('/')
            && text.len() <= LINK_PATH_CHARS
            && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#".contains(&byte));
        if fits { Ok(Self(text.to_owned())) } else { Err(InvalidLinkPath) }
    }
}

/// Name of a namespace: a label as RFC 1123 defines it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Namespace(String);

/// The text is not a [`Namespace`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("write the name of a namespace, such as kyc: at most 63 lower-case letters, digits and dashes")]
pub struct InvalidNamespace;

impl Namespace {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Namespace {
    type Err = InvalidNamespace;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = (1..=63).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !text.starts_with('-')
            && !text.ends_with('-');
        if fits { Ok(Self(text.to_owned())) } else { Err(InvalidNamespace) }
    }
}

/// Name of a Lease: a DNS subdomain as RFC 1123 defines it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeaseName(String);

/// The text is not a [`LeaseName`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "write the name of a Lease, such as okid-operator: at most 253 lower-case letters, digits, dashes and dots"
)]
pub(crate) struct InvalidLeaseName;

impl LeaseName {
    /// The name.
    #[must_use]
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LeaseName {
    type Err = InvalidLeaseName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_label = |label: &str| {
            let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(is_inner)
        };
        if text.len() <= 253 && text.split('.').all(is_label) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidLeaseName)
        }
    }
}

/// Requests per second, or no limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateLimit(Option<f64>);

/// The text is not a [`RateLimit`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("write a number of requests per second from 1 to 100000, or 0 for no limit")]
pub struct InvalidRateLimit;

impl RateLimit {
    /// Requests per second; `None` for no limit.
    #[must_use]
    pub const fn get(self) -> Option<f64> {
        self.0
    }
}

impl FromStr for RateLimit {
    type Err = InvalidRateLimit;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            Ok(0.0) => Ok(Self(None)),
            Ok(rate) if (1.0..=100_000.0).contains(&rate) => Ok(Self(Some(rate))),
            Ok(_) | Err(_) => Err(InvalidRateLimit),
        }
    }
}

/// The text is no network.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("write a network such as 10.244.0.0/16 or fd00::/8, or one address")]
pub(super) struct InvalidNetwork;

/// Parses a network, or one address.
///
/// # Errors
///
/// [`InvalidNetwork`].
pub(super) fn network(text: &str) -> Result<IpNet, InvalidNetwork> {
    let text = text.trim();
    let address = || text.parse::<IpAddr>().map(|address| IpNet::from(address.to_canonical()));
    text.parse().or_else(|_| address()).map_err(|_| InvalidNetwork)
}

/// URL of an HTTP proxy. It may hold a password, so it is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyUrl(Url);

/// The text is not a [`ProxyUrl`]. Does not repeat the text, which may hold a password.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be the URL of an HTTP proxy, which begins with http:// or https://, such as http://proxy.example:3128; write \
     user and password before the host as user:password@, percent-encoded"
)]
pub struct InvalidPortalProxy;

impl ProxyUrl {
    /// The URL.
    #[must_use]
    pub const fn url(&self) -> &Url {
        &self.0
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ProxyUrl(…)")
    }
}

impl FromStr for ProxyUrl {
    type Err = InvalidPortalProxy;

    /// Accepts HTTP proxies alone: the client would ignore any other, and send the API key without it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        url.map(Self).ok_or(InvalidPortalProxy)
    }
}

/// URL of an operator's admin server, which speaks plain HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminUrl(String);

/// The text is not an [`AdminUrl`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("write an http:// URL without a path, such as http://okid-operator-metrics:8080")]
pub struct InvalidAdminUrl;

impl AdminUrl {
    /// The URL.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AdminUrl {
    type Err = InvalidAdminUrl;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url = Url::parse(text).map_err(|_| InvalidAdminUrl)?;
        let fits = url.scheme() == "http"
            && url.has_host()
            && matches!(url.path(), "" | "/")
            && url.query().is_none();
        if fits { Ok(Self(text.to_owned())) } else { Err(InvalidAdminUrl) }
    }
}

/// The operator's own Pod, as the downward API names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodReference {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid, if it is known.
    pub uid: Option<String>,
}

/// A kind of image that may be forbidden as evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ForbiddenImage {
    /// The original, with a watermark.
    Unredacted,
    /// The front of the document.
    Front,
    /// The back of the document.
    Back,
}

impl From<ForbiddenImage> for ImageKind {
    fn from(image: ForbiddenImage) -> Self {
        match image {
            ForbiddenImage::Unredacted => Self::Unredacted,
            ForbiddenImage::Front => Self::Front,
            ForbiddenImage::Back => Self::Back,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_may_be_one_address_and_an_error_says_how_to_write_one() {
        let network = |text| network(text).map(|network| network.to_string());
        for (text, expected) in [
            ("10.244.0.0/16", "10.244.0.0/16"),
            (" fd00::/8", "fd00::/8"),
            ("10.0.0.7", "10.0.0.7/32"),
            ("::1", "::1/128"),
            ("::ffff:10.0.0.7", "10.0.0.7/32"),
        ] {
            assert_eq!(network(text).as_deref(), Ok(expected), "{text}");
        }
        for text in ["", "ingress", "10.0.0.0/33", "10.0.0", "fe80::1%eth0"] {
            assert_eq!(network(text), Err(InvalidNetwork), "{text}");
        }
    }
}
