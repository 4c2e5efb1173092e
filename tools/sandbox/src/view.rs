//! A session as tests and the admin endpoints see it.
//!
//! Pure.

use jiff::Timestamp;
use serde::Serialize;

use crate::keys::shown;
use crate::person::Document;
use crate::session::{Progress, Session};

/// What the sandbox knows of a session, for tests and the admin endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SessionView {
    /// The verification id.
    pub id: String,
    /// The key that made it, cut to what may be shown.
    pub key: String,
    /// The word the details call shows.
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
    /// What the person holds before the camera.
    pub document: Document,
    /// Calls for its details.
    pub details_calls: u32,
    /// Calls for its images, all kinds.
    pub image_calls: u32,
}

impl Session {
    pub(crate) fn view(&self, id: &str) -> SessionView {
        SessionView {
            id: id.to_owned(),
            key: shown(&self.key),
            status: self.status.word().to_owned(),
            progress: self.flow.iter().cloned().zip(self.progress.iter().copied()).collect(),
            created_at: self.created_at,
            expires_at: self.expires_at,
            updated_at: self.updated_at,
            attempts: self.attempts,
            document: self.document,
            details_calls: self.details_calls,
            image_calls: self.image_calls,
        }
    }
}
