//! Reconciles each object when it is due. May depend on `queue`, tokio's clock and tasks.
//!
//! [`WorkQueue`] is a handle that is cloned to wherever something wakes an object; [`WorkQueue::run`] runs the
//! reconciles. Each is a task of its own and counts against the limit of concurrent reconciles; waiting does not. No
//! namespace takes the whole limit. While no object is due, and while the limit is reached, nothing runs but a
//! heartbeat.

use std::{
    collections::{HashMap, hash_map::Entry},
    future::Future,
    panic::AssertUnwindSafe,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures::FutureExt as _;
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    entries::Scheduled,
    queue::{Ended, Popped, Queue},
    ready::Nanos,
};
use crate::{fairness::FairnessKey, index::RecordId, priority::Priority};

/// The interval of the heartbeat of [`WorkQueue::run`].
const HEARTBEAT: Duration = Duration::from_secs(10);

/// How reconciles are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WorkQueueSettings {
    /// The limit of concurrent reconciles, at least one. A namespace starts another one only while the unused part of
    /// the limit is larger than what the namespace uses: one alone takes half, two take a third each, and there is
    /// always some left for the next one.
    pub max_concurrent: usize,
    /// How long an object whose reconcile panicked is not reconciled, whatever wakes it.
    pub delay_after_panic: Duration,
}

impl Default for WorkQueueSettings {
    /// 10,000 concurrent reconciles, five minutes.
    fn default() -> Self {
        Self { max_concurrent: 10_000, delay_after_panic: Duration::from_mins(5) }
    }
}

/// A reconcile that starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DueReconcile {
    /// The record of the object.
    pub record_id: RecordId,
    /// How urgent it was.
    pub priority: Priority,
    /// Whose share it takes.
    pub fairness_key: FairnessKey,
    /// How long it was due before it started.
    pub queue_delay: Duration,
}

/// What follows a reconcile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disposition {
    /// Another reconcile at this time, or earlier if something wakes the object or has woken it meanwhile.
    At(Instant, Priority, FairnessKey),
    /// Nothing, unless something wakes the object or has woken it meanwhile.
    AwaitChange,
    /// Nothing: there is no such object, and what has woken it meanwhile is ignored.
    Done,
}

impl Disposition {
    /// The label of a reconcile's outcome in the metrics.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::At(..) => "requeue",
            Self::AwaitChange => "await_change",
            Self::Done => "done",
        }
    }
}

/// The state of the work queue, for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueueSnapshot {
    /// The number of objects that are scheduled and not due.
    pub scheduled: usize,
    /// The number of objects that are due and wait, in the order of [`Priority::ALL`].
    pub ready: [usize; Priority::ALL.len()],
    /// The number of reconciles that are running.
    pub in_flight: usize,
    /// The limit of concurrent reconciles.
    pub max_concurrent: usize,
    /// The approximate memory in use, in bytes.
    pub memory: usize,
}

/// The queue of objects to reconcile. Clones are handles to the same queue.
#[derive(Debug, Clone)]
pub(crate) struct WorkQueue {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: WorkQueueSettings,
    start: Instant,
    state: Mutex<WorkQueueState>,
    /// Wakes [`WorkQueue::run`].
    wake: Notify,
}

#[derive(Debug, Default)]
struct WorkQueueState {
    queue: Queue,
    /// Running reconciles by namespace.
    running: HashMap<u32, usize>,
    /// The timer that [`WorkQueue::run`] sleeps for, if any.
    sleeping_until: Option<Nanos>,
    /// The last heartbeat of [`WorkQueue::run`]; `None` while it does not run.
    heartbeat: Option<Instant>,
}

impl WorkQueue {
    /// An empty queue.
    #[must_use]
    pub(crate) fn new(settings: WorkQueueSettings) -> Self {
        Self {
            shared: Arc::new(Shared {
                settings,
                start: Instant::now(),
                state: Mutex::default(),
                wake: Notify::new(),
            }),
        }
    }

