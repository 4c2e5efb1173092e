//! Spreads polls over several HTTP clients. May depend on nothing of this crate.
//!
//! One HTTP client holds one HTTP/2 connection per host, and a server accepts about a hundred concurrent requests on it
//! (RFC 9113 §6.5.2 recommends no fewer). More requests in flight need more clients. The first client with room is used, so
//! that low traffic needs few connections and the idle ones close.
//!
//! A server may accept fewer, and the HTTP library does not say how many: it queues the rest. So a request that is refused,
//! or that waits long among many, shows that a connection takes fewer, and more connections are used.

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

/// After this time without a refused or slow request, a connection may have twice as many.
const GROW_AFTER: Duration = Duration::from_mins(1);
/// If more connections did not help, because the server is slow, no request is moved for this long.
const NO_MOVES_FOR: Duration = Duration::from_mins(10);

/// Builds one more client; `None` if that fails, which does not fail a poll.
type Build = Box<dyn Fn() -> Option<Client> + Send + Sync>;

/// The clients for polls.
pub(super) struct Connections {
    first: Connection,
    more: Mutex<Vec<Connection>>,
    build: Build,
    /// Most requests in flight on one client before another is added, unless the server shows that it accepts fewer.
    per_connection: usize,
    concurrency: Mutex<Concurrency>,
    /// Whether any response came over HTTP/2, where requests share connections.
    speaks_http2: AtomicBool,
    /// Most clients.
    max: usize,
}

/// How many concurrent requests a connection accepts, as far as it is known.
#[derive(Clone, Copy)]
struct Concurrency {
    limit: usize,
    lowered_at: Option<Instant>,
    no_moves_until: Option<Instant>,
}

#[derive(Clone)]
struct Connection {
    client: Client,
    /// Each request in flight holds one clone.
    leases: Arc<()>,
}

/// A client, on which this counts as a request in flight until it is dropped.
pub(super) struct Lease {
    pub(super) client: Client,
    token: Arc<()>,
    /// The limit of concurrent requests when it was taken.
    limit: usize,
}

impl Connections {
    pub(super) fn new(
        first: Client,
        build: Build,
        per_connection: usize,
        max_connections: usize,
        speaks_http2: bool,
    ) -> Self {
        let concurrency = Concurrency { limit: per_connection, lowered_at: None, no_moves_until: None };
        Self {
            first: Connection::new(first),
            more: Mutex::default(),
            build,
            per_connection,
            concurrency: Mutex::new(concurrency),
            speaks_http2: AtomicBool::new(speaks_http2),
            max: max_connections,
        }
    }

    /// Takes the first connection with room.
    pub(super) fn lease(&self, now: Instant) -> Lease {
        let limit = {
            let mut concurrency = self.concurrency.lock();
            if concurrency
                .lowered_at
                .is_some_and(|lowered_at| now.saturating_duration_since(lowered_at) >= GROW_AFTER)
            {
                concurrency.limit = (concurrency.limit * 2).min(self.per_connection);
                concurrency.lowered_at = (concurrency.limit < self.per_connection).then_some(now);
            }
            concurrency.limit
        };
        self.lease_except(None, limit)
    }

    /// Takes another connection than that of `lease`, if possible.
    pub(super) fn lease_another(&self, lease: &Lease) -> Lease {
        let limit = self.concurrency.lock().limit;
        self.lease_except(Some(lease), limit)
    }

    fn lease_except(&self, lease: Option<&Lease>, limit: usize) -> Lease {
        let mut more = self.more.lock();
        let is_other = |connection: &&Connection| lease.is_none_or(|lease| !connection.has(lease));
        let has_room = |connection: &&Connection| is_other(connection) && connection.in_flight() < limit;
        if let Some(connection) = std::iter::once(&self.first).chain(more.iter()).find(has_room) {
            return connection.lease(limit);
        }
        if more.len() + 1 < self.max
            && let Some(client) = (self.build)()
        {
            let connection = Connection::new(client);
            let lease = connection.lease(limit);
            more.push(connection);
            return lease;
        }
        let all = std::iter::once(&self.first).chain(more.iter());
        let least_loaded = all.filter(is_other).min_by_key(|connection| connection.in_flight());
        least_loaded.unwrap_or(&self.first).lease(limit)
    }

    /// Records a response.
    pub(super) fn responded(&self, version: Version) {
        if version == Version::HTTP_2 {
            self.speaks_http2.store(true, Ordering::Relaxed);
        }
    }

    /// Records that the server accepted no more requests on that connection.
    pub(super) fn refused(&self, lease: &Lease, now: Instant) {
        let accepted = lease.in_flight().saturating_sub(1).max(1);
        let mut concurrency = self.concurrency.lock();
        concurrency.limit = concurrency.limit.min(accepted);
        concurrency.lowered_at = Some(now);
    }

