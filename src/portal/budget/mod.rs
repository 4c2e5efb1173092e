//! How much a portal may be asked: rate, pauses, breakers, and the gate of a refused key.
//!
//! One budget for each portal and key, and one for each portal as a whole; of both each namespace has its share. No clock
//! and no waiting in here: `now` is an argument, and who may not pass is told when to come again, so that a wait never
//! holds a place.

mod breaker;
mod bucket;
mod gate;
mod line;
mod shares;
mod state;
mod whole;

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    allowed::PortalUrl,
    error::{Call, PortalError},
    key::KeyIdentity,
    verification_id::VerificationId,
};
use crate::{fairness::FairnessKey, priority::Priority};
use gate::SessionHash;
use state::{BudgetState, Probes};
use whole::Whole;

/// Where no rate is set, those who wait come back this far apart.
const APART: Duration = Duration::from_millis(1);
/// Budgets that nobody uses any more are looked for this often, however many there are.
const SWEPT_EVERY: Duration = Duration::from_mins(1);
/// Most keys of one portal that are known without any call that went out with them. Beyond, a key is not remembered until
/// others are forgotten: whoever rotates Secrets fills no memory.
const MOST_UNTRIED: usize = 10_000;
/// When there are as many, those that nobody uses are looked for this often.
const UNTRIED_SWEPT_EVERY: Duration = Duration::from_secs(1);

/// The operator's settings for every budget.
#[derive(Clone, Copy, Debug)]
pub struct BudgetSettings {
    /// Calls per second to one portal as a whole; `None` for no limit.
    pub portal_rate: Option<f64>,
    /// Calls per second to one portal with one key; `None` for no limit.
    pub key_rate: Option<f64>,
    /// What comes in this time may go out at once.
    pub burst: Duration,
    /// Most calls to one portal that are under way: one that answers slowly must not hold every place that there is.
    pub most_under_way: usize,
}

impl Default for BudgetSettings {
    fn default() -> Self {
        Self {
            portal_rate: Some(200.0),
            key_rate: Some(50.0),
            burst: Duration::from_millis(200),
            most_under_way: 7_500,
        }
    }
}

/// Whether the reserve is for such calls.
const fn uses_reserve(priority: Priority) -> bool {
    match priority {
        Priority::Create | Priority::Nudge | Priority::Finishing => true,
        Priority::Active | Priority::Idle => false,
    }
}

/// Whether a call may go out.
#[derive(Debug)]
pub enum Admission {
    /// It may; the pass is reported when it ends.
    Go(Pass),
    /// Not now.
    Wait {
        /// When to come again.
        until: Instant,
        /// Why not.
        closed: Closed,
    },
}

/// Why a call may not go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Closed {
    /// The portal asked for a pause.
    Paused,
    /// Too much trouble.
    Breaker,
    /// The portal refuses the key.
    KeyRejected,
    /// The rate is used up.
    Rate,
}

impl Closed {
    /// What the metrics show.
    pub const SHOWN: [Self; 3] = [Self::Paused, Self::Breaker, Self::KeyRejected];

    /// The value of a metric's label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Paused => "paused",
            Self::Breaker => "breaker_open",
            Self::KeyRejected => "key_rejected",
            Self::Rate => "rate",
        }
    }
}

/// All budgets of the process.
#[derive(Debug)]
pub struct Budgets {
    settings: BudgetSettings,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    portals: HashMap<PortalUrl, OfPortal>,
    swept: Instant,
}

#[derive(Debug)]
struct OfPortal {
    whole: Arc<Mutex<Whole>>,
    keys: HashMap<KeyIdentity, Arc<Mutex<BudgetState>>>,
    /// Those with which no call has gone out yet, or none when it was last looked.
    untried: HashMap<KeyIdentity, Arc<Mutex<BudgetState>>>,
    untried_swept: Instant,
}

impl OfPortal {
    fn new(settings: BudgetSettings, now: Instant) -> Self {
        Self {
            whole: Arc::new(Mutex::new(Whole::new(settings, now))),
            keys: HashMap::new(),
            untried: HashMap::new(),
            untried_swept: now,
        }
    }

