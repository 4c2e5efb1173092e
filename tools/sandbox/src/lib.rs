//! A simulation of the okID portal, as its integration guide describes it, with fault injection.
//!
//! For tests, start a [`Sandbox`] in the same process, point the client at [`Sandbox::url`], and control it by the methods of
//! [`Portal`]: act as the person and the reviewer, inject [`Fault`]s, advance the clock, read the counters. Any number of
//! sandboxes can run side by side.
//!
//! ```
//! use okid_sandbox::{Action, Call, Endpoint, Fault, Sandbox};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let sandbox = Sandbox::builder().key("test-key-1").start().await;
//! sandbox.inject(Fault::new(Call::Create, Action::status(503)).once());
//! assert!(sandbox.url().starts_with("http://127.0.0.1:"));
//! assert_eq!(sandbox.count(Endpoint::Create), 0);
//! sandbox.stop().await;
//! # }
//! ```
//!
//! For people and other processes there is the program `okid-sandbox`, with a page to click through and the same functions as
//! JSON endpoints:
//!
//! ```text
#![doc = include_str!("admin.txt")]
//! ```
//!
//! Modules: `server` listens, and `connection` is one TCP connection. `endpoints` handles the six requests of the guide with the
//! JSON of `wire` and the `images`, which `drawing` draws. `fault_queue` selects the [`Fault`] for a request, `inject` carries it
//! out, `corrupt` changes JSON, and `request_log` counts. `portal` holds all `session`s (shown as `view`s), which change by the
//! acts of a `person` and by the `clock`. `notifications` call a webhook. `page` is for people, `admin` for other processes.

mod admin;
mod clock;
mod connection;
mod corrupt;
mod drawing;
mod endpoints;
mod fault;
mod fault_queue;
mod images;
mod inject;
mod keys;
mod notifications;
mod page;
mod person;
mod portal;
mod request_log;
mod sandbox;
mod server;
mod session;
mod view;
mod wire;

pub use admin::ENDPOINTS;
pub use fault::{Action, Call, Cut, Edit, Fault, Gateway, Huge, Malformed, Moment, RetryAfter};
pub use fault_queue::{FaultId, FaultView};
pub use notifications::{Delivery, Webhook};
pub use person::{Act, Document, Person, Step, Verdict};
pub use portal::Portal;
pub use request_log::{Counters, EndpointCount, RequestRecord};
pub use sandbox::{Builder, Sandbox};
pub use session::{ActError, Progress};
pub use view::SessionView;
pub use wire::Endpoint;
