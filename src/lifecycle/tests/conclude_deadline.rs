//! What `spec.activeDeadline` ends, and what delays that end.

use super::world::{Answer, World, line, poll_failed, said};
use crate::{
    api::{Outcome, Phase, ReadyWhen},
    lifecycle::{
        conclude::Requeue,
        event::Event,
        facts::{Deadline, PortalFact},
        first_reconcile::first_reconcile,
        fixtures::{self, UID, spec},
        key_fact::{KeyFact, KeyFault},
        state::{ParsedStatus, State},
        step::{Refusal, Step, Transition},
    },
    portal::error::{Failed, PortalError},
};

const LOST: PortalError = PortalError::Failed(Failed::TimedOut);
const HOUR: u64 = 3600;
/// The deadline of a [`World`], counted from the creation of the resource.
const DEADLINE: u64 = 168 * HOUR;

/// A session that is open when its deadline passes.
fn open() -> World {
    let mut world = World::open(ReadyWhen::Verified);
    world.status.expires_at = None;
    world.pass(DEADLINE);
    world
}

fn no_key() -> KeyFact {
    KeyFact::Missing(KeyFault::SecretNotFound)
}

/// Reconciles without a call until the verification ends; returns how many hours after the deadline that is.
fn hours_until_the_end(world: &mut World) -> u64 {
    while world.status.outcome.is_none() {
        let Requeue::At(at) = world.reconcile(Answer::Uncalled).conclusion.next else { break };
        world.facts.now = world.facts.now.max(at);
    }
    let after = world.facts.now.duration_since(fixtures::after(DEADLINE)).as_hours();
    u64::try_from(after).unwrap()
}

#[test]
fn the_deadline_ends_it_as_failed() {
    let failed = "Failed: R Failed, St DeadlineExceeded,";
    for (mut world, shown, is_open) in [
        (World::fresh(ReadyWhen::Verified), "CR NotChecked, SC NotYet", false),
        (World::outcome_unknown(1), "CR NotChecked, SC OutcomeUnknown", false),
        (World::open(ReadyWhen::Verified), "CR Accepted, SC Created", true),
        (World::open(ReadyWhen::SessionCreated), "CR Accepted, SC Created", true),
    ] {
        world.pass(DEADLINE + 600);
        if is_open {
            world.reconcile(said("generated", &[]));
        }
        let reconcile = world.reconcile(Answer::Uncalled);
        let shown = format!("{failed} {shown}, F Failed, V Failed");
        assert_eq!((&reconcile.step, line(&world.status)), (&Step::Transition(Transition::Fail), shown));
        assert_eq!(reconcile.conclusion.events, [Event::DeadlineExceeded]);
        assert_eq!((reconcile.conclusion.next, world.state()), (Requeue::Done, State::Settled));
    }
}

#[test]
fn a_verdict_that_is_there_at_the_deadline_counts() {
    let mut world = open();
    assert_eq!(world.reconcile(said("verified", &[])).conclusion.events, [Event::Verified]);
}

#[test]
fn the_deadline_ends_it_after_a_last_poll_that_was_answered() {
    let mut world = open();
    world.reconcile(poll_failed(LOST));
    assert!(
        matches!(world.reconcile(said("generated", &[])).step, Step::Poll(_)),
        "a poll without an answer does not count"
    );
    assert_eq!(world.reconcile(Answer::Uncalled).step, Step::Transition(Transition::Fail));
}

#[test]
fn a_verdict_from_before_the_deadline_counts_however_late_the_poll_is() {
    for hours in [1, 30, 5000] {
        // It was suspended across its deadline.
        let mut suspended = World::open(ReadyWhen::Verified);
        suspended.facts.suspend = true;
        suspended.reconcile(Answer::Uncalled);
        suspended.pass(DEADLINE + hours * HOUR);
        suspended.facts.suspend = false;
        // The operator was not running.
        let mut away = open();
        away.pass(hours * HOUR);
        away.restart();
        // The key was missing for less than a day.
        let mut keyless = open();
        keyless.facts.key = no_key();
        keyless.reconcile(Answer::Uncalled);
        keyless.pass(hours.min(23) * HOUR);
        keyless.facts.key = fixtures::facts().key;
        for mut world in [suspended, away, keyless] {
            let reconcile = world.reconcile(said("verified", &[]));
            assert_eq!(reconcile.conclusion.events, [Event::Verified], "{hours} h");
            assert_eq!(world.status.phase, Some(Phase::Verified));
        }
    }
}

#[test]
fn the_ten_minutes_for_a_last_poll_begin_when_it_becomes_possible() {
    let mut world = open();
    world.facts.key = no_key();
    world.reconcile(Answer::Uncalled);
    world.pass(5 * HOUR);
    world.facts.key = fixtures::facts().key;
    let begun = world.facts.now;
    let step = loop {
        let step = world.decide();
        if step == Step::Transition(Transition::Fail) {
            break step;
        }
        let reconcile = world.reconcile(poll_failed(LOST));
        let Requeue::At(at) = reconcile.conclusion.next else { panic!("{:?}", reconcile.conclusion.next) };
        world.facts.now = world.facts.now.max(at);
    };
    let tried = world.facts.now.duration_since(begun).as_secs();
    assert!((600..720).contains(&tried), "{step:?} after {tried} s");
}

#[test]
fn a_day_after_the_deadline_it_ends_even_if_it_could_not_be_polled() {
    let hinder: [fn(&mut World); 3] = [
        |world| world.facts.key = no_key(),
        |world| world.facts.portal = PortalFact::NotAllowed,
        |world| world.refusal = Some(Refusal::Breaker(fixtures::after(DEADLINE * 9))),
    ];
    for hinder in hinder {
        let mut world = open();
        hinder(&mut world);
        assert_eq!(hours_until_the_end(&mut world), 24);
        assert_eq!(world.status.outcome, Some(Outcome::Failed));
    }
}

#[test]
fn the_day_after_the_deadline_does_not_count_time_suspended() {
    let mut world = open();
    world.facts.key = no_key();
    for hours in [10, 20] {
        world.reconcile(Answer::Uncalled);
        world.pass(5 * HOUR);
        world.facts.suspend = true;
        world.reconcile(Answer::Uncalled);
        world.pass(hours * HOUR);
        world.reconcile(Answer::Uncalled);
        world.facts.suspend = false;
    }
    assert_eq!(hours_until_the_end(&mut world), 24 + 10 + 20);
}

#[test]
fn a_resume_between_two_processes_counts_from_the_restart() {
    let mut world = open();
    world.facts.suspend = true;
    world.reconcile(Answer::Uncalled);
    world.pass(48 * HOUR);
    let first = first_reconcile(&ParsedStatus::of(UID, &world.status), &spec(), Some(2), 7, world.facts.now);
    assert!(first.suspended);
    world.restart();
    world.facts.local_state.suspended = Some(jiff::Timestamp::UNIX_EPOCH);
    world.facts.suspend = false;
    world.facts.key = no_key();
    assert_eq!(hours_until_the_end(&mut world), 48 + 24);
}

#[test]
fn a_deadline_in_the_future_has_not_passed() {
    let local_state = fixtures::facts().local_state;
    let at = fixtures::after(60);
    assert_eq!(Deadline::of(at, fixtures::after(59), &local_state), Deadline::Ahead(at));
    let passed = Deadline::Passed { at, polled: false, overdue: false, long_ago: false };
    assert_eq!(Deadline::of(at, at, &local_state), passed);
}
