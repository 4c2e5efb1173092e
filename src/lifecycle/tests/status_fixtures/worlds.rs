//! Worlds in which something has happened, from which the rows begin.

use std::time::Duration;

use crate::{
    api::{DeletionPolicy, ReadyWhen},
    lifecycle::{
        cleanup::CleanupFacts,
        evidence_error::EvidenceError,
        fixtures,
        since::later,
        step::Refusal,
        tests::world::{Answer, World, created, not_stored, poll_failed, said},
    },
    portal::error::{Failed, PortalError},
};

pub(in crate::lifecycle::tests) const LOST: PortalError = PortalError::Failed(Failed::TimedOut);
pub(in crate::lifecycle::tests) const GENERATION: i64 = 3;

pub(in crate::lifecycle::tests) fn fresh(ready_when: ReadyWhen) -> World {
    let mut world = World::fresh(ready_when);
    world.facts.generation = GENERATION;
    world
}

pub(in crate::lifecycle::tests) fn open(ready_when: ReadyWhen) -> World {
    let mut session = fresh(ready_when);
    session.reconcile(created());
    session.pass(60);
    session
}

pub(super) fn wait(mut world: World) -> World {
    world.reconcile(Answer::Uncalled);
    world
}

pub(super) fn say(word: &str, completed: &[&str], ready_when: ReadyWhen) -> World {
    let mut session = open(ready_when);
    session.reconcile(said(word, completed));
    session
}

/// The same answer for a quarter of an hour.
pub(in crate::lifecycle::tests) fn for_long(mut world: World, answer: &Answer) -> World {
    let end = later(world.facts.now, Duration::from_mins(15));
    while world.facts.now < end {
        world.reconcile_when_due(answer.clone());
        world.pass(30);
    }
    world.reconcile_when_due(answer.clone());
    world
}

pub(in crate::lifecycle::tests) fn not_found(mut world: World) -> World {
    for _ in 0..3 {
        world.reconcile_when_due(poll_failed(PortalError::NotFound));
    }
    world
}

pub(super) fn paused(mut world: World) -> World {
    world.refusal = Some(Refusal::Paused(later(world.facts.now, Duration::from_mins(5))));
    world.reconcile(Answer::Uncalled);
    world.pass(60);
    wait(world)
}

/// Verified, with evidence requested.
pub(super) fn storing(ready_when: ReadyWhen) -> World {
    let mut world = fresh(ready_when);
    world.facts.evidence.spec = Some(fixtures::evidence_spec(DeletionPolicy::Retain));
    world.reconcile(created());
    world.pass(60);
    world.reconcile(said("verified", &["document", "liveness"]));
    world
}

/// Verified, and to be deleted at once.
pub(super) fn with_ttl(ready_when: ReadyWhen, managed_by_git_ops: bool) -> World {
    let mut world = fresh(ready_when);
    world.facts.cleanup = Some(CleanupFacts { ttl: Duration::ZERO, managed_by_git_ops });
    world.reconcile(created());
    world.pass(60);
    world.reconcile(said("verified", &[]));
    world
}

pub(super) fn for_a_minute(mut world: World, error: EvidenceError) -> World {
    world.pass(60);
    store(world, not_stored(error))
}

pub(super) fn store(mut world: World, answer: Answer) -> World {
    world.reconcile(answer);
    world
}
