//! Which portals may be called: an allow-list, checked before any connection.
//!
//! Pure. The API key goes wherever a `PortalUrl` points, so a `PortalUrl` is only made from text
//! that can be read in one way. Nothing is decoded, repaired or guessed: a spelling that a URL
//! parser would quietly turn into another host (octal addresses, percent signs, backslashes, tabs,
//! user information) is refused. What is left to normalise is the case of scheme and host, the
//! default port and slashes at the end.

use std::fmt;

use url::Url;

use super::verification_id::VerificationId;

/// The portal that is allowed when nothing else is said: the one of the vendor's guide.
pub const DEFAULT_PORTAL: &str = "https://verify.test.okid.io";

/// The address of a portal, normalised: `scheme://host[:port][/path]`, without a slash at its end.
///
/// At most 256 characters of ASCII, without user information, query or fragment.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortalUrl(Box<str>);

/// Which page the published link opens (guide, "Verification Modes").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkMode {
    /// The check itself.
    Direct,
    /// A page that offers a QR code or this device.
    Select,
}

/// Which of the four calls brings an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageSource {
    /// Redacted by the settings of the API key.
    Redacted,
    /// The original, with a watermark.
    Unredacted,
    /// The accepted front of the document.
    Front,
    /// The accepted back of the document.
    Back,
}

/// A call for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageCall<'a> {
    /// Which call.
    pub source: ImageSource,
    /// `image_type`: lower-case letters, digits and `_`, so that it needs no encoding.
    pub image_type: &'a str,
    /// `attempt_index`, where the call has it.
    pub attempt: Option<i32>,
}

impl PortalUrl {
    /// Most characters of an address.
    pub const MAX_CHARS: usize = 256;

    /// Reads an address; `http` only when `allow_plain_http`.
    fn parse(text: &str, allow_plain_http: bool) -> Result<Self, Flaw> {
        if text.is_empty() || text.len() > Self::MAX_CHARS {
            return Err(Flaw::Length);
        }
        let (scheme, rest) = text.split_once("://").ok_or(Flaw::Scheme)?;
        let scheme = scheme.to_ascii_lowercase();
        match scheme.as_str() {
            "https" => {}
            "http" if allow_plain_http => {}
            "http" => return Err(Flaw::PlainHttp),
            _ => return Err(Flaw::Scheme),
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let authority = authority.to_ascii_lowercase();
        let path = path.trim_end_matches('/');
        let authority_fits =
            authority.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte));
        if !authority_fits || authority.is_empty() {
            return Err(Flaw::Host);
        }
        let path_fits = path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._~-".contains(&byte))
            && path.split('/').skip(1).all(|segment| !matches!(segment, "" | "." | ".."));
        if !path_fits {
            return Err(Flaw::Path);
        }

