//! One connection, and one call: its source's rate, its body, whether it is authentic, and what follows. Reads the secrets.
//! May depend on the pure files of this module, on `connections`, `forward` and `metrics`.

use std::{
    collections::BTreeMap,
    fs, io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, CONNECTION, RETRY_AFTER},
};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Body;
use ipnet::IpNet;
use parking_lot::{Mutex, RwLock};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    authentication::{InvalidSecrets, Scheme, Secrets},
    connections::{Connection, Connections, Trust},
    endpoints::{Endpoint, Endpoints},
    forward::{Forwarded, Forwarder, is_forwarded},
    hint::session_id,
    sources::{Source, Sources, is_trusted},
};
use crate::{
    metrics::Metrics,
    portal::{PortalUrl, VerificationId},
};

/// The most bytes of a body.
const MOST_BYTES: usize = 64 << 10;
/// How long a body may take.
const BODY_WITHIN: Duration = Duration::from_secs(5);
/// The path of every name.
const PATH: &str = "/notify/";
/// What a caller is asked to wait before it calls again, in seconds.
const CALL_AGAIN: HeaderValue = HeaderValue::from_static("2");

/// The response to a call. No body: the code says everything that a caller may know.
pub(super) type Answer = Response<Empty<Bytes>>;

/// What a notification about a session of a portal leads to. True if the session is known.
type OnNotification = Box<dyn Fn(&PortalUrl, &VerificationId) -> bool + Send + Sync>;

/// What this replica does with an authentic call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It leads, and polls.
    Leads,
    /// It is a standby, and forwards the call to the leader, if that is known.
    Standby(Option<SocketAddr>),
}

/// What the receiver is built from.
pub(crate) struct ReceiverSettings {
    pub(crate) endpoints: Endpoints,
    /// Calls per second from one source that are not authentic; `None` for no limit.
    pub(crate) source_rate: Option<f64>,
    /// Proxies that say where a call comes from.
    pub(crate) trusted_proxies: Vec<IpNet>,
    pub(crate) forwarder: Forwarder,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) role: Box<dyn Fn() -> Role + Send + Sync>,
    pub(crate) on_notification: OnNotification,
    /// When the process ends. What is accepted after that would never be polled.
    pub(crate) shutdown: CancellationToken,
}

/// Receives notifications.
pub(crate) struct Receiver {
    names: BTreeMap<String, Name>,
    /// Checks calls of a name that is not there, which then take as long as the others.
    decoy: (Scheme, Secrets),
    connections: Connections,
    sources: Mutex<Sources>,
    trusted_proxies: Vec<IpNet>,
    forwarder: Forwarder,
    metrics: Arc<Metrics>,
    role: Box<dyn Fn() -> Role + Send + Sync>,
    on_notification: OnNotification,
    pub(super) shutdown: CancellationToken,
}

/// One name, and its secrets as they were read last.
struct Name {
    endpoint: Endpoint,
    /// What was read; nothing while there are no secrets.
    text: Mutex<Option<Vec<u8>>>,
    /// One that nobody has, while there are none.
    secrets: RwLock<Arc<Secrets>>,
}

/// Why secrets cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadSecrets {
    /// The file cannot be read.
    #[error("the file cannot be read")]
    File(#[from] io::Error),
    /// It has no usable secrets.
    #[error(transparent)]
    Invalid(#[from] InvalidSecrets),
}

/// A name whose secrets cannot be read.
pub(super) struct Unread<'a> {
    pub(super) name: &'a str,
    pub(super) error: ReadSecrets,
    /// Whether the secrets before stay in use. There may have been none.
    pub(super) keeps_secrets: bool,
}

