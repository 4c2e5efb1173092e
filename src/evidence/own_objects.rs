//! What this process has put into stores, or was about to: so that it knows its own objects again where an answer was lost
//! and the next bytes are others. Pure but for a lock.

use std::collections::{HashSet, VecDeque};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};

/// Objects that are remembered, at about 80 bytes each. With more the oldest is forgotten, and has to prove by itself whose
/// it is, as after a restart.
const MOST: usize = 8192;

/// Objects of this process, by place, key and bytes.
#[derive(Debug, Default)]
pub struct OwnObjects {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    all: HashSet<[u8; 32]>,
    in_order: VecDeque<[u8; 32]>,
}

impl OwnObjects {
    /// Remembers bytes before they are sent: `place` names store and folder, `key` the object in it, `sha256` its bytes.
    pub fn remember(&self, place: &str, key: &str, sha256: &str) {
        let digest = digest(place, key, sha256);
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
    pub fn knows(&self, place: &str, key: &str, sha256: &str) -> bool {
        let known = self.known.lock();
        known.all.contains(&digest(place, key, sha256))
    }
}

/// No part holds a NUL.
fn digest(place: &str, key: &str, sha256: &str) -> [u8; 32] {
    let parts = [place, key, sha256].into_iter();
    parts.fold(Sha256::new(), |digest, part| digest.chain_update(part).chain_update(b"\0")).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_known_by_its_place_its_key_and_its_bytes() {
        let own = OwnObjects::default();
        own.remember("s3://evidence/a", "details.json", "ab");
        own.remember("s3://evidence/a", "details.json", "cd");
        for (place, key, sha256, known) in [
            ("s3://evidence/a", "details.json", "ab", true),
            ("s3://evidence/a", "details.json", "cd", true),
            ("s3://evidence/a", "details.json", "ef", false),
            ("s3://evidence/a", "manifest.json", "ab", false),
            ("s3://evidence/b", "details.json", "ab", false),
        ] {
            assert_eq!(own.knows(place, key, sha256), known, "{place} {key} {sha256}");
        }
    }

    #[test]
    fn with_too_many_the_oldest_is_forgotten() {
        let own = OwnObjects::default();
        for number in 0..=MOST {
            own.remember("place", &number.to_string(), "ab");
            own.remember("place", &number.to_string(), "ab");
        }
        assert!(!own.knows("place", "0", "ab"));
        assert!(own.knows("place", "1", "ab") && own.knows("place", &MOST.to_string(), "ab"));
        let known = own.known.lock();
        assert_eq!((known.all.len(), known.in_order.len()), (MOST, MOST));
    }
}
