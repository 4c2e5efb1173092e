//! The operator crashes between two steps of the create protocol, and another one takes over.
//!
//! A claim that is found is left alone for 45 seconds, because its request may be in flight; then its outcome is unknown.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt as _;

use okid_operator::api::{Phase, SessionState, Verification};
use okid_sandbox::{Action, Call, Fault, Verdict};
use serde_json::json;

use crate::harness::{Launch, VerificationExt, World};

const RETRIED: &str = "retried";
const HELD: &str = "held";
const BOTH: [(&str, &str); 2] = [(RETRIED, "Retry"), (HELD, "Hold")];

fn is_open(seen: &Verification) -> bool {
    seen.phase() == Some(Phase::AwaitingUser)
}

async fn apply(world: &World, name: &str, policy: &str) {
    world.apply(name, json!({"onUnknownOutcome": policy})).await;
}

/// Waits until the operator has crashed.
async fn until_crashed(world: &World) {
    let status = world.operator().wait().await;
    assert_eq!(status.signal(), Some(6), "{status}");
}

/// One resource of each policy, whose create crashed an operator at that failpoint; then an operator without failpoints.
async fn crashed_at(point: &str) -> World {
    let mut world = World::builder().launch(Launch::new().crash_at(point)).start().await;
    for (number, (name, policy)) in BOTH.into_iter().enumerate() {
        if number > 0 {
            world.start(Launch::new().crash_at(point)).await;
        }
        apply(&world, name, policy).await;
        until_crashed(&world).await;
    }
    world.start(Launch::new()).await;
    world
}

/// Unknown outcomes are reported: in status while the operator recovers or waits for a person, by an event, and by the
/// metric.
async fn heals_or_holds(world: &World, sessions_before: usize) {
    let healed = world.until(RETRIED, is_open).await;
    assert_eq!((healed.session().attempt, healed.session().orphans), (2, 1));
    assert!(healed.shows(&["Ready=False/AwaitingUser", "SessionCreated=True/Created", "Stalled="]));
    let healing = [
        "Ready=False/CreatingSession",
        "Reconciling=True/CreateOutcomeUnknown",
        "SessionCreated=Unknown/OutcomeUnknown",
    ];
    assert!(world.versions(RETRIED).iter().any(|seen| seen.shows(&healing)));

    let held = world.until(HELD, |seen| seen.state() == Some(SessionState::Unknown)).await;
    assert_eq!((held.session().attempt, held.session().orphans), (1, 1));
    assert!(held.shows(&[
        "Ready=False/CreateOutcomeUnknown",
        "Stalled=True/CreateOutcomeUnknown",
        "Reconciling=",
        "SessionCreated=Unknown/OutcomeUnknown",
        "Finished=False/Running",
    ]));
    assert_eq!(held.id(), None);

    let sessions = world.sandbox().sessions();
    assert_eq!(sessions.len(), sessions_before + 1);
    let published = world.distinct_values(RETRIED, VerificationExt::id);
    assert_eq!(published, [None, Some(sessions.last().unwrap().id.clone())]);
    for (name, _) in BOTH {
        world.until_event(name, "CreateOutcomeUnknown").await;
    }
    world.operator().until_metric("okid_create_unknown_outcome_total", |value| value == 2.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_before_the_claim_has_sent_no_create() {
    let mut world = World::builder().launch(Launch::new().crash_at("BeforeClaim")).start().await;
    for (name, policy) in BOTH {
        apply(&world, name, policy).await;
    }
    until_crashed(&world).await;
    assert_eq!(world.creates(), 0);
    assert!(BOTH.iter().all(|(name, _)| world.versions(name).iter().all(|seen| seen.session().attempt == 0)));

    world.start(Launch::new()).await;
    for (name, _) in BOTH {
        let open = world.until(name, is_open).await;
        assert_eq!((open.session().attempt, open.session().orphans), (1, 0));
    }
    assert_eq!(world.creates(), 2);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_between_claim_and_request_leaves_an_unknown_outcome() {
    let world = crashed_at("AfterClaim").await;
    assert_eq!(world.creates(), 0);
    heals_or_holds(&world, 0).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_lost_in_a_crash_is_counted_and_its_session_never_published() {
    let world = crashed_at("AfterResponse").await;
    assert_eq!(world.creates(), 2);
    heals_or_holds(&world, 2).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_crash_that_follows_the_record_the_next_operator_continues_the_session() {
    let world = crashed_at("AfterRecord").await;
    let ids: Vec<_> = world.sandbox().sessions().into_iter().map(|session| session.id).collect();
    for ((name, _), id) in BOTH.into_iter().zip(ids) {
        world.sandbox().finish(&id, Verdict::Verified).unwrap();
        let over = world.until(name, |seen| seen.status_or_default().settled).await;
        assert_eq!((over.phase(), over.id()), (Some(Phase::Verified), Some(id)));
        assert_eq!((over.session().attempt, over.session().orphans), (1, 0));
    }
    assert_eq!(world.creates(), 2);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_create_that_was_in_flight_when_the_operator_was_killed_has_an_unknown_outcome() {
    let mut world = World::new().await;
    // Until a key has worked once, its calls are sent one at a time.
    world.create_session("first", json!({})).await;
    world.sandbox().inject(Fault::new(Call::Create, Action::Hang).after());
    for (name, policy) in BOTH {
        apply(&world, name, policy).await;
    }
    world.until_portal("two more sessions", |world| world.sandbox().session_count() == 3).await;
    world.operator().kill();
    world.sandbox().clear_faults();
    assert_eq!(world.creates(), 3);

    world.start(Launch::new()).await;
    heals_or_holds(&world, 3).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_while_the_link_is_published_keeps_the_session_until_its_verdict() {
    let mut world = World::new().await;
    let id = world.create_session("alice", json!({})).await;
    world.operator().kill();

    world.start(Launch::new()).await;
    world.until_polled(&id, 1).await;
    world.operator().kill();
    world.sandbox().finish(&id, Verdict::Verified).unwrap();

    world.start(Launch::new()).await;
    let over = world.until("alice", |seen| seen.status_or_default().settled).await;
    assert_eq!((over.phase(), over.id()), (Some(Phase::Verified), Some(id)));
    assert_eq!((world.creates(), over.session().attempt), (1, 1));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_operators_on_one_namespace_create_one_session_for_each_resource() {
    const AT_ONCE: usize = 20;
    const ROUNDS: usize = 10;
    let mut world = World::new().await;
    let rival = world.another(Launch::new());
    rival.until_watching().await;
    let (mut created, mut processes) = (0, BTreeSet::new());
    // Which operator wins a claim is chance.
    for round in 0..ROUNDS {
        if processes.len() == 2 {
            break;
        }
        let names: Vec<_> = (0..AT_ONCE).map(|number| format!("person-{round}-{number}")).collect();
        for name in &names {
            world.apply(name, json!({})).await;
        }
        for name in &names {
            let open = world.until(name, is_open).await;
            assert_eq!((open.session().attempt, open.session().orphans), (1, 0));
            processes.extend(open.claimed_by());
            let id = open.id().unwrap();
            world.sandbox().finish(&id, Verdict::Verified).unwrap();
            world.until(name, |seen| seen.status_or_default().settled).await;
            assert_eq!(world.distinct_values(name, VerificationExt::id), [None, Some(id)]);
        }
        created += AT_ONCE;
    }
    assert_eq!((world.creates(), world.sandbox().session_count()), (created as u64, created));
    assert_eq!(processes.len(), 2, "only one of the two operators ever won a claim, so they never competed");
    assert!(rival.stop().await.success());
    world.finish().await;
}
