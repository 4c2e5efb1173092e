//! What a decision may know: the world at one instant, as plain values.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    absence::{Absence, Missing},
    evidence::{EvidenceFacts, Wanted},
    key_fact::KeyFact,
    known_session::KnownSession,
    local_state::LocalState,
    schedule::{Bounds, LONGEST, Spacing, Times},
    since::{elapsed, later},
};
use crate::{
    api::{Mode, OnUnknownOutcome, ReadyWhen, VerificationStatus},
    portal::{allowed::PortalUrl, verification_id::VerificationId},
};

/// In the portal's word an image is absent only if the portal says so this long after the verdict was seen, or later.
const ASKED_ONCE_MORE_AFTER: Duration = Duration::from_secs(30);
/// A requested poll follows the last answered one after this.
const REQUESTED_EVERY: Duration = Duration::from_secs(1);

/// Everything a decision and its conclusion may know besides the status.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The API server's time, as measured.
    pub now: Timestamp,
    /// The portal's time, as measured; none until an answer of the portal has a date.
    pub portal_now: Option<Timestamp>,
    /// The resource's uid.
    pub uid: String,
    /// A hash of the uid: the only chance there is.
    pub jitter_seed: u64,
    /// When the resource was created.
    pub created_at: Timestamp,
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
    /// Whether the portal may be called.
    pub portal: PortalFact,
    /// Path of the person's link at the portal, `/` by the guide's samples.
    pub link_path: String,
    /// Whether there is a key to ask with.
    pub key: KeyFact,
    /// Whether a request of the claim that was found may be in flight.
    pub in_flight: InFlight,
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
    /// What is requested as evidence, and how far it is stored.
    pub evidence: EvidenceFacts,
    /// What this process remembers.
    pub local_state: LocalState,
}

/// How `spec.activeDeadline` stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Deadline {
    /// Still ahead.
    Ahead(Timestamp),
    /// Behind.
    Passed {
        /// When it passed.
        at: Timestamp,
        /// Whether the portal has answered a poll since it passed.
        polled: bool,
        /// Whether ten minutes have passed since the portal could first be polled after it, without an answer.
        overdue: bool,
        /// Whether it passed 24 hours ago or more, the time suspended since not counted.
        long_ago: bool,
    },
}

impl Deadline {
    /// How long the last poll is retried after its first attempt.
    pub const LAST_POLL_WITHIN: Duration = Duration::from_mins(10);
    /// How long after the deadline a last poll is waited for that is not possible yet.
    pub const LAST_POLL_AWAITED: Duration = Duration::from_hours(24);

    /// How a deadline stands now, by what is remembered.
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
    /// It is among the allowed ones.
    Allowed(PortalUrl),
    /// It is not.
    NotAllowed,
}

/// Whether a request of the claim that was found may be in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InFlight {
    /// It may be, until then.
    Possible(Timestamp),
    /// None can be.
    None,
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

impl Due {
    /// A requested poll comes earlier, and so does a poll with a new key where the old one was refused; neither
    /// before `spec.polling.minInterval` is over.
    #[must_use]
    pub fn of(now: Timestamp, asked: bool, key: &KeyFact, local_state: &LocalState, bounds: Bounds) -> Self {
        let new_key = match (key, &local_state.refused_key) {
            (KeyFact::Usable { fingerprint }, Some(refused)) => fingerprint != refused,
            (KeyFact::Usable { fingerprint: _ } | KeyFact::Missing(_), _) => false,
        };
        // What seems to be further away was planned before the clock was corrected.
        let is_polled = local_state.last_poll.is_some();
        let planned = local_state.next.filter(|next| !is_polled || elapsed(now, *next) <= LONGEST);
        let planned = planned.filter(|_| !new_key).unwrap_or(now);
        let at = if asked {
            let soonest = local_state.last_answer.map_or(now, |last| later(last, REQUESTED_EVERY));
            planned.min(soonest)
        } else {
            planned
        };
        let at = local_state.last_poll.map_or(at, |polled| at.max(bounds.soonest(polled)));
        if at <= now { Self::Now } else { Self::At(at) }
    }
}

impl Facts {
    /// Until when `spec.polling.minInterval` delays the next poll.
    pub(super) fn held_until(&self) -> Option<Timestamp> {
        let soonest = self.bounds.soonest(self.local_state.last_poll?);
        (soonest > self.now).then_some(soonest)
    }

    /// The two clocks that a schedule goes by.
    #[must_use]
    pub const fn times(&self) -> Times {
        Times { now: self.now, portal_now: self.portal_now }
    }

    /// What varies the intervals between polls.
    #[must_use]
    pub const fn spacing(&self) -> Spacing {
        Spacing { jitter_seed: self.jitter_seed, stretch: self.stretch }
    }

    /// Whether a poll is requested that its status does not acknowledge yet.
    #[must_use]
    pub fn requests_poll(&self, status: &VerificationStatus) -> bool {
        self.reconcile_requested.is_some() && self.reconcile_requested != status.last_handled_reconcile_at
    }
}

impl Facts {
    /// What follows from a 404 for an image. `details_answered`: whether the portal answered for the session, with 200,
    /// after that 404. It need not be called where [`needs_details`](Self::needs_details) says so.
    #[must_use]
    pub fn absence(&self, wanted: &Wanted, who: Missing, details_answered: bool) -> Absence {
        match who {
            // It is requested again in any case, for ten minutes.
            Missing::ByThePortal if wanted.required => Absence::Absent,
            Missing::ByThePortal => match self.asked_once_more_at() {
                Some(at) => Absence::AskAgainAt(at),
                // JSON can be a gateway's too; then it answers for the details as well.
                None if details_answered => Absence::Absent,
                None => Absence::NotKnown,
            },
            Missing::Unclear if self.local_state.misses.are_enough(&wanted.stem(), self.now) => {
                Absence::Absent
            }
            Missing::Unclear => Absence::NotKnown,
        }
    }

    /// Whether the details of the session are to be requested after that 404.
    #[must_use]
    pub fn needs_details(&self, wanted: &Wanted, who: Missing) -> bool {
        match who {
            Missing::ByThePortal => !wanted.required && self.asked_once_more_at().is_none(),
            Missing::Unclear => true,
        }
    }

    /// When what the portal does not have is requested once more; none once that time has come.
    ///
    /// The verdict was seen when status says so, also by an earlier process. Where that lies in the future, by a clock that
    /// was wrong, the time counts from when this process began to store.
    fn asked_once_more_at(&self) -> Option<Timestamp> {
        let begun = self.local_state.storing_since.unwrap_or(self.now);
        let seen = self.evidence.verdict_at.map_or(begun, |verdict_at| verdict_at.min(begun));
        Some(later(seen, ASKED_ONCE_MORE_AFTER)).filter(|at| *at > self.now)
    }
}
