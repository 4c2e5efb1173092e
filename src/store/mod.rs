//! Object storage: every call to a store.
//!
//! May depend on `api`, `backoff`, `connect_error`, `fairness`, `origin`, `tls` and `object_store`.
//!
//! | file | does |
//! |---|---|
//! | [`location`] | reads `s3://…`, `gs://…`, `az://…` and `file://…` (pure) |
//! | [`path`] | names the folder of a verification and the objects in it (pure) |
//! | [`endpoints`] | allows servers that are not the clouds' own (pure) |
//! | [`options`] | checks the options of a credentials Secret or a stores file (pure) |
//! | [`stores`] | reads the administrator's file of named stores |
//! | [`breaker`] | pauses requests to a store that does not respond |
//! | [`budget`] | bounds the bytes of all images in memory |
//! | [`content`] | recognizes images that may be stored (pure) |
//! | [`http`] | the HTTP client of all stores: no redirects, no retries, no error texts |
//! | `backend` | makes the client of each kind of store |
//! | `request` | sends one request |
//! | `classify` | maps its response to an error |
//! | [`retry`] | how often and how long a call is repeated |
//! | [`client`] | puts, reads and removes [objects](object), with retries; each failure is one [`error`] |
//! | `conditional_writes` | checks whether a store refuses to overwrite |
//! | [`no_response`] | why there was no response (pure) |
//! | `files` | stores objects as files of a local folder, without following links |
//!
//! Every object is created under the condition that none exists. An object that exists with the same bytes counts as stored,
//! so every call may be repeated after a crash. Nothing is ever overwritten. Each object is sent in one request (none is
//! over 25 MiB), so no partial upload can be left behind.
//!
//! Keys, names and errors never contain the id of a verification, its link, or text from a store.

mod backend;
pub mod breaker;
pub mod budget;
mod classify;
pub mod client;
mod conditional_writes;
pub mod content;
pub mod endpoints;
pub mod error;
mod files;
pub mod hash;
pub mod http;
pub mod location;
pub mod no_response;
pub mod object;
pub mod options;
pub mod path;
mod request;
pub mod retry;
mod signing;
pub mod stores;

pub(crate) use breaker::{StoreBreaker, StorePass, StoreUser};
pub(crate) use budget::{ByteBudget, HeldBytes};
pub use client::Store;
pub use content::{Format, Unusable};
pub(crate) use content::{MAX_BYTES, inspect};
pub use endpoints::{Endpoints, InvalidEndpoint};
pub use error::StoreError;
pub use hash::sha256_hex;
pub use http::{HttpSettings, StoreHttp};
pub use location::{InvalidLocation, Location, Scheme};
pub use no_response::NoResponse;
pub use object::{Cleared, Digested, Found, Metadata, PROOF, Put, Remainder, Removal};
pub use options::{InvalidOptions, Options};
pub use path::{Folder, InvalidPath, ObjectKey};
pub use retry::RetryPolicy;
pub use stores::{InvalidStores, NotForNamespace, Stores};
