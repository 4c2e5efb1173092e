//! The rows of `conclude` for adoptions.

use super::world::{World, assert_led_to, expected, poll_failed, said};
use crate::{
    api::{ReadyWhen, SessionState},
    lifecycle::{
        blocker::Blocker,
        conclude::Requeue,
        event::Event,
        fixtures::{self, ID},
        state::State,
    },
    portal::error::{Failed, NotSent, PortalError},
};

const CUT: PortalError = PortalError::Failed(Failed::Cut);

fn adopting() -> World {
    let mut world = World::fresh(ReadyWhen::Verified);
    world.facts.adopt = fixtures::id();
    world
}

#[test]
fn an_adopted_session_is_followed_like_a_created_one() {
    let mut world = adopting();
    let reconcile = world.reconcile(said("in_progress", &["document"]));
    let shown = "InProgress: R InProgress, Rec InProgress, CR Accepted, SC Adopted";
    assert_led_to(
        &world,
        &reconcile,
        expected(shown, 1..=6, &[Event::SessionAdopted]),
        "the person has started",
    );
    assert_eq!(world.status.verification_id.as_deref(), Some(ID));
    assert!(world.status.portal_url.is_some());
    let session = world.status.session.as_ref().unwrap();
    assert_eq!((session.attempt, session.state), (0, Some(SessionState::Adopted)));
    assert_eq!(session.created_at, Some(fixtures::now()));
    assert_eq!(session.portal.as_deref(), Some("https://verify.test.okid.io"));
    assert!(matches!(world.state(), State::Open { .. }));
}

#[test]
fn an_adopted_session_may_have_ended_already() {
    let mut world = adopting();
    let reconcile = world.reconcile(said("verified", &[]));
    assert_eq!(reconcile.conclusion.events, [Event::SessionAdopted, Event::Verified]);
    assert_eq!((world.state(), reconcile.conclusion.next), (State::Settled, Requeue::Done));
    let link = "https://verify.test.okid.io/?verification_id=ver_sample";
    assert_eq!(
        (world.status.verification_id.as_deref(), world.status.portal_url.as_deref()),
        (Some(ID), Some(link))
    );
}

#[test]
fn a_session_to_adopt_is_stalled_when_it_is_not_found_three_times() {
    let mut world = adopting();
    for _ in 0..2 {
        let reconcile = world.reconcile_when_due(poll_failed(PortalError::NotFound));
        let shown = "Pending: R ProgressingWithRetry, Rec ProgressingWithRetry, CR NotChecked, SC NotYet";
        assert_led_to(&world, &reconcile, expected(shown, 300..=300, &[]), "the first two 404s");
    }
    let reconcile = world.reconcile_when_due(poll_failed(PortalError::NotFound));
    let shown = "Pending: R SessionNotFound, St SessionNotFound, CR NotChecked, SC NotYet";
    assert_led_to(&world, &reconcile, expected(shown, 3600..=3600, &[Event::SessionNotFound]), "the third");
    assert_eq!(world.state(), State::Fresh);
}

#[test]
fn an_error_of_an_adoption_loses_nothing() {
    let denied = "Pending: R AccessDenied, Rec AccessDenied, CR AccessDenied, SC NotYet";
    let unreachable = "Pending: R PortalUnreachable, Rec PortalUnreachable, CR NotChecked, SC NotYet";
    let rejected = "Pending: R PortalRejectedRequest, Rec PortalRejectedRequest, CR NotChecked, SC NotYet";
    for (error, shown, blocker, seconds) in [
        (PortalError::AccessDenied, denied, Blocker::AccessDenied, 60..=60),
        (CUT, unreachable, Blocker::NoUsableAnswer, 2..=120),
        (PortalError::NotSent(NotSent::Tls), unreachable, Blocker::TlsFailed, 5..=300),
        (PortalError::Invalid, rejected, Blocker::RequestRejected, 30..=600),
    ] {
        let mut world = adopting();
        let reconcile = world.reconcile(poll_failed(error));
        let reported = [Event::Blocked(blocker)];
        assert_led_to(&world, &reconcile, expected(shown, seconds, &reported), &format!("{error:?}"));
        assert_eq!(world.state(), State::Fresh);
    }
}

#[test]
fn a_restored_status_is_followed_as_adopted_and_polled_first() {
    let mut world = World::open(ReadyWhen::Verified);
    world.reconcile(said("in_progress", &["document"]));
    world.status.session.as_mut().unwrap().uid = Some("another".to_owned());
    world.facts.adopt = fixtures::id();
    world.restart();
    assert_eq!(world.state(), State::Fresh);
    let reconcile = world.reconcile(said("in_progress", &["document"]));
    assert_eq!(reconcile.conclusion.events, [Event::SessionAdopted]);
    let session = world.status.session.as_ref().unwrap();
    assert_eq!(session.uid.as_deref(), Some(fixtures::UID));
    assert_eq!(world.status.verification_id.as_deref(), Some(ID));
}
