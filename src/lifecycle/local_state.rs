//! What this process remembers of one verification between reconciles: how long the same error lasts, and when what
//! was seen. Pure.

use std::{num::NonZeroU64, time::Duration};

use jiff::Timestamp;

use super::{
    absence::Misses,
    blocker::BlockerKind,
    evidence_error::EvidenceError,
    since::{Since, elapsed},
};

/// What this process remembers of one verification; gone with a restart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LocalState {
    /// When the portal is to be called next.
    pub next: Option<Timestamp>,
    /// Calls in a row that gave no usable answer.
    pub failing: Option<Since<()>>,
    /// The same kind of blocker in a row.
    pub blocker_kind: Option<Since<BlockerKind>>,
    /// 404 in a row.
    pub not_found: Option<Since<()>>,
    /// Since when it waits for something that keeps sessions from being created and that it has not met itself.
    pub blocked_since: Option<Timestamp>,
    /// Since when the key is missing.
    pub key_missing: Option<Timestamp>,
    /// Since when the portal asks for a pause.
    pub paused: Option<Timestamp>,
    /// Fingerprint of the key that was refused last.
    pub refused_key: Option<String>,
    /// Polls in a row that were answered with 200 for this id.
    pub good_polls: u8,
    /// The last poll that was answered with 200 for this id.
    pub last_answer: Option<Timestamp>,
    /// The last poll, whatever its answer; not earlier than it was.
    pub last_poll: Option<Timestamp>,
    /// When what the portal says last changed.
    pub changed_at: Option<Timestamp>,
    /// Since when its status, its progress and its own time of change stand still, as far as this process has seen.
    pub still_since: Option<Timestamp>,
    /// The portal's own time of its last change, as last seen.
    pub updated_at: Option<Timestamp>,
    /// Answers in a row that are older than what the portal had said already.
    pub outdated: Option<Since<()>>,
    /// Whether the last of them said `expired`, so that one more poll is due.
    pub expired_before: bool,
    /// Since when the last poll after the deadline is attempted, without an answer.
    pub last_polls_since: Option<Timestamp>,
    /// Since when it is suspended, as far as this process has seen; still set in the first reconcile after.
    pub suspended: Option<Timestamp>,
    /// For how long it was suspended since its deadline passed.
    pub suspended_for: Duration,
    /// Whether the last answer named modules.
    pub names_modules: bool,
    /// The same error of storing evidence in a row.
    pub storing: Option<Since<EvidenceError>>,
    /// Since when this process tries to store pending evidence.
    pub storing_since: Option<Timestamp>,
    /// Whether no earlier process can have written the manifest, as far as this one knows: it has seen the verdict come, or
    /// has checked.
    pub manifest_sought: bool,
    /// Images for which perhaps not the portal answered 404.
    pub misses: Misses,
    /// Retries in a row to remove the evidence, since this process first wanted to.
    pub removing: Option<Since<()>>,
    /// When a change of progress was last written.
    pub shown_at: Option<Timestamp>,
    /// A short hash of what the portal said last, if all of it is shown.
    pub seen: Option<NonZeroU64>,
}

impl LocalState {
    /// For how long it is suspended, as far as that lies after the deadline.
    pub(crate) fn suspended_since(&self, deadline: Timestamp, now: Timestamp) -> Duration {
        self.suspended.map_or(Duration::ZERO, |since| elapsed(since.max(deadline), now))
    }
}
