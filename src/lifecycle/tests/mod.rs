//! The two tables, tried over every combination of past, facts and outcome.
//!
//! - [`purity`]: the room has no effects, by the text of its files.
//! - [`grid`] and [`walk`] make cases, [`laws`] are sentences that hold over all of them.
//! - [`decide_rows`], [`conclude_create`], [`conclude_look`] and [`conclude_rest`] are the rows of the tables.
//! - [`status_rows`] are the rows of what waiters see, read by [`waiters`] as kstatus, Flux, kubectl and Argo read.
//! - [`refusal`] is what is said of a destination that is refused.
//! - [`schedule`] is when to look again.

mod conclude_create;
mod conclude_look;
mod conclude_rest;
mod decide_rows;
mod grid;
mod laws;
mod pasts;
mod purity;
mod refusal;
mod schedule;
mod status_rows;
mod waiters;
mod walk;
mod world;
