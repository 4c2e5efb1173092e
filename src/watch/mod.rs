//! Who is alive, and whose turn it is. May touch kube, tokio and the room `fair`.
//!
//! - [`changes`]: lists and watches the live verifications. An object that cannot be decoded is a
//!   value, and so is trouble with the API server: the stream has no end.
//! - [`Table`]: a compact record of each, with read-your-writes, swept after each list.
//! - [`Due`]: when each is looked at next, in one timer queue, and from there through fair lanes
//!   into bounded slots. A panic stays inside one turn.
//!
//! The three know nothing of each other but [`Slot`], the handle that the table gives out.
//! What stands in the table for a verification, and when it is due, is for the caller to say.

mod blocks;
mod due;
mod guarded;
mod heard;
mod namespaces;
mod queue;
mod ready;
mod records;
mod rewind;
mod slot;
mod stream;
mod table;
mod undecodable;
mod version;

pub use due::{Due, DueSettings, Next, Snapshot, Turn};
pub use heard::Heard;
pub use rewind::{LIST_AGAIN, Lists, Newest, Said};
pub use slot::Slot;
pub use stream::{Change, Identity, Interrupted, StreamSettings, changes};
pub use table::{Departure, Removed, Seen, Table, View};
