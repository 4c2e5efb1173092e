//! When to poll again where notifications announce what a poll would find.

use std::time::Duration;

use jiff::Timestamp;

use crate::lifecycle::{
    fixtures,
    schedule::{Announced, Bounds, PollSchedule, Spacing, Stage, deferred_poll, next_poll},
    since::{elapsed, later},
};

const STAGES: [Stage; 5] = [Stage::Idle, Stage::Unclear, Stage::Active, Stage::Finishing, Stage::InReview];

/// Where progress is announced.
const PROGRESS: Spacing = Spacing { announced: Announced::Progress, ..Spacing::unstretched(7) };

fn open(stage: Stage) -> PollSchedule {
    let begun = fixtures::now();
    PollSchedule { created_at: begun, changed_at: begun, stage, expires_at: None, bounds: Bounds::default() }
}

#[test]
fn announced_verdicts_lengthen_every_interval_and_announced_progress_defers_the_earlier_polls() {
    let now = fixtures::after(1000);
    for (stage, factor, deferred_by) in [
        (Stage::Idle, 1.0, Some(8.0)),
        (Stage::Unclear, 1.0, Some(8.0)),
        (Stage::Active, 1.0, Some(8.0)),
        (Stage::Finishing, 1.8, None),
        (Stage::InReview, 1.8, None),
    ] {
        let poll_schedule = open(stage);
        let usual = elapsed(now, next_poll(&poll_schedule, now, Spacing::unstretched(7)));
        let is_times = |next, factor: f64| (elapsed(now, next).div_duration_f64(usual) - factor).abs() < 0.01;
        let verdicts = Spacing { announced: Announced::Verdicts, ..PROGRESS };
        assert!(is_times(next_poll(&poll_schedule, now, verdicts), 1.8), "{stage:?}");
        assert!(is_times(next_poll(&poll_schedule, now, PROGRESS), factor), "{stage:?}");
        let deferred = |announced_at| deferred_poll(&poll_schedule, now, announced_at, PROGRESS);
        assert_eq!(deferred(now), None, "{stage:?}: no notification has arrived since");
        match (deferred(later(now, usual * 9)), deferred_by) {
            (Some(next), Some(factor)) => assert!(is_times(next, factor), "{stage:?}"),
            (next, factor) => assert_eq!((next, factor), (None, None), "{stage:?}"),
        }
    }
}

#[test]
fn a_deferred_poll_keeps_to_the_bounds_of_the_resource_and_to_the_end_of_the_session() {
    let now = fixtures::after(100);
    let poll_schedule = PollSchedule {
        expires_at: Some(fixtures::after(130)),
        bounds: Bounds { min: None, max: Some(Duration::from_secs(20)) },
        ..open(Stage::Idle)
    };
    let wait = |poll_schedule| {
        elapsed(now, deferred_poll(poll_schedule, now, fixtures::after(129), PROGRESS).unwrap())
    };
    assert_eq!(wait(&poll_schedule), Duration::from_secs(20));
    let unbounded = PollSchedule { bounds: Bounds::default(), ..poll_schedule };
    let at_the_end = wait(&unbounded);
    assert!((31..=41).contains(&at_the_end.as_secs()), "{at_the_end:?}");
}

/// The polls of a session, if notifications about others arrive this often until they are all lost.
fn polls(stage: Stage, every: Duration, lost_from: Timestamp) -> impl Iterator<Item = Timestamp> {
    let (poll_schedule, begun) = (open(stage), fixtures::now());
    let mut polled = begun;
    let last_before = move |now: Timestamp| {
        let arrived = elapsed(begun, now.min(lost_from)).as_secs() / every.as_secs();
        later(begun, every * u32::try_from(arrived).unwrap())
    };
    std::iter::from_fn(move || {
        let mut planned = next_poll(&poll_schedule, polled, PROGRESS);
        loop {
            let deferred = deferred_poll(&poll_schedule, polled, last_before(planned), PROGRESS);
            let Some(later) = deferred.filter(|deferred| *deferred > planned) else {
                polled = planned;
                return Some(planned);
            };
            planned = later;
        }
    })
}

#[test]
fn when_all_notifications_are_lost_a_poll_follows_within_twice_the_usual_interval() {
    for stage in STAGES {
        for every in [1, 20, 400].map(Duration::from_secs) {
            for seconds in (1..7200).step_by(61) {
                let lost_from = fixtures::after(seconds);
                let next = polls(stage, every, lost_from).find(|at| *at >= lost_from).unwrap();
                let usual = elapsed(lost_from, next_poll(&open(stage), lost_from, Spacing::unstretched(7)));
                let wait = elapsed(lost_from, next);
                assert!(
                    wait < usual * 2,
                    "{stage:?}, every {every:?}, after {seconds} s: {wait:?}, {usual:?}"
                );
            }
        }
    }
}

#[test]
fn while_notifications_arrive_few_polls_are_sent_before_the_last_module() {
    let end = fixtures::after(7200);
    let count =
        |stage, every| polls(stage, Duration::from_secs(every), end).take_while(|at| *at < end).count();
    for stage in [Stage::Idle, Stage::Unclear, Stage::Active] {
        let (many, none) = (count(stage, 1), count(stage, 10_000));
        assert!(many * 3 < none, "{stage:?}: {many} in place of {none}");
    }
    assert_eq!(count(Stage::Finishing, 1), count(Stage::Finishing, 10_000));
}
