//! What is worth an event: each says what has happened, once. Pure.

use super::blocker::Blocker;

/// Something that happened to a verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Event {
    /// The portal created the session; the link is published.
    SessionCreated,
    /// The session existed and is followed.
    SessionAdopted,
    /// The person is verified.
    Verified,
    /// The person is rejected.
    Rejected,
    /// The portal says that the session expired.
    Expired,
    /// An hour past the session's end, the portal does not know it.
    ExpiredAndGone,
    /// The answer to a create was lost.
    CreateOutcomeUnknown,
    /// A session exists at okID, or may exist, that no resource publishes.
    OrphanSession,
    /// Something keeps the session from being created.
    Blocked(Blocker),
    /// The portal asks for a pause before the session can be created.
    RateLimited,
    /// The destination of the evidence may not be used, so no session is created.
    DestinationNotAllowed,
    /// The portal rejects the key of a session (401).
    KeyRejected,
    /// The portal is not among the allowed ones.
    PortalNotAllowed,
    /// The portal does not know the session.
    SessionNotFound,
    /// Ended as expired by the portal's clock: an hour past the session's end, and nothing had moved for an hour.
    ExpiredByClock,
    /// The end that the portal named for a new session had passed already by the portal's own clock.
    ExpiryUnusable,
    /// `spec.activeDeadline` passed.
    DeadlineExceeded,
    /// An answer named another session.
    IdMismatch,
    /// The portal used a word that is not known.
    UnknownPortalStatus,
    /// The record of a session might not fit into the resource, so none is created.
    ResourceTooLarge,
    /// The status had lost the session, and has it again.
    StatusRestored,
    /// `status` contradicts itself.
    StatusUnreadable,
    /// What was asked for as evidence is in the store.
    EvidenceStored,
    /// The evidence will never be complete, unless a person does something.
    EvidenceFailed,
    /// Evidence is left in the store, or may be, and nothing removes it any more.
    EvidenceOrphaned,
    /// The evidence is removed by its names, and the store keeps noncurrent versions of it, or what it deletes later.
    EvidenceVersionsLeft,
    /// What was known of the evidence is removed, and nobody could look whether there is more.
    EvidenceNotListed,
}

impl Event {
    /// Every event but those of a blocker.
    const OWN: [Self; 26] = [
        Self::SessionCreated,
        Self::SessionAdopted,
        Self::Verified,
        Self::Rejected,
        Self::Expired,
        Self::ExpiredAndGone,
        Self::CreateOutcomeUnknown,
        Self::OrphanSession,
        Self::RateLimited,
        Self::DestinationNotAllowed,
        Self::KeyRejected,
        Self::PortalNotAllowed,
        Self::SessionNotFound,
        Self::ExpiredByClock,
        Self::ExpiryUnusable,
        Self::DeadlineExceeded,
        Self::IdMismatch,
        Self::UnknownPortalStatus,
        Self::ResourceTooLarge,
        Self::StatusRestored,
        Self::StatusUnreadable,
        Self::EvidenceStored,
        Self::EvidenceFailed,
        Self::EvidenceOrphaned,
        Self::EvidenceVersionsLeft,
        Self::EvidenceNotListed,
    ];

