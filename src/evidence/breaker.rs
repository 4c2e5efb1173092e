//! Leaves a store alone that does not answer.
//!
//! A request to a store that hangs takes minutes, and holds memory that the evidence of others waits for. So once a
//! store is silent it rests; then one verification at a time finds out whether it is back.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// How long a silent store is left alone.
const REST: Duration = Duration::from_secs(10);
/// A silent store that nobody asked for in this time is forgotten.
const FORGOTTEN: Duration = Duration::from_hours(1);

/// Which stores are silent. The name of a store is whatever tells it from others.
#[derive(Debug, Default)]
pub struct StoreBreaker {
    silent: Mutex<HashMap<String, Silent>>,
}

#[derive(Debug)]
struct Silent {
    rests_until: Instant,
    asked: bool,
}

/// Leave to use a store, until it is dropped.
#[derive(Debug)]
pub struct StorePass<'a> {
    breaker: &'a StoreBreaker,
    store: String,
    probes: bool,
}

impl StoreBreaker {
    /// Leave to use that store; none while it rests, and while another one finds out whether it is back.
    #[must_use]
    pub fn admit(&self, store: String) -> Option<StorePass<'_>> {
        let now = Instant::now();
        let probes = match self.silent().get_mut(&store) {
            None => false,
            Some(silent) if silent.asked || now < silent.rests_until => return None,
            Some(silent) => {
                silent.asked = true;
                true
            }
        };
        Some(StorePass { breaker: self, store, probes })
    }

    /// Every change under the lock is complete before it can panic.
    fn silent(&self) -> MutexGuard<'_, HashMap<String, Silent>> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StorePass<'_> {
    /// The store answered: everybody may use it.
    pub fn answered(self) {
        self.breaker.silent().remove(&self.store);
    }

    /// The store did not answer: it rests.
    pub fn was_silent(self) {
        let now = Instant::now();
        let mut silent = self.breaker.silent();
        silent.retain(|_, other| other.asked || now < other.rests_until + FORGOTTEN);
        silent.insert(self.store.clone(), Silent { rests_until: now + REST, asked: false });
    }
}

impl Drop for StorePass<'_> {
    fn drop(&mut self) {
        if self.probes
            && let Some(silent) = self.breaker.silent().get_mut(&self.store)
        {
            silent.asked = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn name() -> String {
        "s3://bucket".to_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_store_rests_and_others_do_not() {
        let breaker = StoreBreaker::default();
        breaker.admit(name()).unwrap().was_silent();
        assert!(breaker.admit(name()).is_none());
        assert!(breaker.admit("s3://other".to_owned()).is_some());
        advance(REST).await;
        assert!(breaker.admit(name()).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn one_at_a_time_finds_out_whether_it_is_back() {
        let breaker = StoreBreaker::default();
        breaker.admit(name()).unwrap().was_silent();
        advance(REST).await;
        let probe = breaker.admit(name()).unwrap();
        assert!(breaker.admit(name()).is_none());
        probe.was_silent();
        assert!(breaker.admit(name()).is_none());
        advance(REST).await;
        breaker.admit(name()).unwrap().answered();
        let both = [breaker.admit(name()), breaker.admit(name())];
        assert!(both.iter().all(Option::is_some));
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_found_out_nothing_leaves_it_to_the_next() {
        let breaker = StoreBreaker::default();
        breaker.admit(name()).unwrap().was_silent();
        advance(REST).await;
        drop(breaker.admit(name()).unwrap());
        assert!(breaker.admit(name()).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_was_under_way_and_is_answered_late_ends_the_rest() {
        let breaker = StoreBreaker::default();
        let [first, second] = [breaker.admit(name()).unwrap(), breaker.admit(name()).unwrap()];
        first.was_silent();
        second.answered();
        assert!(breaker.admit(name()).is_some());
    }
}
