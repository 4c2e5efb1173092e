//! What follows from the key that a session is asked with: the current one, or the one from before a rotation.

use std::time::Duration;

use super::{
    conclude_evidence::store,
    world::{Answer, World, created, line, not_stored, poll_failed, refused, said},
};
use crate::{
    api::{DeletionPolicy, ReadyWhen, VerificationSpec},
    lifecycle::{
        blocker::Blocker,
        event::Event,
        evidence_error::EvidenceError,
        first_reconcile::first_reconcile,
        fixtures::{self, UID, spec},
        key_fact::KeyVersion,
        poll_baseline::CompactState,
        since::later,
        state::ParsedStatus,
        step::Refusal,
    },
    portal::error::PortalError,
};

const ROTATED: &str = "AwaitingUser: R AwaitingUser, Rec AwaitingUser, CR KeyRotated, SC Created";

/// An open session that was created with the key from before a rotation.
fn asked_with_previous_key() -> World {
    let mut world = World::open(ReadyWhen::Verified);
    world.facts.key_version = KeyVersion::Previous;
    world
}

#[test]
fn a_previous_key_that_is_refused_shows_the_rotation_on_its_sessions() {
    for error in [PortalError::KeyRejected, PortalError::AccessDenied] {
        let mut world = asked_with_previous_key();
        let reconcile = world.reconcile(poll_failed(error));
        assert_eq!(line(&world.status), ROTATED, "{error:?}");
        assert_eq!(reconcile.conclusion.events, [Event::Blocked(Blocker::KeyRotated)]);
        assert_eq!(world.reconcile_when_due(poll_failed(error)).conclusion.events, []);
        world.pass(600);
        world.reconcile_when_due(poll_failed(error));
        assert!(line(&world.status).contains("St KeyRotated"), "{}", line(&world.status));
        world.reconcile_when_due(said("generated", &[]));
        assert!(line(&world.status).contains("CR Accepted"), "{}", line(&world.status));
    }
}

#[test]
fn a_previous_key_that_is_refused_while_evidence_is_stored_shows_the_rotation() {
    let mut world = World::storing(ReadyWhen::Verified, DeletionPolicy::Retain);
    world.facts.key_version = KeyVersion::Previous;
    world.reconcile(not_stored(EvidenceError::PortalUnavailable));
    world.refusal = Some(Refusal::KeyRejected(later(world.facts.now, Duration::from_mins(3))));
    world.reconcile_when_due(Answer::Uncalled);
    assert!(line(&world.status).contains("CR KeyRotated"), "{}", line(&world.status));
}

#[test]
fn the_current_key_is_judged_as_without_a_rotation() {
    let mut world = World::open(ReadyWhen::Verified);
    world.reconcile(poll_failed(PortalError::KeyRejected));
    assert_eq!(line(&world.status), ROTATED.replace("KeyRotated", "KeyRejected"));
    let mut world = World::fresh(ReadyWhen::Verified);
    world.reconcile(refused(PortalError::KeyRejected));
    assert!(line(&world.status).contains("CR KeyRejected"), "{}", line(&world.status));
}

#[test]
fn a_session_needs_the_previous_key_until_its_evidence_is_stored() {
    let mut world = World::asking(ReadyWhen::Verified, DeletionPolicy::Retain);
    world.facts.key_version = KeyVersion::Previous;
    let needs = |world: &World| world.facts.local_state.key_version.is_previous();
    assert!(!needs(&world), "it was not asked yet");
    world.reconcile(said("generated", &[]));
    assert!(needs(&world));
    world.facts.suspend = true;
    world.reconcile(Answer::Uncalled);
    assert!(needs(&world), "it will be asked again");
    world.facts.suspend = false;
    world.reconcile_when_due(said("verified", &[]));
    assert!(needs(&world), "the images are read with it");
    world.reconcile(store(fixtures::stored(vec![fixtures::front()])));
    assert!(needs(&world));
    world.reconcile(store(fixtures::all_stored()));
    assert!(!needs(&world) && world.status.settled);

    let mut world = asked_with_previous_key();
    world.reconcile(said("verified", &[]));
    assert!(!needs(&world), "nothing is left to ask");
}

#[test]
fn a_new_session_needs_no_previous_key() {
    let mut world = World::fresh(ReadyWhen::Verified);
    world.facts.key_version = KeyVersion::Previous;
    world.reconcile(refused(PortalError::Unconfigured));
    assert!(!world.facts.local_state.key_version.is_previous());
    world.facts.key_version = KeyVersion::Current;
    world.reconcile_when_due(created());
    assert!(!world.facts.local_state.key_version.is_previous());
}

#[test]
fn the_compact_state_remembers_that_the_previous_key_is_needed() {
    let mut world = asked_with_previous_key();
    world.reconcile(said("generated", &[]));
    let compact = CompactState::of(&world.facts.local_state).unwrap();
    assert!(compact.needs_previous_key() && compact.local_state().key_version.is_previous());
}

#[test]
fn after_a_restart_a_session_may_need_the_previous_key_that_its_spec_names() {
    let mut rotated = spec();
    rotated.api_key_secret_ref.previous_key = Some("apiKeyOld".to_owned());
    let may_need = |world: &World, spec: &VerificationSpec| {
        let spec = VerificationSpec { evidence: world.facts.evidence.spec.clone(), ..spec.clone() };
        let parsed = ParsedStatus::of(UID, &world.status);
        first_reconcile(&parsed, &spec, Some(1), 7, world.facts.now).key_version.is_previous()
    };
    let open = World::open(ReadyWhen::Verified);
    assert!(may_need(&open, &rotated) && !may_need(&open, &spec()));
    assert!(may_need(&World::storing(ReadyWhen::Verified, DeletionPolicy::Retain), &rotated));
    let mut over = World::open(ReadyWhen::Verified);
    over.reconcile(said("verified", &[]));
    over.status.settled = false;
    assert!(!may_need(&over, &rotated));
    assert!(!may_need(&World::fresh(ReadyWhen::Verified), &rotated));
}

#[test]
fn a_fingerprint_from_a_backup_says_nothing_about_a_key_that_is_denied() {
    let denied = |uid: &str| {
        let mut world = World::open(ReadyWhen::Verified);
        let session = world.status.session.as_mut().unwrap();
        session.uid = Some(uid.to_owned());
        session.key_fingerprint = Some("8899aabbccddeeff".to_owned());
        world.facts.adopt = fixtures::id();
        world.reconcile(poll_failed(PortalError::AccessDenied));
        line(&world.status)
    };
    assert!(denied(UID).contains("CR KeyRotated"), "{}", denied(UID));
    assert!(denied("of-another-resource").contains("CR AccessDenied"), "{}", denied("of-another-resource"));
}
