//! A circuit breaker for stores that give no response.
//!
//! A request to a store that hangs takes minutes, and holds memory that the evidence of others waits for. So the circuit opens
//! for whoever got no response, and after a pause one request at a time probes the store. It stays closed for others: the
//! cause may be one namespace's own bucket or credentials. Only a server that responds to nobody is open for all.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

/// How long a circuit is open before the store is probed.
const OPEN_FOR: Duration = Duration::from_secs(10);
/// A server that responded to nobody for this long is open for all.
const UNRESPONSIVE_AFTER: Duration = Duration::from_secs(30);
/// Who used a store last before this is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_hours(1);
/// A namespace whose probe failed leaves the next probe to another one that asked for it within this time.
const PROBE_PERIOD: Duration = Duration::from_mins(5);
/// Most users of stores that are remembered; with more, the longest idle one is forgotten.
const MOST: usize = 4096;

/// Who uses a store: what hangs for one hangs for whoever has the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StoreUser {
    /// The server, in one form for all who are there.
    pub endpoint: String,
    /// The bucket, container or folder.
    pub bucket: String,
    /// On whose behalf.
    pub namespace: String,
    /// A number for the credentials of the namespace's own.
    pub credentials: u64,
}

/// Which stores are unresponsive, and for whom.
#[derive(Debug, Default)]
pub struct StoreBreaker {
    circuits: Mutex<Circuits>,
}

#[derive(Debug, Default)]
struct Circuits {
    users: HashMap<StoreUser, Use>,
    /// Servers that somebody had no answer from, and nobody one since.
    unresponsive: HashMap<String, Unresponsive>,
}

#[derive(Debug)]
struct Use {
    last: Instant,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    until: Instant,
    is_probed: bool,
}

#[derive(Debug)]
struct Unresponsive {
    since: Instant,
    /// Whether two namespaces had no answer.
    is_seen_by_two: bool,
    /// The first of them.
    namespace: String,
    open: Open,
    /// Who looked last.
    prober: Option<String>,
    /// Another one who wanted to, and when.
    waiting: Option<(String, Instant)>,
}

/// What somebody finds out beside what he does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probe {
    /// Nothing: the store answers as far as is known.
    None,
    /// Whether the store is back for this user.
    Own,
    /// Whether the server is back for anybody.
    Shared,
}

/// Leave to use a store, until it is dropped.
#[derive(Debug)]
pub struct StorePass<'a> {
    breaker: &'a StoreBreaker,
    user: StoreUser,
    probe: Probe,
}

impl StoreBreaker {
    /// A pass to use that store; none while its circuit is open, or while another request probes it.
    #[must_use]
    pub fn admit(&self, user: StoreUser) -> Option<StorePass<'_>> {
        let probe = self.circuits.lock().admit(&user, Instant::now())?;
        Some(StorePass { breaker: self, user, probe })
    }
}

impl Circuits {
    fn admit(&mut self, user: &StoreUser, now: Instant) -> Option<Probe> {
        self.touch(user, now);
        if self.answers_nobody(&user.endpoint, now) {
            let unresponsive = self.unresponsive.get_mut(&user.endpoint)?;
            return unresponsive.admit(&user.namespace, now).then_some(Probe::Shared);
        }
        match self.users.get_mut(user).and_then(|used| used.open.as_mut()) {
            None => Some(Probe::None),
            Some(open) if open.is_over(now) => {
                open.is_probed = true;
                Some(Probe::Own)
            }
            Some(_) => None,
        }
    }

    fn touch(&mut self, user: &StoreUser, now: Instant) {
        if let Some(used) = self.users.get_mut(user) {
            used.last = now;
            return;
        }
        if self.users.len() >= MOST {
            self.users.retain(|_, used| now < used.last + FORGOTTEN_AFTER);
        }
        if self.users.len() >= MOST
            && let Some(idle) =
                self.users.iter().min_by_key(|(_, used)| used.last).map(|(user, _)| user.clone())
        {
            self.users.remove(&idle);
        }
        self.users.insert(user.clone(), Use { last: now, open: None });
    }

    /// Whether nobody had an answer for some time, and two namespaces had none, or the only one that uses the server.
    fn answers_nobody(&self, endpoint: &str, now: Instant) -> bool {
        let Some(unresponsive) = self.unresponsive.get(endpoint) else { return false };
        let is_another = |(user, used): (&StoreUser, &Use)| {
            user.endpoint == endpoint
                && user.namespace != unresponsive.namespace
                && now < used.last + FORGOTTEN_AFTER
        };
        now >= unresponsive.since + UNRESPONSIVE_AFTER
            && (unresponsive.is_seen_by_two || !self.users.iter().any(is_another))
    }

