//! All budgets of a process, and which of them are dropped.

use super::*;
use crate::{
    fairness::FairnessKey,
    portal::{
        allowed::{AllowedPortals, PortalUrl},
        key::ApiKey,
    },
};

fn portal() -> PortalUrl {
    let allowed = AllowedPortals::new(["https://portal.example"], false).unwrap();
    allowed.iter().next().unwrap().clone()
}

fn budget_of_key(budgets: &Budgets, number: usize, namespace: u32) -> Budget {
    let key = ApiKey::parse(format!("key-{number}").as_bytes()).unwrap();
    budgets.budget(&portal(), key.identity(), FairnessKey { namespace, key: 0 })
}

#[test]
fn a_portal_has_one_rate_for_all_its_keys_and_namespaces() {
    let settings =
        BudgetSettings { portal_rate: Some(20.0), key_rate: Some(20.0), ..BudgetSettings::default() };
    let (start, budgets) = (Instant::now(), Budgets::new(settings));
    let all: Vec<_> = (0..6).map(|number| budget_of_key(&budgets, number, [1, 2, 3][number % 3])).collect();
    let mut requests = 0;
    for hundredth in 0..1_000 {
        let now = start + Duration::from_millis(10) * hundredth;
        for budget in &all {
            if let Admission::Go(permit) = budget.admit(now, Call::Poll, Priority::Create) {
                requests += 1;
                permit.report(now, Ok(()));
            }
        }
    }
    assert!((150..=204).contains(&requests), "{requests} in ten seconds, with six keys");
}

#[test]
fn two_keys_of_a_namespace_get_no_more_than_one_key_of_another() {
    let settings = BudgetSettings { portal_rate: Some(40.0), key_rate: None, ..BudgetSettings::default() };
    let (start, budgets) = (Instant::now(), Budgets::new(settings));
    let all: Vec<_> = [1, 1, 2]
        .into_iter()
        .enumerate()
        .map(|(key, namespace)| budget_of_key(&budgets, key, namespace))
        .collect();
    let mut requests = [0; 3];
    for hundredth in 0..1_000 {
        let now = start + Duration::from_millis(10) * hundredth;
        for (budget, requests) in all.iter().zip(&mut requests) {
            if let Admission::Go(permit) = budget.admit(now, Call::Poll, Priority::Create) {
                *requests += 1;
                permit.report(now, Ok(()));
            }
        }
    }
    let [current, previous, other] = requests;
    assert!(current + previous <= other * 6 / 5, "{requests:?} in ten seconds");
}

#[test]
fn a_thousand_wrong_keys_of_adoptions_cost_twenty_requests_and_one_a_second() {
    let (start, budgets) = (Instant::now(), Budgets::default());
    let (mut requests, mut number) = (0, 0);
    for tenth in 0..600 {
        let now = start + Duration::from_millis(100) * tenth;
        for session in 0..5 {
            number += 1;
            if let Admission::Go(permit) =
                budget_of_key(&budgets, number, 1).admit(now, Call::Poll, Priority::Create)
            {
                requests += 1;
                permit.about(&id(session)).report(now, Err(&PortalError::KeyRejected));
            }
        }
    }
    assert!((70..=85).contains(&requests), "{requests} in a minute");
    let now = start + Duration::from_mins(1);
    drop(go(budget_of_key(&budgets, 0, 2).admit(now, Call::Poll, Priority::Create)));
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_keys_that_were_never_used_are_known_for_a_minute_each() {
    let budgets = Budgets::default();
    drop(go(budget_of_key(&budgets, 0, 1).admit(Instant::now(), Call::Poll, Priority::Idle)));
    let held = budget_of_key(&budgets, 1, 1);
    for number in 2..12_000 {
        drop(budget_of_key(&budgets, number, 1));
    }
    assert!((9_000..=10_001).contains(&budgets.key_count()), "{}", budgets.key_count());
    tokio::time::advance(Duration::from_secs(61)).await;
    let again = budget_of_key(&budgets, 1, 1);
    assert!(Arc::ptr_eq(&held.key, &again.key), "a key in use has one budget");
    assert_eq!(budgets.key_count(), 2, "the one that was used, and the one in use");
    tokio::time::advance(Duration::from_mins(58)).await;
    drop((held, again));
    budget_of_key(&budgets, 0, 1);
    assert_eq!(budgets.key_count(), 1, "a key that was used is known for an hour");
}

#[tokio::test(start_paused = true)]
async fn unused_budgets_are_removed_once_a_minute_and_not_with_each_request() {
    let budgets = Budgets::default();
    let after = async |seconds, number| {
        tokio::time::advance(Duration::from_secs(seconds)).await;
        drop(budget_of_key(&budgets, number, 1));
        budgets.key_count()
    };
    assert_eq!(after(1, 0).await, 1);
    assert_eq!(after(59, 1).await, 2, "the first is younger than a minute");
    assert_eq!(after(59, 2).await, 3, "the first is unused, and the minute is not over");
    assert_eq!(after(1, 3).await, 2, "the two last");
}

#[tokio::test(start_paused = true)]
async fn a_closed_portal_is_shown_as_closed_until_a_trial_succeeds() {
    for (call, error, closed) in [
        (Call::Poll, PortalError::Failed(Failed::Cut), Closed::Breaker),
        (Call::Create, PortalError::Failed(Failed::Cut), Closed::Breaker),
        (Call::Create, PortalError::KeyRejected, Closed::KeyRejected),
    ] {
        let budgets = Budgets::default();
        let budget = budget_of_key(&budgets, 0, 1);
        let shown = || budgets.closed(Instant::now()).contains_key(&(portal(), closed));
        let admit = || budget.admit(Instant::now(), call, Priority::Create);
        go(budget.admit(Instant::now(), Call::Poll, Priority::Idle)).report(Instant::now(), Ok(()));
        assert!(!shown());
        for _ in 0..10 {
            if let Admission::Go(permit) = admit() {
                permit.report(Instant::now(), Err(&error));
            }
        }
        for second in 0..600 {
            assert!(shown(), "{closed:?} in second {second}");
            if let Admission::Go(trial) = admit() {
                assert!(shown(), "{closed:?} during the trial in second {second}");
                trial.report(Instant::now(), Err(&error));
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        tokio::time::advance(Duration::from_hours(1)).await;
        go(admit()).report(Instant::now(), Ok(()));
        assert!(!shown(), "{closed:?}");
    }
}
