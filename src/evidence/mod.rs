//! Evidence: images and results of a verification, from the portal into a store.
//!
//! May depend on `lifecycle`, `store`, `portal`, `cluster`, and the small modules that all use.

mod access;
mod batch;
mod context;
mod destination;
mod failures;
mod limits;
pub mod manifest;
mod not_now;
mod own_objects;
mod presence;
mod recognize;
mod removal;
mod resolve;
mod upload;

pub(crate) use context::EvidenceContext;
pub(crate) use context::{Evidence, RemovalReport, Source, UploadReport};
pub use manifest::{Manifest, OPERATOR, PortalEnd, UnreadableManifest};
