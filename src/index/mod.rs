//! A compact record of each live Verification, with read-your-writes, swept after each list. In memory.
//!
//! May depend on nothing of ours.

mod chunked_vec;
mod namespaces;
mod record_id;
mod records;
mod table;
mod version;

pub(crate) use chunked_vec::Blocks;
pub use record_id::RecordId;
pub use table::{Departure, Index, Removed, Seen, View};
