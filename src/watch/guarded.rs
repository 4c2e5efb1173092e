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
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::{Request, Response};
use http_body_util::BodyExt as _;
use kube::{Client, client::Body};
use tokio::time::{Instant, sleep, timeout};
use tower::BoxError;

/// How many watches may be opened at once (an API server under a burst of writes was seen to cut
/// one 56 times), and how often after that.
const OPENINGS: u32 = 100;
const BETWEEN_OPENINGS: Duration = Duration::from_secs(1);

/// The same client, for one watch. Every answer has to be there within `deadline`: of a list all
/// of it, of a watch its beginning. What follows in a watch is for the watcher to time.
pub(super) fn guarded(client: &Client, deadline: Duration) -> Client {
    let namespace = client.default_namespace().to_owned();
    let client = client.clone();
    let pace = Arc::new(Pace::new());
    let service = tower::service_fn(move |request: Request<Body>| {
        let (client, pace) = (client.clone(), Arc::clone(&pace));
        async move {
            let watch = opens_watch(&request);
            if watch {
                sleep(pace.pause(Instant::now())).await;
            }
            let answer = async {
                let response = client.send(request).await?;
                if watch {
                    return Ok(response);
                }
                let (head, body) = response.into_parts();
                let body = body.collect().await?.to_bytes();
                Ok::<_, BoxError>(Response::from_parts(head, Body::from(body)))
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
        let mut caught_up = self.caught_up.lock().unwrap_or_else(PoisonError::into_inner);
        *caught_up = (*caught_up).max(now) + BETWEEN_OPENINGS;
        caught_up.saturating_duration_since(now).saturating_sub(BETWEEN_OPENINGS * OPENINGS)
    }
}
