//! The client: one request, one answer or one [`PortalError`].
//!
//! Never follows a redirect (HTTP clients send `X-SDK-Key` along to the new host), never repeats a
//! request by itself but a poll that surely was not processed, asks for no compression, sends no `Referer`, ignores the proxy variables of the environment, and reads
//! no more of a body than it has to. It knows neither rates nor when to call again: that is
//! the budget's work.

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
    date::read_answered_at,
    error::{Call, Failed, NotSent, PortalError, judge_status},
    key::ApiKey,
    retry_after::read_retry_after,
    verification_id::VerificationId,
    wire::{CREATED_MEMBERS, Created, DETAILS_MEMBERS, Details, read_created, read_details},
};
use body::Keep;
use shards::{Place, Shards};
use transport::{TransportError, Unprocessed, judge_transport, unprocessed};

mod body;
pub(crate) mod images;
mod resolve;
mod shards;
#[cfg(test)]
mod tests;
mod transport;

/// The header that carries the API key (guide, step 2).
const KEY_HEADER: &str = "X-SDK-Key";

/// How much is read of the body of an error, in bytes: enough to find the guide's words in it, and to see that it is a
/// JSON object.
const ERROR_BODY_BYTES: usize = 16 * 1024;

/// Most bytes of an answer that are read, those included that nobody reads: `results`, above all, and portraits among them.
pub(crate) const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// How often a poll is taken to another connection, because it waits on a crowded one.
const MOST_MOVES: u32 = 3;

/// How the client connects. Every value has a default.
#[derive(Clone)]
pub struct ClientSettings {
    /// Longest time until a connection stands, name resolution and TLS included. Default 5 s.
    /// Keep it under `total_timeout`: a connection that is still being made when that one ends
    /// counts as a lost answer.
    pub connect_timeout: Duration,
    /// Longest time from the start of a call to the last byte of its answer. Default 30 s.
    pub total_timeout: Duration,
    /// How long a poll waits on an HTTP/2 connection that many share, before it is asked if another connection is quicker.
    /// Default 2 s.
    pub patience: Duration,
    /// Most bytes that are kept of an answer, in bytes. Default 256 KiB. What is not read of it, such as `results`, does not
    /// count, and may make it up to 16 MiB long.
    pub body_limit: usize,
    /// A proxy for all calls, by http or https: others are passed by. Default none, whatever the environment says.
    pub proxy: Option<Url>,
    /// Certificates (PEM) of authorities to trust besides the machine's, for private portals.
    pub extra_ca_pem: Option<Vec<u8>>,
    /// Speaks HTTP/2 for looks without asking the server first, also without TLS. Default false.
    pub http2_prior_knowledge: bool,
    /// Most looks in flight on one HTTP/2 connection before another is opened. Default 96.
    pub looks_per_connection: usize,
    /// Most HTTP/2 connections for looks. Default 128, which is 12,288 looks in flight.
    pub max_connections: usize,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            total_timeout: Duration::from_secs(30),
            patience: Duration::from_secs(2),
            body_limit: 256 * 1024,
            proxy: None,
            extra_ca_pem: None,
            http2_prior_knowledge: false,
            looks_per_connection: 96,
            max_connections: 128,
        }
    }
}

