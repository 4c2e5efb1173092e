//! The rows of both tables for `spec.ttlAfterFinished`.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    conclude_evidence::{STORED, held, store},
    world::{Answer, World, created, line, not_stored, said},
};
use crate::{
    api::{ConditionStatus, ConditionType, DeletionPolicy, ReadyWhen, VerificationSpec},
    lifecycle::{
        cleanup::{CleanupFacts, DeletionOutcome},
        conclude::Requeue,
        event::Event,
        evidence_error::EvidenceError,
        first_reconcile::first_reconcile,
        fixtures::{self, UID, spec},
        schedule::jitter_seed,
        since::{elapsed, later},
        state::{ParsedStatus, State},
        step::{Shown, Step, Transition, Wait},
    },
    priority::Priority,
};

const HOUR: Duration = Duration::from_hours(1);
const VERIFIED: &str = "Verified: R Verified, CR Accepted, SC Created, F Verified, V Verified";

fn cleanup(ttl: Duration, managed_by_git_ops: bool) -> CleanupFacts {
    CleanupFacts { ttl, managed_by_git_ops }
}

fn open(cleanup: CleanupFacts) -> World {
    let mut world = World::fresh(ReadyWhen::Verified);
    world.facts.cleanup = Some(cleanup);
    world.reconcile(created());
    world.pass(60);
    world
}

fn verified(cleanup: CleanupFacts) -> World {
    let mut world = open(cleanup);
    world.reconcile(said("verified", &[]));
    world
}

fn waits_until(at: Timestamp) -> Step {
    Step::Transition(Transition::Wait(Wait::Ttl(at)))
}

const DELETE: Step = Step::Delete { awaits_store: false };
const KEPT: Step = Step::Transition(Transition::Show(Shown::Finished));

#[test]
fn a_finished_resource_stays_in_the_watch_until_its_ttl_has_passed_and_is_then_deleted() {
    let mut world = open(cleanup(3 * HOUR, false));
    let end = later(world.facts.now, 3 * HOUR);
    let reconcile = world.reconcile(said("verified", &[]));
    assert_eq!(line(&world.status), format!("{VERIFIED}, CL Scheduled"));
    assert_eq!((world.status.settled, reconcile.conclusion.next), (false, Requeue::At(end)));
    assert_eq!(reconcile.conclusion.events, [Event::Verified]);

    world.pass(2 * 3600);
    let before = world.status.clone();
    let reconcile = world.reconcile(Answer::Uncalled);
    assert_eq!((reconcile.step, reconcile.conclusion.next), (waits_until(end), Requeue::At(end)));
    assert_eq!(world.status, before, "nothing is written");
    world.restart();
    world.pass(3600);
    let reconcile = world.reconcile(Answer::Delete(DeletionOutcome::Deleted));
    assert_eq!(reconcile.step, DELETE);
    assert_eq!((reconcile.conclusion.status, reconcile.conclusion.next), (None, Requeue::AwaitChange));
}

#[test]
fn the_plan_is_shown_before_there_is_a_session() {
    let mut world = World::fresh(ReadyWhen::Verified);
    world.facts.cleanup = Some(cleanup(HOUR, false));
    let reconcile = world.reconcile(created());
    assert!(line(&reconcile.claimed.unwrap()).ends_with(", CL Scheduled"));
    assert_eq!(world.shown(ConditionType::CleanupReady), Some((ConditionStatus::True, "Scheduled")));
}

#[test]
fn a_ttl_of_zero_deletes_at_once() {
    let mut world = open(cleanup(Duration::ZERO, false));
    let reconcile = world.reconcile(said("rejected", &[]));
    assert_eq!((reconcile.conclusion.next, world.status.settled), (Requeue::Now, false));
    assert_eq!(world.decide(), DELETE);
}

#[test]
fn a_ttl_counts_from_when_the_evidence_is_stored() {
    let mut world = held();
    world.facts.cleanup = Some(cleanup(HOUR, false));
    world.pass(7200);
    let end = later(world.facts.now, HOUR);
    let reconcile = world.reconcile(store(fixtures::all_stored()));
    assert_eq!(line(&world.status), format!("{STORED}, CL Scheduled"));
    assert_eq!(reconcile.conclusion.next, Requeue::At(end));
    world.pass(3599);
    assert_eq!(world.decide(), waits_until(end));
    world.pass(1);
    assert_eq!(
        world.decide(),
        Step::Delete { awaits_store: true },
        "the finalizer is still there: the evidence is removed next"
    );
    world.delete();
    assert!(matches!(world.decide(), Step::RemoveEvidence { .. }));
}

