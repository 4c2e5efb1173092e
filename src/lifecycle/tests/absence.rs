//! When a 404 for an image means that the portal does not have it.

use std::time::Duration;

use super::world::{Answer, World};
use crate::{
    api::{DeletionPolicy, EvidenceKind, ReadyWhen},
    lifecycle::{
        absence::{Absence, Missing},
        evidence::{UploadOutcome, Wanted},
        evidence_error::EvidenceError,
        since::later,
    },
};

fn storing() -> World {
    let mut world = World::storing(ReadyWhen::Verified, DeletionPolicy::Retain);
    // The facts follow status.
    world.decide();
    world
}

fn back(required: bool) -> Wanted {
    Wanted { kind: EvidenceKind::Back, image_type: "original".to_owned(), attempt: None, required }
}

/// One attempt to store that meets a 404 of unclear origin; the portal then answers for the session, or does not.
fn unclear(world: &mut World, details_answered: bool) -> Absence {
    let absence = world.facts.absence(&back(false), Missing::Unclear, details_answered);
    let unclear = vec![back(false).stem()];
    let error = Some(EvidenceError::PortalUnavailable);
    world.reconcile(Answer::Store(UploadOutcome {
        error,
        unclear,
        details_answered,
        ..UploadOutcome::default()
    }));
    absence
}

#[test]
fn a_third_404_of_unclear_origin_counts_after_ten_minutes_with_an_answer_between() {
    for (passes, end, reason) in [
        (&[(0, true), (300, false)][..], 300, Absence::Absent),
        (&[(0, false), (300, true)], 300, Absence::Absent),
        (&[(0, true), (60, true), (60, true)], 480, Absence::Absent),
        (&[(0, true), (300, true)], 299, Absence::NotKnown),
        (&[(0, true)], 600, Absence::NotKnown),
        (&[], 600, Absence::NotKnown),
        (&[(0, false), (300, false)], 300, Absence::NotKnown),
    ] {
        let mut world = storing();
        for (wait, details_answered) in passes {
            world.pass(*wait);
            assert_eq!(unclear(&mut world, *details_answered), Absence::NotKnown, "{passes:?}");
        }
        world.pass(end);
        let last = world.facts.absence(&back(false), Missing::Unclear, true);
        assert_eq!(last, reason, "{passes:?}, then after {end} s");
    }
}

#[test]
fn a_restart_restarts_the_ten_minutes_and_another_error_does_not() {
    for restarts in [false, true] {
        let mut world = storing();
        unclear(&mut world, true);
        world.pass(300);
        unclear(&mut world, true);
        if restarts {
            world.restart();
        } else {
            world.pass(60);
            world.reconcile(super::world::not_stored(EvidenceError::PortalUnavailable));
        }
        world.pass(300);
        let expected = if restarts { Absence::NotKnown } else { Absence::Absent };
        assert_eq!(world.facts.absence(&back(false), Missing::Unclear, true), expected);
    }
}

#[test]
fn each_image_is_counted_separately() {
    let mut world = storing();
    unclear(&mut world, true);
    world.pass(300);
    unclear(&mut world, true);
    world.pass(300);
    let other = Wanted { image_type: "cropped".to_owned(), ..back(false) };
    assert_eq!(world.facts.absence(&other, Missing::Unclear, true), Absence::NotKnown);
}

#[test]
fn an_absent_image_is_requested_once_more_half_a_minute_after_the_verdict() {
    let mut world = storing();
    let at = later(world.facts.now, Duration::from_secs(30));
    let of = |world: &World, required, details_answered| {
        world.facts.absence(&back(required), Missing::ByThePortal, details_answered)
    };
    for seconds in [0, 5, 24] {
        world.pass(seconds);
        assert_eq!(of(&world, false, true), Absence::AskAgainAt(at));
        assert!(!world.facts.needs_details(&back(false), Missing::ByThePortal));
    }
    world.pass(1);
    assert!(world.facts.needs_details(&back(false), Missing::ByThePortal));
    assert_eq!(of(&world, false, true), Absence::Absent);
    assert_eq!(of(&world, false, false), Absence::NotKnown, "a gateway may respond in JSON too");
    world.restart();
    assert_eq!(of(&world, false, true), Absence::Absent, "status says when the verdict was seen");
}

#[test]
fn a_required_image_is_missing_from_the_first_404_on() {
    let world = storing();
    assert_eq!(world.facts.absence(&back(true), Missing::ByThePortal, false), Absence::Absent);
}

#[test]
fn a_verdict_in_the_future_delays_an_image_by_at_most_half_a_minute() {
    let mut world = storing();
    world.facts.evidence.verdict_at = Some(later(world.facts.now, Duration::from_hours(9)));
    let at = later(world.facts.now, Duration::from_secs(30));
    let absence = world.facts.absence(&back(false), Missing::ByThePortal, true);
    assert_eq!(absence, Absence::AskAgainAt(at));
    world.facts.local_state.storing_since = Some(world.facts.now);
    world.pass(30);
    assert_eq!(world.facts.absence(&back(false), Missing::ByThePortal, true), Absence::Absent);
}
