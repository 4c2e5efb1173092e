//! When to poll again where notifications announce what a poll would find.

use std::time::Duration;

use crate::lifecycle::{
    fixtures,
    schedule::{Announced, Bounds, PollSchedule, Spacing, Stage, next_poll},
    since::elapsed,
};

#[test]
fn announced_verdicts_lengthen_every_interval_and_announced_progress_the_earlier_ones_more() {
    let now = fixtures::after(1000);
    let wait = |stage, announced| {
        let poll_schedule = PollSchedule {
            created_at: fixtures::now(),
            changed_at: fixtures::now(),
            stage,
            expires_at: None,
            bounds: Bounds::default(),
        };
        let spacing = Spacing { announced, ..Spacing::unstretched(7) };
        elapsed(now, next_poll(&poll_schedule, now, spacing))
    };
    for (stage, factor) in [
        (Stage::Idle, 8.0),
        (Stage::Unclear, 8.0),
        (Stage::Active, 8.0),
        (Stage::Finishing, 1.8),
        (Stage::InReview, 1.8),
    ] {
        let usual = wait(stage, Announced::Nothing);
        let is_times =
            |announced, factor: f64| (wait(stage, announced).div_duration_f64(usual) - factor).abs() < 0.01;
        assert!(is_times(Announced::Verdicts, 1.8), "{stage:?}");
        assert!(is_times(Announced::Progress, factor), "{stage:?}");
    }
}

#[test]
fn announced_progress_keeps_to_the_bounds_of_the_resource_and_to_the_end_of_the_session() {
    let now = fixtures::after(100);
    let poll_schedule = PollSchedule {
        created_at: fixtures::now(),
        changed_at: fixtures::now(),
        stage: Stage::Idle,
        expires_at: Some(fixtures::after(130)),
        bounds: Bounds { min: None, max: Some(Duration::from_secs(20)) },
    };
    let spacing = Spacing { announced: Announced::Progress, ..Spacing::unstretched(7) };
    assert_eq!(elapsed(now, next_poll(&poll_schedule, now, spacing)), Duration::from_secs(20));
    let unbounded = PollSchedule { bounds: Bounds::default(), ..poll_schedule };
    let at_the_end = elapsed(now, next_poll(&unbounded, now, spacing));
    assert!((31..=41).contains(&at_the_end.as_secs()), "{at_the_end:?}");
}
