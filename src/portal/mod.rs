//! okID over HTTP: the only module that calls the portal.
//!
//! May depend on `backoff`, [`clock`](crate::clock), `connect_error`, [`fairness`](crate::fairness), `incidents`,
//! [`metrics`](crate::metrics), `origin`, [`priority`](crate::priority) and [`tls`](crate::tls). The specification is the
//! vendor's integration guide ("v2client Integration Guide").

pub mod allowed;
pub mod budget;
mod calls;
pub mod classify;
pub mod client;
mod date;
pub mod error;
mod failures;
mod filter;
pub mod key;
pub mod retry_after;
pub mod verification_id;
pub mod wire;

pub use allowed::{
    AllowedPortals, DEFAULT_PORTAL, ImageQuery, ImageSource, InvalidPortal, LinkMode, NotAllowed, PortalUrl,
};
pub(crate) use calls::{Caller, CreateResult, ImageBody, Portal, PortalSettings};
pub(crate) use client::MAX_RESPONSE_BYTES;
pub use client::{ClientSettings, InvalidClient, PortalClient, images::ImageResponse};
pub(crate) use error::Certainty;
pub use error::{Call, ContentCoding, Failed, NotSent, PortalError};
pub use key::{ApiKey, InvalidKey, KeyIdentity};
pub use verification_id::{InvalidId, VerificationId};
pub use wire::{Created, Details};
