//! What a decision may know: the world at one instant, as plain values.

use jiff::Timestamp;

use crate::{
    api::{Mode, OnUnknownOutcome, ReadyWhen, Reason, VerificationStatus},
    portal::{allowed::PortalUrl, verification_id::VerificationId},
};

use super::{evidence::EvidenceFacts, known::KnownSession, schedule::Bounds, streaks::Streaks};

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
    /// When a poll of any session of this portal and key was last answered with 200 and that session.
    pub polled_at: Option<Timestamp>,
    /// Whether the record of a session might not fit into the resource.
    pub too_large: bool,
    /// The session that this process knows the resource to have, where its status tells of none: etcd was restored from
    /// a backup.
    pub known: Option<KnownSession>,
    /// What is asked for as evidence, and how it stands.
    pub evidence: EvidenceFacts,
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

impl Deadline {
    /// How long after the deadline a last look is still tried for.
    pub const LAST_LOOK_WITHIN: std::time::Duration = std::time::Duration::from_mins(10);
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
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
    KeyRejected(Timestamp),
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

impl Facts {
    /// Whether the resource asks for a look and its status does not say yet that it was heard.
    #[must_use]
    pub fn asks_for_a_look(&self, status: &VerificationStatus) -> bool {
        self.reconcile_requested.is_some() && self.reconcile_requested != status.last_handled_reconcile_at
    }
}
