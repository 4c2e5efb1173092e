//! A semaphore that serves namespaces round robin. May depend on `concurrency`, `queue` and tokio.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{Instant, sleep},
};

use super::{concurrency::Concurrency, key::FairnessKey, queue::FairQueue};

/// Permits for what many want to do at once: namespaces are served round robin, none holds more than its part, and a
/// wait that is cancelled leaves the queue.
#[derive(Debug)]
pub(crate) struct FairSemaphore {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    ordinary: Permits,
    urgent: Permits,
    max_per_namespace: usize,
    /// None where the limit is always the same.
    concurrency: Option<Concurrency>,
    wakers: HashMap<u64, oneshot::Sender<()>>,
    /// The number of the next ticket.
    next: u64,
}

/// Permits of one kind.
#[derive(Debug)]
struct Permits {
    free: usize,
    /// Permits that each namespace holds, also those that others use while it pauses.
    held: HashMap<u32, usize>,
    waiting: FairQueue<Ticket>,
}

/// A position among those of one key: rank, then number; the lowest goes first.
type Ticket = (u8, u64);

/// The kind of a permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Urgency {
    Ordinary,
    Urgent,
}

/// A permit, released on drop.
#[derive(Debug)]
pub(crate) struct Permit {
    semaphore: Arc<FairSemaphore>,
    namespace: u32,
    urgency: Urgency,
    since: Instant,
}

impl FairSemaphore {
    /// That many permits of each kind, of which one namespace holds no more than `max_per_namespace`; at least one each.
    #[must_use]
    pub(crate) fn new(permits: usize, max_per_namespace: usize) -> Arc<Self> {
        Self::build(permits, max_per_namespace, None)
    }

    /// As [`new`](Self::new). While several namespaces want permits each holds only as many as are of use, judged by how
    /// long permits are held.
    #[must_use]
    pub(crate) fn adaptive(permits: usize, max_per_namespace: usize) -> Arc<Self> {
        Self::build(permits, max_per_namespace, Some(Concurrency::new(max_per_namespace.max(1))))
    }

    fn build(permits: usize, max_per_namespace: usize, concurrency: Option<Concurrency>) -> Arc<Self> {
        let state = State {
            ordinary: Permits::new(permits),
            urgent: Permits::new(permits),
            max_per_namespace: max_per_namespace.max(1),
            concurrency,
            wakers: HashMap::new(),
            next: 0,
        };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// Waits for a permit. Of those with the same key the ones with the lowest rank go first.
    pub(crate) async fn acquire(self: &Arc<Self>, key: FairnessKey, rank: u8) -> Permit {
        self.acquire_of(Urgency::Ordinary, key, rank).await
    }

    /// Waits for a permit of those for what must not wait behind anything else. While several namespaces want permits, a
    /// namespace gets no ordinary ones instead.
    pub(crate) async fn acquire_urgently(self: &Arc<Self>, key: FairnessKey) -> Permit {
        self.acquire_of(Urgency::Urgent, key, 0).await
    }

    async fn acquire_of(self: &Arc<Self>, urgency: Urgency, key: FairnessKey, rank: u8) -> Permit {
        let (ticket, mut woken) = {
            let now = Instant::now();
            let mut state = self.state.lock();
            if let Some(concurrency) = &mut state.concurrency {
                concurrency.asked(key.namespace, now);
            }
            let ticket = (rank, state.next);
            state.next += 1;
            let (waker, woken) = oneshot::channel();
            state.permits(urgency).waiting.insert(key, ticket);
            state.wakers.insert(ticket.1, waker);
            state.serve(now);
            (ticket, woken)
        };
        let mut wait = Waiter { semaphore: self, urgency, key, ticket, is_over: false };
        // Only a wait that is cancelled drops the sender. The receiver must outlive the waiter: a permit that could not be
        // sent is released by the sender, and one that was sent and not received by the waiter.
        let _ = (&mut woken).await;
        wait.is_over = true;
        Permit { semaphore: Arc::clone(self), namespace: key.namespace, urgency, since: Instant::now() }
    }

    fn release(self: &Arc<Self>, permit: &Permit) {
        let now = Instant::now();
        let mut state = self.state.lock();
        let others_wait = !state.ordinary.waiting.is_empty();
        if let Some(concurrency) = &mut state.concurrency {
            concurrency.responded(permit.since, others_wait, now);
        }
        let &Permit { namespace, urgency, .. } = permit;
        match (state.pause(permit, now), Handle::try_current()) {
            (Some(pause), Ok(runtime)) => {
                state.ordinary.free += 1;
                state.serve(now);
                let semaphore = Arc::clone(self);
                runtime.spawn(async move {
                    sleep(pause).await;
                    let mut state = semaphore.state.lock();
                    state.ordinary.forget(namespace);
                    state.serve(Instant::now());
                });
            }
            _ => state.release(namespace, urgency, now),
        }
    }
}

impl State {
    fn permits(&mut self, urgency: Urgency) -> &mut Permits {
        match urgency {
            Urgency::Ordinary => &mut self.ordinary,
            Urgency::Urgent => &mut self.urgent,
        }
    }

