//! Reconciler under a paused clock.

use std::{
    collections::{BTreeMap, HashMap},
    sync::atomic::{AtomicUsize, Ordering},
};

use tokio::{task::JoinHandle, time::sleep};

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const KEY: FairnessKey = FairnessKey { namespace: 0, key: 0 };

fn record_id(index: u32) -> RecordId {
    RecordId { index, tag: 0 }
}

/// Each is in a namespace of its own.
fn alone(index: u32) -> FairnessKey {
    FairnessKey { namespace: index, key: 0 }
}

fn slots(slots: usize) -> WorkQueue {
    WorkQueue::new(WorkQueueSettings { slots, ..WorkQueueSettings::default() })
}

/// A plan that is run, and the turns that were taken: whose, and when it began.
struct Running {
    begin: Instant,
    reconciler: Arc<Mutex<Vec<(u32, Duration, DueReconcile)>>>,
    panics: Arc<Mutex<Vec<RecordId>>>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    /// Runs a plan. A turn is noted, takes as long as `length` says, and is followed by what
    /// `next` says.
    fn start(
        due: &WorkQueue,
        length: impl Fn(u32) -> Duration + Send + Sync + 'static,
        next: impl Fn(u32) -> Disposition + Send + Sync + 'static,
    ) -> Self {
        let begin = Instant::now();
        let reconciler: Arc<Mutex<Vec<_>>> = Arc::default();
        let panics: Arc<Mutex<Vec<_>>> = Arc::default();
        let shutdown = CancellationToken::new();
        let (noted, next) = (Arc::clone(&reconciler), Arc::new(next));
        let turn = move |turn: DueReconcile| {
            let index = turn.record_id.index;
            noted.lock().push((index, begin.elapsed(), turn));
            let (length, next) = (length(index), Arc::clone(&next));
            async move {
                sleep(length).await;
                next(index)
            }
        };
        let (running, stop, panicked) = (due.clone(), shutdown.clone(), Arc::clone(&panics));
        let on_panic = move |record_id| panicked.lock().push(record_id);
        let task = tokio::spawn(async move { running.run(turn, on_panic, stop).await });
        Self { begin, reconciler, panics, shutdown, task }
    }

    /// Who had a turn, and in which second it began.
    fn reconciler(&self) -> Vec<(u32, u64)> {
        let reconciler = self.reconciler.lock();
        reconciler.iter().map(|(index, at, _)| (*index, at.as_secs())).collect()
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }
}

fn later(duration: Duration) -> Disposition {
    Disposition::At(Instant::now() + duration, Priority::Active, KEY)
}

