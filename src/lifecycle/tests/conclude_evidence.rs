//! The rows of `conclude` for storing evidence.

use std::time::Duration;

use super::world::{Answer, World, line, not_stored, said};
use crate::{
    api::{ConditionType, DeletionPolicy, EvidenceKind, EvidenceOutcome, ObjectState, ReadyWhen},
    lifecycle::{
        conclude::Requeue,
        event::Event,
        evidence::{UploadOutcome, evidence_state, outstanding},
        evidence_error::EvidenceError,
        facts::PortalFact,
        fixtures,
        since::later,
        state::State,
        step::{Step, Transition},
    },
};

pub(super) const STORING: &str = "Storing: R StoringEvidence, Rec StoringEvidence, CR Accepted, SC Created, F Verified, V Verified, ES Storing";
pub(super) const STORED: &str =
    "Verified: R Verified, CR Accepted, SC Created, F Verified, V Verified, ES Stored";

pub(super) fn storing() -> World {
    World::storing(ReadyWhen::Verified, DeletionPolicy::Retain)
}

/// The same with the finalizer.
pub(super) fn held() -> World {
    let mut world = World::storing(ReadyWhen::Verified, DeletionPolicy::Delete);
    assert_eq!(world.reconcile(Answer::Uncalled).step, Step::AddFinalizer);
    world
}

pub(super) fn store(stored: UploadOutcome) -> Answer {
    Answer::Store(stored)
}

pub(super) fn failed(reason: &str) -> String {
    format!(
        "Verified: R EvidenceFailed, St EvidenceFailed, CR Accepted, SC Created, F Verified, V Verified, ES {reason}"
    )
}

#[test]
fn a_verdict_after_which_evidence_is_stored_is_not_the_end() {
    for policy in [DeletionPolicy::Retain, DeletionPolicy::Delete] {
        let mut world = World::asking(ReadyWhen::Verified, policy);
        let reconcile = world.reconcile(said("verified", &[]));
        assert_eq!((line(&world.status).as_str(), reconcile.conclusion.next), (STORING, Requeue::Now));
        assert_eq!(reconcile.conclusion.events, [Event::Verified]);
        assert!(!world.status.settled);
    }
}

#[test]
fn a_verdict_without_evidence_is_settled_in_the_same_write() {
    for policy in [DeletionPolicy::Retain, DeletionPolicy::Delete] {
        let mut world = World::asking(ReadyWhen::Verified, policy);
        let reconcile = world.reconcile(said("rejected", &[]));
        let shown = "Rejected: R Rejected, St Rejected, CR Accepted, SC Created, F Rejected, V Rejected, ES NotApplicable";
        assert_eq!((line(&world.status).as_str(), reconcile.conclusion.next), (shown, Requeue::Done));
        assert_eq!(world.state(), State::Settled);
    }
}

#[test]
fn evidence_is_pending_after_an_expiry_by_the_clock_if_the_spec_lists_it() {
    let mut world = World::asking(ReadyWhen::Verified, DeletionPolicy::Retain);
    world.reconcile(said("expired", &[]));
    assert!(line(&world.status).starts_with("Storing: R StoringEvidence"), "{}", line(&world.status));
    world.reconcile(store(fixtures::all_stored()));
    let shown = "Expired: R Expired, St Expired, CR Accepted, SC Created, F Expired, V Expired, ES Stored";
    assert_eq!(line(&world.status), shown);
}

#[test]
fn no_evidence_is_pending_after_a_deadline() {
    let mut world = World::asking(ReadyWhen::Verified, DeletionPolicy::Retain);
    world.facts.evidence.spec.as_mut().unwrap().outcomes =
        vec![EvidenceOutcome::Verified, EvidenceOutcome::Rejected, EvidenceOutcome::Expired];
    world.pass(169 * 3600);
    world.reconcile(said("generated", &[]));
    let reconcile = world.reconcile(Answer::Uncalled);
    assert_eq!(
        (reconcile.step, reconcile.conclusion.next),
        (Step::Transition(Transition::Fail), Requeue::Done)
    );
    assert_eq!(world.reason(ConditionType::EvidenceStored), Some("NotApplicable"));
}

#[test]
fn evidence_that_is_completely_stored_is_reported_and_settled() {
    let mut world = storing();
    let reconcile = world.reconcile(store(fixtures::all_stored()));
    assert_eq!((line(&world.status).as_str(), reconcile.conclusion.next), (STORED, Requeue::Done));
    assert_eq!(reconcile.conclusion.events, [Event::EvidenceStored]);
    let evidence = world.status.evidence.as_ref().unwrap();
    assert_eq!(evidence.objects, [fixtures::front(), fixtures::absent(EvidenceKind::Back)]);
    assert!(evidence.manifest_sha256.is_some() && world.status.settled);
}

