//! `metadata.uid` and `metadata.resourceVersion` in few bytes. Pure.

use std::hash::{DefaultHasher, Hash, Hasher};

/// `metadata.uid`. An API server issues UUIDs; anything else is stored as a hash of 128 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Uid([u64; 2]);

/// Half as many bytes as a [`Uid`], for what is kept for every object. API servers choose uids at random, so two objects
/// hardly share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ShortUid(u64);

impl Uid {
    pub(crate) const fn short(self) -> ShortUid {
        let [high, low] = self.0;
        ShortUid(high ^ low)
    }

    pub(crate) fn of(text: &str) -> Self {
        Self::parse(text).unwrap_or_else(|| Self([hash(0, text), hash(1, text)]))
    }

    /// Accepts only the form that an API server writes (RFC 9562: 8-4-4-4-12, lower case), so that no two texts have
    /// the same value.
    fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() != 36 {
            return None;
        }
        let mut value = 0_u128;
        for (position, byte) in bytes.iter().enumerate() {
            let digit = match (position, byte) {
                (8 | 13 | 18 | 23, b'-') => continue,
                (8 | 13 | 18 | 23, _) => return None,
                (_, b'0'..=b'9') => byte - b'0',
                (_, b'a'..=b'f') => byte - b'a' + 10,
                (_, _) => return None,
            };
            value = value << 4 | u128::from(digit);
        }
        let [high, low] = [value >> 64, value & u128::from(u64::MAX)];
        Some(Self([u64::try_from(high).ok()?, u64::try_from(low).ok()?]))
    }
}

/// `metadata.resourceVersion`. Kubernetes' own are increasing decimal numbers, of 63 bits in etcd. Any other text is stored
/// as a hash with the highest bit set, and can only be compared for equality; the same goes for a number of 2^63 or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version(u64);

impl Version {
    const UNORDERED: u64 = 1 << 63;

    pub(crate) fn of(text: &str) -> Self {
        let canonical =
            text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
        match text.parse() {
            Ok(number) if canonical => Self(number),
            Ok(_) | Err(_) => Self(hash(2, text) | Self::UNORDERED),
        }
    }

    /// Whether this state is certain to be older than the other.
    pub(crate) fn is_older_than(self, other: Self) -> bool {
        self.0 < other.0 && other.0 < Self::UNORDERED
    }
}

fn hash(salt: u8, text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (salt, text).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_stored_as_its_number() {
        let uid = Uid::of("00000000-0000-0001-0000-0000000000ff");
        assert_eq!(uid, Uid([1, 255]));
    }

    #[test]
    fn texts_that_differ_in_case_or_dashes_are_different_uids() {
        let lower = Uid::of("c0ffee00-0000-4000-8000-00000000abcd");
        assert_ne!(lower, Uid::of("C0FFEE00-0000-4000-8000-00000000ABCD"));
        assert_ne!(lower, Uid::of("c0ffee0-00000-4000-8000-00000000abcd"));
        assert_ne!(Uid::of(""), Uid::of("x"));
        assert_eq!(Uid::of("not a uuid"), Uid::of("not a uuid"));
    }

    #[test]
    fn numbers_are_ordered_and_other_versions_are_only_equal_or_not() {
        assert!(Version::of("9").is_older_than(Version::of("10")));
        assert!(!Version::of("10").is_older_than(Version::of("10")));
        assert!(!Version::of("a9").is_older_than(Version::of("a10")));
        assert!(!Version::of("a9").is_older_than(Version::of("10")));
        assert_eq!(Version::of("a9"), Version::of("a9"));
        assert_ne!(Version::of("007"), Version::of("7"));
        assert_ne!(Version::of("+7"), Version::of("7"));
        let largest = Version::of("9223372036854775807");
        assert!(Version::of("10").is_older_than(largest));
        for no_number in ["a9", "9223372036854775808", "18446744073709551616"] {
            assert!(!largest.is_older_than(Version::of(no_number)), "{no_number}");
            assert!(!Version::of(no_number).is_older_than(largest), "{no_number}");
        }
    }
}
