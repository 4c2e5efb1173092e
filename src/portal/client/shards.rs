//! Many HTTP clients for the looks.
//!
//! One HTTP client holds one HTTP/2 connection per host, and a server takes about a hundred
//! requests at a time on it (RFC 9113 §6.5.2 recommends no fewer). More in flight need more
//! clients. The first one with room is taken, so that a quiet time needs few connections and the
//! others close by themselves.
//!
//! A server may take fewer at a time, and the HTTP library does not say how many: it lets the rest wait. So a request that is
//! refused, or waits for long among many, shows that a connection takes fewer, and more connections are used.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::Version;
use parking_lot::Mutex;
use reqwest::Client;
use tokio::time::Instant;

/// After this time without a request that was refused or waited, twice as many are tried on a connection.
const GROWS_AFTER: Duration = Duration::from_mins(1);
/// Where more connections helped nobody, because the server is slow, they are not tried again for this long.
const IN_VAIN_FOR: Duration = Duration::from_mins(10);

/// Builds one more client; `None` when that fails, which is no reason to fail a look.
type Build = Box<dyn Fn() -> Option<Client> + Send + Sync>;

pub(super) struct Shards {
    first: Shard,
    more: Mutex<Vec<Shard>>,
    build: Build,
    /// Most requests in flight on one client before another is added, where nothing shows that it should be fewer.
    per_shard: usize,
    crowd: Mutex<Crowd>,
    /// Whether anything was answered over HTTP/2, where requests share connections.
    speaks_http2: AtomicBool,
    /// Most clients.
    bound: usize,
}

/// How many requests a connection takes at a time, as far as it is known.
#[derive(Clone, Copy)]
struct Crowd {
    most: usize,
    lowered_at: Option<Instant>,
    in_vain_until: Option<Instant>,
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
    token: Arc<()>,
    /// How many a connection took at most when it was taken.
    most: usize,
}

impl Shards {
    pub(super) fn new(
        first: Client,
        build: Build,
        per_shard: usize,
        bound: usize,
        speaks_http2: bool,
    ) -> Self {
        let crowd = Crowd { most: per_shard, lowered_at: None, in_vain_until: None };
        Self {
            first: Shard::new(first),
            more: Mutex::default(),
            build,
            per_shard,
            crowd: Mutex::new(crowd),
            speaks_http2: AtomicBool::new(speaks_http2),
            bound,
        }
    }

    /// A place on the first connection with room.
    pub(super) fn place(&self, now: Instant) -> Place {
        let most = {
            let mut crowd = self.crowd.lock();
            if crowd
                .lowered_at
                .is_some_and(|lowered_at| now.saturating_duration_since(lowered_at) >= GROWS_AFTER)
            {
                crowd.most = (crowd.most * 2).min(self.per_shard);
                crowd.lowered_at = (crowd.most < self.per_shard).then_some(now);
            }
            crowd.most
        };
        self.place_but(None, most)
    }

    /// A place on another connection than that one has, if it can be.
    pub(super) fn other_place(&self, place: &Place) -> Place {
        let most = self.crowd.lock().most;
        self.place_but(Some(place), most)
    }

    fn place_but(&self, place: Option<&Place>, most: usize) -> Place {
        let mut more = self.more.lock();
        let is_other = |shard: &&Shard| place.is_none_or(|place| !shard.has(place));
        let room = |shard: &&Shard| is_other(shard) && shard.in_flight() < most;
        if let Some(shard) = std::iter::once(&self.first).chain(more.iter()).find(room) {
            return shard.place(most);
        }
        if more.len() + 1 < self.bound
            && let Some(client) = (self.build)()
        {
            let shard = Shard::new(client);
            let place = shard.place(most);
            more.push(shard);
            return place;
        }
        let all = std::iter::once(&self.first).chain(more.iter());
        all.filter(is_other).min_by_key(|shard| shard.in_flight()).unwrap_or(&self.first).place(most)
    }

    /// A request was answered.
    pub(super) fn answered(&self, version: Version) {
        if version == Version::HTTP_2 {
            self.speaks_http2.store(true, Ordering::Relaxed);
        }
    }

    /// The server took no more requests on that connection.
    pub(super) fn refused(&self, place: &Place, now: Instant) {
        let taken = place.in_flight().saturating_sub(1).max(1);
        let mut crowd = self.crowd.lock();
        crowd.most = crowd.most.min(taken);
        crowd.lowered_at = Some(now);
    }

    /// Whether a request that waits for long may be quicker on another connection.
    pub(super) fn is_crowded(&self, place: &Place, now: Instant) -> bool {
        let in_flight = place.in_flight();
        let mut crowd = self.crowd.lock();
        let in_vain = crowd.in_vain_until.is_some_and(|until| now < until);
        if in_flight <= 1 || in_vain || !self.speaks_http2.load(Ordering::Relaxed) {
            return false;
        }
        // One of those that wait lowers it; those that came before it only go by it.
        if place.most == crowd.most {
            crowd.most = (in_flight.min(crowd.most) / 4).max(1);
            crowd.lowered_at = Some(now);
        }
        in_flight > crowd.most
    }

