//! A queue that serves namespaces round robin, and the keys of each namespace round robin. Pure.

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::key::FairnessKey;

/// Items in the order in which they are served: round robin over the namespaces, inside each over its keys, and of one
/// key the least item first.
///
/// Each operation takes logarithmic time, apart from what [`pop_if`](Self::pop_if) skips.
#[derive(Debug)]
pub(crate) struct FairQueue<T> {
    namespaces: RoundRobin<RoundRobin<BTreeSet<T>>>,
}

/// Queues by number, served round robin.
#[derive(Debug)]
struct RoundRobin<Q> {
    queues: HashMap<u32, Q>,
    /// Each number of the map once, the next to serve first.
    order: VecDeque<u32>,
    len: usize,
}

impl<Q> Default for RoundRobin<Q> {
    fn default() -> Self {
        Self { queues: HashMap::new(), order: VecDeque::new(), len: 0 }
    }
}

impl<Q: Default> RoundRobin<Q> {
    fn queue(&mut self, number: u32) -> &mut Q {
        self.queues.entry(number).or_insert_with(|| {
            self.order.push_back(number);
            Q::default()
        })
    }
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self { namespaces: RoundRobin::default() }
    }
}

impl<T: Ord> FairQueue<T> {
    /// Adds an item, unless it is there already.
    pub(crate) fn insert(&mut self, key: FairnessKey, item: T) {
        let namespace = self.namespaces.queue(key.namespace);
        if namespace.queue(key.key).insert(item) {
            namespace.len += 1;
            self.namespaces.len += 1;
        }
    }

    /// Removes an item. A queue that this empties stays in the order until it is served, so that it is never there
    /// twice.
    pub(crate) fn remove(&mut self, key: FairnessKey, item: &T) {
        let Some(namespace) = self.namespaces.queues.get_mut(&key.namespace) else { return };
        let Some(items) = namespace.queues.get_mut(&key.key) else { return };
        if items.remove(item) {
            namespace.len -= 1;
            self.namespaces.len -= 1;
        }
    }

    /// Pops the next item among the namespaces that may be served now, with its namespace.
    pub(crate) fn pop_if(&mut self, may_be_served: impl Fn(u32) -> bool) -> Option<(u32, T)> {
        for _ in 0..self.namespaces.order.len() {
            let number = self.namespaces.order.pop_front()?;
            let Some(namespace) = self.namespaces.queues.get_mut(&number) else { continue };
            if namespace.len == 0 {
                self.namespaces.queues.remove(&number);
                continue;
            }
            self.namespaces.order.push_back(number);
            if !may_be_served(number) {
                continue;
            }
            let item = namespace.pop_next();
            self.namespaces.len -= usize::from(item.is_some());
            return item.map(|item| (number, item));
        }
        None
    }

    /// Whether the namespace has items, and at least half as many as the namespaces on average. One that was emptied counts
    /// until it would have been served.
    #[must_use]
    pub(crate) fn has_half_the_mean_length(&self, namespace: u32) -> bool {
        let RoundRobin { queues, len, .. } = &self.namespaces;
        queues.get(&namespace).is_some_and(|queue| queue.len > 0 && 2 * queue.len * queues.len() >= *len)
    }

    /// The number of items.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.namespaces.len
    }

    /// Whether there are no items.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T: Ord> RoundRobin<BTreeSet<T>> {
    fn pop_next(&mut self) -> Option<T> {
        while let Some(number) = self.order.pop_front() {
            let Some(item) = self.queues.get_mut(&number).and_then(BTreeSet::pop_first) else {
                self.queues.remove(&number);
                continue;
            };
            self.order.push_back(number);
            self.len -= 1;
            return Some(item);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(namespace: u32, key: u32) -> FairnessKey {
        FairnessKey { namespace, key }
    }

    fn pop<T: Copy + Ord>(queue: &mut FairQueue<T>) -> Option<T> {
        queue.pop_if(|_| true).map(|(_, item)| item)
    }

    #[test]
    fn a_namespace_with_a_hundred_keys_is_served_as_often_as_one_with_one() {
        let mut queue = FairQueue::default();
        for item in 0..1_000_u32 {
            queue.insert(key(1, item % 100), item);
        }
        for item in 1_000..1_010 {
            queue.insert(key(2, 0), item);
        }
        let first: Vec<_> = (0..20).filter_map(|_| pop(&mut queue)).collect();
        assert_eq!(first.iter().filter(|item| **item >= 1_000).count(), 10);
        assert_eq!(queue.len(), 990);
    }

    #[test]
    fn keys_are_served_round_robin_and_of_one_key_the_least_item_goes_first() {
        let mut queue = FairQueue::default();
        for item in [5, 3, 4, 1] {
            queue.insert(key(1, 1), item);
        }
        queue.insert(key(1, 2), 9);
        let order: Vec<_> = std::iter::from_fn(|| pop(&mut queue)).collect();
        assert_eq!(order, [1, 9, 3, 4, 5]);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_namespace_that_may_not_be_served_keeps_its_items_and_delays_no_other() {
        let mut queue = FairQueue::default();
        queue.insert(key(1, 1), 'a');
        queue.insert(key(2, 1), 'b');
        assert_eq!(queue.pop_if(|namespace| namespace != 1), Some((2, 'b')));
        assert_eq!(queue.pop_if(|namespace| namespace != 1), None);
        assert_eq!(pop(&mut queue), Some('a'));
    }

    #[test]
    fn a_namespace_is_compared_with_the_mean_of_those_in_the_queue() {
        let mut queue = FairQueue::default();
        for (namespace, items) in [(1, 8), (2, 2), (3, 1)] {
            for item in 0..items {
                queue.insert(key(namespace, 1), item);
            }
        }
        let compared = [1, 2, 3, 4].map(|namespace| queue.has_half_the_mean_length(namespace));
        assert_eq!(compared, [true, true, false, false]);
        for (namespace, items) in [(1, 8), (2, 2), (3, 1)] {
            for item in 0..items {
                queue.remove(key(namespace, 1), &item);
            }
        }
        assert!(!queue.has_half_the_mean_length(1), "it has none");
    }

    #[test]
    fn an_item_that_is_removed_and_added_again_is_served_once() {
        let mut queue = FairQueue::default();
        for _ in 0..3 {
            queue.insert(key(1, 1), 'a');
            queue.remove(key(1, 1), &'a');
        }
        queue.insert(key(1, 1), 'a');
        queue.insert(key(1, 1), 'a');
        assert_eq!((queue.len(), pop(&mut queue), pop(&mut queue)), (1, Some('a'), None));
    }
}
