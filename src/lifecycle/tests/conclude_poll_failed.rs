//! The rows of `conclude` for polls without a usable answer.

use std::time::Duration;

use super::world::{Answer, World, assert_led_to, expected, line, poll_failed, said};
use crate::{
    api::{Outcome, ReadyWhen},
    lifecycle::{
        blocker::Blocker, conclude::Requeue, event::Event, fixtures, key_fact::KeyFact, since::elapsed,
    },
    portal::error::{Failed, NotSent, PortalError},
};

const CUT: PortalError = PortalError::Failed(Failed::Cut);
const AWAITING: &str = "AwaitingUser: R AwaitingUser, Rec AwaitingUser, CR Accepted, SC Created";
const RETRY: &str = "AwaitingUser: R ProgressingWithRetry, Rec ProgressingWithRetry, CR Accepted, SC Created";
const NOT_FOUND: &str = "AwaitingUser: R SessionNotFound, St SessionNotFound, CR Accepted, SC Created";

/// A session that was created a minute ago.
fn open() -> World {
    World::open(ReadyWhen::Verified)
}

/// The same answer for this many seconds.
fn polled_for(world: &mut World, answer: &Answer, seconds: i64) {
    let begun = world.facts.now;
    while world.facts.now.duration_since(begun).as_secs() < seconds {
        world.reconcile_when_due(answer.clone());
        world.pass(30);
    }
}

#[test]
fn a_refused_key_keeps_the_session_and_is_stalled_after_ten_minutes() {
    for (error, rotated, reason, event) in [
        (PortalError::KeyRejected, false, "KeyRejected", Event::KeyRejected),
        (PortalError::KeyRejected, true, "KeyRejected", Event::KeyRejected),
        (PortalError::AccessDenied, false, "AccessDenied", Event::Blocked(Blocker::AccessDenied)),
        (PortalError::AccessDenied, true, "KeyRotated", Event::Blocked(Blocker::KeyRotated)),
    ] {
        let mut world = open();
        if rotated {
            world.facts.key = KeyFact::Usable { fingerprint: "8899aabbccddeeff".to_owned() };
        }
        let reconcile = world.reconcile(poll_failed(error));
        let shown = format!("AwaitingUser: R AwaitingUser, Rec AwaitingUser, CR {reason}, SC Created");
        assert_led_to(
            &world,
            &reconcile,
            expected(&shown, 60..=60, &[event]),
            "the Secret is read each minute",
        );
        let next = world.facts.local_state.next.unwrap().duration_since(world.facts.now).as_secs();
        assert!((300..=3600).contains(&next), "the portal is polled after {next} s");
        polled_for(&mut world, &poll_failed(error), 601);
        world.reconcile_when_due(poll_failed(error));
        let stalled = format!("AwaitingUser: R AwaitingUser, St {reason}, CR {reason}, SC Created");
        assert_eq!(line(&world.status), stalled);
        world.restart();
        world.reconcile(poll_failed(error));
        assert_eq!(line(&world.status), stalled, "also after a restart");
        world.reconcile_when_due(said("generated", &[]));
        assert_eq!(line(&world.status), AWAITING, "it clears automatically");
    }
}

#[test]
fn a_new_session_may_be_unknown_to_the_portal_for_a_minute() {
    let mut world = World::fresh(ReadyWhen::Verified);
    world.reconcile(super::world::created());
    world.pass(59);
    let reconcile = world.reconcile(poll_failed(PortalError::NotFound));
    assert_led_to(&world, &reconcile, expected(AWAITING, 13..=17, &[]), "59 s old");
    assert_eq!(world.facts.local_state.not_found, None);
    let mut world = open();
    let reconcile = world.reconcile(poll_failed(PortalError::NotFound));
    assert_led_to(&world, &reconcile, expected(RETRY, 300..=300, &[]), "60 s old");
}

#[test]
fn a_third_404_stalls_the_session_and_does_not_end_it() {
    let mut world = open();
    for _ in 0..2 {
        let reconcile = world.reconcile_when_due(poll_failed(PortalError::NotFound));
        assert_led_to(&world, &reconcile, expected(RETRY, 300..=300, &[]), "the first two 404s");
    }
    let reconcile = world.reconcile_when_due(poll_failed(PortalError::NotFound));
    assert_led_to(
        &world,
        &reconcile,
        expected(NOT_FOUND, 3600..=3600, &[Event::SessionNotFound]),
        "the third",
    );
    let reconcile = world.reconcile_when_due(poll_failed(PortalError::NotFound));
    assert_led_to(&world, &reconcile, expected(NOT_FOUND, 3600..=3600, &[]), "reported once");
    world.restart();
    world.status.expires_at = None;
    let reconcile = world.reconcile(poll_failed(PortalError::NotFound));
    assert_led_to(&world, &reconcile, expected(NOT_FOUND, 3600..=3600, &[]), "also after a restart");
    world.reconcile_when_due(said("generated", &[]));
    assert_eq!(line(&world.status), AWAITING, "it clears automatically");
}

