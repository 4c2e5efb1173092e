//! The leader: of several replicas one reconciles, and the others stand by. A Lease of the API server says which.
//!
//! The rule is client-go's. A Lease has expired when this process has not seen it change for its duration, by a clock
//! that includes suspension; no clock of another machine is compared with. The holder renews every retry period, and
//! steps down when it has not been able to for the renew deadline, which is shorter. Every write is a compare-and-swap.
//!
//! Whatever the Lease says, no session is created twice: the claim sees to that. The Lease keeps two replicas from doing
//! the same work.
//!
//! May depend on `clock`, `metrics`, and the Lease of `cluster`.

mod election;
mod elector;
mod leader_address;
mod leadership;

pub(crate) use election::Timing;
pub(crate) use elector::{Elector, LeaseLost};
pub(crate) use leader_address::LeaderAddress;
pub(crate) use leadership::Leadership;
