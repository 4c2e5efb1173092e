//! okID over HTTP: the only room that speaks to the portal.
//!
//! The specification is the vendor's integration guide ("v2client Integration Guide").

pub mod allowed;
pub mod budget;
mod calls;
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
    AllowedPortals, DEFAULT_PORTAL, ImageCall, ImageSource, InvalidPortal, LinkMode, NotAllowed, PortalUrl,
};
pub(crate) use calls::{Caller, CreateAnswer, ImageBody, Portal, PortalSettings};
pub(crate) use client::MAX_ANSWER_BYTES;
pub use client::{ClientSettings, InvalidClient, PortalClient, images::ImageAnswer};
pub use error::{Call, Certainty, ContentCoding, Failed, NotSent, PortalError, Provenance};
pub use key::{ApiKey, KeyIdentity, KeyShape};
pub use verification_id::{UnfitId, VerificationId};
pub use wire::{Created, Details, UnusableAnswer};
