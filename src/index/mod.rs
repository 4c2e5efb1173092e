//! An in-memory index of the live Verifications: a compact record of each, with read-your-writes, swept after each
//! list.
//!
//! May depend on nothing of this crate.

mod applied;
mod chunked_vec;
mod namespaces;
mod record_id;
mod records;
mod table;
mod version;

pub(crate) use applied::{Applied, Removed};
pub(crate) use chunked_vec::ChunkedVec;
pub(crate) use record_id::RecordId;
pub(crate) use table::Index;
pub(crate) use version::{ShortUid, Uid};
