//! Several replicas of the operator: one leads by a Lease, the others stand by and take over.
//!
//! Times are printed, not asserted: what a handover takes depends on the machine.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use control_plane::process::Signal;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{Patch, PatchParams};
use okid_operator::api::{Phase, SessionState, Verification};
use okid_sandbox::{Action, Call, Fault, Verdict};
use serde_json::{Value, json};

use crate::harness::{ACCOUNT, Launch, Operator, VerificationExt as _, World, holds, until};

const LEASE: &str = ACCOUNT;

/// A replica of the operators of that world.
fn replica(world: &World) -> Launch {
    replica_in(&world.namespace)
}

pub(crate) fn replica_in(namespace: &str) -> Launch {
    Launch::new().flags([
        "--leader-elect=true",
        "--leader-lease-name",
        LEASE,
        "--leader-lease-namespace",
        namespace,
    ])
}

/// A world whose operator leads, and a standby.
pub(crate) async fn world_with_standby(leader: impl FnOnce(Launch) -> Launch) -> (World, Operator) {
    let mut world = World::builder().without_operator().start().await;
    let launch = leader(replica(&world));
    world.start(launch).await;
    until_leads(world.operator()).await;
    let launch = replica(&world);
    let standby = world.another(launch);
    until_stands_by(&standby).await;
    (world, standby)
}

pub(crate) async fn until_leads(operator: &Operator) {
    operator.until_logged("that it leads", |line| line["message"] == "this replica leads").await;
}

pub(crate) async fn until_stands_by(operator: &Operator) {
    let stands_by = |line: &Value| line["message"].as_str().is_some_and(|text| text.starts_with("standby"));
    operator.until_logged("that it stands by", stands_by).await;
}

/// Waits until another replica leads, and returns how long that took.
async fn until_taken_over(standby: &Operator, since: Instant) -> Duration {
    until_leads(standby).await;
    since.elapsed()
}

fn is_open(seen: &Verification) -> bool {
    seen.phase() == Some(Phase::AwaitingUser)
}

async fn lease(world: &World) -> Lease {
    let api: Api<Lease> = Api::namespaced(world.client.clone(), &world.namespace);
    api.get(LEASE).await.expect("get the Lease")
}