    /// Schedules an object for exactly this time and replaces what was scheduled. During its reconcile: see
    /// [`Disposition`].
    pub(crate) fn schedule_at(
        &self,
        record_id: RecordId,
        when: Instant,
        priority: Priority,
        fairness_key: FairnessKey,
    ) {
        let due = self.scheduled(when, priority, fairness_key);
        self.change(|queue, now| queue.schedule_at(record_id, due, now));
    }

    /// Schedules an object for this time unless it is scheduled earlier.
    pub(crate) fn schedule_by(
        &self,
        record_id: RecordId,
        when: Instant,
        priority: Priority,
        fairness_key: FairnessKey,
    ) {
        let due = self.scheduled(when, priority, fairness_key);
        self.change(|queue, now| queue.schedule_by(record_id, due, now));
    }

    /// Schedules an object for now. During its reconcile one more follows, however often this is called. An object that
    /// is due already only becomes more urgent.
    pub(crate) fn enqueue(&self, record_id: RecordId, priority: Priority, fairness_key: FairnessKey) {
        self.schedule_by(record_id, Instant::now(), priority, fairness_key);
    }

    /// The time since the last heartbeat of [`WorkQueue::run`], which has one every ten seconds. `None` while it does
    /// not run.
    #[must_use]
    pub(crate) fn since_heartbeat(&self) -> Option<Duration> {
        self.shared.state.lock().heartbeat.map(|at| at.elapsed())
    }

    /// Removes an object. If a reconcile of it is running, that finishes, and its [`Disposition`] is ignored.
    pub(crate) fn remove(&self, record_id: RecordId) {
        self.change(|queue, _| queue.remove(record_id));
    }

    /// The state of the queue.
    #[must_use]
    pub(crate) fn snapshot(&self) -> QueueSnapshot {
        let state = self.shared.state.lock();
        QueueSnapshot {
            scheduled: state.queue.scheduled(),
            ready: state.queue.ready(),
            in_flight: state.queue.in_flight(),
            max_concurrent: self.max_concurrent(),
            memory: state.queue.memory(),
        }
    }

