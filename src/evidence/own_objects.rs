//! The objects that this process has put, or was about to put: so that it recognizes its own where the response was
//! lost and the bytes differ the next time. State only.

use std::collections::{HashSet, VecDeque};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};

/// Maximum number of objects, at about 80 bytes each. Beyond it the oldest is forgotten, and has to prove its origin as
/// after a restart.
const MOST: usize = 8192;

/// Objects of this process, by destination, key and bytes.
#[derive(Debug, Default)]
pub(crate) struct OwnObjects {
    known: Mutex<BoundedSet>,
}

#[derive(Debug, Default)]
struct BoundedSet {
    all: HashSet<[u8; 32]>,
    in_order: VecDeque<[u8; 32]>,
}

impl OwnObjects {
    /// Remembers bytes before they are sent: `destination` names store and folder, `key` the object, `sha256` its
    /// bytes.
    pub(crate) fn remember(&self, destination: &str, key: &str, sha256: &str) {
        let digest = digest(destination, key, sha256);
        let mut known = self.known.lock();
        if !known.all.insert(digest) {
            return;
        }
        known.in_order.push_back(digest);
        if known.in_order.len() > MOST
            && let Some(oldest) = known.in_order.pop_front()
        {
            known.all.remove(&oldest);
        }
    }

    /// Whether this process has sent these bytes there, or was about to.
    #[must_use]
    pub(crate) fn knows(&self, destination: &str, key: &str, sha256: &str) -> bool {
        let known = self.known.lock();
        known.all.contains(&digest(destination, key, sha256))
    }
}

/// No part holds a NUL.
fn digest(destination: &str, key: &str, sha256: &str) -> [u8; 32] {
    let parts = [destination, key, sha256].into_iter();
    parts.fold(Sha256::new(), |digest, part| digest.chain_update(part).chain_update(b"\0")).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_known_by_its_destination_its_key_and_its_bytes() {
        let own = OwnObjects::default();
        own.remember("s3://evidence/a", "details.json", "ab");
        own.remember("s3://evidence/a", "details.json", "cd");
        for (destination, key, sha256, known) in [
            ("s3://evidence/a", "details.json", "ab", true),
            ("s3://evidence/a", "details.json", "cd", true),
            ("s3://evidence/a", "details.json", "ef", false),
            ("s3://evidence/a", "manifest.json", "ab", false),
            ("s3://evidence/b", "details.json", "ab", false),
        ] {
            assert_eq!(own.knows(destination, key, sha256), known, "{destination} {key} {sha256}");
        }
    }

    #[test]
    fn with_too_many_the_oldest_is_forgotten() {
        let own = OwnObjects::default();
        for number in 0..=MOST {
            own.remember("destination", &number.to_string(), "ab");
            own.remember("destination", &number.to_string(), "ab");
        }
        assert!(!own.knows("destination", "0", "ab"));
        assert!(own.knows("destination", "1", "ab") && own.knows("destination", &MOST.to_string(), "ab"));
        let known = own.known.lock();
        assert_eq!((known.all.len(), known.in_order.len()), (MOST, MOST));
    }
}
