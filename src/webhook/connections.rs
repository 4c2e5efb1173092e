//! How many connections there may be: in total, and of one source. State only.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::sources::Source;

/// The most connections. Each may hold one body.
const MOST: usize = 512;
/// The most connections of one source, unless it is a trusted proxy.
const MOST_OF_ONE: usize = 64;

/// The open connections.
#[derive(Clone, Debug)]
pub(super) struct Connections {
    free: Arc<Semaphore>,
    by_source: Arc<Mutex<HashMap<Source, usize>>>,
}

/// One open connection, counted until it is dropped.
#[derive(Debug)]
pub(super) struct Connection {
    by_source: Arc<Mutex<HashMap<Source, usize>>>,
    source: Option<Source>,
    _permit: OwnedSemaphorePermit,
}

impl Default for Connections {
    fn default() -> Self {
        Self { free: Arc::new(Semaphore::new(MOST)), by_source: Arc::default() }
    }
}

impl Connections {
    /// Waits until there may be another connection. Never fails: nobody closes the semaphore.
    pub(super) async fn free(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).acquire_owned().await.ok()
    }

    /// Counts a connection of a source, or of a trusted proxy; `None` if the source has too many.
    pub(super) fn open(&self, permit: OwnedSemaphorePermit, source: Option<Source>) -> Option<Connection> {
        if let Some(source) = source {
            let mut by_source = self.by_source.lock();
            let count = by_source.entry(source).or_default();
            if *count >= MOST_OF_ONE {
                return None;
            }
            *count += 1;
        }
        Some(Connection { by_source: Arc::clone(&self.by_source), source, _permit: permit })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let Some(source) = self.source else { return };
        if let Entry::Occupied(mut count) = self.by_source.lock().entry(source) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[tokio::test]
    async fn one_source_leaves_connections_to_the_others() {
        let connections = Connections::default();
        let source = |text: &str| Some(Source::of(text.parse::<IpAddr>().unwrap()));
        let mut open = Vec::new();
        for _ in 0..MOST_OF_ONE {
            let permit = connections.free().await.unwrap();
            open.push(connections.open(permit, source("10.0.0.1")).unwrap());
        }
        let permit = connections.free().await.unwrap();
        assert!(connections.open(permit, source("10.0.0.1")).is_none());
        let permit = connections.free().await.unwrap();
        assert!(connections.open(permit, source("10.0.0.2")).is_some());
        open.pop();
        let permit = connections.free().await.unwrap();
        open.extend(connections.open(permit, source("10.0.0.1")));
        assert_eq!(open.len(), MOST_OF_ONE);
        drop(open);
        assert!(connections.by_source.lock().is_empty());
        assert_eq!(connections.free.available_permits(), MOST);
    }
}