#[test]
fn evidence_that_is_partly_stored_continues_at_once() {
    let mut world = storing();
    let reconcile = world.reconcile(store(fixtures::stored(vec![fixtures::front()])));
    assert_eq!((line(&world.status).as_str(), reconcile.conclusion.next), (STORING, Requeue::Now));
    assert_eq!(reconcile.conclusion.events, []);
    let spec = world.facts.evidence.spec.clone().unwrap();
    let rest: Vec<_> = outstanding(&spec, &world.status).into_iter().map(|wanted| wanted.kind).collect();
    assert_eq!(rest, [EvidenceKind::Back]);
}

#[test]
fn without_the_manifest_the_evidence_is_incomplete() {
    let mut world = storing();
    let objects = vec![fixtures::front(), fixtures::absent(EvidenceKind::Back)];
    world.reconcile(store(fixtures::stored(objects)));
    assert_eq!(line(&world.status), STORING);
    let manifest = UploadOutcome { objects: Vec::new(), ..fixtures::all_stored() };
    world.reconcile(store(manifest));
    assert_eq!(line(&world.status), STORED);
}

#[test]
fn a_portal_without_images_leaves_nothing_to_store_and_nothing_to_report() {
    let mut world = storing();
    world.facts.evidence.spec.as_mut().unwrap().images[0].required = false;
    let nothing = [EvidenceKind::Front, EvidenceKind::Back].map(fixtures::absent);
    let reconcile = world.reconcile(store(fixtures::stored(nothing.to_vec())));
    assert_eq!(world.reason(ConditionType::EvidenceStored), Some("NothingToStore"));
    assert_eq!((reconcile.conclusion.events, reconcile.conclusion.next), (vec![], Requeue::Done));
}

#[test]
fn after_the_manifest_neither_the_spec_nor_a_retry_makes_evidence_pending() {
    let mut world = held();
    world.reconcile(store(fixtures::all_stored()));
    let stored = world.status.evidence.clone();
    let spec = world.facts.evidence.spec.as_mut().unwrap();
    spec.images[1].required = true;
    spec.results = true;
    for retry in [None, Some("again".to_owned()), None] {
        world.facts.retry = retry;
        // If it were to be stored, the test would fail here.
        world.reconcile(Answer::Uncalled);
        assert_eq!((line(&world.status).as_str(), &world.status.evidence), (STORED, &stored));
    }
}

#[test]
fn waiting_for_the_upload_limits_changes_nothing() {
    let mut world = storing();
    world.reconcile(not_stored(EvidenceError::StoreUnavailable));
    let (before, failures) = (world.status.clone(), world.facts.local_state.storing);
    world.pass(5);
    let at = later(world.facts.now, Duration::from_secs(30));
    let reconcile = world.reconcile(store(UploadOutcome { again_at: Some(at), ..UploadOutcome::default() }));
    assert_eq!((reconcile.conclusion.next, &world.status), (Requeue::At(at), &before));
    assert_eq!(world.facts.local_state.storing, failures, "it says nothing about the error");
    assert!(matches!(world.reconcile(Answer::Uncalled).step, Step::Transition(Transition::Wait(_))));
}

#[test]
fn an_upload_that_reaches_its_limit_continues_when_there_is_room() {
    let mut world = storing();
    let at = later(world.facts.now, Duration::from_secs(30));
    let some = UploadOutcome { again_at: Some(at), ..fixtures::stored(vec![fixtures::front()]) };
    assert_eq!(world.reconcile(store(some)).conclusion.next, Requeue::At(at));
    assert_eq!(world.reconcile_when_due(store(fixtures::all_stored())).step, Step::Store);
}

#[test]
fn an_upload_without_any_result_is_retried_later() {
    let mut world = storing();
    let before = world.status.clone();
    let reconcile = world.reconcile(store(UploadOutcome::default()));
    let Requeue::At(at) = reconcile.conclusion.next else { panic!("{:?}", reconcile.conclusion.next) };
    assert!(at > world.facts.now, "it must not be repeated in a loop");
    assert_eq!((reconcile.conclusion.status, &world.status), (None, &before));
}

