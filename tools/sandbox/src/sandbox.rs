//! A running portal: how it is built, started and stopped. May depend on all modules.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use jiff::Timestamp;
use tokio::net::TcpListener;

use crate::clock::Clock;
use crate::images::Images;
use crate::notifications::{Notifications, Webhook, deliver};
use crate::person::Person;
use crate::portal::{Portal, Settings};
use crate::server::Server;
use crate::{admin, endpoints, page};

/// A running portal, which stops when it is dropped. All operations on it are methods of [`Portal`], to which it
/// dereferences.
#[derive(Debug)]
pub struct Sandbox {
    portal: Arc<Portal>,
    server: Server,
}

/// The settings of a portal. See [`Sandbox::builder`].
#[derive(Debug, Clone)]
#[must_use]
pub struct Builder {
    listen: SocketAddr,
    keys: Vec<String>,
    expiry: Duration,
    flow: Vec<String>,
    speed: f64,
    start: Option<Timestamp>,
    latency: Duration,
    person: Option<Person>,
    records: usize,
    streams: u32,
    image_bytes: usize,
    webhook: Option<Webhook>,
}

impl Sandbox {
    /// A portal at `127.0.0.1` on a free port, without keys. Sessions last one hour and consist of terms, document, liveness
    /// and form; the clock shows the real time.
    pub fn builder() -> Builder {
        Builder {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            keys: Vec::new(),
            expiry: Duration::from_hours(1),
            flow: ["terms", "document", "liveness", "form_data"].map(str::to_owned).into(),
            speed: 1.0,
            start: None,
            latency: Duration::ZERO,
            person: None,
            records: 10_000,
            streams: 250,
            image_bytes: 0,
            webhook: None,
        }
    }

    /// The address it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// Its base URL, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address)
    }

    /// The portal behind it, for another task.
    #[must_use]
    pub fn portal(&self) -> Arc<Portal> {
        Arc::clone(&self.portal)
    }

    /// Clears all faults, accepts no more connections, lets requests in flight finish for at most two seconds, and stops.
    pub async fn stop(self) {
        self.portal.clear_faults();
        self.server.stop().await;
    }
}

impl Deref for Sandbox {
    type Target = Portal;

    fn deref(&self) -> &Portal {
        &self.portal
    }
}

impl Builder {
    /// The address to listen on; port 0 selects a free one.
    pub fn listen(self, listen: SocketAddr) -> Self {
        Self { listen, ..self }
    }

    /// Adds a key.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.keys.push(key.into());
        self
    }

    /// How long a session lasts, on the sandbox's clock.
    pub fn expiry(self, expiry: Duration) -> Self {
        Self { expiry, ..self }
    }

    /// The modules of a session, in order.
    pub fn flow<T: Into<String>>(self, flow: impl IntoIterator<Item = T>) -> Self {
        Self { flow: flow.into_iter().map(Into::into).collect(), ..self }
    }

    /// Seconds of the sandbox's clock for each real second.
    pub fn speed(self, speed: f64) -> Self {
        Self { speed, ..self }
    }

    /// The time on the clock at the start.
    pub fn start_at(self, start: Timestamp) -> Self {
        Self { start: Some(start), ..self }
    }

    /// Real time before a request is processed.
    pub fn latency(self, latency: Duration) -> Self {
        Self { latency, ..self }
    }

    /// Assigns this person to every session that a request creates.
    pub fn person(self, person: Person) -> Self {
        Self { person: Some(person), ..self }
    }

    /// How many creates, and how many other requests, are in the request log; 0 for none.
    pub fn records(self, records: usize) -> Self {
        Self { records, ..self }
    }

    /// The number of concurrent HTTP/2 streams on one connection.
    pub fn max_concurrent_streams(self, streams: u32) -> Self {
        Self { streams, ..self }
    }

    /// The minimum size of an image in bytes; smaller ones are padded. 0 adds no padding, which gives about 15,000 bytes.
    pub fn image_bytes(self, image_bytes: usize) -> Self {
        Self { image_bytes, ..self }
    }

    /// Notifies this webhook whenever a session changes.
    pub fn webhook(self, webhook: Webhook) -> Self {
        Self { webhook: Some(webhook), ..self }
    }

    /// Listens. Needs a tokio runtime.
    ///
    /// # Errors
    /// If it cannot listen on the address.
    pub async fn try_start(self) -> io::Result<Sandbox> {
        let listener = TcpListener::bind(self.listen).await?;
        self.serve(listener)
    }

    /// As [`Builder::try_start`], on an existing listener in place of [`Builder::listen`]. Needs a tokio runtime.
    ///
    /// # Errors
    /// If the listener has no address.
    pub fn serve(self, listener: TcpListener) -> io::Result<Sandbox> {
        let Self {
            listen: _,
            keys,
            expiry,
            flow,
            speed,
            start,
            latency,
            person,
            records,
            streams,
            image_bytes,
            webhook,
        } = self;
        let clock = Clock::new(start.unwrap_or_else(Timestamp::now), speed);
        let person = person.map(Arc::new);
        let settings = Settings { expiry, flow: flow.into(), person, latency, configured: true };
        let (notifications, queued) = Notifications::new();
        let portal =
            Arc::new(Portal::new(clock, settings, records, (Images::new(image_bytes), notifications)));
        portal.set_webhook(webhook);
        tokio::spawn(deliver(Arc::downgrade(&portal), queued));
        for key in keys {
            portal.add_key(&key);
        }
        let router = Router::new()
            .merge(endpoints::routes())
            .merge(page::routes())
            .nest("/sandbox", admin::routes())
            .with_state(Arc::clone(&portal));
        let server = Server::start(listener, Arc::clone(&portal), router, streams)?;
        Ok(Sandbox { portal, server })
    }

    /// As [`Builder::try_start`], for tests.
    ///
    /// # Panics
    /// If it cannot listen on the address.
    #[expect(clippy::panic, reason = "a test cannot continue without its portal")]
    pub async fn start(self) -> Sandbox {
        match self.try_start().await {
            Ok(sandbox) => sandbox,
            Err(error) => panic!("start the sandbox: {error}"),
        }
    }
}
