//! The budget of a portal and key, as its users see it.

mod breakers;
mod crowd;
mod keys;
mod registry;

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{key_budget::KeyBudget, portal_budget::PortalBudget, requester::Requester, *};
use crate::{
    portal::{
        error::{Call, Failed, PortalError},
        verification_id::VerificationId,
    },
    priority::Priority,
};

fn budget_with(settings: BudgetSettings) -> Budget {
    let now = Instant::now();
    Budget {
        key: Arc::new(Mutex::new(KeyBudget::new(settings, now))),
        portal: Arc::new(Mutex::new(PortalBudget::new(settings, now))),
        requester: Requester { namespace: 1, reads_to_retry: true },
    }
}

fn budget() -> Budget {
    budget_with(BudgetSettings { portal_rate: None, key_rate: None, ..BudgetSettings::default() })
}

fn go(admission: Admission) -> RequestPermit {
    match admission {
        Admission::Go(permit) => permit,
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

/// Polls a session and gets this response.
fn poll(budget: &Budget, now: Instant, session: u8, response: Result<(), &PortalError>) {
    go(budget.admit(now, Call::Poll, Priority::Idle)).about(&id(session)).report(now, response);
}

fn proven(now: Instant) -> Budget {
    let budget = budget();
    go(budget.admit(now, Call::Poll, Priority::Idle)).report(now, Ok(()));
    budget
}
