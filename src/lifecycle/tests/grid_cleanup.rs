//! The part of the grid with `spec.ttlAfterFinished`: before and after its end, managed by Git or not, for every state of
//! evidence.

use std::time::Duration;

use jiff::SignedDuration;

use super::grid_evidence::{Choice, DUE, HELD, IMAGES, RETRY, SUSPENDED, every_choice, now};
use crate::lifecycle::{
    cleanup::CleanupFacts, decide::decide, facts::Facts, fixtures, local_state::LocalState, since::Since,
    state::ParsedStatus, step::Step,
};

const HOUR: Duration = Duration::from_hours(1);
/// Has passed less than a day ago.
const TODAY: Duration = Duration::from_hours(40);
const LONG: Duration = Duration::from_hours(1000);

const fn cleanup(ttl: Duration, managed_by_git_ops: bool) -> CleanupFacts {
    CleanupFacts { ttl, managed_by_git_ops }
}

/// The states of this part ended two days ago.
const TTL: &[Choice] = &[
    |facts| facts.cleanup = Some(cleanup(Duration::ZERO, false)),
    |facts| facts.cleanup = Some(cleanup(HOUR, false)),
    |facts| facts.cleanup = Some(cleanup(TODAY, false)),
    |facts| facts.cleanup = Some(cleanup(LONG, false)),
    |facts| facts.cleanup = Some(cleanup(HOUR, true)),
    |facts| facts.cleanup = Some(cleanup(LONG, true)),
];
const DELETED: &[Choice] = &[
    |_| {},
    |facts| {
        facts.deleting = true;
        facts.evidence.deleted_at = Some(now());
    },
];

/// What may be remembered: nothing, and a deletion that was refused.
fn local_states() -> [LocalState; 2] {
    let since = now() - SignedDuration::from_mins(20);
    let failing = Some(Since { what: (), since, count: 3 });
    [LocalState::default(), LocalState { failing, ..LocalState::default() }]
}

/// Decides under every combination, and passes on what may be remembered.
pub(super) fn every_decision(parsed: &ParsedStatus<'_>, mut see: impl FnMut(&Facts, &Step, &[LocalState])) {
    let local_states = local_states();
    let plain = Facts { now: now(), generation: 2, ..fixtures::facts() };
    for images in IMAGES {
        let mut asking = plain.clone();
        images(&mut asking);
        asking.evidence = asking.evidence.after(parsed.status());
        every_choice(&asking, &[TTL, HELD, SUSPENDED, RETRY, DUE, DELETED], |facts, _| {
            see(facts, &decide(parsed, facts), &local_states);
        });
    }
}
