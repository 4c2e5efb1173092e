//! What callers see of a connection, and when it ends.

use std::net::Ipv4Addr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
    net::TcpStream,
};

use super::*;
use crate::webhook::{
    ReceiverSettings, Role,
    receiver::tests::{SECRET, secrets_file, settings},
};

const FORGED: &str = "whsec_forged0123456789";
/// Far more than a connection without authentic calls may make, at one call per second.
const MANY: u32 = 200;

/// A receiver with the secret.
fn receiver(change: impl FnOnce(ReceiverSettings) -> ReceiverSettings) -> Arc<Receiver> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(secrets_file(folder.path()), SECRET).unwrap();
    Arc::new(Receiver::new(change(settings(folder.path()))))
}

/// A connection of an address; `None` if it is closed at once.
fn connect(receiver: &Arc<Receiver>, peer: [u8; 4]) -> Option<DuplexStream> {
    let (caller, stream) = duplex(1 << 17);
    let peer = Ipv4Addr::from(peer).into();
    let service = Service { receiver: Arc::clone(receiver), peer, connection: receiver.connect(peer)? };
    tokio::spawn(service.handle(stream, None));
    Some(caller)
}

fn request(name: &str, token: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST /notify/{name} HTTP/1.1\r\nhost: okid\r\nauthorization: Bearer {token}\r\n{headers}content-length: {length}\r\n\r\n{body}"
    )
}

/// The head of the next response, without its date; empty if the connection was closed.
async fn response(caller: &mut (impl AsyncRead + Unpin)) -> String {
    let mut response = Vec::new();
    while !response.ends_with(b"\r\n\r\n") {
        match caller.read_u8().await {
            Ok(byte) => response.push(byte),
            Err(_) => return String::new(),
        }
    }
    let response = String::from_utf8(response).unwrap();
    response.lines().filter(|line| !line.starts_with("date:")).collect::<Vec<_>>().join("\n")
}

async fn call(caller: &mut DuplexStream, request: &str) -> String {
    match caller.write_all(request.as_bytes()).await {
        Ok(()) => response(caller).await,
        Err(_) => String::new(),
    }
}

