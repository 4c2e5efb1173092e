//! Connections: how many there are, proxies, and those that cannot be established.

use super::*;

#[tokio::test]
async fn a_refused_connection_is_a_request_not_sent() {
    // A bound port, so that no other process listens there.
    let bound = TcpSocket::new_v4().unwrap();
    bound.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = plain(&format!("http://{}", bound.local_addr().unwrap()));
    assert_eq!(client().create(&url, &key()).await, Err(PortalError::NotSent(NotSent::Refused)));
    assert_eq!(client().poll(&url, &key(), &id()).await, Err(PortalError::NotSent(NotSent::Refused)));
}

#[tokio::test]
async fn a_name_without_an_address_is_a_request_not_sent() {
    // RFC 6761 §6.4: `.invalid` has no addresses.
    let url = plain("https://portal.invalid");
    // Longer than a resolver waits for a silent name server.
    let connect_timeout = Duration::from_mins(1);
    let patient = PortalClient::new(&ClientSettings {
        connect_timeout,
        total_timeout: connect_timeout,
        ..ClientSettings::default()
    });
    assert_eq!(patient.unwrap().create(&url, &key()).await, Err(PortalError::NotSent(NotSent::Resolve)));
}

#[tokio::test]
async fn a_failed_handshake_is_a_request_not_sent() {
    // Neither a response that is not TLS nor a hang-up reveals the key.
    for reply in ["HTTP/1.1 400 Bad Request\r\n\r\n", ""] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = plain(&format!("https://{}", listener.local_addr().unwrap()));
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut client_hello = vec![0; 4096];
            let length = stream.read(&mut client_hello).await.unwrap();
            stream.write_all(reply.as_bytes()).await.unwrap();
            client_hello.truncate(length);
            client_hello
        });
        assert_eq!(client().create(&url, &key()).await, Err(PortalError::NotSent(NotSent::Tls)), "{reply}");
        let client_hello = server.await.unwrap();
        assert!(!client_hello.windows(6).any(|window| window == b"canary"));
    }
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_a_request_not_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = plain(&format!("https://{}", listener.local_addr().unwrap()));
    let settings = ClientSettings { connect_timeout: Duration::from_millis(50), ..ClientSettings::default() };
    let error = PortalClient::new(&settings).unwrap().create(&url, &key()).await;
    assert_eq!(error, Err(PortalError::NotSent(NotSent::Connect)));
}

#[tokio::test]
async fn a_connection_that_was_established_too_late_is_a_request_not_sent() {
    let portal = Portal::responding("200 OK", "", CREATED).await;
    let trust = tls::client_config(None).unwrap();
    let builder = common(&ClientSettings::default(), trust).unwrap();
    let late = builder.connector_layer(ConnectDeadline(Duration::ZERO)).build().unwrap();
    let error = late.post(portal.url().create_url()).send().await.unwrap_err();
    assert_eq!(classify_transport(&error), PortalError::NotSent(NotSent::Connect));
    assert!(portal.requests().is_empty());
}

#[tokio::test]
async fn a_configured_proxy_is_used() {
    let proxy = Portal::responding("200 OK", "", CREATED).await;
    let address = Url::parse(&format!("http://{}", proxy.address)).unwrap();
    let client =
        PortalClient::new(&ClientSettings { proxy: Some(address), ..ClientSettings::default() }).unwrap();
    client.create(&plain("http://portal.invalid"), &key()).await.unwrap();
    assert!(proxy.requests()[0].1.starts_with("post http://portal.invalid/api/generate-verification "));
}

/// The environment variable with the portal for the child process of [`the_environments_proxies_are_ignored`].
const PORTAL_VARIABLE: &str = "OKID_TEST_PORTAL";

#[tokio::test]
async fn the_environments_proxies_are_ignored() {
    if let Ok(url) = std::env::var(PORTAL_VARIABLE) {
        client().create(&plain(&url), &key()).await.unwrap();
        client().poll(&plain(&url), &key(), &id()).await.unwrap();
        return;
    }
    // The environment is shared by the whole process, so the same test runs in a child process.
    let [portal, trap] =
        [Portal::responding("200 OK", "", CREATED).await, Portal::responding("502 Trap", "", "").await];
    let proxy = format!("http://{}", trap.address);
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "portal::client::tests::connecting::the_environments_proxies_are_ignored"]);
    child.env(PORTAL_VARIABLE, portal.url().as_str()).env_remove("NO_PROXY").env_remove("no_proxy");
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        child.env(name, &proxy);
    }
    let output = child.output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!((portal.requests().len(), trap.requests().len()), (2, 0));
}

#[test]
fn invalid_settings_are_refused_with_a_reason() {
    let refusal = |pem: &[u8]| {
        let settings = ClientSettings { extra_ca_pem: Some(pem.to_vec()), ..ClientSettings::default() };
        PortalClient::new(&settings).err().unwrap()
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
async fn each_create_has_a_connection_of_its_own_and_polls_share_one() {
    let client = client();
    let portal = Portal::responding("200 OK", "", CREATED).await;
    for _ in 0..3 {
        client.create(&portal.url(), &key()).await.unwrap();
    }
    assert_eq!(portal.requests().iter().map(|(connection, _)| *connection).collect::<Vec<_>>(), [0, 1, 2]);

    let portal = Portal::responding("200 OK", "", DETAILS).await;
    for _ in 0..3 {
        client.poll(&portal.url(), &key(), &id()).await.unwrap();
    }
    assert!(portal.requests().iter().all(|(connection, _)| *connection == 0));
}

#[tokio::test]
async fn hundreds_of_polls_are_in_flight_over_few_connections() {
    use axum::{
        Router,
        extract::{ConnectInfo, State},
        routing::get,
    };
    use std::collections::HashSet;
    use tokio::sync::Barrier;

    const POLLS: usize = 300;
    type Shared = (Arc<Barrier>, Arc<Mutex<HashSet<SocketAddr>>>);

    // No request gets a response before all have arrived.
    async fn details(
        State((all, peers)): State<Shared>,
        ConnectInfo(peer): ConnectInfo<SocketAddr>,
    ) -> &'static str {
        peers.lock().insert(peer);
        all.wait().await;
        DETAILS
    }

    let shared: Shared = (Arc::new(Barrier::new(POLLS)), Arc::default());
    let router =
        Router::new().route("/api/get-verification-details/{id}", get(details)).with_state(shared.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = plain(&format!("http://{}", listener.local_addr().unwrap()));
    tokio::spawn(
        axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>()).into_future(),
    );

    let client =
        PortalClient::new(&ClientSettings { http2_prior_knowledge: true, ..ClientSettings::default() })
            .unwrap();
    let (key, id) = (key(), id());
    let polls = futures::future::join_all((0..POLLS).map(|_| client.poll(&url, &key, &id))).await;
    assert!(polls.iter().all(Result::is_ok));
    assert_eq!(shared.1.lock().len(), POLLS.div_ceil(96));
}
