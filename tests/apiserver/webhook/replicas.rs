//! Notifications with several replicas: a standby forwards them to the leader.

use std::path::Path;

use okid_operator::api::Phase;
use okid_sandbox::Verdict;
use reqwest::{Client, StatusCode};
use serde_json::json;

use super::{
    HEADER, OTHER_SECRET, SECRET, address, body_of, call, client, in_review, launch, launch_at,
    notifications, notify, sign,
};
use crate::harness::{Launch, Operator, VerificationExt as _, World, holds, until};

/// A leader and a replica that stands by, both with a receiver.
async fn two_replicas(change: impl Fn(Launch) -> Launch) -> (World, Operator) {
    two_replicas_of(|folder| change(launch(folder))).await
}

async fn two_replicas_of(launch: impl Fn(&Path) -> Launch) -> (World, Operator) {
    let mut world = World::builder().without_operator().start().await;
    let namespace = world.namespace.clone();
    let replica = |world: &World| {
        let lease = ["--leader-elect=true", "--leader-lease-name", "okid-operator"];
        let flags = lease.into_iter().chain(["--leader-lease-namespace", &namespace]);
        launch(world.folder()).flags(flags)
    };
    let leader = replica(&world);
    world.start(leader).await;
    until_leads(world.operator()).await;
    let standby = replica(&world);
    let standby = world.another(standby);
    standby.until_watching().await;
    (world, standby)
}

async fn until_leads(operator: &Operator) {
    operator.until_logged("that it leads", |line| line["message"] == "this replica leads").await;
}