/// Calls once per second, and returns how often until the connection was closed.
async fn calls_until_closed(receiver: &Arc<Receiver>, token: &str) -> u32 {
    let mut caller = connect(receiver, [192, 0, 2, 1]).unwrap();
    let request = request("okid", token, "", "{}");
    for calls in 0..MANY {
        if call(&mut caller, &request).await.is_empty() {
            return calls;
        }
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    MANY
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_authentic_calls_is_closed() {
    let receiver = receiver(|settings| settings);
    assert_eq!(calls_until_closed(&receiver, SECRET).await, MANY);
    let calls = calls_until_closed(&receiver, FORGED).await;
    assert!((29..=36).contains(&calls), "{calls}");
    assert_eq!(receiver.count("okid_webhook_connections_closed_total{reason=\"unauthenticated\"}"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_not_authentic_gets_the_same_response_for_every_reason() {
    let receiver = receiver(|settings| settings);
    let expected = "HTTP/1.1 401 Unauthorized\ncontent-length: 0\n";
    let large = "x".repeat((64 << 10) + 1);
    let cut = request("okid", SECRET, "", "{}");
    for call in [
        request("okid", FORGED, "", "{}"),
        request("okid", "", "", "{}"),
        request("nobody", SECRET, "", "{}"),
        request("okid", SECRET, &format!("authorization: Bearer {SECRET}\r\n"), "{}"),
        request("okid", SECRET, "", &large),
        cut[..cut.len() - 1].to_owned(),
    ] {
        let mut caller = connect(&receiver, [192, 0, 2, 1]).unwrap();
        assert_eq!(self::call(&mut caller, &call).await, expected, "{}", &call[..80]);
    }
    let count = |result| {
        receiver.count(&format!("okid_webhook_notifications_total{{name=\"okid\",result=\"{result}\"}}"))
    };
    assert_eq!((count("unauthenticated"), count("incomplete")), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn after_the_shutdown_nothing_is_accepted_any_more() {
    let receiver = receiver(|settings| settings);
    let mut caller = connect(&receiver, [192, 0, 2, 1]).unwrap();
    let request = request("okid", SECRET, "", "{}");
    let (first, last) = request.split_at(request.len() - 1);
    caller.write_all(first.as_bytes()).await.unwrap();
    // The connection is idle only once the call has begun.
    tokio::time::advance(Duration::from_secs(1)).await;
    receiver.shutdown.cancel();
    let answer = call(&mut caller, last).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: 2"), "{answer}");
    assert_eq!(response(&mut caller).await, "", "the connection is closed");
    assert_eq!(receiver.count("okid_webhook_notifications_total{name=\"okid\",result=\"stopping\"}"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_closes_its_side_after_a_call_still_gets_the_response() {
    // A leader that never responds.
    let leader = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = leader.local_addr().unwrap();
    let role = Box::new(move || Role::Standby(Some(address)));
    let receiver = receiver(|settings| ReceiverSettings { role, ..settings });
    let mut caller = connect(&receiver, [192, 0, 2, 1]).unwrap();
    caller.write_all(request("okid", SECRET, "", "{}").as_bytes()).await.unwrap();
    caller.shutdown().await.unwrap();
    let answer = response(&mut caller).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert_eq!(response(&mut caller).await, "", "the connection is closed");
    assert_eq!(receiver.count("okid_webhook_notifications_total{name=\"okid\",result=\"no_leader\"}"), 1);
}

#[tokio::test]
async fn calls_that_have_begun_are_answered_before_the_port_ends() {
    let receiver = receiver(|settings| settings);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let mut caller = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let mut serving = std::pin::pin!(serve(listener, Arc::clone(&receiver), None));
    let request = request("okid", SECRET, "expect: 100-continue\r\n", "{}");
    let (head, body) = request.split_at(request.len() - 2);
    let begun = async {
        caller.write_all(head.as_bytes()).await.unwrap();
        response(&mut caller).await
    };
    tokio::select! {
        () = serving.as_mut() => unreachable!("it ends at the shutdown"),
        begun = begun => assert!(begun.starts_with("HTTP/1.1 100 "), "{begun}"),
    }
    receiver.shutdown.cancel();
    assert!(futures::poll!(serving.as_mut()).is_pending(), "a call has begun");
    let answered = async {
        caller.write_all(body.as_bytes()).await.unwrap();
        response(&mut caller).await
    };
    let ((), answer) = tokio::join!(serving, answered);
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn calls_that_a_proxy_carries_slowly_for_one_client_keep_nobody_out() {
    let trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
    let receiver = receiver(|settings| ReceiverSettings { trusted_proxies, ..settings });
    let from = |client: &str, token| request("okid", token, &format!("x-forwarded-for: {client}\r\n"), "{}");
    let mut other = connect(&receiver, [10, 0, 0, 2]).unwrap();
    let authentic = from("192.0.2.2", SECRET);
    let (first, last) = authentic.split_at(authentic.len() - 1);
    other.write_all(first.as_bytes()).await.unwrap();
    let forged = from("192.0.2.1", FORGED);
    let mut flood = Vec::new();
    for _ in 0..1_000 {
        let mut caller = connect(&receiver, [10, 0, 0, 1]).unwrap();
        caller.write_all(&forged.as_bytes()[..forged.len() - 1]).await.unwrap();
        tokio::task::yield_now().await;
        flood.push(caller);
    }
    let answer = call(&mut other, last).await;
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    assert_eq!(receiver.count("okid_webhook_connections_closed_total{reason=\"displaced\"}"), 489);
}

#[tokio::test(start_paused = true)]
async fn many_addresses_with_calls_that_are_refused_do_not_close_an_authentic_connection() {
    let receiver = receiver(|settings| settings);
    let mut portal = connect(&receiver, [192, 0, 2, 1]).unwrap();
    let authentic = request("okid", SECRET, "", "{}");
    assert!(call(&mut portal, &authentic).await.starts_with("HTTP/1.1 202 "));
    let address = |number: u16| [10, 0, number.to_be_bytes()[0], number.to_be_bytes()[1]];
    let mut flood: Vec<_> = (0..2_000).map(|number| connect(&receiver, address(number))).collect();
    tokio::task::yield_now().await;
    assert!(call(&mut portal, &authentic).await.starts_with("HTTP/1.1 202 "));
    let mut again = connect(&receiver, [192, 0, 2, 1]).unwrap();
    assert!(call(&mut again, &authentic).await.starts_with("HTTP/1.1 202 "));
    let first = flood[0].as_mut().unwrap();
    assert_eq!(call(first, &authentic).await, "", "it gave way");
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_is_not_completed_ends() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["okid-operator.test".to_owned()]).unwrap();
    let file = |name: &str, text: String| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        file
    };
    let certificate = Certificate::load(crate::webhook::CertificateFiles {
        certificate: file("tls.crt", made.cert.pem()),
        key: file("tls.key", made.signing_key.serialize_pem()),
    });
    let receiver = receiver(|settings| settings);
    let peer = Ipv4Addr::LOCALHOST.into();
    let (mut caller, stream) = duplex(1024);
    let service =
        Service { receiver: Arc::clone(&receiver), peer, connection: receiver.connect(peer).unwrap() };
    let acceptor = TlsAcceptor::from(certificate.unwrap().config());
    let begun = tokio::time::Instant::now();
    let served = tokio::spawn(service.handle(stream, Some(acceptor)));
    assert_eq!(caller.read(&mut [0]).await.unwrap(), 0, "it is closed");
    served.await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), HEAD_WITHIN.as_secs());
    assert_eq!(receiver.count("okid_webhook_connections_closed_total{reason=\"handshake\"}"), 1);
}