    /// Another connection was no quicker: the server is slow.
    pub(super) fn moved_in_vain(&self, now: Instant) {
        let mut crowd = self.crowd.lock();
        if crowd.in_vain_until.is_none_or(|until| until <= now) {
            *crowd = Crowd { most: self.per_shard, lowered_at: None, in_vain_until: Some(now + IN_VAIN_FOR) };
        }
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        1 + self.more.lock().len()
    }
}

impl Shard {
    fn new(client: Client) -> Self {
        Self { client, places: Arc::default() }
    }

    fn has(&self, place: &Place) -> bool {
        Arc::ptr_eq(&self.places, &place.token)
    }

    fn in_flight(&self) -> usize {
        Arc::strong_count(&self.places) - 1
    }

    fn place(&self, most: usize) -> Place {
        Place { client: self.client.clone(), token: self.places.clone(), most }
    }
}

impl Place {
    /// Requests in flight on its connection, this one included.
    fn in_flight(&self) -> usize {
        Arc::strong_count(&self.token) - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shards(build: fn() -> Option<Client>) -> Shards {
        Shards::new(Client::new(), Box::new(build), 2, 3, true)
    }

    #[test]
    fn a_client_is_added_when_all_are_full_and_no_earlier() {
        let shards = shards(|| Some(Client::new()));
        let places: Vec<_> = (0..2).map(|_| shards.place(Instant::now())).collect();
        assert_eq!(shards.count(), 1);
        let third = shards.place(Instant::now());
        assert_eq!(shards.count(), 2);
        drop((places, third));
        let _again: Vec<_> = (0..4).map(|_| shards.place(Instant::now())).collect();
        assert_eq!(shards.count(), 2);
    }

    #[test]
    fn beyond_the_bound_the_clients_share_evenly() {
        let shards = shards(|| Some(Client::new()));
        let _places: Vec<_> = (0..12).map(|_| shards.place(Instant::now())).collect();
        assert_eq!(shards.count(), 3);
        assert_eq!(shards.first.in_flight(), 4);
        assert!(shards.more.lock().iter().all(|shard| shard.in_flight() == 4));
    }

    #[test]
    fn a_client_that_cannot_be_built_leaves_the_others_in_use() {
        let shards = shards(|| None);
        let _places: Vec<_> = (0..5).map(|_| shards.place(Instant::now())).collect();
        assert_eq!((shards.count(), shards.first.in_flight()), (1, 5));
    }

    #[test]
    fn a_server_that_refuses_gets_no_more_on_a_connection_until_a_minute_is_over() {
        let now = Instant::now();
        let shards = Shards::new(Client::new(), Box::new(|| Some(Client::new())), 96, 128, true);
        let places: Vec<_> = (0..6).map(|_| shards.place(now)).collect();
        shards.refused(&places[5], now);
        drop(places);
        let places: Vec<_> = (0..20).map(|_| shards.place(now)).collect();
        assert_eq!((shards.count(), shards.first.in_flight()), (4, 5));
        drop(places);
        let _places: Vec<_> = (0..20).map(|_| shards.place(now + GROWS_AFTER)).collect();
        assert_eq!(shards.first.in_flight(), 10);
    }

    #[test]
    fn those_who_wait_among_many_go_elsewhere_but_not_all_and_not_in_vain() {
        let now = Instant::now();
        let shards = Shards::new(Client::new(), Box::new(|| Some(Client::new())), 96, 128, true);
        let mut waiting: Vec<_> = (0..60).map(|_| shards.place(now)).collect();
        let mut moved = Vec::new();
        while let Some(place) = waiting.pop_if(|place| shards.is_crowded(place, now)) {
            moved.push(shards.other_place(&place));
        }
        assert_eq!((waiting.len(), moved.len(), shards.count()), (15, 45, 4));
        shards.moved_in_vain(now);
        assert!(!shards.is_crowded(&waiting[0], now));
        drop((waiting, moved));
        let alone = shards.place(now);
        assert!(!shards.is_crowded(&alone, now + IN_VAIN_FOR), "there is nobody to wait for");
    }

    #[test]
    fn over_http_1_nobody_waits_for_others() {
        let now = Instant::now();
        let shards = Shards::new(Client::new(), Box::new(|| Some(Client::new())), 96, 128, false);
        let places: Vec<_> = (0..60).map(|_| shards.place(now)).collect();
        shards.answered(Version::HTTP_11);
        assert!(!shards.is_crowded(&places[0], now));
        shards.answered(Version::HTTP_2);
        assert!(shards.is_crowded(&places[0], now));
    }
}
