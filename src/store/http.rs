//! The HTTP client of all stores. It never follows a redirect and never repeats a request, and it reduces every refusal to a
//! status and a known code before its text can reach anything else.

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
    classify::{Refusal, TooLarge},
    conditional_writes::ConditionalWrites,
};

/// How much is read of a refusal, in bytes: enough to find the store's code in it.
const REFUSAL_BYTES: usize = 4096;

/// How much is read of any other answer, in bytes, unless its request says otherwise by [`ResponseLimit`]: a thousand names and
/// more, or a token.
const ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// How much of the answer to a request is read, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResponseLimit(pub(crate) usize);

/// Longest time for reading that.
const REFUSAL_TIME: Duration = Duration::from_secs(2);

/// How stores are connected to. Every value has a default.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// Longest time until a connection stands, name resolution and TLS included. Default 5 s.
    pub connect_timeout: Duration,
    /// Hosts whose address is known without asking for it, as of curl's `--resolve`. Default none.
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
    /// For what may only be reached by https.
    tls: Client,
    /// For endpoints that the administrator allowed by plain http, and the machine's own metadata.
    any: Client,
    /// What is known of stores.
    conditional_writes: Arc<ConditionalWrites>,
}

/// The HTTP library refuses the settings.
#[derive(Debug, thiserror::Error)]
#[error("set up the HTTP client for the stores")]
pub struct InvalidHttp(#[source] reqwest::Error);

impl StoreHttp {
    /// Makes the client. Opens no connection.
    ///
    /// # Errors
    ///
    /// [`InvalidHttp`].
    pub fn new(settings: &HttpSettings, mut trust: ClientConfig) -> Result<Self, InvalidHttp> {
        // One connection per request in flight: an upload does not wait behind another one's bytes.
        trust.alpn_protocols = vec![b"http/1.1".to_vec()];
        let client = |https_only| {
            let hosts = settings.hosts.iter();
            // The port is that of the address that is asked.
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
                // Whatever the environment says.
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

    /// What is known of all stores that are spoken to by this client and its clones.
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
        let ResponseLimit(bytes) = request.extensions().get().copied().unwrap_or(ResponseLimit(ANSWER_BYTES));
        let response = HttpService::call(&self.0, request).await?;
        let status = response.status();
        if status.is_success() {
            // The library passes no header on, so a removal that leaves something behind is reported as a failure.
            let refusal = Refusal::of_removal(status.as_u16(), response.headers()).filter(|_| is_removal);
            return match refusal {
                Some(refusal) => Err(HttpError::new(HttpErrorKind::Unknown, refusal)),
                None => Ok(response.map(|body| bounded(body, bytes))),
            };
        }
        let (parts, body) = response.into_parts();
        let header = parts.headers.get("x-ms-error-code").and_then(|value| value.to_str().ok());
        let start = read_start(body).await;
        Err(HttpError::new(HttpErrorKind::Unknown, Refusal::read(status.as_u16(), header, &start)))
    }
}

/// A body that ends with an error where it has more bytes than that.
fn bounded(body: HttpResponseBody, bytes: usize) -> HttpResponseBody {
    HttpResponseBody::new(Limited::new(body, bytes).map_err(|error| match error.downcast::<HttpError>() {
        Ok(error) => *error,
        Err(_) => HttpError::new(HttpErrorKind::Decode, TooLarge),
    }))
}

/// Reads the start of a refusal, as far as it comes: the status is known, so nothing here can fail.
async fn read_start(body: HttpResponseBody) -> Vec<u8> {
    let mut start = Vec::new();
    let mut chunks = body.bytes_stream();
    let reading = async {
        while start.len() < REFUSAL_BYTES
            && let Some(Ok(chunk)) = chunks.next().await
        {
            start.extend(chunk.iter().take(REFUSAL_BYTES - start.len()));
        }
    };
    let _ = timeout(REFUSAL_TIME, reading).await;
    start
}
