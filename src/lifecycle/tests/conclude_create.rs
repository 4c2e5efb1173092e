//! The rows of `conclude` for creates, and for claims that were found.

use super::world::{Answer, ERRORS, Reconcile, World, assert_led_to, created, expected, line, refused};
use crate::{
    api::{Mode, OnUnknownOutcome, Phase, ReadyWhen, Session, SessionState},
    lifecycle::{
        blocker::Blocker,
        conclude::{Requeue, claim, conclude},
        event::Event,
        facts::InFlight,
        fixtures::{self, ID},
        state::State,
        step::{CreateOutcome, Refusal, Step, StepOutcome},
    },
    portal::error::{Failed, NotSent, PortalError},
};

const LOST: PortalError = PortalError::Failed(Failed::TimedOut);
pub(super) const NOT_SENT: PortalError = PortalError::NotSent(NotSent::Connect);

pub(super) fn fresh() -> World {
    World::fresh(ReadyWhen::Verified)
}

pub(super) fn session(world: &World) -> &Session {
    world.status.session.as_ref().unwrap()
}

/// Concludes a create that got no answer, with or without the claim.
fn ended(end: CreateOutcome, is_claimed: bool) -> (World, crate::lifecycle::conclude::Conclusion) {
    let mut world = fresh();
    if is_claimed {
        world.status = claim(&world.status, 1, &world.facts);
    }
    let outcome = StepOutcome::Create(end);
    let conclusion = conclude(&world.parsed(), &outcome, &world.facts);
    if let Some(after) = &conclusion.status {
        world.status.clone_from(after);
    }
    (world, conclusion)
}

#[test]
fn a_claim_that_another_writer_won_is_left_alone() {
    let (_, done) = ended(CreateOutcome::ClaimLost, false);
    assert_eq!((done.status, done.next, done.events), (None, Requeue::AwaitChange, vec![]));
}

#[test]
fn a_claim_that_cannot_be_written_is_retried_within_two_minutes() {
    let (world, done) = ended(CreateOutcome::ClaimNotWritten, false);
    assert_eq!((done.status, done.events), (None, vec![]));
    let Requeue::At(at) = done.next else { panic!("{:?}", done.next) };
    let wait = at.duration_since(world.facts.now).as_secs();
    assert!((2..=120).contains(&wait), "{wait}");
}

#[test]
fn a_claim_without_a_request_changes_nothing_else() {
    let (world, done) = ended(CreateOutcome::NotSent, true);
    let reconcile = Reconcile { step: Step::Create { attempt: 1 }, claimed: None, conclusion: done };
    let shown = "Pending: R Pending, Rec Pending, CR NotChecked, SC NotYet";
    assert_led_to(&world, &reconcile, expected(shown, 5..=5, &[]), "nothing went wrong at the portal");
    assert_eq!(session(&world).state, Some(SessionState::NotCreated));
    assert_eq!((session(&world).attempt, session(&world).orphans), (1, 0));
}

#[test]
fn a_claim_shows_that_a_session_is_being_created() {
    let reconcile = fresh().reconcile(created());
    let shown = "Creating: R CreatingSession, Rec CreatingSession, CR NotChecked, SC NotYet";
    assert_eq!(line(&reconcile.claimed.unwrap()), shown);
}

#[test]
fn a_created_session_publishes_its_link() {
    let mut world = fresh();
    let reconcile = world.reconcile(created());
    let shown = "AwaitingUser: R AwaitingUser, Rec AwaitingUser, CR Accepted, SC Created";
    assert_led_to(&world, &reconcile, expected(shown, 13..=17, &[Event::SessionCreated]), "15 s ± 10 %");
    let status = &world.status;
    assert_eq!(status.verification_id.as_deref(), Some(ID));
    assert_eq!(status.portal_url.as_deref(), Some("https://verify.test.okid.io/?verification_id=ver_sample"));
    assert_eq!(status.expires_at, Some(fixtures::after(3600)));
    assert_eq!(status.flow, ["terms", "document", "liveness"]);
    assert_eq!(status.modules, ["document", "liveness"]);
    let Session { attempt, state, created_at, orphans, key_fingerprint, portal, .. } = session(&world);
    assert_eq!((*attempt, *state, *orphans), (1, Some(SessionState::Created), 0));
    assert_eq!(*created_at, Some(world.facts.now));
    assert_eq!(key_fingerprint.as_deref(), Some("0011223344556677"));
    assert_eq!(portal.as_deref(), Some("https://verify.test.okid.io"));
}

#[test]
fn the_link_follows_the_mode_of_the_spec() {
    let mut world = fresh();
    world.facts.mode = Mode::Select;
    world.facts.link_path = "/verify".to_owned();
    world.reconcile(created());
    let link = "https://verify.test.okid.io/verify?verification_id=ver_sample&mode=select";
    assert_eq!(world.status.portal_url.as_deref(), Some(link));
}

pub(super) const UNREACHABLE: &str =
    "Pending: R PortalUnreachable, Rec PortalUnreachable, CR NotChecked, SC NotYet";

