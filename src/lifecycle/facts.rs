//! What a decision may know: the world at one instant, as plain values. Pure.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    absence::{Absence, Missing},
    cleanup::CleanupFacts,
    evidence::{EvidenceFacts, Wanted},
    key_fact::{KeyFact, KeyVersion},
    known_session::KnownSession,
    local_state::LocalState,
    schedule::{Announced, Bounds, LONGEST, Spacing, Times},
    since::{elapsed, later},
};
use crate::{
    api::{Mode, OnUnknownOutcome, ReadyWhen, VerificationStatus},
    portal::{allowed::PortalUrl, verification_id::VerificationId},
};

/// An image is absent only if the portal says so at least this long after the verdict was recorded.
const ASKED_ONCE_MORE_AFTER: Duration = Duration::from_secs(30);
/// The least time between the last answered poll and a requested one.
const REQUESTED_EVERY: Duration = Duration::from_secs(1);

/// Everything that a decision and its conclusion may know besides status.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The current time by the API server's clock.
    pub now: Timestamp,
    /// The current time by the portal's clock; none until a response of the portal has a date.
    pub portal_now: Option<Timestamp>,
    /// The resource's uid.
    pub uid: String,
    /// A hash of the uid: the only source of variation.
    pub jitter_seed: u64,
    /// When the resource was created.
    pub created_at: Timestamp,
    /// The generation of this spec.
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
    /// The state of `spec.activeDeadline`.
    pub deadline: Deadline,
    /// Whether the portal may be called.
    pub portal: PortalFact,
    /// Path of the person's link at the portal; `/` in the guide's examples.
    pub link_path: String,
    /// The API key.
    pub key: KeyFact,
    /// Which key that is. The one from before a rotation only if that created the session, or if neither was read.
    pub key_version: KeyVersion,
    /// Whether a request of the claim that was found may be in flight.
    pub in_flight: InFlight,
    /// Whether the next call is due.
    pub due: Due,
    /// A value of `okid.io/retry` that has not been handled yet.
    pub retry: Option<String>,
    /// The value of `okid.io/reconcile-requested-at`, cut to its bound.
    pub reconcile_requested: Option<String>,
    /// The name with which this reconcile signs its claim.
    pub holder: String,
    /// How much the budget stretches every interval, at least 1.
    pub stretch: f64,
    /// What notifications of the portal announce.
    pub announced: Announced,
    /// When a poll of any session of this portal and key was last answered with 200.
    pub polled_at: Option<Timestamp>,
    /// Whether the resource might be too large to record a session.
    pub too_large: bool,
    /// The session that this process knows but status does not, because etcd was restored from a backup.
    pub known: Option<KnownSession>,
    /// The requested evidence, and how much of it is stored.
    pub evidence: EvidenceFacts,
    /// `spec.ttlAfterFinished`, if it is set.
    pub cleanup: Option<CleanupFacts>,
    /// What this process remembers.
    pub local_state: LocalState,
}

/// The state of `spec.activeDeadline`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Deadline {
    /// It has not passed.
    Ahead(Timestamp),
    /// It has passed.
    Passed {
        /// When it passed.
        at: Timestamp,
        /// Whether the portal has answered a poll since.
        polled: bool,
        /// Whether the last poll has been retried for ten minutes without an answer.
        overdue: bool,
        /// Whether it passed 24 hours ago or more, not counting time suspended.
        long_ago: bool,
    },
}

impl Deadline {
    /// How long the last poll is retried after its first attempt.
    pub(crate) const LAST_POLL_WITHIN: Duration = Duration::from_mins(10);
    /// How long after the deadline the operator waits for the last poll to become possible.
    pub(crate) const LAST_POLL_AWAITED: Duration = Duration::from_hours(24);

    /// The state of a deadline at `now`.
    #[must_use]
    pub fn of(at: Timestamp, now: Timestamp, local_state: &LocalState) -> Self {
        if at > now {
            return Self::Ahead(at);
        }
        let suspended = local_state.suspended_for + local_state.suspended_since(at, now);
        Self::Passed {
            at,
            polled: local_state.last_answer.is_some_and(|answered| answered >= at),
            overdue: local_state
                .last_polls_since
                .is_some_and(|since| elapsed(since, now) >= Self::LAST_POLL_WITHIN),
            long_ago: elapsed(at, now).saturating_sub(suspended) >= Self::LAST_POLL_AWAITED,
        }
    }
}

/// Whether the portal may be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortalFact {
    /// It is allowed.
    Allowed(PortalUrl),
    /// It is not.
    NotAllowed,
}

/// Whether a request of the claim that was found may be in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InFlight {
    /// One may be in flight until then.
    Possible(Timestamp),
    /// None can be.
    None,
    /// None was sent: this process knows that its own request was not.
    NeverSent,
}

/// Whether the next call is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Due {
    /// It is due.
    Now,
    /// It is due then.
    At(Timestamp),
}

