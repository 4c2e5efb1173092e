//! The portal is down while many resources are created.

use std::collections::BTreeSet;

use futures::future::join_all;
use okid_operator::api::{Phase, Verification};
use okid_sandbox::{Action, Call, Cut, Fault, Sandbox};
use serde_json::json;
use tokio::net::TcpSocket;

use crate::harness::{Launch, VerificationExt as _, World};

const RESOURCES: usize = 100;

fn is_open(seen: &Verification) -> bool {
    seen.phase() == Some(Phase::AwaitingUser)
}

/// Creates resources until each has been reconciled and waits: behind the others, which shows after half a minute, or for
/// its own retry.
async fn arrive(world: &World) -> Vec<String> {
    let names: Vec<_> = (0..RESOURCES).map(|number| format!("person-{number}")).collect();
    let waits = |seen: &Verification| {
        seen.shows(&["Reconciling=True/Pending"])
            || seen.shows(&["Reconciling=True/PortalUnreachable"])
            || seen.shows(&["Reconciling=True/CreateOutcomeUnknown"])
    };
    // All at the same time, because a minute after the first lost response another one may be lost.
    let arrivals = names.iter().map(|name| async move {
        world.apply(name, json!({})).await;
        world.until(name, waits).await;
    });
    join_all(arrivals).await;
    names
}

/// Checks that each gets a link of its own and that none ever waits for a person; returns the number of lost responses.
async fn all_get_a_link(world: &World, names: &[String]) -> i32 {
    let mut lost = 0;
    let mut ids = BTreeSet::new();
    for name in names {
        let open = world.until(name, is_open).await;
        assert!(open.shows(&["Ready=False/AwaitingUser", "Reconciling=True/AwaitingUser"]));
        assert!(world.versions(name).iter().all(|seen| seen.condition("Stalled").is_none()));
        lost += open.session().orphans;
        ids.extend(open.id());
    }
    assert_eq!(ids.len(), names.len());
    lost
}

/// Lets creates fail with this fault until all resources exist.
async fn outlasts(fault: Fault) {
    let world = World::new().await;
    let down = world.sandbox().inject(fault);
    let names = arrive(&world).await;
    world.sandbox().clear(down);

    let lost = all_get_a_link(&world, &names).await;
    let hit = world.sandbox().creates().iter().filter(|create| create.fault == Some(down)).count();
    let hit = u64::try_from(hit).unwrap();
    assert!((1..=3).contains(&lost), "{lost} lost responses");
    assert_eq!(u64::from(lost.unsigned_abs()), hit);
    assert_eq!(world.creates(), hit + RESOURCES as u64);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_portal_that_responds_503_to_a_hundred_creates_strands_no_resource() {
    outlasts(Fault::new(Call::Create, Action::status(503))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_portal_that_hangs_up_after_a_hundred_creates_strands_no_resource() {
    outlasts(Fault::new(Call::Create, Action::Cut(Cut::BeforeHeaders)).after()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_portal_that_refuses_connections_strands_none_of_a_hundred_resources() {
    // The port is reserved, so that nothing listens there until the portal is up.
    let held = TcpSocket::new_v4().unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let launch = Launch::new().allow([format!("http://{}", held.local_addr().unwrap())]);
    let world = World::builder().launch(launch).start().await;
    let names = arrive(&world).await;

    let portal = Sandbox::builder().key(&world.key).serve(held.listen(1024).unwrap()).unwrap();
    let lost = all_get_a_link(&world, &names).await;
    assert_eq!((lost, portal.session_count()), (0, RESOURCES));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_portal_that_is_back_is_discovered_by_a_probe_without_side_effects() {
    let world = World::new().await;
    let creates = world.sandbox().inject(Fault::new(Call::Create, Action::status(500)));
    let polls = world.sandbox().inject(Fault::new(Call::Details, Action::Cut(Cut::BeforeHeaders)));
    // A resource that waits for a person sends no further create, so another one loses the second response.
    world.apply("alice", json!({"onUnknownOutcome": "Hold"})).await;
    world.until("alice", |seen| seen.shows(&["Stalled=True/CreateOutcomeUnknown"])).await;
    let names = ["bob", "carol"].map(str::to_owned);
    for name in &names {
        world.apply(name, json!({})).await;
    }
    // After the second lost response the next create is two minutes away.
    world.until_portal("two lost responses", |world| world.sandbox().hits(creates) == 2).await;
    let before = world.sandbox().hits(polls);
    world.until_portal("a probe", |world| world.sandbox().hits(polls) > before).await;
    world.sandbox().clear_faults();

    let lost = all_get_a_link(&world, &names).await;
    assert_eq!((lost, world.creates()), (1, 2 + 2));
    let probes = "okid_portal_requests_total{call=\"probe\",result=\"not_found\"}";
    assert_eq!(world.operator().metric(probes).await, 1.0);
    world.finish().await;
}
