//! A CA bundle: the certificates in a PEM file, the blocks that are skipped, and where the file is invalid. Pure.

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

const CERTIFICATE: &str = "CERTIFICATE";

/// The content of a CA bundle.
#[derive(Debug)]
pub struct CaBundle {
    /// The certificates, at least one.
    pub certificates: Vec<CertificateDer<'static>>,
    /// Number of blocks of another kind, such as BEGIN TRUSTED CERTIFICATE or a key.
    pub skipped_blocks: usize,
}

/// Why a file is not a CA bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCaBundle {
    /// A block is not a valid certificate. Holds the line at which it begins.
    #[error(
        "the block that begins at line {0} of the CA bundle is not a valid certificate: remove it or replace it"
    )]
    Block(usize),
    /// The file has no certificate.
    #[error("the CA bundle contains no certificate: it needs at least one BEGIN CERTIFICATE block")]
    NoCertificate,
}

impl CaBundle {
    /// Parses PEM, with or without a byte order mark. Each certificate is checked separately, so that the error names the
    /// line of an invalid one.
    ///
    /// # Errors
    ///
    /// [`InvalidCaBundle`].
    pub fn parse(pem: &[u8]) -> Result<Self, InvalidCaBundle> {
        let text = String::from_utf8_lossy(pem.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(pem));
        let mut found = Self { certificates: Vec::new(), skipped_blocks: 0 };
        let mut block: Option<(usize, String)> = None;
        for (number, line) in (1..).zip(text.lines().map(str::trim)) {
            let label = line.strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----"));
            if let Some((begun, mut lines)) = block.take() {
                if label.is_some() {
                    return Err(InvalidCaBundle::Block(begun));
                }
                lines.push_str(line);
                lines.push('\n');
                if line == "-----END CERTIFICATE-----" {
                    found.certificates.push(certificate(&lines).ok_or(InvalidCaBundle::Block(begun))?);
                } else {
                    block = Some((begun, lines));
                }
            } else if label == Some(CERTIFICATE) {
                block = Some((number, format!("{line}\n")));
            } else if label.is_some() {
                found.skipped_blocks += 1;
            }
        }
        match block {
            Some((begun, _)) => Err(InvalidCaBundle::Block(begun)),
            None if found.certificates.is_empty() => Err(InvalidCaBundle::NoCertificate),
            None => Ok(found),
        }
    }
}

fn certificate(block: &str) -> Option<CertificateDer<'static>> {
    let certificate = CertificateDer::from_pem_slice(block.as_bytes()).ok()?;
    RootCertStore::empty().add(certificate.clone()).ok()?;
    Some(certificate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem() -> String {
        rcgen::generate_simple_self_signed(["ca.example".to_owned()]).unwrap().cert.pem()
    }

    #[test]
    fn every_certificate_counts_including_the_first_after_a_byte_order_mark() {
        let (first, second) = (pem(), pem());
        let count = |text: String| CaBundle::parse(text.as_bytes()).map(|found| found.certificates.len());
        assert_eq!(count(format!("\u{feff}{first}{second}")).unwrap(), 2);
        assert_eq!(count(format!("\u{feff}{first}")).unwrap(), 1);
        assert_eq!(count(first.replace('\n', "\r\n") + "# a comment\r\n" + &second).unwrap(), 2);
    }

    #[test]
    fn blocks_of_another_kind_are_skipped_blocks_and_counted() {
        let trusted = pem().replace("CERTIFICATE", "TRUSTED CERTIFICATE");
        let found = CaBundle::parse(format!("{trusted}{}{trusted}", pem()).as_bytes()).unwrap();
        assert_eq!((found.certificates.len(), found.skipped_blocks), (1, 2));
        let none = CaBundle::parse(trusted.as_bytes()).unwrap_err();
        assert!(matches!(none, InvalidCaBundle::NoCertificate));
    }

    #[test]
    fn an_invalid_certificate_is_named_by_its_line() {
        let good = pem();
        let bad = [
            "-----BEGIN CERTIFICATE-----\n*\n-----END CERTIFICATE-----\n",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "-----BEGIN CERTIFICATE-----\nAAAA\n",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----BEGIN CERTIFICATE-----\n",
        ];
        for bad in bad {
            let refusal = CaBundle::parse(format!("{good}{bad}").as_bytes()).unwrap_err();
            let line = good.lines().count() + 1;
            assert!(matches!(refusal, InvalidCaBundle::Block(at) if at == line), "{refusal:?}");
            assert!(refusal.to_string().contains(&format!("line {line} ")), "{refusal}");
        }
    }
}
