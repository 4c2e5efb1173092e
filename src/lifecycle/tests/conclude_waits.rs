//! The rows of `conclude` for waiting: for a key, for admission, for the schedule, and for a request in flight.

use std::time::Duration;

use super::world::{Answer, World, assert_led_to, created, expected, line, poll_failed, said};
use crate::{
    api::{Condition, ConditionType, ReadyWhen, Reason},
    lifecycle::{
        blocker::Blocker,
        conclude::Requeue,
        event::Event,
        facts::InFlight,
        fixtures,
        key_fact::{KeyFact, KeyFault},
        since::later,
        step::{Refusal, Step, Transition},
    },
    portal::error::{Failed, PortalError},
};

const LOST: PortalError = PortalError::Failed(Failed::Cut);
const AWAITING: &str = "AwaitingUser: R AwaitingUser, Rec AwaitingUser, CR Accepted, SC Created";

fn fresh() -> World {
    World::fresh(ReadyWhen::Verified)
}

fn open() -> World {
    World::open(ReadyWhen::Verified)
}

#[test]
fn a_missing_key_is_checked_every_four_seconds_then_every_minute() {
    for fault in KeyFault::ALL {
        let reason = fault.reason().as_str();
        let mut world = fresh();
        world.facts.key = KeyFact::Missing(fault);
        let reconcile = world.reconcile(Answer::Uncalled);
        let shown = format!("Pending: R {reason}, Rec {reason}, CR {reason}, SC NotYet");
        let reported = [Event::Blocked(Blocker::Key(fault))];
        assert_led_to(&world, &reconcile, expected(&shown, 4..=4, &reported), "at first");
        world.pass(599);
        assert_led_to(
            &world.clone(),
            &world.reconcile(Answer::Uncalled),
            expected(&shown, 4..=4, &[]),
            "for ten minutes",
        );
        world.pass(1);
        let reconcile = world.reconcile(Answer::Uncalled);
        assert_led_to(&world, &reconcile, expected(&shown, 60..=60, &[]), "then");
    }
}

#[test]
fn a_missing_key_of_an_open_session_changes_only_credentials_ready() {
    let mut world = open();
    let key = std::mem::replace(&mut world.facts.key, KeyFact::Missing(KeyFault::SecretNotFound));
    let reconcile = world.reconcile(Answer::Uncalled);
    let shown = "AwaitingUser: R AwaitingUser, Rec AwaitingUser, CR SecretNotFound, SC Created";
    assert_led_to(&world, &reconcile, expected(shown, 4..=4, &[]), "the link is there");
    world.facts.key = key;
    world.refusal = Some(Refusal::Rate(fixtures::after(120)));
    world.reconcile(Answer::Uncalled);
    assert!(
        line(&world.status).contains("CR NotChecked"),
        "there is a key; whether the portal accepts it is unknown"
    );
}

#[test]
fn a_key_that_the_portal_refuses_is_shown_without_a_call() {
    let mut world = fresh();
    world.refusal = Some(Refusal::KeyRejected(fixtures::after(150)));
    let reconcile = world.reconcile(Answer::Uncalled);
    let shown = "Pending: R Pending, Rec Pending, CR NotChecked, SC NotYet";
    assert_led_to(
        &world,
        &reconcile,
        expected(shown, 37..=37, &[]),
        "30 s and a random share of the next minute",
    );
    world.pass(37);
    let reconcile = world.reconcile(Answer::Uncalled);
    let shown = "Pending: R KeyRejected, Rec KeyRejected, CR KeyRejected, SC NotYet";
    let reported = [Event::Blocked(Blocker::KeyRejected)];
    assert_led_to(&world, &reconcile, expected(shown, 60..=60, &reported), "the Secret is read each minute");
    world.pass(600);
    world.refusal = Some(Refusal::KeyRejected(fixtures::after(697)));
    let reconcile = world.reconcile(Answer::Uncalled);
    assert_led_to(&world, &reconcile, expected(shown, 60..=60, &[]), "no attempt of its own was refused");
}

