//! The okID portal as its integration guide describes it, to run and to break.
//!
//! For tests, start a [`Sandbox`] in the same process, point the client at [`Sandbox::url`], and
//! drive it by the methods of [`Portal`]: play the person and the reviewer, order [`Fault`]s, set
//! the clock forward, read the counters. Any number of them run side by side.
//!
//! ```
//! use okid_sandbox::{Action, Call, Endpoint, Fault, Sandbox};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let sandbox = Sandbox::builder().key("test-key-1").start().await;
//! sandbox.order(Fault::new(Call::Create, Action::status(503)).once());
//! assert!(sandbox.url().starts_with("http://127.0.0.1:"));
//! assert_eq!(sandbox.count(Endpoint::Create), 0);
//! sandbox.stop().await;
//! # }
//! ```
//!
//! For people and other processes there is the program `okid-sandbox`, with a page to click
//! through and the same abilities as JSON:
//!
//! ```text
#![doc = include_str!("admin.txt")]
//! ```
//!
//! How the files hang together: `server` listens and `connection` is one TCP connection; `calls`
//! answers the contract's six calls with `wire`'s JSON and the pictures of the `gallery`, which `images` draws; `orders` knows which
//! [`Fault`] strikes a call, `perform` does it, `deform` spoils its JSON; `journal` counts. `portal`
//! holds the state of all `session`s (shown as `view`s), moved by the acts of a `person` and by the `clock`. `page` is
//! for people, `admin` for other processes.

mod admin;
mod calls;
mod clock;
mod connection;
mod deform;
mod fault;
mod gallery;
mod images;
mod journal;
mod keys;
mod orders;
mod page;
mod perform;
mod person;
mod portal;
mod sandbox;
mod server;
mod session;
mod view;
mod wire;

pub use admin::ENDPOINTS;
pub use fault::{Action, Call, Cut, Edit, Fault, Gateway, Huge, Malformed, Moment, RetryAfter};
pub use journal::{CallRecord, Counters, EndpointCount};
pub use orders::{FaultId, FaultView};
pub use person::{Act, Document, Person, Step, Verdict};
pub use portal::Portal;
pub use sandbox::{Builder, Sandbox};
pub use session::{ActError, Progress};
pub use view::SessionView;
pub use wire::Endpoint;