    /// Every event.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::OWN.into_iter().chain(Blocker::ALL.into_iter().map(Self::Blocked))
    }

    /// The event's reason.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::SessionCreated => "SessionCreated",
            Self::SessionAdopted => "SessionAdopted",
            Self::Verified => "Verified",
            Self::Rejected => "Rejected",
            Self::Expired | Self::ExpiredAndGone => "Expired",
            Self::CreateOutcomeUnknown => "CreateOutcomeUnknown",
            Self::OrphanSession => "OrphanSession",
            Self::Blocked(blocker) => blocker.reason().as_str(),
            Self::RateLimited => "RateLimited",
            Self::DestinationNotAllowed => "DestinationNotAllowed",
            Self::KeyRejected => "KeyRejected",
            Self::PortalNotAllowed => "PortalNotAllowed",
            Self::SessionNotFound => "SessionNotFound",
            Self::ExpiredByClock => "ExpiredByClock",
            Self::ExpiryUnusable => "ExpiryUnusable",
            Self::DeadlineExceeded => "DeadlineExceeded",
            Self::IdMismatch => "IdMismatch",
            Self::UnknownPortalStatus => "UnknownPortalStatus",
            Self::ResourceTooLarge => "ResourceTooLarge",
            Self::StatusRestored => "StatusRestored",
            Self::StatusUnreadable => "StatusUnreadable",
            Self::EvidenceStored => "EvidenceStored",
            Self::EvidenceFailed => "EvidenceFailed",
            Self::EvidenceOrphaned | Self::EvidenceVersionsLeft | Self::EvidenceNotListed => {
                "EvidenceOrphaned"
            }
        }
    }

    /// Whether the event is a warning.
    #[must_use]
    pub const fn warns(self) -> bool {
        match self {
            Self::SessionCreated
            | Self::SessionAdopted
            | Self::Verified
            | Self::Rejected
            | Self::Expired
            | Self::ExpiredAndGone
            | Self::EvidenceStored => false,
            Self::CreateOutcomeUnknown
            | Self::OrphanSession
            | Self::Blocked(_)
            | Self::RateLimited
            | Self::DestinationNotAllowed
            | Self::KeyRejected
            | Self::PortalNotAllowed
            | Self::SessionNotFound
            | Self::ExpiredByClock
            | Self::ExpiryUnusable
            | Self::DeadlineExceeded
            | Self::IdMismatch
            | Self::UnknownPortalStatus
            | Self::ResourceTooLarge
            | Self::StatusRestored
            | Self::StatusUnreadable
            | Self::EvidenceFailed
            | Self::EvidenceOrphaned
            | Self::EvidenceVersionsLeft
            | Self::EvidenceNotListed => true,
        }
    }

    /// Whether the event tells of something that is left behind, of which nothing else will ever tell.
    #[must_use]
    pub const fn tells_of_an_orphan(self) -> bool {
        matches!(self, Self::OrphanSession) || self.leaves_evidence()
    }

    /// Whether evidence is left in a store, or may be.
    #[must_use]
    pub const fn leaves_evidence(self) -> bool {
        matches!(self, Self::EvidenceOrphaned | Self::EvidenceVersionsLeft | Self::EvidenceNotListed)
    }

    /// A sentence from a closed set: no id, link, host or time.
    #[must_use]
    pub const fn note(self) -> &'static str {
        match self {
            Self::SessionCreated => "The portal created the session; the link is in status.portalUrl.",
            Self::SessionAdopted => "An existing session was adopted.",
            Self::Verified => "The person is verified.",
            Self::Rejected => "The person was rejected.",
            Self::Expired => "The portal reports that the session expired.",
            Self::ExpiredAndGone => "The session is past its expiry, and the portal no longer knows it.",
            Self::CreateOutcomeUnknown => {
                "The response to a create request was lost; the portal may hold a session that nobody uses."
            }
            Self::OrphanSession => "The portal holds, or may hold, a session that no resource publishes.",
            Self::Blocked(blocker) => blocker.message(),
            Self::RateLimited => "The portal asked for a pause before the session could be created.",
            Self::DestinationNotAllowed => {
                "Evidence cannot be stored as spec.evidence requests, so no session is created; see the condition Stalled."
            }
            Self::KeyRejected => Blocker::KeyRejected.message(),
            Self::PortalNotAllowed => "The operator is not allowed to call this portal.",
            Self::SessionNotFound => "The portal does not know the session.",
            Self::ExpiredByClock => {
                "The check ended as expired: the session is an hour past its expiry, and its state has not changed for an hour."
            }
            Self::ExpiryUnusable => {
                "The portal reported an expiry before the creation of the session; it is ignored."
            }
            Self::DeadlineExceeded => "spec.activeDeadline passed without a verdict.",
            Self::IdMismatch => "A response of the portal named another session and was discarded.",
            Self::UnknownPortalStatus => "The portal reported a status that the operator does not know.",
            Self::ResourceTooLarge => {
                "The resource is too large to record a session in its status, so none is created."
            }
            Self::StatusRestored => {
                "The status had lost the session that was created for this resource; it has been restored."
            }
            Self::StatusUnreadable => "The status contradicts itself, so the operator does nothing.",
            Self::EvidenceStored => "The evidence is stored.",
            Self::EvidenceFailed => "The evidence could not be stored; see the condition EvidenceStored.",
            Self::EvidenceOrphaned => {
                "Evidence remains, or may remain, in the store, and the operator no longer removes it."
            }
            Self::EvidenceVersionsLeft => {
                "The evidence was removed, but the store keeps noncurrent versions or soft-deleted objects of it; a lifecycle \
                 rule of the bucket must remove them."
            }
            Self::EvidenceNotListed => {
                "Every object in status was removed. More may remain, because the credentials do not permit listing the store."
            }
        }
    }
}
