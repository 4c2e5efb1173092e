//! The portal's state and every operation on it.
//!
//! The HTTP handlers and tests in the same process both use this type. May depend on all modules but `admin`, `endpoints`,
//! `page`, `sandbox` and `server`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use rand::distr::{Alphanumeric, SampleString};
use tokio::sync::{Notify, watch};

use crate::clock::{Clock, later};
use crate::fault::Fault;
use crate::fault_queue::{FaultId, FaultQueue, FaultView};
use crate::images::Images;
use crate::keys::Keys;
use crate::notifications::Notifications;
use crate::person::{Act, Document, Person, Verdict};
use crate::request_log::{Counters, RequestLog, RequestRecord};
use crate::session::{ActError, Flow, Session};
use crate::view::SessionView;
use crate::wire::Endpoint;

/// What can be set for the whole portal.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// How long a new session lasts, on the sandbox's clock.
    pub(crate) expiry: Duration,
    /// The modules of a new session.
    pub(crate) flow: Flow,
    /// The scripted person of every new session.
    pub(crate) person: Option<Arc<Person>>,
    /// Real time before a request is processed.
    pub(crate) latency: Duration,
    /// Without a configured backend every request gets "Server not configured".
    pub(crate) configured: bool,
}

/// A portal: its sessions, keys, clock, faults and counters.
#[derive(Debug)]
pub struct Portal {
    pub(crate) clock: Clock,
    pub(crate) keys: Keys,
    pub(crate) faults: FaultQueue,
    pub(crate) request_log: RequestLog,
    pub(crate) images: Images,
    pub(crate) notifications: Notifications,
    settings: Mutex<Settings>,
    sessions: Mutex<HashMap<Box<str>, Session>>,
    connections: AtomicU64,
    /// Notifies every connection to close at once.
    pub(crate) cut: Notify,
    /// Changes whenever something happened that a test may wait for.
    changes: watch::Sender<()>,
}

impl Portal {
    pub(crate) fn new(
        clock: Clock,
        settings: Settings,
        records: usize,
        (images, notifications): (Images, Notifications),
    ) -> Self {
        Self {
            clock,
            keys: Keys::default(),
            faults: FaultQueue::default(),
            request_log: RequestLog::new(records),
            images,
            notifications,
            settings: Mutex::new(settings),
            sessions: Mutex::default(),
            connections: AtomicU64::new(0),
            cut: Notify::new(),
            changes: watch::Sender::new(()),
        }
    }

    // Sessions.

    /// All sessions, in order of creation.
    #[must_use]
    pub fn sessions(&self) -> Vec<SessionView> {
        let now = self.now();
        let mut sessions = self.sessions.lock();
        let mut views: Vec<_> = sessions
            .iter_mut()
            .map(|(id, session)| {
                self.change(id, session, |session| session.catch_up(now));
                session.view(id)
            })
            .collect();
        views.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        views
    }

