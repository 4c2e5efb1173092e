//! The rows of `conclude` for creates, and for claims that were found.

use std::time::Duration;

use super::world::{Answer, ERRORS, Reconcile, World, assert_led_to, created, line, refused};
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
const NOT_SENT: PortalError = PortalError::NotSent(NotSent::Connect);

fn fresh() -> World {
    World::fresh(ReadyWhen::Verified)
}

fn session(world: &World) -> &Session {
    world.status.session.as_ref().unwrap()
}

/// Concludes a create of which no answer came, on the claim or without it.
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

/// The same refusal again and again until it has lasted that many seconds.
fn refused_for(error: PortalError, seconds: i64) -> (World, Reconcile) {
    let mut world = fresh();
    let begun = world.facts.now;
    let mut reconcile = world.reconcile(refused(error));
    while world.facts.now.duration_since(begun).as_secs() < seconds {
        reconcile = world.reconcile_when_due(refused(error));
    }
    (world, reconcile)
}

#[test]
fn a_claim_that_another_one_won_is_left_alone() {
    let (_, done) = ended(CreateOutcome::ClaimLost, false);
    assert_eq!((done.status, done.next, done.events), (None, Requeue::AwaitChange, vec![]));
}

#[test]
fn a_claim_that_cannot_be_written_is_tried_again_within_two_minutes() {
    let (world, done) = ended(CreateOutcome::ClaimNotWritten, false);
    assert_eq!((done.status, done.events), (None, vec![]));
    let Requeue::At(at) = done.next else { panic!("{:?}", done.next) };
    let wait = at.duration_since(world.facts.now).as_secs();
    assert!((2..=120).contains(&wait), "{wait}");
}