#[tokio::test(start_paused = true)]
async fn each_has_its_turn_when_it_is_due_and_again_when_it_says() {
    let due = slots(4);
    let now = Instant::now();
    due.set(record_id(0), now + 5 * SECOND, Priority::Idle, FairnessKey { key: 7, ..KEY });
    due.set(record_id(1), now + 2 * SECOND, Priority::Active, KEY);
    let running = Running::start(
        &due,
        |_| Duration::ZERO,
        |index| match index {
            0 => Disposition::AwaitChange,
            _ => later(4 * SECOND),
        },
    );
    sleep(11 * SECOND).await;
    assert_eq!(running.reconciler(), [(1, 2), (0, 5), (1, 6), (1, 10)]);
    let reconciler = running.reconciler.lock().clone();
    let (_, _, first) = reconciler[1];
    assert_eq!(
        (first.record_id, first.priority, first.fairness_key),
        (record_id(0), Priority::Idle, FairnessKey { key: 7, ..KEY })
    );
    assert!(first.lateness < Duration::from_millis(2));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_planned_earlier_than_all_else_is_not_slept_over() {
    let due = slots(4);
    let running = Running::start(&due, |_| Duration::ZERO, |_| Disposition::AwaitChange);
    due.set(record_id(0), Instant::now() + 100 * SECOND, Priority::Idle, KEY);
    sleep(SECOND).await;
    due.set(record_id(1), Instant::now() + 2 * SECOND, Priority::Idle, KEY);
    sleep(SECOND).await;
    due.now(record_id(2), Priority::Nudge, KEY);
    sleep(200 * SECOND).await;
    assert_eq!(running.reconciler(), [(2, 2), (1, 3), (0, 100)]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn no_more_turns_are_under_way_than_there_are_slots() {
    let due = slots(3);
    for index in 0..10 {
        due.now(record_id(index), Priority::Active, alone(index));
    }
    let running = Running::start(&due, |_| 10 * SECOND, |_| Disposition::AwaitChange);
    sleep(SECOND).await;
    let snapshot = due.snapshot();
    assert_eq!((snapshot.in_flight, snapshot.ready, snapshot.waiting), (3, [0, 0, 0, 7, 0], 0));
    sleep(32 * SECOND).await;
    let begun: Vec<_> = running.reconciler().iter().map(|(_, second)| *second).collect();
    assert_eq!(begun, [0, 0, 0, 10, 10, 10, 20, 20, 20, 30]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn at_two_and_a_half_times_the_load_everybody_is_served_in_fair_order() {
    const OBJECTS: u32 = 2000;
    const SLOTS: u32 = 16;
    // A turn takes 2 s on average: 16 slots give 8 turns a second, and 20 a second are wanted.
    let ideal = 2 * SECOND * OBJECTS / SLOTS;
    let wanted = ideal.mul_f64(1.0 / 2.5);
    let due = slots(SLOTS as usize);
    for index in 0..OBJECTS {
        let when = Instant::now() + wanted * index / OBJECTS;
        due.set(record_id(index), when, Priority::Idle, FairnessKey { key: index % 7, ..alone(index) });
    }
    let length = |index| Duration::from_millis(1000 + u64::from(index % 5) * 500);
    let next = move |index| {
        Disposition::At(
            Instant::now() + wanted,
            Priority::Idle,
            FairnessKey { key: index % 7, ..alone(index) },
        )
    };
    let running = Running::start(&due, length, next);
    sleep(ideal * 6).await;

    let mut reconciler: HashMap<u32, Vec<Duration>> = HashMap::new();
    for (index, at, _) in running.reconciler.lock().iter() {
        reconciler.entry(*index).or_default().push(*at);
    }
    assert_eq!(reconciler.len(), OBJECTS as usize);
    let longest = reconciler
        .values()
        .flat_map(|times| {
            let ends = [running.begin.elapsed()];
            let times: Vec<_> = times.iter().copied().chain(ends).collect();
            times.windows(2).map(|pair| pair[1].abs_diff(pair[0])).collect::<Vec<_>>()
        })
        .max()
        .unwrap();
    println!("the longest gap is {longest:?}, the ideal one {ideal:?}");
    assert!(longest <= ideal.mul_f64(1.5), "{longest:?}");
    running.shutdown.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_small_lane_is_served_as_fast_as_it_asks_beside_a_flooded_one() {
    let due = slots(4);
    for index in 0..1000 {
        due.now(record_id(index), Priority::Active, FairnessKey { key: 1, ..KEY });
    }
    for index in 1000..1004 {
        due.now(record_id(index), Priority::Active, FairnessKey { key: 2, ..KEY });
    }
    let running = Running::start(
        &due,
        |_| SECOND,
        |index| {
            let fairness_key = FairnessKey { key: if index < 1000 { 1 } else { 2 }, ..KEY };
            Disposition::At(Instant::now() + 10 * SECOND, Priority::Active, fairness_key)
        },
    );
    sleep(100 * SECOND).await;
    let small = running.reconciler().iter().filter(|(index, _)| *index >= 1000).count();
    assert!(small >= 4 * 8, "{small}");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn namespaces_whose_turns_hang_leave_the_next_one_as_many_slots_as_each_holds() {
    let due = slots(12);
    let namespace = |namespace| FairnessKey { namespace, key: 0 };
    let wake = |indices: std::ops::Range<u32>, priority, fairness_key| {
        for index in indices {
            due.now(record_id(index), priority, fairness_key);
        }
    };
    let running = Running::start(&due, |_| 200 * SECOND, |_| Disposition::AwaitChange);
    for (flood, second, in_flight) in [(1, 1, 6), (2, 2, 9)] {
        wake(flood * 1000..flood * 1000 + 100, Priority::Create, namespace(flood));
        sleep(SECOND).await;
        assert_eq!(due.snapshot().in_flight, in_flight, "in second {second}");
    }
    wake(0..1, Priority::Idle, namespace(3));
    wake(1..2, Priority::Create, namespace(4));
    sleep(SECOND).await;
    let begun: BTreeMap<_, _> = running.reconciler().into_iter().filter(|(index, _)| *index < 1000).collect();
    assert_eq!(begun, BTreeMap::from([(0, 2), (1, 2)]));
    // Whoever waits goes on when those that hang have ended.
    sleep(5000 * SECOND).await;
    assert_eq!(running.reconciler().len(), 202);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn idle_ones_are_not_starved_by_creates_without_end() {
    let due = slots(2);
    for index in 0..200 {
        due.now(record_id(index), Priority::Create, alone(index));
    }
    for index in 200..210 {
        due.now(record_id(index), Priority::Idle, alone(index));
    }
    let running = Running::start(
        &due,
        |_| SECOND,
        |index| {
            let priority = if index < 200 { Priority::Create } else { Priority::Idle };
            Disposition::At(Instant::now(), priority, alone(index))
        },
    );
    sleep(100 * SECOND).await;
    let idle: std::collections::HashSet<_> =
        running.reconciler().into_iter().filter_map(|(index, _)| (index >= 200).then_some(index)).collect();
    assert_eq!(idle.len(), 10);
    running.shutdown.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_panic_harms_only_its_own_object_which_comes_again_after_five_minutes() {
    let due = slots(1);
    due.now(record_id(0), Priority::Create, KEY);
    due.now(record_id(1), Priority::Idle, KEY);
    let running = Running::start(
        &due,
        |_| SECOND,
        |index| match index {
            0 => panic!("ordered by the test"),
            _ => later(60 * SECOND),
        },
    );
    sleep(2 * SECOND).await;
    assert_eq!(*running.panics.lock(), [record_id(0)]);
    due.now(record_id(0), Priority::Nudge, KEY);
    sleep(310 * SECOND).await;
    let reconciler = running.reconciler();
    let panicked: Vec<_> = reconciler.iter().filter(|(index, _)| *index == 0).collect();
    assert_eq!(panicked, [&(0, 0), &(0, 301)]);
    assert_eq!(reconciler.len(), 2 + 6);
    assert_eq!(running.panics.lock().len(), 2);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_before_the_first_await_is_caught_as_well() {
    let due = slots(1);
    due.now(record_id(0), Priority::Create, KEY);
    due.now(record_id(1), Priority::Idle, KEY);
    let length = |index| {
        if index == 0 { panic!("ordered by the test") } else { SECOND }
    };
    let running = Running::start(&due, length, |_| Disposition::AwaitChange);
    sleep(10 * SECOND).await;
    assert_eq!(*running.panics.lock(), [record_id(0)]);
    assert_eq!(due.snapshot().in_flight, 0);
    assert!(running.reconciler().iter().any(|(index, _)| *index == 1));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn wake_ups_during_a_turn_are_exactly_one_more_turn_at_once() {
    let due = slots(4);
    due.now(record_id(0), Priority::Active, KEY);
    let running = Running::start(&due, |_| 10 * SECOND, |_| later(1000 * SECOND));
    sleep(SECOND).await;
    for _ in 0..5 {
        due.now(record_id(0), Priority::Nudge, KEY);
    }
    sleep(100 * SECOND).await;
    assert_eq!(running.reconciler(), [(0, 0), (0, 10)]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_is_removed_has_no_turn_and_one_removed_during_its_turn_no_other() {
    let due = slots(1);
    due.now(record_id(0), Priority::Active, KEY);
    let running = Running::start(&due, |_| 10 * SECOND, |_| later(SECOND));
    sleep(SECOND).await;
    due.now(record_id(1), Priority::Active, KEY);
    due.set(record_id(2), Instant::now() + SECOND, Priority::Active, KEY);
    for index in 0..3 {
        due.remove(record_id(index));
    }
    sleep(100 * SECOND).await;
    assert_eq!(running.reconciler(), [(0, 0)]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_takes_no_new_turns_and_waits_for_those_under_way() {
    let due = slots(2);
    for index in 0..4 {
        due.now(record_id(index), Priority::Active, alone(index));
    }
    let running = Running::start(&due, |_| 10 * SECOND, |_| later(SECOND));
    sleep(SECOND).await;
    let begin = running.begin;
    running.shutdown.cancel();
    running.task.await.unwrap();
    assert_eq!(begin.elapsed().as_secs(), 10);
    assert_eq!(running.reconciler.lock().len(), 2);

    // What was planned is kept: a later leadership goes on with it.
    let again = Running::start(&due, |_| SECOND, |_| Disposition::Gone);
    sleep(10 * SECOND).await;
    assert_eq!(again.reconciler().len(), 4);
    again.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_wake_handles_all_who_are_due_and_nothing_runs_in_between() {
    let due = slots(10_000);
    let when = Instant::now() + 10 * SECOND;
    for index in 0..1000 {
        due.set(record_id(index), when, Priority::Active, KEY);
    }
    let wakes = Arc::new(AtomicUsize::new(0));
    let (counted, running, shutdown) = (Arc::clone(&wakes), due.clone(), CancellationToken::new());
    let stop = shutdown.clone();
    let task = tokio::spawn(async move {
        let mut run = pin!(running.run(
            async |_| Disposition::At(Instant::now() + 10 * SECOND, Priority::Active, KEY),
            |_| {},
            stop,
        ));
        std::future::poll_fn(|context| {
            counted.fetch_add(1, Ordering::Relaxed);
            run.as_mut().poll(context)
        })
        .await;
    });
    sleep(35 * SECOND).await;
    let polls = wakes.load(Ordering::Relaxed);
    assert!(polls <= 3 * 3 + 2, "{polls}");
    shutdown.cancel();
    task.await.unwrap();
}
