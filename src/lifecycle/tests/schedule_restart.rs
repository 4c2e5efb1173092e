//! When to poll again after a restart, and without reading the resource.

use std::time::Duration;

use super::{
    schedule::{SEEDS, seen},
    world::{Answer, World},
};
use crate::{
    api::{Phase, ReadyWhen, SessionState, VerificationSpec, VerificationStatus},
    lifecycle::{
        first_reconcile::{FirstReconcile, first_reconcile},
        fixtures::{self, UID, spec},
        poll_baseline::{CompactState, PollBaseline},
        schedule::{Bounds, Spacing},
        since::{elapsed, later},
        state::ParsedStatus,
    },
    portal::wire::Details,
};

#[test]
fn a_restart_spreads_open_sessions_over_their_interval() {
    let mut status = seen(Phase::InProgress, &[("document", "completed")]);
    status.observed_generation = Some(1);
    let now = fixtures::after(4000);
    let mut tenths = [0; 10];
    for jitter_seed in SEEDS {
        let at = first_reconcile(&ParsedStatus::of(UID, &status), &spec(), Some(1), jitter_seed, now)
            .at
            .expect("a session that is followed");
        // 6 % of 4000 s, in tenths.
        tenths[usize::try_from(elapsed(now, at).as_secs() / 24).unwrap()] += 1;
    }
    assert!(tenths.iter().all(|count| (120..280).contains(count)), "{tenths:?}");
}

#[test]
fn a_restart_delays_only_open_sessions_that_are_unchanged() {
    let now = fixtures::after(30);
    let first = |status: &VerificationStatus, spec: &VerificationSpec, generation| {
        let status = VerificationStatus { observed_generation: Some(1), ..status.clone() };
        first_reconcile(&ParsedStatus::of(UID, &status), spec, Some(generation), 7, now).at
    };
    let open = fixtures::open(Phase::AwaitingUser);
    assert!(first(&open, &spec(), 1).is_some());
    assert_eq!(first(&open, &spec(), 2), None, "the spec was edited");
    let suspended = VerificationSpec { suspend: true, ..spec() };
    assert_eq!(first(&open, &suspended, 1), None, "it was suspended");
    for (name, status) in fixtures::states() {
        if !name.starts_with("Open") && !name.starts_with("OutcomeUnknown") {
            assert_eq!(first(&status, &spec(), 1), None, "{name}");
        }
    }
    let lost = fixtures::attempted(SessionState::Unknown, 1, 1);
    assert_eq!(first(&lost, &spec(), 1), Some(fixtures::after(60)), "the minute applies across a restart");
    let long_unknown = first_reconcile(
        &ParsedStatus::of(UID, &VerificationStatus { observed_generation: Some(1), ..lost }),
        &spec(),
        Some(1),
        7,
        fixtures::after(61),
    );
    assert_eq!(long_unknown, FirstReconcile::default(), "the minute is over");
}

#[test]
fn an_edit_between_processes_does_not_shorten_the_wait_after_an_unknown_outcome() {
    let lost = VerificationStatus {
        observed_generation: Some(1),
        ..fixtures::attempted(SessionState::Unknown, 2, 2)
    };
    let suspended = VerificationSpec { suspend: true, ..spec() };
    for (spec, generation) in [(spec(), 2), (suspended, 2)] {
        let first =
            first_reconcile(&ParsedStatus::of(UID, &lost), &spec, Some(generation), 7, fixtures::after(30));
        let ten_minutes = Some(fixtures::after(600));
        assert_eq!(
            first,
            FirstReconcile { at: None, due: ten_minutes, ..FirstReconcile::default() },
            "it is reconciled, but not polled"
        );
    }
}

#[test]
fn a_poll_without_the_resource_keeps_the_same_schedule() {
    let pending = Details {
        progress: [("document".to_owned(), "pending".to_owned())].into(),
        ..fixtures::details("generated", &[])
    };
    let mut world = World::open(ReadyWhen::Verified);
    world.pass(540);
    world.reconcile(Answer::Poll(Ok(pending.clone())));
    let local_state = &world.facts.local_state;
    let baseline =
        PollBaseline::of(&world.status, local_state, Bounds::default(), world.deadline, world.facts.times())
            .unwrap();
    let compact = CompactState::of(local_state).unwrap();
    let now = later(world.facts.now, Duration::from_secs(30));
    let short =
        baseline.unchanged(&compact, &pending, now, Spacing::unstretched(world.facts.jitter_seed)).unwrap();
    world.facts.now = now;
    world.facts.local_state.next = None;
    world.reconcile(Answer::Poll(Ok(pending)));
    assert_eq!(world.facts.local_state.next, Some(short.next));
    assert_eq!(CompactState::of(&world.facts.local_state), Some(short.compact));
    assert!(short.compact.local_state().names_modules, "the full form says the same");
}
