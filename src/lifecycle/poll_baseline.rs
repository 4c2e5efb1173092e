//! What the answer to a poll of an open session is compared with: most polls find nothing new, and need neither the
//! resource nor a write.
//!
//! Pure, and compact: there may be a hundred thousand of these.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    num::NonZeroU64,
    sync::Arc,
};

use jiff::Timestamp;

use super::{
    key_fact::KeyVersion,
    known_session::KnownSession,
    local_state::LocalState,
    moment::Moment,
    portal_report::{PortalReport, PortalStatus, is_untouched, report},
    schedule::{
        Bounds, EXPIRY_GRACE, LONGEST, PollSchedule, Spacing, Stage, Times, deferred_poll, next_poll,
        poll_schedule,
    },
    since::{elapsed, later},
    state::OpenPhase,
};
use crate::{
    api::{Phase, SessionState, VerificationStatus},
    portal::{verification_id::VerificationId, wire::Details},
    priority::Priority,
};

/// [`LocalState`] without errors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompactState {
    next: Option<Moment>,
    last_answer: Option<Moment>,
    last_poll: Option<Moment>,
    changed_at: Option<Moment>,
    still_since: Option<Moment>,
    updated_at: Option<Moment>,
    shown_at: Option<Moment>,
    seen: Option<NonZeroU64>,
    good_polls: u8,
    names_modules: bool,
    key_version: KeyVersion,
}

impl CompactState {
    /// The compact form, if the state holds no error.
    #[must_use]
    pub fn of(local_state: &LocalState) -> Option<Self> {
        let LocalState {
            next,
            failing,
            blocker_kind,
            not_found,
            blocked_since,
            key_missing,
            paused,
            refused_key,
            key_version,
            storing,
            storing_since,
            manifest_checked,
            misses,
            removing,
            good_polls,
            last_answer,
            last_poll,
            changed_at,
            still_since,
            updated_at,
            outdated,
            expired_before,
            last_polls_since,
            suspended,
            suspended_for,
            names_modules,
            shown_at,
            seen,
        } = local_state;
        let compact = failing.is_none()
            && blocker_kind.is_none()
            && not_found.is_none()
            && blocked_since.is_none()
            && key_missing.is_none()
            && paused.is_none()
            && refused_key.is_none()
            && storing.is_none()
            && storing_since.is_none()
            && !manifest_checked
            && misses.is_empty()
            && removing.is_none()
            && outdated.is_none()
            && !expired_before
            && last_polls_since.is_none()
            && suspended.is_none()
            && suspended_for.is_zero();
        let moment = |time: &Option<Timestamp>| time.and_then(Moment::of);
        compact.then(|| Self {
            next: moment(next),
            last_answer: moment(last_answer),
            // The shortest interval must be a whole one.
            last_poll: last_poll.and_then(Moment::not_before),
            changed_at: moment(changed_at),
            // An hour of it must be a whole hour.
            still_since: still_since.and_then(Moment::not_before),
            updated_at: moment(updated_at),
            // A change may be shown only once its interval has passed completely.
            shown_at: shown_at.and_then(Moment::not_before),
            seen: *seen,
            good_polls: *good_polls,
            names_modules: *names_modules,
            key_version: *key_version,
        })
    }

    /// Whether the session needs the key from before a rotation.
    #[must_use]
    pub const fn needs_previous_key(&self) -> bool {
        self.key_version.is_previous()
    }

    /// When the portal is to be called next.
    #[must_use]
    pub fn due(&self) -> Option<Timestamp> {
        self.next.map(Moment::time)
    }

    /// When the portal is to be called next, if that is after `now`. Nothing waits longer than an hour; a later time
    /// was planned before the clock was corrected.
    #[must_use]
    pub(crate) fn due_after(&self, now: Timestamp) -> Option<Timestamp> {
        self.due().filter(|due| *due > now && elapsed(now, *due) <= LONGEST)
    }

    /// The full form.
    #[must_use]
    pub fn local_state(&self) -> LocalState {
        let time = |moment: Option<Moment>| moment.map(Moment::time);
        LocalState {
            next: time(self.next),
            last_answer: time(self.last_answer),
            last_poll: time(self.last_poll),
            changed_at: time(self.changed_at),
            still_since: time(self.still_since),
            updated_at: time(self.updated_at),
            shown_at: time(self.shown_at),
            seen: self.seen,
            good_polls: self.good_polls,
            names_modules: self.names_modules,
            key_version: self.key_version,
            ..LocalState::default()
        }
    }
}