    fn was_silent(&mut self, user: &StoreUser, now: Instant) {
        let open = || Open { until: now + OPEN_FOR, is_probed: false };
        if let Some(used) = self.users.get_mut(user) {
            used.open = Some(open());
        }
        self.unresponsive.retain(|_, unresponsive| {
            unresponsive.open.is_probed || now < unresponsive.open.until + FORGOTTEN_AFTER
        });
        let unresponsive = self.unresponsive.entry(user.endpoint.clone()).or_insert_with(|| Unresponsive {
            since: now,
            is_seen_by_two: false,
            namespace: user.namespace.clone(),
            open: open(),
            prober: None,
            waiting: None,
        });
        unresponsive.is_seen_by_two |= unresponsive.namespace != user.namespace;
        unresponsive.open.until = now + OPEN_FOR;
    }

    fn answered(&mut self, user: &StoreUser) {
        self.unresponsive.remove(&user.endpoint);
        if let Some(used) = self.users.get_mut(user) {
            used.open = None;
        }
    }

    fn ended(&mut self, user: &StoreUser, probe: Probe) {
        let open = match probe {
            Probe::None => return,
            Probe::Own => self.users.get_mut(user).and_then(|used| used.open.as_mut()),
            Probe::Shared => {
                self.unresponsive.get_mut(&user.endpoint).map(|unresponsive| &mut unresponsive.open)
            }
        };
        if let Some(open) = open {
            open.is_probed = false;
        }
    }
}

impl Open {
    fn is_over(&self, now: Instant) -> bool {
        !self.is_probed && now >= self.until
    }
}

impl Unresponsive {
    /// Whether this namespace may send the next probe. They alternate, so that one which never gets a response does not take
    /// them all.
    fn admit(&mut self, namespace: &str, now: Instant) -> bool {
        let is_last = self.prober.as_deref() == Some(namespace);
        let may_probe = !is_last || self.waiting.as_ref().is_none_or(|(_, at)| now >= *at + PROBE_PERIOD);
        if !may_probe || !self.open.is_over(now) {
            if !is_last {
                self.waiting = Some((namespace.to_owned(), now));
            }
            return false;
        }
        self.open.is_probed = true;
        self.prober = Some(namespace.to_owned());
        self.waiting.take_if(|(waiting, _)| waiting == namespace);
        true
    }
}

impl StorePass<'_> {
    /// The store answered: this user may use it, and nobody else waits for it because of others.
    pub fn answered(self) {
        self.breaker.circuits.lock().answered(&self.user);
    }

    /// The store did not respond: the circuit opens, for this user at least.
    pub fn was_silent(self) {
        let mut circuits = self.breaker.circuits.lock();
        circuits.was_silent(&self.user, Instant::now());
    }
}

