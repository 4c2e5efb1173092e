//! Whether a call is authentic: by a bearer token, or by an HMAC-SHA256 over its body, with any of several secrets.
//! Compares in constant time. Pure.

use base64::{
    Engine as _,
    alphabet::{self, Alphabet},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderName, header::AUTHORIZATION};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use sha2::Sha256;

/// The most secrets of one name: two during a rotation, and some to spare.
const MOST_SECRETS: usize = 8;
/// The fewest bytes of a secret: 16 random characters cannot be guessed.
const FEWEST_BYTES: usize = 16;
/// The most bytes of a secret.
const MOST_BYTES: usize = 4096;

/// How a call proves that it comes from the portal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    /// `Authorization: Bearer <secret>`.
    Bearer,
    /// A header with the HMAC-SHA256 of the body, keyed with the secret.
    Hmac(Signature),
}

/// Where a signature is, and how it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Signature {
    /// The header.
    pub(super) header: HeaderName,
    /// How its bytes are written.
    pub(super) encoding: Encoding,
    /// What comes before them, such as `sha256=`.
    pub(super) prefix: String,
}

/// How the bytes of a signature are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Encoding {
    /// Hexadecimal, in either case.
    Hex,
    /// Base64, in either alphabet, with or without padding.
    Base64,
}

/// The secrets of one name. There are several while one replaces another.
#[derive(Debug)]
pub(super) struct Secrets(Vec<SecretString>);

/// Why a file has no usable secrets. Repeats nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidSecrets {
    /// It has no line with a secret.
    #[error("the file has no secret; write one in each line")]
    None,
    /// It has too many.
    #[error("the file has more than {MOST_SECRETS} secrets")]
    Many,
    /// A line is no secret. Holds its number.
    #[error(
        "line {0} is not a secret: write {FEWEST_BYTES} to {MOST_BYTES} visible ASCII characters, without spaces"
    )]
    Line(usize),
}

impl Secrets {
    /// Reads one secret from each line that is not empty.
    pub(super) fn parse(text: &[u8]) -> Result<Self, InvalidSecrets> {
        let mut secrets = Vec::new();
        for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
            let line = line.trim_ascii();
            if line.is_empty() {
                continue;
            }
            let fits =
                (FEWEST_BYTES..=MOST_BYTES).contains(&line.len()) && line.iter().all(u8::is_ascii_graphic);
            let secret = str::from_utf8(line).ok().filter(|_| fits).ok_or(InvalidSecrets::Line(number))?;
            secrets.push(SecretString::from(secret));
        }
        match secrets.len() {
            0 => Err(InvalidSecrets::None),
            1..=MOST_SECRETS => Ok(Self(secrets)),
            _ => Err(InvalidSecrets::Many),
        }
    }

    /// One secret that nobody has, for a name without secrets: a call takes as long as with some.
    pub(super) fn unknown(random: [u64; 4]) -> Self {
        let [a, b, c, d] = random;
        Self(vec![format!("{a:016x}{b:016x}{c:016x}{d:016x}").into()])
    }

    /// The number of secrets.
    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether one of them passes. All are tried, so that the time does not tell which.
    fn any(&self, passes: impl Fn(&[u8]) -> bool) -> bool {
        self.0.iter().fold(false, |found, secret| passes(secret.expose_secret().as_bytes()) | found)
    }
}

impl Scheme {
    /// Whether a call with these headers and this body is authentic. Takes as long whatever is wrong with it.
    pub(super) fn accepts(&self, secrets: &Secrets, headers: &HeaderMap, body: &[u8]) -> bool {
        match self {
            Self::Bearer => {
                let token = single(headers, &AUTHORIZATION).and_then(bearer_token).unwrap_or_default();
                secrets.any(|secret| is_same(secret, token))
            }
            Self::Hmac(Signature { header, encoding, prefix }) => {
                let written = single(headers, header).and_then(|value| value.strip_prefix(prefix.as_bytes()));
                // Without a signature too, so that the time does not tell which header is looked for.
                let signature = written.and_then(|written| encoding.decode(written)).unwrap_or_default();
                secrets.any(|secret| {
                    mac(secret).is_some_and(|mac| mac.chain_update(body).verify_slice(&signature).is_ok())
                })
            }
        }
    }

    /// The header that proves a call.
    pub(super) fn header(&self) -> HeaderName {
        match self {
            Self::Bearer => AUTHORIZATION,
            Self::Hmac(signature) => signature.header.clone(),
        }
    }
}

impl Encoding {
    fn decode(self, written: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Hex => {
                let pairs = written.chunks(2);
                let byte = |pair: &[u8]| match *pair {
                    [high, low] => u8::try_from(digit(high)? << 4 | digit(low)?).ok(),
                    _ => None,
                };
                pairs.map(byte).collect()
            }
            Self::Base64 => {
                let decode = |alphabet: &Alphabet| {
                    let config =
                        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
                    GeneralPurpose::new(alphabet, config).decode(written).ok()
                };
                decode(&alphabet::STANDARD).or_else(|| decode(&alphabet::URL_SAFE))
            }
        }
    }
}

fn digit(character: u8) -> Option<u32> {
    char::from(character).to_digit(16)
}

