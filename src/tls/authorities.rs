//! A file of certificate authorities: what is read of it, what is passed over, and where it is wrong. Pure.

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

use super::InvalidTrust;

const CERTIFICATE: &str = "CERTIFICATE";

/// What stands in a file of certificate authorities.
#[derive(Debug)]
pub struct Authorities {
    /// The certificates, at least one.
    pub certificates: Vec<CertificateDer<'static>>,
    /// Blocks of another kind, such as BEGIN TRUSTED CERTIFICATE or a key.
    pub passed_over: usize,
}

impl Authorities {
    /// Reads a file of PEM, with or without a byte order mark. Each certificate is tried by itself, so that an unusable one
    /// is found by its line.
    ///
    /// # Errors
    ///
    /// [`InvalidTrust::NoCertificate`] and [`InvalidTrust::Block`].
    pub fn read(pem: &[u8]) -> Result<Self, InvalidTrust> {
        let text = String::from_utf8_lossy(pem.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(pem));
        let mut found = Self { certificates: Vec::new(), passed_over: 0 };
        let mut block: Option<(usize, String)> = None;
        for (number, line) in (1..).zip(text.lines().map(str::trim)) {
            let label = line.strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----"));
            if let Some((begun, mut lines)) = block.take() {
                if label.is_some() {
                    return Err(InvalidTrust::Block(begun));
                }
                lines.push_str(line);
                lines.push('\n');
                if line == "-----END CERTIFICATE-----" {
                    found.certificates.push(certificate(&lines).ok_or(InvalidTrust::Block(begun))?);
                } else {
                    block = Some((begun, lines));
                }
            } else if label == Some(CERTIFICATE) {
                block = Some((number, format!("{line}\n")));
            } else if label.is_some() {
                found.passed_over += 1;
            }
        }
        match block {
            Some((begun, _)) => Err(InvalidTrust::Block(begun)),
            None if found.certificates.is_empty() => Err(InvalidTrust::NoCertificate),
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
    fn every_certificate_counts_the_first_behind_a_byte_order_mark_too() {
        let (first, second) = (pem(), pem());
        let count = |text: String| Authorities::read(text.as_bytes()).map(|found| found.certificates.len());
        assert_eq!(count(format!("\u{feff}{first}{second}")).unwrap(), 2);
        assert_eq!(count(format!("\u{feff}{first}")).unwrap(), 1);
        assert_eq!(count(first.replace('\n', "\r\n") + "# a comment\r\n" + &second).unwrap(), 2);
    }

    #[test]
    fn blocks_of_another_kind_are_passed_over_and_counted() {
        let trusted = pem().replace("CERTIFICATE", "TRUSTED CERTIFICATE");
        let found = Authorities::read(format!("{trusted}{}{trusted}", pem()).as_bytes()).unwrap();
        assert_eq!((found.certificates.len(), found.passed_over), (1, 2));
        let none = Authorities::read(trusted.as_bytes()).unwrap_err();
        assert!(matches!(none, InvalidTrust::NoCertificate));
    }

    #[test]
    fn a_block_that_is_no_certificate_is_named_by_its_line() {
        let good = pem();
        let bad = [
            "-----BEGIN CERTIFICATE-----\n*\n-----END CERTIFICATE-----\n",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "-----BEGIN CERTIFICATE-----\nAAAA\n",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----BEGIN CERTIFICATE-----\n",
        ];
        for bad in bad {
            let refusal = Authorities::read(format!("{good}{bad}").as_bytes()).unwrap_err();
            let line = good.lines().count() + 1;
            assert!(matches!(refusal, InvalidTrust::Block(at) if at == line), "{refusal:?}");
            assert!(refusal.to_string().contains(&format!("line {line} ")), "{refusal}");
        }
    }
}
