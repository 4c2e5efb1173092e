//! Which hosts besides the clouds' own an address of a store may lead to: the administrator's list. Pure.
//!
//! A namespace's Secret decides where the operator sends images, from inside of the cluster's network. Without this
//! list it could name any host that the operator reaches.

use crate::portal::{AllowedPortals, PortalUrl};

/// The custom endpoints that an administrator allows, such as that of `MinIO`, Ceph or an emulator.
///
/// An entry with `http://` allows plain http to that one endpoint. Empty allows none.
#[derive(Clone, Debug)]
pub struct Endpoints(AllowedPortals);

/// An entry of the list that cannot be used. Does not repeat it: somebody may have put a password into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "entry {position} of the allowed endpoints cannot be used: write http:// or https://, a host in its shortest \
     form, a port if it is not the default one, and a path if there is one, without user, query or slash at the end"
)]
pub struct InvalidEndpoint {
    /// Which entry, from 1.
    pub position: usize,
}

/// An endpoint from the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) url: String,
    pub(crate) is_plain_http: bool,
}

impl Endpoints {
    /// Reads the list.
    ///
    /// # Errors
    ///
    /// [`InvalidEndpoint`] for the first entry that cannot be read in exactly one way.
    pub fn new<T: AsRef<str>>(list: &[T]) -> Result<Self, InvalidEndpoint> {
        // What may be asked for is compared with the list as strictly as the address of a portal.
        for (index, entry) in list.iter().enumerate() {
            AllowedPortals::new([entry], true).map_err(|_| InvalidEndpoint { position: index + 1 })?;
        }
        let allowed =
            AllowedPortals::new(list, true).map_err(|_| InvalidEndpoint { position: list.len() })?;
        Ok(Self(allowed))
    }

    /// The allowed endpoints, in the order in which they were written.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(PortalUrl::as_str)
    }

    /// Takes an endpoint if it is on the list: scheme, host, port and path must be the same.
    pub(crate) fn permit(&self, url: &str) -> Option<Endpoint> {
        let url = self.0.permit(url).ok()?.as_str().to_owned();
        let is_plain_http = url.starts_with("http://");
        Some(Endpoint { url, is_plain_http })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_on_the_list_is_permitted() {
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
    fn an_entry_that_cannot_be_used_is_named_by_its_place() {
        let flaw =
            Endpoints::new(&["https://minio.example", "https://user:canary@minio.example"]).unwrap_err();
        assert_eq!(flaw.position, 2);
        assert!(!flaw.to_string().contains("canary"));
    }
}
