//! The rows of `conclude` for creates that the portal refuses.

use std::time::Duration;

use super::{
    conclude_create::{NOT_SENT, UNREACHABLE, fresh, session},
    world::{Reconcile, World, assert_led_to, created, expected, line, refused},
};
use crate::{
    lifecycle::{blocker::Blocker, event::Event, fixtures, state::State},
    portal::error::PortalError,
};

/// One refusal: what it shows at once, when it is retried, and what it shows after ten minutes.
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

/// The same refusal repeatedly, until it has lasted this many seconds.
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
fn a_refusal_creates_no_session_and_is_retried() {
    for RefusedCreate { error, shown, seconds, events, .. } in REFUSALS {
        let mut world = fresh();
        let reconcile = world.reconcile(refused(*error));
        assert_led_to(&world, &reconcile, expected(shown, seconds.clone(), events), &format!("{error:?}"));
        assert_eq!(world.state(), State::Refused, "{error:?}");
        assert_eq!((session(&world).attempt, session(&world).orphans), (1, 0), "{error:?}");
    }
}

#[test]
fn what_only_a_person_can_resolve_is_stalled_after_ten_minutes() {
    for RefusedCreate { error, shown, after_grace, longest, seconds, .. } in REFUSALS {
        let (world, reconcile) = refused_for(*error, 600);
        let least = *seconds.start();
        assert_led_to(
            &world,
            &reconcile,
            expected(after_grace, least..=*longest, &[]),
            &format!("{error:?}"),
        );
        if after_grace.contains("St ") {
            let (world, _) = refused_for(*error, 0);
            assert_eq!(line(&world.status), *shown, "{error:?}");
        }
    }
}

#[test]
fn nothing_is_stalled_within_the_first_ten_minutes() {
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
fn another_kind_of_refusal_starts_its_own_grace_period() {
    let (mut world, _) = refused_for(PortalError::Invalid, 600);
    world.reconcile_when_due(refused(PortalError::Unconfigured));
    assert_eq!(line(&world.status), MISCONFIGURED);
}

#[test]
fn a_stall_survives_a_restart() {
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
fn a_pause_of_zero_seconds_lasts_five_seconds() {
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