    /// How long the namespace gets no permit in place of this one, although it waits for more. One that waits for much less
    /// than others delays them little.
    fn pause(&self, permit: &Permit, now: Instant) -> Option<Duration> {
        let concurrency = self.concurrency.as_ref()?;
        let waits = permit.urgency == Urgency::Ordinary
            && self.ordinary.waiting.has_half_the_mean_length(permit.namespace);
        waits.then(|| concurrency.pause(now.duration_since(permit.since), now))?
    }

    /// Takes a permit back, and hands out what is free then.
    fn release(&mut self, namespace: u32, urgency: Urgency, now: Instant) {
        self.permits(urgency).release(namespace);
        self.serve(now);
    }

    /// Hands out the free permits.
    fn serve(&mut self, now: Instant) {
        let Self { ordinary, urgent, max_per_namespace, concurrency, wakers, .. } = self;
        while let Some((namespace, number)) = urgent.next(|_, held| held < *max_per_namespace) {
            urgent.hand_out(namespace, wakers.remove(&number));
        }
        let limit = concurrency.as_ref().and_then(|adaptive| adaptive.limit(now));
        let may_hold = |namespace, held| match limit {
            Some(limit) => held + urgent.held_by(namespace) < limit,
            None => held < *max_per_namespace,
        };
        while let Some((namespace, number)) = ordinary.next(may_hold) {
            ordinary.hand_out(namespace, wakers.remove(&number));
        }
    }
}

impl Permits {
    fn new(permits: usize) -> Self {
        Self { free: permits.max(1), held: HashMap::new(), waiting: FairQueue::default() }
    }

    fn held_by(&self, namespace: u32) -> usize {
        self.held.get(&namespace).copied().unwrap_or(0)
    }

    /// The next to get a permit, if one is free: the namespace and the ticket's number. The function is given a namespace
    /// and what it holds.
    fn next(&mut self, may_get_one: impl Fn(u32, usize) -> bool) -> Option<(u32, u64)> {
        if self.free == 0 {
            return None;
        }
        let Self { held, waiting, .. } = self;
        let next =
            waiting.pop_if(|namespace| may_get_one(namespace, held.get(&namespace).copied().unwrap_or(0)));
        next.map(|(namespace, (_, number))| (namespace, number))
    }

    fn hand_out(&mut self, namespace: u32, waker: Option<oneshot::Sender<()>>) {
        self.free -= 1;
        *self.held.entry(namespace).or_default() += 1;
        let is_taken = waker.is_some_and(|waker| waker.send(()).is_ok());
        if !is_taken {
            self.release(namespace);
        }
    }

    fn release(&mut self, namespace: u32) {
        self.free += 1;
        self.forget(namespace);
    }

    /// The permit does not count for its namespace any more.
    fn forget(&mut self, namespace: u32) {
        if let Some(held) = self.held.get_mut(&namespace) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&namespace);
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.semaphore.release(self);
    }
}

/// A wait that may be cancelled.
struct Waiter<'a> {
    semaphore: &'a FairSemaphore,
    urgency: Urgency,
    key: FairnessKey,
    ticket: Ticket,
    is_over: bool,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let mut state = self.semaphore.state.lock();
        let was_waiting = state.wakers.remove(&self.ticket.1).is_some();
        if was_waiting {
            state.permits(self.urgency).waiting.remove(self.key, &self.ticket);
        } else {
            // The permit was handed out and not received.
            state.release(self.key.namespace, self.urgency, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests;
