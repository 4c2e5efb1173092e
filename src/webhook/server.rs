//! The port: connections, TLS, and the limits of each. HTTP/1.1 alone, so that one connection is one call at a time. May
//! depend on the rest of this module.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::StatusCode;
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
/// A connection is closed after this time without an authentic call, so that nobody keeps others out with calls that are
/// refused, or with responses that are not read.
const AUTHENTIC_EVERY: Duration = Duration::from_secs(30);
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
        let is_authentic = Arc::new(AtomicBool::new(false));
        let of_calls = Arc::clone(&is_authentic);
        let service = service_fn(move |request| {
            let (receiver, of_calls) = (Arc::clone(&receiver), Arc::clone(&of_calls));
            async move {
                let answer = receiver.answer(peer, request).await;
                if matches!(answer.status(), StatusCode::ACCEPTED | StatusCode::SERVICE_UNAVAILABLE) {
                    of_calls.store(true, Ordering::Relaxed);
                }
                Ok::<_, Infallible>(answer)
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WITHIN)
            .max_buf_size(HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let without_authentic_calls = async {
            loop {
                sleep(AUTHENTIC_EVERY).await;
                if !is_authentic.swap(false, Ordering::Relaxed) {
                    return;
                }
            }
        };
        // A connection that breaks is the caller's affair.
        tokio::select! {
            _ = connection.as_mut() => return,
            () = shutdown.cancelled() => {}
            () = without_authentic_calls => {}
        }
        connection.as_mut().graceful_shutdown();
        let _ = timeout(HEAD_WITHIN, connection).await;
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, net::Ipv4Addr};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;
    use crate::{
        metrics::Metrics,
        portal::AllowedPortals,
        webhook::{
            Endpoints, Forwarder, ReceiverSettings, Role, authentication::Scheme, endpoints::Endpoint,
        },
    };

    const SECRET: &str = "whsec_0123456789abcdef";
    /// Far more than a connection without authentic calls may make, at one call per second.
    const MANY: u32 = 200;

    fn receiver(folder: &tempfile::TempDir) -> Arc<Receiver> {
        let secrets_file = folder.path().join("secrets");
        std::fs::write(&secrets_file, SECRET).unwrap();
        let allowed = AllowedPortals::new(["https://portal.example"], false).unwrap();
        let portal = allowed.iter().next().unwrap().clone();
        let endpoint = Endpoint { portal, scheme: Scheme::Bearer, secrets_file };
        let settings = ReceiverSettings {
            endpoints: Endpoints(BTreeMap::from([("okid".to_owned(), endpoint)])),
            source_rate: None,
            trusted_proxies: Vec::new(),
            forwarder: Forwarder::new(None).unwrap(),
            metrics: Arc::new(Metrics::new()),
            role: Box::new(|| Role::Leads),
            on_notification: Box::new(|_, _| true),
        };
        Arc::new(Receiver::new(settings).unwrap_or_else(|(name, error)| panic!("{name}: {error}")))
    }

    /// Calls once per second, and returns how often until the connection was closed.
    async fn calls_until_closed(token: &str) -> u32 {
        let folder = tempfile::tempdir().unwrap();
        let (mut caller, stream) = duplex(1 << 16);
        let (receiver, shutdown) = (receiver(&folder), CancellationToken::new());
        let service = Service { receiver, peer: Ipv4Addr::LOCALHOST.into(), shutdown };
        let served = tokio::spawn(service.answer(stream));
        let call = format!(
            "POST /notify/okid HTTP/1.1\r\nhost: okid\r\nauthorization: Bearer {token}\r\ncontent-length: 2\r\n\r\n{{}}"
        );
        let mut response = [0; 1024];
        for calls in 0..MANY {
            let is_open = caller.write_all(call.as_bytes()).await.is_ok()
                && caller.read(&mut response).await.is_ok_and(|read| read > 0);
            if !is_open {
                return calls;
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        served.abort();
        MANY
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_authentic_calls_is_closed() {
        assert_eq!(calls_until_closed(SECRET).await, MANY);
        let calls = calls_until_closed("whsec_forged0123456789").await;
        assert!((29..=36).contains(&calls), "{calls}");
    }
}
