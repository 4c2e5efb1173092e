//! What a process remembers of a session outside status, so that a status that lost it can be restored. Pure.

use std::sync::Arc;

use super::{moment::Moment, state::restored};
use crate::{
    api::{SessionState, VerificationStatus},
    portal::verification_id::VerificationId,
};

/// The session of a resource, as its status once recorded it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownSession {
    /// Its id.
    pub id: VerificationId,
    /// Base URL of its portal.
    pub portal: Arc<str>,
    pub(super) created_at: Option<Moment>,
    pub(super) expires_at: Option<Moment>,
    pub(super) attempt: i32,
    pub(super) adopted: bool,
}

impl KnownSession {
    /// The session in a status; none if it has none, or another resource's.
    #[must_use]
    pub fn of(uid: &str, status: &VerificationStatus) -> Option<Self> {
        let session = status.session.as_ref().filter(|_| !restored(uid, status))?;
        Some(Self {
            id: VerificationId::parse(status.verification_id.as_deref()?).ok()?,
            portal: session.portal.as_deref()?.into(),
            created_at: session.created_at.and_then(Moment::of),
            expires_at: status.expires_at.and_then(Moment::of),
            attempt: session.attempt,
            adopted: session.state == Some(SessionState::Adopted),
        })
    }

    /// Writes it into a status that lost it. What only the response to the create contained (the flow, the modules, the
    /// fingerprint of the key) is left unchanged.
    pub(crate) fn restore(&self, uid: &str, status: &mut VerificationStatus) {
        let Self { id, portal, created_at, expires_at, attempt, adopted } = self;
        let time = |moment: Option<Moment>| moment.map(Moment::time);
        status.verification_id = Some(id.as_str().to_owned());
        status.expires_at = time(*expires_at).or(status.expires_at);
        let session = status.session.get_or_insert_default();
        session.attempt = session.attempt.max(*attempt);
        session.state = Some(if *adopted { SessionState::Adopted } else { SessionState::Created });
        session.uid = Some(uid.to_owned());
        session.portal = Some(portal.to_string());
        session.created_at = time(*created_at).or(session.created_at);
    }

    /// The same session with an equal URL that is shared.
    #[must_use]
    pub fn at(self, portal: Arc<str>) -> Self {
        Self { portal, ..self }
    }
}
