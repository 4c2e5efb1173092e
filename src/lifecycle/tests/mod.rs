//! The two tables, checked over every combination of state, facts and outcome.
//!
//! - [`purity`]: the files of the module name nothing with effects.
//! - [`invariants`] are sentences that hold in every case of [`grid`], with its parts [`grid_evidence`] and
//!   [`grid_cleanup`], and of [`state_space`]. [`states`] are the states that the grid starts from, [`steps`] the outcomes
//!   of each step, [`coverage`] counts how often each invariant applied.
//! - [`decide_rows`] and [`decide_evidence`] are the rows of the first table.
//! - [`conclude_create`], [`conclude_create_refused`], [`conclude_adopt`], [`conclude_poll`], [`conclude_poll_failed`],
//!   [`conclude_outdated`], [`conclude_expiry`], [`conclude_keys`], [`conclude_deadline`], [`conclude_evidence`],
//!   [`conclude_removal`], [`conclude_time_limits`], [`conclude_restore`], [`conclude_transitions`] and
//!   [`conclude_waits`] are the rows of the second, and [`conclude_cleanup`] those of both about a TTL; [`absence`] and
//!   [`cause`] add to those about evidence. [`poll_baseline`] compares the fast path with them.
//! - [`status_fixtures`] are the rows of what clients see, and [`status_rows`] checks them. `tests/readers` has them evaluated
//!   by the code of kstatus, Flux and kubectl.
//! - [`schedule`], [`schedule_announced`], [`schedule_restart`] and [`polling_bounds`] are about the time of the next poll.

mod absence;
mod cause;
mod conclude_adopt;
mod conclude_cleanup;
mod conclude_create;
mod conclude_create_refused;
mod conclude_deadline;
mod conclude_evidence;
mod conclude_expiry;
mod conclude_keys;
mod conclude_outdated;
mod conclude_poll;
mod conclude_poll_failed;
mod conclude_removal;
mod conclude_restore;
mod conclude_time_limits;
mod conclude_transitions;
mod conclude_waits;
mod coverage;
mod decide_evidence;
mod decide_rows;
mod grid;
mod grid_cleanup;
mod grid_evidence;
mod invariants;
mod poll_baseline;
mod polling_bounds;
mod purity;
mod schedule;
mod schedule_announced;
mod schedule_restart;
mod state_space;
mod states;
mod status_fixtures;
mod status_rows;
mod steps;
mod world;
