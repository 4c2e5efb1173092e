//! When to poll again: each row of the schedule, its bounds and its jitter.

use std::{ops::RangeInclusive, time::Duration};

use jiff::Timestamp;
use proptest::prelude::*;

use super::world::{Answer, World, poll_failed, said};
use crate::{
    api::{Phase, ReadyWhen, VerificationStatus},
    lifecycle::{
        fixtures,
        local_state::LocalState,
        schedule::{
            Bounds, PollSchedule, Spacing, Stage, Times, backoff, next_poll, poll_schedule, spread,
            wait_after_unknown,
        },
        since::elapsed,
        state::Attempts,
    },
    portal::{
        error::{Failed, PortalError},
        wire::Details,
    },
    priority::Priority,
};

pub(super) const SEEDS: std::ops::Range<u64> = 0..2000;

/// An open session without an end, with this report.
pub(super) fn seen(phase: Phase, modules: &[(&str, &str)]) -> VerificationStatus {
    let mut status = fixtures::open(phase);
    status.expires_at = None;
    status.progress = modules.iter().map(|(name, state)| ((*name).to_owned(), (*state).to_owned())).collect();
    status
}

/// This instant, by clocks that agree.
fn at(now: Timestamp) -> Times {
    Times { now, portal_now: Some(now) }
}

/// Local state after an answer that named modules.
fn answered() -> LocalState {
    LocalState { last_answer: Some(fixtures::now()), names_modules: true, ..LocalState::default() }
}

/// Local state after a change this many seconds before `now`.
fn changed(now: Timestamp, seconds: u64) -> LocalState {
    let changed_at = now - jiff::SignedDuration::try_from(Duration::from_secs(seconds)).unwrap();
    LocalState { changed_at: Some(changed_at), ..answered() }
}

/// The shortest and the longest wait over many seeds.
fn waits(
    status: &VerificationStatus,
    local_state: &LocalState,
    bounds: Bounds,
    age: u64,
) -> (Duration, Duration) {
    let now = fixtures::after(age);
    let poll_schedule = poll_schedule(status, local_state, bounds, at(now));
    let wait = |jitter_seed| elapsed(now, next_poll(&poll_schedule, now, Spacing::unstretched(jitter_seed)));
    (SEEDS.map(wait).min().unwrap(), SEEDS.map(wait).max().unwrap())
}

/// Asserts that the wait is this many seconds ± 10 %, and that the whole range is used.
#[track_caller]
fn assert_about(seconds: f64, (shortest, longest): (Duration, Duration), reason: &str) {
    let (least, most) = (shortest.as_secs_f64() / seconds, longest.as_secs_f64() / seconds);
    assert!((0.9..0.902).contains(&least), "{reason}: {shortest:?} of {seconds} s");
    assert!((1.098..1.1).contains(&most), "{reason}: {longest:?} of {seconds} s");
}

#[test]
fn a_new_session_is_polled_after_fifteen_seconds() {
    for flow in [vec![], vec!["document".to_owned()]] {
        let status = VerificationStatus { flow, ..seen(Phase::AwaitingUser, &[]) };
        let waits = waits(&status, &LocalState::default(), Bounds::default(), 0);
        assert_about(15.0, waits, "nobody finishes earlier");
    }
}

#[test]
fn while_nothing_is_completed_it_is_six_percent_of_the_age() {
    let status = seen(Phase::AwaitingUser, &[("document", "in_progress")]);
    for (age, seconds) in
        [(10, 15.0), (249, 15.0), (600, 36.0), (4000, 240.0), (5000, 300.0), (90_000, 300.0)]
    {
        assert_about(seconds, waits(&status, &answered(), Bounds::default(), age), "idle");
    }
}

#[test]
fn modules_that_nobody_has_started_count_as_modules() {
    let pending = Answer::Poll(Ok(Details {
        progress: [("document".to_owned(), "pending".to_owned())].into(),
        ..fixtures::details("generated", &[])
    }));
    let mut world = World::open(ReadyWhen::Verified);
    world.pass(540);
    world.reconcile(pending);
    let poll_schedule =
        poll_schedule(&world.status, &world.facts.local_state, Bounds::default(), world.facts.times());
    assert_eq!((poll_schedule.stage, world.status.progress.len()), (Stage::Idle, 0));
    let wait = elapsed(world.facts.now, world.facts.local_state.next.unwrap()).as_secs_f64();
    assert!((32.0..40.0).contains(&wait), "6 % of ten minutes, not {wait} s");
}

