//! The HTTP client of all stores. It never follows a redirect and never retries, and it reduces every error response to a status
//! and a known code before its text can reach anything else.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use futures::StreamExt;
use http::Method;
use http_body_util::{BodyExt, Limited};
use object_store::{
    ClientConfigKey, ClientOptions,
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
        HttpService,
    },
};
use reqwest::{Client, redirect, retry};
use rustls::ClientConfig;
use tokio::time::timeout;

use super::{
    classify::{ErrorResponse, TooLarge},
    conditional_writes::ConditionalWrites,
};

/// How many bytes of an error response are read: enough to find the store's error code.
const MAX_ERROR_BYTES: usize = 4096;

/// How many bytes of any other response are read unless the request has a [`ResponseLimit`]: enough for a page of a listing, or
/// a token.
const MAX_RESPONSE_BYTES: usize = 4 * 1024 * 1024;

/// How many bytes of the response to a request are read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResponseLimit(pub(crate) usize);

/// The time limit for reading an error response.
const ERROR_TIMEOUT: Duration = Duration::from_secs(2);

/// How to connect to stores. Every value has a default.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// The time limit for a connection, including name resolution and TLS. Default 5 s.
    pub connect_timeout: Duration,
    /// Hosts with fixed addresses, as with curl's `--resolve`. Default none.
    pub hosts: Vec<(String, IpAddr)>,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self { connect_timeout: Duration::from_secs(5), hosts: Vec::new() }
    }
}

/// The client for all stores. One per process; clones share its connections.
#[derive(Clone)]
pub struct StoreHttp {
    /// For endpoints that require https.
    tls: Client,
    /// For endpoints that the administrator allows with plain http, and for the cloud's metadata server.
    any: Client,
    /// Which stores support conditional writes.
    conditional_writes: Arc<ConditionalWrites>,
}

/// The HTTP library rejects the settings.
#[derive(Debug, thiserror::Error)]
#[error("set up the HTTP client for the stores")]
pub struct InvalidHttp(#[source] reqwest::Error);

impl StoreHttp {
    /// Creates the client. Opens no connection.
    ///
    /// # Errors
    ///
    /// [`InvalidHttp`].
    pub fn new(settings: &HttpSettings, mut trust: ClientConfig) -> Result<Self, InvalidHttp> {
        // One connection per request in flight, so that an upload does not wait for another one's bytes.
        trust.alpn_protocols = vec![b"http/1.1".to_vec()];
        let client = |https_only| {
            let hosts = settings.hosts.iter();
            // Port 0: the port is that of the URL.
            hosts
                .fold(Client::builder(), |builder, (host, address)| {
                    builder.resolve(host, SocketAddr::new(*address, 0))
                })
                .tls_backend_preconfigured(trust.clone())
                .http1_only()
                .https_only(https_only)
                .redirect(redirect::Policy::none())
                .retry(retry::never())
                .referer(false)
                // The environment must not redirect evidence through a proxy.
                .no_proxy()
                .user_agent(concat!("okid-operator/", env!("CARGO_PKG_VERSION")))
                .pool_idle_timeout(Duration::from_secs(30))
                .connect_timeout(settings.connect_timeout)
                .build()
        };
        Ok(Self {
            tls: client(true).map_err(InvalidHttp)?,
            any: client(false).map_err(InvalidHttp)?,
            conditional_writes: Arc::default(),
        })
    }

    /// Which stores support conditional writes, shared by this client and its clones.
    pub(crate) fn conditional_writes(&self) -> Arc<ConditionalWrites> {
        Arc::clone(&self.conditional_writes)
    }

    /// The client for a store.
    pub(crate) fn client(&self, allow_plain_http: bool) -> HttpClient {
        HttpClient::new(SingleRequests(if allow_plain_http { self.any.clone() } else { self.tls.clone() }))
    }
}

impl fmt::Debug for StoreHttp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("StoreHttp")
    }
}

impl HttpConnector for StoreHttp {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let allow_http = options.get_config_value(&ClientConfigKey::AllowHttp);
        Ok(self.client(allow_http.is_some_and(|value| value.eq_ignore_ascii_case("true"))))
    }
}

/// Sends one request.
#[derive(Debug)]
struct SingleRequests(Client);

#[async_trait]
impl HttpService for SingleRequests {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let is_removal = request.method() == Method::DELETE;
        let ResponseLimit(bytes) =
            request.extensions().get().copied().unwrap_or(ResponseLimit(MAX_RESPONSE_BYTES));
        let response = HttpService::call(&self.0, request).await?;
        let status = response.status();
        if status.is_success() {
            // The library passes on no headers, so a removal that leaves a version is reported as an error.
            let leftover =
                ErrorResponse::of_removal(status.as_u16(), response.headers()).filter(|_| is_removal);
            return match leftover {
                Some(leftover) => Err(HttpError::new(HttpErrorKind::Unknown, leftover)),
                None => Ok(response.map(|body| bounded(body, bytes))),
            };
        }
        let (parts, body) = response.into_parts();
        let header = parts.headers.get("x-ms-error-code").and_then(|value| value.to_str().ok());
        let start = read_start(body).await;
        Err(HttpError::new(HttpErrorKind::Unknown, ErrorResponse::read(status.as_u16(), header, &start)))
    }
}

/// A body that ends with an error after this many bytes.
fn bounded(body: HttpResponseBody, bytes: usize) -> HttpResponseBody {
    HttpResponseBody::new(Limited::new(body, bytes).map_err(|error| match error.downcast::<HttpError>() {
        Ok(error) => *error,
        Err(_) => HttpError::new(HttpErrorKind::Decode, TooLarge),
    }))
}

/// Reads the start of an error response. Cannot fail: the status is known, and a part is enough.
async fn read_start(body: HttpResponseBody) -> Vec<u8> {
    let mut start = Vec::new();
    let mut chunks = body.bytes_stream();
    let reading = async {
        while start.len() < MAX_ERROR_BYTES
            && let Some(Ok(chunk)) = chunks.next().await
        {
            start.extend(chunk.iter().take(MAX_ERROR_BYTES - start.len()));
        }
    };
    let _ = timeout(ERROR_TIMEOUT, reading).await;
    start
}
