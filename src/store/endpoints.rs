//! The administrator's allow-list of endpoints besides the clouds' own. Pure.
//!
//! A namespace's Secret decides where the operator sends images, from inside the cluster's network. Without this list it
//! could name any host that the operator can reach.

use crate::origin::{AllowList, BaseUrl};

/// The custom endpoints that the administrator allows, such as those of `MinIO`, Ceph or an emulator.
///
/// An entry with `http://` allows plain HTTP to that endpoint alone. An empty list allows none.
#[derive(Clone, Debug)]
pub struct Endpoints(AllowList<BaseUrl>);

/// An entry of the list that is not a valid URL. Does not repeat the entry, which may contain a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "entry {position} of the allowed store endpoints is not a valid URL: write http:// or https://, a host in its \
     shortest form, a port if it is not the default, and optionally a path, without user, query or trailing slash"
)]
pub struct InvalidEndpoint {
    /// Which entry, counted from 1.
    pub position: usize,
}

/// An endpoint from the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) url: String,
    pub(crate) is_plain_http: bool,
}

impl Endpoints {
    /// Parses the list.
    ///
    /// # Errors
    ///
    /// [`InvalidEndpoint`] for the first entry that cannot be read in exactly one way.
    pub fn new<T: AsRef<str>>(list: &[T]) -> Result<Self, InvalidEndpoint> {
        // Plain HTTP is allowed, because the administrator allows it for each entry by its scheme.
        let list = AllowList::parse(list, true);
        list.map(Self).map_err(|invalid| InvalidEndpoint { position: invalid.position })
    }

    /// The allowed endpoints, in the order in which they were written.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(BaseUrl::as_str)
    }

    /// The endpoint of this URL, if it is on the list: scheme, host, port and path must match.
    pub(crate) fn permit(&self, url: &str) -> Option<Endpoint> {
        let url = self.0.permit(url)?;
        Some(Endpoint { url: url.as_str().to_owned(), is_plain_http: url.is_plain_http() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_endpoints_on_the_list_are_permitted() {
        let endpoints = Endpoints::new(&["https://minio.example", "http://127.0.0.1:9000"]).unwrap();
        assert!(!endpoints.permit("https://minio.example/").unwrap().is_plain_http);
        assert!(endpoints.permit("http://127.0.0.1:9000").unwrap().is_plain_http);
        for other in [
            "http://minio.example",
            "https://minio.example:9000",
            "https://minio.example.evil.example",
            "https://minio.example@evil.example",
            "https://127.0.0.1:9000",
            "http://127.1:9000",
            "http://169.254.169.254",
            "minio.example",
            "",
        ] {
            assert_eq!(endpoints.permit(other), None, "{other}");
        }
        assert_eq!(Endpoints::new::<&str>(&[]).unwrap().permit("https://minio.example"), None);
    }

    #[test]
    fn an_invalid_entry_is_named_by_its_position() {
        let invalid =
            Endpoints::new(&["https://minio.example", "https://user:canary@minio.example"]).unwrap_err();
        assert_eq!(invalid.position, 2);
        assert!(!invalid.to_string().contains("canary"));
    }
}
