//! Time. Status and deadlines go by the API server's clock, and what a portal says of its sessions by that portal's;
//! the clock of this machine is not trusted. Both are measured by the `Date` of responses as an offset to the local
//! clock, which is read once from the system and continued by a clock that never jumps and includes the time that the
//! machine is suspended.
//!
//! May depend on nothing of this crate.

mod measured;
mod offset;
mod server;
mod steady;
mod test_time;

pub(crate) use measured::Clock;
pub(crate) use offset::Dated;
pub(crate) use server::ServerDates;
pub(crate) use steady::Stopwatch;
