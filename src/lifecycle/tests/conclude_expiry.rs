//! What ends by the portal's clock, and what does not.

use jiff::{SignedDuration, Timestamp};

use super::world::{Answer, World, line, poll_failed, said};
use crate::{
    api::{Outcome, Phase, ReadyWhen},
    lifecycle::{conclude::Requeue, event::Event, fixtures},
    portal::{
        error::{Failed, PortalError},
        wire::{Created, Details},
    },
};

const HOUR: i64 = 3600;
const EXPIRED: &str = "Expired: R Expired, St Expired, CR Accepted, SC Created, F Expired, V Expired";

/// A session that is four hours old and ended three hours ago. This process has polled it for an hour without a change;
/// the last two polls were answered.
fn long_expired() -> World {
    let mut world = World::open(ReadyWhen::Verified);
    world.pass(4 * 3600);
    world.facts.local_state.good_polls = 2;
    world.facts.local_state.still_since = Some(world.facts.now - SignedDuration::from_hours(1));
    world
}

/// Polls with this answer for this many hours, or until the verification ends.
fn follow(world: &mut World, hours: i64, mut answer: impl FnMut(Timestamp) -> Answer) {
    let end = world.facts.now + SignedDuration::from_hours(hours);
    while world.facts.now < end && world.status.outcome.is_none() {
        let next = world.facts.local_state.next.unwrap_or(world.facts.now);
        world.facts.now = world.facts.now.max(next);
        let answer = answer(world.facts.now);
        world.reconcile(answer);
    }
}

fn stamped(updated_at: Timestamp) -> Answer {
    Answer::Poll(Ok(Details { updated_at: Some(updated_at), ..fixtures::details("generated", &[]) }))
}

#[test]
fn a_session_expires_an_hour_after_its_end_and_three_answered_polls() {
    let mut world = long_expired();
    world.facts.local_state.good_polls = 0;
    for _ in 0..2 {
        let reconcile = world.reconcile_when_due(said("generated", &[]));
        assert_eq!((world.status.outcome, reconcile.conclusion.events.len()), (None, 0));
    }
    let reconcile = world.reconcile_when_due(said("generated", &[]));
    assert_eq!(reconcile.conclusion.events, [Event::ExpiredByClock]);
    assert_eq!((line(&world.status).as_str(), reconcile.conclusion.next), (EXPIRED, Requeue::Done));
}

#[test]
fn a_session_that_nobody_opens_expires_an_hour_after_its_end() {
    let mut world = World::open(ReadyWhen::Verified);
    follow(&mut world, 12, |_| said("generated", &[]));
    assert_eq!(world.status.outcome, Some(Outcome::Expired));
    let past_its_end = world.facts.now.duration_since(fixtures::after(3600)).as_secs();
    assert!((HOUR..HOUR + 300).contains(&past_its_end), "{past_its_end}");
}

#[test]
fn a_check_that_the_person_has_finished_does_not_expire_by_the_clock() {
    for (word, completed) in
        [("needs_manual_review", &[][..]), ("validating", &[]), ("in_progress", &["document", "liveness"])]
    {
        let mut world = long_expired();
        follow(&mut world, 6, |_| said(word, completed));
        assert_eq!(world.status.outcome, None, "{word}");
    }
}

#[test]
fn an_expiry_by_the_clock_needs_answered_polls_in_a_row() {
    for error in [
        PortalError::Failed(Failed::Cut),
        PortalError::KeyRejected,
        PortalError::NotFound,
        PortalError::Unclear { status: 404 },
        PortalError::Limited { retry_after: None },
    ] {
        let mut world = long_expired();
        world.reconcile(poll_failed(error));
        world.reconcile_when_due(said("generated", &[]));
        assert_eq!(world.status.outcome, None, "{error:?}");
    }
}

#[test]
fn an_expiry_by_the_clock_waits_for_a_full_hour() {
    let mut world = long_expired();
    world.facts.now = fixtures::after(3600 + 3599);
    world.facts.local_state.still_since = Some(fixtures::now());
    world.reconcile(said("generated", &[]));
    assert_eq!(world.status.outcome, None);
    let mut world = long_expired();
    world.facts.local_state.still_since = Some(world.facts.now - SignedDuration::from_secs(3599));
    world.reconcile(said("generated", &[]));
    assert_eq!(world.status.outcome, None);
}

