//! Keys that the portal refuses, or has not accepted yet.

use super::*;

/// The second in which a session was polled, the session, and the response.
type Polled = (u64, u8, Result<(), &'static PortalError>);

#[test]
fn ten_thousand_creates_with_a_broken_key_send_two_requests_in_five_minutes() {
    let start = Instant::now();
    let budget = budget();
    let mut requests = 0;
    let mut now = start;
    while now < start + Duration::from_secs(299) {
        for _ in 0..100 {
            if let Admission::Go(permit) = budget.admit(now, Call::Create, Priority::Create) {
                requests += 1;
                permit.report(now, Err(&PortalError::KeyRejected));
            }
        }
        now += Duration::from_secs(1);
    }
    assert_eq!(requests, 2);
}

#[test]
fn an_unproven_key_has_one_request_at_a_time() {
    let now = Instant::now();
    let budget = budget();
    let first = go(budget.admit(now, Call::Create, Priority::Create));
    assert_eq!(closed(&budget.admit(now, Call::Create, Priority::Create)), Closed::Rate);
    first.report(now, Ok(()));
    let _second = go(budget.admit(now, Call::Create, Priority::Create));
    let _third = go(budget.admit(now, Call::Create, Priority::Create));
}

#[test]
fn a_session_that_may_not_be_read_closes_nothing_for_the_others() {
    let now = Instant::now();
    let budget = proven(now);
    go(budget.admit(now, Call::Poll, Priority::Idle)).report(now, Err(&PortalError::AccessDenied));
    drop(go(budget.admit(now, Call::Poll, Priority::Idle)));
}

#[test]
fn a_new_key_that_may_not_read_an_old_session_delays_creates_alone() {
    let now = Instant::now();
    let budget = budget();
    let first = go(budget.admit(now, Call::Poll, Priority::Idle));
    assert_eq!(closed(&budget.admit(now, Call::Poll, Priority::Idle)), Closed::Rate);
    first.report(now, Err(&PortalError::AccessDenied));
    let create = go(budget.admit(now, Call::Create, Priority::Create));
    for _ in 0..3 {
        go(budget.admit(now, Call::Poll, Priority::Idle)).report(now, Err(&PortalError::AccessDenied));
        assert_eq!(closed(&budget.admit(now, Call::Create, Priority::Create)), Closed::Rate);
    }
    create.report(now, Err(&PortalError::AccessDenied));
    assert_eq!(closed(&budget.admit(now, Call::Create, Priority::Create)), Closed::KeyRejected);
    go(budget.admit(now, Call::Poll, Priority::Idle)).report(now, Err(&PortalError::AccessDenied));
}

#[test]
fn a_refused_create_closes_creates_and_no_poll() {
    for error in [PortalError::KeyRejected, PortalError::AccessDenied] {
        let now = Instant::now();
        let budget = proven(now);
        go(budget.admit(now, Call::Create, Priority::Create)).report(now, Err(&error));
        let almost = now + Duration::from_secs(149);
        for at in [now, almost] {
            poll(&budget, at, 1, Ok(()));
            assert_eq!(closed(&budget.admit(at, Call::Create, Priority::Create)), Closed::KeyRejected);
        }
        assert!(budget.closed(almost).is_none());
        go(budget.admit(now + Duration::from_secs(150), Call::Create, Priority::Create)).report(now, Ok(()));
        drop(go(budget.admit(now + Duration::from_secs(150), Call::Create, Priority::Create)));
    }
}

#[test]
fn polls_pause_when_two_sessions_got_401_and_none_200_in_between() {
    const REFUSED: Result<(), &PortalError> = Err(&PortalError::KeyRejected);
    const DENIED: Result<(), &PortalError> = Err(&PortalError::AccessDenied);
    let cases: [(&str, &[Polled], bool); 8] = [
        ("one 401", &[(0, 1, REFUSED)], false),
        (
            "403, which is always about that session alone",
            &[(0, 1, DENIED), (9, 2, DENIED), (18, 3, DENIED)],
            false,
        ),
        ("a 401 and a 403", &[(0, 1, REFUSED), (9, 2, DENIED)], false),
        ("two sessions", &[(0, 1, REFUSED), (0, 2, REFUSED)], true),
        ("a 200 in between", &[(0, 1, REFUSED), (1, 2, Ok(())), (2, 3, REFUSED)], false),
        ("the only one, at once", &[(0, 1, REFUSED), (4, 1, REFUSED)], false),
        ("the only one, later", &[(0, 1, REFUSED), (5, 1, REFUSED)], true),
        ("one of several", &[(0, 2, Ok(())), (1, 1, REFUSED), (9, 1, REFUSED)], false),
    ];
    for (name, responses, pauses) in cases {
        let start = Instant::now();
        let budget = budget();
        for (second, session, response) in responses {
            poll(&budget, start + Duration::from_secs(*second), *session, *response);
        }
        let now = start + Duration::from_secs(20);
        let closed = budget.closed(now);
        assert_eq!(closed.is_some_and(|(_, closed)| closed == Closed::KeyRejected), pauses, "{name}");
        let create = go(budget.admit(now, Call::Create, Priority::Create));
        create.report(now, Ok(()));
    }
}

#[test]
fn a_broken_key_is_polled_three_times_in_five_minutes_and_then_twice() {
    let start = Instant::now();
    let budget = budget();
    let mut polls = [0, 0];
    for second in 0..600 {
        let now = start + Duration::from_secs(second);
        for session in 0..100 {
            if let Admission::Go(permit) = budget.admit(now, Call::Poll, Priority::Idle) {
                polls[usize::from(second >= 300)] += 1;
                permit.about(&id(session)).report(now, Err(&PortalError::KeyRejected));
            }
        }
    }
    assert_eq!(polls, [3, 2]);
}

#[test]
fn a_successful_trial_lets_all_poll_again_and_a_refused_one_pauses_again() {
    let start = Instant::now();
    let budget = proven(start);
    for session in [1, 2] {
        poll(&budget, start, session, Err(&PortalError::KeyRejected));
    }
    let later = start + Duration::from_secs(150);
    let trial = go(budget.admit(later, Call::Poll, Priority::Idle)).about(&id(3));
    assert_eq!(closed(&budget.admit(later, Call::Poll, Priority::Idle)), Closed::KeyRejected);
    trial.report(later, Err(&PortalError::KeyRejected));
    assert_eq!(budget.closed(later).map(|(until, _)| until), Some(later + Duration::from_secs(150)));
    let last = later + Duration::from_secs(150);
    poll(&budget, last, 4, Ok(()));
    drop([0, 1].map(|_| go(budget.admit(last, Call::Poll, Priority::Idle))));
}

#[test]
fn a_late_refusal_of_a_poll_does_not_end_or_extend_the_pause() {
    let now = Instant::now();
    let budget = proven(now);
    let late = [1, 2].map(|session| go(budget.admit(now, Call::Poll, Priority::Idle)).about(&id(session)));
    for session in [3, 4] {
        poll(&budget, now, session, Err(&PortalError::KeyRejected));
    }
    let [denied, refused] = late;
    denied.report(now, Err(&PortalError::AccessDenied));
    refused.report(now + Duration::from_secs(9), Err(&PortalError::KeyRejected));
    let pause = Some((now + Duration::from_secs(150), Closed::KeyRejected));
    assert_eq!(budget.closed(now + Duration::from_secs(9)), pause);
}

#[test]
fn a_401_for_sessions_of_an_accepted_key_costs_its_namespace_nothing() {
    let now = Instant::now();
    let budget = proven(now);
    let permits: Vec<_> = (0..30).map(|_| go(budget.admit(now, Call::Poll, Priority::Idle))).collect();
    for (permit, session) in permits.into_iter().zip(0..) {
        permit.about(&id(session)).report(now, Err(&PortalError::KeyRejected));
    }
    assert_eq!(budget.portal.lock().has_room(now, budget.requester, Priority::Create, true), Ok(()));
}
