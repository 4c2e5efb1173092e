//! The HTTP client: one request, one response or one [`PortalError`].
//!
//! May depend on the other files of [`portal`](crate::portal) but [`budget`](super::budget), and on `clock` and `tls`. It
//! never follows a redirect (HTTP clients send `X-SDK-Key` along to the new host), never retries a request except a poll
//! that was certainly not processed, requests no compression, sends no `Referer`, ignores the environment's proxy variables,
//! and reads no more of a body than it has to. Rates and retries are the budget's responsibility.

use std::time::Duration;

use http::header::{
    ACCEPT_ENCODING, AGE, CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderMap, HeaderValue, RETRY_AFTER,
};
use jiff::Timestamp;
use reqwest::{Client, ClientBuilder, Proxy, RequestBuilder, Response, redirect, retry};
use rustls::ClientConfig;
use tokio::time::{Instant, timeout};
use url::Url;

use crate::tls::{self, InvalidTrust};

use super::{
    allowed::PortalUrl,
    classify::classify_status,
    date::parse_response_time,
    error::{Call, Failed, NotSent, PortalError},
    key::ApiKey,
    retry_after::parse_retry_after,
    verification_id::VerificationId,
    wire::{CREATED_MEMBERS, Created, DETAILS_MEMBERS, Details, parse_created, parse_details},
};
use body::Retain;
use connect_deadline::ConnectDeadline;
use connections::{Connections, Lease};
use transport::{TransportError, Unprocessed, classify_transport, unprocessed};

mod body;
mod connect_deadline;
mod connections;
pub(crate) mod images;
mod resolve;
#[cfg(test)]
mod tests;
mod transport;

/// The header that carries the API key (guide, step 2).
const KEY_HEADER: &str = "X-SDK-Key";

/// How much of an error's body is read, in bytes: enough to find the guide's phrases in it, and to recognize a JSON object.
const ERROR_BODY_BYTES: usize = 16 * 1024;

/// Most bytes of a response that are read, including dropped members: above all `results` and the portraits in it.
pub(crate) const MAX_RESPONSE_BYTES: usize = 16 * 1024 * 1024;

/// How much a portal may send over HTTP/2 before it is read. No more than that arrives in one round trip.
#[derive(Clone, Copy)]
struct Windows {
    /// Most bytes of one response.
    stream: u32,
    /// Most bytes of all responses on one connection.
    connection: u32,
}

/// Of polls, for which there may be many connections. The longest response takes 64 round trips.
const OF_POLLS: Windows = Windows { stream: 256 * 1024, connection: 1024 * 1024 };

/// Of images and results, which are large, and whose bytes have a budget of their own.
const OF_BODIES: Windows = Windows { stream: 2 * 1024 * 1024, connection: 5 * 1024 * 1024 };

/// How often a poll that waits on a crowded connection is moved to another one.
const MAX_MOVES: u32 = 3;

/// The settings of the client. Every value has a default.
#[derive(Clone)]
pub struct ClientSettings {
    /// Longest time to establish a connection, including name resolution and TLS. Default 5 s. It must be shorter than
    /// `total_timeout`: if that one expires while the connection is being established, the response counts as lost.
    pub connect_timeout: Duration,
    /// Longest time from the start of a request to the last byte of its response. Default 30 s.
    pub total_timeout: Duration,
    /// How long a poll waits on a shared HTTP/2 connection before it may move to another one. Default 2 s.
    pub slow_after: Duration,
    /// Most bytes of a response that are retained. Default 256 KiB. Members that are not read, such as `results`, do not
    /// count; with them a response may have up to 16 MiB.
    pub body_limit: usize,
    /// An HTTP proxy for all requests, reached by http or https. Default none, whatever the environment says.
    pub proxy: Option<Url>,
    /// CA certificates (PEM) to trust besides the machine's, for private portals.
    pub extra_ca_pem: Option<Vec<u8>>,
    /// Uses HTTP/2 with prior knowledge for polls, also without TLS. Default false.
    pub http2_prior_knowledge: bool,
    /// Most polls in flight on one HTTP/2 connection before another is opened. Default 96.
    pub polls_per_connection: usize,
    /// Most HTTP/2 connections for polls. Default 128, which allows 12,288 polls in flight.
    pub max_connections: usize,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            total_timeout: Duration::from_secs(30),
            slow_after: Duration::from_secs(2),
            body_limit: 256 * 1024,
            proxy: None,
            extra_ca_pem: None,
            http2_prior_knowledge: false,
            polls_per_connection: 96,
            max_connections: 128,
        }
    }
}

