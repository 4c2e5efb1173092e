//! A request that was sent with a key, as its budget records it. Types only. May depend on [`Call`].

use crate::portal::error::Call;

/// A session, by a hash.
pub(super) type SessionHash = u64;

/// Of what a request is a trial.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trial {
    /// Of the key.
    pub(super) key: bool,
    /// Of the half-open breaker for creates.
    pub(super) creates: bool,
}

/// A request that was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct SentRequest {
    pub(super) call: Call,
    /// The session that it polled, if it named one.
    pub(super) session: Option<SessionHash>,
    pub(super) trial: Trial,
}
