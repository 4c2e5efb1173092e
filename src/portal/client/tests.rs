//! The client against portals that misbehave, over real loopback connections.

use std::{io, net::SocketAddr, sync::Arc};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
};

mod compressed;
mod unprocessed;

use super::*;
use crate::{
    portal::{allowed::AllowedPortals, error::Certainty},
    tls::InvalidCaBundle,
};

const CREATED: &str = r#"{"verificationId":"ver_1"}"#;
const DETAILS: &str = r#"{"verification_id":"ver_1","status":{"current":"verified"}}"#;

/// What a portal of a test does once it has read a request.
#[derive(Clone)]
enum Act {
    /// Answers and keeps the connection.
    Say(String),
    /// Writes this much and hangs up.
    Cut(String),
    /// Writes this, and then one more byte every few milliseconds for ever.
    Drip(String),
    /// Writes this, and then zeroes for ever.
    Flood(String),
    /// Never answers.
    Hang,
}

/// A portal that does the same for every request, and remembers them.
struct Portal {
    address: SocketAddr,
    /// The number of the connection, counted from 0, and the head of the request.
    requests: Arc<Mutex<Vec<(usize, String)>>>,
}

impl Portal {
    async fn that(act: Act) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests: Arc<Mutex<Vec<_>>> = Arc::default();
        let seen = requests.clone();
        tokio::spawn(async move {
            let mut connection = 0;
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, connection, act.clone(), seen.clone()));
                connection += 1;
            }
        });
        Self { address, requests }
    }

    async fn that_says(status: &str, headers: &str, body: &str) -> Self {
        Self::that(Act::Say(answer(status, headers, body))).await
    }

    fn url(&self) -> PortalUrl {
        plain(&format!("http://{}", self.address))
    }

    fn requests(&self) -> Vec<(usize, String)> {
        self.requests.lock().clone()
    }
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len())
}

async fn serve(
    mut stream: TcpStream,
    connection: usize,
    act: Act,
    seen: Arc<Mutex<Vec<(usize, String)>>>,
) -> io::Result<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        seen.lock().push((connection, String::from_utf8(head).unwrap().to_ascii_lowercase()));
        match &act {
            Act::Say(text) => stream.write_all(text.as_bytes()).await?,
            Act::Cut(text) => return stream.write_all(text.as_bytes()).await,
            Act::Drip(text) => {
                stream.write_all(text.as_bytes()).await?;
                loop {
                    stream.write_all(b" ").await?;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            Act::Flood(text) => {
                stream.write_all(text.as_bytes()).await?;
                loop {
                    stream.write_all(&[b'0'; 8192]).await?;
                }
            }
            Act::Hang => std::future::pending().await,
        }
    }
}

fn plain(url: &str) -> PortalUrl {
    AllowedPortals::new([url], true).unwrap().permit(url).unwrap()
}

fn client() -> PortalClient {
    PortalClient::new(ClientSettings::default()).unwrap()
}

/// A client without patience, for portals that would try it.
fn hasty() -> PortalClient {
    let total_timeout = Duration::from_millis(200);
    PortalClient::new(ClientSettings { total_timeout, ..ClientSettings::default() }).unwrap()
}

fn key() -> ApiKey {
    ApiKey::parse(b"sk_canary").unwrap()
}

fn id() -> VerificationId {
    VerificationId::parse("ver_1").unwrap()
}

