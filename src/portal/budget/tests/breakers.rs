//! Pauses, circuit breakers, and what a request learns that is not admitted.

use super::*;
use crate::portal::{budget::key_budget::MAX_PAUSE, error::NotSent};

/// A budget with both breakers open: creates wait for minutes after a lost response, and polls fail.
fn failing(now: Instant) -> Budget {
    let budget = proven(now);
    for _ in 0..5 {
        go(budget.admit(now, Call::Poll, Priority::Idle)).report(now, Err(&PortalError::Failed(Failed::Cut)));
    }
    for doublings in [0, 60, 180] {
        let now = now + Duration::from_secs(doublings);
        let create = go(budget.admit(now, Call::Create, Priority::Create));
        create.report(now, Err(&PortalError::Failed(Failed::Cut)));
    }
    go(budget.admit(now + Duration::from_secs(181), Call::Poll, Priority::Idle))
        .report(now + Duration::from_secs(181), Err(&PortalError::Failed(Failed::Cut)));
    budget
}

#[test]
fn only_a_response_of_the_portal_itself_closes_the_breakers() {
    let start = Instant::now();
    let now = start + Duration::from_secs(245);
    for (response, closes) in [
        (Ok(()), true),
        (Err(&PortalError::NotFound), true),
        (Err(&PortalError::AccessDenied), true),
        (Err(&PortalError::Unclear { status: 403 }), false),
        (Err(&PortalError::Unclear { status: 404 }), false),
        (Err(&PortalError::Redirected), false),
        (Err(&PortalError::Failed(Failed::ServerError(502))), false),
    ] {
        let budget = failing(start);
        go(budget.admit(now, Call::Poll, Priority::Idle)).report(now, response);
        let create = budget.admit(now, Call::Create, Priority::Create);
        assert_eq!(matches!(create, Admission::Go(_)), closes, "{response:?}");
        let poll = budget.admit(now, Call::Poll, Priority::Idle);
        assert_eq!(matches!(poll, Admission::Go(_)), closes, "{response:?}");
    }
}

#[test]
fn a_create_that_made_nothing_opens_the_breaker_for_seconds() {
    for error in [
        PortalError::Unclear { status: 403 },
        PortalError::NotSent(NotSent::Refused),
        PortalError::Invalid,
        PortalError::Redirected,
    ] {
        let now = Instant::now();
        let budget = proven(now);
        go(budget.admit(now, Call::Create, Priority::Create)).report(now, Err(&error));
        assert_eq!(closed(&budget.admit(now, Call::Create, Priority::Create)), Closed::Breaker, "{error:?}");
        let later = now + Duration::from_secs(5);
        drop(go(budget.admit(later, Call::Create, Priority::Create)));
    }
}

#[test]
fn a_permit_that_is_dropped_is_returned() {
    let now = Instant::now();
    let budget = budget();
    drop(go(budget.admit(now, Call::Create, Priority::Create)));
    drop(go(budget.admit(now, Call::Create, Priority::Create)));
}

#[test]
fn a_pause_holds_every_request_for_at_most_fifteen_minutes() {
    let now = Instant::now();
    let budget = proven(now);
    let ten_years = Duration::from_hours(87_600);
    go(budget.admit(now, Call::Create, Priority::Create))
        .report(now, Err(&PortalError::Limited { retry_after: Some(ten_years) }));
    assert_eq!(closed(&budget.admit(now, Call::Poll, Priority::Requested)), Closed::Paused);
    drop(go(budget.admit(now + MAX_PAUSE, Call::Poll, Priority::Requested)));
}

#[test]
fn a_pause_without_a_length_lasts_five_seconds_and_doubles() {
    let start = Instant::now();
    for requested in [None, Some(Duration::ZERO), Some(Duration::from_secs(1))] {
        let budget = proven(start);
        let mut now = start;
        for seconds in [5, 10, 20, 40, 80, 120, 120] {
            let together = [0, 1].map(|_| go(budget.admit(now, Call::Create, Priority::Create)));
            for permit in together {
                permit.report(now, Err(&PortalError::Limited { retry_after: requested }));
            }
            let almost = now + Duration::from_millis(seconds * 1_000 - 1);
            assert_eq!(
                closed(&budget.admit(almost, Call::Poll, Priority::Requested)),
                Closed::Paused,
                "{requested:?}"
            );
            now += Duration::from_secs(seconds);
        }
        drop(go(budget.admit(now, Call::Poll, Priority::Requested)));
    }
}

#[test]
fn after_a_lost_response_no_create_is_admitted_for_a_minute() {
    let now = Instant::now();
    let budget = proven(now);
    let permit = go(budget.admit(now, Call::Create, Priority::Create));
    permit.report(now, Err(&PortalError::Failed(Failed::Cut)));
    let almost = now + Duration::from_secs(59);
    assert_eq!(closed(&budget.admit(almost, Call::Create, Priority::Create)), Closed::Breaker);
    let trial = go(budget.admit(now + Duration::from_mins(1), Call::Create, Priority::Create));
    assert_eq!(
        closed(&budget.admit(now + Duration::from_mins(1), Call::Create, Priority::Create)),
        Closed::Breaker
    );
    trial.report(now, Ok(()));
    drop(go(budget.admit(now + Duration::from_mins(1), Call::Create, Priority::Create)));
}

#[test]
fn a_request_that_is_not_admitted_gets_the_last_error() {
    let now = Instant::now();
    for (closed_for, error) in [
        (Closed::KeyRejected, PortalError::KeyRejected),
        (Closed::KeyRejected, PortalError::AccessDenied),
        (Closed::Breaker, PortalError::Invalid),
        (Closed::Breaker, PortalError::Conflict),
        (Closed::Breaker, PortalError::Redirected),
        (Closed::Breaker, PortalError::Unconfigured),
        (Closed::Breaker, PortalError::Failed(Failed::TimedOut)),
    ] {
        let budget = proven(now);
        assert_eq!(budget.cause(Call::Create, closed_for), None);
        go(budget.admit(now, Call::Create, Priority::Create)).report(now, Err(&error));
        assert_eq!(closed(&budget.admit(now, Call::Create, Priority::Create)), closed_for, "{error:?}");
        assert_eq!(budget.cause(Call::Create, closed_for), Some(error));
        assert_eq!(budget.cause(Call::Poll, closed_for), None, "nothing is known of polls");
    }
    let budget = proven(now);
    for error in
        [PortalError::NotFound, PortalError::AccessDenied, PortalError::Limited { retry_after: None }]
    {
        poll(&budget, now, 1, Err(&error));
        for closed_for in [Closed::Breaker, Closed::KeyRejected, Closed::Paused, Closed::Rate] {
            assert_eq!(budget.cause(Call::Poll, closed_for), None, "{error:?}");
        }
    }
}

#[test]
fn a_wait_is_never_in_the_past() {
    let now = Instant::now();
    let budget = proven(now);
    for error in [
        PortalError::KeyRejected,
        PortalError::Failed(Failed::Cut),
        PortalError::Limited { retry_after: None },
    ] {
        if let Admission::Go(permit) = budget.admit(now, Call::Create, Priority::Create) {
            permit.report(now, Err(&error));
        }
        if let Admission::Wait { until, closed: _ } = budget.admit(now, Call::Create, Priority::Create) {
            assert!(until > now);
        }
    }
}