/// What a poll of an open session without interruption needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PollBaseline {
    id: VerificationId,
    created_at: Moment,
    expires_at: Option<Moment>,
    deadline: Option<Moment>,
    min_interval: u16,
    max_interval: u16,
    stage: Stage,
    /// Whether the session was adopted.
    adopted: bool,
    /// The attempt that created it.
    attempt: u16,
    /// The end of the session as the portal names it, by the portal's own clock.
    published_expiry: Option<Moment>,
}

/// What follows where nothing new is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unchanged {
    /// What to remember.
    pub compact: CompactState,
    /// When to poll again.
    pub next: Timestamp,
    /// How urgent that poll is.
    pub priority: Priority,
}

impl PollBaseline {
    /// The baseline of an open session after a poll whose answer status shows in full, or after the [`UNKNOWN_ANSWER`].
    #[must_use]
    pub fn of(
        status: &VerificationStatus,
        local_state: &LocalState,
        bounds: Bounds,
        deadline: Timestamp,
        times: Times,
    ) -> Option<Self> {
        if status.outcome.is_some() || status.settled || local_state.seen.is_none() {
            return None;
        }
        Self::with(status, local_state, bounds, deadline, times)
    }

    fn with(
        status: &VerificationStatus,
        local_state: &LocalState,
        bounds: Bounds,
        deadline: Timestamp,
        times: Times,
    ) -> Option<Self> {
        let id = VerificationId::parse(status.verification_id.as_deref()?).ok()?;
        let poll_schedule = poll_schedule(status, local_state, bounds, times);
        let seconds = |bound: Option<std::time::Duration>| {
            bound.map_or(0, |bound| u16::try_from(bound.as_secs()).unwrap_or(u16::MAX))
        };
        Some(Self {
            id,
            created_at: Moment::of(poll_schedule.created_at)?,
            expires_at: poll_schedule.expires_at.and_then(Moment::of),
            deadline: Moment::of(deadline),
            min_interval: seconds(bounds.min),
            max_interval: seconds(bounds.max),
            stage: poll_schedule.stage,
            adopted: status.session.as_ref().is_some_and(|s| s.state == Some(SessionState::Adopted)),
            attempt: status.session.as_ref().map_or(Ok(0), |s| u16::try_from(s.attempt)).ok()?,
            published_expiry: status.expires_at.and_then(Moment::of),
        })
    }

    /// The session of this baseline, as the status recorded it, at the portal with that base URL.
    #[must_use]
    pub(crate) fn known_session(&self, portal: Arc<str>) -> KnownSession {
        KnownSession {
            id: self.id.clone(),
            portal,
            created_at: Some(self.created_at),
            expires_at: self.published_expiry,
            attempt: i32::from(self.attempt),
            adopted: self.adopted,
        }
    }

    /// Shares an equal id that is already allocated: there may be a hundred thousand.
    pub fn share(&mut self, id: &VerificationId) {
        if self.id == *id {
            self.id = id.clone();
        }
    }

    /// The baseline of a session that was just created and never polled. Its first poll is expected to say that the
    /// person has not started.
    #[must_use]
    pub(crate) fn of_new(
        status: &VerificationStatus,
        local_state: &LocalState,
        bounds: Bounds,
        deadline: Timestamp,
        times: Times,
    ) -> Option<Self> {
        let is_new = status.phase == Some(Phase::AwaitingUser)
            && status.outcome.is_none()
            && status.portal_status.is_none()
            && status.progress.is_empty()
            && local_state.last_answer.is_none();
        Self::with(status, local_state, bounds, deadline, times).filter(|_| is_new)
    }

    /// The session's id.
    #[must_use]
    pub const fn id(&self) -> &VerificationId {
        &self.id
    }

    /// How urgent a poll is.
    #[must_use]
    pub const fn priority(&self) -> Priority {
        self.stage.priority()
    }

    /// Until when `spec.polling.minInterval` delays a poll that is requested at `now`.
    #[must_use]
    pub fn held_until(&self, compact: &CompactState, now: Timestamp) -> Option<Timestamp> {
        self.bounds().held_until(compact.last_poll.map(Moment::time), now)
    }

