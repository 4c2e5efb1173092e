//! The part of the grid with evidence: every combination of what is requested and stored, the finalizer, the deletion,
//! the local state, and what else `decide` reads of a finished verification.

use std::{collections::HashSet, time::Duration};

use super::steps::kind;
use crate::{
    api::{DeletionPolicy, EvidenceOutcome},
    lifecycle::{
        decide::decide,
        evidence_error::EvidenceError,
        facts::{Deadline, Due, Facts, PortalFact},
        fixtures,
        key_fact::{KeyFact, KeyFault},
        local_state::LocalState,
        since::{Since, later},
        state::{ParsedStatus, State},
        step::Step,
    },
};

/// One value of one fact.
pub(super) type Choice = fn(&mut Facts);

/// The instant of this part: some time after the fixtures' first instant.
pub(super) fn now() -> jiff::Timestamp {
    fixtures::after(2 * 24 * 3600)
}

/// When what is waited for happens.
pub(super) fn soon() -> jiff::Timestamp {
    later(now(), Duration::from_mins(10))
}

fn ago(seconds: i64) -> jiff::Timestamp {
    now() - jiff::SignedDuration::from_secs(seconds)
}

pub(super) const IMAGES: &[Choice] = &[
    |facts| facts.evidence.spec = None,
    |facts| facts.evidence.spec = Some(fixtures::evidence_spec(DeletionPolicy::Retain)),
    |facts| facts.evidence.spec = Some(fixtures::evidence_spec(DeletionPolicy::Delete)),
    // The back was not required before.
    |facts| {
        let mut spec = fixtures::evidence_spec(DeletionPolicy::Delete);
        spec.images.iter_mut().for_each(|item| item.required = true);
        facts.evidence.spec = Some(spec);
    },
    |facts| {
        let spec = fixtures::evidence_spec(DeletionPolicy::Delete);
        facts.evidence.spec =
            Some(crate::api::EvidenceSpec { outcomes: vec![EvidenceOutcome::Rejected], ..spec });
    },
];
pub(super) const HELD: &[Choice] = &[|_| {}, |facts| facts.evidence.has_finalizer = true];
/// Not deleted; deleted just now; deleted ten minutes ago, with various attempts to remove it.
const DELETED: &[Choice] = &[
    |_| {},
    |facts| {
        facts.deleting = true;
        facts.evidence.deleted_at = Some(ago(5));
    },
    |facts| {
        facts.deleting = true;
        facts.evidence.deleted_at = Some(ago(600));
    },
    |facts| deleted(facts, 600, 1),
    |facts| deleted(facts, 600, 2),
    |facts| deleted(facts, 1200, 1),
    |facts| deleted(facts, 599, 2),
];

/// Deleted this many seconds ago, with this many attempts since.
fn deleted(facts: &mut Facts, seconds: i64, count: u32) {
    facts.deleting = true;
    facts.evidence.deleted_at = Some(ago(seconds));
    facts.local_state.removing = Some(Since { what: (), since: ago(seconds), count });
}
pub(super) const SUSPENDED: &[Choice] = &[|_| {}, |facts| facts.suspend = true];
pub(super) const RETRY: &[Choice] = &[|_| {}, |facts| facts.retry = Some("again".to_owned())];
const PORTAL: &[Choice] = &[|_| {}, |facts| facts.portal = PortalFact::NotAllowed];
const DESTINATION: &[Choice] =
    &[|_| {}, |facts| facts.evidence.destination = super::cause::refused_destination()];
