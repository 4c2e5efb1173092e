//! The API server is unreachable, silent or slow.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use okid_operator::api::{Phase, SessionState, Verification};
use okid_sandbox::{Action, Call, Fault, Verdict};
use serde_json::json;

use crate::harness::{ApiServerProxy, Launch, Traffic, VerificationExt, World};

/// A world whose operator reaches the API server through a proxy, with further options.
async fn world_with_proxy(more: impl FnOnce(Launch, &World) -> Launch) -> (World, ApiServerProxy) {
    let mut world = World::builder().without_operator().start().await;
    let proxy = ApiServerProxy::start(world.kubeconfig(), world.folder()).await;
    let kubeconfig = proxy.kubeconfig().to_str().expect("a path in UTF-8");
    let launch = more(Launch::new().env("KUBECONFIG", kubeconfig), &world);
    world.start(launch).await;
    (world, proxy)
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
async fn a_response_is_recorded_although_the_api_server_was_unreachable_when_it_came() {
    let (world, proxy) = world_with_proxy(|launch, _| launch).await;
    world.sandbox().inject(Fault::new(Call::Create, Action::Hang).once().after());
    world.apply("alice", json!({})).await;
    world.until_portal("the create", |world| world.creates() == 1).await;
    proxy.set(Traffic::Cut);
    world.sandbox().clear_faults();
    world.operator().until_metric("okid_status_record_retries_total", |retries| retries >= 2.0).await;
    assert_eq!(world.get("alice").await.state(), Some(SessionState::Claimed));
    proxy.set(Traffic::Open);

    let open = world.until("alice", is_open).await;
    assert_eq!(open.id().unwrap(), world.sandbox().sessions()[0].id);
    assert_eq!((world.creates(), open.session().attempt, open.session().orphans), (1, 1, 0));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_to_a_silent_api_server_is_retried_after_the_operators_own_timeout() {
    let (world, proxy) = world_with_proxy(|launch, _| launch).await;
    world.sandbox().inject(Fault::new(Call::Create, Action::Hang).once().after());
    world.apply("alice", json!({})).await;
    world.until_portal("the create", |world| world.creates() == 1).await;
    proxy.set(Traffic::Stalled);
    world.sandbox().clear_faults();
    world.operator().until_metric("okid_status_record_retries_total", |retries| retries >= 1.0).await;
    proxy.set(Traffic::Cut);
    proxy.set(Traffic::Open);

    let open = world.until("alice", is_open).await;
    assert_eq!((world.creates(), open.session().attempt, open.session().orphans), (1, 1, 0));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_whose_own_response_is_lost_sends_no_create_and_leaves_no_orphan() {
    let hold = |launch: Launch, world: &World| launch.hold_at("BeforeClaim", &hold_file(world));
    let (world, proxy) = world_with_proxy(hold).await;
    world.apply("alice", json!({})).await;
    until_held(&world).await;
    proxy.set(Traffic::RequestsOnly);
    release(&world);
    let claimed = world.until("alice", |seen| seen.state() == Some(SessionState::Claimed)).await;
    assert_eq!(claimed.session().attempt, 1);
    world.operator().until_metric("okid_reconcile_retries_total", |times| times >= 1.0).await;
    assert_eq!(world.creates(), 0);
    proxy.set(Traffic::Cut);
    proxy.set(Traffic::Open);

    let open = world.until("alice", is_open).await;
    assert_eq!((world.creates(), open.session().attempt, open.session().orphans), (1, 2, 0));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_is_too_old_sends_no_create() {
    let hold = |launch: Launch, world: &World| launch.hold_at("AfterClaim", &hold_file(world));
    let (world, _road) = world_with_proxy(hold).await;
    world.apply("alice", json!({})).await;
    until_held(&world).await;
    let since = Instant::now();
    // This test is about the age of a claim, so it waits for real time to pass.
    world.until_portal("an old claim", |_| since.elapsed() > Duration::from_secs(16)).await;
    release(&world);

    let open = world.until("alice", is_open).await;
    assert_eq!((world.creates(), open.session().attempt, open.session().orphans), (1, 2, 0));
    let states = world.distinct_values("alice", VerificationExt::state);
    assert!(states.contains(&Some(SessionState::NotCreated)), "{states:?}");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resource_that_changes_between_claim_and_record_keeps_its_session() {
    let hold = |launch: Launch, world: &World| launch.hold_at("AfterResponse", &hold_file(world));
    let (world, _road) = world_with_proxy(hold).await;
    world.apply("alice", json!({})).await;
    until_held(&world).await;
    world.annotate("alice", "example.com/who", "another controller").await;
    world.patch_spec("alice", json!({"mode": "Select"})).await;
    release(&world);

    let open = world.until("alice", is_open).await;
    assert_eq!((world.creates(), open.session().attempt, open.session().orphans), (1, 1, 0));
    assert!(open.status_or_default().portal_url.unwrap().ends_with("&mode=select"));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_cannot_be_recorded_before_shutdown_fails_the_process() {
    let (mut world, proxy) =
        world_with_proxy(|launch, _| launch.flags(["--shutdown-grace-period", "1s"])).await;
    world.sandbox().inject(Fault::new(Call::Create, Action::Hang).once().after());
    world.apply("alice", json!({})).await;
    world.until_portal("the create", |world| world.creates() == 1).await;
    proxy.set(Traffic::Cut);
    world.sandbox().clear_faults();
    world.operator().until_metric("okid_status_record_retries_total", |retries| retries >= 1.0).await;
    let status = world.operator().stop().await;
    assert_eq!(status.code(), Some(1));
    assert!(
        world.operator().log().contains("could not record all in-flight work"),
        "{}",
        world.operator().log()
    );

    // The next process cannot know the outcome: it reports that and recovers.
    world.start(Launch::new()).await;
    let open = world.until("alice", is_open).await;
    assert_eq!((world.creates(), open.session().attempt, open.session().orphans), (2, 2, 1));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_watch_misses_no_resource() {
    let (world, proxy) = world_with_proxy(|launch, _| launch).await;
    world.apply("before", json!({})).await;
    world.until("before", is_open).await;
    proxy.set(Traffic::Cut);
    world.apply("meanwhile", json!({})).await;
    world.operator().until_metric("okid_watch_interruptions_total", |times| times >= 1.0).await;
    proxy.set(Traffic::Open);
    world.until("meanwhile", is_open).await;
    assert_eq!(world.creates(), 2);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn polls_without_news_send_nothing_to_the_api_server() {
    let (world, proxy) = world_with_proxy(|launch, _| launch).await;
    world.apply("alice", json!({})).await;
    let id = world.until("alice", is_open).await.id().unwrap();
    // The first poll is a full reconcile. The fast path has what it needs after that.
    world.until_polled(&id, 2).await;
    proxy.set(Traffic::Cut);
    world.until_polled(&id, 3).await;

    // A change needs a full reconcile, which waits for the API server.
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    world.until_polled(&id, 1).await;
    proxy.set(Traffic::Open);
    world.until("alice", |seen| seen.phase() == Some(Phase::Verified)).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_is_silent_for_a_minute_fails_readyz_and_not_livez() {
    const LAST_EVENT: &str = "okid_watch_last_event_timestamp_seconds";
    let (world, proxy) = world_with_proxy(|launch, _| launch).await;
    let operator = world.operator();
    operator.until_ready().await;
    proxy.set(Traffic::Stalled);
    let last_event = operator.metric(LAST_EVENT).await;
    assert!(last_event > 0.0);
    // This test is about a minute of silence, so it waits for real time to pass.
    let why = operator.until_unready().await;
    assert_eq!(why, "waiting for the API server, which has not answered for a minute\n");
    assert_eq!(operator.ask("/livez").await.status(), 200);
    // It is computed in whole seconds.
    let silent_since = operator.metric(LAST_EVENT).await;
    assert!((silent_since - last_event).abs() <= 2.0, "{last_event} {silent_since}");

    proxy.set(Traffic::Cut);
    proxy.set(Traffic::Open);
    operator.until_ready().await;
    operator.until_metric(LAST_EVENT, |time| time > silent_since + 2.0).await;
    world.finish().await;
}