    /// What follows if the poll that is due at `now` is deferred because notifications arrive; none if it is not.
    /// `announced_at`: when the last one arrived that a poll confirmed.
    #[must_use]
    pub fn deferred(
        &self,
        compact: &CompactState,
        announced_at: Timestamp,
        now: Timestamp,
        spacing: Spacing,
    ) -> Option<Unchanged> {
        let poll_schedule = self.poll_schedule(compact);
        let next = deferred_poll(&poll_schedule, compact.last_poll?.time(), announced_at, spacing)?;
        let next = self.deadline.map_or(next, |deadline| next.min(deadline.time()));
        (next > now).then(|| Unchanged {
            compact: CompactState { next: Moment::of(next), ..*compact },
            next,
            priority: poll_schedule.stage.priority(),
        })
    }

    /// Whether only a poll is due: neither the deadline nor the session's end has been reached.
    #[must_use]
    pub(crate) fn is_plain_at(&self, now: Timestamp) -> bool {
        self.deadline.is_none_or(|deadline| deadline.time() > now)
            && self.expires_at.is_none_or(|end| later(end.time(), EXPIRY_GRACE) > now)
    }

    /// Compares an answer with the last one. None if `conclude` must look at it.
    #[must_use]
    pub fn unchanged(
        &self,
        compact: &CompactState,
        details: &Details,
        now: Timestamp,
        spacing: Spacing,
    ) -> Option<Unchanged> {
        if details.id.as_ref() != Some(&self.id) {
            return None;
        }
        let report = report(details);
        // Nothing was seen before: this is the first poll of a new session.
        let is_known = if compact.seen.is_none() {
            report.status == PortalStatus::Open(OpenPhase::AwaitingUser) && is_untouched(&report)
        } else {
            compact.seen == digest(&report)
        };
        if matches!(report.status, PortalStatus::End(_)) || !is_known {
            return None;
        }
        let stamp = report.updated_at.and_then(Moment::of);
        if stamp.is_some_and(|stamp| compact.updated_at.is_some_and(|known| stamp < known)) {
            return None;
        }
        let moved = stamp.is_some() && compact.updated_at.is_some() && stamp != compact.updated_at;
        let now_moment = Moment::of(now);
        let compact = CompactState {
            last_answer: now_moment,
            last_poll: Moment::not_before(now),
            changed_at: if moved { now_moment } else { compact.changed_at },
            still_since: compact.still_since.filter(|_| !moved).or_else(|| Moment::not_before(now)),
            updated_at: stamp.or(compact.updated_at),
            good_polls: compact.good_polls.saturating_add(1),
            names_modules: !report.progress.is_empty(),
            seen: digest(&report),
            ..*compact
        };
        let poll_schedule = self.poll_schedule(&compact);
        let next = next_poll(&poll_schedule, now, spacing);
        let next = self.deadline.map_or(next, |deadline| next.min(deadline.time().max(now)));
        Some(Unchanged {
            compact: CompactState { next: Moment::of(next), ..compact },
            next,
            priority: poll_schedule.stage.priority(),
        })
    }

    fn poll_schedule(&self, compact: &CompactState) -> PollSchedule {
        let created_at = self.created_at.time();
        PollSchedule {
            created_at,
            changed_at: compact.changed_at.map_or(created_at, Moment::time).max(created_at),
            stage: match self.stage {
                // The first poll shows whether the portal names modules.
                Stage::Idle | Stage::Unclear if !compact.names_modules => {
                    if compact.changed_at.is_some() {
                        Stage::Active
                    } else {
                        Stage::Unclear
                    }
                }
                stage @ (Stage::Idle
                | Stage::Unclear
                | Stage::Active
                | Stage::Finishing
                | Stage::InReview) => stage,
            },
            expires_at: self.expires_at.map(Moment::time),
            bounds: self.bounds(),
        }
    }

    fn bounds(&self) -> Bounds {
        let bound = |seconds: u16| (seconds > 0).then(|| std::time::Duration::from_secs(u64::from(seconds)));
        Bounds { min: bound(self.min_interval), max: bound(self.max_interval) }
    }
}

/// The value of [`LocalState::seen`] for an answer that this process does not know. No answer has this hash, so the
/// next answer always counts as new.
pub(crate) const UNKNOWN_ANSWER: NonZeroU64 = NonZeroU64::MIN.saturating_add(1);

/// A short hash of a report without its stamp. It is odd.
pub(crate) fn digest(report: &PortalReport) -> Option<NonZeroU64> {
    let mut hasher = DefaultHasher::new();
    (&report.raw, &report.progress).hash(&mut hasher);
    NonZeroU64::new(hasher.finish() | 1)
}
