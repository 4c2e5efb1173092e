//! The API server is away, silent or hard of hearing.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use okid_operator::api::{Phase, SessionState, Verification};
use okid_sandbox::{Action, Call, Fault, Verdict};
use serde_json::json;

use crate::harness::{Launch, Road, Seen, Traffic, World};

/// A world whose operator reaches the API server over a road, and is told something more.
async fn world_with_road(more: impl FnOnce(Launch, &World) -> Launch) -> (World, Road) {
    let mut world = World::builder().without_operator().start().await;
    let road = Road::open(world.cluster.kubeconfig(), world.folder()).await;
    let kubeconfig = road.kubeconfig().to_str().expect("a path in UTF-8");
    let launch = more(Launch::new().env("KUBECONFIG", kubeconfig), &world);
    world.start(launch).await;
    (world, road)
}

fn hold_file(world: &World) -> PathBuf {
    world.folder().join("held")
}

async fn until_held(world: &World) {
    world.until_portal("the hold", |world| hold_file(world).exists()).await;
}

fn release(world: &World) {
    std::fs::remove_file(hold_file(world)).expect("it is held");
}

fn is_open(seen: &Verification) -> bool {
    seen.phase() == Some(Phase::AwaitingUser)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_recorded_though_the_api_server_is_away_when_it_comes() {
    let (world, road) = world_with_road(|launch, _| launch).await;
    world.sandbox().inject(Fault::new(Call::Create, Action::Hang).once().after());
    world.apply("alice", json!({})).await;
    world.until_portal("the create", |world| world.creates() == 1).await;
    road.set(Traffic::Cut);
    world.sandbox().clear_faults();
    world.operator().until_metric("okid_status_record_retries_total", |retries| retries >= 2.0).await;
    assert_eq!(world.get("alice").await.state(), Some(SessionState::Claimed));
    road.set(Traffic::Flows);

    let open = world.until("alice", is_open).await;
    assert_eq!(open.id().unwrap(), world.sandbox().sessions()[0].id);
    assert_eq!((world.creates(), open.session().attempt, open.session().orphans), (1, 1, 0));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_api_server_is_asked_again_after_our_own_deadline() {
    let (world, road) = world_with_road(|launch, _| launch).await;
    world.sandbox().inject(Fault::new(Call::Create, Action::Hang).once().after());
    world.apply("alice", json!({})).await;
    world.until_portal("the create", |world| world.creates() == 1).await;
    road.set(Traffic::Stands);
    world.sandbox().clear_faults();
    world.operator().until_metric("okid_status_record_retries_total", |retries| retries >= 1.0).await;
    road.set(Traffic::Cut);
    road.set(Traffic::Flows);

    let open = world.until("alice", is_open).await;
    assert_eq!((world.creates(), open.session().attempt, open.session().orphans), (1, 1, 0));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_whose_own_answer_is_lost_is_followed_by_no_request_and_is_no_lost_answer() {
    let hold = |launch: Launch, world: &World| launch.hold_at("BeforeClaim", &hold_file(world));
    let (world, road) = world_with_road(hold).await;
    world.apply("alice", json!({})).await;
    until_held(&world).await;
    road.set(Traffic::OneWay);
    release(&world);
    let claimed = world.until("alice", |seen| seen.state() == Some(SessionState::Claimed)).await;
    assert_eq!(claimed.session().attempt, 1);
    world.operator().until_metric("okid_reconcile_retries_total", |times| times >= 1.0).await;
    assert_eq!(world.creates(), 0);
    road.set(Traffic::Cut);
    road.set(Traffic::Flows);

    let open = world.until("alice", is_open).await;
    assert_eq!((world.creates(), open.session().attempt, open.session().orphans), (1, 2, 0));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_grew_old_before_its_request_left_is_not_followed_by_it() {
    let hold = |launch: Launch, world: &World| launch.hold_at("AfterClaim", &hold_file(world));
    let (world, _road) = world_with_road(hold).await;
    world.apply("alice", json!({})).await;
    until_held(&world).await;
    let since = Instant::now();
    // The age of a claim is what this is about, so this waits for a time.
    world.until_portal("an old claim", |_| since.elapsed() > Duration::from_secs(16)).await;
    release(&world);

    let open = world.until("alice", is_open).await;
    assert_eq!((world.creates(), open.session().attempt, open.session().orphans), (1, 2, 0));
    let states = world.history("alice", Seen::state);
    assert!(states.contains(&Some(SessionState::NotCreated)), "{states:?}");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resource_that_changes_between_claim_and_record_keeps_its_session() {
    let hold = |launch: Launch, world: &World| launch.hold_at("AfterResponse", &hold_file(world));
    let (world, _road) = world_with_road(hold).await;
    world.apply("alice", json!({})).await;
    until_held(&world).await;
    world.annotate("alice", "example.com/who", "somebody else").await;
    world.patch_spec("alice", json!({"mode": "Select"})).await;
    release(&world);

    let open = world.until("alice", is_open).await;
    assert_eq!((world.creates(), open.session().attempt, open.session().orphans), (1, 1, 0));
    assert!(open.found().portal_url.unwrap().ends_with("&mode=select"));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_recorded_before_the_end_is_said_and_the_process_fails() {
    let (mut world, road) =
        world_with_road(|launch, _| launch.flags(["--shutdown-grace-period", "1s"])).await;
    world.sandbox().inject(Fault::new(Call::Create, Action::Hang).once().after());
    world.apply("alice", json!({})).await;
    world.until_portal("the create", |world| world.creates() == 1).await;
    road.set(Traffic::Cut);
    world.sandbox().clear_faults();
    world.operator().until_metric("okid_status_record_retries_total", |retries| retries >= 1.0).await;
    let status = world.operator().stop().await;
    assert_eq!(status.code(), Some(1));
    assert!(world.operator().log().contains("record what was in flight"), "{}", world.operator().log());

    // The next process cannot know the answer: it says so, and heals.
    world.start(Launch::new()).await;
    let open = world.until("alice", is_open).await;
    assert_eq!((world.creates(), open.session().attempt, open.session().orphans), (2, 2, 1));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_is_cut_misses_nobody() {
    let (world, road) = world_with_road(|launch, _| launch).await;
    world.apply("before", json!({})).await;
    world.until("before", is_open).await;
    road.set(Traffic::Cut);
    world.apply("meanwhile", json!({})).await;
    world.operator().until_metric("okid_watch_interruptions_total", |times| times >= 1.0).await;
    road.set(Traffic::Flows);
    world.until("meanwhile", is_open).await;
    assert_eq!(world.creates(), 2);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn looks_that_find_nothing_new_ask_the_api_server_nothing() {
    let (world, road) = world_with_road(|launch, _| launch).await;
    world.apply("alice", json!({})).await;
    let id = world.until("alice", is_open).await.id().unwrap();
    // The first look is a whole turn; what it learns is enough for the next ones.
    world.until_looked_at(&id, 2).await;
    road.set(Traffic::Cut);
    world.until_looked_at(&id, 3).await;

    // News takes a whole turn, and waits for the API server.
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    world.until_looked_at(&id, 1).await;
    road.set(Traffic::Flows);
    world.until("alice", |seen| seen.phase() == Some(Phase::Verified)).await;
    world.finish().await;
}
