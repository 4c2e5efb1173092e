//! What a receiver does with secrets that come and go, and with calls that it forwards.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use futures::future::join_all;
use http_body_util::Full;
use tokio::net::TcpListener;

use super::*;
use crate::{portal::AllowedPortals, webhook::serve};

pub(in crate::webhook) const SECRET: &str = "whsec_0123456789abcdef";
const OTHER_SECRET: &str = "whsec_fedcba9876543210";
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The file with the secrets of the receiver below.
pub(in crate::webhook) fn secrets_file(folder: &Path) -> PathBuf {
    folder.join("secrets")
}

/// What a receiver that leads is built from: with one name, `okid`, for a bearer token.
pub(in crate::webhook) fn settings(folder: &Path) -> ReceiverSettings {
    let allowed = AllowedPortals::new(["https://portal.example"], false).unwrap();
    let portal = allowed.iter().next().unwrap().clone();
    let endpoint = Endpoint { portal, scheme: Scheme::Bearer, secrets_file: secrets_file(folder) };
    ReceiverSettings {
        endpoints: Endpoints(BTreeMap::from([("okid".to_owned(), endpoint)])),
        source_rate: None,
        trusted_proxies: Vec::new(),
        forwarder: Forwarder::new(None).unwrap(),
        metrics: Arc::new(Metrics::new()),
        role: Box::new(|| Role::Leads),
        on_notification: Box::new(|_, _| true),
        shutdown: CancellationToken::new(),
    }
}

impl Receiver {
    /// The value of a counter, by its name and labels.
    pub(in crate::webhook) fn count(&self, series: &str) -> u32 {
        let text = self.metrics.text().unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse().unwrap())
    }
}

/// Calls with that token over a connection of its own.
async fn call(receiver: &Receiver, token: &str) -> StatusCode {
    let request = Request::post("/notify/okid").header("authorization", format!("Bearer {token}"));
    let request = request.body(Full::from("{}")).unwrap();
    let connection = receiver.connect(PEER).unwrap();
    receiver.answer(PEER, &connection, request).await.status()
}

#[tokio::test]
async fn a_name_whose_secrets_cannot_be_read_refuses_every_call_until_they_can() {
    let folder = tempfile::tempdir().unwrap();
    let file = secrets_file(folder.path());
    let receiver = Receiver::new(settings(folder.path()));
    assert_eq!(call(&receiver, SECRET).await, StatusCode::UNAUTHORIZED);
    assert_eq!(call(&receiver, "").await, StatusCode::UNAUTHORIZED);
    let unread = receiver.reload();
    assert!(matches!(
        &unread[..],
        [Unread { name: "okid", error: ReadSecrets::File(_), keeps_secrets: false }]
    ));
    drop(unread);
    fs::write(&file, SECRET).unwrap();
    assert!(receiver.reload().is_empty());
    assert_eq!(call(&receiver, SECRET).await, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn an_empty_file_revokes_the_secrets_and_one_that_cannot_be_used_leaves_them() {
    let folder = tempfile::tempdir().unwrap();
    let file = secrets_file(folder.path());
    fs::write(&file, SECRET).unwrap();
    let receiver = Receiver::new(settings(folder.path()));
    for unusable in [Some("short"), None] {
        match unusable {
            Some(text) => fs::write(&file, text).unwrap(),
            None => fs::remove_file(&file).unwrap(),
        }
        assert!(matches!(&receiver.reload()[..], [Unread { keeps_secrets: true, .. }]), "{unusable:?}");
        assert_eq!(call(&receiver, SECRET).await, StatusCode::ACCEPTED, "{unusable:?}");
    }
    for empty in ["", "\n"] {
        fs::write(&file, empty).unwrap();
        for _ in 0..2 {
            let unread = receiver.reload();
            assert!(matches!(
                &unread[..],
                [Unread { error: ReadSecrets::Invalid(InvalidSecrets::None), keeps_secrets: false, .. }]
            ));
        }
        assert_eq!(call(&receiver, SECRET).await, StatusCode::UNAUTHORIZED);
        assert_eq!(call(&receiver, "").await, StatusCode::UNAUTHORIZED);
    }
    fs::remove_file(&file).unwrap();
    receiver.reload();
    assert_eq!(call(&receiver, SECRET).await, StatusCode::UNAUTHORIZED, "still revoked");
    fs::write(&file, OTHER_SECRET).unwrap();
    assert!(receiver.reload().is_empty());
    assert_eq!(call(&receiver, OTHER_SECRET).await, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn connections_count_against_the_rate_of_their_source_and_pay_for_their_first_call() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(secrets_file(folder.path()), SECRET).unwrap();
    // One call, and the next one after a quarter of an hour.
    let rate = Some(0.001);
    let receiver = Receiver::new(ReceiverSettings { source_rate: rate, ..settings(folder.path()) });
    for _ in 0..10 {
        assert_eq!(call(&receiver, SECRET).await, StatusCode::ACCEPTED, "an authentic call gives it back");
    }
    assert_eq!(call(&receiver, OTHER_SECRET).await, StatusCode::UNAUTHORIZED);
    assert!(receiver.connect(PEER).is_none(), "before any handshake");
    assert_eq!(receiver.count("okid_webhook_connections_closed_total{reason=\"rate\"}"), 1);
    assert!(receiver.connect(Ipv4Addr::new(192, 0, 2, 1).into()).is_some());
}

#[tokio::test]
async fn a_batch_of_calls_at_a_standby_stays_within_the_limits_of_the_leader() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(secrets_file(folder.path()), SECRET).unwrap();
    let listener = TcpListener::bind((PEER, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let limits = ReceiverSettings { source_rate: Some(50.0), ..settings(folder.path()) };
    let leader = Arc::new(Receiver::new(limits));
    let leading = tokio::spawn(serve(listener, Arc::clone(&leader), None));
    let role = Box::new(move || Role::Standby(Some(address)));
    let standby = Receiver::new(ReceiverSettings { role, ..settings(folder.path()) });
    let answers = join_all((0..300).map(|_| call(&standby, SECRET))).await;
    assert!(answers.iter().all(|answer| *answer == StatusCode::ACCEPTED), "{answers:?}");
    assert_eq!(leader.count("okid_webhook_notifications_total{name=\"okid\",result=\"without_id\"}"), 300);
    leading.abort();
}

#[tokio::test]
async fn a_call_that_only_the_standby_finds_authentic_is_to_be_sent_again() {
    let (folder, of_leader) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(secrets_file(folder.path()), OTHER_SECRET).unwrap();
    // The secrets are being rotated.
    fs::write(secrets_file(of_leader.path()), SECRET).unwrap();
    let listener = TcpListener::bind((PEER, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let leader = Arc::new(Receiver::new(settings(of_leader.path())));
    let leading = tokio::spawn(serve(listener, Arc::clone(&leader), None));
    let role = Box::new(move || Role::Standby(Some(address)));
    let standby = Receiver::new(ReceiverSettings { role, ..settings(folder.path()) });
    assert_eq!(call(&standby, OTHER_SECRET).await, StatusCode::SERVICE_UNAVAILABLE);
    let refused = "okid_webhook_notifications_total{name=\"okid\",result=\"refused_by_leader\"}";
    assert_eq!(standby.count(refused), 1);
    fs::write(secrets_file(of_leader.path()), format!("{SECRET}\n{OTHER_SECRET}")).unwrap();
    assert!(leader.reload().is_empty());
    assert_eq!(call(&standby, OTHER_SECRET).await, StatusCode::ACCEPTED);
    leading.abort();
}