#[test]
fn a_resource_that_waits_shows_what_other_resources_have_met() {
    let until = |world: &World| later(world.facts.now, Duration::from_secs(150));
    let breaker = [
        Blocker::RequestRejected,
        Blocker::RequestConflict,
        Blocker::Redirected,
        Blocker::NotConfigured,
        Blocker::NameUnresolved,
        Blocker::RefusedOnTheWay,
        Blocker::NoUsableAnswer,
    ];
    let refused = [Blocker::KeyRejected, Blocker::AccessDenied];
    for (met, is_key) in breaker.map(|met| (met, false)).into_iter().chain(refused.map(|met| (met, true))) {
        let mut world = fresh();
        for _ in 0..2 {
            let refusal =
                if is_key { Refusal::KeyRejected(until(&world)) } else { Refusal::Breaker(until(&world)) };
            world.refusal = Some(refusal);
            world.refused_for = Some(met);
            world.reconcile(Answer::Uncalled);
            world.pass(37);
        }
        let ready = Condition::find(&world.status.conditions, ConditionType::Ready).unwrap();
        assert_eq!((&*ready.reason, &*ready.message), (met.reason().as_str(), met.message()));
        let credentials = if is_key { met.reason() } else { Reason::NotChecked };
        assert_eq!(world.reason(ConditionType::CredentialsReady), Some(credentials.as_str()));
        assert_eq!(world.reason(ConditionType::Stalled), None, "no attempt of its own was refused");
    }
}

#[test]
fn resources_that_wait_for_the_same_cause_show_it_within_a_minute() {
    for (jitter_seed, shown_after) in [(0, 30), (1, 31), (59, 89), (60, 30)] {
        let mut world = fresh();
        world.facts.jitter_seed = jitter_seed;
        let mut passed = 0;
        for (seconds, shown) in [
            (0, Reason::Pending),
            (shown_after - 1, Reason::Pending),
            (shown_after, Reason::PortalUnreachable),
        ] {
            world.pass(seconds - passed);
            passed = seconds;
            world.refusal = Some(Refusal::Breaker(later(world.facts.now, Duration::from_mins(5))));
            world.reconcile(Answer::Uncalled);
            assert_eq!(
                world.reason(ConditionType::Ready),
                Some(shown.as_str()),
                "{jitter_seed}: {seconds} s"
            );
        }
    }
}

#[test]
fn a_refusal_of_others_is_not_shown_on_an_open_session_that_was_not_polled() {
    let mut world = open();
    let until = |world: &World| later(world.facts.now, Duration::from_secs(150));
    world.refusal = Some(Refusal::KeyRejected(until(&world)));
    assert_led_to(
        &world.clone(),
        &world.reconcile(Answer::Uncalled),
        expected(AWAITING, 60..=60, &[]),
        "not asked",
    );
    world.pass(3_600);
    world.refusal = Some(Refusal::KeyRejected(until(&world)));
    assert_led_to(
        &world.clone(),
        &world.reconcile(Answer::Uncalled),
        expected(AWAITING, 60..=60, &[]),
        "an hour later",
    );

    let mut asked = open();
    asked.reconcile(poll_failed(PortalError::KeyRejected));
    asked.pass(600);
    asked.refusal = Some(Refusal::KeyRejected(until(&asked)));
    asked.reconcile(Answer::Uncalled);
    let stalled = "AwaitingUser: R AwaitingUser, St KeyRejected, CR KeyRejected, SC Created";
    assert_eq!(line(&asked.status), stalled, "its own poll was refused, and no call was admitted since");
}

#[test]
fn a_pause_shows_after_a_minute_with_a_link_and_at_once_without_one() {
    let mut world = open();
    world.refusal = Some(Refusal::Paused(later(world.facts.now, Duration::from_mins(5))));
    let reconcile = world.reconcile(Answer::Uncalled);
    assert_led_to(&world, &reconcile, expected(AWAITING, 60..=60, &[]), "the next reconcile shows it");
    world.pass(60);
    let reconcile = world.reconcile(Answer::Uncalled);
    let limited = "AwaitingUser: R AwaitingUser, Rec RateLimited, CR Accepted, SC Created";
    assert_led_to(
        &world,
        &reconcile,
        expected(limited, 240..=240, &[]),
        "then it waits for the end of the pause",
    );

    let mut world = fresh();
    world.refusal = Some(Refusal::Paused(later(world.facts.now, Duration::from_mins(5))));
    let reconcile = world.reconcile(Answer::Uncalled);
    let limited = "Pending: R RateLimited, Rec RateLimited, CR NotChecked, SC NotYet";
    assert_led_to(&world, &reconcile, expected(limited, 300..=300, &[Event::RateLimited]), "without a link");
}

