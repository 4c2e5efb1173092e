//! When to poll again: the interval depends on what the portal last reported. Pure; jitter is a hash of the uid.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

use super::{
    local_state::LocalState,
    portal_report::{all_done, any_completed},
    since::{elapsed, later},
    state::Attempts,
};
use crate::{
    api::{Phase, VerificationSpec, VerificationStatus},
    backoff::Backoff,
    priority::Priority,
};

/// A poll this long after the session's end may end it by the portal's clock.
pub(super) const EXPIRY_GRACE: Duration = Duration::from_hours(1);
/// No poll waits longer than this.
pub(super) const LONGEST: Duration = Duration::from_hours(1);

/// A poll is deferred to this many times the usual interval at most.
const LONGEST_DEFERRAL: f64 = 8.0;

/// No wait for the end of `spec.ttlAfterFinished` is longer than this.
const TTL_CHECKED_WITHIN: Duration = Duration::from_hours(24);

/// The bounds of `spec.polling`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// The shortest interval.
    pub min: Option<Duration>,
    /// The longest interval.
    pub max: Option<Duration>,
}

/// How far the person has come, as far as the schedule needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// No module is completed.
    Idle,
    /// A module is completed; or, if the portal names no modules, `updated_at` has moved.
    Active,
    /// The person has done everything; the verdict is near.
    Finishing,
    /// okID is reviewing the check manually.
    InReview,
    /// The portal names no modules.
    Unclear,
}

impl Stage {
    /// How urgent a poll in this stage is.
    #[must_use]
    pub const fn priority(self) -> Priority {
        match self {
            Self::Finishing => Priority::Finishing,
            Self::Active => Priority::Active,
            Self::Idle | Self::InReview | Self::Unclear => Priority::Idle,
        }
    }
}

/// One instant by both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// The API server's time.
    pub now: Timestamp,
    /// The portal's time, if it is known.
    pub portal_now: Option<Timestamp>,
}

impl Times {
    /// When a session that was created then ends, by the API server's clock; the portal names the end by its own clock.
    /// None if the end is not after the creation, because that is no valid date.
    pub(super) fn end(self, created_at: Timestamp, expires_at: Timestamp) -> Option<Timestamp> {
        let ahead = self.portal_now.map_or(SignedDuration::ZERO, |portal| portal.duration_since(self.now));
        expires_at.checked_sub(ahead).ok().filter(|end| *end > created_at)
    }
}

/// What notifications of the portal announce before a poll would show it. More with each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Announced {
    /// Nothing, as far as it is known.
    #[default]
    Nothing,
    /// Verdicts.
    Verdicts,
    /// Also what comes before a verdict.
    Progress,
}

impl Announced {
    /// How many times as long the interval is: polls then find only changes whose notification was lost. Less than twice as long,
    /// so that a lost notification costs at most twice the wait. Not longer before the last module if progress is announced:
    /// there a poll is deferred instead, while notifications arrive.
    const fn relaxation(self, stage: Stage) -> f64 {
        match (self, stage) {
            (Self::Nothing, _) | (Self::Progress, Stage::Idle | Stage::Unclear | Stage::Active) => 1.0,
            (Self::Verdicts, _) | (Self::Progress, Stage::Finishing | Stage::InReview) => 1.8,
        }
    }
}

/// What varies the intervals between the polls of one session.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spacing {
    /// A hash of the uid, from [`jitter_seed`].
    pub jitter_seed: u64,
    /// How much the budget stretches every interval, at least 1.
    pub stretch: f64,
    /// What notifications announce.
    pub announced: Announced,
}

impl Spacing {
    /// Intervals that are not stretched.
    #[must_use]
    pub const fn unstretched(jitter_seed: u64) -> Self {
        Self { jitter_seed, stretch: 1.0, announced: Announced::Nothing }
    }
}

/// What the schedule of one open session depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PollSchedule {
    /// When the session was created.
    pub created_at: Timestamp,
    /// When the portal's report last changed.
    pub changed_at: Timestamp,
    /// How far the person has come.
    pub stage: Stage,
    /// When the session ends, by the API server's clock, if the portal named it.
    pub expires_at: Option<Timestamp>,
    /// The resource's own bounds.
    pub bounds: Bounds,
}

