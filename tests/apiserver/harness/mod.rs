//! The harness of every test on the API server.
//!
//! `cluster` is the control plane that all tests share, `operator` one process of the operator, `account` its
//! `ServiceAccount`, `api_server_proxy` a proxy between the two, `audit` what it has requested, `history` records every version
//! of every verification in a namespace, `verification_ext` reads one of them, `evidence` is an object store. `world` puts them
//! together: `builder` sets it up, `events` reads its events, `finish` checks the invariants, and `statuses` records what was
//! seen for `tests/readers`.

mod account;
mod api_server_proxy;
mod audit;
mod builder;
mod cluster;
mod events;
pub(crate) mod evidence;
mod finish;
mod history;
mod operator;
mod statuses;
mod verification_ext;
mod wait;
mod world;

pub(crate) use account::{ACCOUNT, Account, Permission, all, of_scope};
pub(crate) use api_server_proxy::{ApiServerProxy, Traffic};
pub(crate) use audit::{AuditLog, AuditedRequest};
pub(crate) use cluster::Cluster;
pub(crate) use operator::{Launch, Operator};
pub(crate) use verification_ext::VerificationExt;
pub(crate) use wait::{LIMIT, holds, until};
pub(crate) use world::{SECRET, World, new_key};