#[test]
fn a_portal_that_names_no_modules_is_polled_twice_as_often() {
    let status = seen(Phase::AwaitingUser, &[]);
    let local_state = LocalState { names_modules: false, ..answered() };
    for (age, seconds) in [(10, 5.0), (400, 10.0), (12_000, 300.0), (90_000, 300.0)] {
        assert_about(seconds, waits(&status, &local_state, Bounds::default(), age), "unclear");
    }
}

#[test]
fn while_the_person_is_active_it_is_six_percent_of_the_time_since() {
    let status = seen(Phase::InProgress, &[("document", "completed"), ("liveness", "pending")]);
    for (since, seconds) in [(0, 5.0), (83, 5.0), (200, 12.0), (4000, 240.0), (9000, 300.0)] {
        let local_state = changed(fixtures::after(10_000), since);
        assert_about(seconds, waits(&status, &local_state, Bounds::default(), 10_000), "active");
    }
}

#[test]
fn a_new_stamp_counts_as_activity_if_no_module_is_named() {
    let mut world = World::open(ReadyWhen::Verified);
    world.pass(6000);
    let stamped = |seconds| Details {
        updated_at: Some(fixtures::after(seconds)),
        ..fixtures::details("generated", &[])
    };
    let stage = |world: &World| {
        poll_schedule(&world.status, &world.facts.local_state, Bounds::default(), world.facts.times()).stage
    };
    world.reconcile(Answer::Poll(Ok(stamped(1))));
    assert_eq!(stage(&world), Stage::Unclear);
    world.reconcile_when_due(Answer::Poll(Ok(stamped(2))));
    assert_eq!(stage(&world), Stage::Active);
    assert_eq!(world.facts.local_state.changed_at, Some(world.facts.now));
}

#[test]
fn when_the_person_has_finished_it_is_ten_percent_of_the_time_since() {
    for modules in [
        &[("document", "completed"), ("liveness", "completed")][..],
        &[("document", "completed"), ("liveness", "failed")],
        &[("document", "skipped"), ("liveness", "completed"), ("terms", "pending")],
    ] {
        let status = seen(Phase::InProgress, modules);
        for (since, seconds) in [(0, 2.0), (19, 2.0), (100, 10.0), (600, 60.0), (9000, 60.0)] {
            let local_state = changed(fixtures::after(10_000), since);
            assert_about(seconds, waits(&status, &local_state, Bounds::default(), 10_000), "finishing");
        }
    }
    let stage = |phase, modules: &[(&str, &str)]| {
        let now = fixtures::after(100);
        poll_schedule(&seen(phase, modules), &answered(), Bounds::default(), at(now)).stage
    };
    assert_eq!(stage(Phase::Processing, &[("document", "completed")]), Stage::Finishing);
    assert_eq!(stage(Phase::InProgress, &[("document", "completed")]), Stage::Active, "liveness is missing");
    let more = [("document", "completed"), ("liveness", "completed"), ("form_data", "pending")];
    assert_eq!(stage(Phase::InProgress, &more), Stage::Active, "a module that the flow does not name");
}

#[test]
fn a_review_is_polled_seldom() {
    let status = seen(Phase::InReview, &[("document", "completed"), ("liveness", "completed")]);
    for (since, seconds) in [(0, 60.0), (1000, 60.0), (4000, 200.0), (18_000, 900.0), (90_000, 900.0)] {
        let local_state = changed(fixtures::after(100_000), since);
        assert_about(seconds, waits(&status, &local_state, Bounds::default(), 100_000), "review");
    }
}

#[test]
fn the_stage_decides_the_priority() {
    let order =
        [Priority::Create, Priority::Requested, Priority::Finishing, Priority::Active, Priority::Idle];
    assert!(order.is_sorted());
    for (stage, priority) in [
        (Stage::Finishing, Priority::Finishing),
        (Stage::Active, Priority::Active),
        (Stage::Idle, Priority::Idle),
        (Stage::InReview, Priority::Idle),
        (Stage::Unclear, Priority::Idle),
    ] {
        assert_eq!(stage.priority(), priority, "{stage:?}");
    }
}

