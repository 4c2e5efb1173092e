//! Gives each object its turn when it is due. May touch tokio's clock and tasks.
//!
//! [`Due`] is a handle that is cloned to wherever something wakes an object; [`Due::run`] takes
//! the turns. A turn is a task of its own that holds one of the slots; waiting holds none. No
//! namespace holds all of them. While
//! nobody is due and while all slots are taken, nothing runs but a heartbeat.

use std::{
    collections::{HashMap, hash_map::Entry},
    future::Future,
    panic::AssertUnwindSafe,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::FutureExt as _;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    queue::{self, Ended, Queue},
    ready::Moment,
    slot::Slot,
};
use crate::{fair::FairnessKey, priority::Priority};

/// [`Due::run`] shows a sign of life this often.
const BEAT: Duration = Duration::from_secs(10);

/// How turns are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DueSettings {
    /// How many turns may be under way at a time; at least one is. A namespace begins another one only while more slots are
    /// free than it holds: one alone has half of them, two have a third each, and there are always some for who comes next.
    pub slots: usize,
    /// How long an object whose turn panicked is left alone, whatever wakes it.
    pub hold_after_panic: Duration,
}

impl Default for DueSettings {
    /// 10,000 slots, five minutes.
    fn default() -> Self {
        Self { slots: 10_000, hold_after_panic: Duration::from_mins(5) }
    }
}

/// A turn that begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// Whose turn it is.
    pub slot: Slot,
    /// How urgent it was.
    pub priority: Priority,
    /// In which lane it waited.
    pub lane: FairnessKey,
    /// How long it was due before it began.
    pub lateness: Duration,
}

/// What follows a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Another turn at this time, or earlier when something wakes the object, or has woken it
    /// during this turn.
    At(Instant, Priority, FairnessKey),
    /// Nothing, until something wakes the object, or has woken it during this turn.
    Park,
    /// Nothing: the object does not exist, and what has woken it during this turn is forgotten.
    Gone,
}

/// What is going on, for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshot {
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
pub struct Due {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: DueSettings,
    start: Instant,
    plan: Mutex<Plan>,
    /// Tells [`Due::run`] to look again.
    look: Notify,
}

#[derive(Debug, Default)]
struct Plan {
    queue: Queue,
    /// Turns under way by namespace.
    held: HashMap<u32, usize>,
    /// Until when [`Due::run`] sleeps; `None` while it does not wait for a timer.
    sleeping_until: Option<Moment>,
    /// When [`Due::run`] was last at work; `None` while nobody runs it.
    beat: Option<Instant>,
}

