//! What one endpoint may take of the places and of the memory: a part, so that one that hangs leaves the rest to others.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::Semaphore;

use crate::evidence::{ByteBudget, MAX_BYTES, budget::DEFAULT_BYTES};

use super::STORING_AT_ONCE;

/// Most verifications whose evidence is stored at one endpoint, or removed from it, at the same time.
const AT_ONE_ENDPOINT: usize = STORING_AT_ONCE * 5 / 8;
/// Most bytes of images on their way to one endpoint: the largest image of another still fits beside them.
const BYTES_AT_ONE_ENDPOINT: usize = DEFAULT_BYTES - MAX_BYTES;

/// The lanes of all endpoints, by the endpoint. One that nobody uses is forgotten.
#[derive(Debug, Default)]
pub struct Lanes {
    used: Mutex<HashMap<String, Weak<Lane>>>,
}

/// The part of one endpoint.
#[derive(Debug)]
pub(super) struct Lane {
    /// Places for verifications.
    pub(super) places: Arc<Semaphore>,
    /// Bytes of images in flight.
    pub(super) bytes: ByteBudget,
}

impl Lanes {
    /// The lane of an endpoint.
    pub(super) fn lane(&self, endpoint: &str) -> Arc<Lane> {
        // Every change under the lock is complete before it can panic.
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = used.get(endpoint).and_then(Weak::upgrade) {
            return lane;
        }
        used.retain(|_, lane| lane.strong_count() > 0);
        let places = Arc::new(Semaphore::new(AT_ONE_ENDPOINT));
        let lane = Arc::new(Lane { places, bytes: ByteBudget::new(BYTES_AT_ONE_ENDPOINT) });
        used.insert(endpoint.to_owned(), Arc::downgrade(&lane));
        lane
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_has_one_lane_while_it_is_used_and_others_have_their_own() {
        let lanes = Lanes::default();
        let (one, other) = (lanes.lane("https://one.example"), lanes.lane("https://other.example"));
        assert!(Arc::ptr_eq(&one, &lanes.lane("https://one.example")));
        assert!(!Arc::ptr_eq(&one, &other));
        drop(one);
        lanes.lane("https://third.example");
        assert_eq!(lanes.used.lock().unwrap().len(), 2, "the first is forgotten");
    }

    #[test]
    fn one_endpoint_leaves_places_and_memory_for_the_largest_image_to_others() {
        const { assert!(AT_ONE_ENDPOINT < STORING_AT_ONCE) };
        assert!(ByteBudget::default().held() == 0 && BYTES_AT_ONE_ENDPOINT + MAX_BYTES <= DEFAULT_BYTES);
    }
}
