//! Listens, and serves HTTP/1.1 and HTTP/2 (prior knowledge) on each connection.
//!
//! Touches sockets and tasks. May depend on [`connection`](crate::connection) and [`Portal`]. The given router makes the
//! responses.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::connection::{Connection, Socket};
use crate::portal::Portal;

/// How long requests in flight may take when the server is stopped.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A listening server; it ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Server {
    /// Serves in a new task.
    pub(crate) fn start(
        listener: TcpListener,
        portal: Arc<Portal>,
        router: Router,
        streams: u32,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve(listener, portal, router, streams, stop.clone()));
        Ok(Self { address, stop, task })
    }

    /// Accepts no more connections, lets requests in flight finish for two seconds, and ends.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        // Fails only if the task panicked or was aborted: it has ended in either case.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    listener: TcpListener,
    portal: Arc<Portal>,
    router: Router,
    streams: u32,
    stop: CancellationToken,
) {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new());
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(streams);
    let service = TowerToHyperService::new(router);
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let (builder, service) = (builder.clone(), service.clone());
                    let portal = Arc::clone(&portal);
                    connections.spawn(serve_connection(stream, builder, service, portal, graceful.watcher()));
                }
                Err(error) => {
                    // Usually out of file descriptors: other connections must close first.
                    warn!(%error, "accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, graceful.shutdown()).await;
}

async fn serve_connection(
    stream: TcpStream,
    builder: Builder<TokioExecutor>,
    service: TowerToHyperService<Router>,
    portal: Arc<Portal>,
    watcher: Watcher,
) {
    let connection = Arc::new(Connection::new(portal.connect()));
    // Otherwise each small response could wait for the acknowledgement of the previous one.
    let _ = stream.set_nodelay(true);
    let socket = TokioIo::new(Socket::new(stream, Arc::clone(&connection)));
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Arc::clone(&connection));
        service.call(request)
    });
    let serving = watcher.watch(builder.serve_connection(socket, service).into_owned());
    let cut = pin!(portal.cut.notified());
    tokio::select! {
        // The client or a fault may end the connection in any way.
        _ = serving => {}
        () = cut => {}
    }
}
