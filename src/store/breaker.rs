//! A circuit breaker for stores that do not respond. No clock but tokio's.
//!
//! A request to a store that hangs takes minutes and holds memory that other evidence waits for. So the circuit opens for
//! the user that got no response, and after a pause one request at a time probes the store. It stays closed for other users,
//! because the cause may be one namespace's bucket or credentials. Only if a server responds to no user at all does the
//! circuit open for all of them.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

/// How long a circuit is open before the store is probed.
const OPEN_FOR: Duration = Duration::from_secs(10);
/// The circuit of a server that responded to no user for this long opens for all users.
const UNRESPONSIVE_AFTER: Duration = Duration::from_secs(30);
/// A user that was idle for this long is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_hours(1);
/// A namespace whose probe failed leaves the next probe to another namespace that wanted one within this time.
const PROBE_PERIOD: Duration = Duration::from_mins(5);
/// The most users that are remembered; beyond that, the one that was idle longest is forgotten.
const MOST: usize = 4096;
/// Most servers without a response that are remembered; with more, the one that was used longest ago is forgotten.
const MOST_SERVERS: usize = 1024;

/// A user of a store. Requests that agree in all four are expected to hang together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StoreUser {
    /// The server, normalized.
    pub endpoint: String,
    /// The bucket, container or folder.
    pub bucket: String,
    /// The namespace of the resource.
    pub namespace: String,
    /// Identifies the credentials within this process.
    pub credentials: u64,
}

/// Which stores are unresponsive, and for whom.
#[derive(Debug, Default)]
pub struct StoreBreaker {
    circuits: Mutex<Circuits>,
}

#[derive(Debug, Default)]
struct Circuits {
    users: HashMap<StoreUser, Usage>,
    /// Servers that failed to respond to a user and have responded to none since.
    unresponsive: HashMap<String, Unresponsive>,
}

#[derive(Debug)]
struct Usage {
    last: Instant,
    open: Option<OpenCircuit>,
}

#[derive(Debug)]
struct OpenCircuit {
    until: Instant,
    is_probed: bool,
}

#[derive(Debug)]
struct Unresponsive {
    since: Instant,
    /// Whether two namespaces got no response.
    is_seen_by_two: bool,
    /// The first of them.
    namespace: String,
    open: OpenCircuit,
    /// The namespace that probed last.
    prober: Option<String>,
    /// Another namespace that wanted to probe, and when.
    waiting: Option<(String, Instant)>,
}

/// What a request probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probed {
    /// Nothing: the circuit is closed.
    Nothing,
    /// Whether the store responds to this user again.
    User,
    /// Whether the server responds at all.
    Server,
}

/// Permission to use a store until it is dropped.
#[derive(Debug)]
pub struct StorePass<'a> {
    breaker: &'a StoreBreaker,
    user: StoreUser,
    probed: Probed,
}

impl StoreBreaker {
    /// A pass to use that store; none while its circuit is open, or while another request probes it.
    #[must_use]
    pub fn admit(&self, user: StoreUser) -> Option<StorePass<'_>> {
        let probed = self.circuits.lock().admit(&user, Instant::now())?;
        Some(StorePass { breaker: self, user, probed })
    }
}