/// Why no client can be built from the settings.
#[derive(Debug, thiserror::Error)]
pub enum InvalidClient {
    /// The CA certificates are invalid.
    #[error("set up TLS for the portal")]
    Trust(#[from] InvalidTrust),
    /// The HTTP library refuses the settings, such as the proxy's URL.
    #[error("set up the HTTP client for the portal")]
    Http(#[source] reqwest::Error),
}

/// Calls portals. One per process; each request names its portal and key.
pub struct PortalClient {
    creates: Client,
    polls: Connections,
    /// For images and results.
    bodies: Connections,
    body_limit: usize,
    total_timeout: Duration,
    slow_after: Duration,
}

impl PortalClient {
    /// Builds a client. Reads the machine's certificates; opens no connection.
    ///
    /// # Errors
    ///
    /// [`InvalidClient`].
    pub fn new(settings: &ClientSettings) -> Result<Self, InvalidClient> {
        let trust = tls::client_config(settings.extra_ca_pem.as_deref())?;
        let creates = create_client(settings, trust.clone()).map_err(InvalidClient::Http)?;
        let polls = connections(settings, &trust, OF_POLLS).map_err(InvalidClient::Http)?;
        let bodies = connections(settings, &trust, OF_BODIES).map_err(InvalidClient::Http)?;
        let ClientSettings { body_limit, total_timeout, slow_after, .. } = *settings;
        Ok(Self { creates, polls, bodies, body_limit, total_timeout, slow_after })
    }

    /// Creates a session: `POST /api/generate-verification`, once, on a connection of its own.
    ///
    /// Not cancel-safe: once this future was polled, the portal may create a session whose id is then lost.
    ///
    /// # Errors
    ///
    /// [`PortalError`]; its [`certainty`](PortalError::certainty) says whether there may be a session.
    pub async fn create(&self, portal: &PortalUrl, key: &ApiKey) -> Result<Created, PortalError> {
        // The guide's samples name a content type and send no body. RFC 9110 §8.6: a POST declares that.
        let request = self
            .creates
            .post(portal.create_url())
            .header(CONTENT_TYPE, "application/json")
            .header(CONTENT_LENGTH, 0);
        let response = Self::send(Call::Create, request, key).await?;
        let date = response_time(response.headers());
        let body = body::read(response, self.retain(CREATED_MEMBERS)).await?;
        let created = parse_created(&body).map_err(|_| PortalError::Failed(Failed::Unusable))?;
        Ok(Created { date, ..created })
    }

    /// Polls a session: `GET /api/get-verification-details/{id}`.
    ///
    /// The response may be about another session, or name none: compare [`Details::id`].
    ///
    /// # Errors
    ///
    /// [`PortalError`].
    pub async fn poll(
        &self,
        portal: &PortalUrl,
        key: &ApiKey,
        id: &VerificationId,
    ) -> Result<Details, PortalError> {
        let (response, _lease) = self.get(&self.polls, portal.details_url(id), key, true).await?;
        let date = response_time(response.headers());
        let body = body::read(response, self.retain(DETAILS_MEMBERS)).await?;
        let details = parse_details(&body).map_err(|_| PortalError::Failed(Failed::Unusable))?;
        // A response about another session may not come from the portal.
        let date = date.filter(|_| details.id.as_ref() == Some(id));
        Ok(Details { date, ..details })
    }

    const fn retain(&self, names: &'static [&'static str]) -> Retain {
        Retain::Members { names, limit: self.body_limit, read_limit: MAX_RESPONSE_BYTES }
    }

    /// Sends a GET on one of those connections. Sends it once more on another one if the peer says that it did not process
    /// it, and moves a poll that waits on a crowded connection, all within the total timeout. The lease lasts until the body
    /// is read.
    async fn get(
        &self,
        connections: &Connections,
        url: String,
        key: &ApiKey,
        may_move: bool,
    ) -> Result<(Response, Lease), PortalError> {
        let begun = Instant::now();
        let mut lease = connections.lease(begun);
        let mut moves = if may_move { 0 } else { MAX_MOVES };
        let mut is_retried = false;
        loop {
            let left = self.total_timeout.saturating_sub(begun.elapsed());
            let exchange = Self::exchange(lease.client.get(&url).timeout(left), key);
            let mut exchange = std::pin::pin!(exchange);
            let response = loop {
                if let Ok(response) = timeout(self.slow_after, exchange.as_mut()).await {
                    break Some(response);
                }
                if moves < MAX_MOVES && connections.is_crowded(&lease, Instant::now()) {
                    break None;
                }
                if may_move && moves == MAX_MOVES {
                    connections.move_did_not_help(Instant::now());
                }
            };
            lease = match response {
                None => {
                    moves += 1;
                    connections.lease_another(&lease)
                }
                Some(Err(TransportError { error: _, unprocessed: Some(why) })) if !is_retried => {
                    is_retried = true;
                    if why == Unprocessed::Refused {
                        connections.refused(&lease, Instant::now());
                    }
                    connections.lease_another(&lease)
                }
                Some(Err(failed)) => return Err(failed.error),
                Some(Ok(response)) => {
                    connections.responded(response.version());
                    return Ok((Self::classify(Call::Poll, response).await?, lease));
                }
            };
        }
    }

    /// Sends a request once and returns a successful response, before its body.
    async fn send(call: Call, request: RequestBuilder, key: &ApiKey) -> Result<Response, PortalError> {
        let response = Self::exchange(request, key).await.map_err(|failed| failed.error)?;
        Self::classify(call, response).await
    }

    async fn exchange(request: RequestBuilder, key: &ApiKey) -> Result<Response, TransportError> {
        let key = key
            .header_value()
            .map_err(|_| TransportError { error: PortalError::NotSent(NotSent::Build), unprocessed: None })?;
        // A proxy may compress nevertheless.
        let request = request.header(KEY_HEADER, key).header(ACCEPT_ENCODING, "identity");
        request.send().await.map_err(|error| TransportError {
            error: classify_transport(&error),
            unprocessed: unprocessed(&error),
        })
    }

    async fn classify(call: Call, mut response: Response) -> Result<Response, PortalError> {
        let status = response.status().as_u16();
        let headers = response.headers();
        let retry_after = headers.get(RETRY_AFTER).and_then(|value| {
            parse_retry_after(
                value.as_bytes(),
                headers.get(DATE).map(HeaderValue::as_bytes),
                Timestamp::now(),
            )
        });
        if matches!(status, 400..=599) {
            let start = body::read_start(&mut response, ERROR_BODY_BYTES).await;
            classify_status(call, status, retry_after, &start)?;
        }
        classify_status(call, status, retry_after, b"")?;
        Ok(response)
    }
}

/// The portal's time when it sent the response. A header that occurs twice is ignored.
fn response_time(headers: &HeaderMap) -> Option<Timestamp> {
    let once = |name| {
        let mut values = headers.get_all(name).iter().map(HeaderValue::as_bytes);
        values.next().filter(|_| values.next().is_none())
    };
    if headers.contains_key(AGE) {
        return parse_response_time(once(DATE)?, Some(once(AGE)?));
    }
    parse_response_time(once(DATE)?, None)
}

/// A client with a new HTTP/1.1 connection for each create. On a pooled one, the portal may hang up while the request is
/// being sent, and it would be unknown whether it was read.
fn create_client(settings: &ClientSettings, mut trust: ClientConfig) -> reqwest::Result<Client> {
    trust.alpn_protocols = vec![b"http/1.1".to_vec()];
    let deadline = ConnectDeadline(settings.connect_timeout);
    common(settings, trust)?.http1_only().pool_max_idle_per_host(0).connector_layer(deadline).build()
}

/// Connections with these windows.
fn connections(
    settings: &ClientSettings,
    trust: &ClientConfig,
    windows: Windows,
) -> reqwest::Result<Connections> {
    let first = pooled_client(settings, trust.clone(), windows)?;
    let build = {
        let (settings, trust) = (settings.clone(), trust.clone());
        Box::new(move || pooled_client(&settings, trust.clone(), windows).ok())
    };
    let ClientSettings { polls_per_connection, max_connections, http2_prior_knowledge, .. } = *settings;
    Ok(Connections::new(first, build, polls_per_connection, max_connections, http2_prior_knowledge))
}

/// A client with pooled connections, HTTP/2 if the portal supports it.
fn pooled_client(
    settings: &ClientSettings,
    mut trust: ClientConfig,
    windows: Windows,
) -> reqwest::Result<Client> {
    trust.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    if settings.http2_prior_knowledge {
        trust.alpn_protocols.truncate(1);
    }
    let builder = common(settings, trust)?
        .http2_initial_stream_window_size(windows.stream)
        .http2_initial_connection_window_size(windows.connection)
        // Otherwise a silently dead connection would fail every poll on it until TCP gives up.
        .http2_keep_alive_interval(Duration::from_secs(15))
        .http2_keep_alive_timeout(Duration::from_secs(10));
    if settings.http2_prior_knowledge { builder.http2_prior_knowledge() } else { builder }.build()
}

fn common(settings: &ClientSettings, trust: ClientConfig) -> reqwest::Result<ClientBuilder> {
    let builder = Client::builder()
        .tls_backend_preconfigured(trust)
        .dns_resolver(resolve::Resolver::shared())
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .referer(false)
        .no_proxy()
        .user_agent(concat!("okid-operator/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(settings.connect_timeout)
        .timeout(settings.total_timeout);
    Ok(match &settings.proxy {
        Some(proxy) => builder.proxy(Proxy::all(proxy.clone())?),
        None => builder,
    })
}
