//! The events: each says what has happened, once. Pure.

use super::blocker::Blocker;

/// Something that happened to a verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Event {
    /// The portal created the session; the link is published.
    SessionCreated,
    /// An existing session was adopted.
    SessionAdopted,
    /// The person was verified.
    Verified,
    /// The person was rejected.
    Rejected,
    /// The portal says that the session expired.
    Expired,
    /// The session ended an hour ago or more, and the portal does not know it any more.
    ExpiredAndGone,
    /// The response to a create was lost.
    CreateOutcomeUnknown,
    /// okID has, or may have, a session that no resource publishes.
    OrphanSession,
    /// Something prevents the session from being created.
    Blocked(Blocker),
    /// The portal asks for a pause before the session can be created.
    RateLimited,
    /// The destination of the evidence is not allowed, so no session is created.
    DestinationNotAllowed,
    /// The portal rejects the key of a session (401).
    KeyRejected,
    /// The portal is not allowed.
    PortalNotAllowed,
    /// The portal does not know the session.
    SessionNotFound,
    /// Ended as expired by the portal's clock: an hour after the session's end, and nothing had moved for an hour.
    ExpiredByClock,
    /// The portal named an end for a new session that had already passed by the portal's own clock.
    ExpiryUnusable,
    /// `spec.activeDeadline` passed.
    DeadlineExceeded,
    /// A response named another session.
    IdMismatch,
    /// The portal reported an unknown status.
    UnknownPortalStatus,
    /// The resource might be too large to record a session, so none is created.
    ResourceTooLarge,
    /// The status had lost the session; it is restored.
    StatusRestored,
    /// `status` contradicts itself.
    StatusUnreadable,
    /// All requested evidence is stored.
    EvidenceStored,
    /// The evidence stays incomplete unless a person acts.
    EvidenceFailed,
    /// Evidence is, or may be, left in the store, and nothing removes it any more.
    EvidenceOrphaned,
    /// The evidence was removed, but the store keeps noncurrent versions or soft-deleted objects.
    EvidenceVersionsLeft,
    /// All evidence in status was removed, but the store could not be listed for more.
    EvidenceNotListed,
    /// `spec.ttlAfterFinished` does not delete the resource, because Git would bring it back.
    ManagedByGitOps,
}

impl Event {
    /// All events except those of a blocker.
    const OWN: [Self; 27] = [
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
        Self::ManagedByGitOps,
    ];

    /// All events.
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
            Self::ManagedByGitOps => "ManagedByGitOps",
        }
    }

    /// Whether the event has type Warning.
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
            | Self::EvidenceNotListed
            | Self::ManagedByGitOps => true,
        }
    }

    /// Whether the event reports something left behind that nothing else will ever report.
    #[must_use]
    pub(crate) const fn tells_of_an_orphan(self) -> bool {
        matches!(self, Self::OrphanSession) || self.leaves_evidence()
    }

    /// Whether evidence is, or may be, left in a store.
    #[must_use]
    pub(crate) const fn leaves_evidence(self) -> bool {
        matches!(self, Self::EvidenceOrphaned | Self::EvidenceVersionsLeft | Self::EvidenceNotListed)
    }

    /// The event's message, from a closed set: no id, link, host or time.
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
            Self::ManagedByGitOps => {
                "spec.ttlAfterFinished does not delete this resource: Flux, Argo CD or Helm would bring it back as a new check."
            }
        }
    }
}
