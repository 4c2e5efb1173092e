//! What to do with a verification that this process sees for the first time, from its status alone. Pure.

use jiff::Timestamp;

use super::{
    cleanup::CleanupFacts,
    evidence::{EvidenceFacts, EvidenceState, evidence_state},
    key_fact::KeyVersion,
    local_state::LocalState,
    schedule::{Bounds, PollSchedule, Spacing, Times, poll_schedule, spread, wait_after_unknown},
    since::later,
    state::{ParsedStatus, State},
};
use crate::api::{Condition, ConditionType, Reason, VerificationSpec};

/// The plan for a verification that this process sees for the first time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FirstReconcile {
    /// When to reconcile first, if not at once.
    pub at: Option<Timestamp>,
    /// The portal is not called before this time.
    pub due: Option<Timestamp>,
    /// When an earlier process may have polled last, if that matters.
    pub last_poll: Option<Timestamp>,
    /// Whether it was suspended at the last write; since when is not known.
    pub suspended: bool,
    /// Which key its session needs, or may need.
    pub key_version: KeyVersion,
    /// The schedule of a session that is followed as before; a first poll at another time is spread over its interval.
    pub poll_schedule: Option<PollSchedule>,
}

/// When to reconcile a verification that this process sees for the first time. At once, unless nothing changed
/// meanwhile: then a followed session waits for a time within its interval, and a finished one for the end of its
/// `spec.ttlAfterFinished`, which may be far ahead. The wait after an unknown outcome applies in any case.
#[must_use]
pub(crate) fn first_reconcile(
    parsed: &ParsedStatus<'_>,
    spec: &VerificationSpec,
    generation: Option<i64>,
    jitter_seed: u64,
    now: Timestamp,
) -> FirstReconcile {
    let status = parsed.status();
    let times = Times { now, portal_now: None };
    let is_unchanged = status.observed_generation == generation && !spec.suspend;
    let is_followed = is_unchanged && matches!(parsed.state(), State::Open { .. });
    let poll_schedule =
        is_followed.then(|| poll_schedule(status, &LocalState::default(), Bounds::of(spec), times));
    let spacing = Spacing::unstretched(jitter_seed);
    let due = match parsed.state() {
        State::Open { .. } => poll_schedule.as_ref().map(|schedule| spread(schedule, now, spacing)),
        State::OutcomeUnknown => {
            let claimed_at = status.session.as_ref().and_then(|session| session.claimed_at);
            claimed_at.map(|at| later(at, wait_after_unknown(parsed.attempts()))).filter(|due| *due > now)
        }
        State::Fresh
        | State::Claimed
        | State::Refused
        | State::Finished(_)
        | State::Settled
        | State::Inconsistent(_) => None,
    };
    let suspended = Condition::find(&status.conditions, ConditionType::Ready)
        .is_some_and(|ready| ready.reason == Reason::Suspended.as_str());
    let may_have_looked = matches!(parsed.state(), State::Open { .. });
    let last_poll = Bounds::of(spec).min.filter(|_| may_have_looked).map(|_| now);
    let at = due.or_else(|| cleanup_at(parsed, spec)).filter(|_| is_unchanged);
    let key_version =
        if is_asked_for(parsed, spec) { KeyVersion::assumed(spec) } else { KeyVersion::Current };
    FirstReconcile { at, due, last_poll, suspended, key_version, poll_schedule }
}

/// Whether the portal is still asked for the session or its evidence.
fn is_asked_for(parsed: &ParsedStatus<'_>, spec: &VerificationSpec) -> bool {
    match parsed.state() {
        State::Open { .. } => true,
        State::Finished(_) => {
            evidence_state(spec.evidence.as_ref(), parsed.status()) == EvidenceState::Pending
        }
        State::Fresh
        | State::Claimed
        | State::Refused
        | State::OutcomeUnknown
        | State::Settled
        | State::Inconsistent(_) => false,
    }
}

/// When a finished resource is deleted for which nothing else is left to do, as its status says.
fn cleanup_at(parsed: &ParsedStatus<'_>, spec: &VerificationSpec) -> Option<Timestamp> {
    let (State::Finished(_), status) = (parsed.state(), parsed.status()) else { return None };
    let is_scheduled = Condition::find(&status.conditions, ConditionType::CleanupReady)
        .is_some_and(|shown| shown.reason == Reason::Scheduled.as_str());
    let evidence = EvidenceFacts::of(spec.evidence.clone(), status);
    let ttl = spec.ttl_after_finished.filter(|_| is_scheduled && !evidence.is_unfinished())?.get();
    let ended = [evidence.verdict_at, evidence.stored_at].into_iter().flatten().max()?;
    Some(CleanupFacts { ttl, managed_by_git_ops: false }.end(ended))
}
