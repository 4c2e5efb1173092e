//! A session as tests and the admin endpoints see it.
//!
//! Pure. May depend on [`session`](crate::session).

use jiff::Timestamp;
use serde::Serialize;

use crate::keys::shown;
use crate::person::Document;
use crate::session::{Progress, Session};

/// The state of a session, for tests and the admin endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SessionView {
    /// The verification id.
    pub id: String,
    /// The key that created it, shortened.
    pub key: String,
    /// The status in its details.
    pub status: String,
    /// Module and progress, in the order of the flow.
    pub progress: Vec<(String, Progress)>,
    /// On the sandbox's clock.
    pub created_at: Timestamp,
    /// On the sandbox's clock.
    pub expires_at: Timestamp,
    /// On the sandbox's clock.
    pub updated_at: Timestamp,
    /// How often a document was uploaded.
    pub attempts: u32,
    /// The document that the person shows.
    pub document: Document,
    /// Requests for its details.
    pub details_requests: u32,
    /// Requests for its images, of all kinds.
    pub image_requests: u32,
}

impl Session {
    pub(crate) fn view(&self, id: &str) -> SessionView {
        SessionView {
            id: id.to_owned(),
            key: shown(&self.key),
            status: self.status.name().to_owned(),
            progress: self.flow.iter().cloned().zip(self.progress.iter().copied()).collect(),
            created_at: self.created_at,
            expires_at: self.expires_at,
            updated_at: self.updated_at,
            attempts: self.attempts,
            document: self.document,
            details_requests: self.details_requests,
            image_requests: self.image_requests,
        }
    }
}