        let url = Url::parse(&format!("{scheme}://{authority}{path}")).map_err(|_| Flaw::Host)?;
        let host = url.host_str().ok_or(Flaw::Host)?;
        // The parser must have changed nothing but leave out the default port: whatever else it
        // would make of this text, another client might read differently.
        let as_written = match url.port() {
            Some(port) => authority == format!("{host}:{port}"),
            None => {
                authority == host
                    || url.port_or_known_default().is_some_and(|port| authority == format!("{host}:{port}"))
            }
        };
        if !as_written || host.ends_with('.') || url.port() == Some(0) {
            return Err(Flaw::Host);
        }
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        Ok(Self(format!("{scheme}://{host}{port}{path}").into()))
    }

    /// The address as it is normalised.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Host and port, for logs and metrics.
    #[must_use]
    pub fn host(&self) -> &str {
        let authority = self.0.split_once("://").map_or(&*self.0, |(_, rest)| rest);
        authority.split('/').next().unwrap_or(authority)
    }

    /// The link for the person. `link_path` is the page's path below the address, `/` in the
    /// guide; a slash is put before it when it has none.
    #[must_use]
    pub fn link(&self, id: &VerificationId, mode: LinkMode, link_path: &str) -> String {
        let path = link_path.strip_prefix('/').unwrap_or(link_path);
        let mode = match mode {
            LinkMode::Direct => "",
            LinkMode::Select => "&mode=select",
        };
        format!("{}/{path}?verification_id={}{mode}", self.0, id.as_str())
    }

    /// Where a session is made (guide, step 2).
    pub(super) fn create_url(&self) -> String {
        format!("{}/api/generate-verification", self.0)
    }

    /// Where an image of a session is (guide, "Get Verification Image").
    pub(super) fn image_url(&self, id: &VerificationId, call: ImageCall<'_>) -> String {
        let ImageCall { source, image_type, attempt } = call;
        let path = match source {
            ImageSource::Redacted => "get-verification-image",
            ImageSource::Unredacted => "get-verification-image-unredacted",
            ImageSource::Front => "get-verification-image-front",
            ImageSource::Back => "get-verification-image-back",
        };
        let attempt = attempt.map_or_else(String::new, |attempt| format!("&attempt_index={attempt}"));
        format!("{}/api/{path}/{}?image_type={image_type}{attempt}", self.0, id.as_str())
    }

    /// Where a session is looked at (guide, step 4).
    pub(super) fn details_url(&self, id: &VerificationId) -> String {
        format!("{}/api/get-verification-details/{}", self.0, id.as_str())
    }
}

impl fmt::Debug for PortalUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PortalUrl({})", self.0)
    }
}

/// What is wrong with an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    Length,
    Scheme,
    PlainHttp,
    Host,
    Path,
}

impl fmt::Display for Flaw {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Length => "write 1 to 256 characters",
            Self::Scheme => "start with https://",
            Self::PlainHttp => "start with https://, or give --allow-plain-http",
            Self::Host => "after https:// write a host name or address in its shortest form, and a port if it is not the default one, without user, password, percent signs or a dot at the end; write an international name as xn--…",
            Self::Path => "use letters, digits and . _ ~ - in the path, without query, fragment, '..' or '//'",
        })
    }
}

/// A list of allowed portals that cannot be used. Says which entry, and what to do.
///
/// Does not repeat the entry: somebody may have put a password into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("entry {position} of the allowed portals is no address of a portal: {flaw}")]
pub struct InvalidPortal {
    position: usize,
    flaw: Flaw,
}

/// An address that is not one of the allowed portals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the portal is not one of the allowed portals")]
pub struct NotAllowed;

/// The portals that the operator's administrator allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedPortals {
    portals: Vec<PortalUrl>,
    allow_plain_http: bool,
}

impl AllowedPortals {
    /// Reads the list. An empty one allows nothing.
    ///
    /// # Errors
    ///
    /// [`InvalidPortal`] for the first entry that cannot be read in exactly one way, and for one
    /// with `http` unless `allow_plain_http`: over plain http the API key is readable on the way.
    pub fn new<T: AsRef<str>>(
        list: impl IntoIterator<Item = T>,
        allow_plain_http: bool,
    ) -> Result<Self, InvalidPortal> {
        let portals = list
            .into_iter()
            .enumerate()
            .map(|(index, text)| {
                PortalUrl::parse(text.as_ref(), allow_plain_http)
                    .map_err(|flaw| InvalidPortal { position: index + 1, flaw })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { portals, allow_plain_http })
    }

    /// Takes an address if it is on the list: scheme, host, port and path must be the same.
    ///
    /// # Errors
    ///
    /// [`NotAllowed`], also for what is no address at all.
    pub fn permit(&self, url: &str) -> Result<PortalUrl, NotAllowed> {
        let wanted = PortalUrl::parse(url, self.allow_plain_http).map_err(|_| NotAllowed)?;
        if self.portals.contains(&wanted) { Ok(wanted) } else { Err(NotAllowed) }
    }

    /// The allowed portals, in the order in which they were written.
    pub fn iter(&self) -> impl Iterator<Item = &PortalUrl> {
        self.portals.iter()
    }
}

#[cfg(test)]
mod tests;
