//! Many requesters that obey the budget: how often they ask for admission, and how many requests are sent.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const TIMED_OUT: Result<(), PortalError> = Err(PortalError::Failed(Failed::TimedOut));

/// Many requesters of the same kind.
struct Crowd {
    budget: Budget,
    call: Call,
    priority: Priority,
    began: Instant,
    /// Which requester acts next, and when.
    plan: BTreeSet<(Instant, usize)>,
    in_flight: BTreeMap<usize, RequestPermit>,
    /// How many asked for admission, by second.
    asked: BTreeMap<u64, usize>,
    requests: usize,
    /// When each requester succeeded.
    succeeded: BTreeMap<usize, Instant>,
}

impl Crowd {
    fn new(budget: Budget, (call, priority): (Call, Priority), size: usize, now: Instant) -> Self {
        Self {
            budget,
            call,
            priority,
            began: now,
            plan: (0..size).map(|who| (now, who)).collect(),
            in_flight: BTreeMap::new(),
            asked: BTreeMap::new(),
            requests: 0,
            succeeded: BTreeMap::new(),
        }
    }

    /// Continues for a time, with the duration and the result of each request. A requester that failed comes again after two
    /// minutes.
    fn advance(&mut self, time: Duration, takes: Duration, ends: Result<(), PortalError>) {
        while let Some((now, who)) = self.plan.pop_first() {
            if now >= self.began + time {
                self.plan.insert((now, who));
                return;
            }
            if let Some(permit) = self.in_flight.remove(&who) {
                permit.report(now, ends.as_ref().copied());
                if ends.is_ok() {
                    self.succeeded.insert(who, now);
                } else {
                    self.plan.insert((now + Duration::from_mins(2), who));
                }
                continue;
            }
            *self.asked.entry((now - self.began).as_secs()).or_default() += 1;
            let next = match self.budget.admit(now, self.call, self.priority) {
                Admission::Go(permit) => {
                    self.requests += 1;
                    self.in_flight.insert(who, permit);
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

    fn all_succeeded_after(&self) -> Duration {
        self.succeeded.values().max().map_or(Duration::ZERO, |last| *last - self.began)
    }
}

fn limited(_: Instant) -> Budget {
    budget_with(BudgetSettings::default())
}

#[test]
fn while_the_first_request_hangs_the_others_ask_less_and_less_often() {
    for limit in [limited, |_| budget()] {
        let now = Instant::now();
        let mut crowd = Crowd::new(limit(now), (Call::Poll, Priority::Idle), 200, now);
        crowd.advance(Duration::from_mins(10), 30 * SECOND, TIMED_OUT);
        assert!(crowd.asked_in(1..60) <= 4_000, "{}", crowd.asked_in(1..60));
        assert!(crowd.asked_in(300..600) <= 1_200, "{}", crowd.asked_in(300..600));
        assert!((15..=20).contains(&crowd.requests), "{} trials", crowd.requests);
    }
}

#[test]
fn while_the_trial_of_a_refused_key_hangs_the_others_ask_less_and_less_often() {
    let start = Instant::now();
    let budget = limited(start);
    for session in [1, 2] {
        poll(&budget, start, session, Err(&PortalError::KeyRejected));
    }
    let now = start + Duration::from_secs(150);
    let mut crowd = Crowd::new(budget, (Call::Poll, Priority::Idle), 200, now);
    crowd.advance(Duration::from_mins(10), 30 * SECOND, TIMED_OUT);
    assert!(crowd.asked_in(300..600) <= 1_200, "{}", crowd.asked_in(300..600));
    assert!((15..=20).contains(&crowd.requests), "{} trials", crowd.requests);
}

#[test]
fn a_recovered_portal_admits_those_that_waited_during_its_silence() {
    let now = Instant::now();
    let mut crowd = Crowd::new(limited(now), (Call::Poll, Priority::Idle), 200, now);
    crowd.advance(Duration::from_mins(10), 30 * SECOND, TIMED_OUT);
    crowd.advance(Duration::from_mins(15), SECOND / 10, Ok(()));
    assert_eq!(crowd.succeeded.len(), 200);
    assert!(crowd.all_succeeded_after() <= Duration::from_mins(13), "{:?}", crowd.all_succeeded_after());
}

#[test]
fn the_first_success_of_a_new_key_admits_the_others_as_fast_as_the_rate_allows() {
    for (limit, within) in [(limited as fn(_) -> _, 23 * SECOND), (|_| budget(), 2 * SECOND)] {
        let now = Instant::now();
        let mut crowd = Crowd::new(limit(now), (Call::Create, Priority::Create), 1_000, now);
        crowd.advance(Duration::from_mins(10), SECOND / 10, Ok(()));
        assert_eq!(crowd.succeeded.len(), 1_000);
        assert!(crowd.all_succeeded_after() <= within, "{:?}", crowd.all_succeeded_after());
    }
}

#[test]
fn of_ten_thousand_deferred_creates_no_more_return_in_a_second_than_the_rate() {
    let now = Instant::now();
    let budget = limited(now);
    go(budget.admit(now, Call::Poll, Priority::Idle)).report(now, Ok(()));
    let mut crowd = Crowd::new(budget, (Call::Create, Priority::Create), 10_000, now);
    crowd.advance(Duration::from_mins(10), SECOND / 10, Ok(()));
    let (_, most) = crowd.asked.range(1..).max_by_key(|(_, asked)| **asked).unwrap();
    assert!(*most <= 100, "{most} in one second");
    assert!(crowd.asked_in(1..600) <= 15_000, "{}", crowd.asked_in(1..600));
    assert_eq!(crowd.succeeded.len(), 10_000);
    assert!(crowd.all_succeeded_after() <= 240 * SECOND, "{:?}", crowd.all_succeeded_after());
    // The first to ask were served first, except for a few.
    let early = crowd.succeeded.range(..5_000).filter(|(_, at)| **at <= now + 110 * SECOND).count();
    assert!(early >= 4_800, "{early}");
}

#[test]
fn those_that_a_full_portal_refuses_are_no_demand_and_stretch_nothing() {
    let settings = BudgetSettings { max_in_flight: 100, ..BudgetSettings::default() };
    let start = Instant::now();
    let budget = budget_with(settings);
    go(budget.admit(start, Call::Poll, Priority::Idle)).report(start, Ok(()));
    let (mut in_flight, mut refused) = (Vec::new(), 0);
    for tick in 0..4_000 {
        let now = start + Duration::from_millis(10) * tick;
        let is_full = in_flight.len() == 100;
        // Five hundred retries in a second, at a rate of fifty.
        for _ in 0..if is_full { 5 } else { 1 } {
            match budget.admit(now, Call::Poll, Priority::Idle) {
                Admission::Go(permit) => in_flight.push(permit),
                Admission::Wait { until: _, closed } => {
                    assert_eq!(closed, Closed::Rate);
                    refused += usize::from(is_full);
                }
            }
        }
    }
    assert_eq!((in_flight.len(), refused > 15_000), (100, true), "{refused}");
    let stretch = budget.stretch(start + Duration::from_secs(40));
    assert!(stretch <= 1.0, "{stretch}");
}
