//! Fair sharing between namespaces, and inside each between its keys. Depends on nothing of this crate.
//!
//! A namespace has one share, however many Secrets it names and however many resources it has, because all of them may
//! belong to one tenant; inside a namespace each key has one share.

mod concurrency;
mod key;
mod queue;
mod semaphore;

pub(crate) use key::FairnessKey;
pub(crate) use queue::FairQueue;
pub(crate) use semaphore::{FairSemaphore, Permit};
