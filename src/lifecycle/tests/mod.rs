//! The two tables, checked over every combination of state, facts and outcome.
//!
//! - [`purity`]: the module has no effects, by the text of its files.
//! - [`grid`] and [`state_space`] make cases, [`invariants`] are sentences that hold over all of them. [`states`] are what the grid
//!   starts from, [`grid_evidence`] is its part about evidence, [`steps`] what can come of a step, [`coverage`] the score.
//! - [`decide_rows`] and [`decide_evidence`] are the rows of the first table; [`conclude_create`],
//!   [`conclude_create_refused`], [`conclude_adopt`], [`conclude_poll`], [`conclude_outdated`], [`conclude_expiry`],
//!   [`conclude_deadline`], [`conclude_evidence`], [`conclude_removal`], [`conclude_time_limits`] and [`conclude_rest`] those
//!   of the second. [`poll_baseline`] compares the fast path with the second.
//! - [`status_fixtures`] are the rows of what waiters see; [`status_rows`] has them read by [`waiters`], as kstatus, Flux,
//!   kubectl and Argo read.
//! - [`refusal`] is what is said of a destination that is refused.
//! - [`schedule`] and [`schedule_restart`] are when to poll again.

mod absence;
mod cause;
mod conclude_adopt;
mod conclude_create;
mod conclude_create_refused;
mod conclude_deadline;
mod conclude_evidence;
mod conclude_expiry;
mod conclude_outdated;
mod conclude_poll;
mod conclude_removal;
mod conclude_rest;
mod conclude_restore;
mod conclude_time_limits;
mod coverage;
mod decide_evidence;
mod decide_rows;
mod grid;
mod grid_evidence;
mod invariants;
mod poll_baseline;
mod polling_bounds;
mod purity;
mod schedule;
mod schedule_restart;
mod state_space;
mod states;
mod status_fixtures;
mod status_rows;
mod steps;
mod waiters;
mod world;
