//! Allow-lists of URLs: which portals and which store endpoints the operator may connect to.
//!
//! Pure. May depend on nothing of this crate. Credentials go wherever a [`BaseUrl`] points, so one is only made from text
//! that can be read in one way. Nothing is decoded, repaired or guessed: a spelling that a URL parser would quietly change
//! into another host (octal addresses, percent signs, backslashes, tabs, user information) is refused. Only the case of
//! scheme and host, the default port and trailing slashes are normalized.

use std::fmt;

use url::Url;

/// A normalized URL: `scheme://host[:port][/path]`, without a trailing slash.
///
/// At most 256 ASCII characters, without user information, query or fragment.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct BaseUrl(Box<str>);

impl BaseUrl {
    /// Longest URL, in characters.
    pub(crate) const MAX_CHARS: usize = 256;

    /// Parses a URL. `http` is accepted only with `allow_plain_http`.
    fn parse(text: &str, allow_plain_http: bool) -> Result<Self, InvalidUrl> {
        if text.is_empty() || text.len() > Self::MAX_CHARS {
            return Err(InvalidUrl::Length);
        }
        let (scheme, rest) = text.split_once("://").ok_or(InvalidUrl::Scheme)?;
        let scheme = scheme.to_ascii_lowercase();
        match scheme.as_str() {
            "https" => {}
            "http" if allow_plain_http => {}
            "http" => return Err(InvalidUrl::PlainHttp),
            _ => return Err(InvalidUrl::Scheme),
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let authority = authority.to_ascii_lowercase();
        let path = path.trim_end_matches('/');
        let authority_fits =
            authority.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte));
        if !authority_fits || authority.is_empty() {
            return Err(InvalidUrl::Host);
        }
        let path_fits = path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._~-".contains(&byte))
            && path.split('/').skip(1).all(|segment| !matches!(segment, "" | "." | ".."));
        if !path_fits {
            return Err(InvalidUrl::Path);
        }

        let url = Url::parse(&format!("{scheme}://{authority}{path}")).map_err(|_| InvalidUrl::Host)?;
        let host = url.host_str().ok_or(InvalidUrl::Host)?;
        // The parser may only have removed the default port. If it changed anything else, another client might read the
        // text differently.
        let is_unchanged = match url.port() {
            Some(port) => authority == format!("{host}:{port}"),
            None => {
                authority == host
                    || url.port_or_known_default().is_some_and(|port| authority == format!("{host}:{port}"))
            }
        };
        if !is_unchanged || host.ends_with('.') || url.port() == Some(0) {
            return Err(InvalidUrl::Host);
        }
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        Ok(Self(format!("{scheme}://{host}{port}{path}").into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Host and port, for logs and metrics.
    pub(crate) fn host(&self) -> &str {
        let authority = self.0.split_once("://").map_or(&*self.0, |(_, rest)| rest);
        authority.split('/').next().unwrap_or(authority)
    }

    pub(crate) fn is_plain_http(&self) -> bool {
        self.0.starts_with("http://")
    }
}

/// Why a text is not a [`BaseUrl`]. `Display` says how to write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InvalidUrl {
    Length,
    Scheme,
    PlainHttp,
    Host,
    Path,
}

impl fmt::Display for InvalidUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Length => "write 1 to 256 characters",
            Self::Scheme => "start with https://",
            Self::PlainHttp => "start with https://, or set --allow-plain-http",
            Self::Host => {
                "after https:// write a host name or address in its shortest form, and a port if it is not the default, \
                 without user, password, percent signs or a trailing dot; write an international name as xn--…"
            }
            Self::Path => {
                "use only letters, digits and . _ ~ - in the path, without query, fragment, '..' or '//'"
            }
        })
    }
}

/// An entry of an allow-list that is not a [`BaseUrl`]. Does not hold the entry, which may contain a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InvalidEntry {
    /// Which entry, counted from 1.
    pub(crate) position: usize,
    pub(crate) reason: InvalidUrl,
}

/// The URLs that the administrator allows, as type `T`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AllowList<T> {
    entries: Vec<T>,
    allow_plain_http: bool,
}

impl<T: From<BaseUrl> + PartialEq> AllowList<T> {
    /// Parses the list. An empty list allows nothing.
    ///
    /// # Errors
    ///
    /// [`InvalidEntry`] for the first entry that cannot be read in exactly one way, and for one with `http` unless
    /// `allow_plain_http` is set.
    pub(crate) fn parse<S: AsRef<str>>(
        list: impl IntoIterator<Item = S>,
        allow_plain_http: bool,
    ) -> Result<Self, InvalidEntry> {
        let entries = list
            .into_iter()
            .enumerate()
            .map(|(index, text)| {
                BaseUrl::parse(text.as_ref(), allow_plain_http)
                    .map(T::from)
                    .map_err(|reason| InvalidEntry { position: index + 1, reason })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { entries, allow_plain_http })
    }

    /// The URL, if it is on the list: scheme, host, port and path must match. `None` also for text that is not a URL.
    pub(crate) fn permit(&self, url: &str) -> Option<T> {
        let url = T::from(BaseUrl::parse(url, self.allow_plain_http).ok()?);
        self.entries.contains(&url).then_some(url)
    }

    /// The entries, in the order in which they were written.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.iter()
    }
}

#[cfg(test)]
mod tests;
