//! The portal's identifier of a session: its form, and that it is never printed.
//!
//! Pure. May depend on nothing of this crate.

use std::{fmt, sync::Arc};

/// The portal's identifier of a session.
///
/// Whoever knows it can open the person's page, so it is handled like a password: `Debug` prints nothing of it, there is
/// no `Display`, and it enters no log, event, metric or error.
///
/// Always 1 to 128 characters of `A-Z a-z 0-9 . _ ~ -` (those that RFC 3986 §2.3 leaves unencoded in a URL), and neither
/// `.` nor `..`, which would walk up a path.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VerificationId(Arc<str>);

impl VerificationId {
    /// Most characters an id may have.
    pub(crate) const MAX_CHARS: usize = 128;

    /// Parses an id.
    ///
    /// # Errors
    ///
    /// [`InvalidId`] when the text is not of the form above.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let fits = (1..=Self::MAX_CHARS).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte))
            && !matches!(text, "." | "..");
        if fits { Ok(Self(text.into())) } else { Err(InvalidId) }
    }

    /// The id, unchanged.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for VerificationId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("VerificationId(..)")
    }
}

/// A text that is not a verification id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a verification id has 1 to 128 characters of A-Z, a-z, 0-9, '.', '_', '~' and '-'")]
pub struct InvalidId;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_accepted_only_if_it_can_stand_in_a_path() {
        let longest = "a".repeat(VerificationId::MAX_CHARS);
        for valid in ["ver_abc123...", "a", "...", "~A-Z_0.9", &longest] {
            assert_eq!(VerificationId::parse(valid).unwrap().as_str(), valid);
        }
        let too_long = "a".repeat(VerificationId::MAX_CHARS + 1);
        for invalid in
            ["", ".", "..", "../x", "a/b", "a?b", "a#b", "a%2fb", "a b", " a", "a\r\n", "a\0", "ä", &too_long]
        {
            assert_eq!(VerificationId::parse(invalid), Err(InvalidId), "{invalid:?}");
        }
    }

    #[test]
    fn an_id_is_never_printed() {
        let id = VerificationId::parse("canary").unwrap();
        assert_eq!(format!("{id:?}"), "VerificationId(..)");
    }
}
