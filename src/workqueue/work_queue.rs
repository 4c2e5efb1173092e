//! Gives each object its turn when it is due. May touch tokio's clock and tasks.
//!
//! [`WorkQueue`] is a handle that is cloned to wherever something wakes an object; [`WorkQueue::run`] takes
//! the turns. A turn is a task of its own that holds one of the slots; waiting holds none. No
//! namespace holds all of them. While
//! nobody is due and while all slots are taken, nothing runs but a heartbeat.

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
    queue::{self, Ended, Queue},
    ready::Moment,
};
use crate::{fairness::FairnessKey, index::RecordId, priority::Priority};

/// [`WorkQueue::run`] shows a sign of life this often.
const BEAT: Duration = Duration::from_secs(10);

/// How turns are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkQueueSettings {
    /// How many turns may be under way at a time; at least one is. A namespace begins another one only while more slots are
    /// free than it holds: one alone has half of them, two have a third each, and there are always some for who comes next.
    pub slots: usize,
    /// How long an object whose turn panicked is left alone, whatever wakes it.
    pub hold_after_panic: Duration,
}

impl Default for WorkQueueSettings {
    /// 10,000 slots, five minutes.
    fn default() -> Self {
        Self { slots: 10_000, hold_after_panic: Duration::from_mins(5) }
    }
}

/// A turn that begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DueReconcile {
    /// Whose turn it is.
    pub record_id: RecordId,
    /// How urgent it was.
    pub priority: Priority,
    /// In which lane it waited.
    pub fairness_key: FairnessKey,
    /// How long it was due before it began.
    pub lateness: Duration,
}

/// What follows a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// Another turn at this time, or earlier when something wakes the object, or has woken it
    /// during this turn.
    At(Instant, Priority, FairnessKey),
    /// Nothing, until something wakes the object, or has woken it during this turn.
    AwaitChange,
    /// Nothing: the object does not exist, and what has woken it during this turn is forgotten.
    Gone,
}

impl Disposition {
    /// The label of a reconcile's outcome in the metrics.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::At(..) => "requeue",
            Self::AwaitChange => "await_change",
            Self::Gone => "done",
        }
    }
}

/// What is going on, for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueSnapshot {
    /// How many wait for their time.
    pub waiting: usize,
    /// How many are due and wait for a slot, in the order of [`Priority::ALL`].
    pub ready: [usize; Priority::ALL.len()],
    /// How many turns are under way.
    pub in_flight: usize,
    /// How many turns may be under way.
    pub slots: usize,
    /// The memory in use, in bytes, about.
    pub memory: usize,
}

/// The plan of who is looked at when. Clones are handles to the same plan.
#[derive(Debug, Clone)]
pub struct WorkQueue {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: WorkQueueSettings,
    start: Instant,
    plan: Mutex<Plan>,
    /// Tells [`WorkQueue::run`] to look again.
    look: Notify,
}

#[derive(Debug, Default)]
struct Plan {
    queue: Queue,
    /// Reconciler under way by namespace.
    held: HashMap<u32, usize>,
    /// Until when [`WorkQueue::run`] sleeps; `None` while it does not wait for a timer.
    sleeping_until: Option<Moment>,
    /// When [`WorkQueue::run`] was last at work; `None` while nobody runs it.
    beat: Option<Instant>,
}

impl WorkQueue {
    /// An empty plan.
    #[must_use]
    pub fn new(settings: WorkQueueSettings) -> Self {
        Self {
            shared: Arc::new(Shared {
                settings,
                start: Instant::now(),
                plan: Mutex::default(),
                look: Notify::new(),
            }),
        }
    }

    /// Plans the next turn for this time, in place of what was planned. During a turn: see
    /// [`Disposition`].
    pub fn set(&self, record_id: RecordId, when: Instant, priority: Priority, fairness_key: FairnessKey) {
        let due = self.due(when, priority, fairness_key);
        self.change(|queue, now| queue.set(record_id, due, now));
    }

    /// Plans the next turn for this time if none is planned earlier.
    pub fn forward(&self, record_id: RecordId, when: Instant, priority: Priority, fairness_key: FairnessKey) {
        let due = self.due(when, priority, fairness_key);
        self.change(|queue, now| queue.forward(record_id, due, now));
    }

    /// Wakes an object: its next turn is now, or as soon as a slot is free. During a turn one more
    /// follows, however often this is called. What is due already only becomes more urgent.
    pub fn now(&self, record_id: RecordId, priority: Priority, fairness_key: FairnessKey) {
        self.forward(record_id, Instant::now(), priority, fairness_key);
    }

    /// For how long [`WorkQueue::run`] showed no sign of life; it does so every ten seconds. `None` while nobody runs it.
    #[must_use]
    pub fn silent_for(&self) -> Option<Duration> {
        self.shared.plan.lock().beat.map(|beat| beat.elapsed())
    }

    /// Forgets what is planned for an object. Its turn, if one is under way, goes on to its end, and
    /// its [`Disposition`] counts for nothing.
    pub fn remove(&self, record_id: RecordId) {
        self.change(|queue, _| queue.remove(record_id));
    }

    /// What is going on.
    #[must_use]
    pub fn snapshot(&self) -> QueueSnapshot {
        let plan = self.shared.plan.lock();
        QueueSnapshot {
            waiting: plan.queue.waiting(),
            ready: plan.queue.ready(),
            in_flight: plan.queue.in_flight(),
            slots: self.slots(),
            memory: plan.queue.memory(),
        }
    }

