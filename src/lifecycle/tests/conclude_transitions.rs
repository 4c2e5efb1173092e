//! The rows of `conclude` for transitions, and for a call that was not made.

use super::world::{
    Answer, Reconcile, World, assert_led_to, created, expected, line, poll_failed, refused, said,
};
use crate::{
    api::{ReadyWhen, VerificationStatus},
    lifecycle::{
        conclude::{Requeue, conclude},
        event::Event,
        facts::PortalFact,
        state::attempts,
        step::{Step, StepOutcome, Transition},
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

fn request_retry(world: &mut World, token: &str) -> Reconcile {
    world.facts.retry = Some(token.to_owned());
    let reconcile = world.reconcile(Answer::Uncalled);
    world.facts.retry = None;
    reconcile
}

#[test]
fn a_retry_acknowledges_the_unknown_outcomes_and_continues_at_once() {
    let mut world = World::outcome_unknown(3);
    assert!(line(&world.status).contains("St CreateOutcomeUnknown"));
    let reconcile = request_retry(&mut world, "go");
    let retrying = "Creating: R CreatingSession, Rec CreateOutcomeUnknown, CR NotChecked, SC OutcomeUnknown";
    assert_eq!((line(&world.status).as_str(), reconcile.conclusion.next), (retrying, Requeue::Now));
    let session = world.status.session.as_ref().unwrap();
    assert_eq!((session.attempt, session.orphans, session.acknowledged), (3, 3, 3));
    assert_eq!(world.status.last_handled_retry.as_deref(), Some("go"));
    assert_eq!(world.decide(), Step::Create { attempt: 4 });
}

#[test]
fn three_more_outcomes_may_be_unknown_after_a_retry() {
    let mut world = World::outcome_unknown(3);
    request_retry(&mut world, "go");
    for _ in 0..3 {
        assert!(matches!(world.reconcile_when_due(refused(LOST)).step, Step::Create { .. }));
    }
    assert!(line(&world.status).contains("St CreateOutcomeUnknown"));
    assert_eq!(attempts(&world.status).unacknowledged(), 3);
}

#[test]
fn a_retry_clears_the_stall_of_an_open_session() {
    let mut world = open();
    for _ in 0..3 {
        world.reconcile_when_due(poll_failed(PortalError::NotFound));
    }
    assert!(line(&world.status).contains("St SessionNotFound"));
    let reconcile = request_retry(&mut world, "go");
    assert_eq!((line(&world.status).as_str(), reconcile.conclusion.next), (AWAITING, Requeue::Now));
    assert_eq!(world.facts.local_state.not_found, None);
}

#[test]
fn nothing_ends_by_the_clock_while_suspended() {
    let mut world = open();
    world.pass(400 * 24 * 3600);
    world.facts.suspend = true;
    let reconcile = world.reconcile(Answer::Uncalled);
    let shown = "AwaitingUser: R Suspended, CR Accepted, SC Created";
    assert_eq!((line(&world.status).as_str(), reconcile.conclusion.next), (shown, Requeue::AwaitChange));
}

#[test]
fn an_end_with_nothing_pending_is_settled_and_left_alone() {
    let mut world = open();
    world.reconcile(said("rejected", &[]));
    world.status.settled = false;
    let before = world.status.clone();
    let reconcile = world.reconcile(Answer::Uncalled);
    assert_eq!(
        (reconcile.step, reconcile.conclusion.next),
        (Step::Transition(Transition::Settle), Requeue::Done)
    );
    assert_eq!(world.status, VerificationStatus { settled: true, ..before }, "nothing else changes");
    let reconcile = world.reconcile(Answer::Uncalled);
    assert_eq!(
        (reconcile.step, reconcile.conclusion.status, reconcile.conclusion.next),
        (Step::Transition(Transition::NoOp), None, Requeue::Done)
    );
}

#[test]
fn suspension_keeps_ready_if_the_spec_requires_only_a_link() {
    let mut world = World::open(ReadyWhen::SessionCreated);
    world.facts.suspend = true;
    world.reconcile(Answer::Uncalled);
    assert_eq!(line(&world.status), "AwaitingUser: R SessionCreated, CR Accepted, SC Created");
    let mut world = World::fresh(ReadyWhen::SessionCreated);
    world.facts.suspend = true;
    world.reconcile(Answer::Uncalled);
    assert_eq!(line(&world.status), "Pending: R Suspended, CR NotChecked, SC NotYet");
}

#[test]
fn a_resumed_verification_continues_where_it_was() {
    let mut world = open();
    world.facts.suspend = true;
    world.reconcile(Answer::Uncalled);
    world.facts.suspend = false;
    world.reconcile(said("in_progress", &[]));
    assert_eq!(line(&world.status), "InProgress: R InProgress, Rec InProgress, CR Accepted, SC Created");
}

#[test]
fn a_portal_that_is_not_allowed_is_shown_reported_once_and_clears_automatically() {
    for (mut world, shown) in [
        (fresh(), "Pending: R PortalNotAllowed, St PortalNotAllowed, CR NotChecked, SC NotYet"),
        (
            World::outcome_unknown(1),
            "Creating: R PortalNotAllowed, St PortalNotAllowed, CR NotChecked, SC OutcomeUnknown",
        ),
        (open(), "AwaitingUser: R AwaitingUser, St PortalNotAllowed, CR Accepted, SC Created"),
        (
            World::open(ReadyWhen::SessionCreated),
            "AwaitingUser: R AwaitingUser, St PortalNotAllowed, CR Accepted, SC Created",
        ),
    ] {
        let allowed = std::mem::replace(&mut world.facts.portal, PortalFact::NotAllowed);
        let reconcile = world.reconcile(Answer::Uncalled);
        assert_led_to(&world, &reconcile, expected(shown, 3600..=3600, &[Event::PortalNotAllowed]), shown);
        assert_eq!(world.reconcile(Answer::Uncalled).conclusion.events, []);
        world.facts.portal = allowed;
        world.pass(3600);
        if world.status.verification_id.is_some() {
            world.reconcile(said("generated", &[]));
        } else {
            world.reconcile(created());
        }
        assert!(!line(&world.status).contains("St "), "{}", line(&world.status));
    }
}

#[test]
fn an_inconsistent_status_is_shown_and_reported_once_and_otherwise_left_alone() {
    let mut world = open();
    world.status.session = None;
    let before = world.status.clone();
    let reconcile = world.reconcile(Answer::Uncalled);
    let shown = "AwaitingUser: R AwaitingUser, St StatusUnreadable, CR Accepted, SC Created";
    assert_led_to(&world, &reconcile, expected(shown, 3600..=3600, &[Event::StatusUnreadable]), "once");
    let conditions = world.status.conditions.clone();
    assert_eq!(world.status, VerificationStatus { conditions, ..before }, "nothing else changes");
    assert_eq!(world.reconcile(Answer::Uncalled).conclusion.events, []);
}

#[test]
fn the_outcome_of_an_inconsistent_status_is_not_believed() {
    let mut world = fresh();
    world.status.outcome = Some(crate::api::Outcome::Verified);
    world.reconcile(Answer::Uncalled);
    assert_eq!(line(&world.status), "–: R StatusUnreadable, St StatusUnreadable, CR NotChecked, SC NotYet");
}

#[test]
fn what_is_being_deleted_is_not_written() {
    for mut world in [fresh(), open(), World::outcome_unknown(1)] {
        world.facts.deleting = true;
        let reconcile = world.reconcile(Answer::Uncalled);
        assert_eq!(
            (reconcile.step, reconcile.conclusion.status),
            (Step::Transition(Transition::Release), None)
        );
        assert_eq!(reconcile.conclusion.next, Requeue::Done);
    }
}

#[test]
fn a_call_that_was_not_made_is_retried_and_writes_nothing() {
    let world = open();
    let facts = &world.facts;
    let done = conclude(&world.parsed(), &StepOutcome::NotPerformed, facts);
    let Requeue::At(at) = done.next else { panic!("{:?}", done.next) };
    assert!((2..=120).contains(&at.duration_since(facts.now).as_secs()));
    assert_eq!((done.status, done.events), (None, vec![]));
}
