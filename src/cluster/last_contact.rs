//! When the API server last responded. May depend on tokio's clock.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

/// The last contact with the API server. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct LastContact(Arc<Mutex<Last>>);

#[derive(Debug)]
struct Last {
    server: Instant,
    watch: Instant,
    /// When the task that follows the watch was last alive; nothing before it starts.
    follower: Option<Instant>,
}

impl Default for LastContact {
    /// Contact now, as the process starts.
    fn default() -> Self {
        let now = Instant::now();
        Self(Arc::new(Mutex::new(Last { server: now, watch: now, follower: None })))
    }
}

impl LastContact {
    /// The API server responded.
    pub(crate) fn server_responded(&self) {
        self.0.lock().server = Instant::now();
    }

    /// The API server sent something on the watch, be it a bookmark, or for the list before it.
    pub(crate) fn watch_received(&self) {
        let mut last = self.0.lock();
        last.server = Instant::now();
        last.watch = last.server;
    }

    /// The task that follows the watch is alive.
    pub(crate) fn follower_alive(&self) {
        self.0.lock().follower = Some(Instant::now());
    }

    /// The time since the last response of any kind.
    #[must_use]
    pub(crate) fn since_server(&self) -> Duration {
        self.0.lock().server.elapsed()
    }

    /// The time since the watch last received something.
    #[must_use]
    pub(crate) fn since_watch(&self) -> Duration {
        self.0.lock().watch.elapsed()
    }

    /// The time since the task that follows the watch was last alive; nothing before it starts.
    #[must_use]
    pub(crate) fn since_follower(&self) -> Option<Duration> {
        self.0.lock().follower.map(|last| last.elapsed())
    }
}