#[test]
fn evidence_that_is_removed_with_its_resource_waits_a_day_for_its_store() {
    let mut world = held();
    world.facts.cleanup = Some(cleanup(HOUR, false));
    world.reconcile(store(fixtures::all_stored()));
    world.pass(3600);
    let awaits_store = Step::Delete { awaits_store: true };
    for _ in 0..2 {
        let reconcile = world.reconcile_when_due(Answer::Delete(DeletionOutcome::StoreUnresponsive));
        assert_eq!(reconcile.step, awaits_store);
        assert_eq!(line(&world.status), format!("{STORED}, CL Scheduled"));
        let Requeue::At(at) = reconcile.conclusion.next else { panic!("it is tried again") };
        assert!(elapsed(world.facts.now, at) <= Duration::from_mins(2));
    }
    world.pass(23 * 3600);
    assert_eq!(world.decide(), awaits_store);
    world.pass(3600);
    assert_eq!(world.decide(), DELETE);
}

#[test]
fn evidence_that_a_person_must_retry_is_not_deleted() {
    let mut world = World::storing(ReadyWhen::Verified, DeletionPolicy::Retain);
    world.facts.cleanup = Some(cleanup(Duration::ZERO, false));
    world.reconcile(not_stored(EvidenceError::Conflict));
    world.pass(48 * 3600);
    assert_eq!(world.decide(), KEPT);
    assert!(line(&world.status).ends_with("ES Conflict, CL Scheduled"));

    let mut unwanted = world.clone();
    unwanted.facts.evidence.spec = None;
    assert_eq!(unwanted.decide(), DELETE, "the spec no longer asks for it");

    world.facts.cleanup = Some(cleanup(HOUR, false));
    world.facts.retry = Some("again".to_owned());
    world.reconcile(Answer::Uncalled);
    world.facts.retry = None;
    let end = later(world.facts.now, HOUR);
    let reconcile = world.reconcile(store(fixtures::all_stored()));
    assert_eq!(reconcile.conclusion.next, Requeue::At(end), "a retry has stored it");
}

#[test]
fn what_git_would_bring_back_stays_and_is_reported_once() {
    let mut world = World::fresh(ReadyWhen::Verified);
    world.facts.cleanup = Some(cleanup(Duration::ZERO, true));
    assert_eq!(world.reconcile(created()).conclusion.events, [Event::SessionCreated]);
    assert!(line(&world.status).ends_with(", CL ManagedByGitOps"), "it is shown early");
    world.pass(60);
    let reconcile = world.reconcile(said("verified", &[]));
    assert_eq!(line(&world.status), format!("{VERIFIED}, CL ManagedByGitOps"));
    assert_eq!(reconcile.conclusion.next, Requeue::AwaitChange);
    assert_eq!(reconcile.conclusion.events, [Event::Verified, Event::ManagedByGitOps]);
    for _ in 0..2 {
        world.pass(3600);
        let reconcile = world.reconcile(Answer::Uncalled);
        assert_eq!((reconcile.step, reconcile.conclusion.events), (KEPT, vec![]));
        world.restart();
    }
    world.facts.cleanup = Some(cleanup(Duration::ZERO, false));
    assert_eq!(world.decide(), DELETE, "the annotation allows it");
}

#[test]
fn a_resource_that_git_takes_over_later_is_reported_then() {
    let mut world = verified(cleanup(HOUR, false));
    world.facts.cleanup = Some(cleanup(HOUR, true));
    let reconcile = world.reconcile(Answer::Uncalled);
    assert_eq!(reconcile.conclusion.events, [Event::ManagedByGitOps]);
    assert_eq!(world.reconcile(Answer::Uncalled).conclusion.events, []);
}

#[test]
fn a_refused_deletion_is_shown_and_tried_again_less_and_less_often() {
    let mut world = verified(cleanup(Duration::ZERO, false));
    let mut waits = Vec::new();
    for _ in 0..6 {
        let reconcile = world.reconcile_when_due(Answer::Delete(DeletionOutcome::Refused));
        assert_eq!(line(&world.status), format!("{VERIFIED}, CL DeletionForbidden"));
        assert_eq!(reconcile.conclusion.events, []);
        let Requeue::At(at) = reconcile.conclusion.next else { panic!("it is tried again") };
        waits.push(elapsed(world.facts.now, at).as_secs() / 60);
        assert_eq!(world.decide(), Step::Transition(Transition::Wait(Wait::Due(at))));
    }
    assert!(waits[0] <= 10 && waits.iter().all(|minutes| (5..=60).contains(minutes)), "{waits:?}");
    assert!(waits.iter().any(|minutes| *minutes > 15), "{waits:?}");
    world.restart();
    let reconcile = world.reconcile(Answer::Delete(DeletionOutcome::Deleted));
    assert_eq!(reconcile.step, DELETE, "another process tries at once");
}