/// Who requests a poll before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PollRequest {
    /// Nobody.
    None,
    /// A person, by the annotation `okid.io/reconcile-requested-at` or by naming a session to adopt.
    Person,
    /// A notification of the portal, which says that there is something new.
    Notification,
}

impl Due {
    /// A requested poll is due earlier, and so is a poll with a new key after a refused one, but neither before
    /// `spec.polling.minInterval` has passed. A notification brings no poll forward that is to confirm what the polls before
    /// it said, because the time between them is part of the proof.
    #[must_use]
    pub fn of(
        now: Timestamp,
        request: PollRequest,
        key: &KeyFact,
        local_state: &LocalState,
        bounds: Bounds,
    ) -> Self {
        let new_key = match (key, &local_state.refused_key) {
            (KeyFact::Usable { fingerprint }, Some(refused)) => fingerprint != refused,
            (KeyFact::Usable { fingerprint: _ } | KeyFact::Missing(_), _) => false,
        };
        // A time that seems further away was planned before the clock was corrected.
        let is_polled = local_state.last_poll.is_some();
        let planned = local_state.next.filter(|next| !is_polled || elapsed(now, *next) <= LONGEST);
        let planned = planned.filter(|_| !new_key).unwrap_or(now);
        let at = match request {
            PollRequest::None => planned,
            PollRequest::Person => {
                let soonest = local_state.last_answer.map_or(now, |last| later(last, REQUESTED_EVERY));
                planned.min(soonest)
            }
            PollRequest::Notification if local_state.needs_confirmation() => planned,
            PollRequest::Notification => planned.min(now),
        };
        let at = bounds.held_until(local_state.last_poll, now).map_or(at, |soonest| at.max(soonest));
        if at <= now { Self::Now } else { Self::At(at) }
    }
}

impl Facts {
    /// Until when `spec.polling.minInterval` delays the next poll.
    pub(super) fn held_until(&self) -> Option<Timestamp> {
        self.bounds.held_until(self.local_state.last_poll, self.now)
    }

    /// The two clocks that the schedule uses.
    #[must_use]
    pub const fn times(&self) -> Times {
        Times { now: self.now, portal_now: self.portal_now }
    }

    /// What varies the intervals between polls.
    #[must_use]
    pub const fn spacing(&self) -> Spacing {
        Spacing { jitter_seed: self.jitter_seed, stretch: self.stretch, announced: self.announced }
    }

    /// Whether a poll is requested that status does not acknowledge yet.
    #[must_use]
    pub(crate) fn requests_poll(&self, status: &VerificationStatus) -> bool {
        self.reconcile_requested.is_some() && self.reconcile_requested != status.last_handled_reconcile_at
    }
}

impl Facts {
    /// When `spec.ttlAfterFinished` ends, if it is set and nothing is pending. It counts from the verdict and from the
    /// last stored object, but not from before the resource was created: its status may be from a backup.
    pub(super) fn cleanup_at(&self) -> Option<Timestamp> {
        let evidence = &self.evidence;
        let cleanup = self.cleanup.filter(|_| !evidence.is_unfinished())?;
        let ended = [evidence.verdict_at, evidence.stored_at].into_iter().flatten();
        Some(cleanup.end(ended.fold(self.created_at, Timestamp::max)))
    }
}

impl Facts {
    /// What follows from a 404 for an image. `details_answered` says whether the portal then answered for the session
    /// with 200; ask only if [`needs_details`](Self::needs_details) is true.
    #[must_use]
    pub(crate) fn absence(&self, wanted: &Wanted, who: Missing, details_answered: bool) -> Absence {
        match who {
            // A required image is requested again in any case, for ten minutes.
            Missing::ByThePortal if wanted.required => Absence::Absent,
            Missing::ByThePortal => match self.asked_once_more_at() {
                Some(at) => Absence::AskAgainAt(at),
                // A gateway may respond in JSON too, but then it also responds to the request for the details.
                None if details_answered => Absence::Absent,
                None => Absence::NotKnown,
            },
            Missing::Unclear if self.local_state.misses.are_enough(&wanted.stem(), self.now) => {
                Absence::Absent
            }
            Missing::Unclear => Absence::NotKnown,
        }
    }

    /// Whether to request the session's details after this 404.
    #[must_use]
    pub(crate) fn needs_details(&self, wanted: &Wanted, who: Missing) -> bool {
        match who {
            Missing::ByThePortal => !wanted.required && self.asked_once_more_at().is_none(),
            Missing::Unclear => true,
        }
    }

    /// When an image that the portal does not have is requested once more; none once that time has passed.
    ///
    /// The time counts from the verdict in status. If that lies in the future because a clock was wrong, it counts from
    /// when this process began to store.
    fn asked_once_more_at(&self) -> Option<Timestamp> {
        let begun = self.local_state.storing_since.unwrap_or(self.now);
        let seen = self.evidence.verdict_at.map_or(begun, |verdict_at| verdict_at.min(begun));
        Some(later(seen, ASKED_ONCE_MORE_AFTER)).filter(|at| *at > self.now)
    }
}
