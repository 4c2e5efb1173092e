//! A fake S3 server: s3s-fs, which checks signatures and stores objects as files, with counts of what was put. Writes a
//! folder and listens on the loopback interface.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use parking_lot::Mutex;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, HttpError};
use s3s_fs::FileSystem;
use tokio::net::{TcpListener, TcpStream};

use super::prometheus::{Labels, get, sum};

/// The credentials that it accepts.
pub(super) const ACCESS_KEY: &str = "bench";
pub(super) const SECRET_KEY: &str = "bench-secret";
/// The path of its counts; no bucket has this name.
const HISTORY: &str = "/metrics";

/// The puts into one bucket.
#[derive(Debug, Default)]
struct Puts {
    accepted: u64,
    refused: u64,
    /// When the first one began, since the start of the server.
    first: Option<Duration>,
    /// When the response to the last accepted one was sent.
    last: Duration,
}

struct History {
    start: Instant,
    buckets: Mutex<BTreeMap<String, Puts>>,
}

/// Listens on a free port until the runtime ends, and returns the address.
pub(super) async fn start(folder: &Path) -> Result<SocketAddr> {
    // The library's own error cannot leave its thread.
    let files =
        FileSystem::new(folder).map_err(|error| anyhow::anyhow!("open the store's folder: {error:?}"))?;
    let mut builder = S3ServiceBuilder::new(files);
    builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
    let service = builder.build();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("listen as a store")?;
    let address = listener.local_addr().context("listen as a store")?;
    let history = Arc::new(History { start: Instant::now(), buckets: Mutex::default() });
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve_connection(stream, service.clone(), Arc::clone(&history)));
        }
    });
    Ok(address)
}

/// Serves one connection; if it breaks, the client has to connect again.
async fn serve_connection(stream: TcpStream, service: S3Service, history: Arc<History>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| respond(service.clone(), Arc::clone(&history), request));
    let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}

async fn respond(
    service: S3Service,
    history: Arc<History>,
    request: Request<Incoming>,
) -> Result<Response<Body>, HttpError> {
    let path = request.uri().path();
    if path == HISTORY {
        return Ok(Response::new(Body::from(history.text())));
    }
    let bucket = path.trim_start_matches('/').split('/').next().unwrap_or_default().to_owned();
    if request.method() != Method::PUT {
        return service.call(request.map(Body::from)).await;
    }
    history.note(&bucket, |puts, now| {
        puts.first.get_or_insert(now);
    });
    let answer = service.call(request.map(Body::from)).await;
    let is_accepted = answer.as_ref().is_ok_and(|answer| answer.status().is_success());
    history.note(&bucket, |puts, now| {
        if is_accepted {
            puts.accepted += 1;
            puts.last = now;
        } else {
            puts.refused += 1;
        }
    });
    answer
}

impl History {
    fn note(&self, bucket: &str, note: impl FnOnce(&mut Puts, Duration)) {
        let mut buckets = self.buckets.lock();
        note(buckets.entry(bucket.to_owned()).or_default(), self.start.elapsed());
    }

    fn text(&self) -> String {
        let buckets = self.buckets.lock();
        buckets.iter().fold(String::new(), |mut text, (bucket, puts)| {
            let Puts { accepted, refused, first, last } = puts;
            let (first, last) = (first.unwrap_or_default().as_secs_f64(), last.as_secs_f64());
            for (name, number) in [
                (ACCEPTED, accepted.to_string()),
                (REFUSED, refused.to_string()),
                (FIRST, first.to_string()),
                (LAST, last.to_string()),
            ] {
                // Writing to a String does not fail.
                let _ = writeln!(text, "{name}{{bucket=\"{bucket}\"}} {number}");
            }
            text
        })
    }
}

const ACCEPTED: &str = "store_puts_accepted";
const REFUSED: &str = "store_puts_refused";
const FIRST: &str = "store_first_put_seconds";
const LAST: &str = "store_last_put_seconds";

/// The puts into a bucket, as the server counted them.
pub(super) struct Put {
    pub(super) accepted: f64,
    pub(super) refused: f64,
    /// From the start of the first to the response to the last.
    pub(super) seconds: f64,
}

/// Reads the counts of a running server.
pub(super) fn put(server: SocketAddr, bucket: &str) -> Result<Put> {
    let text = get(server, HISTORY)?;
    let number = |name| sum(&text, name, |labels: &Labels<'_>| labels.has("bucket", bucket));
    Ok(Put { accepted: number(ACCEPTED), refused: number(REFUSED), seconds: number(LAST) - number(FIRST) })
}
