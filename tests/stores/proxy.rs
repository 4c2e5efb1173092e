//! A proxy in front of a store that forwards requests, injects faults, and records the requests.

use std::{collections::VecDeque, convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client, server, service::service_fn};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// The length of an endless response, in bytes.
const ENDLESS: usize = 64 << 20;

/// The fault of one request.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// None: the request is forwarded.
    Pass,
    /// It is read and gets no response.
    Hang,
    /// It waits for [`Proxy::release`].
    Hold,
    /// It waits for [`Proxy::release`] and then gets this response; it does not reach the store.
    HoldAndAnswer(u16, &'static str),
    /// Only this many bytes of it reach the store.
    StopAfter(usize),
    /// The connection is reset after this many bytes of it.
    ResetAfter(usize),
    /// It gets this response and does not reach the store.
    Answer(u16, &'static str),
    /// It gets this redirect.
    Redirect(u16, String),
    /// It gets a response with this status and an endless body (64 MiB).
    AnswerEndlessly(u16),
    /// The store executes it, but the response is replaced by this one.
    AnswerAfter(u16, &'static str),
    /// The store executes it, and this header is added to the response.
    Add(&'static str, &'static str),
    /// The store executes it, and the connection is reset before the response.
    ResetInstead,
}

/// A request to which the store responded.
#[derive(Clone, Debug)]
pub(crate) struct Passed {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) asked: HeaderMap,
    pub(crate) status: StatusCode,
    pub(crate) answer: HeaderMap,
}

/// Selects requests.
type Matches = Box<dyn Fn(&Request<Incoming>) -> bool + Send>;

#[derive(Default)]
struct Script {
    next: VecDeque<Fault>,
    always: Option<Fault>,
    matching: Option<(Matches, Fault)>,
    arrived: usize,
    held: usize,
    at_work: usize,
    most_at_work: usize,
    passed: Vec<Passed>,
    endless: usize,
}

/// A proxy on its own loopback port until it is dropped.
pub(crate) struct Proxy {
    address: SocketAddr,
    upstream: SocketAddr,
    script: Arc<Mutex<Script>>,
    gate: watch::Sender<u64>,
    accepting: Mutex<Option<JoinHandle<()>>>,
    /// Reserves the port while the proxy is down, so that no server of another test can take it.
    _held: TcpSocket,
}

impl Proxy {
    pub(crate) fn start(upstream: SocketAddr) -> Self {
        let held = port("127.0.0.1:0".parse().unwrap());
        let address = held.local_addr().unwrap();
        let (gate, _) = watch::channel(0);
        let accepting = Mutex::default();
        let proxy = Self { address, _held: held, upstream, script: Arc::default(), gate, accepting };
        proxy.come_back();
        proxy
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The faults of the next requests, one each.
    pub(crate) fn next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.script.lock().next.extend(faults);
    }

    /// The fault of every later request.
    pub(crate) fn always(&self, fault: Fault) {
        self.script.lock().always = Some(fault);
    }

    /// The fault of every request with this method that has no other fault.
    pub(crate) fn whenever(&self, method: Method, fault: Fault) {
        self.matching(move |request| request.method() == method, fault);
    }

    /// The fault of every request that matches and has no other fault.
    pub(crate) fn matching(
        &self,
        matches: impl Fn(&Request<Incoming>) -> bool + Send + 'static,
        fault: Fault,
    ) {
        self.script.lock().matching = Some((Box::new(matches), fault));
    }

    /// Removes all faults, and releases the requests that are held.
    pub(crate) fn heal(&self) {
        let mut script = self.script.lock();
        script.next.clear();
        script.always = None;
        script.matching = None;
        drop(script);
        self.release();
    }

    /// Releases the requests that are held now.
    pub(crate) fn release(&self) {
        self.gate.send_modify(|round| *round += 1);
    }

    /// How many requests were held so far.
    pub(crate) fn held(&self) -> usize {
        self.script.lock().held
    }

    /// The most concurrent requests so far.
    pub(crate) fn most_at_work(&self) -> usize {
        self.script.lock().most_at_work
    }

    /// The requests to which the store responded.
    pub(crate) fn passed(&self) -> Vec<Passed> {
        self.script.lock().passed.clone()
    }

    /// How many requests with this method the store responded to.
    pub(crate) fn count(&self, method: &Method) -> usize {
        self.passed().iter().filter(|passed| passed.method == *method).count()
    }

    /// How many requests have arrived; each has its own connection.
    pub(crate) fn arrived(&self) -> usize {
        self.script.lock().arrived
    }

    /// How many bytes of endless responses the client has read.
    pub(crate) fn endless(&self) -> usize {
        self.script.lock().endless
    }

    /// Refuses connections from now on.
    pub(crate) async fn go_down(&self) {
        let accepting = self.accepting.lock().take().expect("the proxy is up");
        accepting.abort();
        let _ = accepting.await;
    }

    /// Accepts connections again, on the same port.
    pub(crate) fn come_back(&self) {
        self.accept(port(self.address).listen(1024).unwrap());
    }

    fn accept(&self, listener: TcpListener) {
        let (script, upstream, gate) = (self.script.clone(), self.upstream, self.gate.clone());
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let fault = {
                    let mut script = script.lock();
                    script.arrived += 1;
                    let next = script.next.pop_front();
                    next.or_else(|| script.always.clone()).unwrap_or(Fault::Pass)
                };
                connections.spawn(serve(stream, fault, upstream, script.clone(), gate.subscribe()));
                while connections.try_join_next().is_some() {}
            }
        });
        *self.accepting.lock() = Some(task);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(task) = self.accepting.lock().take() {
            task.abort();
        }
    }
}

