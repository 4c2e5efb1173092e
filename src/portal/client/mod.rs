//! The client: one request, one answer or one [`Trouble`].
//!
//! Never follows a redirect (HTTP clients send `X-SDK-Key` along to the new host), never repeats a
//! request by itself, sends no `Referer`, ignores the proxy variables of the environment, and reads
//! no more of a body than it has to. It knows neither rates nor when to call again: that is
//! the budget's work.

use std::time::Duration;

use http::header::{AGE, CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use jiff::Timestamp;
use reqwest::{Client, ClientBuilder, Proxy, RequestBuilder, Response, redirect, retry};
use rustls::ClientConfig;
use url::Url;

use super::{
    allowed::PortalUrl,
    date::read_answered_at,
    key::ApiKey,
    retry_after::read_retry_after,
    trouble::{Call, Failed, NotSent, Trouble, judge_status},
    verification_id::VerificationId,
    wire::{Created, Details, read_created, read_details},
};
use shards::Shards;
use transport::judge_transport;

mod images;
mod resolve;
mod shards;
#[cfg(test)]
mod tests;
mod tls;
mod transport;

pub use images::ImageAnswer;
pub use tls::{InvalidTrust, trust};

/// The header that carries the API key (guide, step 2).
const KEY_HEADER: &str = "X-SDK-Key";

/// How much is read of the body of an error, in bytes: enough to find the guide's words in it, and to see that it is a
/// JSON object.
const ERROR_BODY_BYTES: usize = 16 * 1024;

/// How the client connects. Every value has a default.
#[derive(Clone)]
pub struct ClientSettings {
    /// Longest time until a connection stands, name resolution and TLS included. Default 5 s.
    /// Keep it under `total_timeout`: a connection that is still being made when that one ends
    /// counts as a lost answer.
    pub connect_timeout: Duration,
    /// Longest time from the start of a call to the last byte of its answer. Default 30 s.
    pub total_timeout: Duration,
    /// Largest body that is read, in bytes. Default 256 KiB.
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
}

impl PortalClient {
    /// Makes a client. Reads the machine's certificates; opens no connection.
    ///
    /// # Errors
    ///
    /// [`InvalidClient`].
    pub fn new(settings: ClientSettings) -> Result<Self, InvalidClient> {
        let trust = tls::trust(settings.extra_ca_pem.as_deref())?;
        let creates = create_client(&settings, trust.clone()).map_err(InvalidClient::Http)?;
        let first = look_client(&settings, trust.clone()).map_err(InvalidClient::Http)?;
        let ClientSettings { body_limit, looks_per_connection, max_connections, .. } = settings;
        let build = Box::new(move || look_client(&settings, trust.clone()).ok());
        Ok(Self {
            creates,
            looks: Shards::new(first, build, looks_per_connection, max_connections),
            body_limit,
        })
    }

    /// Makes a session: `POST /api/generate-verification`, once, on a connection of its own.
    ///
    /// Not safe to cancel: once polled, the portal may make a session whose id is then lost.
    ///
    /// # Errors
    ///
    /// [`Trouble`]; its [`certainty`](Trouble::certainty) says whether there may be a session.
    pub async fn create(&self, portal: &PortalUrl, key: &ApiKey) -> Result<Created, Trouble> {
        // The guide's samples name a content type and send no body. RFC 9110 §8.6: a POST says so.
        let request = self
            .creates
            .post(portal.create_url())
            .header(CONTENT_TYPE, "application/json")
            .header(CONTENT_LENGTH, 0);
        let response = Self::send(Call::Create, request, key).await?;
        let date = answered_at(response.headers());
        let body = read_whole(response, self.body_limit).await?;
        let created = read_created(&body).map_err(|_| Trouble::Failed(Failed::Unusable))?;
        Ok(Created { date, ..created })
    }

    /// Looks at a session: `GET /api/get-verification-details/{id}`.
    ///
    /// The answer may be about another session, or name none: compare [`Details::id`].
    ///
    /// # Errors
    ///
    /// [`Trouble`].
    pub async fn look(
        &self,
        portal: &PortalUrl,
        key: &ApiKey,
        id: &VerificationId,
    ) -> Result<Details, Trouble> {
        let place = self.looks.place();
        let request = place.client.get(portal.details_url(id));
        let response = Self::send(Call::Look, request, key).await?;
        let date = answered_at(response.headers());
        let body = read_whole(response, self.body_limit).await?;
        let details = read_details(&body).map_err(|_| Trouble::Failed(Failed::Unusable))?;
        // Whoever answers for another session is not known to be the portal.
        let date = date.filter(|_| details.id.as_ref() == Some(id));
        Ok(Details { date, ..details })
    }

    /// Sends a request and returns a good answer, before its body.
    async fn send(call: Call, request: RequestBuilder, key: &ApiKey) -> Result<Response, Trouble> {
        let key = key.header_value().map_err(|_| Trouble::NotSent(NotSent::Build))?;
        let mut response =
            request.header(KEY_HEADER, key).send().await.map_err(|error| judge_transport(&error))?;
        let status = response.status().as_u16();
        let headers = response.headers();
        let retry_after = headers.get(RETRY_AFTER).and_then(|value| {
            read_retry_after(value.as_bytes(), headers.get(DATE).map(HeaderValue::as_bytes), Timestamp::now())
        });
        if matches!(status, 400..=599) {
            let prefix = read_prefix(&mut response, ERROR_BODY_BYTES).await;
            judge_status(call, status, retry_after, &prefix)?;
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

/// Reads a body that must not be longer than `limit` bytes, and takes no more memory than that; what it returns takes no more
/// than it has bytes.
async fn read_whole(mut response: Response, limit: usize) -> Result<Vec<u8>, Trouble> {
    let too_large = || Trouble::Failed(Failed::TooLarge);
    let announced = response.content_length().map(|length| usize::try_from(length).map_err(|_| too_large()));
    let announced = announced.transpose()?.unwrap_or_default();
    if announced > limit {
        return Err(too_large());
    }
    let mut body = Vec::with_capacity(announced);
    while let Some(chunk) = response.chunk().await.map_err(|error| judge_transport(&error))? {
        if body.len() + chunk.len() > limit {
            return Err(too_large());
        }
        if body.capacity() - body.len() < chunk.len() {
            // As a vector grows by itself, but not past the limit.
            let capacity = (body.capacity() * 2).max(body.len() + chunk.len()).min(limit);
            body.reserve_exact(capacity - body.len());
        }
        body.extend_from_slice(&chunk);
    }
    body.shrink_to_fit();
    Ok(body)
}

/// Reads the start of a body, as far as it comes: the status is known, so nothing here is trouble.
async fn read_prefix(response: &mut Response, limit: usize) -> Vec<u8> {
    let mut prefix = Vec::new();
    while prefix.len() < limit
        && let Ok(Some(chunk)) = response.chunk().await
    {
        prefix.extend(chunk.iter().take(limit - prefix.len()));
    }
    prefix
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