    /// How many sessions there are.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.sessions.lock().len()
    }

    /// One session.
    #[must_use]
    pub fn session(&self, id: &str) -> Option<SessionView> {
        self.with_session(id, |session, _| session.view(id))
    }

    /// Creates `count` sessions for the first key without a request, and returns their ids. Creates none without a key. They
    /// have no scripted person.
    #[must_use]
    pub fn seed(&self, count: usize) -> Vec<String> {
        self.keys.first().map(|key| self.seed_for(&key, count)).unwrap_or_default()
    }

    /// Creates `count` sessions for this key, whether it is known or not.
    #[must_use]
    pub fn seed_for(&self, key: &str, count: usize) -> Vec<String> {
        let key: Arc<str> = key.into();
        let Settings { expiry, flow, .. } = self.settings();
        let now = self.now();
        let expires_at = later(now, expiry);
        let ids: Vec<_> = (0..count).map(|_| new_id()).collect();
        let mut sessions = self.sessions.lock();
        sessions.reserve(count);
        for id in &ids {
            let session = Session::new(Arc::clone(&key), Arc::clone(&flow), now, expires_at);
            sessions.insert(id.as_str().into(), session);
        }
        ids
    }

    /// Forgets a session, as a portal restored from a backup would: requests for it get 404. Returns whether there was one.
    pub fn forget(&self, id: &str) -> bool {
        let known = self.sessions.lock().remove(id).is_some();
        self.changed();
        known
    }

    // The person and the reviewer.

    /// Applies one act to a session.
    ///
    /// # Errors
    /// If there is no such session or module, or the session has finished.
    pub fn act(&self, id: &str, act: &Act) -> Result<(), ActError> {
        let done = self.with_session(id, |session, now| session.act(act, now));
        self.changed();
        done.ok_or(ActError::UnknownSession)?
    }

    /// The person opens the link.
    ///
    /// # Errors
    /// As [`Portal::act`].
    pub fn open(&self, id: &str) -> Result<(), ActError> {
        self.act(id, &Act::Open)
    }

    /// The person completes a module, such as `terms`.
    ///
    /// # Errors
    /// As [`Portal::act`].
    pub fn complete(&self, id: &str, module: &str) -> Result<(), ActError> {
        self.act(id, &Act::Complete(module.to_owned()))
    }

    /// The reviewer decides; the progress of the modules is unchanged.
    ///
    /// # Errors
    /// As [`Portal::act`].
    pub fn decide(&self, id: &str, verdict: Verdict) -> Result<(), ActError> {
        self.act(id, &Act::Decide(verdict))
    }

    /// The person completes every module, and the reviewer decides.
    ///
    /// # Errors
    /// As [`Portal::act`].
    pub fn finish(&self, id: &str, verdict: Verdict) -> Result<(), ActError> {
        self.act(id, &Act::CompleteAll)?;
        self.decide(id, verdict)
    }

    /// The status becomes this text, known or not, until the next verdict or text; it does not expire either. For a status
    /// that is not a string see [`crate::Action::set`].
    ///
    /// # Errors
    /// As [`Portal::act`].
    pub fn set_status(&self, id: &str, status: &str) -> Result<(), ActError> {
        self.act(id, &Act::SetStatus(status.to_owned()))
    }

    /// The person shows this document; a passport has no back image.
    ///
    /// # Errors
    /// As [`Portal::act`].
    pub fn show(&self, id: &str, document: Document) -> Result<(), ActError> {
        self.act(id, &Act::Show(document))
    }

    /// Assigns a scripted person to a session, from now on (on the sandbox's clock).
    ///
    /// # Errors
    /// If there is no such session.
    pub fn assign(&self, id: &str, person: &Person) -> Result<(), ActError> {
        let assigned = self.with_session(id, |session, now| session.follow(person, now));
        self.changed();
        assigned.ok_or(ActError::UnknownSession)
    }

    /// Assigns this person to every session created from now on; `None` assigns no person.
    pub fn assign_to_new(&self, person: Option<Person>) {
        self.change_settings(|settings| settings.person = person.map(Arc::new));
    }

    // Keys, clock, settings.

    /// Adds a key.
    pub fn add_key(&self, key: &str) {
        self.keys.add(key);
    }

    /// Removes a key; its sessions remain and are readable if it is added again. Returns whether it was known.
    pub fn remove_key(&self, key: &str) -> bool {
        self.keys.remove(key)
    }

    /// The time on the sandbox's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Advances the clock: scripted persons act and sessions expire accordingly.
    pub fn advance(&self, by: Duration) {
        self.clock.advance(by);
        self.changed();
    }

    /// Seconds of the sandbox's clock for each real second; 0 stops it.
    pub fn set_speed(&self, speed: f64) {
        self.clock.set_speed(speed);
    }

    /// How long a session created from now on lasts.
    pub fn set_expiry(&self, expiry: Duration) {
        self.change_settings(|settings| settings.expiry = expiry);
    }

    /// Real time that passes before a request is processed.
    pub fn set_latency(&self, latency: Duration) {
        self.change_settings(|settings| settings.latency = latency);
    }

    /// With `false` every request gets 500 "Server not configured".
    pub fn set_configured(&self, configured: bool) {
        self.change_settings(|settings| settings.configured = configured);
    }

    // Faults.

    /// Injects a fault. If several apply to a request, the oldest is used.
    pub fn inject(&self, fault: Fault) -> FaultId {
        self.faults.push(fault)
    }

    /// Clears a fault and releases its hanging requests. Returns whether there was one.
    pub fn clear(&self, id: FaultId) -> bool {
        self.faults.clear(id)
    }

    /// Clears all faults.
    pub fn clear_faults(&self) {
        self.faults.clear_all();
    }

    /// The injected faults with their hits, including those that are used up.
    #[must_use]
    pub fn faults(&self) -> Vec<FaultView> {
        self.faults.views()
    }

    /// To how many requests a fault has been applied; 0 once it is cleared.
    #[must_use]
    pub fn hits(&self, id: FaultId) -> u64 {
        self.faults().iter().find(|view| view.id == id).map_or(0, |view| view.hits)
    }

    /// Closes every open connection at once, with whatever is in flight on it.
    pub fn cut_connections(&self) {
        self.cut.notify_waiters();
    }

    // Counters and the request log.

    /// The number of requests to one endpoint.
    #[must_use]
    pub fn count(&self, endpoint: Endpoint) -> u64 {
        self.request_log.count(endpoint)
    }

    /// The number of requests to one endpoint with this (known) key.
    #[must_use]
    pub fn count_of_key(&self, key: &str, endpoint: Endpoint) -> u64 {
        self.request_log.count_of_key(key, endpoint)
    }

    /// All counters.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.request_log.counters(self.connections.load(Ordering::Relaxed))
    }

    /// Every create, in order: its time, headers, connection and created session.
    #[must_use]
    pub fn creates(&self) -> Vec<RequestRecord> {
        self.request_log.creates()
    }

    /// The last requests of every kind (10,000 creates and 10,000 others unless built otherwise).
    #[must_use]
    pub fn requests(&self) -> Vec<RequestRecord> {
        self.request_log.requests()
    }

    /// Resets the counters and deletes the request log; the counts of connections and sessions remain.
    pub fn reset_counters(&self) {
        self.request_log.reset();
    }

    /// Waits until `holds` is true. It is checked at once, and again after each request that arrives, meets a fault, creates a
    /// session or ends, and after each act. There is no timeout.
    pub async fn until(&self, mut holds: impl FnMut(&Self) -> bool) {
        let mut changes = self.changes.subscribe();
        loop {
            changes.mark_unchanged();
            if holds(self) {
                return;
            }
            // The sender lives in `self`, so this ends only with a change.
            let _ = changes.changed().await;
        }
    }

    // For the handlers.

    pub(crate) fn settings(&self) -> Settings {
        self.settings.lock().clone()
    }

    fn change_settings(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.settings.lock());
    }

    pub(crate) fn changed(&self) {
        self.changes.send_replace(());
    }

    pub(crate) fn connect(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A new session for a create, which is not inserted yet.
    pub(crate) fn draft(&self, key: Arc<str>) -> (String, Session) {
        let Settings { expiry, flow, person, .. } = self.settings();
        let now = self.now();
        let mut session = Session::new(key, flow, now, later(now, expiry));
        if let Some(person) = person {
            session.follow(&person, now);
        }
        (new_id(), session)
    }

    pub(crate) fn insert(&self, id: &str, session: Session) {
        self.sessions.lock().insert(id.into(), session);
    }

    /// Lets scripted persons act, and notifies about those who did.
    pub(crate) fn catch_up(&self) {
        let now = self.now();
        for (id, session) in self.sessions.lock().iter_mut() {
            self.change(id, session, |session| session.catch_up(now));
        }
    }

    /// Changes a session, and notifies about it if it is another one then.
    fn change<T>(&self, id: &str, session: &mut Session, change: impl FnOnce(&mut Session) -> T) -> T {
        let known = session.updated_at;
        let done = change(session);
        if session.updated_at != known {
            self.notifications.changed(id);
        }
        done
    }

    /// Runs `work` on the session as of now.
    pub(crate) fn with_session<T>(
        &self,
        id: &str,
        work: impl FnOnce(&mut Session, Timestamp) -> T,
    ) -> Option<T> {
        let now = self.now();
        let mut sessions = self.sessions.lock();
        let session = sessions.get_mut(id)?;
        Some(self.change(id, session, |session| {
            session.catch_up(now);
            work(session, now)
        }))
    }
}

/// A new id in the form the guide shows.
fn new_id() -> String {
    let mut id = String::with_capacity(28);
    id.push_str("ver_");
    Alphanumeric.append_string(&mut rand::rng(), &mut id, 24);
    id
}
