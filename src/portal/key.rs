//! The API key: parsed from a Secret, sent to the portal, never printed.
//!
//! Pure. May depend on nothing of this crate. The key has no `Display`, no `Serialize` and no `Clone`; `Debug` prints
//! nothing of it, and its bytes are overwritten when it is dropped.

use std::fmt::{self, Write};

use hmac::{Hmac, KeyInit, Mac};
use http::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

/// The first part of the input of an [`ApiKey::evidence_proof`].
const EVIDENCE_LABEL: &str = "okid-operator evidence proof v1";

/// An API key that is valid in a header.
pub struct ApiKey {
    secret: SecretString,
    identity: KeyIdentity,
}

/// Why the value of a Secret is not an API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// Empty, or only white space.
    #[error("the API key is empty")]
    Empty,
    /// Not 1 to 4096 visible ASCII characters.
    #[error(
        "the API key contains spaces, control characters or non-ASCII characters, or is longer than 4096 bytes"
    )]
    Malformed,
}

/// Distinguishes keys within one process without holding them.
///
/// A digest of the key, meant as the key of a map and nothing else: `Debug` prints nothing of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyIdentity([u8; 16]);

impl ApiKey {
    /// Longest key, in bytes. Servers commonly refuse header lines over 8 KiB.
    pub(crate) const MAX_BYTES: usize = 4096;

    /// Parses the value of a Secret's entry. One trailing newline (LF or CRLF) is removed, because editors and `echo` add
    /// it; nothing else is repaired.
    ///
    /// # Errors
    ///
    /// [`InvalidKey`], which contains nothing of the value.
    pub fn parse(value: &[u8]) -> Result<Self, InvalidKey> {
        if value.trim_ascii().is_empty() {
            return Err(InvalidKey::Empty);
        }
        let line = value.strip_suffix(b"\n").unwrap_or(value);
        let line = line.strip_suffix(b"\r").filter(|_| line.len() < value.len()).unwrap_or(line);
        if line.len() > Self::MAX_BYTES || !line.iter().all(u8::is_ascii_graphic) {
            return Err(InvalidKey::Malformed);
        }
        let text = str::from_utf8(line).map_err(|_| InvalidKey::Malformed)?;
        let mut identity = [0; 16];
        let digest =
            Sha256::new().chain_update(b"okid-operator key identity\0").chain_update(line).finalize();
        identity.iter_mut().zip(digest).for_each(|(byte, digested)| *byte = digested);
        Ok(Self { secret: text.into(), identity: KeyIdentity(identity) })
    }

    /// The fingerprint in `status` of the key that created a session: 16 hexadecimal digits of HMAC-SHA256 over the
    /// resource's `uid`, keyed with the API key.
    ///
    /// It answers "is this the same key" for one resource. Two resources with the same key have different fingerprints, and
    /// a fingerprint does not reveal a key that cannot be guessed.
    #[must_use]
    pub fn fingerprint(&self, uid: &str) -> String {
        // HMAC accepts a key of any length, so there is always a digest.
        Hmac::<Sha256>::new_from_slice(self.secret.expose_secret().as_bytes())
            .ok()
            .map(|mac| mac.chain_update(uid).finalize().into_bytes())
            .and_then(|digest| digest.first_chunk().map(|start| u64::from_be_bytes(*start)))
            .map(|start| format!("{start:016x}"))
            .unwrap_or_default()
    }

