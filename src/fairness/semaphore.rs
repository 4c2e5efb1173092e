//! A semaphore that serves namespaces in turn. Touches tokio's tasks.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{FairnessKey, queue::FairQueue};

/// Permits for what many want to do at once: namespaces take turns, no namespace holds more than its part, and a wait
/// that is given up leaves the queue.
#[derive(Debug)]
pub struct FairSemaphore {
    state: Mutex<Waiters>,
    most_of_one: usize,
}

#[derive(Debug)]
struct Waiters {
    free: usize,
    /// Permits that each namespace holds.
    held: HashMap<u32, usize>,
    waiting: FairQueue<Place>,
    told: HashMap<u64, oneshot::Sender<()>>,
    /// Counts those who waited.
    count: u64,
}

/// A place among those of one key: the lower the rank, the earlier; then who came first.
type Place = (u8, u64);

/// A permit; it ends when this is dropped.
#[derive(Debug)]
pub struct Permit {
    semaphore: Arc<FairSemaphore>,
    namespace: u32,
}

impl FairSemaphore {
    /// That many permits, of which one namespace holds no more than `most_of_one`; at least one each.
    #[must_use]
    pub fn new(most: usize, most_of_one: usize) -> Arc<Self> {
        let state = Waiters {
            free: most.max(1),
            held: HashMap::new(),
            waiting: FairQueue::default(),
            told: HashMap::new(),
            count: 0,
        };
        Arc::new(Self { state: Mutex::new(state), most_of_one: most_of_one.max(1) })
    }

    /// Waits for a permit. Of those with the same key the ones with the lowest rank go first.
    pub async fn acquire(self: &Arc<Self>, key: FairnessKey, rank: u8) -> Permit {
        let (place, told) = {
            let mut state = self.state.lock();
            let place = (rank, state.count);
            state.count += 1;
            let (tell, told) = oneshot::channel();
            state.waiting.insert(key, place);
            state.told.insert(place.1, tell);
            state.serve(self.most_of_one);
            (place, told)
        };
        let mut wait = Wait { semaphore: self, key, place, is_over: false };
        // The sender is dropped only by a wait that is given up.
        let _ = told.await;
        wait.is_over = true;
        Permit { semaphore: Arc::clone(self), namespace: key.namespace }
    }

    fn release(&self, namespace: u32) {
        let mut state = self.state.lock();
        state.give_back(namespace);
        state.serve(self.most_of_one);
    }
}

impl Waiters {
    /// Gives permits to those whose turn it is, as far as there are any.
    fn serve(&mut self, most_of_one: usize) {
        while self.free > 0 {
            let Self { held, waiting, .. } = self;
            let next = waiting.take_if(|namespace| held.get(&namespace).copied().unwrap_or(0) < most_of_one);
            let Some((namespace, (_, number))) = next else { return };
            self.free -= 1;
            *self.held.entry(namespace).or_default() += 1;
            let is_taken = self.told.remove(&number).is_some_and(|tell| tell.send(()).is_ok());
            if !is_taken {
                self.give_back(namespace);
            }
        }
    }

    fn give_back(&mut self, namespace: u32) {
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
        self.semaphore.release(self.namespace);
    }
}

/// A wait that may be given up.
struct Wait<'a> {
    semaphore: &'a FairSemaphore,
    key: FairnessKey,
    place: Place,
    is_over: bool,
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let mut state = self.semaphore.state.lock();
        let was_waiting = state.told.remove(&self.place.1).is_some();
        if was_waiting {
            state.waiting.remove(self.key, &self.place);
        } else {
            // The permit came and nobody took it.
            state.give_back(self.key.namespace);
            state.serve(self.semaphore.most_of_one);
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
    async fn one_that_comes_late_goes_next_whatever_crowd_of_another_namespace_waits() {
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
        let place = served.iter().position(|namespace| *namespace == 2).unwrap();
        assert!(place <= 5, "served as number {place} of {}", served.len());
        assert_eq!(served.len(), 1_001);
    }

    #[tokio::test]
    async fn no_namespace_holds_more_than_its_part_and_the_rest_is_for_others() {
        let semaphore = FairSemaphore::new(3, 2);
        let held: Vec<_> = (0..5).map(|_| semaphore.acquire(of(1), 0).now_or_never()).collect();
        assert_eq!(held.iter().flatten().count(), 2);
        let other = semaphore.acquire(of(2), 0).now_or_never();
        assert!(other.is_some());
        drop(held);
        assert!(semaphore.acquire(of(1), 0).now_or_never().is_some());
    }

    #[tokio::test]
    async fn of_one_key_what_was_begun_goes_before_what_begins() {
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
    async fn a_wait_that_is_given_up_keeps_no_permit_and_no_place() {
        let semaphore = FairSemaphore::new(1, 1);
        let held = semaphore.acquire(of(1), 0).await;
        let mut waits: Vec<_> = (0..2).map(|_| Box::pin(semaphore.acquire(of(1), 0))).collect();
        for wait in &mut waits {
            assert!(wait.as_mut().now_or_never().is_none());
        }
        drop(waits.pop());
        drop(held);
        // The permit is given to the first by now, which drops it unseen.
        drop(waits);
        assert!(semaphore.acquire(of(2), 0).now_or_never().is_some());
        assert_eq!(semaphore.state.lock().waiting.len(), 0);
    }
}
