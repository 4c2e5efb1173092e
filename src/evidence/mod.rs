//! Evidence: images and results of a verification, from the portal into a store.
//!
//! May depend on `lifecycle`, `store`, `portal` and `cluster` (Secrets).

mod batch;
mod destination;
mod failures;
mod limits;
pub mod manifest;
mod own_objects;
mod presence;
mod recognize;
mod removal;
mod upload;

pub use batch::{EvidenceContext, STORING_AT_ONCE, STORING_AT_ONCE_OF_ONE};
pub use failures::StoreFailureLog;
pub use limits::EndpointLimits;
pub use manifest::{Manifest, OPERATOR, PortalEnd, UnreadableManifest, hex, sha256_hex};
pub use own_objects::OwnObjects;