#[test]
fn a_deletion_with_an_unknown_outcome_is_repeated_within_two_minutes() {
    let mut world = verified(cleanup(Duration::ZERO, false));
    for _ in 0..8 {
        let reconcile = world.reconcile_when_due(Answer::Delete(DeletionOutcome::Unknown));
        let Requeue::At(at) = reconcile.conclusion.next else { panic!("it is repeated") };
        assert!(elapsed(world.facts.now, at) <= Duration::from_mins(2));
        assert_eq!(line(&world.status), format!("{VERIFIED}, CL Scheduled"));
    }
    world.facts.generation += 1;
    world.reconcile_when_due(Answer::Delete(DeletionOutcome::Unknown));
    assert_eq!(
        world.status.observed_generation,
        Some(world.facts.generation),
        "readers see the edit handled"
    );
}

#[test]
fn a_refused_deletion_is_forgotten_when_the_ttl_is_made_longer() {
    let mut world = verified(cleanup(Duration::ZERO, false));
    world.reconcile(Answer::Delete(DeletionOutcome::Refused));
    world.facts.cleanup = Some(cleanup(HOUR, false));
    world.reconcile(Answer::Uncalled);
    assert_eq!(line(&world.status), format!("{VERIFIED}, CL Scheduled"));
}

#[test]
fn a_ttl_that_ends_far_ahead_is_checked_once_a_day_and_not_all_at_the_same_time() {
    let mut world = verified(cleanup(1000 * HOUR, false));
    let mut checks: Vec<_> = (0..1000)
        .map(|seed| {
            world.facts.jitter_seed = jitter_seed(seed);
            let Requeue::At(at) = world.reconcile(Answer::Uncalled).conclusion.next else { panic!("a time") };
            elapsed(world.facts.now, at)
        })
        .collect();
    checks.sort_unstable();
    assert!(12 * HOUR <= checks[0] && checks[999] <= 24 * HOUR, "{:?} to {:?}", checks[0], checks[999]);
    let most = checks.chunk_by(|a, b| a.as_secs() / 600 == b.as_secs() / 600).map(<[_]>::len).max();
    assert!(most < Some(40), "{most:?} of 1,000 in the same ten minutes of twelve hours");
    world.pass(999 * 3600);
    let end = later(world.status.finished_at.unwrap(), 1000 * HOUR);
    assert_eq!(world.reconcile(Answer::Uncalled).conclusion.next, Requeue::At(end));
}

#[test]
fn what_waits_for_its_ttl_is_less_urgent_than_every_session() {
    let mut world = open(cleanup(HOUR, false));
    let reconcile = world.reconcile(said("verified", &["document", "liveness"]));
    assert_eq!(reconcile.conclusion.priority, Priority::Idle);
    assert_eq!(world.reconcile(Answer::Uncalled).conclusion.priority, Priority::Idle);
    world.pass(3600);
    let refused = world.reconcile(Answer::Delete(DeletionOutcome::Refused));
    assert_eq!(refused.conclusion.priority, Priority::Idle);
}

#[test]
fn a_resource_whose_ttl_is_removed_is_settled() {
    let mut world = verified(cleanup(HOUR, false));
    world.facts.cleanup = None;
    let reconcile = world.reconcile(Answer::Uncalled);
    assert_eq!((line(&world.status).as_str(), reconcile.conclusion.next), (VERIFIED, Requeue::Done));
    assert_eq!(world.state(), State::Settled);
}

#[test]
fn a_status_from_a_backup_does_not_delete_its_new_resource_at_once() {
    let mut world = verified(cleanup(HOUR, false));
    world.pass(48 * 3600);
    world.facts.created_at = world.facts.now;
    let end = later(world.facts.now, HOUR);
    assert_eq!(world.decide(), waits_until(end));
}

#[test]
fn a_restart_reads_a_resource_only_at_the_end_of_its_ttl() {
    let ttl = |hours: u64| VerificationSpec {
        ttl_after_finished: Some(crate::api::Duration::from_secs(hours * 3600)),
        ..spec()
    };
    let at = |world: &World, spec: &VerificationSpec, generation| {
        let parsed = ParsedStatus::of(UID, &world.status);
        first_reconcile(&parsed, spec, Some(generation), 7, world.facts.now).at
    };
    let mut world = verified(cleanup(3 * HOUR, false));
    let finished_at = world.status.finished_at.unwrap();
    world.pass(60);
    assert_eq!(at(&world, &ttl(3), 1), Some(later(finished_at, 3 * HOUR)));
    assert_eq!(at(&world, &ttl(3), 2), None, "the spec was edited");
    assert_eq!(at(&world, &spec(), 1), None, "it is to be settled");
    assert_eq!(at(&verified(cleanup(HOUR, true)), &ttl(3), 1), None, "it may be allowed by now");
    let mut pending = World::asking(ReadyWhen::Verified, DeletionPolicy::Retain);
    pending.facts.cleanup = Some(cleanup(HOUR, false));
    pending.reconcile(said("verified", &[]));
    assert!(line(&pending.status).ends_with(", CL Scheduled"));
    let asking = VerificationSpec { evidence: pending.facts.evidence.spec.clone(), ..ttl(3) };
    assert_eq!(at(&pending, &asking, 1), None, "evidence is pending");
}
