//! Guards the calls of a watch: none hangs, and none is repeated in a hot loop. May touch tokio's
//! clock and kube's client.
//!
//! kube's client has no read time-out that suits a watch, and kube's watcher bounds only the
//! silence of a watch that is open: a connection that dies before an answer begins, or in the
//! middle of a list, would hang for ever. The watcher also opens a watch again at once when the
//! server has closed it, which is right for a server that does so now and then, and a flood for
//! one that does so always.

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
use tokio::time::{Instant, sleep, timeout};
use tower::BoxError;

use super::last_contact::LastContact;

/// How many watches may be opened at once (an API server under a burst of writes was seen to cut
/// one 56 times), and how often after that.
const OPENINGS: u32 = 100;
const BETWEEN_OPENINGS: Duration = Duration::from_secs(1);

/// A page of a list with more bytes is asked for again with fewer objects: what is read of it is many times as large in
/// memory.
const PAGE_BYTES: usize = 4 * 1024 * 1024;
/// A page of one object may have so many: more than etcd or the API server take.
const MOST_BYTES: usize = 16 * 1024 * 1024;
/// Such a part of the objects is asked for again.
const FEWER: u32 = 8;

type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;

/// The same client, for one watch. Every answer has to be there within `deadline`: of a list all
/// of it, of a watch its beginning. What follows in a watch is for the watcher to time. `last_contact` is
/// told of all that comes.
pub(crate) fn guarded(client: &Client, deadline: Duration, last_contact: &LastContact) -> Client {
    let last_contact = last_contact.clone();
    let pages = Arc::new(Pages::default());
    let namespace = client.default_namespace().to_owned();
    let client = client.clone();
    let pace = Arc::new(Pace::new());
    let service = tower::service_fn(move |request: Request<Body>| {
        let (client, pace, pages) = (client.clone(), Arc::clone(&pace), Arc::clone(&pages));
        let last_contact = last_contact.clone();
        async move {
            let watch = opens_watch(&request);
            if watch {
                sleep(pace.pause(Instant::now())).await;
            }
            let answer = async {
                if watch {
                    let response = client.send(request).await?;
                    last_contact.watch();
                    return Ok(response.map(|body| {
                        let noted = body.map_frame(move |frame| {
                            last_contact.watch();
                            frame
                        });
                        noted.map_err(BoxError::from).boxed_unsync()
                    }));
                }
                let answer = pages.get(&client, request).await?;
                last_contact.watch();
                Ok::<_, BoxError>(answer)
            };
            timeout(deadline, answer).await.unwrap_or_else(|_| {
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

/// How many objects a page may have, so that it has no more than [`PAGE_BYTES`].
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
    /// Asks for a page, with fewer objects where it is too large. The API server says in each page where the next begins.
    async fn get(&self, client: &Client, request: Request<Body>) -> Result<Answer, BoxError> {
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
            match bounded(body, if is_one { MOST_BYTES } else { PAGE_BYTES }).await? {
                Some(bytes) => {
                    if let Some(limit) = limit.filter(|_| bytes.len() <= PAGE_BYTES / 4) {
                        self.limit.fetch_max(limit.saturating_mul(2), Ordering::Relaxed);
                    }
                    let body = Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed_unsync();
                    return Ok(Response::from_parts(head, body));
                }
                None if is_one => {
                    return Err(io::Error::other("the answer of the API server is too large").into());
                }
                None => {
                    let fewer = limit.map_or(1, |limit| (limit / FEWER).max(1));
                    self.limit.store(fewer, Ordering::Relaxed);
                }
            }
        }
    }
}

/// Reads a body; nothing, if it has more bytes than that.
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

/// How many objects are asked for; nothing, where that is not said.
fn limit_of(uri: &Uri) -> Option<u32> {
    let mut pairs = uri.query()?.split('&');
    pairs.find_map(|pair| pair.strip_prefix("limit="))?.parse().ok()
}

/// The same, for so many objects.
fn with_limit(uri: &Uri, limit: u32) -> Result<Uri, BoxError> {
    let pair = |pair: &str| {
        if pair.starts_with("limit=") { format!("limit={limit}") } else { pair.to_owned() }
    };
    let query: Vec<_> = uri.query().unwrap_or_default().split('&').map(pair).collect();
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(format!("{}?{}", uri.path(), query.join("&")).parse()?);
    Ok(Uri::from_parts(parts)?)
}

/// Lets a number through at once, and then one at a time (the generic cell rate algorithm).
#[derive(Debug)]
struct Pace {
    /// When all that was let through would have been, one at a time.
    caught_up: Mutex<Instant>,
}

impl Pace {
    fn new() -> Self {
        Self { caught_up: Mutex::new(Instant::now()) }
    }

    /// How long the next one has to wait.
    fn pause(&self, now: Instant) -> Duration {
        let mut caught_up = self.caught_up.lock();
        *caught_up = (*caught_up).max(now) + BETWEEN_OPENINGS;
        caught_up.saturating_duration_since(now).saturating_sub(BETWEEN_OPENINGS * OPENINGS)
    }
}