/// Why no client can be made of the settings.
#[derive(Debug, thiserror::Error)]
pub enum InvalidClient {
    /// The certificates.
    #[error("set up TLS for the portal")]
    Trust(#[from] InvalidTrust),
    /// The proxy's address, or something else that the HTTP library refuses.
    #[error("set up the HTTP client for the portal")]
    Http(#[source] reqwest::Error),
}

/// Calls portals. One per process; every call names its portal and key.
pub struct PortalClient {
    creates: Client,
    looks: Shards,
    body_limit: usize,
    total_timeout: Duration,
    patience: Duration,
}

impl PortalClient {
    /// Makes a client. Reads the machine's certificates; opens no connection.
    ///
    /// # Errors
    ///
    /// [`InvalidClient`].
    pub fn new(settings: ClientSettings) -> Result<Self, InvalidClient> {
        let trust = tls::client_config(settings.extra_ca_pem.as_deref())?;
        let creates = create_client(&settings, trust.clone()).map_err(InvalidClient::Http)?;
        let speaks_http2 = settings.http2_prior_knowledge;
        let first = look_client(&settings, trust.clone()).map_err(InvalidClient::Http)?;
        let ClientSettings {
            body_limit, total_timeout, patience, looks_per_connection, max_connections, ..
        } = settings;
        let build = Box::new(move || look_client(&settings, trust.clone()).ok());
        Ok(Self {
            creates,
            looks: Shards::new(first, build, looks_per_connection, max_connections, speaks_http2),
            body_limit,
            total_timeout,
            patience,
        })
    }

    /// Makes a session: `POST /api/generate-verification`, once, on a connection of its own.
    ///
    /// Not safe to cancel: once polled, the portal may make a session whose id is then lost.
    ///
    /// # Errors
    ///
    /// [`PortalError`]; its [`certainty`](PortalError::certainty) says whether there may be a session.
    pub async fn create(&self, portal: &PortalUrl, key: &ApiKey) -> Result<Created, PortalError> {
        // The guide's samples name a content type and send no body. RFC 9110 §8.6: a POST says so.
        let request = self
            .creates
            .post(portal.create_url())
            .header(CONTENT_TYPE, "application/json")
            .header(CONTENT_LENGTH, 0);
        let response = Self::send(Call::Create, request, key).await?;
        let date = answered_at(response.headers());
        let body = body::read(response, self.keep(CREATED_MEMBERS)).await?;
        let created = read_created(&body).map_err(|_| PortalError::Failed(Failed::Unusable))?;
        Ok(Created { date, ..created })
    }

    /// Looks at a session: `GET /api/get-verification-details/{id}`.
    ///
    /// The answer may be about another session, or name none: compare [`Details::id`].
    ///
    /// # Errors
    ///
    /// [`PortalError`].
    pub async fn look(
        &self,
        portal: &PortalUrl,
        key: &ApiKey,
        id: &VerificationId,
    ) -> Result<Details, PortalError> {
        let (response, _place) = self.get(portal.details_url(id), key, true).await?;
        let date = answered_at(response.headers());
        let body = body::read(response, self.keep(DETAILS_MEMBERS)).await?;
        let details = read_details(&body).map_err(|_| PortalError::Failed(Failed::Unusable))?;
        // Whoever answers for another session is not known to be the portal.
        let date = date.filter(|_| details.id.as_ref() == Some(id));
        Ok(Details { date, ..details })
    }

    const fn keep(&self, names: &'static [&'static str]) -> Keep {
        Keep::Members { names, most: self.body_limit, most_read: MAX_ANSWER_BYTES }
    }

    /// Asks on a kept connection. Asks once more on another one where the peer says that it did not process the first, and where a
    /// poll waits on a crowded connection, all within the same time. The place on the connection is taken until the body is read.
    async fn get(&self, url: String, key: &ApiKey, may_move: bool) -> Result<(Response, Place), PortalError> {
        let begun = Instant::now();
        let mut place = self.looks.place(begun);
        let mut moves = if may_move { 0 } else { MOST_MOVES };
        let mut is_repeated = false;
        loop {
            let left = self.total_timeout.saturating_sub(begun.elapsed());
            let exchange = Self::exchange(place.client.get(&url).timeout(left), key);
            let mut exchange = std::pin::pin!(exchange);
            let answer = loop {
                if let Ok(answer) = timeout(self.patience, exchange.as_mut()).await {
                    break Some(answer);
                }
                if moves < MOST_MOVES && self.looks.is_crowded(&place, Instant::now()) {
                    break None;
                }
                if may_move && moves == MOST_MOVES {
                    self.looks.moved_in_vain(Instant::now());
                }
            };
            place = match answer {
                None => {
                    moves += 1;
                    self.looks.other_place(&place)
                }
                Some(Err(TransportError { error: _, unprocessed: Some(why) })) if !is_repeated => {
                    is_repeated = true;
                    if why == Unprocessed::Refused {
                        self.looks.refused(&place, Instant::now());
                    }
                    self.looks.other_place(&place)
                }
                Some(Err(unanswered)) => return Err(unanswered.error),
                Some(Ok(response)) => {
                    self.looks.answered(response.version());
                    return Ok((Self::judge(Call::Poll, response).await?, place));
                }
            };
        }
    }

    /// Sends a request once and returns a good answer, before its body.
    async fn send(call: Call, request: RequestBuilder, key: &ApiKey) -> Result<Response, PortalError> {
        let response = Self::exchange(request, key).await.map_err(|unanswered| unanswered.error)?;
        Self::judge(call, response).await
    }

    async fn exchange(request: RequestBuilder, key: &ApiKey) -> Result<Response, TransportError> {
        let key = key
            .header_value()
            .map_err(|_| TransportError { error: PortalError::NotSent(NotSent::Build), unprocessed: None })?;
        // Somebody on the way may compress all the same.
        let request = request.header(KEY_HEADER, key).header(ACCEPT_ENCODING, "identity");
        request.send().await.map_err(|error| TransportError {
            error: judge_transport(&error),
            unprocessed: unprocessed(&error),
        })
    }

    async fn judge(call: Call, mut response: Response) -> Result<Response, PortalError> {
        let status = response.status().as_u16();
        let headers = response.headers();
        let retry_after = headers.get(RETRY_AFTER).and_then(|value| {
            read_retry_after(value.as_bytes(), headers.get(DATE).map(HeaderValue::as_bytes), Timestamp::now())
        });
        if matches!(status, 400..=599) {
            let start = body::read_start(&mut response, ERROR_BODY_BYTES).await;
            judge_status(call, status, retry_after, &start)?;
        }
        judge_status(call, status, retry_after, b"")?;
        Ok(response)
    }
}

/// The portal's time when it gave an answer. A header that comes twice says nothing.
fn answered_at(headers: &HeaderMap) -> Option<Timestamp> {
    let once = |name| {
        let mut values = headers.get_all(name).iter().map(HeaderValue::as_bytes);
        values.next().filter(|_| values.next().is_none())
    };
    if headers.contains_key(AGE) {
        return read_answered_at(once(DATE)?, Some(once(AGE)?));
    }
    read_answered_at(once(DATE)?, None)
}

/// A new HTTP/1.1 connection for each create. On a kept one, the portal may hang up while the
/// request is on its way, and nobody would know whether it was read.
fn create_client(settings: &ClientSettings, mut trust: ClientConfig) -> reqwest::Result<Client> {
    trust.alpn_protocols = vec![b"http/1.1".to_vec()];
    common(settings, trust)?.http1_only().pool_max_idle_per_host(0).build()
}

/// Kept connections for looks, HTTP/2 where the portal has it.
fn look_client(settings: &ClientSettings, mut trust: ClientConfig) -> reqwest::Result<Client> {
    trust.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    if settings.http2_prior_knowledge {
        trust.alpn_protocols.truncate(1);
    }
    let builder = common(settings, trust)?
        // A connection that died without a word would else take every look with it, for as long
        // as TCP keeps hoping.
        .http2_keep_alive_interval(Duration::from_secs(15))
        .http2_keep_alive_timeout(Duration::from_secs(10));
    if settings.http2_prior_knowledge { builder.http2_prior_knowledge() } else { builder }.build()
}

fn common(settings: &ClientSettings, trust: ClientConfig) -> reqwest::Result<ClientBuilder> {
    let builder = Client::builder()
        .tls_backend_preconfigured(trust)
        .dns_resolver(resolve::Names::of_the_process())
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