/// The schedule of an open session.
#[must_use]
pub fn poll_schedule(
    status: &VerificationStatus,
    local_state: &LocalState,
    bounds: Bounds,
    times: Times,
) -> PollSchedule {
    let now = times.now;
    let session = status.session.as_ref();
    let created_at =
        session.and_then(|s| s.created_at.or(s.claimed_at)).map_or(now, |created| created.min(now));
    let moved = local_state.changed_at.is_some();
    let changed_at = local_state
        .changed_at
        .or(status.portal_updated_at.filter(|_| any_completed(&status.progress)))
        .unwrap_or(created_at)
        .clamp(created_at, now);
    let stage = if status.phase == Some(Phase::InReview) {
        Stage::InReview
    } else if status.phase == Some(Phase::Processing) || all_done(&status.flow, &status.progress) {
        Stage::Finishing
    } else if any_completed(&status.progress) {
        Stage::Active
    } else if status.progress.is_empty() && local_state.last_answer.is_some() && !local_state.names_modules {
        if moved { Stage::Active } else { Stage::Unclear }
    } else {
        Stage::Idle
    };
    let expires_at = status.expires_at.and_then(|end| times.end(created_at, end));
    PollSchedule { created_at, changed_at, stage, expires_at, bounds }
}

/// The interval between two polls, times this factor and within the bounds of the resource.
fn interval(poll_schedule: &PollSchedule, now: Timestamp, factor: f64) -> Duration {
    let share = |of: Timestamp, percent: f64, least: u64, most: u64| {
        elapsed(of, now).mul_f64(percent / 100.0).clamp(Duration::from_secs(least), Duration::from_secs(most))
    };
    let natural = match poll_schedule.stage {
        Stage::Idle => share(poll_schedule.created_at, 6.0, 15, 300),
        Stage::Unclear => share(poll_schedule.created_at, 2.5, 5, 300),
        Stage::Active => share(poll_schedule.changed_at, 6.0, 5, 300),
        Stage::Finishing => share(poll_schedule.changed_at, 10.0, 2, 60),
        Stage::InReview => share(poll_schedule.changed_at, 5.0, 60, 900),
    };
    poll_schedule.bounds.hold(natural.mul_f64(factor))
}

/// The next poll after one at `now`, at most an hour later.
#[must_use]
pub fn next_poll(poll_schedule: &PollSchedule, now: Timestamp, spacing: Spacing) -> Timestamp {
    poll_within(poll_schedule, now, spacing, spacing.announced.relaxation(poll_schedule.stage))
}

/// The next poll after one at `polled_at`, where notifications announce all progress, and the last one that a poll confirmed
/// arrived at `announced_at`. One about this session would have arrived by then as well, so the interval begins there. If
/// every later one is lost, the poll comes as soon as without notifications. None if no poll is deferred.
///
/// Only before the last module, because the notification of a verdict may be lost while those of other sessions arrive: the
/// verdict then follows an announced last module.
#[must_use]
pub(super) fn deferred_poll(
    poll_schedule: &PollSchedule,
    polled_at: Timestamp,
    announced_at: Timestamp,
    spacing: Spacing,
) -> Option<Timestamp> {
    if announced_at <= polled_at || matches!(poll_schedule.stage, Stage::Finishing | Stage::InReview) {
        return None;
    }
    let latest = poll_within(poll_schedule, polled_at, spacing, LONGEST_DEFERRAL);
    Some(next_poll(poll_schedule, announced_at, spacing).min(latest))
}

/// The next poll after one at `now`, in an interval that is this many times as long as usual.
fn poll_within(poll_schedule: &PollSchedule, now: Timestamp, spacing: Spacing, relaxation: f64) -> Timestamp {
    let Spacing { jitter_seed, stretch, announced: _ } = spacing;
    let jitter = 0.9 + 0.2 * fraction(jitter_seed, 0);
    let wait = interval(poll_schedule, now, jitter * relaxation);
    let wait = wait.mul_f64(stretch.clamp(1.0, 1e6)).min(LONGEST);
    let regular = later(now, wait);
    let after_the_end = Duration::from_secs(1) + Duration::from_secs(10).mul_f64(fraction(jitter_seed, 1));
    [Duration::ZERO, EXPIRY_GRACE]
        .into_iter()
        .filter_map(|grace| Some(later(poll_schedule.expires_at?, grace + after_the_end)))
        .find(|target| *target > now)
        .map_or(regular, |target| target.min(regular))
        .max(poll_schedule.bounds.soonest(now))
}

