//! The port: connections, TLS, and the limits of each. HTTP/1.1 alone, so that one connection is one call at a time. May
//! depend on the rest of this module.

use std::{convert::Infallible, sync::Arc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{certificate::Certificate, connections::Connections, receiver::Receiver, reload::reload};

/// How long a handshake may take, and a request until its body begins; also how long a connection may be idle.
const HEAD_WITHIN: Duration = Duration::from_secs(5);
/// The most bytes of a request before its body.
const HEAD_BYTES: usize = 16 << 10;
/// A pause after the system refused to accept a connection, as for want of file descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Serves notifications until the shutdown. Calls that have begun are answered.
pub(crate) async fn serve(
    listener: TcpListener,
    receiver: Arc<Receiver>,
    certificate: Option<Arc<Certificate>>,
    shutdown: CancellationToken,
) {
    let connections = Connections::default();
    let accepting = accept(&listener, &connections, &receiver, certificate.as_ref(), &shutdown);
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = accepting => {}
        () = reload(Arc::clone(&receiver), certificate.clone()) => {}
    }
}

async fn accept(
    listener: &TcpListener,
    connections: &Connections,
    receiver: &Arc<Receiver>,
    certificate: Option<&Arc<Certificate>>,
    shutdown: &CancellationToken,
) {
    loop {
        let Some(permit) = connections.free().await else { return };
        let Ok((stream, peer)) = listener.accept().await else {
            sleep(ACCEPT_AGAIN).await;
            continue;
        };
        let peer = peer.ip();
        let Some(connection) = connections.open(permit, receiver.source_of(peer)) else { continue };
        let (receiver, shutdown) = (Arc::clone(receiver), shutdown.clone());
        let tls = certificate.map(|certificate| TlsAcceptor::from(certificate.config()));
        tokio::spawn(async move {
            let service = Service { receiver, peer, shutdown };
            service.handle(stream, tls).await;
            drop(connection);
        });
    }
}

/// Everything that one connection needs.
struct Service {
    receiver: Arc<Receiver>,
    peer: std::net::IpAddr,
    shutdown: CancellationToken,
}

impl Service {
    async fn handle(self, stream: TcpStream, tls: Option<TlsAcceptor>) {
        let _ = stream.set_nodelay(true);
        match tls {
            None => self.answer(stream).await,
            Some(tls) => {
                if let Ok(Ok(stream)) = timeout(HEAD_WITHIN, tls.accept(stream)).await {
                    self.answer(stream).await;
                }
            }
        }
    }

    async fn answer(self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let Self { receiver, peer, shutdown } = self;
        let service = service_fn(move |request| {
            let receiver = Arc::clone(&receiver);
            async move { Ok::<_, Infallible>(receiver.answer(peer, request).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WITHIN)
            .max_buf_size(HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        // A connection that breaks is the caller's affair.
        tokio::select! {
            _ = connection.as_mut() => {}
            () = shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                let _ = timeout(HEAD_WITHIN, connection).await;
            }
        }
    }
}
