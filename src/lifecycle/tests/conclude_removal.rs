//! The rows of `conclude` for the finalizer, and for evidence that is removed with its resource.

use std::time::Duration;

use super::{
    conclude_evidence::{STORED, STORING, failed, held, store, storing},
    world::{Answer, World, line, not_stored, said},
};
use crate::{
    api::{Condition, ConditionType, DeletionPolicy, ReadyWhen},
    lifecycle::{
        conclude::Requeue,
        event::Event,
        evidence::{FinalizerOutcome, RemovalOutcome, UploadOutcome},
        evidence_error::EvidenceError,
        fixtures,
        since::{elapsed, later},
        step::{ReleaseWhen, Shown, Step, Transition},
    },
};

const RELEASED: Step = Step::RemoveEvidence { release_when: ReleaseWhen::OnceRemoved };

#[test]
fn the_finalizer_is_added_before_evidence_is_stored_and_stays() {
    let mut world = World::storing(ReadyWhen::Verified, DeletionPolicy::Delete);
    let reconcile = world.reconcile(Answer::Uncalled);
    assert_eq!((&reconcile.step, reconcile.conclusion.status), (&Step::AddFinalizer, None));
    assert_eq!(reconcile.conclusion.next, Requeue::At(later(world.facts.now, Duration::from_secs(5))));
    let reconcile = world.reconcile(store(fixtures::all_stored()));
    assert_eq!((line(&world.status).as_str(), reconcile.conclusion.next), (STORED, Requeue::AwaitChange));
    assert!(!world.status.settled);
    let reconcile = world.reconcile(Answer::Uncalled);
    assert_eq!(
        (reconcile.step, reconcile.conclusion.next),
        (Step::Transition(Transition::Show(Shown::Finished)), Requeue::AwaitChange)
    );
    assert_eq!(reconcile.conclusion.events, [], "reported once");
}

#[test]
fn a_finished_verification_waits_for_no_deadline() {
    let mut world = held();
    world.deadline = later(world.facts.now, Duration::from_mins(1));
    assert_eq!(world.reconcile(store(fixtures::all_stored())).conclusion.next, Requeue::AwaitChange);
    assert_eq!(world.reconcile(Answer::Uncalled).conclusion.next, Requeue::AwaitChange);
    world.pass(3600);
    assert_eq!(world.reconcile(Answer::Uncalled).conclusion.next, Requeue::AwaitChange);
}

#[test]
fn a_removal_releases_the_resource() {
    for (removed, events) in [
        (RemovalOutcome::All, vec![]),
        (RemovalOutcome::Versioned, vec![Event::EvidenceVersionsLeft]),
        (RemovalOutcome::Unlisted, vec![Event::EvidenceNotListed]),
        (RemovalOutcome::Abandoned, vec![Event::EvidenceOrphaned]),
    ] {
        let mut world = held();
        world.reconcile(store(fixtures::all_stored()));
        world.delete();
        let reconcile = world.reconcile(Answer::Remove(removed));
        assert_eq!(reconcile.step, RELEASED);
        assert_eq!((reconcile.conclusion.status, reconcile.conclusion.events), (None, events));
        let reconcile = world.reconcile(Answer::Uncalled);
        assert_eq!(
            (reconcile.step, reconcile.conclusion.events),
            (Step::Transition(Transition::Release), vec![]),
            "reported once"
        );
    }
}

#[test]
fn a_removal_is_retried_and_abandoned_after_ten_minutes() {
    let mut world = held();
    world.reconcile(store(fixtures::all_stored()));
    world.delete();
    let deleted_at = world.facts.now;
    let mut reconcile = world.reconcile(Answer::Remove(RemovalOutcome::NotYet));
    while reconcile.step == RELEASED {
        let Requeue::At(at) = reconcile.conclusion.next else { panic!("{:?}", reconcile.conclusion.next) };
        assert!(elapsed(world.facts.now, at) <= Duration::from_mins(1));
        world.facts.now = at;
        let last = elapsed(deleted_at, at) >= Duration::from_mins(10);
        reconcile = world.reconcile(Answer::Remove(if last {
            RemovalOutcome::Abandoned
        } else {
            RemovalOutcome::NotYet
        }));
    }
    assert_eq!(reconcile.step, Step::RemoveEvidence { release_when: ReleaseWhen::OnceTried });
    assert_eq!(elapsed(deleted_at, world.facts.now), Duration::from_mins(10));
    assert_eq!(reconcile.conclusion.events, [Event::EvidenceOrphaned]);
}