#[test]
fn a_claim_without_a_request_is_as_if_it_had_not_been() {
    let (world, done) = ended(CreateOutcome::NotSent, true);
    let reconcile = Reconcile { step: Step::Create { attempt: 1 }, claimed: None, conclusion: done };
    let shown = "Pending: R Pending, Rec Pending, CR NotChecked, SC NotYet";
    assert_led_to(&world, &reconcile, shown, 5..=5, &[], "nothing went wrong at the portal");
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
    assert_led_to(&world, &reconcile, shown, 13..=17, &[Event::SessionCreated], "15 s, 10 % more or less");
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
fn the_link_is_the_one_that_the_spec_asks_for() {
    let mut world = fresh();
    world.facts.mode = Mode::Select;
    world.facts.link_path = "/verify".to_owned();
    world.reconcile(created());
    let link = "https://verify.test.okid.io/verify?verification_id=ver_sample&mode=select";
    assert_eq!(world.status.portal_url.as_deref(), Some(link));
}

/// One refusal: what it shows at once, in which time it is tried again, and what it shows after ten minutes of it.
struct RefusedCreate {
    error: PortalError,
    shown: &'static str,
    seconds: std::ops::RangeInclusive<u64>,
    events: &'static [Event],
    after_grace: &'static str,
    longest: u64,
}

const REJECTED: &str =
    "Pending: R PortalRejectedRequest, Rec PortalRejectedRequest, CR NotChecked, SC Refused";
const MISCONFIGURED: &str =
    "Pending: R PortalMisconfigured, Rec PortalMisconfigured, CR NotChecked, SC Refused";
const MISCONFIGURED_FOR_LONG: &str =
    "Pending: R PortalMisconfigured, St PortalMisconfigured, CR NotChecked, SC Refused";
const UNREACHABLE: &str = "Pending: R PortalUnreachable, Rec PortalUnreachable, CR NotChecked, SC NotYet";

const REFUSALS: &[RefusedCreate] = &[
    RefusedCreate {
        error: NOT_SENT,
        shown: UNREACHABLE,
        seconds: 5..=5,
        events: &[Event::Blocked(Blocker::ConnectionFailed)],
        after_grace: UNREACHABLE,
        longest: 300,
    },
    RefusedCreate {
        error: PortalError::Unclear { status: 403 },
        shown: UNREACHABLE,
        seconds: 5..=5,
        events: &[Event::Blocked(Blocker::RefusedOnTheWay)],
        after_grace: UNREACHABLE,
        longest: 300,
    },
    RefusedCreate {
        error: PortalError::KeyRejected,
        shown: "Pending: R KeyRejected, Rec KeyRejected, CR KeyRejected, SC Refused",
        seconds: 60..=60,
        events: &[Event::Blocked(Blocker::KeyRejected)],
        after_grace: "Pending: R KeyRejected, St KeyRejected, CR KeyRejected, SC Refused",
        longest: 60,
    },
    RefusedCreate {
        error: PortalError::AccessDenied,
        shown: "Pending: R AccessDenied, Rec AccessDenied, CR AccessDenied, SC Refused",
        seconds: 60..=60,
        events: &[Event::Blocked(Blocker::AccessDenied)],
        after_grace: "Pending: R AccessDenied, St AccessDenied, CR AccessDenied, SC Refused",
        longest: 60,
    },
    RefusedCreate {
        error: PortalError::Invalid,
        shown: REJECTED,
        seconds: 30..=30,
        events: &[Event::Blocked(Blocker::RequestRejected)],
        after_grace: "Pending: R PortalRejectedRequest, St PortalRejectedRequest, CR NotChecked, SC Refused",
        longest: 600,
    },
    RefusedCreate {
        error: PortalError::NotFound,
        shown: MISCONFIGURED,
        seconds: 60..=60,
        events: &[Event::Blocked(Blocker::CallNotFound)],
        after_grace: MISCONFIGURED_FOR_LONG,
        longest: 600,
    },
    RefusedCreate {
        error: PortalError::Redirected,
        shown: MISCONFIGURED,
        seconds: 60..=60,
        events: &[Event::Blocked(Blocker::Redirected)],
        after_grace: MISCONFIGURED_FOR_LONG,
        longest: 600,
    },
    RefusedCreate {
        error: PortalError::Unconfigured,
        shown: MISCONFIGURED,
        seconds: 60..=60,
        events: &[Event::Blocked(Blocker::NotConfigured)],
        after_grace: MISCONFIGURED_FOR_LONG,
        longest: 600,
    },
    RefusedCreate {
        error: PortalError::Conflict,
        shown: REJECTED,
        seconds: 30..=30,
        events: &[Event::Blocked(Blocker::RequestConflict)],
        after_grace: REJECTED,
        longest: 600,
    },
    RefusedCreate {
        error: PortalError::Limited { retry_after: Some(Duration::from_secs(90)) },
        shown: "Pending: R RateLimited, Rec RateLimited, CR NotChecked, SC Refused",
        seconds: 90..=90,
        events: &[Event::RateLimited],
        after_grace: "Pending: R RateLimited, Rec RateLimited, CR NotChecked, SC Refused",
        longest: 90,
    },
];

#[test]
fn a_refusal_makes_no_session_and_is_tried_again() {
    for RefusedCreate { error, shown, seconds, events, .. } in REFUSALS {
        let mut world = fresh();
        let reconcile = world.reconcile(refused(*error));
        assert_led_to(&world, &reconcile, shown, seconds.clone(), events, &format!("{error:?}"));
        assert_eq!(world.state(), State::Refused, "{error:?}");
        assert_eq!((session(&world).attempt, session(&world).orphans), (1, 0), "{error:?}");
    }
}

#[test]
fn what_only_a_person_can_end_is_stalled_after_ten_minutes() {
    for RefusedCreate { error, shown, after_grace, longest, seconds, .. } in REFUSALS {
        let (world, reconcile) = refused_for(*error, 600);
        let least = *seconds.start();
        assert_led_to(&world, &reconcile, after_grace, least..=*longest, &[], &format!("{error:?}"));
        if after_grace.contains("St ") {
            let (world, _) = refused_for(*error, 0);
            assert_eq!(line(&world.status), *shown, "{error:?}");
        }
    }
}

#[test]
fn nothing_is_stalled_before_ten_minutes_are_over() {
    for error in [PortalError::KeyRejected, PortalError::Invalid, PortalError::Unconfigured] {
        let mut world = fresh();
        world.reconcile(refused(error));
        for seconds in [301, 298] {
            world.pass(seconds);
            world.facts.local_state.next = None;
            world.reconcile(refused(error));
        }
        assert!(!line(&world.status).contains("St "), "{error:?} after 599 s");
        world.pass(1);
        world.facts.local_state.next = None;
        world.reconcile(refused(error));
        assert!(line(&world.status).contains("St "), "{error:?} after 600 s");
    }
}

#[test]
fn another_refusal_begins_its_own_grace() {
    let (mut world, _) = refused_for(PortalError::Invalid, 600);
    world.reconcile_when_due(refused(PortalError::Unconfigured));
    assert_eq!(line(&world.status), MISCONFIGURED);
}

#[test]
fn a_stall_stays_over_a_restart() {
    for error in [PortalError::KeyRejected, PortalError::Invalid, PortalError::Unconfigured] {
        let (mut world, _) = refused_for(error, 600);
        let before = line(&world.status);
        world.restart();
        let reconcile = world.reconcile(refused(error));
        assert_eq!(line(&world.status), before, "{error:?}");
        assert!(line(&reconcile.claimed.unwrap()).contains("St "), "{error:?}");
    }
}

#[test]
fn a_stall_ends_with_its_error() {
    for error in [PortalError::KeyRejected, PortalError::Invalid, PortalError::Unconfigured] {
        let (mut world, _) = refused_for(error, 600);
        world.reconcile_when_due(created());
        let shown = "AwaitingUser: R AwaitingUser, Rec AwaitingUser, CR Accepted, SC Created";
        assert_eq!(line(&world.status), shown, "{error:?}");
    }
}

#[test]
fn a_refused_key_is_reported_once() {
    let (mut world, _) = refused_for(PortalError::KeyRejected, 300);
    assert_eq!(world.reconcile_when_due(refused(PortalError::KeyRejected)).conclusion.events, []);
}

#[test]
fn a_refused_key_is_not_used_again_for_150_seconds() {
    let mut world = fresh();
    world.reconcile(refused(PortalError::KeyRejected));
    assert_eq!(world.facts.local_state.next, Some(fixtures::after(150)));
    assert_eq!(world.facts.local_state.refused_key.as_deref(), Some("0011223344556677"));
}

#[test]
fn a_pause_of_no_time_lasts_five_seconds() {
    for seconds in [0, 1, 5] {
        let mut world = fresh();
        world.reconcile(refused(PortalError::Limited { retry_after: Some(Duration::from_secs(seconds)) }));
        assert_eq!(world.facts.local_state.next, Some(fixtures::after(5)), "{seconds}");
    }
}

#[test]
fn a_pause_shows_at_once_where_there_is_no_link() {
    let limited = PortalError::Limited { retry_after: Some(Duration::from_secs(59)) };
    let mut world = fresh();
    world.reconcile(refused(limited));
    assert!(line(&world.status).contains("R RateLimited, Rec RateLimited"));
}

#[test]
fn an_unknown_outcome_is_retried_after_a_minute_and_after_ten() {
    let healing = "Creating: R CreatingSession, Rec CreateOutcomeUnknown, CR NotChecked, SC OutcomeUnknown";
    let reported = [Event::CreateOutcomeUnknown];
    for error in ERRORS.into_iter().filter(|error| matches!(error, PortalError::Failed(_))) {
        let mut world = fresh();
        let reconcile = world.reconcile(refused(error));
        assert_led_to(&world, &reconcile, healing, 60..=60, &reported, "the first");
        let reconcile = world.reconcile_when_due(refused(error));
        assert_led_to(&world, &reconcile, healing, 600..=600, &reported, "the second");
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
    assert_led_to(&world, &reconcile, shown, 13..=17, &[Event::SessionCreated], "the orphan stays counted");
    assert_eq!((session(&world).attempt, session(&world).orphans), (2, 1));
    assert_eq!(world.status.phase, Some(Phase::AwaitingUser));
}

/// A claim that another process left behind, after so many lost answers.
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
    assert_led_to(&world, &reconcile, shown, 5..=5, &[], "nothing left this process");
    assert_eq!((world.state(), session(&world).orphans), (State::Refused, 0));
}

#[test]
fn a_found_claim_is_abandoned_as_unknown_and_tried_again_at_once() {
    let healing = "Creating: R CreatingSession, Rec CreateOutcomeUnknown, CR NotChecked, SC OutcomeUnknown";
    let reported = [Event::CreateOutcomeUnknown];
    let mut world = found(0);
    let reconcile = world.reconcile(Answer::Uncalled);
    assert_led_to(&world, &reconcile, healing, 0..=0, &reported, "the wait for quiet was long enough");
    assert_eq!((world.state(), session(&world).orphans), (State::OutcomeUnknown, 1));
    let mut world = found(1);
    let reconcile = world.reconcile(Answer::Uncalled);
    assert_led_to(&world, &reconcile, healing, 600..=600, &reported, "the second");
    let mut world = found(2);
    let reconcile = world.reconcile(Answer::Uncalled);
    assert_eq!(
        (line(&world.status).as_str(), reconcile.conclusion.next),
        (ASKS, Requeue::At(world.deadline))
    );
}

#[test]
fn an_outage_makes_no_claim_and_shows_itself() {
    let mut world = fresh();
    world.refusal = Some(Refusal::Breaker(fixtures::after(30)));
    let reconcile = world.reconcile(Answer::Uncalled);
    let shown = "Pending: R Pending, Rec Pending, CR NotChecked, SC NotYet";
    assert_led_to(&world, &reconcile, shown, 30..=30, &[], "nothing is claimed");
    world.pass(37);
    world.refusal = Some(Refusal::Breaker(fixtures::after(67)));
    let reconcile = world.reconcile(Answer::Uncalled);
    let reported = [Event::Blocked(Blocker::NoUsableAnswer)];
    assert_led_to(
        &world,
        &reconcile,
        UNREACHABLE,
        30..=30,
        &reported,
        "30 s, and a share of the next minute",
    );
    assert_eq!(world.status.session, None);
}