#[tokio::test]
async fn a_create_is_the_guides_request() {
    let portal = Portal::that_says("200 OK", "", CREATED).await;
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
async fn a_look_is_the_guides_request() {
    let portal = Portal::that_says("200 OK", "", DETAILS).await;
    let details = client().look(&portal.url(), &key(), &id()).await.unwrap();
    assert_eq!((details.id, details.current.as_deref()), (Some(id()), Some("verified")));
    let [(_, head)] = portal.requests().try_into().unwrap();
    assert!(head.starts_with("get /api/get-verification-details/ver_1 http/1.1\r\n"), "{head}");
    assert!(head.contains("x-sdk-key: sk_canary\r\n") && head.contains("accept-encoding: identity\r\n"));
}

#[tokio::test]
async fn each_create_has_a_connection_of_its_own_and_looks_share_one() {
    let client = client();
    let portal = Portal::that_says("200 OK", "", CREATED).await;
    for _ in 0..3 {
        client.create(&portal.url(), &key()).await.unwrap();
    }
    assert_eq!(portal.requests().iter().map(|(connection, _)| *connection).collect::<Vec<_>>(), [0, 1, 2]);

    let portal = Portal::that_says("200 OK", "", DETAILS).await;
    for _ in 0..3 {
        client.look(&portal.url(), &key(), &id()).await.unwrap();
    }
    assert!(portal.requests().iter().all(|(connection, _)| *connection == 0));
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_the_key_stays() {
    let other = Portal::that_says("200 OK", "", CREATED).await;
    for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"] {
        let location = format!("location: http://{}/api/generate-verification\r\n", other.address);
        let portal = Portal::that_says(status, &location, "").await;
        assert_eq!(client().create(&portal.url(), &key()).await, Err(PortalError::Redirected), "{status}");
        assert_eq!(
            client().look(&portal.url(), &key(), &id()).await,
            Err(PortalError::Redirected),
            "{status}"
        );
    }
    assert_eq!(other.requests(), []);
}

#[tokio::test]
async fn a_cut_is_never_followed_by_a_second_request() {
    let half = format!("HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{CREATED}");
    for cut in ["", "HTTP/1.1 20", "HTTP/1.1 200 OK\r\n", "garbage\r\n\r\n", &half] {
        let portal = Portal::that(Act::Cut(cut.into())).await;
        let trouble = client().create(&portal.url(), &key()).await.unwrap_err();
        assert_eq!(
            (trouble, trouble.certainty()),
            (PortalError::Failed(Failed::Cut), Certainty::Unknown),
            "{cut}"
        );
        assert_eq!(portal.requests().len(), 1, "{cut}");
        assert_eq!(
            client().look(&portal.url(), &key(), &id()).await,
            Err(PortalError::Failed(Failed::Cut)),
            "{cut}"
        );
        assert_eq!(portal.requests().len(), 2, "{cut}");
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_left_unread() {
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffff\r\n";
    let long = "HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n";
    let endless = "HTTP/1.1 200 OK\r\n\r\n";
    for head in [chunked, long, endless] {
        let portal = Portal::that(Act::Flood(head.into())).await;
        assert_eq!(
            client().create(&portal.url(), &key()).await,
            Err(PortalError::Failed(Failed::TooLarge)),
            "{head}"
        );
        assert_eq!(
            client().look(&portal.url(), &key(), &id()).await,
            Err(PortalError::Failed(Failed::TooLarge)),
            "{head}"
        );
    }
}

#[tokio::test]
async fn a_body_may_be_as_large_as_the_limit() {
    let limit = ClientSettings::default().body_limit;
    let padded = |length: usize| format!("{CREATED}{}", " ".repeat(length - CREATED.len()));
    let portal = Portal::that_says("200 OK", "", &padded(limit)).await;
    assert!(client().create(&portal.url(), &key()).await.is_ok());
    let portal = Portal::that_says("200 OK", "", &padded(limit + 1)).await;
    assert_eq!(client().create(&portal.url(), &key()).await, Err(PortalError::Failed(Failed::TooLarge)));
}

/// Details whose `results` are so long.
fn with_results(bytes: usize) -> String {
    let portrait = "A".repeat(bytes);
    let results = format!(r#"{{"document":{{"portrait":"{portrait}"}}}}"#);
    format!(r#"{{"verification_id":"ver_1","results":{results},"status":{{"current":"verified"}}}}"#)
}

#[tokio::test]
async fn results_of_any_size_up_to_16_mib_hide_no_verdict() {
    for (bytes, fits) in [(600_000, true), (MAX_ANSWER_BYTES - 1000, true), (MAX_ANSWER_BYTES, false)] {
        let portal = Portal::that_says("200 OK", "", &with_results(bytes)).await;
        let details = client().look(&portal.url(), &key(), &id()).await;
        let current = details.map(|details| details.current);
        let expected =
            if fits { Ok(Some("verified".into())) } else { Err(PortalError::Failed(Failed::TooLarge)) };
        assert_eq!(current, expected, "{bytes}");
    }
    let chunked = Act::Flood("HTTP/1.1 200 OK\r\n\r\n{\"results\":\"".into());
    let portal = Portal::that(chunked).await;
    let endless = client().look(&portal.url(), &key(), &id()).await;
    assert_eq!(endless, Err(PortalError::Failed(Failed::TooLarge)));
}

#[tokio::test]
async fn results_are_handed_on_whole_or_not_at_all() {
    let body = with_results(600_000);
    let portal = Portal::that_says("200 OK", "", &body).await;
    let results = async |most| client().results(&portal.url(), &key(), &id(), most).await;
    assert_eq!(results(body.len()).await, Ok(body.clone().into_bytes().into()));
    assert_eq!(results(body.len() - 1).await, Err(PortalError::Failed(Failed::TooLarge)));
}

#[tokio::test]
async fn headers_without_end_are_given_up() {
    for head in ["HTTP/1.1 200 OK\r\nx-flood: ", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nx-flood: "]
    {
        let portal = Portal::that(Act::Flood(head.into())).await;
        assert_eq!(client().create(&portal.url(), &key()).await, Err(PortalError::Failed(Failed::Cut)));
    }
}

#[tokio::test]
async fn no_answer_or_one_that_drips_ends_with_the_total_time() {
    let drip = Act::Drip("HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n".into());
    for act in [Act::Hang, Act::Drip("HTTP/1.1 200 OK\r\nx-slow:".into()), drip] {
        let portal = Portal::that(act).await;
        assert_eq!(hasty().create(&portal.url(), &key()).await, Err(PortalError::Failed(Failed::TimedOut)));
        assert_eq!(
            hasty().look(&portal.url(), &key(), &id()).await,
            Err(PortalError::Failed(Failed::TimedOut))
        );
    }
}

#[tokio::test]
async fn an_error_whose_body_drips_is_still_that_error() {
    let head = "HTTP/1.1 401 Unauthorized\r\ncontent-length: 100000\r\n\r\nInvalid API key provided";
    let portal = Portal::that(Act::Drip(head.into())).await;
    let total_timeout = Duration::from_secs(1);
    let patient = PortalClient::new(ClientSettings { total_timeout, ..ClientSettings::default() }).unwrap();
    assert_eq!(patient.create(&portal.url(), &key()).await, Err(PortalError::KeyRejected));
}

#[tokio::test]
async fn a_status_and_its_headers_become_a_trouble() {
    let date = "date: Mon, 01 Jan 2024 12:00:00 GMT\r\nretry-after: Mon, 01 Jan 2024 12:01:00 GMT\r\n";
    let limited = |seconds| PortalError::Limited { retry_after: Some(Duration::from_secs(seconds)) };
    for (status, headers, body, trouble) in [
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
        let portal = Portal::that_says(status, headers, body).await;
        assert_eq!(client().create(&portal.url(), &key()).await, Err(trouble), "{status} {headers}");
        assert_eq!(client().look(&portal.url(), &key(), &id()).await, Err(trouble), "{status} {headers}");
    }
}

#[tokio::test]
async fn the_portals_time_comes_with_an_answer_in_its_own_form() {
    const HEADERS: &str = "date: Mon, 01 Jan 2024 12:00:00 GMT\r\nage: 90\r\n";
    const OTHER: &str = r#"{"verification_id":"ver_2","status":{"current":"verified"}}"#;
    let time = Some("2024-01-01T12:01:30Z".parse().unwrap());
    for (headers, expected) in [
        (HEADERS.to_owned(), time),
        (String::new(), None),
        (format!("{HEADERS}{HEADERS}"), None),
        ("date: today\r\n".to_owned(), None),
    ] {
        let portal = Portal::that_says("200 OK", &headers, CREATED).await;
        assert_eq!(client().create(&portal.url(), &key()).await.unwrap().date, expected, "{headers}");
        for (body, expected) in [(DETAILS, expected), (OTHER, None), ("{}", None)] {
            let portal = Portal::that_says("200 OK", &headers, body).await;
            let details = client().look(&portal.url(), &key(), &id()).await.unwrap();
            assert_eq!(details.date, expected, "{headers}{body}");
        }
    }
}

#[tokio::test]
async fn created_and_accepted_are_answers_too_but_no_content_is_not() {
    for status in ["200 OK", "201 Created", "202 Accepted"] {
        let portal = Portal::that_says(status, "", CREATED).await;
        assert!(client().create(&portal.url(), &key()).await.is_ok(), "{status}");
    }
    let portal = Portal::that(Act::Say("HTTP/1.1 204 No Content\r\n\r\n".into())).await;
    assert_eq!(client().create(&portal.url(), &key()).await, Err(PortalError::Failed(Failed::Unusable)));
}

#[tokio::test]
async fn a_refused_connection_is_a_request_not_sent() {
    // A port that is held, so that nobody else listens there.
    let held = TcpSocket::new_v4().unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = plain(&format!("http://{}", held.local_addr().unwrap()));
    assert_eq!(client().create(&url, &key()).await, Err(PortalError::NotSent(NotSent::Refused)));
    assert_eq!(client().look(&url, &key(), &id()).await, Err(PortalError::NotSent(NotSent::Refused)));
}

#[tokio::test]
async fn a_name_without_an_address_is_a_request_not_sent() {
    // RFC 6761 §6.4: `.invalid` has no addresses.
    let url = plain("https://portal.invalid");
    // Longer than a resolver takes that hears nothing.
    let connect_timeout = Duration::from_mins(1);
    let patient = PortalClient::new(ClientSettings {
        connect_timeout,
        total_timeout: connect_timeout,
        ..ClientSettings::default()
    });
    assert_eq!(patient.unwrap().create(&url, &key()).await, Err(PortalError::NotSent(NotSent::Resolve)));
}

#[tokio::test]
async fn a_failed_handshake_is_a_request_not_sent() {
    // Neither something that is not TLS, nor hanging up on the greeting, shows the key.
    for reply in ["HTTP/1.1 400 Bad Request\r\n\r\n", ""] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = plain(&format!("https://{}", listener.local_addr().unwrap()));
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut greeting = vec![0; 4096];
            let length = stream.read(&mut greeting).await.unwrap();
            stream.write_all(reply.as_bytes()).await.unwrap();
            greeting.truncate(length);
            greeting
        });
        assert_eq!(client().create(&url, &key()).await, Err(PortalError::NotSent(NotSent::Tls)), "{reply}");
        let greeting = server.await.unwrap();
        assert!(!greeting.windows(6).any(|window| window == b"canary"));
    }
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_a_request_not_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = plain(&format!("https://{}", listener.local_addr().unwrap()));
    let settings = ClientSettings { connect_timeout: Duration::from_millis(50), ..ClientSettings::default() };
    let error = PortalClient::new(settings).unwrap().create(&url, &key()).await;
    assert_eq!(error, Err(PortalError::NotSent(NotSent::Connect)));
}

#[tokio::test]
async fn a_configured_proxy_is_used() {
    let proxy = Portal::that_says("200 OK", "", CREATED).await;
    let address = Url::parse(&format!("http://{}", proxy.address)).unwrap();
    let client =
        PortalClient::new(ClientSettings { proxy: Some(address), ..ClientSettings::default() }).unwrap();
    client.create(&plain("http://portal.invalid"), &key()).await.unwrap();
    assert!(proxy.requests()[0].1.starts_with("post http://portal.invalid/api/generate-verification "));
}

/// Names the portal that a process of [`the_environments_proxies_are_ignored`] shall call.
const CALL_ME: &str = "OKID_TEST_PORTAL";

#[tokio::test]
async fn the_environments_proxies_are_ignored() {
    if let Ok(url) = std::env::var(CALL_ME) {
        client().create(&plain(&url), &key()).await.unwrap();
        client().look(&plain(&url), &key(), &id()).await.unwrap();
        return;
    }
    // The environment belongs to the whole process, so the same test runs in one of its own.
    let [portal, trap] =
        [Portal::that_says("200 OK", "", CREATED).await, Portal::that_says("502 Trap", "", "").await];
    let proxy = format!("http://{}", trap.address);
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "portal::client::tests::the_environments_proxies_are_ignored"]);
    child.env(CALL_ME, portal.url().as_str()).env_remove("NO_PROXY").env_remove("no_proxy");
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        child.env(name, &proxy);
    }
    let output = child.output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!((portal.requests().len(), trap.requests().len()), (2, 0));
}