/// The first poll after a restart: somewhere in the interval, so that a restart causes no thundering herd.
#[must_use]
pub(crate) fn spread(poll_schedule: &PollSchedule, now: Timestamp, spacing: Spacing) -> Timestamp {
    let Spacing { jitter_seed, stretch, announced } = spacing;
    // It is unknown when an earlier process last polled.
    let least = poll_schedule.bounds.min.unwrap_or_default().min(LONGEST);
    let factor = announced.relaxation(poll_schedule.stage);
    let longest = interval(poll_schedule, now, factor).mul_f64(stretch.clamp(1.0, 1e6));
    let longest = longest.max(poll_schedule.bounds.hold(least.mul_f64(1.1))).min(LONGEST);
    later(now, least + longest.saturating_sub(least).mul_f64(fraction(jitter_seed, 2)))
}

/// When to check whether the end of `spec.ttlAfterFinished` has come: at the end, or within a day, because a clock may be
/// corrected before then. Resources that were planned at the same time are checked at different times.
#[must_use]
pub(crate) fn ttl_checked_at(end: Timestamp, now: Timestamp, jitter_seed: u64) -> Timestamp {
    if elapsed(now, end) <= TTL_CHECKED_WITHIN {
        return end;
    }
    later(now, TTL_CHECKED_WITHIN.mul_f64(0.5 + 0.5 * fraction(jitter_seed, 2)))
}

/// A wait that doubles from `least` to `most` with each failure in a row, with full jitter above `least`.
pub(super) fn backoff(least: Duration, most: Duration, failures: u32, jitter_seed: u64) -> Duration {
    Backoff::new(least, most).jittered(failures, fraction(jitter_seed, u64::from(failures) + 3))
}

/// A number in [0, 1) that depends only on the arguments (`SplitMix64`).
#[expect(clippy::cast_precision_loss, reason = "53 bits fit a double exactly")]
fn fraction(jitter_seed: u64, salt: u64) -> f64 {
    let mut z = jitter_seed.wrapping_add((salt + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

/// After an unknown outcome: one minute, ten minutes, one hour.
pub(super) fn wait_after_unknown(attempts: Attempts) -> Duration {
    match attempts.unacknowledged() {
        0 | 1 => Duration::from_mins(1),
        2 => Duration::from_mins(10),
        _ => Duration::from_hours(1),
    }
}

impl Bounds {
    /// The earliest poll after one at `polled`.
    pub(super) fn soonest(self, polled: Timestamp) -> Timestamp {
        later(polled, self.min.unwrap_or_default())
    }

    /// Until when the next poll is held back: only the shortest interval does so. `last_poll` may be up to a second later than
    /// the last poll was, which must not matter to a session without that bound.
    pub(super) fn held_until(self, last_poll: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
        Some(later(last_poll?, self.min?)).filter(|soonest| *soonest > now)
    }

    /// The nearest wait within the bounds.
    pub(super) fn hold(self, wait: Duration) -> Duration {
        let wait = self.min.map_or(wait, |min| wait.max(min));
        self.max.map_or(wait, |max| wait.min(max))
    }

    /// The bounds that a spec sets.
    #[must_use]
    pub fn of(spec: &VerificationSpec) -> Self {
        let polling = spec.polling.unwrap_or_default();
        Self {
            min: polling.min_interval.map(crate::api::Duration::get),
            max: polling.max_interval.map(crate::api::Duration::get),
        }
    }
}

/// A hash of the uid: the schedule's only source of randomness.
#[must_use]
pub fn jitter_seed(uid: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    uid.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::super::{conclude::conclude, fixtures, state::ParsedStatus, step::StepOutcome};
    use super::*;

    fn stage_after(progress: &[(&str, &str)]) -> Stage {
        let mut details = fixtures::details("generated", &[]);
        details.progress = progress.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        let status = fixtures::open(Phase::AwaitingUser);
        let outcome = StepOutcome::Poll { id: fixtures::id().unwrap(), answer: Ok(details) };
        let facts = fixtures::facts();
        let done = conclude(&ParsedStatus::of(fixtures::UID, &status), &outcome, &facts);
        poll_schedule(&done.status.unwrap(), &done.local_state, facts.bounds, facts.times()).stage
    }

    #[test]
    fn modules_that_have_not_started_are_idle_and_a_report_without_modules_is_unclear() {
        assert_eq!(stage_after(&[("document", "pending"), ("liveness", "pending")]), Stage::Idle);
        assert_eq!(stage_after(&[("document", "completed"), ("liveness", "pending")]), Stage::Active);
        assert_eq!(stage_after(&[]), Stage::Unclear);
    }
}