#[test]
fn a_process_that_starts_late_makes_three_attempts_to_remove_evidence() {
    let mut world = held();
    world.reconcile(store(fixtures::all_stored()));
    world.delete();
    world.restart();
    world.pass(3600);
    for _ in 0..2 {
        // A store behind an open circuit breaker is not called, so that is no attempt.
        assert_eq!(world.reconcile_when_due(Answer::Remove(RemovalOutcome::NotTried)).step, RELEASED);
        assert_eq!(world.reconcile_when_due(Answer::Remove(RemovalOutcome::NotYet)).step, RELEASED);
    }
    let last = Step::RemoveEvidence { release_when: ReleaseWhen::OnceTried };
    assert_eq!(world.reconcile_when_due(Answer::Remove(RemovalOutcome::NotTried)).step, last);
    assert_eq!(world.reconcile_when_due(Answer::Remove(RemovalOutcome::Abandoned)).step, last);
}

#[test]
fn a_store_that_cannot_be_called_holds_a_resource_for_twenty_minutes() {
    let mut world = held();
    world.reconcile(store(fixtures::all_stored()));
    world.delete();
    let deleted_at = world.facts.now;
    while world.decide() == RELEASED {
        assert!(elapsed(deleted_at, world.facts.now) < Duration::from_mins(20));
        world.reconcile_when_due(Answer::Remove(RemovalOutcome::NotTried));
    }
    assert_eq!(world.decide(), Step::RemoveEvidence { release_when: ReleaseWhen::Anyway });
}

#[test]
fn a_finalizer_that_is_refused_is_reported_and_abandoned_after_a_day() {
    let refused = Answer::Finalizer(FinalizerOutcome::Refused);
    let mut world = World::storing(ReadyWhen::Verified, DeletionPolicy::Delete);
    world.reconcile(refused.clone());
    assert_eq!(line(&world.status), STORING);
    world.pass(60);
    world.reconcile(refused.clone());
    assert_eq!(world.reason(ConditionType::EvidenceStored), Some("FinalizerDenied"));
    let reported = |world: &World| {
        let shown = Condition::find(&world.status.conditions, ConditionType::EvidenceStored).unwrap();
        shown.message.contains("finalizer okid.io/evidence")
    };
    assert!(reported(&world));

    // Once permission is granted, storing continues, and another error has its own reason.
    let mut granted = world.clone();
    assert_eq!(granted.reconcile(Answer::Uncalled).step, Step::AddFinalizer);
    granted.reconcile_when_due(not_stored(EvidenceError::StoreAccessDenied));
    granted.pass(60);
    granted.reconcile_when_due(not_stored(EvidenceError::StoreAccessDenied));
    assert_eq!(granted.reason(ConditionType::EvidenceStored), Some("StoreAccessDenied"));
    assert!(!reported(&granted));

    world.pass(24 * 3600);
    assert_eq!(world.reconcile(Answer::Uncalled).step, Step::Transition(Transition::AbandonEvidence));
    assert_eq!(line(&world.status), failed("FinalizerDenied"));
    assert!(reported(&world));
}

#[test]
fn a_resource_that_no_longer_requests_removal_is_released_and_settled() {
    let retained = |world: &mut World| {
        world.facts.evidence.spec.as_mut().unwrap().deletion_policy = DeletionPolicy::Retain;
    };
    let without: fn(&mut World) = |world| world.facts.evidence.spec = None;
    for change in [retained, without] {
        let mut world = held();
        world.reconcile(store(fixtures::all_stored()));
        change(&mut world);
        let reconcile = world.reconcile(Answer::Remove(RemovalOutcome::All));
        assert_eq!(reconcile.step, RELEASED);
        assert_eq!(world.reconcile(Answer::Uncalled).step, Step::Transition(Transition::Settle));
    }
}

#[test]
fn a_verdict_is_not_settled_before_a_needless_finalizer_is_removed() {
    let mut world = World::open(ReadyWhen::Verified);
    world.facts.evidence.has_finalizer = true;
    let reconcile = world.reconcile(said("verified", &[]));
    assert_eq!((reconcile.conclusion.next, world.status.settled), (Requeue::Now, false));
    assert_eq!(world.reconcile(Answer::Remove(RemovalOutcome::All)).step, RELEASED);
    assert_eq!(world.reconcile(Answer::Uncalled).step, Step::Transition(Transition::Settle));
}

#[test]
fn the_policy_may_change_to_delete_after_evidence_is_partly_stored() {
    let mut world = storing();
    let error = Some(EvidenceError::Conflict);
    world.reconcile(store(UploadOutcome { error, ..fixtures::stored(vec![fixtures::front()]) }));
    assert_eq!(line(&world.status), failed("Conflict"));
    world.facts.evidence.spec.as_mut().unwrap().deletion_policy = DeletionPolicy::Delete;
    assert_eq!(world.reconcile(Answer::Uncalled).step, Step::AddFinalizer);
    assert_eq!(world.reconcile(Answer::Uncalled).step, Step::Transition(Transition::Show(Shown::Finished)));
}
