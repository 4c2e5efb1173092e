//! HTTP/2 streams that a peer says it did not process, or does not accept.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// Frames of RFC 9113 §6: empty SETTINGS, `RST_STREAM` of stream 1 with `REFUSED_STREAM`, GOAWAY before stream 1.
const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
const REFUSED: &[u8] = b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\x07";
const GOAWAY: &[u8] = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0";
const HEADERS: u8 = 1;

/// A portal whose first connections respond with a frame that refuses the request, and whose later ones succeed.
struct Peer {
    url: PortalUrl,
    connections: Arc<AtomicUsize>,
}

impl Peer {
    async fn refusing_with(frame: &'static [u8], times: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = plain(&format!("http://{}", listener.local_addr().unwrap()));
        let connections: Arc<AtomicUsize> = Arc::default();
        let counted = connections.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if counted.fetch_add(1, Ordering::Relaxed) < times {
                    tokio::spawn(refuse(stream, frame));
                } else {
                    tokio::spawn(respond(stream));
                }
            }
        });
        Self { url, connections }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// Reads frames; responds to each HEADERS with the frame.
async fn refuse(mut stream: TcpStream, frame: &[u8]) -> io::Result<()> {
    stream.read_exact(&mut [0; 24]).await?;
    stream.write_all(SETTINGS).await?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        stream.read_exact(&mut vec![0; usize::try_from(length).unwrap()]).await?;
        if head[3] == HEADERS {
            stream.write_all(frame).await?;
        }
    }
}

async fn respond(stream: TcpStream) -> Result<(), h2::Error> {
    let mut connection = h2::server::handshake(stream).await?;
    while let Some(request) = connection.accept().await {
        let (_, mut respond) = request?;
        let mut body = respond.send_response(http::Response::new(()), false)?;
        body.send_data(DETAILS.into(), true)?;
    }
    Ok(())
}

fn http2_client() -> PortalClient {
    PortalClient::new(&ClientSettings { http2_prior_knowledge: true, ..ClientSettings::default() }).unwrap()
}

#[tokio::test]
async fn a_poll_that_was_certainly_not_processed_is_retried_on_another_connection() {
    for frame in [REFUSED, GOAWAY] {
        let peer = Peer::refusing_with(frame, 1).await;
        let details = http2_client().poll(&peer.url, &key(), &id()).await.unwrap();
        assert_eq!((details.id, peer.connections()), (Some(id()), 2), "{}", frame.escape_ascii());
    }
}

#[tokio::test]
async fn such_a_poll_is_retried_once() {
    for frame in [REFUSED, GOAWAY] {
        let peer = Peer::refusing_with(frame, 9).await;
        let error = http2_client().poll(&peer.url, &key(), &id()).await;
        assert_eq!(error, Err(PortalError::Failed(Failed::Cut)), "{}", frame.escape_ascii());
        assert_eq!(peer.connections(), 2, "{}", frame.escape_ascii());
    }
}

#[tokio::test]
async fn a_peer_that_allows_five_streams_gets_more_connections() {
    use tokio::sync::watch;

    const POLLS: usize = 60;
    /// So many must be in flight before any gets a response: more than eight connections accept.
    const CONCURRENT: usize = 45;

    async fn five_at_a_time(stream: TcpStream, in_flight: watch::Sender<usize>) -> Result<(), h2::Error> {
        let mut builder = h2::server::Builder::new();
        let mut connection = builder.max_concurrent_streams(5).handshake::<_, bytes::Bytes>(stream).await?;
        while let Some(request) = connection.accept().await {
            let (_, mut respond) = request?;
            let (in_flight, mut seen) = (in_flight.clone(), in_flight.subscribe());
            tokio::spawn(async move {
                in_flight.send_modify(|in_flight| *in_flight += 1);
                // A poll that moved to another connection counts there.
                let left = std::future::poll_fn(|context| respond.poll_reset(context));
                tokio::select! {
                    _ = left => {
                        in_flight.send_modify(|in_flight| *in_flight -= 1);
                        return Ok(());
                    }
                    () = async { drop(seen.wait_for(|in_flight| *in_flight >= CONCURRENT).await) } => {
                        in_flight.send_modify(|in_flight| *in_flight += 1000);
                    }
                }
                respond.send_response(http::Response::new(()), false)?.send_data(DETAILS.into(), true)
            });
        }
        Ok(())
    }

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = plain(&format!("http://{}", listener.local_addr().unwrap()));
    tokio::spawn(async move {
        let in_flight = watch::Sender::new(0);
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(five_at_a_time(stream, in_flight.clone()));
        }
    });
    let client = PortalClient::new(&ClientSettings {
        http2_prior_knowledge: true,
        slow_after: Duration::from_millis(300),
        ..ClientSettings::default()
    })
    .unwrap();
    let (key, id) = (key(), id());
    let polls = futures::future::join_all((0..POLLS).map(|_| client.poll(&url, &key, &id))).await;
    // A new connection is used before its peer has announced its limit, so that a poll may be refused twice, which fails at
    // once. No poll waits until the timeout.
    let failed: Vec<_> = polls.iter().filter_map(|poll| poll.as_ref().err()).collect();
    assert!(failed.iter().all(|error| **error == PortalError::Failed(Failed::Cut)), "{failed:?}");
    assert!(failed.len() <= POLLS / 10, "{failed:?}");
}