impl Due {
    /// An empty plan.
    #[must_use]
    pub fn new(settings: DueSettings) -> Self {
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
    /// [`Next`].
    pub fn set(&self, slot: Slot, when: Instant, priority: Priority, lane: FairnessKey) {
        let due = self.due(when, priority, lane);
        self.change(|queue, now| queue.set(slot, due, now));
    }

    /// Plans the next turn for this time if none is planned earlier.
    pub fn forward(&self, slot: Slot, when: Instant, priority: Priority, lane: FairnessKey) {
        let due = self.due(when, priority, lane);
        self.change(|queue, now| queue.forward(slot, due, now));
    }

    /// Wakes an object: its next turn is now, or as soon as a slot is free. During a turn one more
    /// follows, however often this is called. What is due already only becomes more urgent.
    pub fn now(&self, slot: Slot, priority: Priority, lane: FairnessKey) {
        self.forward(slot, Instant::now(), priority, lane);
    }

    /// For how long [`Due::run`] showed no sign of life; it does so every ten seconds. `None` while nobody runs it.
    #[must_use]
    pub fn silent_for(&self) -> Option<Duration> {
        self.plan().beat.map(|beat| beat.elapsed())
    }

    /// Forgets what is planned for an object. Its turn, if one is under way, goes on to its end, and
    /// its [`Next`] counts for nothing.
    pub fn remove(&self, slot: Slot) {
        self.change(|queue, _| queue.remove(slot));
    }

    /// What is going on.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let plan = self.plan();
        Snapshot {
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
    /// `turns` is the turn. When it panics, `on_panic` hears whose turn it was, and the object is
    /// left alone for [`DueSettings::hold_after_panic`]; the panic's message goes nowhere from
    /// here (the process' panic hook has seen it).
    pub async fn run<Turns, Future_>(
        &self,
        turns: Turns,
        on_panic: impl Fn(Slot) + Send + Sync + 'static,
        shutdown: CancellationToken,
    ) where
        Turns: Fn(Turn) -> Future_ + Send + Sync + 'static,
        Future_: Future<Output = Next> + Send + 'static,
    {
        let actions = Arc::new((turns, on_panic));
        let under_way = TaskTracker::new();
        let mut timer = pin!(sleep_until(Instant::now()));
        while !shutdown.is_cancelled() {
            let (batch, wake) = self.take();
            for turn in batch {
                let actions = Arc::clone(&actions);
                let due = self.clone();
                under_way.spawn(async move {
                    let (turns, on_panic) = &*actions;
                    let outcome = AssertUnwindSafe(async { turns(turn).await }).catch_unwind().await;
                    due.end(turn, outcome.as_ref().ok().copied());
                    if outcome.is_err() {
                        on_panic(turn.slot);
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
        self.plan().beat = None;
        under_way.close();
        under_way.wait().await;
    }

    /// The turns that can begin now, and when to look again if nothing else happens.
    fn take(&self) -> (Vec<Turn>, Option<Instant>) {
        let now = self.moment(Instant::now());
        let mut plan = self.plan();
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
            *held.entry(taken.due.lane.namespace).or_default() += 1;
            batch.push(Turn {
                slot: taken.slot,
                priority: taken.due.priority,
                lane: taken.due.lane,
                lateness: Duration::from_nanos(now.saturating_sub(taken.due.when)),
            });
        }
        // With every slot taken a timer changes nothing: the end of a turn is what to wait for.
        let full = plan.queue.in_flight() >= self.slots();
        plan.sleeping_until = if full { None } else { plan.queue.next() };
        let wake = plan.sleeping_until.map(|moment| self.shared.start + Duration::from_nanos(moment));
        (batch, wake)
    }

    fn end(&self, turn: Turn, next: Option<Next>) {
        let ended = match next {
            Some(Next::At(when, priority, lane)) => Ended::At(self.due(when, priority, lane)),
            Some(Next::Park) => Ended::Park,
            Some(Next::Gone) => Ended::Gone,
            None => {
                let hold = self.shared.settings.hold_after_panic.as_nanos();
                let hold = Moment::try_from(hold).unwrap_or(Moment::MAX);
                Ended::Held(queue::Due {
                    when: self.moment(Instant::now()).saturating_add(hold),
                    priority: Priority::Idle,
                    lane: turn.lane,
                })
            }
        };
        {
            let mut plan = self.plan();
            if let Entry::Occupied(mut held) = plan.held.entry(turn.lane.namespace) {
                *held.get_mut() -= 1;
                if *held.get() == 0 {
                    held.remove();
                }
            }
        }
        self.change(|queue, now| queue.end(turn.slot, ended, now));
    }

    /// Changes the plan, and tells [`Due::run`] when it has to look earlier than it would.
    fn change(&self, change: impl FnOnce(&mut Queue, Moment)) {
        let now = self.moment(Instant::now());
        let mut plan = self.plan();
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

    fn plan(&self) -> MutexGuard<'_, Plan> {
        // Nothing in here panics half-way; and if it did, a late turn is better than none.
        self.shared.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slots(&self) -> usize {
        self.shared.settings.slots.max(1)
    }

    fn due(&self, when: Instant, priority: Priority, lane: FairnessKey) -> queue::Due {
        queue::Due { when: self.moment(when), priority, lane }
    }

    /// A time before the plan began is its beginning.
    fn moment(&self, when: Instant) -> Moment {
        let since = when.saturating_duration_since(self.shared.start);
        Moment::try_from(since.as_nanos()).unwrap_or(Moment::MAX)
    }
}

#[cfg(test)]
mod tests;