impl Circuits {
    fn admit(&mut self, user: &StoreUser, now: Instant) -> Option<Probed> {
        self.touch(user, now);
        if self.responds_to_none(&user.endpoint, now) {
            let unresponsive = self.unresponsive.get_mut(&user.endpoint)?;
            return unresponsive.admit(&user.namespace, now).then_some(Probed::Server);
        }
        match self.users.get_mut(user).and_then(|used| used.open.as_mut()) {
            None => Some(Probed::Nothing),
            Some(open) if open.may_be_probed(now) => {
                open.is_probed = true;
                Some(Probed::User)
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
        self.users.insert(user.clone(), Usage { last: now, open: None });
    }

    /// Whether the server has responded to no user for some time: not to two namespaces, or not to the only one that uses it.
    fn responds_to_none(&self, endpoint: &str, now: Instant) -> bool {
        let Some(unresponsive) = self.unresponsive.get(endpoint) else { return false };
        let is_another = |(user, used): (&StoreUser, &Usage)| {
            user.endpoint == endpoint
                && user.namespace != unresponsive.namespace
                && now < used.last + FORGOTTEN_AFTER
        };
        now >= unresponsive.since + UNRESPONSIVE_AFTER
            && (unresponsive.is_seen_by_two || !self.users.iter().any(is_another))
    }

    fn did_not_respond(&mut self, user: &StoreUser, now: Instant) {
        let open = || OpenCircuit { until: now + OPEN_FOR, is_probed: false };
        if let Some(used) = self.users.get_mut(user) {
            used.open = Some(open());
        }
        self.unresponsive.retain(|_, unresponsive| {
            unresponsive.open.is_probed || now < unresponsive.open.until + FORGOTTEN_AFTER
        });
        if self.unresponsive.len() >= MOST_SERVERS && !self.unresponsive.contains_key(&user.endpoint) {
            let idle = self.unresponsive.iter().min_by_key(|(_, unresponsive)| unresponsive.open.until);
            if let Some(idle) = idle.map(|(endpoint, _)| endpoint.clone()) {
                self.unresponsive.remove(&idle);
            }
        }
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

    fn responded(&mut self, user: &StoreUser) {
        self.unresponsive.remove(&user.endpoint);
        if let Some(used) = self.users.get_mut(user) {
            used.open = None;
        }
    }

    fn ended(&mut self, user: &StoreUser, probed: Probed) {
        let open = match probed {
            Probed::Nothing => return,
            Probed::User => self.users.get_mut(user).and_then(|used| used.open.as_mut()),
            Probed::Server => {
                self.unresponsive.get_mut(&user.endpoint).map(|unresponsive| &mut unresponsive.open)
            }
        };
        if let Some(open) = open {
            open.is_probed = false;
        }
    }
}

impl OpenCircuit {
    fn may_be_probed(&self, now: Instant) -> bool {
        !self.is_probed && now >= self.until
    }
}

impl Unresponsive {
    /// Whether this namespace may send the next probe. Namespaces alternate, so that one that never gets a response does not
    /// use up all probes.
    fn admit(&mut self, namespace: &str, now: Instant) -> bool {
        let is_last = self.prober.as_deref() == Some(namespace);
        let may_probe = !is_last || self.waiting.as_ref().is_none_or(|(_, at)| now >= *at + PROBE_PERIOD);
        if !may_probe || !self.open.may_be_probed(now) {
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
    /// Records that the store responded: its circuit closes for this user, and no other user waits because of the server.
    pub fn responded(self) {
        self.breaker.circuits.lock().responded(&self.user);
    }

    /// Records that the store did not respond: the circuit opens, at least for this user.
    pub fn did_not_respond(self) {
        let mut circuits = self.breaker.circuits.lock();
        circuits.did_not_respond(&self.user, Instant::now());
    }
}

impl Drop for StorePass<'_> {
    fn drop(&mut self) {
        self.breaker.circuits.lock().ended(&self.user, self.probed);
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

    /// A server that responds to neither of the two namespaces that use it.
    async fn unresponsive() -> StoreBreaker {
        let breaker = StoreBreaker::default();
        for namespace in ["a", "b"] {
            breaker.admit(user(namespace, 1)).unwrap().did_not_respond();
        }
        advance(UNRESPONSIVE_AFTER).await;
        breaker
    }

    #[tokio::test(start_paused = true)]
    async fn a_circuit_opens_for_the_user_that_got_no_response_and_for_no_other() {
        let breaker = StoreBreaker::default();
        assert!(admits(&breaker, user("b", 1)));
        breaker.admit(user("a", 1)).unwrap().did_not_respond();
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
    async fn one_request_at_a_time_probes_an_open_circuit() {
        let breaker = StoreBreaker::default();
        breaker.admit(user("a", 1)).unwrap().did_not_respond();
        advance(OPEN_FOR).await;
        let probe = breaker.admit(user("a", 1)).unwrap();
        assert!(!admits(&breaker, user("a", 1)));
        probe.did_not_respond();
        assert!(!admits(&breaker, user("a", 1)));
        advance(OPEN_FOR).await;
        breaker.admit(user("a", 1)).unwrap().responded();
        let both = [breaker.admit(user("a", 1)), breaker.admit(user("a", 1))];
        assert!(both.iter().all(Option::is_some));
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_without_a_result_leaves_it_to_the_next() {
        let breaker = StoreBreaker::default();
        breaker.admit(user("a", 1)).unwrap().did_not_respond();
        advance(OPEN_FOR).await;
        drop(breaker.admit(user("a", 1)).unwrap());
        assert!(admits(&breaker, user("a", 1)));
        let breaker = unresponsive().await;
        drop(breaker.admit(user("a", 1)).unwrap());
        assert!(admits(&breaker, user("b", 1)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_response_to_an_earlier_request_closes_the_circuit() {
        let breaker = StoreBreaker::default();
        let [first, second] = [(); 2].map(|()| breaker.admit(user("a", 1)).unwrap());
        first.did_not_respond();
        second.responded();
        assert!(admits(&breaker, user("a", 1)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_responds_to_no_user_has_one_probe_for_all() {
        let breaker = unresponsive().await;
        let probe = breaker.admit(user("b", 2)).unwrap();
        assert!(!admits(&breaker, user("a", 1)));
        assert!(!admits(&breaker, user("c", 1)), "also a user that has not used it yet");
        probe.did_not_respond();
        advance(OPEN_FOR).await;
        breaker.admit(user("c", 1)).unwrap().responded();
        assert!(
            admits(&breaker, user("a", 1)) && admits(&breaker, user("b", 1)),
            "their own circuits are closed too"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_breaker_opens_for_all_after_half_a_minute_of_silence_and_no_earlier() {
        let breaker = StoreBreaker::default();
        for namespace in ["a", "b"] {
            breaker.admit(user(namespace, 1)).unwrap().did_not_respond();
        }
        advance(UNRESPONSIVE_AFTER / 2).await;
        let both = [(); 2].map(|()| breaker.admit(user("c", 1)));
        assert!(both.iter().all(Option::is_some));
        drop(both);
        advance(UNRESPONSIVE_AFTER / 2).await;
        let _probe = breaker.admit(user("c", 1)).unwrap();
        assert!(!admits(&breaker, user("c", 1)));
    }

    #[tokio::test(start_paused = true)]
    async fn one_response_to_any_user_shows_that_the_server_is_up() {
        let breaker = StoreBreaker::default();
        let slow = breaker.admit(user("c", 1)).unwrap();
        for namespace in ["a", "b"] {
            breaker.admit(user(namespace, 1)).unwrap().did_not_respond();
        }
        advance(UNRESPONSIVE_AFTER / 2).await;
        slow.responded();
        breaker.admit(user("a", 1)).unwrap().did_not_respond();
        advance(UNRESPONSIVE_AFTER / 2).await;
        let all = [user("a", 1), user("b", 1), user("c", 1)].map(|user| breaker.admit(user));
        assert!(all.iter().all(Option::is_some), "each has a circuit of its own");
    }

    #[tokio::test(start_paused = true)]
    async fn one_namespace_alone_opens_no_circuit_of_a_server_that_others_use() {
        let breaker = StoreBreaker::default();
        assert!(admits(&breaker, user("b", 1)));
        for credentials in 1..50 {
            breaker.admit(user("a", credentials)).unwrap().did_not_respond();
        }
        advance(UNRESPONSIVE_AFTER).await;
        let both = [breaker.admit(user("b", 1)), breaker.admit(user("b", 1))];
        assert!(both.iter().all(Option::is_some));
        let breaker = StoreBreaker::default();
        for credentials in 1..3 {
            breaker.admit(user("a", credentials)).unwrap().did_not_respond();
        }
        advance(UNRESPONSIVE_AFTER).await;
        let _probe = breaker.admit(user("a", 1)).unwrap();
        assert!(!admits(&breaker, user("a", 2)), "one probe for all of its credentials");
    }

    #[tokio::test(start_paused = true)]
    async fn namespaces_alternate_in_probing_and_do_not_wait_for_one_that_is_gone() {
        let breaker = unresponsive().await;
        let probe = breaker.admit(user("a", 1)).unwrap();
        assert!(!admits(&breaker, user("b", 1)));
        probe.did_not_respond();
        advance(OPEN_FOR).await;
        assert!(!admits(&breaker, user("a", 1)), "the other one probes next");
        breaker.admit(user("b", 1)).unwrap().did_not_respond();
        advance(OPEN_FOR).await;
        let probe = breaker.admit(user("a", 1)).unwrap();
        assert!(!admits(&breaker, user("b", 1)));
        probe.did_not_respond();
        advance(PROBE_PERIOD).await;
        assert!(admits(&breaker, user("a", 1)), "the other one sends no probe");
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_idle_user_of_too_many_is_forgotten() {
        let breaker = StoreBreaker::default();
        assert!(admits(&breaker, user("b", 1)));
        for credentials in 0..MOST as u64 + 10 {
            breaker.admit(user("a", credentials)).unwrap().did_not_respond();
            advance(Duration::from_millis(1)).await;
        }
        let circuits = breaker.circuits.lock();
        assert_eq!(circuits.users.len(), MOST);
        assert!(!circuits.users.contains_key(&user("b", 1)) && circuits.users.contains_key(&user("a", 100)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_unresponsive_server_that_was_used_longest_ago_is_forgotten() {
        let breaker = StoreBreaker::default();
        let at = |number: usize| StoreUser { endpoint: format!("https://{number}.example"), ..user("a", 1) };
        for number in 0..MOST_SERVERS + 10 {
            breaker.admit(at(number)).unwrap().did_not_respond();
            advance(Duration::from_millis(1)).await;
        }
        let circuits = breaker.circuits.lock();
        assert_eq!(circuits.unresponsive.len(), MOST_SERVERS);
        let is_known = |number| circuits.unresponsive.contains_key(&at(number).endpoint);
        assert!(!is_known(9) && is_known(10) && is_known(MOST_SERVERS + 9));
    }
}
