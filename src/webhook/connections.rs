//! How many connections there may be, and which gives way to a new one. State only. May depend on `sources`.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, hash_map::Entry},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::sources::Network;

/// The most connections. Each may hold one body.
const MOST: usize = 512;

/// What speaks for a connection while there are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trust {
    /// Nothing.
    None,
    /// Its source made an authentic call lately.
    Source,
    /// It had an authentic call itself.
    Connection,
}

/// The open connections.
#[derive(Clone, Debug, Default)]
pub(super) struct Connections(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    /// By their order.
    places: BTreeMap<u64, Place>,
    next: u64,
    /// How many places each network has. Those that have none are not there.
    taken: HashMap<Network, usize>,
}

#[derive(Debug)]
struct Place {
    /// Who takes it; nobody, between two calls of a trusted proxy.
    network: Option<Network>,
    trust: Trust,
    displaced: CancellationToken,
}

/// One open connection, counted until it is dropped.
#[derive(Debug)]
pub(super) struct Connection {
    connections: Connections,
    number: u64,
    displaced: CancellationToken,
    /// Whether its first call has been counted already.
    is_prepaid: AtomicBool,
    /// Whether a call was authentic since that was asked last.
    is_authentic: AtomicBool,
}

impl Connections {
    /// Counts a connection of a network, or of a trusted proxy. If there are too many, one that is trusted less or as little
    /// is displaced: the oldest one of the network that has most. `None` if there is no such connection.
    pub(super) fn open(&self, network: Option<Network>, trust: Trust) -> Option<Connection> {
        let mut open = self.0.lock();
        if open.places.len() >= MOST {
            let displaced = open.first_to_go().filter(|(least, _)| *least <= trust.min(Trust::Source))?;
            open.remove(displaced.1);
        }
        let (number, displaced) = (open.next, CancellationToken::new());
        open.next += 1;
        open.places.insert(number, Place { network: None, trust, displaced: displaced.clone() });
        open.assign(number, network, trust);
        let is_prepaid = AtomicBool::new(network.is_some());
        Some(Connection {
            connections: self.clone(),
            number,
            displaced,
            is_prepaid,
            is_authentic: AtomicBool::default(),
        })
    }
}

impl Open {
    /// The connection that gives way first, and how far it is trusted.
    fn first_to_go(&self) -> Option<(Trust, u64)> {
        let taken = |place: &Place| place.network.and_then(|network| self.taken.get(&network));
        let first =
            self.places.iter().min_by_key(|(number, place)| (place.trust, Reverse(taken(place)), **number));
        first.map(|(number, place)| (place.trust, *number))
    }

    fn assign(&mut self, number: u64, network: Option<Network>, trust: Trust) {
        let Some(place) = self.places.get_mut(&number) else { return };
        place.trust = trust;
        let before = std::mem::replace(&mut place.network, network);
        if before == network {
            return;
        }
        if let Some(network) = network {
            *self.taken.entry(network).or_default() += 1;
        }
        if let Some(Entry::Occupied(mut count)) = before.map(|network| self.taken.entry(network)) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    /// Frees the place, if it is still taken, and ends its connection.
    fn remove(&mut self, number: u64) {
        self.assign(number, None, Trust::None);
        if let Some(place) = self.places.remove(&number) {
            place.displaced.cancel();
        }
    }
}

impl Connection {
    /// Ends when another connection needs its place.
    pub(super) fn displaced(&self) -> CancellationToken {
        self.displaced.clone()
    }

    /// Whether the next call is counted already, with the connection itself. Only the first one is.
    pub(super) fn take_prepaid(&self) -> bool {
        self.is_prepaid.swap(false, Ordering::Relaxed)
    }

    /// Counts a connection of a trusted proxy for the network that its call comes from; for none, once that is answered.
    pub(super) fn assign(&self, network: Option<Network>, trust: Trust) {
        self.connections.0.lock().assign(self.number, network, trust);
    }

    /// Notes an authentic call.
    pub(super) fn note_authentic(&self) {
        self.is_authentic.store(true, Ordering::Relaxed);
        if let Some(place) = self.connections.0.lock().places.get_mut(&self.number) {
            place.trust = Trust::Connection;
        }
    }