    fn state(&mut self, key: KeyIdentity, settings: BudgetSettings, now: Instant) -> Arc<Mutex<BudgetState>> {
        if let Some(state) = self.keys.get(&key) {
            return Arc::clone(state);
        }
        if let Some(state) = self.untried.get(&key).map(Arc::clone) {
            if state.lock().is_tried() {
                self.untried.remove(&key);
                self.keys.insert(key, Arc::clone(&state));
            }
            return state;
        }
        let state = Arc::new(Mutex::new(BudgetState::new(settings, now)));
        let is_full = self.untried.len() >= MOST_UNTRIED;
        if is_full && now.saturating_duration_since(self.untried_swept) >= UNTRIED_SWEPT_EVERY {
            self.sweep_untried(now, |_| false);
        }
        if self.untried.len() < MOST_UNTRIED {
            self.untried.insert(key, Arc::clone(&state));
        }
        state
    }

    /// Forgets the keys with which no call went out, but for those that somebody uses now and those that are `kept`.
    fn sweep_untried(&mut self, now: Instant, kept: impl Fn(&BudgetState) -> bool) {
        self.untried_swept = now;
        let Self { keys, untried, .. } = self;
        untried.retain(|key, state| {
            let (is_tried, is_kept) = {
                let state = state.lock();
                (state.is_tried(), kept(&state))
            };
            if is_tried {
                keys.insert(*key, Arc::clone(state));
            }
            !is_tried && (is_kept || Arc::strong_count(state) > 1)
        });
    }

    fn states(&self) -> impl Iterator<Item = &Arc<Mutex<BudgetState>>> {
        self.keys.values().chain(self.untried.values())
    }
}

impl Default for Budgets {
    fn default() -> Self {
        Self::new(BudgetSettings::default())
    }
}

impl Budgets {
    /// Budgets with these settings.
    #[must_use]
    pub fn new(settings: BudgetSettings) -> Self {
        Self { settings, kept: Mutex::new(Kept { portals: HashMap::new(), swept: Instant::now() }) }
    }

    /// The budget of a portal and key, as far as it is for those with that share.
    pub fn budget(&self, portal: &PortalUrl, key: KeyIdentity, share: FairnessKey) -> Budget {
        let now = Instant::now();
        let mut kept = self.kept.lock();
        if now.saturating_duration_since(kept.swept) >= SWEPT_EVERY {
            kept.swept = now;
            kept.sweep(now);
        }
        let new = || OfPortal::new(self.settings, now);
        let of = kept.portals.entry(portal.clone()).or_insert_with(new);
        let (whole, state) = (Arc::clone(&of.whole), of.state(key, self.settings, now));
        Budget { state, whole, namespace: share.namespace }
    }
}

impl Budgets {
    /// What is closed of each portal, and for how long still: for the key for which it is longest. What stays closed until a
    /// call finds out more is there with no time left. For the metrics.
    #[must_use]
    pub fn closed(&self, now: Instant) -> HashMap<(PortalUrl, Closed), Duration> {
        let states: Vec<_> = {
            let kept = self.kept.lock();
            let of = kept.portals.iter();
            of.flat_map(|(portal, of)| of.states().map(|state| (portal.clone(), Arc::clone(state)))).collect()
        };
        let mut longest = HashMap::new();
        for (portal, state) in states {
            for (closed, until) in state.lock().closed_now(now) {
                let left = longest.entry((portal.clone(), closed)).or_insert(Duration::ZERO);
                *left = (*left).max(until.saturating_duration_since(now));
            }
        }
        longest
    }
}

impl Kept {
    /// Forgets the keys that nobody used for an hour, or for a minute if no call went out with them. A portal is kept: there
    /// are only the allowed ones.
    fn sweep(&mut self, now: Instant) {
        for of in self.portals.values_mut() {
            of.sweep_untried(now, |state| !state.is_unused(now));
            of.keys.retain(|_, state| Arc::strong_count(state) > 1 || !state.lock().is_unused(now));
            of.whole.lock().sweep(now);
        }
    }
}

