mod crowd;

use super::{state::LONGEST_PAUSE, *};
use crate::portal::{allowed::AllowedPortals, error::Failed, key::ApiKey};

fn budget_with(settings: BudgetSettings) -> Budget {
    let now = Instant::now();
    Budget {
        state: Arc::new(Mutex::new(BudgetState::new(settings, now))),
        whole: Arc::new(Mutex::new(Whole::new(settings, now))),
        namespace: 1,
    }
}

fn budget() -> Budget {
    budget_with(BudgetSettings { portal_rate: None, key_rate: None, ..BudgetSettings::default() })
}

fn go(admission: Admission) -> Pass {
    match admission {
        Admission::Go(pass) => pass,
        Admission::Wait { until: _, closed } => panic!("closed: {closed:?}"),
    }
}

fn closed(admission: &Admission) -> Closed {
    match admission {
        Admission::Go(_) => panic!("open"),
        Admission::Wait { until: _, closed } => *closed,
    }
}

fn id(session: u8) -> VerificationId {
    VerificationId::parse(&format!("ver_{session}")).unwrap()
}

/// In which second which session was polled, and the answer.
type Polled = (u64, u8, Result<(), &'static PortalError>);

/// Polls a session, and is answered so.
fn poll(budget: &Budget, now: Instant, session: u8, answer: Result<(), &PortalError>) {
    go(budget.admit(now, Call::Poll, Priority::Idle)).about(&id(session)).report(now, answer);
}

fn proven(now: Instant) -> Budget {
    let budget = budget();
    go(budget.admit(now, Call::Poll, Priority::Idle)).report(now, Ok(()));
    budget
}

#[test]
fn ten_thousand_with_the_same_broken_key_make_two_calls_in_five_minutes() {
    let start = Instant::now();
    let budget = budget();
    let mut calls = 0;
    let mut now = start;
    while now < start + Duration::from_secs(299) {
        for _ in 0..100 {
            if let Admission::Go(pass) = budget.admit(now, Call::Create, Priority::Create) {
                calls += 1;
                pass.report(now, Err(&PortalError::KeyRejected));
            }
        }
        now += Duration::from_secs(1);
    }
    assert_eq!(calls, 2);
}

/// Creates that wait for minutes, since one that was lost, and polls that fail.
fn troubled(now: Instant) -> Budget {
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
fn only_the_portals_word_or_a_good_answer_ends_the_wait_for_a_portal() {
    let start = Instant::now();
    let now = start + Duration::from_secs(245);
    for (answer, ends) in [
        (Ok(()), true),
        (Err(&PortalError::NotFound), true),
        (Err(&PortalError::AccessDenied), true),
        (Err(&PortalError::Unclear { status: 403 }), false),
        (Err(&PortalError::Unclear { status: 404 }), false),
        (Err(&PortalError::Redirected), false),
        (Err(&PortalError::Failed(Failed::ServerError(502))), false),
    ] {
        let budget = troubled(start);
        go(budget.admit(now, Call::Poll, Priority::Idle)).report(now, answer);
        let create = budget.admit(now, Call::Create, Priority::Create);
        assert_eq!(matches!(create, Admission::Go(_)), ends, "{answer:?}");
        let poll = budget.admit(now, Call::Poll, Priority::Idle);
        assert_eq!(matches!(poll, Admission::Go(_)), ends, "{answer:?}");
    }
}

#[test]
fn an_unproven_key_is_tried_by_one_call_at_a_time() {
    let now = Instant::now();
    let budget = budget();
    let first = go(budget.admit(now, Call::Create, Priority::Create));
    assert_eq!(closed(&budget.admit(now, Call::Create, Priority::Create)), Closed::Rate);
    first.report(now, Ok(()));
    let _second = go(budget.admit(now, Call::Create, Priority::Create));
    let _third = go(budget.admit(now, Call::Create, Priority::Create));
}

#[test]
fn a_pass_that_is_dropped_gives_its_place_back() {
    let now = Instant::now();
    let budget = budget();
    drop(go(budget.admit(now, Call::Create, Priority::Create)));
    drop(go(budget.admit(now, Call::Create, Priority::Create)));
}

#[test]
fn a_refused_read_closes_nothing_for_the_others() {
    let now = Instant::now();
    let budget = proven(now);
    go(budget.admit(now, Call::Poll, Priority::Idle)).report(now, Err(&PortalError::AccessDenied));
    drop(go(budget.admit(now, Call::Poll, Priority::Idle)));
}

#[test]
fn a_new_key_that_may_not_read_an_old_session_holds_no_other_look_back_and_creates_go_one_at_a_time() {
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
fn polls_pause_when_two_sessions_were_answered_401_and_none_200_in_between() {
    const REFUSED: Result<(), &PortalError> = Err(&PortalError::KeyRejected);
    const DENIED: Result<(), &PortalError> = Err(&PortalError::AccessDenied);
    let answers: [(&str, &[Polled], bool); 8] = [
        ("one 401", &[(0, 1, REFUSED)], false),
        ("403, always about that session alone", &[(0, 1, DENIED), (9, 2, DENIED), (18, 3, DENIED)], false),
        ("a 401 and a 403", &[(0, 1, REFUSED), (9, 2, DENIED)], false),
        ("two sessions", &[(0, 1, REFUSED), (0, 2, REFUSED)], true),
        ("a 200 in between", &[(0, 1, REFUSED), (1, 2, Ok(())), (2, 3, REFUSED)], false),
        ("the only one, at once", &[(0, 1, REFUSED), (4, 1, REFUSED)], false),
        ("the only one, later", &[(0, 1, REFUSED), (5, 1, REFUSED)], true),
        ("one of several", &[(0, 2, Ok(())), (1, 1, REFUSED), (9, 1, REFUSED)], false),
    ];
    for (name, answers, pauses) in answers {
        let start = Instant::now();
        let budget = budget();
        for (second, session, answer) in answers {
            poll(&budget, start + Duration::from_secs(*second), *session, *answer);
        }
        let now = start + Duration::from_secs(20);
        let closed = budget.closed(now);
        assert_eq!(closed.is_some_and(|(_, closed)| closed == Closed::KeyRejected), pauses, "{name}");
        let create = go(budget.admit(now, Call::Create, Priority::Create));
        create.report(now, Ok(()));
    }
}

#[test]
fn ten_thousand_sessions_of_a_broken_key_are_polled_three_times_in_five_minutes_and_then_twice() {
    let start = Instant::now();
    let budget = budget();
    let mut polls = [0, 0];
    for second in 0..600 {
        let now = start + Duration::from_secs(second);
        for session in 0..100 {
            if let Admission::Go(pass) = budget.admit(now, Call::Poll, Priority::Idle) {
                polls[usize::from(second >= 300)] += 1;
                pass.about(&id(session)).report(now, Err(&PortalError::KeyRejected));
            }
        }
    }
    assert_eq!(polls, [3, 2]);
}

#[test]
fn a_probe_that_is_answered_lets_all_poll_again_and_one_that_is_refused_pauses_anew() {
    let start = Instant::now();
    let budget = proven(start);
    for session in [1, 2] {
        poll(&budget, start, session, Err(&PortalError::KeyRejected));
    }
    let later = start + Duration::from_secs(150);
    let probe = go(budget.admit(later, Call::Poll, Priority::Idle)).about(&id(3));
    assert_eq!(closed(&budget.admit(later, Call::Poll, Priority::Idle)), Closed::KeyRejected);
    probe.report(later, Err(&PortalError::KeyRejected));
    assert_eq!(budget.closed(later).map(|(until, _)| until), Some(later + Duration::from_secs(150)));
    let last = later + Duration::from_secs(150);
    poll(&budget, last, 4, Ok(()));
    drop([0, 1].map(|_| go(budget.admit(last, Call::Poll, Priority::Idle))));
}

#[test]
fn a_late_refusal_of_a_look_does_not_bring_a_refused_key_back() {
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
fn a_pause_holds_every_call_and_no_longer_than_fifteen_minutes() {
    let now = Instant::now();
    let budget = proven(now);
    let ten_years = Duration::from_hours(87_600);
    go(budget.admit(now, Call::Create, Priority::Create))
        .report(now, Err(&PortalError::Limited { retry_after: Some(ten_years) }));
    assert_eq!(closed(&budget.admit(now, Call::Poll, Priority::Nudge)), Closed::Paused);
    drop(go(budget.admit(now + LONGEST_PAUSE, Call::Poll, Priority::Nudge)));
}

#[test]
fn a_pause_of_no_time_is_as_long_as_one_that_the_portal_leaves_to_us_and_doubles() {
    let start = Instant::now();
    for asked in [None, Some(Duration::ZERO), Some(Duration::from_secs(1))] {
        let budget = proven(start);
        let mut now = start;
        for seconds in [5, 10, 20, 40, 80, 120, 120] {
            let together = [0, 1].map(|_| go(budget.admit(now, Call::Create, Priority::Create)));
            for pass in together {
                pass.report(now, Err(&PortalError::Limited { retry_after: asked }));
            }
            let almost = now + Duration::from_millis(seconds * 1_000 - 1);
            assert_eq!(
                closed(&budget.admit(almost, Call::Poll, Priority::Nudge)),
                Closed::Paused,
                "{asked:?}"
            );
            now += Duration::from_secs(seconds);
        }
        drop(go(budget.admit(now, Call::Poll, Priority::Nudge)));
    }
}

#[test]
fn after_a_lost_answer_nobody_creates_for_a_minute() {
    let now = Instant::now();
    let budget = proven(now);
    let pass = go(budget.admit(now, Call::Create, Priority::Create));
    pass.report(now, Err(&PortalError::Failed(Failed::Cut)));
    let almost = now + Duration::from_secs(59);
    assert_eq!(closed(&budget.admit(almost, Call::Create, Priority::Create)), Closed::Breaker);
    let probe = go(budget.admit(now + Duration::from_mins(1), Call::Create, Priority::Create));
    assert_eq!(
        closed(&budget.admit(now + Duration::from_mins(1), Call::Create, Priority::Create)),
        Closed::Breaker
    );
    probe.report(now, Ok(()));
    drop(go(budget.admit(now + Duration::from_mins(1), Call::Create, Priority::Create)));
}

#[test]
fn who_may_not_go_out_is_told_what_the_last_one_met() {
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
        assert_eq!(budget.cause(Call::Poll, closed_for), None, "nothing is known of looks");
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
        if let Admission::Go(pass) = budget.admit(now, Call::Create, Priority::Create) {
            pass.report(now, Err(&error));
        }
        if let Admission::Wait { until, closed: _ } = budget.admit(now, Call::Create, Priority::Create) {
            assert!(until > now);
        }
    }
}

fn portal() -> PortalUrl {
    let allowed = AllowedPortals::new(["https://portal.example"], false).unwrap();
    allowed.iter().next().unwrap().clone()
}

fn of_key(budgets: &Budgets, number: usize, namespace: u32) -> Budget {
    let key = ApiKey::parse(format!("key-{number}").as_bytes()).unwrap();
    budgets.budget(&portal(), key.identity(), FairnessKey { namespace, key: 0 })
}

fn known(budgets: &Budgets) -> usize {
    budgets.kept.lock().portals.values().map(|of| of.states().count()).sum()
}

#[test]
fn a_thousand_wrong_keys_to_adopt_with_cost_twenty_calls_and_one_a_second() {
    let (start, budgets) = (Instant::now(), Budgets::default());
    let (mut calls, mut number) = (0, 0);
    for tenth in 0..600 {
        let now = start + Duration::from_millis(100) * tenth;
        for session in 0..5 {
            number += 1;
            if let Admission::Go(pass) = of_key(&budgets, number, 1).admit(now, Call::Poll, Priority::Create)
            {
                calls += 1;
                pass.about(&id(session)).report(now, Err(&PortalError::KeyRejected));
            }
        }
    }
    assert!((70..=85).contains(&calls), "{calls} in a minute");
    let now = start + Duration::from_mins(1);
    drop(go(of_key(&budgets, 0, 2).admit(now, Call::Poll, Priority::Create)));
}

#[test]
fn the_401_to_sessions_of_a_good_key_cost_its_namespace_nothing() {
    let now = Instant::now();
    let budget = proven(now);
    let passes: Vec<_> = (0..30).map(|_| go(budget.admit(now, Call::Poll, Priority::Idle))).collect();
    for (pass, session) in passes.into_iter().zip(0..) {
        pass.about(&id(session)).report(now, Err(&PortalError::KeyRejected));
    }
    assert_eq!(budget.whole.lock().admit(now, 1, Priority::Create, true), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn of_keys_that_were_never_used_ten_thousand_are_known_and_each_for_a_minute() {
    let budgets = Budgets::default();
    drop(go(of_key(&budgets, 0, 1).admit(Instant::now(), Call::Poll, Priority::Idle)));
    let held = of_key(&budgets, 1, 1);
    for number in 2..12_000 {
        drop(of_key(&budgets, number, 1));
    }
    assert!((9_000..=10_001).contains(&known(&budgets)), "{}", known(&budgets));
    tokio::time::advance(Duration::from_secs(61)).await;
    let again = of_key(&budgets, 1, 1);
    assert!(Arc::ptr_eq(&held.state, &again.state), "a key that somebody uses is the same for all");
    assert_eq!(known(&budgets), 2, "the one that was used, and the one that is");
    tokio::time::advance(Duration::from_mins(58)).await;
    drop((held, again));
    of_key(&budgets, 0, 1);
    assert_eq!(known(&budgets), 1, "a key that was used is known for an hour");
}

#[tokio::test(start_paused = true)]
async fn what_is_closed_shows_as_closed_until_a_call_finds_out_that_it_need_not_be() {
    for (call, error, closed) in [
        (Call::Poll, PortalError::Failed(Failed::Cut), Closed::Breaker),
        (Call::Create, PortalError::Failed(Failed::Cut), Closed::Breaker),
        (Call::Create, PortalError::KeyRejected, Closed::KeyRejected),
    ] {
        let budgets = Budgets::default();
        let budget = of_key(&budgets, 0, 1);
        let shown = || budgets.closed(Instant::now()).contains_key(&(portal(), closed));
        let admit = || budget.admit(Instant::now(), call, Priority::Create);
        go(budget.admit(Instant::now(), Call::Poll, Priority::Idle)).report(Instant::now(), Ok(()));
        assert!(!shown());
        for _ in 0..10 {
            if let Admission::Go(pass) = admit() {
                pass.report(Instant::now(), Err(&error));
            }
        }
        for second in 0..600 {
            assert!(shown(), "{closed:?} in second {second}");
            if let Admission::Go(probe) = admit() {
                assert!(shown(), "{closed:?} while it is tried in second {second}");
                probe.report(Instant::now(), Err(&error));
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        tokio::time::advance(Duration::from_hours(1)).await;
        go(admit()).report(Instant::now(), Ok(()));
        assert!(!shown(), "{closed:?}");
    }
}