fn schedule_at(stage: Stage, expires_at: Option<Timestamp>, bounds: Bounds) -> PollSchedule {
    PollSchedule { created_at: fixtures::now(), changed_at: fixtures::now(), stage, expires_at, bounds }
}

#[test]
fn the_end_is_polled_once_just_after_it_and_once_an_hour_later() {
    let end = fixtures::after(6000);
    let poll_schedule = schedule_at(Stage::Idle, Some(end), Bounds::default());
    for jitter_seed in SEEDS {
        let just_before = fixtures::after(5995);
        let at = next_poll(&poll_schedule, just_before, Spacing::unstretched(jitter_seed));
        let after = at.duration_since(end).as_secs_f64();
        assert!((1.0..=11.0).contains(&after), "{after}");
        // Then it follows the regular schedule until the hour is over.
        let regular = elapsed(at, next_poll(&poll_schedule, at, Spacing::unstretched(jitter_seed))).as_secs();
        assert!((269..=331).contains(&regular), "{regular}");
        let before_the_hour = fixtures::after(9590);
        let after = next_poll(&poll_schedule, before_the_hour, Spacing::unstretched(jitter_seed))
            .duration_since(end)
            .as_secs_f64();
        assert!((3601.0..=3611.0).contains(&after), "{after}");
    }
    let spread_out: std::collections::BTreeSet<i64> = SEEDS
        .map(|jitter_seed| {
            next_poll(&poll_schedule, fixtures::after(5995), Spacing::unstretched(jitter_seed))
                .duration_since(end)
                .as_secs()
        })
        .collect();
    assert_eq!(spread_out.len(), 10, "those that end together are not looked at together");
}

#[test]
fn the_resource_bounds_its_own_schedule() {
    let seconds = Duration::from_secs;
    let bounds = |min: Option<u64>, max: Option<u64>| Bounds { min: min.map(seconds), max: max.map(seconds) };
    let idle = seen(Phase::AwaitingUser, &[("document", "pending")]);
    for (bound, expected) in [
        (bounds(Some(60), None), 60..=60),
        (bounds(None, Some(10)), 10..=10),
        (bounds(Some(20), Some(40)), 32..=40),
        (bounds(Some(3600), Some(3600)), 3600..=3600),
    ] {
        let (shortest, longest) = waits(&idle, &answered(), bound, 600);
        let expected: RangeInclusive<Duration> = seconds(*expected.start())..=seconds(*expected.end());
        assert!(expected.contains(&shortest) && expected.contains(&longest), "{bound:?}: {shortest:?}");
    }
}

#[test]
fn the_lower_bound_holds_also_after_errors() {
    let min = Duration::from_mins(20);
    for answer in [
        said("generated", &[]),
        poll_failed(PortalError::NotFound),
        poll_failed(PortalError::KeyRejected),
        poll_failed(PortalError::AccessDenied),
        poll_failed(PortalError::Limited { retry_after: None }),
        poll_failed(PortalError::Failed(Failed::Cut)),
    ] {
        let mut world = World::open(ReadyWhen::Verified);
        world.status.expires_at = None;
        world.facts.bounds = Bounds { min: Some(min), max: None };
        for _ in 0..5 {
            world.reconcile_when_due(answer.clone());
            let wait = elapsed(world.facts.now, world.facts.local_state.next.unwrap());
            assert!(wait >= min, "{answer:?}: {wait:?}");
        }
    }
}

#[test]
fn bounds_are_those_of_the_spec() {
    let mut spec = fixtures::spec();
    assert_eq!(Bounds::of(&spec), Bounds::default());
    spec.polling = Some(crate::api::Polling {
        min_interval: Some(crate::api::Duration::from_secs(5)),
        max_interval: Some(crate::api::Duration::from_secs(300)),
    });
    let expected = Bounds { min: Some(Duration::from_secs(5)), max: Some(Duration::from_mins(5)) };
    assert_eq!(Bounds::of(&spec), expected);
}

