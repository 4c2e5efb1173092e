//! When the API server was last heard of. Touches tokio's clock.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

/// What was heard of the API server last. Clones are handles to the same.
#[derive(Clone, Debug)]
pub struct LastContact(Arc<Mutex<Last>>);

#[derive(Debug)]
struct Last {
    server: Instant,
    watch: Instant,
    /// When what follows the watch was last seen at work; nothing before it begins.
    follower: Option<Instant>,
}

impl Default for LastContact {
    /// LastContact of now, as everything begins.
    fn default() -> Self {
        let now = Instant::now();
        Self(Arc::new(Mutex::new(Last { server: now, watch: now, follower: None })))
    }
}

impl LastContact {
    /// The API server gave an answer.
    pub fn server(&self) {
        self.0.lock().server = Instant::now();
    }

    /// The API server sent something by the watch, or by the list that begins it; a bookmark is something.
    pub fn watch(&self) {
        let mut last = self.0.lock();
        last.server = Instant::now();
        last.watch = last.server;
    }

    /// What follows the watch is at work.
    pub fn follower(&self) {
        self.0.lock().follower = Some(Instant::now());
    }

    /// For how long the API server gave no answer at all.
    #[must_use]
    pub fn server_silent_for(&self) -> Duration {
        self.0.lock().server.elapsed()
    }

    /// For how long nothing came by the watch.
    #[must_use]
    pub fn watch_silent_for(&self) -> Duration {
        self.0.lock().watch.elapsed()
    }

    /// For how long what follows the watch showed no sign of life; nothing before it begins.
    #[must_use]
    pub fn follower_silent_for(&self) -> Option<Duration> {
        self.0.lock().follower.map(|last| last.elapsed())
    }
}