async fn holder(world: &World) -> String {
    lease(world).await.spec.and_then(|spec| spec.holder_identity).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_is_ready_and_calls_nobody_until_the_leader_releases_the_lease() {
    let (mut world, standby) = world_with_standby(|launch| launch).await;
    let id = world.create_session("alice", json!({})).await;
    standby.until_ready().await;
    assert_eq!(standby.metric("okid_leader").await, 0.0);
    assert_eq!(world.operator().metric("okid_leader").await, 1.0);
    standby.until_metric("okid_live_verifications{phase=\"AwaitingUser\"}", |live| live == 1.0).await;
    world.until_polled(&id, 3).await;
    let metrics = standby.metrics().await;
    assert!(!metrics.contains("okid_portal_requests_total{"), "{metrics}");
    for idle in [
        "okid_status_writes_total",
        "okid_verification_reads_total",
        "okid_secret_reads_total",
        "okid_queue_depth",
    ] {
        assert_eq!(standby.metric(idle).await, 0.0, "{idle}");
    }
    let written = |line: &&str| line.starts_with("okid_api_server_request_duration_seconds_count");
    let writes: BTreeSet<_> =
        metrics.lines().filter(written).map(|line| line.split(' ').next().unwrap()).collect();
    let may_be = ["verb=\"get\"", "verb=\"list\"", "verb=\"watch\""];
    assert!(writes.iter().all(|call| may_be.iter().any(|verb| call.contains(verb))), "{writes:?}");

    let released = Instant::now();
    assert!(world.operator().stop().await.success());
    println!("handover after a release: {:?}", until_taken_over(&standby, released).await);
    assert_eq!(standby.metric("okid_leader").await, 1.0);
    assert_eq!(standby.metric("okid_leader_transitions_total").await, 1.0);
    world.until_polled(&id, 2).await;
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    let over = world.until("alice", |seen| seen.status_or_default().settled).await;
    assert_eq!((over.phase(), over.id(), world.creates()), (Some(Phase::Verified), Some(id), 1));
    world.replace_operator(standby);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_leader_lists_verifications_at_once_to_notice_a_restored_backup() {
    // Later lists are ten minutes apart: the writes of the Lease replace them.
    const LISTS: &str =
        "okid_api_server_request_duration_seconds_count{verb=\"list\",resource=\"verifications\"}";
    let (mut world, standby) = world_with_standby(|launch| launch).await;
    let first = world.operator();
    first.until_metric(LISTS, |lists| lists >= 1.0).await;
    standby.until_ready().await;
    let before = standby.metric(LISTS).await;
    assert!(first.stop().await.success());
    until_leads(&standby).await;
    standby.until_metric(LISTS, |lists| lists > before).await;
    world.replace_operator(standby);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_is_replaced_and_every_attempt_has_one_session() {
    const COUNT: usize = 50;
    let (mut world, standby) = world_with_standby(|launch| launch).await;
    let first = world.create_session("first", json!({})).await;
    // Responses that come late keep several creates in flight.
    let slow = world
        .sandbox()
        .inject(Fault::new(Call::Create, Action::Pass).delay(Duration::from_millis(300)).after());
    let names: Vec<_> = (0..COUNT).map(|number| format!("person-{number}")).collect();
    for name in &names {
        world.apply(name, json!({})).await;
    }
    world.until_portal("some creates", |world| world.creates() >= 10).await;
    let killed = Instant::now();
    world.operator().kill();
    world.operator().wait().await;
    println!("handover after a kill: {:?}", until_taken_over(&standby, killed).await);
    world.until_polled(&first, 1).await;
    println!("the next poll came {:?} after the kill", killed.elapsed());
    world.sandbox().clear(slow);

    let (mut ids, mut attempts, mut orphans) = (BTreeSet::new(), 0, 0);
    for name in &names {
        let open = world.until(name, is_open).await;
        ids.insert(open.id().unwrap());
        attempts += u64::try_from(open.session().attempt).unwrap();
        orphans += u64::try_from(open.session().orphans).unwrap();
    }
    println!("{attempts} attempts, {orphans} with an unknown outcome, {} creates", world.creates());
    assert_eq!(ids.len(), COUNT, "ids are unique");
    assert_eq!(attempts, COUNT as u64 + orphans);
    // An attempt whose claim was written, and whose request was not sent yet, has no session.
    let without_request = attempts + 1 - world.creates();
    assert!(without_request <= orphans, "{without_request} of {orphans}");
    assert_eq!(world.sandbox().session_count() as u64, world.creates());
    world.replace_operator(standby);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_stopped_between_claim_and_request_sends_nothing_after_the_takeover() {
    let folder = control_plane::Folder::create("okid-operator-").unwrap();
    let file = folder.path().join("hold");
    let (mut world, standby) = world_with_standby(|launch| launch.hold_at("AfterClaim", &file)).await;
    world.apply("alice", json!({})).await;
    let claimed = world.until("alice", |seen| seen.state() == Some(SessionState::Claimed)).await;
    world.until_portal("the hold", |_| file.exists()).await;
    let stopped = Instant::now();
    world.operator().signal(Signal::Pause);
    println!("handover after SIGSTOP: {:?}", until_taken_over(&standby, stopped).await);
    assert_eq!(world.creates(), 0);
    std::fs::remove_file(&file).unwrap();
    world.operator().signal(Signal::Continue);
    let status = world.operator().wait().await;
    assert_eq!(status.code(), Some(1));
    let log = world.operator().log();
    assert!(log.contains("stopped because this replica no longer leads"), "{log}");

    // It knew that nothing was sent, and said so; if the new leader was first, the outcome is unknown.
    let open = world.until("alice", is_open).await;
    assert_eq!((world.creates(), world.sandbox().session_count()), (1, 1));
    assert_eq!(open.session().attempt, 2);
    assert_ne!(open.claimed_by(), claimed.claimed_by(), "the request is the new leader's");
    world.replace_operator(standby);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_was_stopped_while_idle_reconciles_nothing_after_the_takeover() {
    let (mut world, standby) = world_with_standby(|launch| launch).await;
    let id = world.create_session("alice", json!({})).await;
    world.operator().until_logged("the session", |line| line["name"] == "alice").await;
    world.operator().signal(Signal::Pause);
    until_taken_over(&standby, Instant::now()).await;
    world.until_polled(&id, 2).await;
    // What the new leader has created was never seen by the one that was stopped.
    world.create_session("bob", json!({})).await;
    let before = world.operator().log_lines().len();
    world.operator().signal(Signal::Continue);
    assert_eq!(world.operator().wait().await.code(), Some(1));
    let changed = |line: &Value| line["message"] == "the verification changed";
    assert!(!world.operator().log_lines()[before..].iter().any(changed), "{}", world.operator().log());
    assert_eq!((world.creates(), world.sandbox().session_count()), (2, 2));
    world.replace_operator(standby);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_whose_clocks_are_minutes_apart_elect_one_leader() {
    let mut world = World::builder().without_operator().start().await;
    let skewed = |seconds: i64| replica(&world).env("OKID_CLOCK_SKEW", seconds.to_string());
    let (ahead, behind) = (skewed(300), skewed(-300));
    world.start(ahead).await;
    until_leads(world.operator()).await;
    let leader = holder(&world).await;
    let standby = world.another(behind);
    until_stands_by(&standby).await;
    // The one that is behind sees renewals from its future, and the other way round after the takeover.
    let renewed = |lease: &Lease| lease.spec.as_ref().and_then(|spec| spec.renew_time.clone());
    let before = renewed(&lease(&world).await);
    let is_renewed = async || holds(renewed(&lease(&world).await) != before);
    until(is_renewed, |()| "the Lease is not renewed".to_owned()).await;
    assert_eq!(holder(&world).await, leader);
    assert_eq!(standby.metric("okid_leader").await, 0.0);
    let killed = Instant::now();
    world.operator().kill();
    world.operator().wait().await;
    println!("handover with clocks apart: {:?}", until_taken_over(&standby, killed).await);
    let third = replica(&world);
    let third = world.another(third);
    until_stands_by(&third).await;
    assert_ne!(holder(&world).await, leader);
    assert!(third.stop().await.success());
    world.replace_operator(standby);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_lease_another_one_has_taken_exits_and_records_what_is_in_flight() {
    let (mut world, standby) = world_with_standby(|launch| launch).await;
    let hanging = world.sandbox().inject(Fault::new(Call::Create, Action::Hang).once().after());
    world.apply("alice", json!({})).await;
    world.until_portal("a create in flight", |world| world.sandbox().hits(hanging) == 1).await;
    let api: Api<Lease> = Api::namespaced(world.client.clone(), &world.namespace);
    let taken = Patch::Merge(json!({"spec": {"holderIdentity": "somebody else"}}));
    api.patch(LEASE, &PatchParams::default(), &taken).await.unwrap();
    world.operator().until_logged("the loss", |line| line["why"] == "another replica holds the Lease").await;
    assert!(world.operator().runs(), "a create is in flight");
    world.apply("bob", json!({})).await;
    world.sandbox().clear(hanging);
    assert_eq!(world.operator().wait().await.code(), Some(1));
    let alice = world.get("alice").await;
    assert_eq!((alice.phase(), alice.state()), (Some(Phase::AwaitingUser), Some(SessionState::Created)));
    assert_eq!(world.get("bob").await.session().attempt, 0, "nothing new was started");
    until_leads(&standby).await;
    world.until("bob", is_open).await;
    assert_eq!(world.creates(), 2);
    world.replace_operator(standby);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_without_a_lease_is_replaced_and_no_session_is_created_twice() {
    const COUNT: usize = 20;
    let mut world = World::new().await;
    world.create_session("first", json!({})).await;
    let names: Vec<_> = (0..COUNT).map(|number| format!("person-{number}")).collect();
    for name in &names[..COUNT / 2] {
        world.apply(name, json!({})).await;
    }
    // As in a rolling update: the new replica leads while the old one still works.
    let launch = replica(&world);
    let new = world.another(launch);
    until_leads(&new).await;
    for name in &names[COUNT / 2..] {
        world.apply(name, json!({})).await;
    }
    assert!(world.operator().stop().await.success());
    let mut ids = BTreeSet::new();
    for name in &names {
        let open = world.until(name, is_open).await;
        assert_eq!((open.session().attempt, open.session().orphans), (1, 0), "{name}");
        ids.insert(open.id().unwrap());
    }
    assert_eq!(
        (ids.len(), world.creates(), world.sandbox().session_count()),
        (COUNT, COUNT as u64 + 1, COUNT + 1)
    );
    world.replace_operator(new);
    world.finish().await;
}
