//! Signs requests to S3 without hashing an object a second time. No I/O.
//!
//! A signature covers the SHA-256 of the body, which is known for every object that is stored; hashing it again would be most
//! of the CPU time of an upload. The library uses this module as its crypto provider: it returns digests that are known and
//! computes all others.

use std::{fmt, sync::Arc};

use aws_lc_rs::{digest, hmac};
use bytes::Bytes;
use object_store::{
    Error, Result,
    client::{CryptoProvider, DigestAlgorithm, DigestContext, HmacContext, Signer, SigningAlgorithm},
};
use parking_lot::Mutex;

/// Length of a SHA-256 in bytes.
const LENGTH: usize = 32;

/// The crypto provider for S3's signatures, with the known digests of bodies in flight.
#[derive(Clone, Default)]
pub(crate) struct Signing {
    known: Arc<Mutex<Vec<KnownBody>>>,
}

#[derive(Clone)]
struct KnownBody {
    bytes: Bytes,
    sha256: [u8; LENGTH],
}

/// Keeps the SHA-256 of a body known until it is dropped.
pub(crate) struct KnownDigest<'a> {
    signing: &'a Signing,
    bytes: Bytes,
}

impl Signing {
    /// Trusts this SHA-256 of these bytes. Holds the bytes too, so that no others can be at the same address.
    pub(crate) fn know(&self, bytes: &Bytes, sha256: [u8; LENGTH]) -> KnownDigest<'_> {
        self.known.lock().push(KnownBody { bytes: bytes.clone(), sha256 });
        KnownDigest { signing: self, bytes: bytes.clone() }
    }

    fn body(&self, data: &[u8]) -> Option<KnownBody> {
        self.known.lock().iter().find(|body| is_at(&body.bytes, data)).cloned()
    }
}

/// Whether both are the same slice of memory, and not empty.
fn is_at(bytes: &[u8], data: &[u8]) -> bool {
    !data.is_empty() && std::ptr::eq(bytes, data)
}

impl Drop for KnownDigest<'_> {
    fn drop(&mut self) {
        let mut known = self.signing.known.lock();
        if let Some(index) = known.iter().position(|body| is_at(&body.bytes, &self.bytes)) {
            known.swap_remove(index);
        }
    }
}

impl fmt::Debug for Signing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Signing")
    }
}

impl CryptoProvider for Signing {
    fn digest(&self, algorithm: DigestAlgorithm) -> Result<Box<dyn DigestContext>> {
        only_sha256(&algorithm)?;
        Ok(Box::new(Digest {
            signing: self.clone(),
            context: digest::Context::new(&digest::SHA256),
            body: None,
            has_data: false,
            out: [0; LENGTH],
        }))
    }

    fn hmac(&self, algorithm: DigestAlgorithm, secret: &[u8]) -> Result<Box<dyn HmacContext>> {
        only_sha256(&algorithm)?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        Ok(Box::new(Hmac { context: hmac::Context::with_key(&key), tag: None }))
    }

    /// S3 does not need asymmetric signatures.
    fn sign(&self, _: SigningAlgorithm, _: &[u8]) -> Result<Box<dyn Signer>> {
        Err(unsupported())
    }
}

fn only_sha256(algorithm: &DigestAlgorithm) -> Result<()> {
    if *algorithm == DigestAlgorithm::Sha256 { Ok(()) } else { Err(unsupported()) }
}

fn unsupported() -> Error {
    Error::NotSupported { source: "S3 signs with SHA-256 and HMAC only".into() }
}

struct Digest {
    signing: Signing,
    context: digest::Context,
    /// The data so far, if it is one body whose SHA-256 is known.
    body: Option<KnownBody>,
    has_data: bool,
    out: [u8; LENGTH],
}

impl DigestContext for Digest {
    fn update(&mut self, data: &[u8]) {
        if !std::mem::replace(&mut self.has_data, true) {
            self.body = self.signing.body(data);
            if self.body.is_some() {
                return;
            }
        }
        if let Some(body) = self.body.take() {
            self.context.update(&body.bytes);
        }
        self.context.update(data);
    }

    fn finish(&mut self) -> Result<&[u8]> {
        match &self.body {
            Some(body) => self.out = body.sha256,
            None => self.out.copy_from_slice(self.context.clone().finish().as_ref()),
        }
        Ok(&self.out)
    }
}

struct Hmac {
    context: hmac::Context,
    tag: Option<hmac::Tag>,
}

impl HmacContext for Hmac {
    fn update(&mut self, data: &[u8]) {
        self.context.update(data);
    }

    fn finish(&mut self) -> Result<&[u8]> {
        let tag = self.context.clone().sign();
        Ok(hmac::Tag::as_ref(self.tag.insert(tag)))
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;

    fn digest(signing: &Signing, parts: &[&[u8]]) -> Vec<u8> {
        let mut context = signing.digest(DigestAlgorithm::Sha256).unwrap();
        for part in parts {
            context.update(part);
        }
        context.finish().unwrap().to_vec()
    }

    #[test]
    fn a_known_digest_is_not_computed_again() {
        let (signing, body) = (Signing::default(), Bytes::from(vec![7; 100]));
        // No body has this SHA-256, so it cannot have been computed.
        let known = signing.know(&body, [1; LENGTH]);
        assert_eq!(digest(&signing, &[&body]), [1; LENGTH]);
        drop(known);
        assert_eq!(digest(&signing, &[&body]), Sha256::digest(&body).to_vec());
    }

    #[test]
    fn equal_bytes_at_another_address_and_longer_data_are_hashed() {
        let (signing, body) = (Signing::default(), Bytes::from(vec![7; 100]));
        let _known = signing.know(&body, [1; LENGTH]);
        let expected = |data: &[u8]| Sha256::digest(data).to_vec();
        assert_eq!(digest(&signing, &[&[7; 100]]), expected(&[7; 100]));
        assert_eq!(digest(&signing, &[&body[..50]]), expected(&[7; 50]));
        assert_eq!(digest(&signing, &[&body, b"more"]), expected(&[&[7; 100][..], b"more"].concat()));
        assert_eq!(digest(&signing, &[b"before", &body]), expected(&[b"before", &[7; 100][..]].concat()));
        assert_eq!(digest(&signing, &[]), expected(b""));
        assert_eq!(digest(&signing, &[b""]), expected(b""));
    }

    #[test]
    fn a_body_that_is_stored_twice_at_once_stays_known_until_both_are_done() {
        let (signing, body) = (Signing::default(), Bytes::from(vec![7; 100]));
        let first = signing.know(&body, [1; LENGTH]);
        let second = signing.know(&body, [1; LENGTH]);
        drop(first);
        assert_eq!(digest(&signing, &[&body]), [1; LENGTH]);
        drop(second);
        assert_ne!(digest(&signing, &[&body]), [1; LENGTH]);
    }
}