#[test]
fn an_open_breaker_shows_after_five_minutes_if_there_is_a_link() {
    let mut world = open();
    world.reconcile(poll_failed(LOST));
    let until = |world: &World| later(world.facts.now, Duration::from_secs(9));
    world.facts.now = world.facts.local_state.next.unwrap();
    world.refusal = Some(Refusal::Breaker(until(&world)));
    assert_led_to(
        &world.clone(),
        &world.reconcile(Answer::Uncalled),
        expected(AWAITING, 9..=9, &[]),
        "not immediately",
    );
    world.pass(300);
    world.refusal = Some(Refusal::Breaker(until(&world)));
    let reconcile = world.reconcile(Answer::Uncalled);
    let shown = "AwaitingUser: R ProgressingWithRetry, Rec ProgressingWithRetry, CR Accepted, SC Created";
    assert_led_to(&world, &reconcile, expected(shown, 9..=9, &[]), "after five minutes without an answer");
}

#[test]
fn an_outage_shows_on_resources_behind_the_breaker_that_made_no_call() {
    let shown = "AwaitingUser: R ProgressingWithRetry, Rec ProgressingWithRetry, CR Accepted, SC Created";
    let mut world = open();
    world.reconcile(said("generated", &[]));
    let due = world.facts.local_state.next.unwrap();
    world.facts.now = due;
    let behind = |world: &mut World, seconds: u64| {
        world.facts.now = later(due, Duration::from_secs(seconds));
        world.refusal = Some(Refusal::Breaker(later(world.facts.now, Duration::from_mins(1))));
        world.reconcile(Answer::Uncalled);
        line(&world.status)
    };
    assert_eq!(behind(&mut world.clone(), 0), AWAITING);
    assert_eq!(behind(&mut world.clone(), 250), AWAITING, "not five minutes without a 200");
    assert_eq!(behind(&mut world.clone(), 300), shown, "due for five minutes");
    world.facts.local_state.last_answer = Some(due - jiff::SignedDuration::from_mins(5));
    assert_eq!(behind(&mut world.clone(), 59), AWAITING, "a single response may be lost");
    assert_eq!(behind(&mut world, 60), shown, "the last 200 is five minutes old");
}

#[test]
fn waiting_for_the_schedule_or_the_rate_limit_changes_nothing() {
    let mut world = open();
    world.reconcile(said("generated", &[]));
    let before = world.status.clone();
    let reconcile = world.reconcile(Answer::Uncalled);
    assert!(matches!(reconcile.step, Step::Transition(Transition::Wait(_))));
    assert_eq!(reconcile.conclusion.next, Requeue::At(world.facts.local_state.next.unwrap()));
    world.pass(60);
    world.refusal = Some(Refusal::Rate(fixtures::after(130)));
    let reconcile = world.reconcile(Answer::Uncalled);
    assert_eq!((reconcile.conclusion.next, &world.status), (Requeue::At(fixtures::after(130)), &before));
}

#[test]
fn a_claim_whose_request_may_be_in_flight_stays_unchanged() {
    let mut world = fresh();
    world.status = world.reconcile(created()).claimed.unwrap();
    world.restart();
    world.facts.in_flight = InFlight::Possible(fixtures::after(45));
    let before = world.status.clone();
    let reconcile = world.reconcile(Answer::Uncalled);
    assert_eq!((reconcile.conclusion.next, &world.status), (Requeue::At(fixtures::after(45)), &before));
}

#[test]
fn no_wait_outlasts_the_deadline() {
    let mut world = open();
    world.deadline = fixtures::after(62);
    let reconcile = world.reconcile(said("generated", &[]));
    assert_eq!(reconcile.conclusion.next, Requeue::At(fixtures::after(62)));
}
