//! HTTP/2 streams that a peer says it did not process, or does not let begin.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// Frames of RFC 9113 §6: SETTINGS without a setting, `RST_STREAM` of stream 1 with `REFUSED_STREAM`, GOAWAY before stream 1.
const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
const REFUSED: &[u8] = b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\x07";
const GOAWAY: &[u8] = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0";
const HEADERS: u8 = 1;

/// A portal whose first connections answer a request with that frame, and whose later ones answer it well.
struct Peer {
    url: PortalUrl,
    connections: Arc<AtomicUsize>,
}

impl Peer {
    async fn that_says(frame: &'static [u8], times: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = plain(&format!("http://{}", listener.local_addr().unwrap()));
        let connections: Arc<AtomicUsize> = Arc::default();
        let counted = connections.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if counted.fetch_add(1, Ordering::Relaxed) < times {
                    tokio::spawn(refuse(stream, frame));
                } else {
                    tokio::spawn(answer_well(stream));
                }
            }
        });
        Self { url, connections }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// Reads frames up to the first HEADERS, answers with the frame, and reads on.
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

async fn answer_well(stream: TcpStream) -> Result<(), h2::Error> {
    let mut connection = h2::server::handshake(stream).await?;
    while let Some(request) = connection.accept().await {
        let (_, mut respond) = request?;
        let mut body = respond.send_response(http::Response::new(()), false)?;
        body.send_data(DETAILS.into(), true)?;
    }
    Ok(())
}

fn client_of_http2() -> PortalClient {
    PortalClient::new(ClientSettings { http2_prior_knowledge: true, ..ClientSettings::default() }).unwrap()
}

#[tokio::test]
async fn a_poll_that_surely_was_not_processed_is_sent_again_on_another_connection() {
    for frame in [REFUSED, GOAWAY] {
        let peer = Peer::that_says(frame, 1).await;
        let details = client_of_http2().look(&peer.url, &key(), &id()).await.unwrap();
        assert_eq!((details.id, peer.connections()), (Some(id()), 2), "{}", frame.escape_ascii());
    }
}

#[tokio::test]
async fn it_is_sent_again_once() {
    for frame in [REFUSED, GOAWAY] {
        let peer = Peer::that_says(frame, 9).await;
        let error = client_of_http2().look(&peer.url, &key(), &id()).await;
        assert_eq!(error, Err(PortalError::Failed(Failed::Cut)), "{}", frame.escape_ascii());
        assert_eq!(peer.connections(), 2, "{}", frame.escape_ascii());
    }
}

#[tokio::test]
async fn a_peer_that_allows_five_streams_gets_more_connections() {
    use tokio::sync::watch;

    const POLLS: usize = 60;
    /// As many as must have asked at the same time before anybody is answered: more than eight connections take.
    const ASKING: usize = 45;

    async fn five_at_a_time(stream: TcpStream, asking: watch::Sender<usize>) -> Result<(), h2::Error> {
        let mut builder = h2::server::Builder::new();
        let mut connection = builder.max_concurrent_streams(5).handshake::<_, bytes::Bytes>(stream).await?;
        while let Some(request) = connection.accept().await {
            let (_, mut respond) = request?;
            let (asking, mut seen) = (asking.clone(), asking.subscribe());
            tokio::spawn(async move {
                asking.send_modify(|asking| *asking += 1);
                // Whose poll went elsewhere asks there.
                let left = std::future::poll_fn(|context| respond.poll_reset(context));
                tokio::select! {
                    _ = left => {
                        asking.send_modify(|asking| *asking -= 1);
                        return Ok(());
                    }
                    () = async { drop(seen.wait_for(|asking| *asking >= ASKING).await) } => {
                        asking.send_modify(|asking| *asking += 1000);
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
        let asking = watch::Sender::new(0);
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(five_at_a_time(stream, asking.clone()));
        }
    });
    let client = PortalClient::new(ClientSettings {
        http2_prior_knowledge: true,
        patience: Duration::from_millis(300),
        ..ClientSettings::default()
    })
    .unwrap();
    let (key, id) = (key(), id());
    let polls = futures::future::join_all((0..POLLS).map(|_| client.look(&url, &key, &id))).await;
    // A new connection is used before its peer has said how much it takes, so that one may be refused twice; that is told at
    // once. Nobody waits until the time is over.
    let failed: Vec<_> = polls.iter().filter_map(|poll| poll.as_ref().err()).collect();
    assert!(failed.iter().all(|error| **error == PortalError::Failed(Failed::Cut)), "{failed:?}");
    assert!(failed.len() <= POLLS / 10, "{failed:?}");
}