/// Waits until a notification about a session is accepted.
async fn until_accepted(address: &str, id: &str) {
    let accepted = async || match notify(address, id).await {
        StatusCode::ACCEPTED => Ok(()),
        other => Err(other),
    };
    until(accepted, |other| format!("it gets {other}")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_stands_by_forwards_to_the_leader_one_hop_and_says_503_without_one() {
    let (mut world, standby) = two_replicas(|launch| launch).await;
    let (leader, address) = (address(world.operator()).await, address(&standby).await);
    let ids = in_review(&world, &leader, &["alice", "bob"]).await;
    // It reads the Lease every two seconds.
    until_accepted(&address, "ver_unknown").await;
    world.sandbox().decide(&ids[0], Verdict::Verified).unwrap();
    assert_eq!(notify(&address, &ids[0]).await, StatusCode::ACCEPTED);
    world.until("alice", |seen| seen.phase() == Some(Phase::Verified)).await;
    assert_eq!(world.operator().metric(&notifications("okid", "accepted")).await, 3.0);
    assert!(standby.metric(&notifications("okid", "forwarded")).await >= 2.0);
    assert!(!standby.metrics().await.contains("okid_portal_requests_total{"));
    let body = body_of(&ids[1]);
    assert_eq!(call(&address, body.clone(), Some("00")).await, StatusCode::UNAUTHORIZED);

    let twice = client().post(format!("http://{address}/notify/okid")).header("okid-operator-forwarded", "1");
    let twice = twice.header(HEADER, sign(SECRET, &body)).body(body).send().await.unwrap();
    assert_eq!(twice.status(), StatusCode::SERVICE_UNAVAILABLE);
    world.operator().kill();
    world.operator().wait().await;
    assert_eq!(notify(&address, &ids[1]).await, StatusCode::SERVICE_UNAVAILABLE);
    assert!(standby.metric(&notifications("okid", "no_leader")).await >= 2.0);
    world.sandbox().decide(&ids[1], Verdict::Verified).unwrap();
    until_leads(&standby).await;
    until_accepted(&address, &ids[1]).await;
    world.until("bob", |seen| seen.phase() == Some(Phase::Verified)).await;
    assert!(!standby.log().contains(&leader), "the former leader is not called any more");
    world.replace_operator(standby);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_notifications_while_the_leader_changes_stops_no_polling() {
    let (mut world, standby) = two_replicas(|launch| launch).await;
    let addresses = [address(world.operator()).await, address(&standby).await];
    let id = world.create_session("alice", json!({})).await;
    let flood = addresses.iter().flat_map(|address| [(address, SECRET), (address, OTHER_SECRET)]);
    let flood: Vec<_> = flood
        .map(|(address, secret)| {
            let body = body_of(&id);
            let (client, url) = (client(), format!("http://{address}/notify/okid"));
            let signature = sign(secret, &body);
            tokio::spawn(async move {
                loop {
                    let call = client.post(&url).header(HEADER, &signature).body(body.clone());
                    // The leader is killed.
                    drop(call.send().await);
                }
            })
        })
        .collect();
    let unauthenticated = notifications("okid", "unauthenticated");
    world.operator().until_metric(&unauthenticated, |count| count > 100.0).await;
    world.operator().kill();
    world.operator().wait().await;
    until_leads(&standby).await;
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    let over = world.until("alice", |seen| seen.status_or_default().settled).await;
    assert_eq!((over.phase(), over.id(), world.creates()), (Some(Phase::Verified), Some(id), 1));
    for task in flood {
        task.abort();
    }
    world.replace_operator(standby);
    world.finish().await;
}

/// Writes a new certificate and its key, and returns the certificate in DER.
fn certify(folder: &Path) -> Vec<u8> {
    let made = rcgen::generate_simple_self_signed(["okid-operator.test".to_owned()]).unwrap();
    std::fs::write(folder.join("tls.key"), made.signing_key.serialize_pem()).unwrap();
    std::fs::write(folder.join("tls.crt"), made.cert.pem()).unwrap();
    made.cert.der().to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_replaced_without_a_restart_and_replicas_accept_it_of_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let first = certify(folder.path());
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let flags = [
        "--webhook-tls-cert-file".to_owned(),
        file("tls.crt"),
        "--webhook-tls-key-file".to_owned(),
        file("tls.key"),
    ];
    let (world, standby) = two_replicas(|launch| launch.flags(flags.clone())).await;
    let address = address(&standby).await;
    let call = async || {
        let client = Client::builder().no_proxy().tls_info(true).tls_danger_accept_invalid_certs(true);
        let body = body_of("ver_unknown");
        let call = client.build().unwrap().post(format!("https://{address}/notify/okid"));
        let answer = call.header(HEADER, sign(SECRET, &body)).body(body).send().await.unwrap();
        let certificate = answer.extensions().get::<reqwest::tls::TlsInfo>().unwrap();
        (answer.status(), certificate.peer_certificate().unwrap().to_vec())
    };
    let forwards = async |expected: &[u8]| {
        let (status, certificate) = call().await;
        holds(status == StatusCode::ACCEPTED && certificate == expected)
    };
    until(async || forwards(&first).await, |()| "the first certificate is not served".to_owned()).await;
    let second = certify(folder.path());
    let report = |()| format!("the second certificate is not served:\n{}", standby.log_tail());
    until(async || forwards(&second).await, report).await;
    standby.stop().await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_ipv6_calls_are_forwarded_and_a_network_of_48_bits_has_one_rate() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return;
    }
    let flags = ["--webhook-trusted-proxy", "::1", "--webhook-source-rate", "1"];
    let (world, standby) =
        two_replicas_of(|folder| launch_at("[::1]:0", folder).env("OKID_POD_IP", "::1").flags(flags)).await;
    let address = address(&standby).await;
    assert!(address.starts_with("[::1]:"), "{address}");
    let id = in_review(&world, &self::address(world.operator()).await, &["alice"]).await.remove(0);
    // It reads the Lease every two seconds.
    until_accepted(&address, "ver_unknown").await;
    world.sandbox().decide(&id, Verdict::Verified).unwrap();
    assert_eq!(notify(&address, &id).await, StatusCode::ACCEPTED);
    world.until("alice", |seen| seen.phase() == Some(Phase::Verified)).await;

    let forge = async |source: &str| {
        let call = client().post(format!("http://{address}/notify/okid")).header("x-forwarded-for", source);
        call.header(HEADER, "00").body("{}").send().await.expect("the receiver answers").status()
    };
    for machine in 0..100 {
        if forge(&format!("2001:db8:1:{machine:x}::1")).await == StatusCode::TOO_MANY_REQUESTS {
            break;
        }
        assert!(machine < 99, "each machine has a rate of its own");
    }
    assert_eq!(forge("2001:db8:2::1").await, StatusCode::UNAUTHORIZED, "of another network");
    standby.stop().await;
    world.finish().await;
}
