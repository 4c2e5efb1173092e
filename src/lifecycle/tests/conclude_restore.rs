//! A status that lost its session because etcd was restored from a backup is restored from what the process remembers.

use super::world::{Answer, World, said};
use crate::{
    api::{OnUnknownOutcome, Phase, ReadyWhen, SessionState, VerificationStatus},
    lifecycle::{
        conclude::Requeue,
        event::Event,
        fixtures::{self, UID},
        known_session::KnownSession,
        state::attempts,
        step::{Step, Transition},
    },
};

/// A world with this older status, whose session the process still knows.
fn rolled_back(before: VerificationStatus) -> (World, VerificationStatus) {
    let open = World::open(ReadyWhen::Verified);
    let mut world = World::of(before, open.facts);
    world.facts.known = KnownSession::of(UID, &open.status);
    assert!(world.facts.known.is_some());
    (world, open.status)
}

#[test]
fn a_status_that_lost_its_session_gets_it_back_without_a_second_create() {
    let olds = [
        fixtures::fresh(),
        fixtures::attempted(SessionState::Claimed, 1, 0),
        fixtures::attempted(SessionState::NotCreated, 2, 0),
        fixtures::attempted(SessionState::Unknown, 3, 3),
    ];
    for old in olds {
        let (mut world, lost) = rolled_back(old.clone());
        world.facts.on_unknown = OnUnknownOutcome::Hold;
        let reconcile = world.reconcile(Answer::Uncalled);
        assert!(matches!(reconcile.step, Step::Transition(Transition::Restore(_))), "{:?}", reconcile.step);
        assert_eq!(
            (reconcile.conclusion.next, reconcile.conclusion.events),
            (Requeue::Now, vec![Event::StatusRestored])
        );

        let status = &world.status;
        assert_eq!((&status.verification_id, &status.portal_url), (&lost.verification_id, &lost.portal_url));
        assert_eq!((status.phase, status.expires_at), (Some(Phase::AwaitingUser), lost.expires_at));
        let (session, was) = (status.session.as_ref().unwrap(), lost.session.as_ref().unwrap());
        assert_eq!((session.state, &session.uid), (was.state, &was.uid));
        assert_eq!((&session.portal, session.created_at), (&was.portal, was.created_at));
        assert_eq!(session.attempt, was.attempt.max(i32::try_from(attempts(&old).attempt).unwrap()));

        // What the portal reports now is shown as usual.
        world.facts.known = None;
        world.reconcile(said("verified", &["document", "liveness"]));
        assert_eq!(world.status.phase, Some(Phase::Verified));
    }
}

#[test]
fn a_session_of_another_resource_is_not_known() {
    let open = World::open(ReadyWhen::Verified).status;
    assert_eq!(KnownSession::of("another uid", &open), None);
    assert_eq!(KnownSession::of(UID, &fixtures::fresh()), None);
}