/// A poll that a person requests, whenever the next one is planned.
fn request_poll(world: &mut World, answer: Answer) {
    let requested = world.facts.reconcile_requested.as_deref().unwrap_or_default();
    world.facts.reconcile_requested = Some(format!("{requested}1"));
    world.reconcile(answer);
}

#[test]
fn polls_that_a_person_requests_do_not_confirm_a_404() {
    for hours in [0, 4] {
        let mut world = open();
        world.pass(hours * 3600);
        for _ in 0..10 {
            request_poll(&mut world, poll_failed(PortalError::NotFound));
            assert_eq!((line(&world.status).as_str(), world.status.outcome), (RETRY, None));
            world.facts.polled_at = Some(world.facts.now);
            world.pass(1);
        }
        let planned = world.facts.local_state.next.unwrap();
        assert_eq!(elapsed(world.facts.now, planned).as_secs(), 290, "five minutes after the first");
        world.reconcile_when_due(poll_failed(PortalError::NotFound));
        assert_eq!(line(&world.status), RETRY);
        world.reconcile_when_due(poll_failed(PortalError::NotFound));
        match hours {
            0 => assert_eq!(line(&world.status), NOT_FOUND),
            _ => assert_eq!(world.status.outcome, Some(Outcome::Expired), "another session is found"),
        }
    }
}

#[test]
fn however_polls_are_requested_ten_minutes_of_404s_stall_a_session_and_less_does_not() {
    let gaps: [u64; 5] = [1, 60, 299, 300, 450];
    for sequence in 0..gaps.len().pow(5) {
        let mut world = open();
        let mut gone_for = 0;
        let mut counted = 1;
        request_poll(&mut world, poll_failed(PortalError::NotFound));
        for position in 0..5 {
            let gap = gaps[sequence / gaps.len().pow(position) % gaps.len()];
            world.pass(gap);
            gone_for += gap;
            counted += u64::from(gone_for >= 300 * counted);
            request_poll(&mut world, poll_failed(PortalError::NotFound));
            let is_stalled = line(&world.status) == NOT_FOUND;
            assert_eq!(is_stalled, counted >= 3, "after {gone_for} s, of which {counted} counted");
            assert!(!is_stalled || gone_for >= 600, "after {gone_for} s");
        }
    }
}

#[test]
fn a_session_that_is_not_found_an_hour_after_its_end_has_expired() {
    for ready_when in [ReadyWhen::Verified, ReadyWhen::SessionCreated] {
        let mut world = World::open(ready_when);
        world.pass(4 * 3600);
        for _ in 0..2 {
            world.reconcile_when_due(poll_failed(PortalError::NotFound));
            assert_eq!(world.status.outcome, None);
        }
        world.facts.polled_at = Some(world.facts.now);
        let reconcile = world.reconcile_when_due(poll_failed(PortalError::NotFound));
        assert_eq!(reconcile.conclusion.events, [Event::ExpiredAndGone]);
        let shown = match ready_when {
            ReadyWhen::Verified => {
                "Expired: R Expired, St Expired, CR Accepted, SC Created, F Expired, V Expired"
            }
            ReadyWhen::SessionCreated => "Expired: R Finished, CR Accepted, SC Created, F Expired, V Expired",
        };
        assert_eq!(line(&world.status), shown);
    }
}

#[test]
fn an_end_by_404_needs_a_200_for_another_session_or_a_day_of_404() {
    let gone = |world: &mut World| {
        world.pass(4 * 3600);
        for _ in 0..3 {
            world.reconcile_when_due(poll_failed(PortalError::NotFound));
        }
        assert_eq!(world.status.outcome, None);
        assert!(line(&world.status).contains("St SessionNotFound"));
    };
    let mut world = open();
    world.facts.polled_at = Some(fixtures::after(4 * 3600 - 1));
    gone(&mut world);
    world.reconcile_when_due(poll_failed(PortalError::NotFound));
    assert_eq!(world.status.outcome, None, "an answer before the first 404 says nothing");
    world.facts.polled_at = Some(world.facts.now);
    world.reconcile_when_due(poll_failed(PortalError::NotFound));
    assert_eq!(world.status.outcome, Some(Outcome::Expired), "another session was found since");

    let mut world = open();
    gone(&mut world);
    let first = world.facts.local_state.not_found.unwrap().since;
    while world.status.outcome.is_none() {
        world.reconcile_when_due(poll_failed(PortalError::NotFound));
    }
    let hours = world.facts.now.duration_since(first).as_hours();
    assert!((24..26).contains(&hours), "{hours} hours");
}

