//! Whom the client trusts: the certificates of the machine, and those that settings add.
//!
//! The configuration is built once and shared, because reading a machine's certificates costs
//! milliseconds and hundreds of kilobytes, and there are many clients. Touches the machine's
//! certificate store.

use std::sync::Arc;

use rustls::{
    ClientConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject},
};
use rustls_platform_verifier::Verifier;

/// Why no TLS connection can be made.
#[derive(Debug, thiserror::Error)]
pub enum InvalidTrust {
    /// The extra certificates cannot be read.
    #[error("the file of certificate authorities is not PEM")]
    Pem(#[source] rustls::pki_types::pem::Error),
    /// They can be read, but none is in there.
    #[error(
        "the file of certificate authorities holds no certificate: it needs at least one BEGIN CERTIFICATE block"
    )]
    NoCertificate,
    /// The machine has no usable certificates, or an extra one is no certificate.
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
        None => Verifier::new(provider.clone()),
        Some(pem) => {
            let certificates = CertificateDer::pem_slice_iter(pem)
                .collect::<Result<Vec<_>, _>>()
                .map_err(InvalidTrust::Pem)?;
            if certificates.is_empty() {
                return Err(InvalidTrust::NoCertificate);
            }
            Verifier::new_with_extra_roots(certificates, provider.clone())
        }
    }
    .map_err(InvalidTrust::Unusable)?;
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(InvalidTrust::Unusable)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}