/// The value of a header that is there once. Of two values, it would be unclear which one a proxy before this process saw.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then_some(value.as_bytes().trim_ascii())
}

fn bearer_token(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(6)?;
    let token = token.strip_prefix(b" ")?.trim_ascii();
    scheme.eq_ignore_ascii_case(b"bearer").then_some(token)
}

/// Whether two texts are the same. Compares their digests, so that the time depends on neither their bytes nor the length
/// of the first.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let digest = |text: &[u8]| mac(b"okid-operator bearer token").map(|mac| mac.chain_update(text));
    let (Some(one), Some(other)) = (digest(one), digest(other)) else { return false };
    other.verify(&one.finalize().into_bytes()).is_ok()
}

/// Always there: HMAC accepts a key of any length.
fn mac(key: &[u8]) -> Option<Hmac<Sha256>> {
    Hmac::new_from_slice(key).ok()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
    use http::HeaderValue;

    use super::*;

    const FIRST: &str = "whsec_first_0123456789";
    const SECOND: &str = "whsec_second_0123456789";
    const BODY: &[u8] = b"{\"verification_id\":\"ver_1\"}";

    fn secrets() -> Secrets {
        Secrets::parse(format!("{FIRST}\r\n\n{SECOND}\n").as_bytes()).unwrap()
    }

    fn signature(key: &str, body: &[u8]) -> Vec<u8> {
        mac(key.as_bytes()).unwrap().chain_update(body).finalize().into_bytes().to_vec()
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
    }

    fn hmac_scheme(encoding: Encoding, prefix: &str) -> Scheme {
        let header = HeaderName::from_static("x-signature");
        Scheme::Hmac(Signature { header, encoding, prefix: prefix.to_owned() })
    }

    fn accepts(scheme: &Scheme, values: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(scheme.header(), HeaderValue::from_str(value).unwrap());
        }
        scheme.accepts(&secrets(), &headers, BODY)
    }

    #[test]
    fn a_signature_is_accepted_with_each_secret_and_in_each_encoding_of_its_scheme() {
        let scheme = hmac_scheme(Encoding::Hex, "sha256=");
        for key in [FIRST, SECOND] {
            let written = hex(&signature(key, BODY));
            assert!(accepts(&scheme, &[&format!("sha256={written}")]));
            assert!(accepts(&scheme, &[&format!("sha256={}", written.to_uppercase())]));
        }
        let scheme = hmac_scheme(Encoding::Base64, "");
        let bytes = signature(SECOND, BODY);
        assert!(accepts(&scheme, &[&BASE64_STANDARD.encode(&bytes)]));
        assert!(accepts(&scheme, &[&BASE64_URL_SAFE_NO_PAD.encode(&bytes)]));
    }

    #[test]
    fn a_signature_that_is_forged_cut_twice_there_or_of_another_body_is_refused() {
        let scheme = hmac_scheme(Encoding::Hex, "");
        let good = hex(&signature(FIRST, BODY));
        assert!(accepts(&scheme, &[&good]));
        let other_body = hex(&signature(FIRST, b"{}"));
        let other_key = hex(&signature("whsec_other_0123456789", BODY));
        let longer = format!("{good}00");
        for forged in [&good[..62], &good[..63], "", "zz", &other_body, &other_key, &longer, "sha256="] {
            assert!(!accepts(&scheme, &[forged]), "{forged}");
        }
        assert!(!accepts(&scheme, &[&good, &good]));
        assert!(!accepts(&scheme, &[]));
        assert!(!accepts(&hmac_scheme(Encoding::Base64, ""), &[&good]), "another encoding");
        assert!(!accepts(&hmac_scheme(Encoding::Hex, "sha256="), &[&good]), "the prefix is missing");
    }

    #[test]
    fn a_bearer_token_is_accepted_only_whole_and_with_its_scheme() {
        let accepts = |value: &str| accepts(&Scheme::Bearer, &[value]);
        for good in [format!("Bearer {FIRST}"), format!("bearer {SECOND}"), format!("BEARER  {FIRST} ")] {
            assert!(accepts(&good), "{good}");
        }
        let cut = &FIRST[..FIRST.len() - 1];
        for bad in [
            FIRST.to_owned(),
            format!("Bearer {cut}"),
            format!("Bearer {FIRST}x"),
            format!("Basic {FIRST}"),
            format!("Bearer{FIRST}"),
            "Bearer ".to_owned(),
            String::new(),
        ] {
            assert!(!accepts(&bad), "{bad}");
        }
    }

    #[test]
    fn a_file_has_one_secret_in_each_line_and_an_error_repeats_none() {
        assert_eq!(secrets().len(), 2);
        let invalid = |text: &str| Secrets::parse(text.as_bytes()).unwrap_err();
        assert_eq!(invalid(" \n\n"), InvalidSecrets::None);
        for bad in ["short", "with a space in the middle", "ünïcödé_ünïcödé_ünïcödé"] {
            assert_eq!(invalid(&format!("{FIRST}\n{bad}\n")), InvalidSecrets::Line(2));
            assert!(!invalid(bad).to_string().contains(bad));
        }
        assert_eq!(invalid(&format!("{FIRST}\n").repeat(9)), InvalidSecrets::Many);
        assert_eq!(format!("{:?}", secrets()).matches("whsec").count(), 0);
    }
}
