//! The port: connections, TLS, and the limits of each. HTTP/1.1 alone, so that one connection is one call at a time. May
//! depend on the rest of this module.

use std::{convert::Infallible, net::IpAddr, sync::Arc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use super::{certificate::Certificate, connections::Connection, receiver::Receiver, reload::reload};

/// How long a handshake may take, and a request until its body begins; also how long a connection may be idle.
const HEAD_WITHIN: Duration = Duration::from_secs(5);
/// A connection is closed after this time without an authentic call, so that nobody keeps others out with calls that are
/// refused, or with responses that are not read.
const AUTHENTIC_EVERY: Duration = Duration::from_secs(30);
/// The most bytes of a request before its body.
const HEAD_BYTES: usize = 16 << 10;
/// A pause after the system refused to accept a connection, as for want of file descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Serves notifications until the shutdown, and then waits until the calls that have begun are answered.
pub(crate) async fn serve(
    listener: TcpListener,
    receiver: Arc<Receiver>,
    certificate: Option<Arc<Certificate>>,
) {
    let connections = TaskTracker::new();
    tokio::select! {
        () = receiver.shutdown.cancelled() => {}
        () = accept(&listener, &connections, &receiver, certificate.as_deref()) => {}
        () = reload(Arc::clone(&receiver), certificate.clone()) => {}
    }
    drop(listener);
    connections.close();
    // A handshake may still be followed by a call.
    let _ = timeout(HEAD_WITHIN, connections.wait()).await;
}

async fn accept(
    listener: &TcpListener,
    connections: &TaskTracker,
    receiver: &Arc<Receiver>,
    certificate: Option<&Certificate>,
) {
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            sleep(ACCEPT_AGAIN).await;
            continue;
        };
        let peer = peer.ip();
        let Some(connection) = receiver.connect(peer) else { continue };
        let _ = stream.set_nodelay(true);
        let tls = certificate.map(|certificate| TlsAcceptor::from(certificate.config()));
        let service = Service { receiver: Arc::clone(receiver), peer, connection };
        connections.spawn(service.handle(stream, tls));
    }
}

/// Everything that one connection needs.
struct Service {
    receiver: Arc<Receiver>,
    peer: IpAddr,
    connection: Connection,
}

impl Service {
    async fn handle(self, stream: impl AsyncRead + AsyncWrite + Unpin, tls: Option<TlsAcceptor>) {
        let (displaced, receiver) = (self.connection.displaced(), Arc::clone(&self.receiver));
        let answer = async {
            let Some(tls) = tls else { return self.answer(stream).await };
            match timeout(HEAD_WITHIN, tls.accept(stream)).await {
                Ok(Ok(stream)) => self.answer(stream).await,
                Ok(Err(_)) | Err(_) => self.receiver.closed("handshake"),
            }
        };
        tokio::select! {
            () = displaced.cancelled() => receiver.closed("displaced"),
            () = answer => {}
        }
    }

    async fn answer(self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let Self { receiver, peer, connection } = &self;
        let service = service_fn(async |request| {
            Ok::<_, Infallible>(receiver.answer(*peer, connection, request).await)
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .half_close(true)
            .header_read_timeout(HEAD_WITHIN)
            .max_buf_size(HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        let mut served = std::pin::pin!(served);
        let without_authentic_calls = async {
            loop {
                sleep(AUTHENTIC_EVERY).await;
                if !connection.take_authentic() {
                    return;
                }
            }
        };
        // A connection that breaks is the caller's affair.
        tokio::select! {
            _ = served.as_mut() => return,
            () = receiver.shutdown.cancelled() => {}
            () = without_authentic_calls => receiver.closed("unauthenticated"),
        }
        served.as_mut().graceful_shutdown();
        let _ = timeout(HEAD_WITHIN, served).await;
    }
}

#[cfg(test)]
mod tests;