    /// Takes turns until the shutdown, then waits for those under way (how long is for the caller
    /// to bound) and returns. What is planned is kept, and may be run again.
    ///
    /// `reconciler` is the turn. When it panics, `on_panic` hears whose turn it was, and the object is
    /// left alone for [`WorkQueueSettings::hold_after_panic`]; the panic's message goes nowhere from
    /// here (the process' panic hook has seen it).
    pub async fn run<Reconciler, Future_>(
        &self,
        reconciler: Reconciler,
        on_panic: impl Fn(RecordId) + Send + Sync + 'static,
        shutdown: CancellationToken,
    ) where
        Reconciler: Fn(DueReconcile) -> Future_ + Send + Sync + 'static,
        Future_: Future<Output = Disposition> + Send + 'static,
    {
        let actions = Arc::new((reconciler, on_panic));
        let under_way = TaskTracker::new();
        let mut timer = pin!(sleep_until(Instant::now()));
        while !shutdown.is_cancelled() {
            let (batch, wake) = self.take();
            for turn in batch {
                let actions = Arc::clone(&actions);
                let due = self.clone();
                under_way.spawn(async move {
                    let (reconciler, on_panic) = &*actions;
                    let outcome = AssertUnwindSafe(async { reconciler(turn).await }).catch_unwind().await;
                    due.end(turn, outcome.as_ref().ok().copied());
                    if outcome.is_err() {
                        on_panic(turn.record_id);
                    }
                });
            }
            let beat = Instant::now() + BEAT;
            timer.as_mut().reset(wake.map_or(beat, |wake| wake.min(beat)));
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = self.shared.look.notified() => {}
                () = timer.as_mut() => {}
            }
        }
        self.shared.plan.lock().beat = None;
        under_way.close();
        under_way.wait().await;
    }

    /// The turns that can begin now, and when to look again if nothing else happens.
    fn take(&self) -> (Vec<DueReconcile>, Option<Instant>) {
        let now = self.moment(Instant::now());
        let mut plan = self.shared.plan.lock();
        plan.beat = Some(Instant::now());
        let mut batch = Vec::new();
        loop {
            let Plan { queue, held, .. } = &mut *plan;
            let free = self.slots().saturating_sub(queue.in_flight());
            if free == 0 {
                break;
            }
            let may_begin = |namespace| held.get(&namespace).copied().unwrap_or(0) < free;
            let Some(taken) = queue.take_if(now, may_begin) else { break };
            *held.entry(taken.due.fairness_key.namespace).or_default() += 1;
            batch.push(DueReconcile {
                record_id: taken.record_id,
                priority: taken.due.priority,
                fairness_key: taken.due.fairness_key,
                lateness: Duration::from_nanos(now.saturating_sub(taken.due.when)),
            });
        }
        // With every slot taken a timer changes nothing: the end of a turn is what to wait for.
        let full = plan.queue.in_flight() >= self.slots();
        plan.sleeping_until = if full { None } else { plan.queue.next() };
        let wake = plan.sleeping_until.map(|moment| self.shared.start + Duration::from_nanos(moment));
        (batch, wake)
    }

    fn end(&self, turn: DueReconcile, next: Option<Disposition>) {
        let ended = match next {
            Some(Disposition::At(when, priority, fairness_key)) => {
                Ended::At(self.due(when, priority, fairness_key))
            }
            Some(Disposition::AwaitChange) => Ended::AwaitChange,
            Some(Disposition::Gone) => Ended::Gone,
            None => {
                let hold = self.shared.settings.hold_after_panic.as_nanos();
                let hold = Moment::try_from(hold).unwrap_or(Moment::MAX);
                Ended::Held(queue::Scheduled {
                    when: self.moment(Instant::now()).saturating_add(hold),
                    priority: Priority::Idle,
                    fairness_key: turn.fairness_key,
                })
            }
        };
        {
            let mut plan = self.shared.plan.lock();
            if let Entry::Occupied(mut held) = plan.held.entry(turn.fairness_key.namespace) {
                *held.get_mut() -= 1;
                if *held.get() == 0 {
                    held.remove();
                }
            }
        }
        self.change(|queue, now| queue.end(turn.record_id, ended, now));
    }

    /// Changes the plan, and tells [`WorkQueue::run`] when it has to look earlier than it would.
    fn change(&self, change: impl FnOnce(&mut Queue, Moment)) {
        let now = self.moment(Instant::now());
        let mut plan = self.shared.plan.lock();
        change(&mut plan.queue, now);
        if plan.queue.in_flight() >= self.slots() {
            return;
        }
        let next = plan.queue.next();
        let earlier = match (next, plan.sleeping_until) {
            (Some(next), Some(sleeping_until)) => next < sleeping_until,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if earlier || plan.queue.has_ready() {
            plan.sleeping_until = next;
            drop(plan);
            self.shared.look.notify_one();
        }
    }

    fn slots(&self) -> usize {
        self.shared.settings.slots.max(1)
    }

    fn due(&self, when: Instant, priority: Priority, fairness_key: FairnessKey) -> queue::Scheduled {
        queue::Scheduled { when: self.moment(when), priority, fairness_key }
    }

    /// A time before the plan began is its beginning.
    fn moment(&self, when: Instant) -> Moment {
        let since = when.saturating_duration_since(self.shared.start);
        Moment::try_from(since.as_nanos()).unwrap_or(Moment::MAX)
    }
}

#[cfg(test)]
mod tests;
