//! What the bounds of `spec.polling` apply to.

use std::time::Duration;

use serde_json::Value;

use super::{
    schedule::SEEDS,
    world::{Answer, ERRORS, World, calls, poll_failed, said},
};
use crate::{
    api::{ReadyWhen, definition},
    lifecycle::{
        conclude::Requeue,
        facts::{Due, PollRequest, PortalFact},
        first_reconcile::first_reconcile,
        fixtures::{self, UID},
        key_fact::{KeyFact, KeyFault},
        local_state::LocalState,
        poll_baseline::{CompactState, PollBaseline},
        schedule::Bounds,
        since::{Since, elapsed, later},
        state::ParsedStatus,
        step::{Refusal, Step},
    },
    portal::error::{Failed, PortalError},
};

const MIN: Duration = Duration::from_secs(40);
const MAX: Duration = Duration::from_mins(1);

/// An event, by name.
type Named = (&'static str, fn(&mut World));

/// What a poll said, by name.
type Said = (&'static str, fn(&mut LocalState, Since<()>));

/// A session that was just polled, with narrow bounds.
fn polled(bounds: Bounds) -> World {
    let mut world = World::open(ReadyWhen::Verified);
    world.status.expires_at = None;
    world.facts.bounds = bounds;
    world.reconcile(said("generated", &[]));
    world
}

fn at_least() -> Bounds {
    Bounds { min: Some(MIN), max: None }
}

fn at_most() -> Bounds {
    Bounds { min: None, max: Some(MAX) }
}

/// The time until the next poll if only time passes.
fn wait_for_a_poll(world: &mut World) -> Duration {
    let begun = world.facts.now;
    loop {
        if calls(&world.decide()) {
            return elapsed(begun, world.facts.now);
        }
        let wake = world.reconcile(Answer::Uncalled).conclusion.next;
        world.pass(1);
        if let Requeue::At(at) = wake {
            world.facts.now = world.facts.now.max(at);
        }
    }
}

#[test]
fn the_lower_bound_holds_whatever_brings_a_poll_forward() {
    let hastens: [Named; 6] = [
        ("a request", |world| world.facts.reconcile_requested = Some("now".to_owned())),
        ("the deadline", |world| world.deadline = later(world.facts.now, Duration::from_secs(1))),
        ("the end of the session", |world| world.status.expires_at = Some(world.facts.now)),
        ("a key that is there again", |world| {
            let key = world.facts.key.clone();
            world.facts.key = KeyFact::Missing(KeyFault::SecretNotFound);
            world.reconcile(Answer::Uncalled);
            world.facts.key = key;
        }),
        ("an edit of the spec", |world| world.facts.generation += 1),
        ("a retry that a person asks for", |world| {
            world.facts.retry = Some("go".to_owned());
            world.reconcile(Answer::Uncalled);
            world.facts.retry = None;
        }),
    ];
    for (name, hasten) in hastens {
        let mut world = polled(at_least());
        hasten(&mut world);
        assert!(wait_for_a_poll(&mut world) >= MIN, "{name}");
    }
    let mut refused = polled(at_least());
    refused.pass(40);
    refused.reconcile(poll_failed(PortalError::AccessDenied));
    refused.facts.key = KeyFact::Usable { fingerprint: "8899aabbccddeeff".to_owned() };
    assert_eq!(wait_for_a_poll(&mut refused), MIN, "a new key is tried as soon as the bound allows");
    let mut moving = polled(at_least());
    moving.pass(40);
    moving.reconcile(said("in_progress", &["document"]));
    assert!(wait_for_a_poll(&mut moving) >= MIN, "a change that is shown later");
}

#[test]
fn the_lower_bound_holds_around_the_end_of_a_session() {
    for jitter_seed in SEEDS {
        let mut world = polled(at_least());
        world.facts.jitter_seed = jitter_seed;
        world.pass(40);
        world.status.expires_at = Some(later(world.facts.now, Duration::from_secs(5)));
        world.reconcile(said("generated", &[]));
        assert!(wait_for_a_poll(&mut world) >= MIN, "{jitter_seed}");
    }
}

#[test]
fn the_lower_bound_holds_across_a_restart() {
    for jitter_seed in SEEDS {
        let mut spec = fixtures::spec();
        spec.polling = Some(crate::api::Polling {
            min_interval: Some(crate::api::Duration::from_secs(40)),
            max_interval: Some(crate::api::Duration::from_secs(60)),
        });
        let world = polled(Bounds::of(&spec));
        let generation = world.status.observed_generation;
        for (generation, name) in [(generation, "as it was"), (Some(9), "edited")] {
            let first = first_reconcile(
                &ParsedStatus::of(UID, &world.status),
                &spec,
                generation,
                jitter_seed,
                world.facts.now,
            );
            let mut world = world.clone();
            world.restart();
            (world.facts.local_state.next, world.facts.local_state.last_poll) = (first.due, first.last_poll);
            let wait = wait_for_a_poll(&mut world);
            assert!((MIN..=MAX).contains(&wait), "{name}: {wait:?}");
        }
    }
}

#[test]
fn the_upper_bound_holds_after_every_error_but_a_pause() {
    for error in ERRORS {
        for mut world in [polled(at_most()), adopting(at_most())] {
            for _ in 0..12 {
                let wait = wait_for_a_poll(&mut world);
                assert!(wait <= MAX || matches!(error, PortalError::Limited { .. }), "{error:?}: {wait:?}");
                world.reconcile(poll_failed(error));
            }
        }
    }
}

#[test]
fn the_lower_bound_holds_after_every_error() {
    for error in ERRORS {
        for mut world in [polled(at_least()), adopting(at_least())] {
            let first = world.decide();
            if calls(&first) {
                world.reconcile(poll_failed(error));
            }
            for _ in 0..5 {
                assert!(wait_for_a_poll(&mut world) >= MIN, "{error:?}");
                world.reconcile(poll_failed(error));
            }
        }
    }
}

fn adopting(bounds: Bounds) -> World {
    let mut world = World::fresh(ReadyWhen::Verified);
    world.facts.adopt = fixtures::id();
    world.facts.bounds = bounds;
    world
}

/// What may delay a poll beyond the upper bound, as the field's description words it.
fn exceptions() -> [(&'static str, Vec<Hinder>); 5] {
    [
        (
            "a pause that the portal requested",
            vec![|world| world.refusal = Some(Refusal::Paused(far(world)))],
        ),
        ("an open circuit breaker", vec![|world| world.refusal = Some(Refusal::Breaker(far(world)))]),
        (
            "a missing or rejected key",
            vec![|world| world.facts.key = KeyFact::Missing(KeyFault::KeyEmpty), |world| {
                world.refusal = Some(Refusal::KeyRejected(far(world)));
            }],
        ),
        ("a portal that is not allowed", vec![|world| world.facts.portal = PortalFact::NotAllowed]),
        ("an exhausted request budget", vec![|world| world.refusal = Some(Refusal::Rate(far(world)))]),
    ]
}

type Hinder = fn(&mut World);

fn far(world: &World) -> jiff::Timestamp {
    later(world.facts.now, Duration::from_hours(9))
}

#[test]
fn the_upper_bound_holds_except_for_what_its_description_names() {
    let names = exceptions().map(|(name, _)| name);
    let (last, others) = names.split_last().unwrap();
    let expected = format!(
        "Never wait longer than this between two polls. Polls can still be delayed by {}, or {last}. From 1s to 1h.",
        others.join(", ")
    );
    let schema = serde_json::to_value(definition()).unwrap();
    let field = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/polling/properties/maxInterval/description";
    let described = schema.pointer(field).and_then(Value::as_str).unwrap_or_default();
    assert_eq!(described.split_whitespace().collect::<Vec<_>>().join(" "), expected);

    let hinders = exceptions()
        .into_iter()
        .flat_map(|(name, hinders)| hinders.into_iter().map(move |hinder| (name, hinder)));
    for (name, hinder) in hinders {
        let mut world = polled(at_most());
        hinder(&mut world);
        world.pass(MAX.as_secs() + 1);
        assert!(!calls(&world.decide()), "{name} prevents the poll");
    }
    let mut used_up = polled(at_most());
    used_up.facts.stretch = 50.0;
    used_up.pass(60);
    used_up.reconcile(said("generated", &[]));
    assert!(wait_for_a_poll(&mut used_up) > MAX, "demand beyond the budget stretches every interval");

    // Nothing else does.
    let mut plain = polled(at_most());
    for answer in [said("generated", &[]), said("junk", &[]), poll_failed(PortalError::Failed(Failed::Cut))] {
        assert!(wait_for_a_poll(&mut plain) <= MAX);
        let reconcile = plain.reconcile(answer);
        assert!(matches!(reconcile.step, Step::Poll(_)));
    }
}

#[test]
fn a_notification_makes_a_poll_due_at_once_but_not_before_the_least_interval_has_passed() {
    let now = fixtures::after(100);
    let key = fixtures::facts().key;
    let local_state = LocalState {
        next: Some(fixtures::after(400)),
        last_answer: Some(fixtures::after(99)),
        last_poll: Some(fixtures::after(99)),
        ..LocalState::default()
    };
    let due = |request, min: Option<u64>| {
        let bounds = Bounds { min: min.map(Duration::from_secs), max: None };
        Due::of(now, request, &key, &local_state, bounds)
    };
    assert_eq!(due(PollRequest::None, None), Due::At(fixtures::after(400)));
    assert_eq!(due(PollRequest::Notification, None), Due::Now);
    assert_eq!(due(PollRequest::Notification, Some(60)), Due::At(fixtures::after(159)));
    // As it is kept between two polls of the same second.
    let local_state = LocalState { last_poll: Some(fixtures::after(101)), ..local_state };
    let due = Due::of(now, PollRequest::Notification, &key, &local_state, Bounds::default());
    assert_eq!(due, Due::Now, "what the first poll showed must not be all");
}

#[test]
fn a_notification_brings_no_poll_forward_that_confirms_what_the_last_one_said() {
    let now = fixtures::after(100);
    let planned = fixtures::after(400);
    let key = fixtures::facts().key;
    let once = Since::one_more(None, (), now);
    let said: [Said; 4] = [
        ("404", |state, once| state.not_found = Some(once)),
        ("older than before", |state, once| state.outdated = Some(once)),
        ("expired, and older than before", |state, _| state.expired_before = true),
        ("403", |state, _| state.refused_key = Some("0011223344556677".to_owned())),
    ];
    for (name, say) in said {
        let mut local_state =
            LocalState { next: Some(planned), last_poll: Some(now), ..LocalState::default() };
        let due =
            |state: &LocalState| Due::of(now, PollRequest::Notification, &key, state, Bounds::default());
        assert_eq!(due(&local_state), Due::Now);
        say(&mut local_state, once);
        assert_eq!(due(&local_state), Due::At(planned), "{name}");
    }
}

#[test]
fn without_a_read_a_notification_is_held_back_by_the_least_interval_too() {
    let held_until = |bounds| {
        let polled = polled(bounds);
        let facts = &polled.facts;
        let deadline = fixtures::after(1_000_000);
        let baseline =
            PollBaseline::of(&polled.status, &facts.local_state, bounds, deadline, facts.times()).unwrap();
        let held = baseline.held_until(&CompactState::of(&facts.local_state).unwrap(), facts.now);
        held.map(|until| elapsed(facts.now, until))
    };
    assert_eq!(held_until(Bounds::default()), None);
    // The last poll may have been at the end of its second.
    let held = held_until(Bounds { min: Some(MIN), max: None }).unwrap();
    assert!((MIN..=MIN + Duration::from_secs(1)).contains(&held), "{held:?}");
}
