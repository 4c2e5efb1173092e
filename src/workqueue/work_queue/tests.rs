//! The work queue under a paused clock.

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

/// A namespace of its own.
fn own_namespace(index: u32) -> FairnessKey {
    FairnessKey { namespace: index, key: 0 }
}

fn work_queue(max_concurrent: usize) -> WorkQueue {
    WorkQueue::new(WorkQueueSettings { max_concurrent, ..WorkQueueSettings::default() })
}

/// A work queue that runs, and the reconciles that were started: of which object, and when.
struct Running {
    begin: Instant,
    started: Arc<Mutex<Vec<(u32, Duration, DueReconcile)>>>,
    panics: Arc<Mutex<Vec<RecordId>>>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    /// Runs a work queue. A reconcile is noted, takes as long as `length` says, and is followed by what `next` says.
    fn start(
        queue: &WorkQueue,
        length: impl Fn(u32) -> Duration + Send + Sync + 'static,
        next: impl Fn(u32) -> Disposition + Send + Sync + 'static,
    ) -> Self {
        let begin = Instant::now();
        let started: Arc<Mutex<Vec<_>>> = Arc::default();
        let panics: Arc<Mutex<Vec<_>>> = Arc::default();
        let shutdown = CancellationToken::new();
        let (noted, next) = (Arc::clone(&started), Arc::new(next));
        let reconcile = move |due: DueReconcile| {
            let index = due.record_id.index;
            noted.lock().push((index, begin.elapsed(), due));
            let (length, next) = (length(index), Arc::clone(&next));
            async move {
                sleep(length).await;
                next(index)
            }
        };
        let (running, stop, panicked) = (queue.clone(), shutdown.clone(), Arc::clone(&panics));
        let on_panic = move |record_id| panicked.lock().push(record_id);
        let task = tokio::spawn(async move { running.run(reconcile, on_panic, stop).await });
        Self { begin, started, panics, shutdown, task }
    }

