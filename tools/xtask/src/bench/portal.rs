//! A fake portal that responds to every poll after the same time, over HTTP/2 and TLS like a real one, and records the
//! delay of each poll. Its first response to each session may be large. Listens on the loopback interface.
//!
//! A poll is due one interval after the last response left here. So the delay is measured from outside, with the network
//! in both directions, and does not depend on what the operator reports. A poll that is overdue at the end counts with
//! its delay so far.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::harness::Polling;
use super::large::{LargeResponses, ResponseBody, whole};
use super::population::Population;

/// Concurrent requests on one connection, the usual limit.
const STREAMS: u32 = 100;

/// No measurement takes longer, so no delay is longer.
const MAX_DELAY: Duration = Duration::from_hours(1);

/// A fake portal, which listens until its runtime ends.
pub(super) struct Portal {
    address: SocketAddr,
    authority: String,
    history: Arc<History>,
}

/// The polls so far.
pub(super) struct History {
    population: Arc<Population>,
    /// How long a response takes.
    latency: Duration,
    start: Instant,
    /// When the next poll of each session is due, in microseconds from the start; 0 before the first poll and while a
    /// response is on its way.
    due: Vec<AtomicU64>,
    polls: AtomicU64,
    /// Sessions that were polled at least once.
    polled_sessions: AtomicU64,
    delays: Mutex<Histogram<u64>>,
    large: Option<LargeResponses>,
}

/// A port with a listener that accepts no connection yet.
pub(super) struct Port {
    listener: TcpListener,
    address: SocketAddr,
}

impl Port {
    pub(super) async fn bind() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("listen as a portal")?;
        let address = listener.local_addr().context("listen as a portal")?;
        Ok(Self { listener, address })
    }

    pub(super) fn url(&self) -> String {
        format!("https://{}", self.address)
    }
}

impl Portal {
    pub(super) fn start(port: Port, population: Arc<Population>, polling: &Polling) -> Result<Self> {
        let Port { listener, address } = port;
        let certified = rcgen::generate_simple_self_signed([Ipv4Addr::LOCALHOST.to_string()])
            .context("create a certificate")?;
        let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
        let mut tls = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], PrivateKeyDer::from(key))
            .context("set up TLS")?;
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let history = Arc::new(History {
            latency: polling.latency,
            start: Instant::now(),
            due: (0..population.live).map(|_| AtomicU64::new(0)).collect(),
            polls: AtomicU64::new(0),
            polled_sessions: AtomicU64::new(0),
            delays: Mutex::new(histogram()?),
            large: polling.results.map(|bytes| LargeResponses::new(bytes, population.live)),
            population,
        });
        tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(tls)), Arc::clone(&history)));
        Ok(Self { address, authority: certified.cert.pem(), history })
    }

    /// The certificate to trust, in PEM.
    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    pub(super) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    pub(super) fn history(&self) -> &History {
        &self.history
    }
}

fn histogram() -> Result<Histogram<u64>> {
    Histogram::new_with_max(micros(MAX_DELAY), 3).context("create a histogram")
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, history: Arc<History>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve_connection(stream, tls.clone(), Arc::clone(&history)));
    }
}

/// Serves one connection; if it breaks, the client has to connect again.
async fn serve_connection(stream: TcpStream, tls: TlsAcceptor, history: Arc<History>) {
    let _ = stream.set_nodelay(true);
    let Ok(stream) = tls.accept(stream).await else { return };
    let service = service_fn(move |request| {
        let history = Arc::clone(&history);
        async move { Ok::<_, Infallible>(history.respond(&request).await) }
    });
    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .max_concurrent_streams(STREAMS)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

impl History {
    async fn respond(&self, request: &Request<Incoming>) -> Response<ResponseBody> {
        let id = request.uri().path().strip_prefix("/api/get-verification-details/ver_");
        let Some((number, due)) = id
            .and_then(|number| number.parse::<u32>().ok())
            .and_then(|number| Some((number, self.due.get(usize::try_from(number).ok()?)?)))
        else {
            let mut response = Response::new(whole(String::new()));
            *response.status_mut() = hyper::StatusCode::NOT_FOUND;
            return response;
        };
        self.record_poll(due);
        tokio::time::sleep(self.latency).await;
        let details = self.population.response(number);
        let response = match &self.large {
            Some(large) => large.respond(number, details).await,
            None => whole(details),
        };
        due.store(self.now() + micros(self.population.time_to_next_poll(number)), Ordering::Relaxed);
        Response::new(response)
    }

    /// The large responses that have ended, completely or not; 0 if there are none.
    pub(super) fn large_responses(&self) -> u32 {
        self.large.as_ref().map_or(0, LargeResponses::ended)
    }

    fn record_poll(&self, due: &AtomicU64) {
        let now = self.now();
        self.polls.fetch_add(1, Ordering::Relaxed);
        match due.swap(0, Ordering::Relaxed) {
            0 => {
                self.polled_sessions.fetch_add(1, Ordering::Relaxed);
            }
            due => self.delays.lock().saturating_record(now.saturating_sub(due)),
        }
    }

    /// The number of polls.
    pub(super) fn polls(&self) -> u64 {
        self.polls.load(Ordering::Relaxed)
    }

    /// The number of sessions that were polled at least once.
    pub(super) fn polled_sessions(&self) -> u64 {
        self.polled_sessions.load(Ordering::Relaxed)
    }

    /// Discards the delays so far.
    pub(super) fn reset(&self) {
        self.delays.lock().reset();
    }

    /// The delays since [`History::reset`], in microseconds, and the delays so far of polls that are overdue.
    pub(super) fn delays(&self) -> Histogram<u64> {
        let now = self.now();
        let mut delays = self.delays.lock().clone();
        for due in &self.due {
            let due = due.load(Ordering::Relaxed);
            if due != 0 && due < now {
                delays.saturating_record(now - due);
            }
        }
        delays
    }

    fn now(&self) -> u64 {
        micros(self.start.elapsed())
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