    /// Whether a slow request may be quicker on another connection.
    pub(super) fn is_crowded(&self, lease: &Lease, now: Instant) -> bool {
        let in_flight = lease.in_flight();
        let mut concurrency = self.concurrency.lock();
        let no_moves = concurrency.no_moves_until.is_some_and(|until| now < until);
        if in_flight <= 1 || no_moves || !self.speaks_http2.load(Ordering::Relaxed) {
            return false;
        }
        // The first slow request lowers the limit; those with an older lease only follow it.
        if lease.limit == concurrency.limit {
            concurrency.limit = (in_flight.min(concurrency.limit) / 4).max(1);
            concurrency.lowered_at = Some(now);
        }
        in_flight > concurrency.limit
    }

    /// Records that another connection was no quicker: the server is slow.
    pub(super) fn move_did_not_help(&self, now: Instant) {
        let mut concurrency = self.concurrency.lock();
        if concurrency.no_moves_until.is_none_or(|until| until <= now) {
            *concurrency = Concurrency {
                limit: self.per_connection,
                lowered_at: None,
                no_moves_until: Some(now + NO_MOVES_FOR),
            };
        }
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        1 + self.more.lock().len()
    }
}

impl Connection {
    fn new(client: Client) -> Self {
        Self { client, leases: Arc::default() }
    }

    fn has(&self, lease: &Lease) -> bool {
        Arc::ptr_eq(&self.leases, &lease.token)
    }

    fn in_flight(&self) -> usize {
        Arc::strong_count(&self.leases) - 1
    }

    fn lease(&self, limit: usize) -> Lease {
        Lease { client: self.client.clone(), token: self.leases.clone(), limit }
    }
}

impl Lease {
    /// Requests in flight on its connection, this one included.
    fn in_flight(&self) -> usize {
        Arc::strong_count(&self.token) - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(build: fn() -> Option<Client>) -> Connections {
        Connections::new(Client::new(), Box::new(build), 2, 3, true)
    }

    #[test]
    fn a_client_is_added_when_all_are_full_and_no_earlier() {
        let connections = connections(|| Some(Client::new()));
        let leases: Vec<_> = (0..2).map(|_| connections.lease(Instant::now())).collect();
        assert_eq!(connections.count(), 1);
        let third = connections.lease(Instant::now());
        assert_eq!(connections.count(), 2);
        drop((leases, third));
        let _again: Vec<_> = (0..4).map(|_| connections.lease(Instant::now())).collect();
        assert_eq!(connections.count(), 2);
    }

    #[test]
    fn beyond_the_bound_the_clients_share_evenly() {
        let connections = connections(|| Some(Client::new()));
        let _leases: Vec<_> = (0..12).map(|_| connections.lease(Instant::now())).collect();
        assert_eq!(connections.count(), 3);
        assert_eq!(connections.first.in_flight(), 4);
        assert!(connections.more.lock().iter().all(|connection| connection.in_flight() == 4));
    }

    #[test]
    fn a_client_that_cannot_be_built_leaves_the_others_in_use() {
        let connections = connections(|| None);
        let _leases: Vec<_> = (0..5).map(|_| connections.lease(Instant::now())).collect();
        assert_eq!((connections.count(), connections.first.in_flight()), (1, 5));
    }

    #[test]
    fn a_server_that_refuses_gets_fewer_requests_per_connection_for_a_minute() {
        let now = Instant::now();
        let connections = Connections::new(Client::new(), Box::new(|| Some(Client::new())), 96, 128, true);
        let leases: Vec<_> = (0..6).map(|_| connections.lease(now)).collect();
        connections.refused(&leases[5], now);
        drop(leases);
        let leases: Vec<_> = (0..20).map(|_| connections.lease(now)).collect();
        assert_eq!((connections.count(), connections.first.in_flight()), (4, 5));
        drop(leases);
        let _leases: Vec<_> = (0..20).map(|_| connections.lease(now + GROW_AFTER)).collect();
        assert_eq!(connections.first.in_flight(), 10);
    }

    #[test]
    fn slow_requests_among_many_are_moved_but_not_all_and_not_in_vain() {
        let now = Instant::now();
        let connections = Connections::new(Client::new(), Box::new(|| Some(Client::new())), 96, 128, true);
        let mut waiting: Vec<_> = (0..60).map(|_| connections.lease(now)).collect();
        let mut moved = Vec::new();
        while let Some(lease) = waiting.pop_if(|lease| connections.is_crowded(lease, now)) {
            moved.push(connections.lease_another(&lease));
        }
        assert_eq!((waiting.len(), moved.len(), connections.count()), (15, 45, 4));
        connections.move_did_not_help(now);
        assert!(!connections.is_crowded(&waiting[0], now));
        drop((waiting, moved));
        let alone = connections.lease(now);
        assert!(!connections.is_crowded(&alone, now + NO_MOVES_FOR), "there is no other request");
    }

    #[test]
    fn over_http_1_no_request_waits_for_another() {
        let now = Instant::now();
        let connections = Connections::new(Client::new(), Box::new(|| Some(Client::new())), 96, 128, false);
        let leases: Vec<_> = (0..60).map(|_| connections.lease(now)).collect();
        connections.responded(Version::HTTP_11);
        assert!(!connections.is_crowded(&leases[0], now));
        connections.responded(Version::HTTP_2);
        assert!(connections.is_crowded(&leases[0], now));
    }
}
