//! One call: its source's rate, its body, whether it is authentic, and what follows. May depend on the pure files of this
//! module, on `forward` and on `metrics`.

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

use super::{
    authentication::{InvalidSecrets, Secrets},
    endpoints::{Endpoint, Endpoints},
    forward::{Forwarder, is_forwarded},
    hint::session_id,
    sources::{Source, Sources},
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
}

/// Receives notifications.
pub(crate) struct Receiver {
    names: BTreeMap<String, Name>,
    sources: Mutex<Sources>,
    trusted_proxies: Vec<IpNet>,
    forwarder: Forwarder,
    metrics: Arc<Metrics>,
    role: Box<dyn Fn() -> Role + Send + Sync>,
    on_notification: OnNotification,
}

/// One name, and its secrets as they were read last.
struct Name {
    endpoint: Endpoint,
    text: Mutex<Vec<u8>>,
    secrets: RwLock<Arc<Secrets>>,
}

/// Why secrets cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadSecrets {
    /// The file cannot be read.
    #[error("the file cannot be read")]
    File(#[from] io::Error),
    /// It has no usable secrets.
    #[error(transparent)]
    Invalid(#[from] InvalidSecrets),
}

impl Receiver {
    /// Reads the secrets of every name.
    ///
    /// # Errors
    ///
    /// The first name whose secrets cannot be read.
    pub(crate) fn new(settings: ReceiverSettings) -> Result<Self, (String, ReadSecrets)> {
        let ReceiverSettings {
            endpoints: Endpoints(endpoints),
            source_rate,
            trusted_proxies,
            forwarder,
            metrics,
            role,
            on_notification,
        } = settings;
        let name = |(name, endpoint): (String, Endpoint)| match read_secrets(&endpoint) {
            Ok((text, secrets)) => {
                let secrets = RwLock::new(Arc::new(secrets));
                Ok((name, Name { endpoint, text: Mutex::new(text), secrets }))
            }
            Err(error) => Err((name, error)),
        };
        Ok(Self {
            names: endpoints.into_iter().map(name).collect::<Result<_, _>>()?,
            sources: Mutex::new(Sources::new(source_rate)),
            trusted_proxies,
            forwarder,
            metrics,
            role,
            on_notification,
        })
    }

    /// Reads the secrets of every name again, and returns the names whose secrets cannot be read.
    pub(super) fn reload(&self) -> Vec<(&str, ReadSecrets)> {
        let mut failed = Vec::new();
        for (name, known) in &self.names {
            match read_secrets(&known.endpoint) {
                Ok((text, secrets)) => {
                    let mut before = known.text.lock();
                    if *before != text {
                        tracing::info!(
                            name,
                            secrets = secrets.len(),
                            "the secrets of a webhook were replaced"
                        );
                        *known.secrets.write() = Arc::new(secrets);
                        *before = text;
                    }
                }
                Err(error) => failed.push((name.as_str(), error)),
            }
        }
        failed
    }

    /// The source of a connection; nothing for a trusted proxy, whose connections come from many.
    pub(super) fn source_of(&self, peer: IpAddr) -> Option<Source> {
        let address = peer.to_canonical();
        let is_trusted = self.trusted_proxies.iter().any(|network| network.contains(&address));
        (!is_trusted).then(|| Source::of(address))
    }

    /// Answers one call.
    pub(super) async fn answer<B>(&self, peer: IpAddr, request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
    {
        let (head, body) = request.into_parts();
        let name = head.uri.path().strip_prefix(PATH);
        let known = name.and_then(|name| self.names.get_key_value(name));
        let count = |result| self.metrics.notification(known.map_or("", |(name, _)| name), result);
        let source = Source::of_request(peer, &head.headers, &self.trusted_proxies);
        if !self.sources.lock().admit(source, Instant::now()) {
            count("limited");
            return closing(try_again(StatusCode::TOO_MANY_REQUESTS));
        }
        if name.is_none() {
            return closing(answer(StatusCode::NOT_FOUND));
        }
        if head.method != Method::POST {
            let mut refused = answer(StatusCode::METHOD_NOT_ALLOWED);
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
            return closing(refused);
        }
        let body = timeout(BODY_WITHIN, Limited::new(body, MOST_BYTES).collect()).await;
        let Ok(Ok(body)) = body else {
            count("incomplete");
            return closing(answer(StatusCode::UNAUTHORIZED));
        };
        let body = body.to_bytes();
        let Some((name, known)) = known.filter(|(_, known)| known.accepts(&head.headers, &body)) else {
            count("unauthenticated");
            return answer(StatusCode::UNAUTHORIZED);
        };
        self.sources.lock().refund(source);
        match (self.role)() {
            Role::Leads => {
                count(self.note(&known.endpoint, &body));
                answer(StatusCode::ACCEPTED)
            }
            Role::Standby(leader) => {
                let leader = leader.filter(|_| !is_forwarded(&head.headers));
                let answered = match leader {
                    Some(leader) => {
                        let proof = known.endpoint.scheme.header();
                        self.forwarder.forward(leader, name, &head.headers, (proof, body)).await
                    }
                    None => None,
                };
                count(if answered.is_some() { "forwarded" } else { "no_leader" });
                answered.map_or_else(|| try_again(StatusCode::SERVICE_UNAVAILABLE), answer)
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
    fn accepts(&self, headers: &HeaderMap, body: &[u8]) -> bool {
        let secrets = Arc::clone(&self.secrets.read());
        self.endpoint.scheme.accepts(&secrets, headers, body)
    }
}

fn read_secrets(endpoint: &Endpoint) -> Result<(Vec<u8>, Secrets), ReadSecrets> {
    let text = fs::read(&endpoint.secrets_file)?;
    let secrets = Secrets::parse(&text)?;
    Ok((text, secrets))
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