    /// Whether a call was authentic since that was asked last.
    pub(super) fn take_authentic(&self) -> bool {
        self.is_authentic.swap(false, Ordering::Relaxed)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.connections.0.lock().remove(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webhook::sources::Source;

    fn network(text: &str) -> Network {
        Source::of(text.parse().unwrap()).network()
    }

    /// That many connections of an address.
    fn open(connections: &Connections, address: &str, count: usize, trust: Trust) -> Vec<Connection> {
        (0..count).map(|_| connections.open(Some(network(address)), trust).unwrap()).collect()
    }

    fn displaced(connections: &[Connection]) -> usize {
        connections.iter().filter(|connection| connection.displaced.is_cancelled()).count()
    }

    #[test]
    fn when_there_are_too_many_the_network_that_has_most_gives_way_with_its_oldest() {
        let connections = Connections::default();
        let few = open(&connections, "192.0.2.1", 10, Trust::None);
        let flood: Vec<_> = (0..MOST - 10)
            .flat_map(|number| open(&connections, &format!("2001:db8:1:{number:x}::1"), 1, Trust::None))
            .collect();
        assert_eq!((displaced(&few), displaced(&flood)), (0, 0));
        let other = open(&connections, "192.0.2.2", 100, Trust::None);
        assert_eq!((displaced(&few), displaced(&flood), displaced(&other)), (0, 100, 0));
        assert!(flood[99].displaced.is_cancelled() && !flood[100].displaced.is_cancelled());
        let more = open(&connections, "2001:db8:1::1", 50, Trust::None);
        assert_eq!((displaced(&flood), displaced(&other), displaced(&more)), (150, 0, 0));
        drop((few, flood, other, more));
        let open = connections.0.lock();
        assert!(open.places.is_empty() && open.taken.is_empty());
    }

    #[test]
    fn connections_with_authentic_calls_and_of_sources_that_had_some_give_way_last() {
        let connections = Connections::default();
        let portal = open(&connections, "192.0.2.1", 200, Trust::Source);
        portal[..100].iter().for_each(Connection::note_authentic);
        let unknown = open(&connections, "192.0.2.2", MOST - 200, Trust::None);
        let more = open(&connections, "192.0.2.3", 300, Trust::None);
        assert_eq!((displaced(&portal), displaced(&unknown), displaced(&more)), (0, 157, 143), "equal parts");
        drop((unknown, more));
        let rest = open(&connections, "192.0.2.2", MOST - 200, Trust::Source);
        assert!(connections.open(Some(network("192.0.2.4")), Trust::None).is_none());
        let others = open(&connections, "192.0.2.4", 100, Trust::Source);
        assert_eq!((displaced(&portal), displaced(&rest), displaced(&others)), (0, 100, 0));
        rest[100..].iter().chain(&portal).chain(&others).for_each(Connection::note_authentic);
        assert!(connections.open(Some(network("192.0.2.5")), Trust::Source).is_none());
    }

    #[test]
    fn a_connection_of_a_trusted_proxy_counts_for_the_address_whose_call_it_carries() {
        let connections = Connections::default();
        let proxy =
            |count| (0..count).map(|_| connections.open(None, Trust::None).unwrap()).collect::<Vec<_>>();
        let (slow, idle) = (proxy(300), proxy(MOST - 300));
        for connection in &slow {
            connection.assign(Some(network("192.0.2.1")), Trust::None);
        }
        let more = proxy(299);
        assert_eq!((displaced(&slow), displaced(&idle), displaced(&more)), (299, 0, 0));
        slow[299].assign(None, Trust::None);
        assert!(connections.0.lock().taken.is_empty());
    }

    #[test]
    fn the_first_call_of_a_connection_is_counted_with_it_unless_a_proxy_made_it() {
        let connections = Connections::default();
        let direct = connections.open(Some(network("192.0.2.1")), Trust::None).unwrap();
        assert_eq!([direct.take_prepaid(), direct.take_prepaid()], [true, false]);
        assert!(!connections.open(None, Trust::None).unwrap().take_prepaid());
    }
}