    /// Runs reconciles until the shutdown, then waits for those that are running (the caller bounds how long) and
    /// returns. What is scheduled stays, and may be run again.
    ///
    /// If `reconcile` panics, `on_panic` is called with the record, and the object is not reconciled for
    /// [`WorkQueueSettings::delay_after_panic`]. The message of the panic is not passed on (the process' panic hook has
    /// it).
    pub(crate) async fn run<Reconcile, Running>(
        &self,
        reconcile: Reconcile,
        on_panic: impl Fn(RecordId) + Send + Sync + 'static,
        shutdown: CancellationToken,
    ) where
        Reconcile: Fn(DueReconcile) -> Running + Send + Sync + 'static,
        Running: Future<Output = Disposition> + Send + 'static,
    {
        let actions = Arc::new((reconcile, on_panic));
        let tasks = TaskTracker::new();
        let mut timer = pin!(sleep_until(Instant::now()));
        while !shutdown.is_cancelled() {
            let (batch, wake) = self.pop_due();
            for due in batch {
                let actions = Arc::clone(&actions);
                let queue = self.clone();
                tasks.spawn(async move {
                    let (reconcile, on_panic) = &*actions;
                    let outcome = AssertUnwindSafe(async { reconcile(due).await }).catch_unwind().await;
                    queue.end(due, outcome.as_ref().ok().copied());
                    if outcome.is_err() {
                        on_panic(due.record_id);
                    }
                });
            }
            let heartbeat = Instant::now() + HEARTBEAT;
            timer.as_mut().reset(wake.map_or(heartbeat, |wake| wake.min(heartbeat)));
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = self.shared.wake.notified() => {}
                () = timer.as_mut() => {}
            }
        }
        self.shared.state.lock().heartbeat = None;
        tasks.close();
        tasks.wait().await;
    }

    /// The reconciles that can start now, and when to check again if nothing else happens.
    fn pop_due(&self) -> (Vec<DueReconcile>, Option<Instant>) {
        let now = self.moment(Instant::now());
        let mut state = self.shared.state.lock();
        state.heartbeat = Some(Instant::now());
        let mut batch = Vec::new();
        loop {
            let WorkQueueState { queue, running, sleeping_until: _, heartbeat: _ } = &mut *state;
            let free = self.max_concurrent().saturating_sub(queue.in_flight());
            if free == 0 {
                break;
            }
            let may_run = |namespace| running.get(&namespace).copied().unwrap_or(0) < free;
            let Some(Popped { record_id, scheduled }) = queue.pop_if(now, may_run) else { break };
            *running.entry(scheduled.fairness_key.namespace).or_default() += 1;
            batch.push(DueReconcile {
                record_id,
                priority: scheduled.priority,
                fairness_key: scheduled.fairness_key,
                queue_delay: Duration::from_nanos(now.saturating_sub(scheduled.when)),
            });
        }
        // At the limit a timer changes nothing: the end of a reconcile is what to wait for.
        let full = state.queue.in_flight() >= self.max_concurrent();
        state.sleeping_until = if full { None } else { state.queue.next() };
        let wake = state.sleeping_until.map(|moment| self.shared.start + Duration::from_nanos(moment));
        (batch, wake)
    }

    fn end(&self, due: DueReconcile, next: Option<Disposition>) {
        let ended = match next {
            Some(Disposition::At(when, priority, fairness_key)) => {
                Ended::At(self.scheduled(when, priority, fairness_key))
            }
            Some(Disposition::AwaitChange) => Ended::AwaitChange,
            Some(Disposition::Done) => Ended::Done,
            None => {
                let delay = self.shared.settings.delay_after_panic.as_nanos();
                let delay = Nanos::try_from(delay).unwrap_or(Nanos::MAX);
                Ended::Panicked(Scheduled {
                    when: self.moment(Instant::now()).saturating_add(delay),
                    priority: Priority::Idle,
                    fairness_key: due.fairness_key,
                })
            }
        };
        {
            let mut state = self.shared.state.lock();
            if let Entry::Occupied(mut running) = state.running.entry(due.fairness_key.namespace) {
                *running.get_mut() -= 1;
                if *running.get() == 0 {
                    running.remove();
                }
            }
        }
        self.change(|queue, now| queue.end(due.record_id, ended, now));
    }

    /// Changes the queue, and wakes [`WorkQueue::run`] if it would wake too late.
    fn change(&self, change: impl FnOnce(&mut Queue, Nanos)) {
        let now = self.moment(Instant::now());
        let mut state = self.shared.state.lock();
        change(&mut state.queue, now);
        if state.queue.in_flight() >= self.max_concurrent() {
            return;
        }
        let next = state.queue.next();
        let earlier = match (next, state.sleeping_until) {
            (Some(next), Some(sleeping_until)) => next < sleeping_until,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if earlier || state.queue.has_ready() {
            state.sleeping_until = next;
            drop(state);
            self.shared.wake.notify_one();
        }
    }

    fn max_concurrent(&self) -> usize {
        self.shared.settings.max_concurrent.max(1)
    }

    fn scheduled(&self, when: Instant, priority: Priority, fairness_key: FairnessKey) -> Scheduled {
        Scheduled { when: self.moment(when), priority, fairness_key }
    }

    /// A time before the queue was created counts as that of its creation.
    fn moment(&self, when: Instant) -> Nanos {
        let since = when.saturating_duration_since(self.shared.start);
        Nanos::try_from(since.as_nanos()).unwrap_or(Nanos::MAX)
    }
}

#[cfg(test)]
mod tests;