impl Receiver {
    /// Reads the secrets of every name. One whose secrets cannot be read refuses every call until they can be read again.
    pub(crate) fn new(settings: ReceiverSettings) -> Self {
        let ReceiverSettings {
            endpoints: Endpoints(endpoints),
            source_rate,
            trusted_proxies,
            forwarder,
            metrics,
            role,
            on_notification,
            shutdown,
        } = settings;
        let scheme = endpoints.values().next().map_or(Scheme::Bearer, |endpoint| endpoint.scheme.clone());
        let receiver = Self {
            names: endpoints.into_iter().map(|(name, endpoint)| (name, Name::new(endpoint))).collect(),
            decoy: (scheme, Secrets::unknown(rand::random())),
            connections: Connections::default(),
            sources: Mutex::new(Sources::new(source_rate)),
            trusted_proxies,
            forwarder,
            metrics,
            role,
            on_notification,
            shutdown,
        };
        for name in receiver.names.values() {
            // A failure shows again at the first reload, which logs it.
            let _ = name.read();
        }
        receiver
    }

    /// Reads the secrets of every name again, and returns the names whose secrets cannot be read.
    pub(super) fn reload(&self) -> Vec<Unread<'_>> {
        let mut failed = Vec::new();
        for (name, known) in &self.names {
            match known.read() {
                Ok(None) => {}
                Ok(Some(secrets)) => tracing::info!(name, secrets, "the secrets of a webhook were replaced"),
                Err(error) => {
                    let keeps_secrets = known.text.lock().is_some();
                    failed.push(Unread { name, error, keeps_secrets });
                }
            }
        }
        failed
    }

    /// Counts a connection. Takes a token of its source, which its first call then does not need; none of a trusted proxy,
    /// whose connections come from many. `None` if it is to be closed.
    pub(super) fn connect(&self, peer: IpAddr) -> Option<Connection> {
        let source = (!is_trusted(peer, &self.trusted_proxies)).then(|| Source::of(peer));
        if source.is_some_and(|source| !self.sources.lock().admit(source, Instant::now())) {
            self.closed("rate");
            return None;
        }
        let trust = source.map_or(Trust::None, |source| self.trust(source));
        let connection = self.connections.open(source.map(Source::network), trust);
        if connection.is_none() {
            self.closed("full");
        }
        connection
    }

    /// Counts a connection that is closed without an answer.
    pub(super) fn closed(&self, reason: &'static str) {
        self.metrics.webhook_connection_closed(reason);
    }

    fn trust(&self, source: Source) -> Trust {
        let is_authentic = self.sources.lock().is_authentic(source, Instant::now());
        if is_authentic { Trust::Source } else { Trust::None }
    }

    /// Answers one call.
    pub(super) async fn answer<B>(&self, peer: IpAddr, connection: &Connection, request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
    {
        let source = Source::of_request(peer, request.headers(), &self.trusted_proxies);
        let is_trusted = is_trusted(peer, &self.trusted_proxies);
        if is_trusted {
            connection.assign(Some(source.network()), self.trust(source));
        }
        let answer = self.answer_of(source, connection, request).await;
        if is_trusted {
            connection.assign(None, Trust::None);
        }
        answer
    }

    async fn answer_of<B>(&self, source: Source, connection: &Connection, request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
    {
        let (head, body) = request.into_parts();
        let name = head.uri.path().strip_prefix(PATH);
        let known = name.and_then(|name| self.names.get_key_value(name));
        let count = |result| self.metrics.notification(known.map_or("", |(name, _)| name), result);
        if !connection.take_prepaid() && !self.sources.lock().admit(source, Instant::now()) {
            count("limited");
            return closing(try_again(StatusCode::TOO_MANY_REQUESTS));
        }
        if name.is_none() {
            count("not_found");
            return closing(answer(StatusCode::NOT_FOUND));
        }
        if head.method != Method::POST {
            count("method_not_allowed");
            let mut refused = answer(StatusCode::METHOD_NOT_ALLOWED);
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
            return closing(refused);
        }
        let body = timeout(BODY_WITHIN, Limited::new(body, MOST_BYTES).collect()).await;
        let Ok(Ok(body)) = body else {
            // Whoever sends more is disconnected without a header that says so: the response is that of every 401.
            count("incomplete");
            return answer(StatusCode::UNAUTHORIZED);
        };
        let body = body.to_bytes();
        let is_authentic = match known {
            Some((_, known)) => known.accepts(&head.headers, &body),
            None => self.decoy.0.accepts(&self.decoy.1, &head.headers, &body),
        };
        let Some((name, known)) = known.filter(|_| is_authentic) else {
            count("unauthenticated");
            return answer(StatusCode::UNAUTHORIZED);
        };
        self.sources.lock().authenticated(source, Instant::now());
        connection.note_authentic();
        if self.shutdown.is_cancelled() {
            count("stopping");
            return closing(try_again(StatusCode::SERVICE_UNAVAILABLE));
        }
        match (self.role)() {
            Role::Leads => {
                count(self.note(&known.endpoint, &body));
                answer(StatusCode::ACCEPTED)
            }
            Role::Standby(leader) => {
                let leader = leader.filter(|_| !is_forwarded(&head.headers));
                let forwarded = match leader {
                    Some(leader) => {
                        let proof = known.endpoint.scheme.header();
                        self.forwarder.forward(leader, name, &head.headers, (proof, body)).await
                    }
                    None => Forwarded::NoLeader,
                };
                match forwarded {
                    Forwarded::Accepted => {
                        count("forwarded");
                        answer(StatusCode::ACCEPTED)
                    }
                    // The secrets are being rotated, and one of the replicas has read them before the other.
                    Forwarded::Refused => {
                        count("refused_by_leader");
                        try_again(StatusCode::SERVICE_UNAVAILABLE)
                    }
                    Forwarded::NoLeader => {
                        count("no_leader");
                        try_again(StatusCode::SERVICE_UNAVAILABLE)
                    }
                }
            }
        }
    }

    /// Notes an authentic notification, and says what became of it.
    fn note(&self, endpoint: &Endpoint, body: &[u8]) -> &'static str {
        match session_id(body) {
            None => "without_id",
            Some(id) if (self.on_notification)(&endpoint.portal, &id) => "accepted",
            Some(_) => "unknown_id",
        }
    }
}

