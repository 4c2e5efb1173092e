mod crowd;

use super::*;
use crate::portal::Failed;

fn budget() -> Arc<Budget> {
    let state = State::new(BudgetSettings { rate: None, ..BudgetSettings::default() }, Instant::now());
    Arc::new(Budget { state: Mutex::new(state) })
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

fn proven(now: Instant) -> Arc<Budget> {
    let budget = budget();
    go(budget.admit(now, Call::Look, Priority::Idle)).report(now, Ok(()));
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
                pass.report(now, Err(&Trouble::KeyRejected));
            }
        }
        now += Duration::from_secs(1);
    }
    assert_eq!(calls, 2);
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
    go(budget.admit(now, Call::Look, Priority::Idle)).report(now, Err(&Trouble::AccessDenied));
    drop(go(budget.admit(now, Call::Look, Priority::Idle)));
}

#[test]
fn a_new_key_that_may_not_read_an_old_session_holds_no_other_look_back_and_creates_go_one_at_a_time() {
    let now = Instant::now();
    let budget = budget();
    let first = go(budget.admit(now, Call::Look, Priority::Idle));
    assert_eq!(closed(&budget.admit(now, Call::Look, Priority::Idle)), Closed::Rate);
    first.report(now, Err(&Trouble::AccessDenied));
    let create = go(budget.admit(now, Call::Create, Priority::Create));
    for _ in 0..3 {
        go(budget.admit(now, Call::Look, Priority::Idle)).report(now, Err(&Trouble::AccessDenied));
        assert_eq!(closed(&budget.admit(now, Call::Create, Priority::Create)), Closed::Rate);
    }
    create.report(now, Err(&Trouble::AccessDenied));
    assert_eq!(closed(&budget.admit(now, Call::Look, Priority::Idle)), Closed::KeyRejected);
}

#[test]
fn a_late_refusal_of_a_look_does_not_bring_a_refused_key_back() {
    let now = Instant::now();
    let budget = proven(now);
    let look = go(budget.admit(now, Call::Look, Priority::Idle));
    go(budget.admit(now, Call::Create, Priority::Create)).report(now, Err(&Trouble::KeyRejected));
    look.report(now, Err(&Trouble::AccessDenied));
    assert_eq!(closed(&budget.admit(now, Call::Create, Priority::Create)), Closed::KeyRejected);
}

#[test]
fn a_pause_holds_every_call_and_no_longer_than_fifteen_minutes() {
    let now = Instant::now();
    let budget = proven(now);
    let ten_years = Duration::from_hours(87_600);
    go(budget.admit(now, Call::Create, Priority::Create))
        .report(now, Err(&Trouble::Limited { retry_after: Some(ten_years) }));
    assert_eq!(closed(&budget.admit(now, Call::Look, Priority::Nudge)), Closed::Paused);
    drop(go(budget.admit(now + LONGEST_PAUSE, Call::Look, Priority::Nudge)));
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
                pass.report(now, Err(&Trouble::Limited { retry_after: asked }));
            }
            let almost = now + Duration::from_millis(seconds * 1_000 - 1);
            assert_eq!(
                closed(&budget.admit(almost, Call::Look, Priority::Nudge)),
                Closed::Paused,
                "{asked:?}"
            );
            now += Duration::from_secs(seconds);
        }
        drop(go(budget.admit(now, Call::Look, Priority::Nudge)));
    }
}

#[test]
fn after_a_lost_answer_nobody_creates_for_a_minute() {
    let now = Instant::now();
    let budget = proven(now);
    let pass = go(budget.admit(now, Call::Create, Priority::Create));
    pass.report(now, Err(&Trouble::Failed(Failed::Cut)));
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
fn a_wait_is_never_in_the_past() {
    let now = Instant::now();
    let budget = proven(now);
    for trouble in
        [Trouble::KeyRejected, Trouble::Failed(Failed::Cut), Trouble::Limited { retry_after: None }]
    {
        if let Admission::Go(pass) = budget.admit(now, Call::Create, Priority::Create) {
            pass.report(now, Err(&trouble));
        }
        if let Admission::Wait { until, closed: _ } = budget.admit(now, Call::Create, Priority::Create) {
            assert!(until > now);
        }
    }
}