const KEY: &[Choice] = &[|_| {}, |facts| facts.key = KeyFact::Missing(KeyFault::SecretNotFound)];
pub(super) const DUE: &[Choice] = &[|_| {}, |facts| facts.due = Due::At(soon())];
/// Facts that do not matter once it has finished.
const BEFORE_THE_END: &[Choice] = &[
    |_| {},
    |facts| facts.known = fixtures::known(),
    |facts| facts.too_large = true,
    |facts| facts.adopt = fixtures::id(),
    |facts| {
        facts.deadline = Deadline::Passed { at: ago(60), polled: true, overdue: true, long_ago: true };
    },
];
/// Pending for an hour, or for a day.
const PENDING: &[Choice] = &[
    |facts| facts.evidence.pending_since = facts.evidence.pending_since.map(|_| ago(3600)),
    |facts| facts.evidence.pending_since = facts.evidence.pending_since.map(|_| ago(24 * 3600)),
];
/// Whether this process has tried for ten minutes, and whether it met an error.
const TRIED: &[Choice] = &[
    |_| {},
    |facts| facts.local_state = error(EvidenceError::StoreUnavailable, 20, 599),
    |facts| facts.local_state.storing_since = Some(ago(600)),
    |facts| facts.local_state = error(EvidenceError::StoreUnavailable, 20, 600),
];

fn error(what: EvidenceError, since: i64, tried: i64) -> LocalState {
    LocalState {
        storing: Some(Since { what, since: ago(since), count: 3 }),
        storing_since: Some(ago(tried)),
        ..LocalState::default()
    }
}

/// What else may be remembered there; it does not change the step.
fn local_states(facts: &Facts, step: &Step) -> Vec<LocalState> {
    let mut all = vec![facts.local_state.clone()];
    if let (Step::Store, Some(_), Some(tried)) =
        (step, facts.local_state.storing, facts.local_state.storing_since)
    {
        let begun = now().duration_since(tried).as_secs();
        for what in EvidenceError::ALL {
            all.extend([20, 59, 60, 599].map(|since| error(what, since, begun)));
            all.extend((begun >= 600).then(|| error(what, 600, begun)));
        }
    }
    all
}

/// Decides under every combination. Passes on what else may be remembered, once for all cases that are equal to
/// `conclude`.
pub(super) fn every_decision(parsed: &ParsedStatus<'_>, mut see: impl FnMut(&Facts, &Step, &[LocalState])) {
    let is_over = matches!(parsed.state(), State::Finished(_));
    // Before the end, only a few of these are read.
    let only_over = |choices: &'static [Choice]| if is_over { choices } else { &choices[..1] };
    // Facts that `conclude` reads besides the step come first.
    let read = [HELD, KEY, PORTAL, SUSPENDED, only_over(PENDING), only_over(TRIED)];
    let others = [DELETED, DESTINATION, RETRY, only_over(DUE), only_over(BEFORE_THE_END)];
    let plain = Facts { now: now(), generation: 2, ..fixtures::facts() };
    for images in IMAGES {
        let mut asking = plain.clone();
        images(&mut asking);
        asking.evidence = asking.evidence.after(parsed.status());
        every_choice(&asking, &read, |asking, _| {
            let mut known = HashSet::new();
            every_choice(asking, &others, |facts, places| {
                let step = decide(parsed, facts);
                let is_new = known.insert((kind(&step), places[0]));
                let local_states = if is_new { local_states(facts, &step) } else { Vec::new() };
                see(facts, &step, &local_states);
            });
        });
    }
}

/// These facts under every combination of the choices in the lists, with the index of each choice. The choices of the
/// first list are applied to the same facts one after another, so each sets whatever the previous one has set.
pub(super) fn every_choice(facts: &Facts, lists: &[&[Choice]], mut see: impl FnMut(&Facts, &[usize])) {
    let (first, others) = lists.split_first().expect("a list");
    let mut places = vec![0; lists.len()];
    for number in 0..others.iter().map(|list| list.len()).product::<usize>() {
        let mut chosen = facts.clone();
        let mut rest = number;
        for (place, list) in places[1..].iter_mut().zip(others) {
            *place = rest % list.len();
            rest /= list.len();
            list[*place](&mut chosen);
        }
        for (place, choice) in first.iter().enumerate() {
            places[0] = place;
            choice(&mut chosen);
            see(&chosen, &places);
        }
    }
}
