//! The client of a watch: no request hangs, and none is repeated in a hot loop. May depend on tokio's clock, kube's
//! client and `last_contact`.
//!
//! kube's client has no read timeout that suits a watch, and kube's watcher bounds only the silence of an open watch: a
//! connection that dies before a response starts, or in the middle of a list, would hang forever. The watcher also
//! reopens a watch at once when the server has closed it, which is right for a server that closes it now and then, and
//! a flood of requests for one that always does.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use kube::{Client, client::Body};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until, timeout};
use tower::BoxError;

use super::last_contact::LastContact;
use crate::rate_limit::RateLimiter;

/// How many watches may be opened in a burst (an API server under a burst of writes closed one 56 times), and how often
/// after that.
const BURST: u32 = 100;
const INTERVAL: Duration = Duration::from_secs(1);

/// A page with more bytes is requested again with fewer objects: decoded, it is many times as large in memory.
const PAGE_BYTES: usize = 4 * 1024 * 1024;
/// The most bytes of a page with one object: more than etcd and the API server accept.
const OBJECT_BYTES: usize = 16 * 1024 * 1024;
/// By what a page that is too large is divided.
const FEWER: u32 = 8;

type HttpResponse = Response<UnsyncBoxBody<Bytes, BoxError>>;

/// The same client for one watch. Every response has to arrive within `deadline`: a list as a whole, a watch with its
/// start. The watcher times what follows in a watch. `last_contact` notes everything that is received.
pub(crate) fn with_timeout(client: &Client, deadline: Duration, last_contact: &LastContact) -> Client {
    let last_contact = last_contact.clone();
    let pages = Arc::new(Pages::default());
    let namespace = client.default_namespace().to_owned();
    let client = client.clone();
    let rate_limit = Arc::new(Mutex::new(RateLimiter::default()));
    let service = tower::service_fn(move |request: Request<Body>| {
        let (client, rate_limit, pages) = (client.clone(), Arc::clone(&rate_limit), Arc::clone(&pages));
        let last_contact = last_contact.clone();
        async move {
            let watch = opens_watch(&request);
            if watch {
                let at = rate_limit.lock().take(Instant::now(), INTERVAL, BURST);
                sleep_until(at).await;
            }
            let response = async {
                if watch {
                    let response = client.send(request).await?;
                    last_contact.watch_received();
                    return Ok(response.map(|body| {
                        let noted = body.map_frame(move |frame| {
                            last_contact.watch_received();
                            frame
                        });
                        noted.map_err(BoxError::from).boxed_unsync()
                    }));
                }
                let page = pages.get(&client, request).await?;
                last_contact.watch_received();
                Ok::<_, BoxError>(page)
            };
            timeout(deadline, response).await.unwrap_or_else(|_| {
                let seconds = deadline.as_secs();
                let message = format!("the API server did not answer within {seconds} s");
                Err(io::Error::new(io::ErrorKind::TimedOut, message).into())
            })
        }
    });
    Client::new(service, namespace)
}

fn opens_watch(request: &Request<Body>) -> bool {
    let query = request.uri().query().unwrap_or_default();
    query.split('&').any(|pair| pair == "watch=true")
}

/// How many objects a page may have so that it has no more than [`PAGE_BYTES`].
#[derive(Debug)]
struct Pages {
    limit: AtomicU32,
}

impl Default for Pages {
    fn default() -> Self {
        Self { limit: AtomicU32::new(u32::MAX) }
    }
}

impl Pages {
    /// Requests a page, with fewer objects if it is too large. Each page says where the next one begins.
    async fn get(&self, client: &Client, request: Request<Body>) -> Result<HttpResponse, BoxError> {
        let (head, _) = request.into_parts();
        let asked = limit_of(&head.uri);
        loop {
            let limit = asked.map(|asked| asked.min(self.limit.load(Ordering::Relaxed)));
            let mut head = head.clone();
            if let Some(limit) = limit {
                head.uri = with_limit(&head.uri, limit)?;
            }
            let is_one = limit.is_none_or(|limit| limit <= 1);
            let response = client.send(Request::from_parts(head, Body::empty())).await?;
            let (head, body) = response.into_parts();
            match bounded(body, if is_one { OBJECT_BYTES } else { PAGE_BYTES }).await? {
                Some(bytes) => {
                    if let Some(limit) = limit.filter(|_| bytes.len() <= PAGE_BYTES / 4) {
                        self.limit.fetch_max(limit.saturating_mul(2), Ordering::Relaxed);
                    }
                    let body = Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed_unsync();
                    return Ok(Response::from_parts(head, body));
                }
                None if is_one => {
                    return Err(io::Error::other("the response of the API server is too large").into());
                }
                None => {
                    let fewer = limit.map_or(1, |limit| (limit / FEWER).max(1));
                    self.limit.store(fewer, Ordering::Relaxed);
                }
            }
        }
    }
}

/// Reads a body; nothing if it has more bytes than that.
async fn bounded(mut body: Body, most: usize) -> Result<Option<Vec<u8>>, BoxError> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if bytes.len() + data.len() > most {
            return Ok(None);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Some(bytes))
}

/// The `limit` of a request, if it has one.
fn limit_of(uri: &Uri) -> Option<u32> {
    let mut pairs = uri.query()?.split('&');
    pairs.find_map(|pair| pair.strip_prefix("limit="))?.parse().ok()
}

/// The same request with another `limit`.
fn with_limit(uri: &Uri, limit: u32) -> Result<Uri, BoxError> {
    let pair = |pair: &str| {
        if pair.starts_with("limit=") { format!("limit={limit}") } else { pair.to_owned() }
    };
    let query: Vec<_> = uri.query().unwrap_or_default().split('&').map(pair).collect();
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(format!("{}?{}", uri.path(), query.join("&")).parse()?);
    Ok(Uri::from_parts(parts)?)
}
