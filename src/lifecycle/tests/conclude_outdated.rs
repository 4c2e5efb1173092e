//! Answers that are older than what the portal had already reported.

use super::world::{World, line, said_at};
use crate::{
    api::{Outcome, ReadyWhen},
    lifecycle::{
        conclude::conclude,
        event::Event,
        facts::{Deadline, Facts},
        fixtures,
        step::{Step, StepOutcome, Transition},
    },
    portal::wire::Details,
};

const BEFORE: u64 = 100;
const KNOWN: u64 = 200;

/// An open session for which the portal reported `in_progress` with one module completed, at [`KNOWN`].
fn known() -> World {
    let mut world = World::open(ReadyWhen::Verified);
    world.status.expires_at = None;
    world.pass(600);
    world.reconcile(said_at(KNOWN, "in_progress", &["document"]));
    world
}

#[test]
fn an_outdated_answer_changes_nothing_that_is_shown() {
    let mut world = known();
    let shown = world.status.clone();
    for _ in 0..5 {
        world.reconcile_when_due(said_at(BEFORE, "generated", &[]));
        assert_eq!(world.status, shown);
    }
    world.reconcile_when_due(said_at(KNOWN + 1, "validating", &["document", "liveness"]));
    assert!(line(&world.status).starts_with("Processing"), "{}", line(&world.status));
}

#[test]
fn after_five_outdated_answers_in_a_row_the_portal_is_believed() {
    let mut world = known();
    world.facts.bounds.max = Some(std::time::Duration::from_secs(10));
    for _ in 0..5 {
        world.reconcile_when_due(said_at(BEFORE, "generated", &[]));
    }
    assert!(line(&world.status).starts_with("InProgress"));
    world.reconcile_when_due(said_at(BEFORE, "generated", &[]));
    assert!(line(&world.status).starts_with("AwaitingUser"), "the sixth");
    world.pass(30);
    world.reconcile(said_at(BEFORE + 1, "initiated", &[]));
    assert!(line(&world.status).starts_with("InProgress"), "it is compared with the last report");
}

#[test]
fn after_ten_minutes_of_outdated_answers_the_portal_is_believed() {
    let mut world = known();
    world.reconcile_when_due(said_at(BEFORE, "generated", &[]));
    world.pass(599);
    world.reconcile(said_at(BEFORE, "generated", &[]));
    assert!(line(&world.status).starts_with("InProgress"));
    world.pass(1);
    world.facts.local_state.next = None;
    world.reconcile(said_at(BEFORE, "generated", &[]));
    assert!(line(&world.status).starts_with("AwaitingUser"));
}

#[test]
fn outdated_answers_between_others_are_never_believed() {
    let mut world = known();
    for _ in 0..20 {
        world.reconcile_when_due(said_at(BEFORE, "generated", &[]));
        world.reconcile_when_due(said_at(KNOWN, "in_progress", &["document"]));
        assert!(line(&world.status).starts_with("InProgress"));
    }
}

#[test]
fn the_last_report_survives_a_restart() {
    let mut world = known();
    let shown = world.status.clone();
    world.restart();
    world.reconcile(said_at(BEFORE, "generated", &[]));
    assert_eq!(world.status, shown);
}

#[test]
fn verified_and_rejected_count_even_in_an_outdated_answer() {
    for (word, outcome) in [("verified", Outcome::Verified), ("rejected", Outcome::Rejected)] {
        let mut world = known();
        world.reconcile_when_due(said_at(BEFORE, word, &[]));
        assert_eq!(world.status.outcome, Some(outcome));
    }
}

#[test]
fn an_outdated_expired_is_polled_once_more() {
    let mut world = known();
    world.reconcile_when_due(said_at(BEFORE, "expired", &[]));
    assert_eq!(world.status.outcome, None);
    assert_eq!(world.facts.local_state.next.unwrap().duration_since(world.facts.now).as_secs(), 5);
    world.reconcile_when_due(said_at(KNOWN, "in_progress", &["document"]));
    world.reconcile_when_due(said_at(BEFORE, "expired", &[]));
    assert_eq!(world.status.outcome, None, "the first outdated answer after another one");
    let reconcile = world.reconcile_when_due(said_at(BEFORE, "expired", &[]));
    assert_eq!(world.status.outcome, Some(Outcome::Expired));
    assert_eq!(reconcile.conclusion.events, [Event::Expired]);
    let mut world = known();
    world.reconcile_when_due(said_at(KNOWN, "expired", &[]));
    assert_eq!(world.status.outcome, Some(Outcome::Expired), "an answer that is not older counts at once");
}