#[test]
fn an_unknown_outcome_is_retried_after_a_minute_and_after_ten() {
    let retrying = "Creating: R CreatingSession, Rec CreateOutcomeUnknown, CR NotChecked, SC OutcomeUnknown";
    let reported = [Event::CreateOutcomeUnknown];
    for error in ERRORS.into_iter().filter(|error| matches!(error, PortalError::Failed(_))) {
        let mut world = fresh();
        let reconcile = world.reconcile(refused(error));
        assert_led_to(&world, &reconcile, expected(retrying, 60..=60, &reported), "the first");
        let reconcile = world.reconcile_when_due(refused(error));
        assert_led_to(&world, &reconcile, expected(retrying, 600..=600, &reported), "the second");
        assert_eq!((session(&world).attempt, session(&world).orphans), (2, 2));
        assert_eq!(world.state(), State::OutcomeUnknown);
    }
}

const ASKS: &str =
    "Creating: R CreateOutcomeUnknown, St CreateOutcomeUnknown, CR NotChecked, SC OutcomeUnknown";

#[test]
fn the_third_unknown_outcome_waits_for_a_person_and_for_the_deadline() {
    let mut world = fresh();
    for _ in 0..2 {
        world.reconcile_when_due(refused(LOST));
    }
    let reconcile = world.reconcile_when_due(refused(LOST));
    assert_eq!(line(&world.status), ASKS);
    assert_eq!(reconcile.conclusion.events, [Event::CreateOutcomeUnknown]);
    assert_eq!(reconcile.conclusion.next, Requeue::At(world.deadline));
    assert_eq!((session(&world).attempt, session(&world).orphans), (3, 3));
}

#[test]
fn with_hold_the_first_unknown_outcome_waits_for_a_person() {
    let mut world = fresh();
    world.facts.on_unknown = OnUnknownOutcome::Hold;
    let reconcile = world.reconcile(refused(LOST));
    assert_eq!(line(&world.status), ASKS);
    assert_eq!(reconcile.conclusion.next, Requeue::At(world.deadline));
}

#[test]
fn a_session_is_created_after_unknown_outcomes() {
    let mut world = fresh();
    world.reconcile(refused(LOST));
    let reconcile = world.reconcile_when_due(created());
    let shown = "AwaitingUser: R AwaitingUser, Rec AwaitingUser, CR Accepted, SC Created";
    assert_led_to(
        &world,
        &reconcile,
        expected(shown, 13..=17, &[Event::SessionCreated]),
        "the orphan stays counted",
    );
    assert_eq!((session(&world).attempt, session(&world).orphans), (2, 1));
    assert_eq!(world.status.phase, Some(Phase::AwaitingUser));
}

/// A claim that another process left behind, after this many lost responses.
fn found(lost: u32) -> World {
    let mut world = fresh();
    for _ in 0..lost {
        world.reconcile_when_due(refused(LOST));
    }
    world.status = world.reconcile_when_due(created()).claimed.unwrap();
    world.restart();
    world
}

#[test]
fn a_found_claim_without_a_request_is_abandoned_as_not_created() {
    let mut world = found(0);
    world.facts.in_flight = InFlight::NeverSent;
    let reconcile = world.reconcile(Answer::Uncalled);
    let shown = "Pending: R Pending, Rec Pending, CR NotChecked, SC NotYet";
    assert_led_to(&world, &reconcile, expected(shown, 5..=5, &[]), "this process sent nothing");
    assert_eq!((world.state(), session(&world).orphans), (State::Refused, 0));
}

#[test]
fn a_found_claim_is_abandoned_as_unknown_and_retried_at_once() {
    let retrying = "Creating: R CreatingSession, Rec CreateOutcomeUnknown, CR NotChecked, SC OutcomeUnknown";
    let reported = [Event::CreateOutcomeUnknown];
    let mut world = found(0);
    let reconcile = world.reconcile(Answer::Uncalled);
    assert_led_to(
        &world,
        &reconcile,
        expected(retrying, 0..=0, &reported),
        "the wait until no request was in flight was long enough",
    );
    assert_eq!((world.state(), session(&world).orphans), (State::OutcomeUnknown, 1));
    let mut world = found(1);
    let reconcile = world.reconcile(Answer::Uncalled);
    assert_led_to(&world, &reconcile, expected(retrying, 600..=600, &reported), "the second");
    let mut world = found(2);
    let reconcile = world.reconcile(Answer::Uncalled);
    assert_eq!(
        (line(&world.status).as_str(), reconcile.conclusion.next),
        (ASKS, Requeue::At(world.deadline))
    );
}

#[test]
fn an_outage_prevents_claims_and_is_shown() {
    let mut world = fresh();
    world.refusal = Some(Refusal::Breaker(fixtures::after(30)));
    let reconcile = world.reconcile(Answer::Uncalled);
    let shown = "Pending: R Pending, Rec Pending, CR NotChecked, SC NotYet";
    assert_led_to(&world, &reconcile, expected(shown, 30..=30, &[]), "nothing is claimed");
    world.pass(37);
    world.refusal = Some(Refusal::Breaker(fixtures::after(67)));
    let reconcile = world.reconcile(Answer::Uncalled);
    let reported = [Event::Blocked(Blocker::NoUsableAnswer)];
    assert_led_to(
        &world,
        &reconcile,
        expected(UNREACHABLE, 30..=30, &reported),
        "30 s and a random share of the next minute",
    );
    assert_eq!(world.status.session, None);
}
