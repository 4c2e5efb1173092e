//! The portal's state and everything that can be done to it from outside.
//!
//! Both the HTTP handlers and a test in the same process use this one type.

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
use crate::gallery::Gallery;
use crate::journal::{CallRecord, Counters, Journal};
use crate::keys::Keys;
use crate::orders::{FaultId, FaultView, Orders};
use crate::person::{Act, Document, Person, Verdict};
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
    /// Who takes every new session in hand.
    pub(crate) person: Option<Arc<Person>>,
    /// Real time before any call of the contract is processed.
    pub(crate) latency: Duration,
    /// Without a configured backend every call answers "Server not configured".
    pub(crate) configured: bool,
}

/// A portal: its sessions, keys, clock, faults and counters.
#[derive(Debug)]
pub struct Portal {
    pub(crate) clock: Clock,
    pub(crate) keys: Keys,
    pub(crate) orders: Orders,
    pub(crate) journal: Journal,
    pub(crate) gallery: Gallery,
    settings: Mutex<Settings>,
    sessions: Mutex<HashMap<Box<str>, Session>>,
    connections: AtomicU64,
    /// Wakes every connection to end at once.
    pub(crate) cut: Notify,
    /// Moves whenever something happened that a test may wait for.
    changes: watch::Sender<()>,
}

impl Portal {
    pub(crate) fn new(clock: Clock, settings: Settings, records: usize, gallery: Gallery) -> Self {
        Self {
            clock,
            keys: Keys::default(),
            orders: Orders::default(),
            journal: Journal::new(records),
            gallery,
            settings: Mutex::new(settings),
            sessions: Mutex::default(),
            connections: AtomicU64::new(0),
            cut: Notify::new(),
            changes: watch::Sender::new(()),
        }
    }

    // Sessions.