    /// Which objects were reconciled, and in which second each reconcile started.
    fn started(&self) -> Vec<(u32, u64)> {
        let started = self.started.lock();
        started.iter().map(|(index, at, _)| (*index, at.as_secs())).collect()
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
async fn an_object_is_reconciled_when_it_is_due_and_again_when_it_says() {
    let queue = work_queue(4);
    let now = Instant::now();
    queue.schedule_at(record_id(0), now + 5 * SECOND, Priority::Idle, FairnessKey { key: 7, ..KEY });
    queue.schedule_at(record_id(1), now + 2 * SECOND, Priority::Active, KEY);
    let running = Running::start(
        &queue,
        |_| Duration::ZERO,
        |index| match index {
            0 => Disposition::AwaitChange,
            _ => later(4 * SECOND),
        },
    );
    sleep(11 * SECOND).await;
    assert_eq!(running.started(), [(1, 2), (0, 5), (1, 6), (1, 10)]);
    let started = running.started.lock().clone();
    let (_, _, first) = started[1];
    assert_eq!(
        (first.record_id, first.priority, first.fairness_key),
        (record_id(0), Priority::Idle, FairnessKey { key: 7, ..KEY })
    );
    assert!(first.queue_delay < Duration::from_millis(2));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_scheduled_before_all_others_is_reconciled_in_time() {
    let queue = work_queue(4);
    let running = Running::start(&queue, |_| Duration::ZERO, |_| Disposition::AwaitChange);
    queue.schedule_at(record_id(0), Instant::now() + 100 * SECOND, Priority::Idle, KEY);
    sleep(SECOND).await;
    queue.schedule_at(record_id(1), Instant::now() + 2 * SECOND, Priority::Idle, KEY);
    sleep(SECOND).await;
    queue.enqueue(record_id(2), Priority::Requested, KEY);
    sleep(200 * SECOND).await;
    assert_eq!(running.started(), [(2, 2), (1, 3), (0, 100)]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn no_more_reconciles_run_than_the_limit_allows() {
    let queue = work_queue(3);
    for index in 0..10 {
        queue.enqueue(record_id(index), Priority::Active, own_namespace(index));
    }
    let running = Running::start(&queue, |_| 10 * SECOND, |_| Disposition::AwaitChange);
    sleep(SECOND).await;
    let snapshot = queue.snapshot();
    assert_eq!((snapshot.in_flight, snapshot.ready, snapshot.scheduled), (3, [0, 0, 0, 7, 0], 0));
    sleep(32 * SECOND).await;
    let begun: Vec<_> = running.started().iter().map(|(_, second)| *second).collect();
    assert_eq!(begun, [0, 0, 0, 10, 10, 10, 20, 20, 20, 30]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn at_two_and_a_half_times_the_load_all_are_served_in_fair_order() {
    const OBJECTS: u32 = 2000;
    const LIMIT: u32 = 16;
    // A reconcile takes 2 s on average: a limit of 16 gives 8 a second, and 20 a second are wanted.
    let ideal = 2 * SECOND * OBJECTS / LIMIT;
    let wanted = ideal.mul_f64(1.0 / 2.5);
    let queue = work_queue(LIMIT as usize);
    for index in 0..OBJECTS {
        let when = Instant::now() + wanted * index / OBJECTS;
        queue.schedule_at(
            record_id(index),
            when,
            Priority::Idle,
            FairnessKey { key: index % 7, ..own_namespace(index) },
        );
    }
    let length = |index| Duration::from_millis(1000 + u64::from(index % 5) * 500);
    let next = move |index| {
        Disposition::At(
            Instant::now() + wanted,
            Priority::Idle,
            FairnessKey { key: index % 7, ..own_namespace(index) },
        )
    };
    let running = Running::start(&queue, length, next);
    sleep(ideal * 6).await;

    let mut starts: HashMap<u32, Vec<Duration>> = HashMap::new();
    for (index, at, _) in running.started.lock().iter() {
        starts.entry(*index).or_default().push(*at);
    }
    assert_eq!(starts.len(), OBJECTS as usize);
    let longest = starts
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
async fn a_small_key_beside_a_flooded_one_is_served_whenever_it_asks() {
    let queue = work_queue(4);
    for index in 0..1000 {
        queue.enqueue(record_id(index), Priority::Active, FairnessKey { key: 1, ..KEY });
    }
    for index in 1000..1004 {
        queue.enqueue(record_id(index), Priority::Active, FairnessKey { key: 2, ..KEY });
    }
    let running = Running::start(
        &queue,
        |_| SECOND,
        |index| {
            let fairness_key = FairnessKey { key: if index < 1000 { 1 } else { 2 }, ..KEY };
            Disposition::At(Instant::now() + 10 * SECOND, Priority::Active, fairness_key)
        },
    );
    sleep(100 * SECOND).await;
    let small = running.started().iter().filter(|(index, _)| *index >= 1000).count();
    assert!(small >= 4 * 8, "{small}");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn namespaces_whose_reconciles_hang_leave_the_next_one_as_many_as_each_holds() {
    let queue = work_queue(12);
    let namespace = |namespace| FairnessKey { namespace, key: 0 };
    let wake = |indices: std::ops::Range<u32>, priority, fairness_key| {
        for index in indices {
            queue.enqueue(record_id(index), priority, fairness_key);
        }
    };
    let running = Running::start(&queue, |_| 200 * SECOND, |_| Disposition::AwaitChange);
    for (flood, second, in_flight) in [(1, 1, 6), (2, 2, 9)] {
        wake(flood * 1000..flood * 1000 + 100, Priority::Create, namespace(flood));
        sleep(SECOND).await;
        assert_eq!(queue.snapshot().in_flight, in_flight, "in second {second}");
    }
    wake(0..1, Priority::Idle, namespace(3));
    wake(1..2, Priority::Create, namespace(4));
    sleep(SECOND).await;
    let begun: BTreeMap<_, _> = running.started().into_iter().filter(|(index, _)| *index < 1000).collect();
    assert_eq!(begun, BTreeMap::from([(0, 2), (1, 2)]));
    // Those that wait follow when those that hang have ended.
    sleep(5000 * SECOND).await;
    assert_eq!(running.started().len(), 202);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn idle_objects_are_not_starved_by_endless_creates() {
    let queue = work_queue(2);
    for index in 0..200 {
        queue.enqueue(record_id(index), Priority::Create, own_namespace(index));
    }
    for index in 200..210 {
        queue.enqueue(record_id(index), Priority::Idle, own_namespace(index));
    }
    let running = Running::start(
        &queue,
        |_| SECOND,
        |index| {
            let priority = if index < 200 { Priority::Create } else { Priority::Idle };
            Disposition::At(Instant::now(), priority, own_namespace(index))
        },
    );
    sleep(100 * SECOND).await;
    let idle: std::collections::HashSet<_> =
        running.started().into_iter().filter_map(|(index, _)| (index >= 200).then_some(index)).collect();
    assert_eq!(idle.len(), 10);
    running.shutdown.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_panic_affects_only_its_own_object_which_is_retried_after_five_minutes() {
    let queue = work_queue(1);
    queue.enqueue(record_id(0), Priority::Create, KEY);
    queue.enqueue(record_id(1), Priority::Idle, KEY);
    let running = Running::start(
        &queue,
        |_| SECOND,
        |index| match index {
            0 => panic!("the test panics"),
            _ => later(60 * SECOND),
        },
    );
    sleep(2 * SECOND).await;
    assert_eq!(*running.panics.lock(), [record_id(0)]);
    queue.enqueue(record_id(0), Priority::Requested, KEY);
    sleep(310 * SECOND).await;
    let started = running.started();
    let panicked: Vec<_> = started.iter().filter(|(index, _)| *index == 0).collect();
    assert_eq!(panicked, [&(0, 0), &(0, 301)]);
    assert_eq!(started.len(), 2 + 6);
    assert_eq!(running.panics.lock().len(), 2);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_before_the_first_await_is_caught_as_well() {
    let queue = work_queue(1);
    queue.enqueue(record_id(0), Priority::Create, KEY);
    queue.enqueue(record_id(1), Priority::Idle, KEY);
    let length = |index| {
        if index == 0 { panic!("the test panics") } else { SECOND }
    };
    let running = Running::start(&queue, length, |_| Disposition::AwaitChange);
    sleep(10 * SECOND).await;
    assert_eq!(*running.panics.lock(), [record_id(0)]);
    assert_eq!(queue.snapshot().in_flight, 0);
    assert!(running.started().iter().any(|(index, _)| *index == 1));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn wake_ups_during_a_reconcile_are_exactly_one_more_reconcile_at_once() {
    let queue = work_queue(4);
    queue.enqueue(record_id(0), Priority::Active, KEY);
    let running = Running::start(&queue, |_| 10 * SECOND, |_| later(1000 * SECOND));
    sleep(SECOND).await;
    for _ in 0..5 {
        queue.enqueue(record_id(0), Priority::Requested, KEY);
    }
    sleep(100 * SECOND).await;
    assert_eq!(running.started(), [(0, 0), (0, 10)]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_removed_object_is_not_reconciled_again() {
    let queue = work_queue(1);
    queue.enqueue(record_id(0), Priority::Active, KEY);
    let running = Running::start(&queue, |_| 10 * SECOND, |_| later(SECOND));
    sleep(SECOND).await;
    queue.enqueue(record_id(1), Priority::Active, KEY);
    queue.schedule_at(record_id(2), Instant::now() + SECOND, Priority::Active, KEY);
    for index in 0..3 {
        queue.remove(record_id(index));
    }
    sleep(100 * SECOND).await;
    assert_eq!(running.started(), [(0, 0)]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_starts_no_reconciles_and_waits_for_those_that_are_running() {
    let queue = work_queue(2);
    for index in 0..4 {
        queue.enqueue(record_id(index), Priority::Active, own_namespace(index));
    }
    let running = Running::start(&queue, |_| 10 * SECOND, |_| later(SECOND));
    sleep(SECOND).await;
    let begin = running.begin;
    running.shutdown.cancel();
    running.task.await.unwrap();
    assert_eq!(begin.elapsed().as_secs(), 10);
    assert_eq!(running.started.lock().len(), 2);

    // What was scheduled stays: a later leader continues with it.
    let again = Running::start(&queue, |_| SECOND, |_| Disposition::Done);
    sleep(10 * SECOND).await;
    assert_eq!(again.started().len(), 4);
    again.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_wake_up_handles_all_objects_that_are_due_and_nothing_runs_in_between() {
    let queue = work_queue(10_000);
    let when = Instant::now() + 10 * SECOND;
    for index in 0..1000 {
        queue.schedule_at(record_id(index), when, Priority::Active, KEY);
    }
    let wakes = Arc::new(AtomicUsize::new(0));
    let (counted, running, shutdown) = (Arc::clone(&wakes), queue.clone(), CancellationToken::new());
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