#[test]
fn objects_that_were_stored_before_the_error_stay_in_status() {
    let mut world = storing();
    let error = Some(EvidenceError::StoreUnavailable);
    world.reconcile(store(UploadOutcome { error, ..fixtures::stored(vec![fixtures::front()]) }));
    assert_eq!(world.status.evidence.as_ref().unwrap().objects, [fixtures::front()]);
    world.reconcile_when_due(store(fixtures::all_stored()));
    assert_eq!(world.status.evidence.as_ref().unwrap().objects.len(), 2, "each once");
    assert_eq!(line(&world.status), STORED);
}

#[test]
fn images_that_are_removed_from_the_spec_are_no_longer_pending() {
    for fails in [false, true] {
        let mut world = storing();
        if fails {
            world.reconcile(not_stored(EvidenceError::Conflict));
        }
        world.facts.evidence.spec = None;
        let reconcile = world.reconcile(Answer::Uncalled);
        assert_eq!(
            (reconcile.step, reconcile.conclusion.next),
            (Step::Transition(Transition::Settle), Requeue::Done)
        );
        assert_eq!(
            line(&world.status),
            "Verified: R Verified, CR Accepted, SC Created, F Verified, V Verified"
        );
    }
}

#[test]
fn a_new_destination_receives_everything_and_objects_left_behind_are_reported() {
    for (mut world, events) in [(storing(), vec![]), (held(), vec![Event::EvidenceOrphaned])] {
        world.reconcile(store(fixtures::stored(vec![fixtures::front()])));
        let prefix = "s3://elsewhere/team-a/customer-42".to_owned();
        let back = fixtures::stored(vec![fixtures::absent(EvidenceKind::Back)]);
        let reconcile = world.reconcile(store(UploadOutcome { prefix: prefix.clone(), ..back }));
        let evidence = world.status.evidence.as_ref().unwrap();
        assert_eq!((&evidence.prefix, evidence.objects.len()), (&prefix, 1));
        assert_eq!(reconcile.conclusion.events, events);
    }
}

#[test]
fn status_has_room_for_what_is_requested_whatever_was_requested_before() {
    let mut world = storing();
    let mut earlier = fixtures::stored(Vec::new());
    for n in 0..16 {
        let key = EvidenceKind::Redacted.stem("original", Some(n)) + ".jpg";
        earlier.objects.push(crate::api::StoredObject {
            key,
            kind: EvidenceKind::Redacted,
            ..fixtures::front()
        });
    }
    world.reconcile(store(earlier));
    assert_eq!(world.status.evidence.as_ref().unwrap().objects.len(), 16);
    world.reconcile(store(fixtures::all_stored()));
    let objects = &world.status.evidence.as_ref().unwrap().objects;
    assert_eq!(objects[..], [fixtures::front(), fixtures::absent(EvidenceKind::Back)]);
}

#[test]
fn a_portal_that_is_not_allowed_any_more_is_reported_while_evidence_is_pending() {
    let mut world = storing();
    let allowed = std::mem::replace(&mut world.facts.portal, PortalFact::NotAllowed);
    let reconcile = world.reconcile(Answer::Uncalled);
    assert_eq!(
        reconcile.step,
        Step::Transition(Transition::Show(crate::lifecycle::step::Shown::PortalNotAllowed))
    );
    assert_eq!(reconcile.conclusion.events, [Event::PortalNotAllowed]);
    let shown = "Storing: R StoringEvidence, St PortalNotAllowed, CR Accepted, SC Created, F Verified, V Verified, ES Storing";
    assert_eq!(line(&world.status), shown);
    world.pass(3600);
    assert_eq!(world.reconcile(Answer::Uncalled).conclusion.events, [], "reported once");

    world.facts.portal = allowed;
    world.reconcile(store(fixtures::all_stored()));
    assert_eq!(line(&world.status), STORED);
}

#[test]
fn an_object_counts_whatever_its_format() {
    let spec = fixtures::evidence_spec(DeletionPolicy::Retain);
    let mut world = storing();
    let png = crate::api::StoredObject { key: "front-original.png".to_owned(), ..fixtures::front() };
    let stored =
        UploadOutcome { objects: vec![png, fixtures::absent(EvidenceKind::Back)], ..fixtures::all_stored() };
    world.reconcile(store(stored));
    assert_eq!(outstanding(&spec, &world.status), []);
    let lasting = evidence_state(Some(&spec), &world.status);
    assert_eq!(lasting, crate::lifecycle::evidence::EvidenceState::Complete);
    let is_stored = |object: &&crate::api::StoredObject| object.state == ObjectState::Stored;
    assert_eq!(world.status.evidence.as_ref().unwrap().objects.iter().filter(is_stored).count(), 1);
}