/// A socket at a port that several sockets of this process may share. Without listening it accepts no connections.
fn port(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.set_reuseport(true).unwrap();
    socket.bind(address).unwrap();
    socket
}

/// Serves one connection with one request.
async fn serve(
    mut stream: TcpStream,
    fault: Fault,
    upstream: SocketAddr,
    script: Arc<Mutex<Script>>,
    gate: watch::Receiver<u64>,
) {
    if let Fault::StopAfter(bytes) = fault {
        let mut read = vec![0; bytes];
        let _ = stream.read_exact(&mut read).await;
        let Ok(mut store) = TcpStream::connect(upstream).await else { return };
        let _ = store.write_all(&read).await;
        script.lock().held += 1;
        // Until the client disconnects; what it still sends is discarded.
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        return;
    }
    if let Fault::ResetAfter(bytes) = fault {
        let mut read = vec![0; bytes];
        let _ = stream.read_exact(&mut read).await;
        let _ = stream.set_zero_linger();
        return;
    }
    if let Fault::AnswerEndlessly(status) = fault {
        let mut read = [0; 1];
        let _ = stream.read_exact(&mut read).await;
        let head = format!(
            "HTTP/1.1 {status} No\r\ncontent-length: {ENDLESS}\r\netag: \"1\"\r\n\
             last-modified: Fri, 02 Jan 2026 03:04:05 GMT\r\n\r\n"
        );
        let _ = stream.write_all(head.as_bytes()).await;
        let chunk = vec![b'x'; 1 << 16];
        for _ in 0..ENDLESS / chunk.len() {
            if stream.write_all(&chunk).await.is_err() {
                return;
            }
            script.lock().endless += chunk.len();
        }
        return;
    }
    let reset = Arc::new(Mutex::new(false));
    let is_reset = reset.clone();
    let service = service_fn(move |request| {
        let (mut fault, script, reset) = (fault.clone(), script.clone(), reset.clone());
        let mut gate = gate.clone();
        async move {
            if let (Fault::Pass, Some((matches, other))) = (&fault, &script.lock().matching)
                && matches(&request)
            {
                fault = other.clone();
            }
            {
                let mut script = script.lock();
                script.at_work += 1;
                script.most_at_work = script.most_at_work.max(script.at_work);
            }
            if matches!(fault, Fault::Hold | Fault::HoldAndAnswer(..)) {
                gate.mark_unchanged();
                script.lock().held += 1;
                let _ = gate.changed().await;
            }
            let answer = answer(request, fault, upstream, &script, &reset).await;
            script.lock().at_work -= 1;
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = server::conn::http1::Builder::new()
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .without_shutdown();
    let mut connection = std::pin::pin!(connection);
    loop {
        let ended = tokio::time::timeout(Duration::from_millis(5), connection.as_mut()).await;
        match ended {
            Ok(Ok(parts)) => return drop(parts.io.into_inner()),
            Ok(Err(_)) => return,
            // The connection is dropped without a response.
            Err(_) if *is_reset.lock() => return,
            Err(_) => {}
        }
    }
}

async fn answer(
    request: Request<Incoming>,
    fault: Fault,
    upstream: SocketAddr,
    script: &Mutex<Script>,
    reset: &Mutex<bool>,
) -> Response<Full<Bytes>> {
    let say = |status: u16, body: &'static str| {
        Response::builder().status(status).body(Full::from(Bytes::from_static(body.as_bytes()))).unwrap()
    };
    match fault {
        Fault::Pass
        | Fault::Hold
        | Fault::StopAfter(_)
        | Fault::ResetAfter(_)
        | Fault::AnswerEndlessly(_) => pass(request, upstream, script).await,
        Fault::Hang => {
            let _ = request.into_body().collect().await;
            std::future::pending().await
        }
        Fault::Answer(status, body) | Fault::HoldAndAnswer(status, body) => {
            let _ = request.into_body().collect().await;
            say(status, body)
        }
        Fault::Redirect(status, to) => {
            let _ = request.into_body().collect().await;
            Response::builder().status(status).header("location", to).body(Full::default()).unwrap()
        }
        Fault::Add(name, value) => {
            let mut answered = pass(request, upstream, script).await;
            answered.headers_mut().insert(name, value.parse().unwrap());
            answered
        }
        Fault::AnswerAfter(status, body) => {
            pass(request, upstream, script).await;
            say(status, body)
        }
        Fault::ResetInstead => {
            pass(request, upstream, script).await;
            *reset.lock() = true;
            std::future::pending().await
        }
    }
}

async fn pass(
    request: Request<Incoming>,
    upstream: SocketAddr,
    script: &Mutex<Script>,
) -> Response<Full<Bytes>> {
    let (method, path) = (request.method().clone(), decode(request.uri().path()));
    let asked = request.headers().clone();
    let Some((parts, body)) = forward(request, upstream).await else {
        // The client or the store has disconnected.
        return Response::builder().status(StatusCode::BAD_GATEWAY).body(Full::default()).unwrap();
    };
    let (status, answer) = (parts.status, parts.headers.clone());
    let passed = Passed { method: method.clone(), path, asked, status, answer };
    script.lock().passed.push(passed);
    let mut response = Response::from_parts(parts, Full::from(body));
    if method != Method::HEAD {
        // The body is complete, so its length is known.
        response.headers_mut().remove("transfer-encoding");
    }
    response
}

async fn forward(request: Request<Incoming>, upstream: SocketAddr) -> Option<(http::response::Parts, Bytes)> {
    let stream = TcpStream::connect(upstream).await.ok()?;
    let (mut sender, connection) = client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    let connection = tokio::spawn(connection);
    let (parts, body) = sender.send_request(request).await.ok()?.into_parts();
    let body = body.collect().await.ok()?.to_bytes();
    connection.abort();
    Some((parts, body))
}

/// Decodes the percent-encoding of a path. A plus sign stays.
pub(crate) fn decode(path: &str) -> String {
    let form = format!("={}", path.replace('+', "%2B"));
    url::form_urlencoded::parse(form.as_bytes()).map(|(_, value)| value.into_owned()).collect()
}
