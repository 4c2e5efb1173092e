//! Which certificates the operator trusts: the machine's, and those of a CA bundle. Used by every HTTP client.
//!
//! Touches the machine's certificate store. May depend on nothing of this crate. The configuration is built once and
//! shared: reading a machine's certificates costs milliseconds and hundreds of kilobytes.

mod ca_bundle;

use std::sync::Arc;

use rustls::{ClientConfig, crypto::aws_lc_rs};
use rustls_platform_verifier::Verifier;

pub use ca_bundle::{CaBundle, InvalidCaBundle};

/// Why no TLS configuration can be built.
#[derive(Debug, thiserror::Error)]
pub enum InvalidTrust {
    /// The CA bundle is invalid.
    #[error(transparent)]
    CaBundle(#[from] InvalidCaBundle),
    /// The machine has no CA certificates, and no CA bundle is given.
    #[error(
        "this machine has no CA certificates, so no server can be trusted: install its CA package (ca-certificates), or \
         set SSL_CERT_FILE to a CA bundle"
    )]
    NoRoots(#[source] rustls::Error),
    /// The certificates cannot be used together.
    #[error("the trusted CA certificates cannot be used")]
    Unusable(#[source] rustls::Error),
}

/// Builds the TLS configuration of a client. The caller sets the ALPN protocols.
///
/// # Errors
///
/// [`InvalidTrust`].
pub fn client_config(extra_ca_pem: Option<&[u8]>) -> Result<ClientConfig, InvalidTrust> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = match extra_ca_pem {
        None => Verifier::new(provider.clone()).map_err(InvalidTrust::NoRoots)?,
        Some(pem) => {
            let certificates = CaBundle::parse(pem)?.certificates;
            Verifier::new_with_extra_roots(certificates, provider.clone()).map_err(InvalidTrust::Unusable)?
        }
    };
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(InvalidTrust::Unusable)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}
