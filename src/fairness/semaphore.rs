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
    /// Permits that each namespace holds.
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
                let semaphore = Arc::clone(self);
                runtime.spawn(async move {
                    sleep(pause).await;
                    semaphore.state.lock().release(namespace, urgency, Instant::now());
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

    /// How long a permit stays unused, although others of its namespace wait for it.
    fn pause(&self, permit: &Permit, now: Instant) -> Option<Duration> {
        let concurrency = self.concurrency.as_ref()?;
        let is_next_waiting =
            permit.urgency == Urgency::Ordinary && self.ordinary.waiting.has(permit.namespace);
        is_next_waiting.then(|| concurrency.pause(now.duration_since(permit.since), now))?
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
mod tests {
    use std::collections::VecDeque;

    use futures::FutureExt as _;
    use tokio::task::JoinSet;

    use super::*;

    fn of(namespace: u32) -> FairnessKey {
        FairnessKey { namespace, key: 0 }
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_namespace_is_served_next_however_many_of_another_one_wait() {
        let semaphore = FairSemaphore::new(2, 2);
        let served = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        for (namespace, key) in (0..1_000).map(|number| (1, number % 100)).chain([(2, 0)]) {
            let (semaphore, served) = (Arc::clone(&semaphore), Arc::clone(&served));
            tasks.spawn(async move {
                let _permit = semaphore.acquire(FairnessKey { namespace, key }, 0).await;
                served.lock().push(namespace);
                tokio::task::yield_now().await;
            });
        }
        tasks.join_all().await;
        let served = served.lock();
        let position = served.iter().position(|namespace| *namespace == 2).unwrap();
        assert!(position <= 5, "served as number {position} of {}", served.len());
        assert_eq!(served.len(), 1_001);
    }

    #[tokio::test]
    async fn no_namespace_holds_more_than_its_part_and_the_rest_is_left_to_others() {
        let semaphore = FairSemaphore::new(3, 2);
        let held: Vec<_> = (0..5).map(|_| semaphore.acquire(of(1), 0).now_or_never()).collect();
        assert_eq!(held.iter().flatten().count(), 2);
        let other = semaphore.acquire(of(2), 0).now_or_never();
        assert!(other.is_some());
        drop(held);
        assert!(semaphore.acquire(of(1), 0).now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_namespace_holds_fewer_permits_while_another_one_wants_some_too() {
        let semaphore = FairSemaphore::adaptive(8, 6);
        let acquire = |namespace| {
            let permits = (0..6).filter_map(|_| semaphore.acquire(of(namespace), 0).now_or_never());
            permits.collect::<Vec<_>>()
        };
        let alone = acquire(1);
        assert_eq!(alone.len(), 6);
        let other = acquire(2);
        drop(alone);
        assert_eq!((other.len(), acquire(1).len()), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn beside_others_a_permit_is_unused_as_long_as_it_was_held_if_the_namespace_wants_more() {
        const HELD: Duration = Duration::from_millis(10);
        let semaphore = FairSemaphore::adaptive(8, 6);
        let since = Instant::now();
        for namespace in [1, 2] {
            let held = semaphore.acquire(of(namespace), 0).await;
            sleep(HELD).await;
            drop(held);
            let next = semaphore.acquire(of(namespace), 0).now_or_never();
            assert!(next.is_some(), "none waited for it");
        }
        let held = semaphore.acquire(of(1), 0).await;
        let mut next = Box::pin(semaphore.acquire(of(1), 0));
        assert!(next.as_mut().now_or_never().is_none());
        sleep(HELD).await;
        drop(held);
        assert!(next.as_mut().now_or_never().is_none());
        let other = semaphore.acquire(of(2), 0).now_or_never();
        assert!(other.is_some(), "the others do not wait");
        drop(next.await);
        assert_eq!(since.elapsed(), 4 * HELD);

        let urgent = semaphore.acquire_urgently(of(1)).await;
        let next = semaphore.acquire(of(1), 0);
        sleep(HELD).await;
        let (_next, ()) = tokio::join!(next, async move { drop(urgent) });
        assert_eq!(since.elapsed(), 5 * HELD, "what is urgent is followed by no pause");
    }

    #[tokio::test]
    async fn what_is_urgent_never_waits_for_the_rest_and_takes_its_place_beside_others() {
        let semaphore = FairSemaphore::adaptive(8, 6);
        let acquire = |namespace| semaphore.acquire(of(namespace), 0).now_or_never();
        let urgently = |namespace| semaphore.acquire_urgently(of(namespace)).now_or_never();
        let held: Vec<_> = (0..6).filter_map(|_| acquire(1)).collect();
        let urgent: Vec<_> = (0..8).filter_map(|_| urgently(1)).collect();
        assert_eq!((held.len(), urgent.len()), (6, 6), "alone");
        drop(held);
        assert_eq!((0..8).filter_map(|_| acquire(1)).count(), 8, "one after the other");

        let other = acquire(2);
        assert!(other.is_some() && acquire(1).is_none());
        assert!(urgently(2).is_some());
        drop(urgent);
        assert!(acquire(1).is_some());
    }

    #[tokio::test]
    async fn of_one_key_the_lowest_rank_goes_first() {
        let semaphore = FairSemaphore::new(1, 1);
        let first = semaphore.acquire(of(1), 0).await;
        let mut waiting: VecDeque<_> =
            [2, 0, 1].map(|rank| (rank, Box::pin(semaphore.acquire(of(1), rank)))).into();
        for (_, wait) in &mut waiting {
            assert!(wait.as_mut().now_or_never().is_none());
        }
        drop(first);
        let mut served = Vec::new();
        while let Some((rank, mut wait)) = waiting.pop_front() {
            match wait.as_mut().now_or_never() {
                Some(permit) => {
                    served.push(rank);
                    drop(permit);
                }
                None => waiting.push_back((rank, wait)),
            }
        }
        assert_eq!(served, [0, 1, 2]);
    }

    #[tokio::test]
    async fn a_wait_that_is_cancelled_holds_no_permit_and_leaves_the_queue() {
        let semaphore = FairSemaphore::new(1, 1);
        let held = semaphore.acquire(of(1), 0).await;
        let mut waits: Vec<_> = (0..2).map(|_| Box::pin(semaphore.acquire(of(1), 0))).collect();
        for wait in &mut waits {
            assert!(wait.as_mut().now_or_never().is_none());
        }
        drop(waits.pop());
        drop(held);
        // The permit was handed to the first by now, which drops it without receiving it.
        drop(waits);
        assert!(semaphore.acquire(of(2), 0).now_or_never().is_some());
        assert_eq!(semaphore.state.lock().ordinary.waiting.len(), 0);
    }
}
