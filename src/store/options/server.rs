//! The server of a store, and whether objects are stored where the store's address says. Pure.
//!
//! With an endpoint that contains a bucket, or a path that a server reads as one, objects would be stored elsewhere than
//! `s3://bucket/…` says. Such options are refused.

use url::Url;

use super::{InvalidOptions, Options, value::is_true};
use crate::store::location::{Location, Scheme};

const STYLE: &str = "aws_virtual_hosted_style_request";

impl Options {
    /// The server of a store with these options, normalized.
    ///
    /// # Errors
    ///
    /// [`InvalidOptions::Elsewhere`] if objects would be stored elsewhere than at the location.
    pub(crate) fn endpoint(&self, location: &Location) -> Result<String, InvalidOptions> {
        let bucket = location.bucket();
        match location.scheme() {
            Scheme::File => Ok(location.to_string()),
            Scheme::S3 => self.s3(bucket),
            Scheme::Gs => {
                let Some(endpoint) = self.own("google_base_url", &[""])? else {
                    return Ok("https://storage.googleapis.com".to_owned());
                };
                if endpoint.host_str().is_some_and(|host| host.ends_with(".storage.googleapis.com")) {
                    return Err(elsewhere("google_base_url", "write the host without the name of a bucket"));
                }
                Ok(server(&endpoint))
            }
            Scheme::Az => {
                let account = self.get("azure_storage_account_name").unwrap_or_default();
                Ok(match self.own("azure_storage_endpoint", &["", account])? {
                    Some(endpoint) => server(&endpoint),
                    None => format!("https://{}.blob.core.windows.net", account.to_ascii_lowercase()),
                })
            }
        }
    }

    fn s3(&self, bucket: &str) -> Result<String, InvalidOptions> {
        let style = self.get(STYLE).map(is_true);
        let Some(endpoint) = self.own("aws_endpoint", &[""])? else {
            if style == Some(true) && bucket.contains('.') {
                return Err(elsewhere(
                    STYLE,
                    "the certificate of a virtual-hosted bucket does not cover a name with a dot",
                ));
            }
            let region = self.get("aws_region").unwrap_or("us-east-1").to_ascii_lowercase();
            return Ok(format!("https://s3.{region}.amazonaws.com"));
        };
        let host = endpoint.host_str().unwrap_or_default();
        let shared = host.strip_prefix(bucket).and_then(|rest| rest.strip_prefix('.'));
        match (style, shared) {
            (Some(true), Some(shared)) => {
                let shared = server(&endpoint).replacen(host, shared, 1);
                Ok(shared)
            }
            (Some(true), None) => Err(elsewhere(
                "aws_endpoint",
                "in virtual-hosted style its host must begin with the name of the bucket and a dot",
            )),
            (Some(false) | None, Some(_)) => Err(elsewhere(
                "aws_endpoint",
                "its host begins with the name of the bucket: remove the name, or set \
                 aws_virtual_hosted_style_request to true",
            )),
            (Some(false) | None, None) if names_a_bucket(host) => {
                Err(elsewhere("aws_endpoint", "write the host without the name of a bucket"))
            }
            (Some(false) | None, None) => Ok(server(&endpoint)),
        }
    }

    /// The endpoint under this option, which may only have one of these paths.
    fn own(&self, name: &str, paths: &[&str]) -> Result<Option<Url>, InvalidOptions> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let url = Url::parse(text).map_err(|_| InvalidOptions::Malformed { key: name.to_owned() })?;
        if paths.contains(&url.path().trim_matches('/')) {
            Ok(Some(url))
        } else {
            Err(elsewhere(name, "its path would be read as a bucket or container: remove the path"))
        }
    }
}

/// Scheme, host and port.
fn server(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// Whether the host is one of Amazon's that begins with the name of a bucket, and not with a part of a private link.
fn names_a_bucket(host: &str) -> bool {
    let is_amazons = host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn");
    let is_service = |label: &str| label == "s3" || label.starts_with("s3-");
    let first = host.split('.').next().unwrap_or_default();
    is_amazons && !is_service(first) && first != "bucket" && !first.starts_with("vpce-")
}

fn elsewhere(key: &str, why: &'static str) -> InvalidOptions {
    InvalidOptions::Elsewhere { key: key.to_owned(), why }
}