#[test]
fn more_demand_than_budget_stretches_every_interval() {
    let now = fixtures::after(600);
    for stage in [Stage::Idle, Stage::Active, Stage::Finishing, Stage::InReview, Stage::Unclear] {
        let poll_schedule = schedule_at(stage, None, Bounds::default());
        let wait = |stretch| {
            elapsed(now, next_poll(&poll_schedule, now, Spacing { stretch, ..Spacing::unstretched(7) }))
                .as_secs_f64()
        };
        let once = wait(1.0);
        assert!((wait(4.0) / once - 4.0).abs() < 1e-6, "{stage:?}");
        for unusable in [0.0, 0.5, -3.0] {
            assert!((wait(unusable) - once).abs() < 1e-6, "{stage:?}: never more often");
        }
        assert!((wait(1e9) - 3600.0).abs() < 1e-6, "{stage:?}: never later than an hour");
    }
}

fn stages() -> impl Strategy<Value = Stage> {
    prop_oneof![
        Just(Stage::Idle),
        Just(Stage::Active),
        Just(Stage::Finishing),
        Just(Stage::InReview),
        Just(Stage::Unclear),
    ]
}

fn bounds() -> impl Strategy<Value = Bounds> {
    let seconds = || proptest::option::of((1_u64..=3600).prop_map(Duration::from_secs));
    (seconds(), seconds()).prop_map(|(one, other)| match (one, other) {
        (Some(one), Some(other)) => Bounds { min: Some(one.min(other)), max: Some(one.max(other)) },
        (min, max) => Bounds { min, max },
    })
}

proptest! {
    #[test]
    fn the_next_poll_is_within_its_bounds_whatever_the_session(
        (stage, bounds) in (stages(), bounds()),
        (age, since) in (0_u64..10_000_000, 0_u64..10_000_000),
        end in proptest::option::of(0_u64..20_000_000),
        (jitter_seed, stretch) in (any::<u64>(), 0.0_f64..1e9),
    ) {
        let now = fixtures::after(age);
        let poll_schedule = PollSchedule {
            created_at: fixtures::now(),
            changed_at: fixtures::after(age.saturating_sub(since)),
            stage,
            expires_at: end.map(fixtures::after),
            bounds,
        };
        let at = next_poll(&poll_schedule, now, Spacing { stretch, ..Spacing::unstretched(jitter_seed) });
        prop_assert!(at > now && elapsed(now, at) <= Duration::from_hours(1));
        let unstretched = PollSchedule { expires_at: None, ..poll_schedule };
        let wait = elapsed(now, next_poll(&unstretched, now, Spacing::unstretched(jitter_seed)));
        prop_assert!(bounds.min.is_none_or(|min| wait >= min), "{wait:?}");
        prop_assert!(bounds.max.is_none_or(|max| wait <= max), "{wait:?}");
        let first = spread(&poll_schedule, now, Spacing { stretch, ..Spacing::unstretched(jitter_seed) });
        prop_assert!(first >= now && elapsed(now, first) <= Duration::from_hours(1));
    }

    #[test]
    fn a_backoff_stays_between_its_minimum_and_the_doubled_wait(
        least in 1_u64..=300,
        more in 0_u64..=3600,
        failures in prop_oneof![0_u32..12, any::<u32>()],
        jitter_seed: u64,
    ) {
        let (least, most) = (Duration::from_secs(least), Duration::from_secs(least + more));
        let wait = backoff(least, most, failures, jitter_seed);
        let doubled = least.saturating_mul(2_u32.saturating_pow(failures.min(20)));
        prop_assert!(wait >= least && wait <= most.min(doubled), "{wait:?}");
    }
}

#[test]
fn a_backoff_spreads_those_that_failed_together() {
    let (least, range) = (Duration::from_secs(2), Duration::from_secs(118));
    let waits: Vec<Duration> =
        SEEDS.map(|jitter_seed| backoff(least, least + range, 9, jitter_seed)).collect();
    for tenth in 0..10_u32 {
        let from = least + range * tenth / 10;
        let to = least + range * (tenth + 1) / 10;
        let here = waits.iter().filter(|wait| **wait >= from && **wait < to).count();
        assert!((120..280).contains(&here), "{here} of 2000 between {from:?} and {to:?}");
    }
}

#[test]
fn an_unknown_outcome_is_tried_again_after_a_minute_ten_minutes_and_an_hour() {
    let after =
        |orphans, acknowledged| wait_after_unknown(Attempts { attempt: 9, orphans, acknowledged }).as_secs();
    assert_eq!([after(1, 0), after(2, 0), after(3, 0)], [60, 600, 3600]);
    assert_eq!([after(4, 3), after(5, 3)], [60, 600], "what is acknowledged does not count");
}
