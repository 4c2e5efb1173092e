//! The entry of a verification that this process has not reconciled yet, and when it does so first: at once if it leads,
//! and once it leads if it is a standby. State only.

use jiff::Timestamp;
use kube::ResourceExt;
use tokio::time::Instant;

use super::{CacheEntry, Claim, History, Plan};
use crate::{
    api::Verification,
    clock::Clock,
    cluster::fairness_key,
    index::Uid,
    lifecycle::{
        CompactState, FirstReconcile, LocalState, ParsedStatus, Spacing, State, first_reconcile, jitter_seed,
        spread, ttl_checked_at,
    },
};

impl CacheEntry {
    /// The entry of a verification that this process sees for the first time, and when it is reconciled first.
    pub(crate) fn first(object: &Verification, clock: &Clock) -> (Self, Instant) {
        let (entry, plan) = Self::planned(object, clock);
        let uid = Uid::of(&object.uid().unwrap_or_default());
        (entry, plan.at.map_or_else(Instant::now, |at| instant(at, uid, clock)))
    }

    /// The entry of a verification that a standby sees, which may have known it before. It is reconciled once this
    /// replica [leads](Self::begin).
    pub(crate) fn of_standby(known: Option<&Self>, object: &Verification, clock: &Clock) -> Self {
        let (mut entry, FirstReconcile { at, poll_schedule, .. }) = Self::planned(object, clock);
        let plan = poll_schedule.map(Plan::Poll).or(at.map(Plan::At));
        entry.with_rare(|rare| rare.plan = plan.map(Box::new));
        entry.session = known.and_then(|known| known.session);
        entry.know(known.and_then(Self::known));
        let status = object.status.clone().unwrap_or_default();
        let uid = object.uid().unwrap_or_default();
        let parsed = ParsedStatus::of(&uid, &status);
        let session = status.session.as_ref().filter(|_| *parsed.state() == State::Claimed);
        entry.set_claim(Claim::observed(known.and_then(Self::claim), session, Instant::now()));
        entry
    }

    /// Takes the plan of a standby, which leads from now on, and returns when it reconciles the verification first.
    pub(crate) fn begin(&mut self, uid: Uid, clock: &Clock) -> Instant {
        let plan = self.rare.as_ref().and_then(|rare| rare.plan.as_deref().copied());
        self.with_rare(|rare| rare.plan = None);
        let now = clock.now();
        match plan {
            None => Instant::now(),
            Some(Plan::At(at)) => instant(at, uid, clock),
            Some(Plan::Poll(schedule)) => {
                // The leader before may have polled until now.
                let last_poll = schedule.bounds.min.map(|_| now);
                let at = spread(&schedule, now, Spacing::unstretched(jitter_seed(uid)));
                // A change of the resource before then is no reason to poll.
                self.remember(LocalState { next: Some(at), last_poll, ..self.local_state() });
                clock.instant(at)
            }
        }
    }

    fn planned(object: &Verification, clock: &Clock) -> (Self, FirstReconcile) {
        let now = clock.now();
        let status = object.status.clone().unwrap_or_default();
        let uid = object.uid().unwrap_or_default();
        let plan = first_reconcile(
            &ParsedStatus::of(&uid, &status),
            &object.spec,
            object.metadata.generation,
            jitter_seed(Uid::of(&uid)),
            now,
        );
        let mut entry = Self {
            history: History::Compact(CompactState::default()),
            poll_context: None,
            rare: None,
            portal_wait: None,
            session: None,
            fairness_key: fairness_key(object),
            changes: 0,
            failures: 0,
            phase: status.phase,
        };
        let FirstReconcile { at: _, due, last_poll, suspended, key_version, poll_schedule: _ } = plan;
        let suspended = suspended.then_some(Timestamp::UNIX_EPOCH);
        entry.remember(LocalState { next: due, last_poll, suspended, key_version, ..LocalState::default() });
        (entry, plan)
    }
}

/// The instant of a planned time, or an earlier one if it is far ahead.
fn instant(at: Timestamp, uid: Uid, clock: &Clock) -> Instant {
    clock.instant(ttl_checked_at(at, clock.now(), jitter_seed(uid)))
}
