//! Whom the client trusts: the certificates of the machine, and those that settings add.
//!
//! The configuration is built once and shared, because reading a machine's certificates costs
//! milliseconds and hundreds of kilobytes, and there are many clients. Touches the machine's
//! certificate store.

mod authorities;

use std::sync::Arc;

use rustls::{ClientConfig, crypto::aws_lc_rs};
use rustls_platform_verifier::Verifier;

pub use authorities::Authorities;

/// Why no TLS connection can be made.
#[derive(Debug, thiserror::Error)]
pub enum InvalidTrust {
    /// A block of the extra ones is no certificate. Says at which line it begins.
    #[error(
        "in the file of certificate authorities, the block that begins at line {0} is no certificate: take it out, or replace it"
    )]
    Block(usize),
    /// The machine has no certificate authorities, and no others are given.
    #[error(
        "this machine has no certificate authorities, so no certificate can be trusted: install its package of them \
         (ca-certificates), or name a file of them by SSL_CERT_FILE"
    )]
    NoRoots(#[source] rustls::Error),
    /// They can be read, but none is in there.
    #[error(
        "the file of certificate authorities holds no certificate: it needs at least one BEGIN CERTIFICATE block"
    )]
    NoCertificate,
    /// The certificates cannot be used together.
    #[error("the trusted CA certificates cannot be used")]
    Unusable(#[source] rustls::Error),
}

/// Builds what every connection to the outside uses; the protocols are still to be named.
///
/// # Errors
///
/// [`InvalidTrust`].
pub fn trust(extra_ca_pem: Option<&[u8]>) -> Result<ClientConfig, InvalidTrust> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = match extra_ca_pem {
        None => Verifier::new(provider.clone()).map_err(InvalidTrust::NoRoots)?,
        Some(pem) => {
            let certificates = Authorities::read(pem)?.certificates;
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