#[test]
fn the_operators_clock_ends_no_session_that_is_alive_by_the_portals() {
    for portal_ahead in [None, Some(SignedDuration::from_hours(-3))] {
        for error in [None, Some(PortalError::NotFound)] {
            let mut world = long_expired();
            world.portal_ahead = portal_ahead;
            for _ in 0..3 {
                world.reconcile_when_due(error.map_or_else(|| said("generated", &[]), poll_failed));
            }
            assert_eq!(world.status.outcome, None, "{portal_ahead:?} {error:?}");
        }
    }
    let mut world = World::open(ReadyWhen::Verified);
    world.portal_ahead = Some(SignedDuration::from_hours(3));
    world.status.expires_at = Some(fixtures::after(3 * 3600 + 1800));
    follow(&mut world, 12, |_| said("generated", &[]));
    let after = world.facts.now.duration_since(fixtures::now()).as_secs();
    assert!((HOUR + 1800..HOUR + 2400).contains(&after), "by the portal's clock it is: {after}");
}

#[test]
fn a_change_prevents_the_expiry_and_restarts_the_hour() {
    let half_hours = |now: Timestamp| now.duration_since(fixtures::now()).as_secs() / 1800;
    let moves: [fn(i64) -> Answer; 3] = [
        |step| said(["generated", "initiated"][usize::from(step % 2 == 1)], &[]),
        |step| said("initiated", if step % 2 == 1 { &["document"] } else { &[] }),
        |step| stamped(fixtures::now() + SignedDuration::from_secs(step)),
    ];
    for answer in moves {
        let mut world = long_expired();
        world.restart();
        follow(&mut world, 6, |now| answer(half_hours(now)));
        assert_eq!(world.status.outcome, None, "the person is still active");
        let (last, stopped) = (half_hours(world.facts.now), world.facts.now);
        follow(&mut world, 6, |_| answer(last));
        assert_eq!(world.status.outcome, Some(Outcome::Expired));
        let still = world.facts.now.duration_since(stopped).as_secs();
        assert!((HOUR - 1800..HOUR + 660).contains(&still), "{still}");
    }
}

#[test]
fn a_stamp_of_the_last_hour_by_the_portals_clock_keeps_it_alive() {
    let mut world = long_expired();
    let stamp = world.facts.now - SignedDuration::from_mins(59);
    world.reconcile(stamped(stamp));
    assert_eq!(world.status.outcome, None);
    world.pass(60);
    follow(&mut world, 1, |_| stamped(stamp));
    assert_eq!(world.status.outcome, Some(Outcome::Expired));
}

#[test]
fn a_restart_restarts_the_hour_without_a_change() {
    let mut world = long_expired();
    world.restart();
    let begun = world.facts.now;
    follow(&mut world, 6, |_| said("generated", &[]));
    assert_eq!(world.status.outcome, Some(Outcome::Expired));
    let watched = world.facts.now.duration_since(begun).as_secs();
    assert!((HOUR..HOUR + 330).contains(&watched), "{watched}");
}

#[test]
fn an_end_that_is_not_after_the_creation_is_ignored_and_reported() {
    for (end, usable) in [(-5400, false), (0, false), (1, true), (3600, true)] {
        let expires_at = Some(fixtures::now() + SignedDuration::from_secs(end));
        let created = Answer::Create(Ok(Created { expires_at, ..fixtures::created().unwrap() }));
        let mut world = World::fresh(ReadyWhen::Verified);
        let reconcile = world.reconcile(created.clone());
        assert_eq!(world.status.expires_at, expires_at.filter(|_| usable), "{end}");
        let unusable = reconcile.conclusion.events.contains(&Event::ExpiryUnusable);
        assert_eq!((unusable, reconcile.conclusion.events.len()), (!usable, if usable { 1 } else { 2 }));

        // If the portal's clock was not known then, it is known later.
        let mut world = World::fresh(ReadyWhen::Verified);
        world.portal_ahead = None;
        world.reconcile(created);
        assert_eq!(world.status.expires_at, expires_at);
        world.portal_ahead = Some(SignedDuration::ZERO);
        follow(&mut world, 6, |_| said("generated", &[]));
        assert_eq!(world.status.outcome.is_some(), usable, "{end}");
        assert_eq!(world.status.phase == Some(Phase::Expired), usable, "{end}");
    }
}
