//! Evidence in object storage: images and results of a verification, stored once, unaltered, provably.
//!
//! This room touches the object store, and nothing else. What it does, in the order in which it happens:
//!
//! | file | does |
//! |---|---|
//! | [`location`] | reads `s3://…`, `gs://…`, `az://…` and `file://…` (pure) |
//! | [`path`] | names the folder of a verification and the objects in it (pure) |
//! | [`endpoints`] | which hosts besides the clouds' own an address may lead to (pure) |
//! | [`options`] | which keys a credentials Secret may hold (pure) |
//! | [`stores`] | the administrator's file of named stores |
//! | [`breaker`] | leaves a store alone that does not answer, for whoever got no answer |
//! | [`budget`] | bounds the bytes of all images in memory |
//! | [`content`] | whether bytes are an image that may be kept (pure) |
//! | [`http`] | the client for all stores: no redirect, no repetition, no text of a refusal |
//! | `conditions` | whether a store refuses to overwrite |
//! | [`patience`] | how long a store is waited for, and how often it is asked |
//! | [`no_answer`] | why no answer of a store came (pure) |
//! | [`store`] | puts, reads and removes objects; one [`error`] for each way in which that fails |
//! | `attempt` | one request of [`store`], and its answer |
//! | `files` | objects as files of a local folder, where no link leads anywhere |
//! | [`manifest`] | lists what is stored and what was absent; written last (pure) |
//! | [`own`] | remembers what this process has put |
//!
//! Every object is created under the condition that nothing is there. What is there with the same bytes, or is
//! the operator's own, counts as stored, so everything here may be repeated after a crash. Nothing is ever overwritten. Each object goes in one
//! request (none is over 25 MiB), so no half upload can be left behind.
//!
//! Keys, names, errors and the manifest never hold the id of a verification, its link, or text of a store.

mod backend;
pub mod breaker;
pub mod budget;
pub mod client;
mod conditional_writes;
pub mod content;
pub mod endpoints;
pub mod error;
mod files;
pub mod http;
pub mod location;
pub mod no_response;
pub mod options;
pub mod path;
mod request;
pub mod retry;
mod signing;
pub mod stores;

pub use breaker::{StoreBreaker, StorePass, StoreUser};
pub use budget::{ByteBudget, HeldBytes};
pub use client::{Cleared, Content, Digested, Found, Put, Removal, Rest, Store};
pub use content::{Format, MAX_BYTES, Unusable, inspect};
pub use endpoints::{Endpoints, InvalidEndpoint};
pub use error::StoreError;
pub use http::{HttpSettings, StoreHttp};
pub use location::{InvalidLocation, Location, Scheme};
pub use no_response::NoResponse;
pub use options::{InvalidOptions, Options};
pub use path::{Folder, InvalidPath, ObjectKey};
pub use retry::RetryPolicy;
pub use stores::{InvalidStores, NotForNamespace, Stores};
