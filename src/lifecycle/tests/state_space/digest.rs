//! Which states count as one. Pure.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use super::super::{invariants::Shown, world::World};
use crate::lifecycle::{
    blocker::GRACE,
    since::{elapsed, later},
    state::attempts,
};

/// A short hash of a state without its times.
pub(super) fn digest(world: &World) -> u64 {
    let World { status, facts, deadline, portal_ahead: _, refusal: _, refused_for: _ } = world;
    let now = facts.now;
    let lasted = |since, long| elapsed(since, now) >= long;
    let local_state = &facts.local_state;
    let mut hasher = DefaultHasher::new();
    let session = status.session.as_ref();
    (status.verification_id.is_some(), status.outcome, status.settled, status.phase).hash(&mut hasher);
    (session.and_then(|session| session.state), attempts(status), Shown::of(status)).hash(&mut hasher);
    (&status.portal_status, &status.progress, &status.last_handled_retry).hash(&mut hasher);
    (facts.ready_when, facts.on_unknown, facts.adopt.is_some()).hash(&mut hasher);
    local_state.failing.map(|failures| failures.lasted(now, Duration::from_mins(5))).hash(&mut hasher);
    local_state.blocker_kind.map(|failures| (failures.what, failures.lasted(now, GRACE))).hash(&mut hasher);
    local_state.not_found.map(|failures| failures.count.min(3)).hash(&mut hasher);
    local_state.paused.map(|since| lasted(since, Duration::from_mins(1))).hash(&mut hasher);
    (&local_state.refused_key, local_state.good_polls.min(3), local_state.changed_at.is_some())
        .hash(&mut hasher);
    local_state.next.is_some_and(|next| next > now).hash(&mut hasher);
    status.expires_at.map(|end| later(end, Duration::from_hours(1)) <= now).hash(&mut hasher);
    local_state.still_since.is_some_and(|since| lasted(since, Duration::from_hours(1))).hash(&mut hasher);
    (*deadline <= now, session.and_then(|s| s.created_at).map(|at| lasted(at, Duration::from_mins(1))))
        .hash(&mut hasher);
    let evidence = facts.evidence.after(status);
    let objects =
        status.evidence.as_ref().map(|evidence| (evidence.objects.len(), &evidence.manifest_sha256));
    let policy = evidence.spec.map(|spec| spec.deletion_policy);
    (policy, evidence.has_finalizer, evidence.state, objects).hash(&mut hasher);
    (evidence.pending_since.map(|since| lasted(since, Duration::from_hours(24)))).hash(&mut hasher);
    local_state.removing.map(|attempts| attempts.count.min(2)).hash(&mut hasher);
    (local_state.storing_since.map(|since| lasted(since, Duration::from_mins(10)))).hash(&mut hasher);
    local_state
        .storing
        .map(|failures| [1, 10].map(|minutes| failures.lasted(now, Duration::from_mins(minutes))))
        .hash(&mut hasher);
    local_state.storing.map(|failures| failures.what).hash(&mut hasher);
    let cleanup_at = facts.cleanup_at().filter(|_| status.outcome.is_some());
    (facts.cleanup.is_some(), cleanup_at.is_some_and(|at| at <= now)).hash(&mut hasher);
    hasher.finish()
}