#[test]
fn polls_that_a_person_requests_do_not_confirm_an_outdated_answer() {
    let request_poll = |world: &mut World, number: u64, answer| {
        world.facts.reconcile_requested = Some(number.to_string());
        world.reconcile(answer);
    };
    let mut world = known();
    world.pass(60);
    for number in 0..6 {
        request_poll(&mut world, number, said_at(BEFORE, "generated", &[]));
        assert!(line(&world.status).starts_with("InProgress"), "after {number} s");
        world.pass(1);
    }
    let mut world = known();
    world.reconcile_when_due(said_at(BEFORE, "expired", &[]));
    for number in 0..4 {
        world.pass(1);
        request_poll(&mut world, number, said_at(BEFORE, "expired", &[]));
        assert_eq!(world.status.outcome, None, "at {number}");
    }
    world.reconcile_when_due(said_at(BEFORE, "expired", &[]));
    assert_eq!(world.status.outcome, Some(Outcome::Expired));
}

#[test]
fn a_stamp_later_than_its_answer_is_neither_shown_nor_remembered() {
    let mut world = World::open(ReadyWhen::Verified);
    let future = Details {
        updated_at: Some(fixtures::after(10_000)),
        date: Some(fixtures::after(300)),
        ..fixtures::details("in_progress", &["document"])
    };
    world.reconcile(super::world::Answer::Poll(Ok(future)));
    assert_eq!((world.status.portal_updated_at, world.facts.local_state.updated_at), (None, None));
    world.pass(300);
    world.reconcile(said_at(KNOWN, "validating", &["document", "liveness"]));
    assert!(line(&world.status).starts_with("Processing"), "it does not count as outdated");
}

/// The same session after its deadline.
fn overdue() -> World {
    let mut world = known();
    world.pass(168 * 3600);
    world.facts.local_state.next = None;
    world
}

#[test]
fn an_outdated_answer_does_not_count_as_last_poll_and_is_polled_again() {
    for (word, modules) in [("in_progress", &["document"][..]), ("expired", &[])] {
        let mut world = overdue();
        let answered = world.facts.local_state.last_answer;
        world.reconcile(said_at(BEFORE, word, modules));
        assert_eq!((world.status.outcome, world.facts.local_state.last_answer), (None, answered), "{word}");
        assert_eq!(world.facts.local_state.next.unwrap().duration_since(world.facts.now).as_secs(), 5);
        let reconcile = world.reconcile_when_due(said_at(KNOWN + 1, "verified", &[]));
        assert_eq!(reconcile.conclusion.events, [Event::Verified], "{word}");
    }
}

#[test]
fn outdated_answers_delay_the_deadline_for_five_polls_or_ten_minutes() {
    let mut world = overdue();
    for _ in 0..6 {
        assert!(matches!(world.reconcile_when_due(said_at(BEFORE, "in_progress", &[])).step, Step::Poll(_)));
    }
    assert_eq!(world.decide(), Step::Transition(Transition::Fail), "the sixth is believed");
    let mut world = overdue();
    world.reconcile(said_at(BEFORE, "in_progress", &[]));
    world.pass(599);
    assert!(matches!(world.decide(), Step::Poll(_)));
    world.pass(1);
    assert_eq!(world.decide(), Step::Transition(Transition::Fail));
}

#[test]
fn an_outdated_answer_to_an_earlier_poll_does_not_count_as_last_poll() {
    let mut world = known();
    world.pass(60);
    let Step::Poll(id) = overdue().decide() else { panic!("it is polled") };
    let facts = Facts { deadline: Deadline::Ahead(world.facts.now), ..world.facts.clone() };
    let details =
        Details { updated_at: Some(fixtures::after(BEFORE)), ..fixtures::details("in_progress", &[]) };
    let outcome = StepOutcome::Poll { id, answer: Ok(details) };
    let conclusion = conclude(&world.parsed(), &outcome, &facts);
    assert_eq!(conclusion.local_state.last_answer, world.facts.local_state.last_answer);
}
