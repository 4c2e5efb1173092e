//! What a decision may know: the world at one instant, as plain values.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    api::{Mode, OnUnknownOutcome, ReadyWhen, Reason},
    portal::{allowed::PortalUrl, verification_id::VerificationId},
};

use super::schedule::Bounds;

/// Everything a decision and its conclusion may know besides the past.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The local clock.
    pub now: Timestamp,
    /// The resource's uid.
    pub uid: String,
    /// A hash of the uid: the only chance there is.
    pub seed: u64,
    /// When the resource was created.
    pub born: Timestamp,
    /// The generation of the spec that is read here.
    pub generation: i64,
    /// Whether the resource is being deleted.
    pub deleting: bool,
    /// `spec.suspend`.
    pub suspend: bool,
    /// `spec.mode`.
    pub mode: Mode,
    /// `spec.readyWhen`.
    pub ready_when: ReadyWhen,
    /// `spec.onUnknownOutcome`.
    pub on_unknown: OnUnknownOutcome,
    /// `spec.polling`.
    pub bounds: Bounds,
    /// The session to adopt: `spec.adopt`, or the id of a status that was restored under another uid.
    pub adopt: Option<VerificationId>,
    /// How `spec.activeDeadline` stands.
    pub deadline: Deadline,
    /// Whether the portal may be asked.
    pub portal: PortalFact,
    /// Path of the person's link at the portal, `/` by the guide's samples.
    pub link_path: String,
    /// Whether there is a key to ask with.
    pub key: KeyFact,
    /// Whether the portal and key accept a call now.
    pub gate: Gate,
    /// Whether a request of the claim that was found may be in flight.
    pub quiet: Quiet,
    /// Whether its time has come.
    pub due: Due,
    /// A value of `okid.io/retry` that was not handled yet.
    pub retry: Option<String>,
    /// The value of `okid.io/reconcile-requested-at`, cut to its bound.
    pub reconcile_requested: Option<String>,
    /// This process, as it signs its claims.
    pub holder: String,
    /// How much the budget stretches every interval, at least 1.
    pub stretch: f64,
    /// What this process remembers.
    pub streaks: Streaks,
}

/// How `spec.activeDeadline` stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Deadline {
    /// Still ahead.
    Ahead(Timestamp),
    /// Behind.
    Passed {
        /// Whether the portal was asked, with an answer, since it passed.
        looked: bool,
        /// Whether it passed ten minutes ago or more.
        long_ago: bool,
    },
}

/// Whether the portal may be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortalFact {
    /// It is among the allowed ones.
    Allowed(PortalUrl),
    /// It is not.
    NotAllowed,
}

/// Whether there is a key to ask with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KeyFact {
    /// There is one.
    Usable {
        /// Keyed hash that tells this key from another one.
        fingerprint: String,
    },
    /// There is none.
    Missing(KeyFault),
}

/// Why there is no key to ask with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyFault {
    /// No such Secret.
    SecretNotFound,
    /// No such key in the Secret.
    KeyMissing,
    /// An empty value.
    KeyEmpty,
    /// A value that cannot be an API key.
    KeyMalformed,
    /// The operator may not read the Secret.
    SecretForbidden,
}

impl KeyFault {
    /// Every fault.
    pub const ALL: [Self; 5] =
        [Self::SecretNotFound, Self::KeyMissing, Self::KeyEmpty, Self::KeyMalformed, Self::SecretForbidden];

    /// The reason that the condition `CredentialsReady` shows.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::SecretNotFound => Reason::SecretNotFound,
            Self::KeyMissing => Reason::KeyMissing,
            Self::KeyEmpty => Reason::KeyEmpty,
            Self::KeyMalformed => Reason::KeyMalformed,
            Self::SecretForbidden => Reason::SecretForbidden,
        }
    }
}

/// Whether the portal and key accept a call now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gate {
    /// A call may go out, and its place is held.
    Open,
    /// The portal asked for a pause.
    Paused(Timestamp),
    /// Too much trouble: calls are let through one at a time.
    Breaker(Timestamp),
    /// The portal refuses this key.
    KeyBad(Timestamp),
    /// The rate is used up for the moment.
    Rate(Timestamp),
}

/// Whether a request of the claim that was found may be in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quiet {
    /// It may be, until then.
    No(Timestamp),
    /// None can be.
    Yes,
    /// None ever left: this process knows that its own request was not sent.
    NeverSent,
}

/// Whether its time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Due {
    /// It has.
    Now,
    /// It comes then.
    At(Timestamp),
}

/// The same trouble for some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Since<T> {
    /// The trouble.
    pub what: T,
    /// When it was first seen in a row.
    pub since: Timestamp,
    /// How often in a row.
    pub count: u32,
}

/// Trouble that only a person can end, shown as Stalled after a grace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Grievance {
    /// The portal refuses the key, or access with it.
    Key,
    /// The portal is not set up, or is none.
    Misconfigured,
    /// The portal refuses the request.
    Invalid,
}

/// What this process remembers of one verification; gone with a restart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Streaks {
    /// When the portal is to be asked next.
    pub next: Option<Timestamp>,
    /// Calls in a row that gave no usable answer.
    pub failing: Option<Since<()>>,
    /// The same complaint in a row.
    pub grievance: Option<Since<Grievance>>,
    /// 404 in a row.
    pub not_found: Option<Since<()>>,
    /// Since when the key is missing.
    pub key_missing: Option<Timestamp>,
    /// Since when the portal asks for a pause.
    pub paused: Option<Timestamp>,
    /// Fingerprint of the key that was refused last.
    pub refused_key: Option<String>,
    /// Looks in a row that were answered with 200 for this id.
    pub good_looks: u8,
    /// The last look that was answered with 200 for this id.
    pub last_answer: Option<Timestamp>,
    /// When what the portal says last changed.
    pub changed_at: Option<Timestamp>,
    /// The portal's own time of its last change, as last seen.
    pub updated_at: Option<Timestamp>,
    /// When a change of progress was last written.
    pub shown_at: Option<Timestamp>,
}

/// How long the same trouble is tolerated before it is shown as Stalled.
pub(super) const GRACE: Duration = Duration::from_mins(10);

impl<T: Copy + PartialEq> Since<T> {
    /// The streak with one more of `what`, begun anew if it is another trouble than before.
    #[must_use]
    pub fn one_more(before: Option<Self>, what: T, now: Timestamp) -> Self {
        match before {
            Some(before) if before.what == what => Self { count: before.count.saturating_add(1), ..before },
            _ => Self { what, since: now, count: 1 },
        }
    }

    /// Whether it has lasted that long.
    #[must_use]
    pub fn lasted(&self, now: Timestamp, long: Duration) -> bool {
        elapsed(self.since, now) >= long
    }
}

/// Time from `from` to `to`; zero if that is negative.
pub(super) fn elapsed(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or(Duration::ZERO)
}

/// `from` later by `by`, at most the end of time.
pub(super) fn later(from: Timestamp, by: Duration) -> Timestamp {
    jiff::SignedDuration::try_from(by).ok().and_then(|by| from.checked_add(by).ok()).unwrap_or(Timestamp::MAX)
}