impl Drop for StorePass<'_> {
    fn drop(&mut self) {
        self.breaker.circuits.lock().ended(&self.user, self.probe);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn user(namespace: &str, credentials: u64) -> StoreUser {
        let (endpoint, bucket) = ("https://s3.example".to_owned(), "bucket".to_owned());
        StoreUser { endpoint, bucket, namespace: namespace.to_owned(), credentials }
    }

    fn admits(breaker: &StoreBreaker, user: StoreUser) -> bool {
        breaker.admit(user).is_some()
    }

    /// Both namespaces use the server, and it answers nobody.
    async fn answering_nobody() -> StoreBreaker {
        let breaker = StoreBreaker::default();
        for namespace in ["a", "b"] {
            breaker.admit(user(namespace, 1)).unwrap().was_silent();
        }
        advance(UNRESPONSIVE_AFTER).await;
        breaker
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_store_rests_for_who_got_no_answer_and_for_nobody_else() {
        let breaker = StoreBreaker::default();
        assert!(admits(&breaker, user("b", 1)));
        breaker.admit(user("a", 1)).unwrap().was_silent();
        assert!(!admits(&breaker, user("a", 1)));
        for other in [
            user("a", 2),
            user("b", 1),
            StoreUser { bucket: "other".to_owned(), ..user("a", 1) },
            StoreUser { endpoint: "https://other.example".to_owned(), ..user("a", 1) },
        ] {
            assert!(admits(&breaker, other.clone()), "{other:?}");
        }
        advance(OPEN_FOR).await;
        assert!(admits(&breaker, user("a", 1)));
    }

    #[tokio::test(start_paused = true)]
    async fn one_at_a_time_finds_out_whether_it_is_back() {
        let breaker = StoreBreaker::default();
        breaker.admit(user("a", 1)).unwrap().was_silent();
        advance(OPEN_FOR).await;
        let probe = breaker.admit(user("a", 1)).unwrap();
        assert!(!admits(&breaker, user("a", 1)));
        probe.was_silent();
        assert!(!admits(&breaker, user("a", 1)));
        advance(OPEN_FOR).await;
        breaker.admit(user("a", 1)).unwrap().answered();
        let both = [breaker.admit(user("a", 1)), breaker.admit(user("a", 1))];
        assert!(both.iter().all(Option::is_some));
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_found_out_nothing_leaves_it_to_the_next() {
        let breaker = StoreBreaker::default();
        breaker.admit(user("a", 1)).unwrap().was_silent();
        advance(OPEN_FOR).await;
        drop(breaker.admit(user("a", 1)).unwrap());
        assert!(admits(&breaker, user("a", 1)));
        let breaker = answering_nobody().await;
        drop(breaker.admit(user("a", 1)).unwrap());
        assert!(admits(&breaker, user("b", 1)));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_was_under_way_and_is_answered_late_ends_the_rest() {
        let breaker = StoreBreaker::default();
        let [first, second] = [(); 2].map(|()| breaker.admit(user("a", 1)).unwrap());
        first.was_silent();
        second.answered();
        assert!(admits(&breaker, user("a", 1)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_answers_nobody_has_one_probe_for_all() {
        let breaker = answering_nobody().await;
        let probe = breaker.admit(user("b", 2)).unwrap();
        assert!(!admits(&breaker, user("a", 1)));
        assert!(!admits(&breaker, user("c", 1)), "also who has not asked yet");
        probe.was_silent();
        advance(OPEN_FOR).await;
        breaker.admit(user("c", 1)).unwrap().answered();
        assert!(
            admits(&breaker, user("a", 1)) && admits(&breaker, user("b", 1)),
            "their own open is over too"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn one_answer_to_anybody_shows_that_the_server_is_there() {
        let breaker = StoreBreaker::default();
        let slow = breaker.admit(user("c", 1)).unwrap();
        for namespace in ["a", "b"] {
            breaker.admit(user(namespace, 1)).unwrap().was_silent();
        }
        advance(UNRESPONSIVE_AFTER / 2).await;
        slow.answered();
        breaker.admit(user("a", 1)).unwrap().was_silent();
        advance(UNRESPONSIVE_AFTER / 2).await;
        let all = [user("a", 1), user("b", 1), user("c", 1)].map(|user| breaker.admit(user));
        assert!(all.iter().all(Option::is_some), "each for its own");
    }

    #[tokio::test(start_paused = true)]
    async fn one_namespace_alone_makes_no_server_rest_unless_nobody_else_uses_it() {
        let breaker = StoreBreaker::default();
        assert!(admits(&breaker, user("b", 1)));
        for credentials in 1..50 {
            breaker.admit(user("a", credentials)).unwrap().was_silent();
        }
        advance(UNRESPONSIVE_AFTER).await;
        let both = [breaker.admit(user("b", 1)), breaker.admit(user("b", 1))];
        assert!(both.iter().all(Option::is_some));
        let breaker = StoreBreaker::default();
        for credentials in 1..3 {
            breaker.admit(user("a", credentials)).unwrap().was_silent();
        }
        advance(UNRESPONSIVE_AFTER).await;
        let _probe = breaker.admit(user("a", 1)).unwrap();
        assert!(!admits(&breaker, user("a", 2)), "one for all of its credentials");
    }

    #[tokio::test(start_paused = true)]
    async fn namespaces_take_turns_at_finding_out_and_wait_for_nobody_who_is_gone() {
        let breaker = answering_nobody().await;
        let probe = breaker.admit(user("a", 1)).unwrap();
        assert!(!admits(&breaker, user("b", 1)));
        probe.was_silent();
        advance(OPEN_FOR).await;
        assert!(!admits(&breaker, user("a", 1)), "the other one probes next");
        breaker.admit(user("b", 1)).unwrap().was_silent();
        advance(OPEN_FOR).await;
        let probe = breaker.admit(user("a", 1)).unwrap();
        assert!(!admits(&breaker, user("b", 1)));
        probe.was_silent();
        advance(PROBE_PERIOD).await;
        assert!(admits(&breaker, user("a", 1)), "the other one does not come");
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_idle_of_too_many_is_forgotten() {
        let breaker = StoreBreaker::default();
        assert!(admits(&breaker, user("b", 1)));
        for credentials in 0..MOST as u64 + 10 {
            breaker.admit(user("a", credentials)).unwrap().was_silent();
            advance(Duration::from_millis(1)).await;
        }
        let circuits = breaker.circuits.lock();
        assert_eq!(circuits.users.len(), MOST);
        assert!(!circuits.users.contains_key(&user("b", 1)) && circuits.users.contains_key(&user("a", 100)));
    }
}
