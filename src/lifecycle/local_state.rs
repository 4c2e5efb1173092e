//! What this process remembers about one verification between reconciles: how long an error has lasted, and when
//! something was seen. Pure.

use std::{num::NonZeroU64, time::Duration};

use jiff::Timestamp;

use super::{
    absence::Misses,
    blocker::BlockerKind,
    evidence_error::EvidenceError,
    key_fact::KeyVersion,
    since::{Since, elapsed},
};

/// What this process remembers about one verification. A restart loses it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LocalState {
    /// When the next call to the portal is due.
    pub next: Option<Timestamp>,
    /// Calls in a row without a usable answer.
    pub failing: Option<Since<()>>,
    /// Attempts in a row that met the same kind of blocker.
    pub blocker_kind: Option<Since<BlockerKind>>,
    /// 404s in a row.
    pub not_found: Option<Since<()>>,
    /// Since when it waits for a blocker that its own attempts have not met.
    pub blocked_since: Option<Timestamp>,
    /// Since when the key is missing.
    pub key_missing: Option<Timestamp>,
    /// Since when the portal asks for a pause.
    pub paused: Option<Timestamp>,
    /// Fingerprint of the last refused key.
    pub refused_key: Option<String>,
    /// Which key the session needs: the one from before a rotation also if it may need that, because its keys were not
    /// read.
    pub key_version: KeyVersion,
    /// Polls in a row that were answered with 200 for this id.
    pub good_polls: u8,
    /// The last poll that was answered with 200 for this id.
    pub last_answer: Option<Timestamp>,
    /// The last poll, whatever its answer; may be later than it really was, never earlier.
    pub last_poll: Option<Timestamp>,
    /// When the portal's report last changed.
    pub changed_at: Option<Timestamp>,
    /// Since when status, progress and `updated_at` are unchanged, as far as this process has seen.
    pub still_since: Option<Timestamp>,
    /// The portal's `updated_at`, as last seen.
    pub updated_at: Option<Timestamp>,
    /// Outdated answers in a row.
    pub outdated: Option<Since<()>>,
    /// Whether the last of them said `expired`, so that one more poll is due.
    pub expired_before: bool,
    /// Since when the last poll after the deadline is attempted without an answer.
    pub last_polls_since: Option<Timestamp>,
    /// Since when it is suspended, as far as this process has seen; still set in the first reconcile after it resumes.
    pub suspended: Option<Timestamp>,
    /// How long it was suspended since its deadline passed.
    pub suspended_for: Duration,
    /// Whether the last answer named modules.
    pub names_modules: bool,
    /// Attempts in a row to store evidence that met the same error.
    pub storing: Option<Since<EvidenceError>>,
    /// Since when this process has tried to store pending evidence.
    pub storing_since: Option<Timestamp>,
    /// Whether this process knows that no earlier process wrote the manifest, because it saw the verdict arrive or has
    /// checked.
    pub manifest_checked: bool,
    /// Images with a 404 that may not be the portal's.
    pub misses: Misses,
    /// Attempts in a row to remove the evidence.
    pub removing: Option<Since<()>>,
    /// When a change of progress was last written.
    pub shown_at: Option<Timestamp>,
    /// A short hash of the portal's last report, if status shows all of it.
    pub seen: Option<NonZeroU64>,
}

impl LocalState {
    /// Whether further polls must confirm what the last one said before it counts.
    pub(super) const fn needs_confirmation(&self) -> bool {
        self.not_found.is_some()
            || self.outdated.is_some()
            || self.expired_before
            || self.refused_key.is_some()
    }

    /// How long it has been suspended since the deadline passed.
    pub(crate) fn suspended_since(&self, deadline: Timestamp, now: Timestamp) -> Duration {
        self.suspended.map_or(Duration::ZERO, |since| elapsed(since.max(deadline), now))
    }
}