/// How much one portal may be asked with one key, by one namespace. Clones are the same budget.
#[derive(Clone, Debug)]
pub struct Budget {
    state: Arc<Mutex<BudgetState>>,
    whole: Arc<Mutex<Whole>>,
    namespace: u32,
}

impl Budget {
    /// Asks for a place for a call.
    #[must_use]
    pub fn admit(&self, now: Instant, call: Call, priority: Priority) -> Admission {
        let mut state = self.state.lock();
        let admitted = state.admit(&mut self.whole.lock(), now, (call, priority), self.namespace);
        drop(state);
        match admitted {
            Ok(probes) => {
                let budget = self.clone();
                Admission::Go(Pass { budget, call, session: None, probes, reported: false })
            }
            Err((until, closed)) => Admission::Wait { until, closed },
        }
    }

    /// Until when no look may go out at all, whatever the rate, and why. Takes no place.
    #[must_use]
    pub fn closed(&self, now: Instant) -> Option<(Instant, Closed)> {
        self.state.lock().closed(now)
    }

    /// What the last of those calls met for which such calls may not go out now, as far as it is known.
    #[must_use]
    pub fn cause(&self, call: Call, closed: Closed) -> Option<PortalError> {
        self.state.lock().cause(call, closed)
    }

    /// Whether a call is under way that is the first to find out how the portal takes the key, so that creates wait for its
    /// answer.
    #[must_use]
    pub fn awaits_first_answer(&self, now: Instant) -> bool {
        self.state.lock().awaits_first_answer(now)
    }

    /// Whether a call without effect shall find out now if the portal answers, because creates wait for that. If so,
    /// nobody else is told to for half a minute.
    #[must_use]
    pub fn may_ping(&self, now: Instant) -> bool {
        self.state.lock().ping(now)
    }

    /// How much every interval is to be stretched, at least 1.
    #[must_use]
    pub fn stretch(&self, now: Instant) -> f64 {
        let of_key = self.state.lock().stretch(now, self.namespace);
        of_key.max(self.whole.lock().stretch(now, self.namespace))
    }

    /// When a poll of any session of this portal and key was last answered with 200 and that session.
    #[must_use]
    pub fn polled_at(&self) -> Option<Instant> {
        self.state.lock().polled_at
    }
}

/// The place of one call. Dropped without a report, it is as if the call had not been.
#[derive(Debug)]
pub struct Pass {
    budget: Budget,
    call: Call,
    session: Option<SessionHash>,
    probes: Probes,
    reported: bool,
}

impl Pass {
    /// The call was a poll, answered with 200 and the session that was asked for.
    pub fn polled(&self, now: Instant) {
        self.budget.state.lock().polled_at = Some(now);
    }

    /// Says which session a poll is about: what the portal says of the key counts for the key only when it says so of
    /// more than one of them.
    #[must_use]
    pub fn about(mut self, session: &VerificationId) -> Self {
        let mut hasher = DefaultHasher::new();
        session.hash(&mut hasher);
        self.session = Some(hasher.finish());
        self
    }

    /// Reports how the call ended. True, if creates that had to wait may go on by it.
    #[expect(clippy::must_use_candidate, reason = "a look never lets creates go on")]
    pub fn report(mut self, now: Instant, result: Result<(), &PortalError>) -> bool {
        self.reported = true;
        let is_refused = result.is_err_and(|error| error.refuses_key(self.call))
            && match self.call {
                Call::Create => true,
                // One 401 to a poll of a good key may be somebody's mistake.
                Call::Poll => self.probes.key,
            };
        self.budget.whole.lock().ended(now, self.budget.namespace, is_refused);
        self.budget.state.lock().report(now, self.call, self.session, self.probes, result)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if !self.reported {
            self.budget.whole.lock().gave_back(Instant::now(), self.budget.namespace);
            self.budget.state.lock().gave_back(self.call, self.probes);
        }
    }
}

#[cfg(test)]
mod tests;