    /// All sessions, in the order they were made.
    #[must_use]
    pub fn sessions(&self) -> Vec<SessionView> {
        let now = self.now();
        let mut sessions = self.sessions.lock();
        let mut views: Vec<_> = sessions
            .iter_mut()
            .map(|(id, session)| {
                session.catch_up(now);
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

    /// Makes `count` sessions for the first key, without any call; answers their ids. None
    /// without a key. No scripted person takes them in hand.
    #[must_use]
    pub fn seed(&self, count: usize) -> Vec<String> {
        self.keys.first().map(|key| self.seed_for(&key, count)).unwrap_or_default()
    }

    /// Makes `count` sessions for this key, whether it is known or not.
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

    /// Forgets a session, as a portal restored from a backup would: its id answers 404. Says
    /// whether there was one.
    pub fn forget(&self, id: &str) -> bool {
        let known = self.sessions.lock().remove(id).is_some();
        self.changed();
        known
    }

    // The person and the reviewer.

    /// Does one act to a session.
    ///
    /// # Errors
    /// When there is no such session or module, or the session has ended.
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

    /// The reviewer speaks; the progress of the modules stays as it is.
    ///
    /// # Errors
    /// As [`Portal::act`].
    pub fn decide(&self, id: &str, verdict: Verdict) -> Result<(), ActError> {
        self.act(id, &Act::Decide(verdict))
    }

    /// The person completes every module, and the reviewer speaks.
    ///
    /// # Errors
    /// As [`Portal::act`].
    pub fn finish(&self, id: &str, verdict: Verdict) -> Result<(), ActError> {
        self.act(id, &Act::CompleteAll)?;
        self.decide(id, verdict)
    }

    /// The status becomes this word, known or not, and stays (it does not run out either) until
    /// the next verdict or word. A status that is no string: see [`crate::Action::set`].
    ///
    /// # Errors
    /// As [`Portal::act`].
    pub fn set_status_word(&self, id: &str, word: &str) -> Result<(), ActError> {
        self.act(id, &Act::Say(word.to_owned()))
    }

    /// What the person holds before the camera: with a passport there is no back image.
    ///
    /// # Errors
    /// As [`Portal::act`].
    pub fn show(&self, id: &str, document: Document) -> Result<(), ActError> {
        self.act(id, &Act::Show(document))
    }

    /// Gives a session to a scripted person, from now on (on the sandbox's clock).
    ///
    /// # Errors
    /// When there is no such session.
    pub fn send(&self, id: &str, person: &Person) -> Result<(), ActError> {
        let sent = self.with_session(id, |session, now| session.follow(person, now));
        self.changed();
        sent.ok_or(ActError::UnknownSession)
    }

    /// Gives every session made from now on to this person; `None`: to nobody.
    pub fn send_to_all(&self, person: Option<Person>) {
        self.change_settings(|settings| settings.person = person.map(Arc::new));
    }

    // Keys, clock, settings.

    /// Adds a key.
    pub fn add_key(&self, key: &str) {
        self.keys.add(key);
    }

    /// Removes a key; its sessions stay, for when it comes back. Says whether it was known.
    pub fn remove_key(&self, key: &str) -> bool {
        self.keys.remove(key)
    }

    /// What the sandbox's clock shows.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Sets the clock forward: persons act and sessions run out accordingly.
    pub fn advance(&self, by: Duration) {
        self.clock.advance(by);
        self.changed();
    }

    /// Seconds of the sandbox's clock for each real second; 0 stops it.
    pub fn set_speed(&self, speed: f64) {
        self.clock.set_speed(speed);
    }

    /// How long a session made from now on lasts.
    pub fn set_expiry(&self, expiry: Duration) {
        self.change_settings(|settings| settings.expiry = expiry);
    }

    /// Real time that passes before any call of the contract is processed.
    pub fn set_latency(&self, latency: Duration) {
        self.change_settings(|settings| settings.latency = latency);
    }

    /// With `false` every call of the contract answers 500 "Server not configured".
    pub fn set_configured(&self, configured: bool) {
        self.change_settings(|settings| settings.configured = configured);
    }

    // Faults.

    /// Orders a fault. Of several that apply to a call the oldest strikes.
    pub fn order(&self, fault: Fault) -> FaultId {
        self.orders.place(fault)
    }

    /// Clears a fault and lets its hanging calls go. Says whether there was one.
    pub fn clear(&self, id: FaultId) -> bool {
        self.orders.clear(id)
    }

    /// Clears all faults.
    pub fn clear_faults(&self) {
        self.orders.clear_all();
    }

    /// The ordered faults, also those that are used up, with their hits.
    #[must_use]
    pub fn faults(&self) -> Vec<FaultView> {
        self.orders.views()
    }

    /// How many calls a fault has struck; 0 once it is cleared.
    #[must_use]
    pub fn hits(&self, id: FaultId) -> u64 {
        self.faults().iter().find(|view| view.id == id).map_or(0, |view| view.hits)
    }

    /// Ends every open connection at once, whatever is under way on it.
    pub fn cut_connections(&self) {
        self.cut.notify_waiters();
    }

    // Counters and records.

    /// Calls that arrived at one endpoint.
    #[must_use]
    pub fn count(&self, endpoint: Endpoint) -> u64 {
        self.journal.count(endpoint)
    }

    /// Calls that arrived at one endpoint with this (known) key.
    #[must_use]
    pub fn count_of_key(&self, key: &str, endpoint: Endpoint) -> u64 {
        self.journal.count_of_key(key, endpoint)
    }

    /// All counters.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.journal.counters(self.connections.load(Ordering::Relaxed))
    }

    /// Every create that arrived, in order: its instant, headers, connection, and what it made.
    #[must_use]
    pub fn creates(&self) -> Vec<CallRecord> {
        self.journal.creates()
    }

    /// The last calls of every kind (10,000 creates and 10,000 others unless built otherwise).
    #[must_use]
    pub fn calls(&self) -> Vec<CallRecord> {
        self.journal.calls()
    }

    /// Sets the counters to 0 and forgets the records; connections and sessions keep their count.
    pub fn reset_counters(&self) {
        self.journal.reset();
    }

    /// Waits until `holds`: asked at once, and again after each call that arrived, was struck, made
    /// a session or ended, and each act from outside. It has no time limit of its own.
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

    /// A new session as a create makes it, not kept yet.
    pub(crate) fn draft(&self, key: Arc<str>) -> (String, Session) {
        let Settings { expiry, flow, person, .. } = self.settings();
        let now = self.now();
        let mut session = Session::new(key, flow, now, later(now, expiry));
        if let Some(person) = person {
            session.follow(&person, now);
        }
        (new_id(), session)
    }

    pub(crate) fn keep(&self, id: &str, session: Session) {
        self.sessions.lock().insert(id.into(), session);
    }

    /// The session brought up to now.
    pub(crate) fn with_session<T>(
        &self,
        id: &str,
        work: impl FnOnce(&mut Session, Timestamp) -> T,
    ) -> Option<T> {
        let now = self.now();
        let mut sessions = self.sessions.lock();
        let session = sessions.get_mut(id)?;
        session.catch_up(now);
        Some(work(session, now))
    }
}

/// A new id in the form the guide shows.
fn new_id() -> String {
    let mut id = String::with_capacity(28);
    id.push_str("ver_");
    Alphanumeric.append_string(&mut rand::rng(), &mut id, 24);
    id
}