impl Name {
    /// Without secrets.
    fn new(endpoint: Endpoint) -> Self {
        let secrets = RwLock::new(Arc::new(Secrets::unknown(rand::random())));
        Self { endpoint, text: Mutex::default(), secrets }
    }

    fn accepts(&self, headers: &HeaderMap, body: &[u8]) -> bool {
        let secrets = Arc::clone(&self.secrets.read());
        self.endpoint.scheme.accepts(&secrets, headers, body)
    }

    /// Reads the file, and returns the number of its secrets if it has changed. A file without a secret revokes those before;
    /// any other failure leaves them, because a file that is being replaced may be missing or cut for a moment.
    fn read(&self) -> Result<Option<usize>, ReadSecrets> {
        let text = fs::read(&self.endpoint.secrets_file)?;
        let mut before = self.text.lock();
        if before.as_ref() == Some(&text) {
            return Ok(None);
        }
        match Secrets::parse(&text) {
            Ok(secrets) => {
                let count = secrets.len();
                *self.secrets.write() = Arc::new(secrets);
                *before = Some(text);
                Ok(Some(count))
            }
            Err(invalid) => {
                if invalid == InvalidSecrets::None {
                    *self.secrets.write() = Arc::new(Secrets::unknown(rand::random()));
                    *before = None;
                }
                Err(invalid.into())
            }
        }
    }
}

fn answer(code: StatusCode) -> Answer {
    let mut answer = Response::new(Empty::new());
    *answer.status_mut() = code;
    answer
}

/// Closes the connection, so that the next call costs its sender another one.
fn closing(mut refused: Answer) -> Answer {
    refused.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    refused
}

fn try_again(code: StatusCode) -> Answer {
    let mut refused = answer(code);
    refused.headers_mut().insert(RETRY_AFTER, CALL_AGAIN);
    refused
}

#[cfg(test)]
pub(super) mod tests;