#[test]
fn settings_that_cannot_work_are_refused_with_a_reason() {
    let refusal = |pem: &[u8]| {
        let settings = ClientSettings { extra_ca_pem: Some(pem.to_vec()), ..ClientSettings::default() };
        PortalClient::new(settings).err().unwrap()
    };
    assert!(matches!(
        refusal(b"no certificate"),
        InvalidClient::Trust(InvalidTrust::CaBundle(InvalidCaBundle::NoCertificate))
    ));
    assert!(matches!(
        refusal(b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"),
        InvalidClient::Trust(InvalidTrust::CaBundle(InvalidCaBundle::Block(1)))
    ));
}

#[tokio::test]
async fn hundreds_of_looks_are_in_flight_over_few_connections() {
    use axum::{
        Router,
        extract::{ConnectInfo, State},
        routing::get,
    };
    use std::collections::HashSet;
    use tokio::sync::Barrier;

    const LOOKS: usize = 300;
    type Shared = (Arc<Barrier>, Arc<Mutex<HashSet<SocketAddr>>>);

    // Nobody is answered before all have asked.
    async fn details(
        State((all, peers)): State<Shared>,
        ConnectInfo(peer): ConnectInfo<SocketAddr>,
    ) -> &'static str {
        peers.lock().insert(peer);
        all.wait().await;
        DETAILS
    }

    let shared: Shared = (Arc::new(Barrier::new(LOOKS)), Arc::default());
    let router =
        Router::new().route("/api/get-verification-details/{id}", get(details)).with_state(shared.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = plain(&format!("http://{}", listener.local_addr().unwrap()));
    tokio::spawn(
        axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>()).into_future(),
    );

    let client =
        PortalClient::new(ClientSettings { http2_prior_knowledge: true, ..ClientSettings::default() })
            .unwrap();
    let (key, id) = (key(), id());
    let looks = futures::future::join_all((0..LOOKS).map(|_| client.look(&url, &key, &id))).await;
    assert!(looks.iter().all(Result::is_ok));
    assert_eq!(shared.1.lock().len(), LOOKS.div_ceil(96));
}
