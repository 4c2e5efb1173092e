//! The certificate of the port for notifications: read from two files, and read again when they change. Touches files.

use std::{fs, io, path::PathBuf, sync::Arc};

use parking_lot::Mutex;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

/// Where the certificate and its key are, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CertificateFiles {
    /// The certificate, followed by those that lead to its authority.
    pub(crate) certificate: PathBuf,
    /// Its private key.
    pub(crate) key: PathBuf,
}

/// Why the files are no certificate. Repeats nothing of them.
#[derive(Debug, thiserror::Error)]
pub enum InvalidCertificate {
    /// The first file cannot be read.
    #[error("the file of the certificate cannot be read")]
    ReadCertificate(#[source] io::Error),
    /// The second file cannot be read.
    #[error("the file of its key cannot be read")]
    ReadKey(#[source] io::Error),
    /// The first file has no certificate in PEM.
    #[error("the file of the certificate has no certificate in PEM")]
    Certificate,
    /// The second file has no private key in PEM.
    #[error("the file of its key has no private key in PEM")]
    Key,
    /// The certificate and the key do not fit together.
    #[error("the certificate and its key cannot be used")]
    Unusable(#[source] rustls::Error),
}

/// A certificate that may be replaced while connections are accepted.
#[derive(Debug)]
pub(crate) struct Certificate {
    files: CertificateFiles,
    current: Mutex<Loaded>,
}

#[derive(Clone, Debug)]
struct Loaded {
    /// What was read, to see a change.
    pem: Pem,
    chain: Vec<CertificateDer<'static>>,
    /// The certificate that it has replaced, which another replica may still have.
    replaced: Option<CertificateDer<'static>>,
    config: Arc<ServerConfig>,
}

impl Certificate {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// [`InvalidCertificate`].
    pub(crate) fn load(files: CertificateFiles) -> Result<Self, InvalidCertificate> {
        let current = Mutex::new(load(read(&files)?)?);
        Ok(Self { files, current })
    }

    /// Reads the files again. True if they have changed. Keeps what it had if they cannot be used.
    pub(super) fn reload(&self) -> Result<bool, InvalidCertificate> {
        let pem = read(&self.files)?;
        if pem == self.current.lock().pem {
            return Ok(false);
        }
        let mut loaded = load(pem)?;
        let mut current = self.current.lock();
        let replaced = current.chain.first().filter(|leaf| loaded.chain.first() != Some(*leaf));
        loaded.replaced = replaced.or(current.replaced.as_ref()).cloned();
        *current = loaded;
        Ok(true)
    }

    /// The configuration for the next connection.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.lock().config)
    }

    /// Whether a server with this certificate is a replica of this one.
    pub(super) fn is_of_a_replica(&self, certificate: &CertificateDer<'_>) -> bool {
        let current = self.current.lock();
        let known = current.chain.first().into_iter().chain(&current.replaced);
        known.into_iter().any(|known| known.as_ref() == certificate.as_ref())
    }
}

/// What the files hold: the certificate, and its key.
type Pem = (Vec<u8>, Vec<u8>);

fn read(files: &CertificateFiles) -> Result<Pem, InvalidCertificate> {
    let certificate = fs::read(&files.certificate).map_err(InvalidCertificate::ReadCertificate)?;
    let key = fs::read(&files.key).map_err(InvalidCertificate::ReadKey)?;
    Ok((certificate, key))
}

fn load(pem: Pem) -> Result<Loaded, InvalidCertificate> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem.0).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or(InvalidCertificate::Certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&pem.1).map_err(|_| InvalidCertificate::Key)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain.clone(), key))
        .map_err(InvalidCertificate::Unusable)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Loaded { pem, chain, replaced: None, config: Arc::new(config) })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn write(folder: &Path) -> CertificateFiles {
        let made = rcgen::generate_simple_self_signed(["okid-operator.test".to_owned()]).unwrap();
        let files = CertificateFiles { certificate: folder.join("tls.crt"), key: folder.join("tls.key") };
        fs::write(&files.certificate, made.cert.pem()).unwrap();
        fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        files
    }

    fn first(files: &CertificateFiles) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(&files.certificate).unwrap()
    }

    #[test]
    fn a_certificate_that_changes_is_used_and_the_one_before_still_tells_a_replica() {
        let folder = tempfile::tempdir().unwrap();
        let files = write(folder.path());
        let certificate = Certificate::load(files.clone()).unwrap();
        let (config, before) = (certificate.config(), first(&files));
        assert!(!certificate.reload().unwrap(), "nothing has changed");
        assert!(Arc::ptr_eq(&certificate.config(), &config));

        write(folder.path());
        assert!(certificate.reload().unwrap());
        assert!(!Arc::ptr_eq(&certificate.config(), &config));
        assert!(certificate.is_of_a_replica(&before) && certificate.is_of_a_replica(&first(&files)));
        write(folder.path());
        assert!(!certificate.is_of_a_replica(&first(&files)), "not read yet");
        assert!(certificate.reload().unwrap());
        assert!(!certificate.is_of_a_replica(&before), "two certificates ago");
    }

    #[test]
    fn a_chain_that_changes_around_the_same_certificate_leaves_the_one_before_known() {
        let folder = tempfile::tempdir().unwrap();
        let files = write(folder.path());
        let certificate = Certificate::load(files.clone()).unwrap();
        let before = first(&files);
        write(folder.path());
        assert!(certificate.reload().unwrap());
        let chain = fs::read_to_string(&files.certificate).unwrap();
        fs::write(&files.certificate, format!("{chain}{chain}")).unwrap();
        assert!(certificate.reload().unwrap());
        assert!(certificate.is_of_a_replica(&before) && certificate.is_of_a_replica(&first(&files)));
    }

    #[test]
    fn files_that_cannot_be_used_leave_the_certificate_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let files = write(folder.path());
        let certificate = Certificate::load(files.clone()).unwrap();
        let (config, good) = (certificate.config(), fs::read(&files.certificate).unwrap());
        let refused = || certificate.reload().unwrap_err();
        fs::write(&files.certificate, "no certificate").unwrap();
        assert!(matches!(refused(), InvalidCertificate::Certificate));
        fs::remove_file(&files.certificate).unwrap();
        assert!(matches!(refused(), InvalidCertificate::ReadCertificate(_)));
        fs::write(&files.certificate, good).unwrap();
        let key = fs::read(&files.key).unwrap();
        fs::remove_file(&files.key).unwrap();
        assert!(matches!(refused(), InvalidCertificate::ReadKey(_)));
        fs::write(&files.key, key).unwrap();
        let other = write(&{
            let other = folder.path().join("other");
            fs::create_dir(&other).unwrap();
            other
        });
        fs::copy(&other.key, &files.key).unwrap();
        assert!(matches!(refused(), InvalidCertificate::Unusable(_)), "the key of another certificate");
        fs::write(&files.key, "no key").unwrap();
        assert!(matches!(refused(), InvalidCertificate::Key));
        assert!(Arc::ptr_eq(&certificate.config(), &config));
    }
}
