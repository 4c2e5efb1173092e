//! A stand-in for the portal that answers every look after the same time, by HTTP/2 and TLS as a portal does, and
//! notes how late each look comes. Touches a port of the loopback interface.
//!
//! When a look should come is known from outside: its verification's interval after the last answer left here. So the
//! operator's own time is measured, with the network both ways, and not what it says of itself; and a look that never
//! comes is late for as long as it is waited for.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use hdrhistogram::Histogram;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::population::{LIVE, Population};

/// Requests that a client may have under way on one connection, as usual.
const STREAMS: u32 = 100;

/// Nothing is measured for longer, so nothing can be later.
const LATEST: Duration = Duration::from_hours(1);

/// It listens until its runtime ends.
pub(super) struct Portal {
    address: SocketAddr,
    authority: String,
    book: Arc<Book>,
}

/// What is known of the looks.
pub(super) struct Book {
    population: Arc<Population>,
    /// How long an answer takes.
    latency: Duration,
    start: Instant,
    /// When the next look at each should come, in microseconds from the start; 0 while it is answered and before the
    /// first.
    due: Vec<AtomicU64>,
    looks: AtomicU64,
    /// Verifications that were looked at.
    known: AtomicU64,
    lateness: Mutex<Histogram<u64>>,
}

/// A port that is listened at, before anybody is answered.
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
    pub(super) fn start(port: Port, population: Arc<Population>, latency: Duration) -> Result<Self> {
        let Port { listener, address } = port;
        let certified = rcgen::generate_simple_self_signed([Ipv4Addr::LOCALHOST.to_string()])
            .context("make a certificate")?;
        let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
        let mut tls = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], PrivateKeyDer::from(key))
            .context("set up TLS")?;
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let book = Arc::new(Book {
            population,
            latency,
            start: Instant::now(),
            due: (0..LIVE).map(|_| AtomicU64::new(0)).collect(),
            looks: AtomicU64::new(0),
            known: AtomicU64::new(0),
            lateness: Mutex::new(histogram()?),
        });
        tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(tls)), Arc::clone(&book)));
        Ok(Self { address, authority: certified.cert.pem(), book })
    }

    /// The certificate to trust, as PEM.
    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    pub(super) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    pub(super) fn book(&self) -> &Book {
        &self.book
    }
}

fn histogram() -> Result<Histogram<u64>> {
    Histogram::new_with_max(micros(LATEST), 3).context("make a histogram")
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, book: Arc<Book>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(converse(stream, tls.clone(), Arc::clone(&book)));
    }
}

/// One connection; one that breaks is the client's affair.
async fn converse(stream: TcpStream, tls: TlsAcceptor, book: Arc<Book>) {
    let _ = stream.set_nodelay(true);
    let Ok(stream) = tls.accept(stream).await else { return };
    let service = service_fn(move |request| {
        let book = Arc::clone(&book);
        async move { Ok::<_, Infallible>(book.answer(&request).await) }
    });
    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .max_concurrent_streams(STREAMS)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

impl Book {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let id = request.uri().path().strip_prefix("/api/get-verification-details/ver_");
        let Some((number, due)) = id
            .and_then(|number| number.parse::<u32>().ok())
            .and_then(|number| Some((number, self.due.get(usize::try_from(number).ok()?)?)))
        else {
            let mut response = Response::new(Full::default());
            *response.status_mut() = hyper::StatusCode::NOT_FOUND;
            return response;
        };
        self.arrive(due);
        tokio::time::sleep(self.latency).await;
        let response = Response::new(Full::from(self.population.answer(number)));
        due.store(self.now() + micros(self.population.next_look_after(number)), Ordering::Relaxed);
        response
    }

    fn arrive(&self, due: &AtomicU64) {
        let now = self.now();
        self.looks.fetch_add(1, Ordering::Relaxed);
        match due.swap(0, Ordering::Relaxed) {
            0 => {
                self.known.fetch_add(1, Ordering::Relaxed);
            }
            due => self.lateness.lock().saturating_record(now.saturating_sub(due)),
        }
    }

    /// How many looks have come.
    pub(super) fn looks(&self) -> u64 {
        self.looks.load(Ordering::Relaxed)
    }

    /// How many verifications were looked at at least once.
    pub(super) fn known(&self) -> u64 {
        self.known.load(Ordering::Relaxed)
    }

    /// Forgets how late the looks were so far.
    pub(super) fn forget(&self) {
        self.lateness.lock().reset();
    }

    /// How late the looks were since [`Book::forget`], in microseconds, and how late those are by now that are still
    /// waited for.
    pub(super) fn late(&self) -> Histogram<u64> {
        let now = self.now();
        let mut late = self.lateness.lock().clone();
        for due in &self.due {
            let due = due.load(Ordering::Relaxed);
            if due != 0 && due < now {
                late.saturating_record(now - due);
            }
        }
        late
    }

    fn now(&self) -> u64 {
        micros(self.start.elapsed())
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
