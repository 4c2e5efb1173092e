//! Many who keep to what they are told: how often they ask, and how many calls go out.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const TIMED_OUT: Result<(), PortalError> = Err(PortalError::Failed(Failed::TimedOut));

/// Many who ask for the same.
struct Crowd {
    budget: Budget,
    call: Call,
    priority: Priority,
    began: Instant,
    /// Who does something next, and when.
    plan: BTreeSet<(Instant, usize)>,
    under_way: BTreeMap<usize, Pass>,
    /// How many asked for a place, second by second.
    asked: BTreeMap<u64, usize>,
    calls: usize,
    /// When who was answered well.
    answered: BTreeMap<usize, Instant>,
}

impl Crowd {
    fn new(budget: Budget, (call, priority): (Call, Priority), size: usize, now: Instant) -> Self {
        Self {
            budget,
            call,
            priority,
            began: now,
            plan: (0..size).map(|who| (now, who)).collect(),
            under_way: BTreeMap::new(),
            asked: BTreeMap::new(),
            calls: 0,
            answered: BTreeMap::new(),
        }
    }

    /// Goes on for a time; each call takes as long and ends so. Who was not answered comes again after two minutes.
    fn go_on(&mut self, time: Duration, takes: Duration, ends: Result<(), PortalError>) {
        while let Some((now, who)) = self.plan.pop_first() {
            if now >= self.began + time {
                self.plan.insert((now, who));
                return;
            }
            if let Some(pass) = self.under_way.remove(&who) {
                pass.report(now, ends.as_ref().copied());
                if ends.is_ok() {
                    self.answered.insert(who, now);
                } else {
                    self.plan.insert((now + Duration::from_mins(2), who));
                }
                continue;
            }
            *self.asked.entry((now - self.began).as_secs()).or_default() += 1;
            let next = match self.budget.admit(now, self.call, self.priority) {
                Admission::Go(pass) => {
                    self.calls += 1;
                    self.under_way.insert(who, pass);
                    now + takes
                }
                Admission::Wait { until, closed: _ } => {
                    assert!(until > now);
                    until
                }
            };
            self.plan.insert((next, who));
        }
    }

    fn asked_in(&self, seconds: std::ops::Range<u64>) -> usize {
        self.asked.range(seconds).map(|(_, asked)| asked).sum()
    }

    fn answered_after(&self) -> Duration {
        self.answered.values().max().map_or(Duration::ZERO, |last| *last - self.began)
    }
}

fn limited(_: Instant) -> Budget {
    budget_with(BudgetSettings::default())
}

#[test]
fn while_the_first_call_hangs_those_behind_it_come_ever_more_seldom() {
    for limit in [limited, |_| budget()] {
        let now = Instant::now();
        let mut crowd = Crowd::new(limit(now), (Call::Poll, Priority::Idle), 200, now);
        crowd.go_on(Duration::from_mins(10), 30 * SECOND, TIMED_OUT);
        assert!(crowd.asked_in(1..60) <= 4_000, "{}", crowd.asked_in(1..60));
        assert!(crowd.asked_in(300..600) <= 1_200, "{}", crowd.asked_in(300..600));
        assert!((15..=20).contains(&crowd.calls), "{} calls found out", crowd.calls);
    }
}

#[test]
fn while_the_call_hangs_that_tries_a_refused_key_again_the_others_come_ever_more_seldom() {
    let start = Instant::now();
    let budget = limited(start);
    for session in [1, 2] {
        poll(&budget, start, session, Err(&PortalError::KeyRejected));
    }
    let now = start + Duration::from_secs(150);
    let mut crowd = Crowd::new(budget, (Call::Poll, Priority::Idle), 200, now);
    crowd.go_on(Duration::from_mins(10), 30 * SECOND, TIMED_OUT);
    assert!(crowd.asked_in(300..600) <= 1_200, "{}", crowd.asked_in(300..600));
    assert!((15..=20).contains(&crowd.calls), "{} calls found out", crowd.calls);
}

#[test]
fn a_portal_that_is_back_lets_those_through_who_waited_behind_its_silence() {
    let now = Instant::now();
    let mut crowd = Crowd::new(limited(now), (Call::Poll, Priority::Idle), 200, now);
    crowd.go_on(Duration::from_mins(10), 30 * SECOND, TIMED_OUT);
    crowd.go_on(Duration::from_mins(15), SECOND / 10, Ok(()));
    assert_eq!(crowd.answered.len(), 200);
    assert!(crowd.answered_after() <= Duration::from_mins(13), "{:?}", crowd.answered_after());
}

#[test]
fn the_first_good_answer_of_a_new_key_lets_the_others_through_as_fast_as_the_rate_allows() {
    for (limit, within) in [(limited as fn(_) -> _, 23 * SECOND), (|_| budget(), 2 * SECOND)] {
        let now = Instant::now();
        let mut crowd = Crowd::new(limit(now), (Call::Create, Priority::Create), 1_000, now);
        crowd.go_on(Duration::from_mins(10), SECOND / 10, Ok(()));
        assert_eq!(crowd.answered.len(), 1_000);
        assert!(crowd.answered_after() <= within, "{:?}", crowd.answered_after());
    }
}

#[test]
fn of_ten_thousand_new_ones_no_more_come_back_in_a_second_than_the_rate_lets_go() {
    let now = Instant::now();
    let budget = limited(now);
    go(budget.admit(now, Call::Poll, Priority::Idle)).report(now, Ok(()));
    let mut crowd = Crowd::new(budget, (Call::Create, Priority::Create), 10_000, now);
    crowd.go_on(Duration::from_mins(10), SECOND / 10, Ok(()));
    let (_, most) = crowd.asked.range(1..).max_by_key(|(_, asked)| **asked).unwrap();
    assert!(*most <= 100, "{most} in one second");
    assert!(crowd.asked_in(1..600) <= 15_000, "{}", crowd.asked_in(1..600));
    assert_eq!(crowd.answered.len(), 10_000);
    assert!(crowd.answered_after() <= 240 * SECOND, "{:?}", crowd.answered_after());
    // Who asked first was served first, but for a few.
    let early = crowd.answered.range(..5_000).filter(|(_, at)| **at <= now + 110 * SECOND).count();
    assert!(early >= 4_800, "{early}");
}