#[test]
fn an_answer_that_may_be_a_gateways_changes_nothing_and_is_retried_in_seconds() {
    let statuses = [401, 403, 404, 410].map(|status| PortalError::Unclear { status });
    for error in statuses.into_iter().chain([PortalError::Failed(Failed::ServerError(502))]) {
        let unclear = poll_failed(error);
        let mut world = open();
        world.status.expires_at = None;
        world.pass(3600);
        world.reconcile(said("generated", &[]));
        let regular = world.facts.local_state.next.unwrap().duration_since(world.facts.now).as_secs();
        assert!(regular > 60, "{regular}");
        let reconcile = world.reconcile_when_due(unclear.clone());
        assert_led_to(&world, &reconcile, expected(AWAITING, 2..=2, &[]), "the first");
        for _ in 0..9 {
            let reconcile = world.reconcile_when_due(unclear.clone());
            let Requeue::At(at) = reconcile.conclusion.next else {
                panic!("{:?}", reconcile.conclusion.next)
            };
            assert!((2..=120).contains(&at.duration_since(world.facts.now).as_secs()), "{error:?}");
            assert_eq!(reconcile.conclusion.events, [], "{error:?}");
        }
        world.pass(3 * 3600);
        world.reconcile(unclear);
        assert_eq!(line(&world.status), RETRY, "{error:?}: nothing about key or session");
        world.reconcile_when_due(said("generated", &[]));
        assert_eq!(line(&world.status), AWAITING, "{error:?}");
    }
}

#[test]
fn an_error_is_retried_within_the_bounds_of_the_resource() {
    for error in [CUT, PortalError::Unclear { status: 403 }] {
        let mut world = open();
        world.facts.bounds.max = Some(Duration::from_secs(5));
        for _ in 0..12 {
            let reconcile = world.reconcile_when_due(poll_failed(error));
            let Requeue::At(at) = reconcile.conclusion.next else {
                panic!("{:?}", reconcile.conclusion.next)
            };
            assert!(at.duration_since(world.facts.now).as_secs() <= 5, "{error:?}");
        }
    }
}

#[test]
fn an_end_clears_session_not_found() {
    let mut world = World::open(ReadyWhen::SessionCreated);
    for _ in 0..3 {
        world.reconcile_when_due(poll_failed(PortalError::NotFound));
    }
    assert!(line(&world.status).contains("St SessionNotFound"));
    world.pass(3 * 3600);
    world.facts.polled_at = Some(world.facts.now);
    world.reconcile(poll_failed(PortalError::NotFound));
    assert_eq!(line(&world.status), "Expired: R Finished, CR Accepted, SC Created, F Expired, V Expired");
}

#[test]
fn a_pause_is_observed_and_shows_after_a_minute() {
    let mut world = open();
    let limited = poll_failed(PortalError::Limited { retry_after: Some(Duration::from_secs(40)) });
    let reconcile = world.reconcile(limited.clone());
    assert_led_to(&world, &reconcile, expected(AWAITING, 40..=40, &[]), "the first");
    world.reconcile_when_due(limited.clone());
    let reconcile = world.reconcile_when_due(limited);
    let shown = "AwaitingUser: R AwaitingUser, Rec RateLimited, CR Accepted, SC Created";
    assert_led_to(&world, &reconcile, expected(shown, 40..=40, &[]), "80 s later");
}

#[test]
fn a_pause_of_zero_seconds_lasts_five_seconds_and_brings_no_poll_forward() {
    for seconds in [0, 1] {
        let limited = poll_failed(PortalError::Limited { retry_after: Some(Duration::from_secs(seconds)) });
        let mut world = open();
        world.pass(50 * 60);
        world.reconcile(said("generated", &[]));
        let compact = world.facts.local_state.next.unwrap().duration_since(world.facts.now);
        assert!(compact.as_secs() > 60, "{compact}");
        world.reconcile_when_due(limited.clone());
        let limited_for = world.facts.local_state.next.unwrap().duration_since(world.facts.now);
        assert!(limited_for >= compact, "{limited_for} {compact}");

        let mut world = open();
        world.facts.bounds.max = Some(Duration::from_secs(1));
        let reconcile = world.reconcile(limited);
        assert_led_to(&world, &reconcile, expected(AWAITING, 5..=5, &[]), "whatever the resource requests");
    }
}

#[test]
fn errors_show_after_five_minutes_and_clear_automatically() {
    for error in
        [CUT, PortalError::NotSent(NotSent::Connect), PortalError::Redirected, PortalError::Unconfigured]
    {
        let mut world = open();
        let reconcile = world.reconcile(poll_failed(error));
        assert_led_to(
            &world,
            &reconcile,
            expected(AWAITING, 2..=2, &[]),
            "an outage must not write every status",
        );
        polled_for(&mut world, &poll_failed(error), 240);
        assert_eq!(line(&world.status), AWAITING);
        polled_for(&mut world, &poll_failed(error), 180);
        assert_eq!(line(&world.status), RETRY, "{error:?}");
        world.reconcile_when_due(said("generated", &[]));
        assert_eq!(line(&world.status), AWAITING);
    }
}