    /// Its length in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.secret.expose_secret().len()
    }

    /// Proves that an evidence object was uploaded by an operator with this key: 64 hexadecimal digits of HMAC-SHA256 over
    /// the resource's `uid`, the object's name in its folder, and the hexadecimal SHA-256 of its bytes, keyed with the API
    /// key.
    ///
    /// The three parts contain no NUL. The label before them distinguishes this from a [`fingerprint`](Self::fingerprint),
    /// whose input is only a uid.
    #[must_use]
    pub(crate) fn evidence_proof(&self, uid: &str, object: &str, sha256: &str) -> String {
        let digest = self.evidence_mac(uid, object, sha256).map(|mac| mac.finalize().into_bytes());
        digest.iter().flatten().fold(String::with_capacity(64), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// Whether `proof` is the [`evidence_proof`](Self::evidence_proof) of the object. Takes constant time.
    #[must_use]
    pub(crate) fn proves_evidence(&self, uid: &str, object: &str, sha256: &str, proof: &str) -> bool {
        let digits =
            |pair: &[u8]| str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
        let bytes: Option<Vec<_>> = proof.as_bytes().chunks(2).map(digits).collect();
        match (self.evidence_mac(uid, object, sha256), bytes) {
            (Some(mac), Some(bytes)) => mac.verify_slice(&bytes).is_ok(),
            (_, _) => false,
        }
    }

    fn evidence_mac(&self, uid: &str, object: &str, sha256: &str) -> Option<Hmac<Sha256>> {
        let mac = Hmac::<Sha256>::new_from_slice(self.secret.expose_secret().as_bytes()).ok()?;
        let parts = [EVIDENCE_LABEL, uid, object, sha256].into_iter();
        Some(parts.fold(mac, |mac, part| mac.chain_update(part).chain_update(b"\0")))
    }

    /// Distinguishes this key from others in this process.
    #[must_use]
    pub const fn identity(&self) -> KeyIdentity {
        self.identity
    }

    /// The value of `X-SDK-Key`, marked sensitive so that no HTTP library prints or indexes it.
    ///
    /// # Errors
    ///
    /// Never for a key from [`ApiKey::parse`].
    pub(super) fn header_value(&self) -> Result<HeaderValue, http::header::InvalidHeaderValue> {
        let mut value = HeaderValue::from_str(self.secret.expose_secret())?;
        value.set_sensitive(true);
        Ok(value)
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ApiKey(..)")
    }
}

impl fmt::Debug for KeyIdentity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("KeyIdentity(..)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(value: &[u8]) -> Result<String, InvalidKey> {
        ApiKey::parse(value).map(|key| key.secret.expose_secret().to_owned())
    }

    #[test]
    fn one_trailing_newline_is_removed() {
        for value in [&b"sk_live"[..], b"sk_live\n", b"sk_live\r\n"] {
            assert_eq!(parsed(value), Ok("sk_live".into()));
        }
    }

    #[test]
    fn a_value_of_white_space_alone_is_empty() {
        for value in [&b""[..], b"\n", b"\r\n", b" ", b" \t\r\n\n"] {
            assert_eq!(parsed(value), Err(InvalidKey::Empty), "{}", value.escape_ascii());
        }
    }

    #[test]
    fn a_value_that_is_invalid_in_a_header_is_malformed() {
        let long = "k".repeat(ApiKey::MAX_BYTES + 1);
        let huge = vec![b'k'; 1 << 20];
        for value in [
            &b"sk\n\n"[..],
            b"sk\r",
            b" sk",
            b"sk ",
            b"\nsk",
            b"s k",
            b"s\tk",
            b"s\0k",
            b"s\x7fk",
            b"sk\r\r\n",
            b"sk\nX-Other: 1",
            "schlüssel".as_bytes(),
            b"\xEF\xBB\xBFsk",
            b"\xFF\xFE",
            long.as_bytes(),
            &huge,
        ] {
            assert_eq!(parsed(value), Err(InvalidKey::Malformed), "{:.40}", value.escape_ascii().to_string());
        }
        assert!(parsed(format!("{}\n", "k".repeat(ApiKey::MAX_BYTES)).as_bytes()).is_ok());
    }

    #[test]
    fn a_fingerprint_is_the_hmac_of_the_uid() {
        let key = ApiKey::parse(b"Jefe").unwrap();
        // RFC 4231 §4.3, test case 2, cut to eight bytes.
        assert_eq!(key.fingerprint("what do ya want for nothing?"), "5bdcc146bf60754e");
    }

    #[test]
    fn a_fingerprint_changes_with_the_key_and_with_the_resource() {
        let [one, two] = [b"one", b"two"].map(|value| ApiKey::parse(value).unwrap());
        assert_ne!(one.fingerprint("uid"), two.fingerprint("uid"));
        assert_ne!(one.fingerprint("uid"), one.fingerprint("other"));
        assert_eq!(one.fingerprint("uid"), ApiKey::parse(b"one\n").unwrap().fingerprint("uid"));
    }

    #[test]
    fn an_identity_distinguishes_keys() {
        let identity = |value: &[u8]| ApiKey::parse(value).unwrap().identity();
        assert_eq!(identity(b"one"), identity(b"one\n"));
        assert_ne!(identity(b"one"), identity(b"two"));
    }

    #[test]
    fn an_evidence_proof_holds_only_for_its_key_uid_object_and_bytes() {
        let key = ApiKey::parse(b"Jefe").unwrap();
        let proof = key.evidence_proof("uid", "details.json", "ab");
        // printf 'okid-operator evidence proof v1\0uid\0details.json\0ab\0' | openssl dgst -sha256 -hmac Jefe
        assert_eq!(proof, "20e752840b8b2c6bb1f05301350cda8d1578f0ae9648c36f036516ddfc8b7f0b");
        assert!(key.proves_evidence("uid", "details.json", "ab", &proof));
        let other = ApiKey::parse(b"other").unwrap();
        assert!(!other.proves_evidence("uid", "details.json", "ab", &proof));
        for (uid, object, sha256) in
            [("uid2", "details.json", "ab"), ("uid", "manifest.json", "ab"), ("uid", "details.json", "ac")]
        {
            assert!(!key.proves_evidence(uid, object, sha256, &proof));
        }
        let long = format!("{proof}00");
        for wrong in ["", "0", "+1", "zz", &proof[..62], &proof[1..], &long, &key.fingerprint("uid")] {
            assert!(!key.proves_evidence("uid", "details.json", "ab", wrong), "{wrong}");
        }
    }

    #[test]
    fn nothing_prints_the_key() {
        let key = ApiKey::parse(b"canary").unwrap();
        let printed = format!("{key:?} {:?} {:?}", key.identity(), key.header_value());
        assert_eq!(printed, "ApiKey(..) KeyIdentity(..) Ok(Sensitive)");
    }

    proptest! {
        #[test]
        fn every_accepted_key_is_valid_in_a_header(value in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(key) = ApiKey::parse(&value) {
                prop_assert!(key.header_value().is_ok());
            }
        }
    }
}
