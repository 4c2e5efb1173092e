//! Permits by themselves.

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
async fn a_namespace_that_waits_for_more_pauses_after_a_permit_as_long_as_it_held_it() {
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

#[tokio::test(start_paused = true)]
async fn others_use_a_permit_while_its_namespace_pauses() {
    let semaphore = FairSemaphore::adaptive(1, 1);
    drop(semaphore.acquire(of(2), 0).await);
    let held = semaphore.acquire(of(1), 0).await;
    let mut waits = [1, 2].map(|namespace| Box::pin(semaphore.acquire(of(namespace), 0)));
    for wait in &mut waits {
        assert!(wait.as_mut().now_or_never().is_none());
    }
    sleep(Duration::from_millis(10)).await;
    drop(held);
    let [next, other] = &mut waits;
    assert!(next.as_mut().now_or_never().is_none(), "it pauses");
    let other = other.as_mut().now_or_never();
    assert!(other.is_some());
    sleep(Duration::from_millis(20)).await;
    assert!(next.as_mut().now_or_never().is_none(), "the other one has it");
    drop(other);
    assert!(next.as_mut().now_or_never().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_waits_for_much_less_than_another_one_does_not_pause() {
    let semaphore = FairSemaphore::adaptive(8, 6);
    let (large, small) = (semaphore.acquire(of(1), 0).await, semaphore.acquire(of(2), 0).await);
    let mut waits = [1, 1, 1, 1, 2].map(|namespace| Box::pin(semaphore.acquire(of(namespace), 0)));
    for wait in &mut waits {
        assert!(wait.as_mut().now_or_never().is_none());
    }
    sleep(Duration::from_millis(10)).await;
    drop((large, small));
    let served = waits.each_mut().map(|wait| wait.as_mut().now_or_never().is_some());
    assert_eq!(served, [false, false, false, false, true]);
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
