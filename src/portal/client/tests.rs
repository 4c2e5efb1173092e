//! The client against misbehaving portals, over real loopback connections.

use std::{io, net::SocketAddr, sync::Arc};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
};

mod compressed;
mod connecting;
mod unprocessed;

use super::*;
use crate::{
    portal::{allowed::AllowedPortals, error::Certainty},
    tls::InvalidCaBundle,
};

const CREATED: &str = r#"{"verificationId":"ver_1"}"#;
const DETAILS: &str = r#"{"verification_id":"ver_1","status":{"current":"verified"}}"#;

/// What a test portal does after it has read a request.
#[derive(Clone)]
enum Behavior {
    /// Responds and keeps the connection open.
    Respond(String),
    /// Writes this much and hangs up.
    Cut(String),
    /// Writes this, and then one more byte every few milliseconds forever.
    Drip(String),
    /// Writes this, and then zeros forever.
    Flood(String),
    /// Never responds.
    Hang,
}

/// A portal with the same behavior for every request, which records them.
struct Portal {
    address: SocketAddr,
    /// The number of the connection, counted from 0, and the head of the request.
    requests: Arc<Mutex<Vec<(usize, String)>>>,
}

impl Portal {
    async fn new(behavior: Behavior) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests: Arc<Mutex<Vec<_>>> = Arc::default();
        let seen = requests.clone();
        tokio::spawn(async move {
            let mut connection = 0;
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, connection, behavior.clone(), seen.clone()));
                connection += 1;
            }
        });
        Self { address, requests }
    }

    async fn responding(status: &str, headers: &str, body: &str) -> Self {
        Self::new(Behavior::Respond(response(status, headers, body))).await
    }

    fn url(&self) -> PortalUrl {
        plain(&format!("http://{}", self.address))
    }

    fn requests(&self) -> Vec<(usize, String)> {
        self.requests.lock().clone()
    }
}

fn response(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len())
}

async fn serve(
    mut stream: TcpStream,
    connection: usize,
    behavior: Behavior,
    seen: Arc<Mutex<Vec<(usize, String)>>>,
) -> io::Result<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        seen.lock().push((connection, String::from_utf8(head).unwrap().to_ascii_lowercase()));
        match &behavior {
            Behavior::Respond(text) => stream.write_all(text.as_bytes()).await?,
            Behavior::Cut(text) => return stream.write_all(text.as_bytes()).await,
            Behavior::Drip(text) => {
                stream.write_all(text.as_bytes()).await?;
                loop {
                    stream.write_all(b" ").await?;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            Behavior::Flood(text) => {
                stream.write_all(text.as_bytes()).await?;
                loop {
                    stream.write_all(&[b'0'; 8192]).await?;
                }
            }
            Behavior::Hang => std::future::pending().await,
        }
    }
}

fn plain(url: &str) -> PortalUrl {
    AllowedPortals::new([url], true).unwrap().permit(url).unwrap()
}

fn client() -> PortalClient {
    PortalClient::new(&ClientSettings::default()).unwrap()
}

/// A client with a short timeout.
fn client_with_short_timeout() -> PortalClient {
    let total_timeout = Duration::from_millis(200);
    PortalClient::new(&ClientSettings { total_timeout, ..ClientSettings::default() }).unwrap()
}

fn key() -> ApiKey {
    ApiKey::parse(b"sk_canary").unwrap()
}

fn id() -> VerificationId {
    VerificationId::parse("ver_1").unwrap()
}

#[tokio::test]
async fn a_create_sends_the_guides_request() {
    let portal = Portal::responding("200 OK", "", CREATED).await;
    let created = client().create(&portal.url(), &key()).await.unwrap();
    assert_eq!(created.id, id());
    let [(_, head)] = portal.requests().try_into().unwrap();
    assert!(head.starts_with("post /api/generate-verification http/1.1\r\n"), "{head}");
    let agent = concat!("user-agent: okid-operator/", env!("CARGO_PKG_VERSION"));
    for line in ["content-type: application/json", "x-sdk-key: sk_canary", "content-length: 0", agent] {
        assert!(head.contains(&format!("{line}\r\n")), "{line} in {head}");
    }
    assert!(head.contains("accept-encoding: identity\r\n") && !head.contains("referer:"), "{head}");
}

#[tokio::test]
async fn a_poll_sends_the_guides_request() {
    let portal = Portal::responding("200 OK", "", DETAILS).await;
    let details = client().poll(&portal.url(), &key(), &id()).await.unwrap();
    assert_eq!((details.id, details.current.as_deref()), (Some(id()), Some("verified")));
    let [(_, head)] = portal.requests().try_into().unwrap();
    assert!(head.starts_with("get /api/get-verification-details/ver_1 http/1.1\r\n"), "{head}");
    assert!(head.contains("x-sdk-key: sk_canary\r\n") && head.contains("accept-encoding: identity\r\n"));
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_the_key_is_not_sent_along() {
    let other = Portal::responding("200 OK", "", CREATED).await;
    for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"] {
        let location = format!("location: http://{}/api/generate-verification\r\n", other.address);
        let portal = Portal::responding(status, &location, "").await;
        assert_eq!(client().create(&portal.url(), &key()).await, Err(PortalError::Redirected), "{status}");
        assert_eq!(
            client().poll(&portal.url(), &key(), &id()).await,
            Err(PortalError::Redirected),
            "{status}"
        );
    }
    assert_eq!(other.requests(), []);
}

