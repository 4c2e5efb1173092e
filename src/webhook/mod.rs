//! The portals' notifications: `POST /notify/<name>`, on a port of its own.
//!
//! A notification is a hint. It is checked against the secrets of its name, a session id is looked for in its body, and
//! that session is polled now instead of later; what else the body says is ignored. A standby forwards
//! the call to the leader.
//!
//! May depend on `incidents`, `metrics` and the pure types of `portal`. `operator` says what a notification leads to.

mod authentication;
mod certificate;
mod connections;
mod endpoints;
mod forward;
mod hint;
mod receiver;
mod reload;
mod server;
mod sources;

pub(crate) use certificate::{Certificate, CertificateFiles, InvalidCertificate};
pub use endpoints::{Endpoints, InvalidEndpoints};
pub(crate) use forward::{Forwarder, InvalidForwarder};
pub(crate) use receiver::{Receiver, ReceiverSettings, Role};
pub(crate) use server::serve;
