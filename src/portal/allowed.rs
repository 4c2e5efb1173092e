//! The URLs of a portal: which portals may be called, and where their endpoints and the link for the person are.
//!
//! Pure. May depend on [`crate::origin`] and on [`verification_id`](super::verification_id).

use std::fmt;

use super::verification_id::VerificationId;
use crate::origin::{AllowList, BaseUrl, InvalidEntry};

/// The portal that is allowed by default: the one in the vendor's guide.
pub const DEFAULT_PORTAL: &str = "https://verify.test.okid.io";

/// The normalized URL of a portal. The API key is sent there, so it is only made by an [`AllowedPortals`].
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortalUrl(BaseUrl);

/// Which page the published link opens (guide, "Verification Modes").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkMode {
    /// The check itself.
    Direct,
    /// A page that offers a QR code or this device.
    Select,
}

/// Which of the four endpoints serves an image.
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

/// The parameters of a request for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageQuery<'a> {
    /// Which endpoint.
    pub source: ImageSource,
    /// `image_type`: lower-case letters, digits and `_`, so that it needs no encoding.
    pub image_type: &'a str,
    /// `attempt_index`, if the endpoint has it.
    pub attempt: Option<i32>,
}

impl PortalUrl {
    /// The normalized URL.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Host and port, for logs and metrics.
    #[must_use]
    pub fn host(&self) -> &str {
        self.0.host()
    }

    /// The link for the person. `link_path` is the page's path below the URL, `/` in the guide; a missing leading slash is
    /// added.
    #[must_use]
    pub fn link(&self, id: &VerificationId, mode: LinkMode, link_path: &str) -> String {
        let path = link_path.strip_prefix('/').unwrap_or(link_path);
        let mode = match mode {
            LinkMode::Direct => "",
            LinkMode::Select => "&mode=select",
        };
        format!("{}/{path}?verification_id={}{mode}", self.as_str(), id.as_str())
    }

    /// Where a session is created (guide, step 2).
    pub(super) fn create_url(&self) -> String {
        format!("{}/api/generate-verification", self.as_str())
    }

    /// Where an image of a session is (guide, "Get Verification Image").
    pub(super) fn image_url(&self, id: &VerificationId, query: ImageQuery<'_>) -> String {
        let ImageQuery { source, image_type, attempt } = query;
        let path = match source {
            ImageSource::Redacted => "get-verification-image",
            ImageSource::Unredacted => "get-verification-image-unredacted",
            ImageSource::Front => "get-verification-image-front",
            ImageSource::Back => "get-verification-image-back",
        };
        let attempt = attempt.map_or_else(String::new, |attempt| format!("&attempt_index={attempt}"));
        format!("{}/api/{path}/{}?image_type={image_type}{attempt}", self.as_str(), id.as_str())
    }

    /// Where a session is polled (guide, step 4).
    pub(super) fn details_url(&self, id: &VerificationId) -> String {
        format!("{}/api/get-verification-details/{}", self.as_str(), id.as_str())
    }
}

impl From<BaseUrl> for PortalUrl {
    fn from(url: BaseUrl) -> Self {
        Self(url)
    }
}

impl fmt::Debug for PortalUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PortalUrl({})", self.as_str())
    }
}

/// An entry of the list of allowed portals that is not a valid URL. `Display` says which entry, and what to do.
///
/// Does not repeat the entry, which may contain a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("entry {} of the allowed portals is not a valid portal URL: {}", .0.position, .0.reason)]
pub struct InvalidPortal(InvalidEntry);

/// A URL that is not one of the allowed portals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the portal is not one of the allowed portals")]
pub struct NotAllowed;

/// The portals that the administrator allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedPortals(AllowList<PortalUrl>);

impl AllowedPortals {
    /// Parses the list. An empty list allows nothing.
    ///
    /// # Errors
    ///
    /// [`InvalidPortal`] for the first entry that cannot be read in exactly one way, and for one with `http` unless
    /// `allow_plain_http` is set: plain HTTP would expose the API key on the network.
    pub fn new<T: AsRef<str>>(
        list: impl IntoIterator<Item = T>,
        allow_plain_http: bool,
    ) -> Result<Self, InvalidPortal> {
        AllowList::parse(list, allow_plain_http).map(Self).map_err(InvalidPortal)
    }

    /// The portal of this URL, if it is on the list: scheme, host, port and path must match.
    ///
    /// # Errors
    ///
    /// [`NotAllowed`], also for text that is not a URL.
    pub fn permit(&self, url: &str) -> Result<PortalUrl, NotAllowed> {
        self.0.permit(url).ok_or(NotAllowed)
    }

    /// The allowed portals, in the order in which they were written.
    pub fn iter(&self) -> impl Iterator<Item = &PortalUrl> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests;