#[tokio::test]
async fn a_closed_connection_is_never_followed_by_a_second_request() {
    let half = format!("HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{CREATED}");
    for cut in ["", "HTTP/1.1 20", "HTTP/1.1 200 OK\r\n", "garbage\r\n\r\n", &half] {
        let portal = Portal::new(Behavior::Cut(cut.into())).await;
        let error = client().create(&portal.url(), &key()).await.unwrap_err();
        assert_eq!(
            (error, error.certainty()),
            (PortalError::Failed(Failed::Cut), Certainty::Unknown),
            "{cut}"
        );
        assert_eq!(portal.requests().len(), 1, "{cut}");
        assert_eq!(
            client().poll(&portal.url(), &key(), &id()).await,
            Err(PortalError::Failed(Failed::Cut)),
            "{cut}"
        );
        assert_eq!(portal.requests().len(), 2, "{cut}");
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_not_read() {
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffff\r\n";
    let long = "HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n";
    let endless = "HTTP/1.1 200 OK\r\n\r\n";
    for head in [chunked, long, endless] {
        let portal = Portal::new(Behavior::Flood(head.into())).await;
        assert_eq!(
            client().create(&portal.url(), &key()).await,
            Err(PortalError::Failed(Failed::TooLarge)),
            "{head}"
        );
        assert_eq!(
            client().poll(&portal.url(), &key(), &id()).await,
            Err(PortalError::Failed(Failed::TooLarge)),
            "{head}"
        );
    }
}

#[tokio::test]
async fn a_body_may_be_as_large_as_the_limit() {
    let limit = ClientSettings::default().body_limit;
    let padded = |length: usize| format!("{CREATED}{}", " ".repeat(length - CREATED.len()));
    let portal = Portal::responding("200 OK", "", &padded(limit)).await;
    assert!(client().create(&portal.url(), &key()).await.is_ok());
    let portal = Portal::responding("200 OK", "", &padded(limit + 1)).await;
    assert_eq!(client().create(&portal.url(), &key()).await, Err(PortalError::Failed(Failed::TooLarge)));
}

/// Details with `results` of this length.
fn with_results(bytes: usize) -> String {
    let portrait = "A".repeat(bytes);
    let results = format!(r#"{{"document":{{"portrait":"{portrait}"}}}}"#);
    format!(r#"{{"verification_id":"ver_1","results":{results},"status":{{"current":"verified"}}}}"#)
}

#[tokio::test]
async fn results_of_any_size_up_to_16_mib_hide_no_verdict() {
    for (bytes, fits) in [(600_000, true), (MAX_RESPONSE_BYTES - 1000, true), (MAX_RESPONSE_BYTES, false)] {
        let portal = Portal::responding("200 OK", "", &with_results(bytes)).await;
        let details = client().poll(&portal.url(), &key(), &id()).await;
        let current = details.map(|details| details.current);
        let expected =
            if fits { Ok(Some("verified".into())) } else { Err(PortalError::Failed(Failed::TooLarge)) };
        assert_eq!(current, expected, "{bytes}");
    }
    let chunked = Behavior::Flood("HTTP/1.1 200 OK\r\n\r\n{\"results\":\"".into());
    let portal = Portal::new(chunked).await;
    let endless = client().poll(&portal.url(), &key(), &id()).await;
    assert_eq!(endless, Err(PortalError::Failed(Failed::TooLarge)));
}

#[tokio::test]
async fn results_are_returned_completely_or_not_at_all() {
    let body = with_results(600_000);
    let portal = Portal::responding("200 OK", "", &body).await;
    let results = async |most| client().results(&portal.url(), &key(), &id(), most).await;
    assert_eq!(results(body.len()).await, Ok(body.clone().into_bytes().into()));
    assert_eq!(results(body.len() - 1).await, Err(PortalError::Failed(Failed::TooLarge)));
}

#[tokio::test]
async fn endless_headers_fail() {
    for head in ["HTTP/1.1 200 OK\r\nx-flood: ", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nx-flood: "]
    {
        let portal = Portal::new(Behavior::Flood(head.into())).await;
        assert_eq!(client().create(&portal.url(), &key()).await, Err(PortalError::Failed(Failed::Cut)));
    }
}

#[tokio::test]
async fn a_missing_or_dripping_response_fails_after_the_total_timeout() {
    let drip = Behavior::Drip("HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n".into());
    for behavior in [Behavior::Hang, Behavior::Drip("HTTP/1.1 200 OK\r\nx-slow:".into()), drip] {
        let portal = Portal::new(behavior).await;
        assert_eq!(
            client_with_short_timeout().create(&portal.url(), &key()).await,
            Err(PortalError::Failed(Failed::TimedOut))
        );
        assert_eq!(
            client_with_short_timeout().poll(&portal.url(), &key(), &id()).await,
            Err(PortalError::Failed(Failed::TimedOut))
        );
    }
}

#[tokio::test]
async fn an_error_with_a_dripping_body_is_still_that_error() {
    let head = "HTTP/1.1 401 Unauthorized\r\ncontent-length: 100000\r\n\r\nInvalid API key provided";
    let portal = Portal::new(Behavior::Drip(head.into())).await;
    let total_timeout = Duration::from_secs(1);
    let patient = PortalClient::new(&ClientSettings { total_timeout, ..ClientSettings::default() }).unwrap();
    assert_eq!(patient.create(&portal.url(), &key()).await, Err(PortalError::KeyRejected));
}

#[tokio::test]
async fn a_status_and_its_headers_become_an_error() {
    let date = "date: Mon, 01 Jan 2024 12:00:00 GMT\r\nretry-after: Mon, 01 Jan 2024 12:01:00 GMT\r\n";
    let limited = |seconds| PortalError::Limited { retry_after: Some(Duration::from_secs(seconds)) };
    for (status, headers, body, error) in [
        ("401 Unauthorized", "", r#"{"error":"Invalid API key provided"}"#, PortalError::KeyRejected),
        ("403 Forbidden", "", r#"{"error":"no"}"#, PortalError::AccessDenied),
        ("403 Forbidden", "", "", PortalError::Unclear { status: 403 }),
        ("404 Not Found", "", "default backend - 404", PortalError::Unclear { status: 404 }),
        ("401 Unauthorized", "", "<html>", PortalError::Unclear { status: 401 }),
        ("429 Too Many", "retry-after: 7\r\n", "", limited(7)),
        ("429 Too Many", date, "", limited(60)),
        ("429 Too Many", "retry-after: -7\r\n", "", PortalError::Limited { retry_after: None }),
        ("503 Unavailable", "retry-after: 7\r\n", "", limited(7)),
        ("503 Unavailable", "", "", PortalError::Failed(Failed::ServerError(503))),
        ("500 Error", "", r#"{"error":"Server not configured"}"#, PortalError::Unconfigured),
        ("500 Error", "", "boom", PortalError::Failed(Failed::ServerError(500))),
        ("600 What", "", CREATED, PortalError::Failed(Failed::UnknownStatus(600))),
        ("200 OK", "", "", PortalError::Failed(Failed::Unusable)),
        ("200 OK", "", "<html>", PortalError::Failed(Failed::Unusable)),
    ] {
        let portal = Portal::responding(status, headers, body).await;
        assert_eq!(client().create(&portal.url(), &key()).await, Err(error), "{status} {headers}");
        assert_eq!(client().poll(&portal.url(), &key(), &id()).await, Err(error), "{status} {headers}");
    }
}

#[tokio::test]
async fn the_portals_time_is_part_of_a_valid_response() {
    const HEADERS: &str = "date: Mon, 01 Jan 2024 12:00:00 GMT\r\nage: 90\r\n";
    const OTHER: &str = r#"{"verification_id":"ver_2","status":{"current":"verified"}}"#;
    let time = Some("2024-01-01T12:01:30Z".parse().unwrap());
    for (headers, expected) in [
        (HEADERS.to_owned(), time),
        (String::new(), None),
        (format!("{HEADERS}{HEADERS}"), None),
        ("date: today\r\n".to_owned(), None),
    ] {
        let portal = Portal::responding("200 OK", &headers, CREATED).await;
        assert_eq!(client().create(&portal.url(), &key()).await.unwrap().date, expected, "{headers}");
        for (body, expected) in [(DETAILS, expected), (OTHER, None), ("{}", None)] {
            let portal = Portal::responding("200 OK", &headers, body).await;
            let details = client().poll(&portal.url(), &key(), &id()).await.unwrap();
            assert_eq!(details.date, expected, "{headers}{body}");
        }
    }
}

#[tokio::test]
async fn created_and_accepted_are_successes_but_no_content_is_not() {
    for status in ["200 OK", "201 Created", "202 Accepted"] {
        let portal = Portal::responding(status, "", CREATED).await;
        assert!(client().create(&portal.url(), &key()).await.is_ok(), "{status}");
    }
    let portal = Portal::new(Behavior::Respond("HTTP/1.1 204 No Content\r\n\r\n".into())).await;
    assert_eq!(client().create(&portal.url(), &key()).await, Err(PortalError::Failed(Failed::Unusable)));
}
