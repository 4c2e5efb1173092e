//! The rows of `conclude` for polls that were answered.

use std::time::Duration;

use super::world::{Answer, World, assert_led_to, expected, line, said};
use crate::{
    api::{Outcome, Phase, ReadyWhen},
    lifecycle::{conclude::Requeue, event::Event, fixtures, since::later},
    portal::{verification_id::VerificationId, wire::Details},
};

const AWAITING: &str = "AwaitingUser: R AwaitingUser, Rec AwaitingUser, CR Accepted, SC Created";

/// A session that was created a minute ago.
fn open() -> World {
    World::open(ReadyWhen::Verified)
}

#[test]
fn an_answer_about_another_session_changes_nothing_and_is_reported() {
    for id in [None, VerificationId::parse("ver_other").ok()] {
        for word in ["verified", "rejected", "expired", "in_progress"] {
            let mut world = open();
            let answer =
                Answer::Poll(Ok(Details { id: id.clone(), ..fixtures::details(word, &["document"]) }));
            let before = world.status.clone();
            let reconcile = world.reconcile(answer);
            assert_led_to(&world, &reconcile, expected(AWAITING, 2..=120, &[Event::IdMismatch]), word);
            assert_eq!(world.status.phase, before.phase);
            assert_eq!(world.facts.local_state.good_polls, 0, "it does not count as answered");
        }
    }
}

#[test]
fn each_status_of_the_portal_has_its_phase() {
    let review = "InReview: R InReview, Rec InReview, CR Accepted, SC Created";
    let in_progress = "InProgress: R InProgress, Rec InProgress, CR Accepted, SC Created";
    let processing = "Processing: R InProgress, Rec InProgress, CR Accepted, SC Created";
    for (word, shown) in [
        ("generated", AWAITING),
        ("initiated", in_progress),
        ("in_progress", in_progress),
        ("In-Progress", in_progress),
        ("validating", processing),
        ("needs_manual_review", review),
        ("needs_template", review),
    ] {
        let mut world = open();
        let reconcile = world.reconcile(said(word, &[]));
        assert_led_to(&world, &reconcile, expected(shown, 1..=300, &[]), word);
    }
}

#[test]
fn a_verdict_ends_it_and_leaves_the_watch() {
    for (word, outcome, event, shown) in [
        (
            "verified",
            Outcome::Verified,
            Event::Verified,
            "Verified: R Verified, CR Accepted, SC Created, F Verified, V Verified",
        ),
        (
            "rejected",
            Outcome::Rejected,
            Event::Rejected,
            "Rejected: R Rejected, St Rejected, CR Accepted, SC Created, F Rejected, V Rejected",
        ),
        (
            "expired",
            Outcome::Expired,
            Event::Expired,
            "Expired: R Expired, St Expired, CR Accepted, SC Created, F Expired, V Expired",
        ),
    ] {
        let mut world = open();
        let reconcile = world.reconcile(said(word, &["document", "liveness"]));
        assert_eq!(line(&world.status), shown);
        assert_eq!(
            (reconcile.conclusion.next, reconcile.conclusion.events.as_slice()),
            (Requeue::Done, &[event][..])
        );
        let status = &world.status;
        assert_eq!((status.outcome, status.finished_at), (Some(outcome), Some(world.facts.now)));
        assert!(status.settled, "{word}: nothing is pending, so it is settled in the same write");
        assert_eq!(status.portal_status.as_deref(), Some(word));
        assert_eq!(status.progress_summary.as_deref(), Some("2/2"));
    }
}

#[test]
fn a_verdict_with_ready_when_session_created_is_finished() {
    for word in ["verified", "rejected", "expired"] {
        let mut world = World::open(ReadyWhen::SessionCreated);
        world.reconcile(said(word, &[]));
        assert!(line(&world.status).contains(": R Finished, CR Accepted"), "{}", line(&world.status));
    }
}

#[test]
fn only_the_exact_status_is_a_verdict() {
    for word in ["VERIFIED", " verified", "verified\n", "verified\0", "Verified", "verifie", "", "junk"] {
        let mut world = open();
        world.reconcile(said(word, &[]));
        assert_eq!(line(&world.status), AWAITING, "{word:?}");
        assert_eq!(world.status.outcome, None);
    }
}

#[test]
fn an_unknown_status_is_shown_and_reported_once_and_keeps_the_phase() {
    let mut world = open();
    world.reconcile(said("in_progress", &["document"]));
    world.pass(60);
    let reconcile = world.reconcile_when_due(said("junk\u{1F600}\r\n", &["document"]));
    assert_eq!(reconcile.conclusion.events, [Event::UnknownPortalStatus]);
    assert_eq!(world.status.portal_status.as_deref(), Some("junk"));
    assert_eq!(world.status.phase, Some(Phase::InProgress));
    world.pass(60);
    assert_eq!(world.reconcile_when_due(said("junk", &["document"])).conclusion.events, []);
    world.pass(60);
    let reconcile = world.reconcile_when_due(said("other junk", &["document"]));
    assert_eq!(reconcile.conclusion.events, [Event::UnknownPortalStatus]);
}

#[test]
fn an_answer_without_a_status_keeps_the_phase() {
    let mut world = open();
    world.reconcile(said("in_progress", &[]));
    world.pass(60);
    world.reconcile_when_due(Answer::Poll(Ok(Details {
        current: None,
        ..fixtures::details("", &["document"])
    })));
    assert_eq!(world.status.phase, Some(Phase::InProgress));
    assert_eq!(world.status.progress_summary.as_deref(), Some("1/2"));
}

#[test]
fn progress_is_written_at_most_every_ten_seconds() {
    let mut world = open();
    world.reconcile(said("in_progress", &[]));
    let shown_at = world.facts.now;
    world.pass(4);
    world.facts.local_state.next = None;
    let reconcile = world.reconcile(said("in_progress", &["document"]));
    assert!(world.status.progress.is_empty(), "four seconds are too short");
    let Requeue::At(at) = reconcile.conclusion.next else { panic!("{:?}", reconcile.conclusion.next) };
    assert!(at <= later(shown_at, Duration::from_secs(10)), "no later than it may be shown");
    world.facts.now = later(shown_at, Duration::from_secs(10));
    world.reconcile(said("in_progress", &["document"]));
    assert_eq!(world.status.progress_summary.as_deref(), Some("1/2"));
}

#[test]
fn a_poll_that_finds_nothing_new_writes_nothing() {
    let mut world = open();
    world.reconcile(said("in_progress", &["document"]));
    for stamp in 1..5 {
        let before = world.status.clone();
        let details = Details {
            updated_at: Some(fixtures::after(stamp * 100)),
            ..fixtures::details("in_progress", &["document"])
        };
        world.reconcile_when_due(Answer::Poll(Ok(details)));
        assert_eq!(world.status, before, "a new stamp alone is not worth a write");
    }
}
