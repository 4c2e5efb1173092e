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
pub(crate) struct StoreUser {
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
pub(crate) struct StoreBreaker {
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
pub(crate) struct StorePass<'a> {
    breaker: &'a StoreBreaker,
    user: StoreUser,
    probed: Probed,
}

impl StoreBreaker {
    /// A pass to use that store; none while its circuit is open, or while another request probes it.
    #[must_use]
    pub(crate) fn admit(&self, user: StoreUser) -> Option<StorePass<'_>> {
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
    pub(crate) fn responded(self) {
        self.breaker.circuits.lock().responded(&self.user);
    }

    /// Records that the store did not respond: the circuit opens, at least for this user.
    pub(crate) fn did_not_respond(self) {
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
mod tests;
