//! How many requests a portal is sent: rate limits, pauses, circuit breakers, and the state of each key.
//!
//! There is one budget for each portal and key, and one for each portal; in both, each namespace has a fair share. No file
//! here has a clock or waits: `now` is an argument, and a request that is not admitted gets the time to try again, so that
//! a wait never holds a permit. May depend on `backoff`, [`fairness`](crate::fairness), [`priority`](crate::priority) and
//! the pure files of [`portal`](super).

mod breaker;
mod budgets;
mod closed;
mod fair_share;
mod key_budget;
mod key_state;
mod permit;
mod portal_budget;
mod requester;
mod sent_request;
mod settings;
mod token_bucket;
mod waitlist;

pub(crate) use breaker::{PROBE_INTERVAL, ProbeWindow};
pub(crate) use budgets::Budgets;
pub use closed::Closed;
pub(crate) use permit::Budget;
pub use permit::{Admission, RequestPermit};
pub use settings::BudgetSettings;

#[cfg(test)]
mod tests;
