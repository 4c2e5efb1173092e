//! Many HTTP clients for the looks.
//!
//! One HTTP client holds one HTTP/2 connection per host, and a server takes about a hundred
//! requests at a time on it (RFC 9113 §6.5.2 recommends no fewer). More in flight need more
//! clients. The first one with room is taken, so that a quiet time needs few connections and the
//! others close by themselves.

use std::sync::{Arc, Mutex, PoisonError};

use reqwest::Client;

/// Builds one more client; `None` when that fails, which is no reason to fail a look.
type Build = Box<dyn Fn() -> Option<Client> + Send + Sync>;

pub(super) struct Shards {
    first: Shard,
    more: Mutex<Vec<Shard>>,
    build: Build,
    /// Most requests in flight on one client before another is added.
    per_shard: usize,
    /// Most clients.
    bound: usize,
}

#[derive(Clone)]
struct Shard {
    client: Client,
    /// One clone is held by each request in flight.
    places: Arc<()>,
}

/// A client with a place on it, which is free again when this is dropped.
pub(super) struct Place {
    pub(super) client: Client,
    _place: Arc<()>,
}

impl Shards {
    pub(super) fn new(first: Client, build: Build, per_shard: usize, bound: usize) -> Self {
        Self { first: Shard::new(first), more: Mutex::default(), build, per_shard, bound }
    }

    pub(super) fn place(&self) -> Place {
        let mut more = self.more.lock().unwrap_or_else(PoisonError::into_inner);
        let room = |shard: &&Shard| shard.in_flight() < self.per_shard;
        if let Some(shard) = std::iter::once(&self.first).chain(more.iter()).find(room) {
            return shard.place();
        }
        if more.len() + 1 < self.bound
            && let Some(client) = (self.build)()
        {
            let shard = Shard::new(client);
            let place = shard.place();
            more.push(shard);
            return place;
        }
        more.iter()
            .fold(
                &self.first,
                |least, shard| {
                    if shard.in_flight() < least.in_flight() { shard } else { least }
                },
            )
            .place()
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        1 + self.more.lock().unwrap().len()
    }
}

impl Shard {
    fn new(client: Client) -> Self {
        Self { client, places: Arc::default() }
    }

    fn in_flight(&self) -> usize {
        Arc::strong_count(&self.places) - 1
    }

    fn place(&self) -> Place {
        Place { client: self.client.clone(), _place: self.places.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shards(build: fn() -> Option<Client>) -> Shards {
        Shards::new(Client::new(), Box::new(build), 2, 3)
    }

    #[test]
    fn a_client_is_added_when_all_are_full_and_no_earlier() {
        let shards = shards(|| Some(Client::new()));
        let places: Vec<_> = (0..2).map(|_| shards.place()).collect();
        assert_eq!(shards.count(), 1);
        let third = shards.place();
        assert_eq!(shards.count(), 2);
        drop((places, third));
        let _again: Vec<_> = (0..4).map(|_| shards.place()).collect();
        assert_eq!(shards.count(), 2);
    }

    #[test]
    fn beyond_the_bound_the_clients_share_evenly() {
        let shards = shards(|| Some(Client::new()));
        let _places: Vec<_> = (0..12).map(|_| shards.place()).collect();
        assert_eq!(shards.count(), 3);
        assert_eq!(shards.first.in_flight(), 4);
        assert!(shards.more.lock().unwrap().iter().all(|shard| shard.in_flight() == 4));
    }

    #[test]
    fn a_client_that_cannot_be_built_leaves_the_others_in_use() {
        let shards = shards(|| None);
        let _places: Vec<_> = (0..5).map(|_| shards.place()).collect();
        assert_eq!((shards.count(), shards.first.in_flight()), (1, 5));
    }
}
