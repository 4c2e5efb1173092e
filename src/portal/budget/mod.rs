//! How much a portal may be asked with a key: rate, pauses, breakers, and the gate of a refused key.
//!
//! One budget for each portal and key. No clock and no waiting in here: `now` is an argument, and who may not pass is
//! told when to come again, so that a wait never holds a place.

mod breaker;
mod bucket;
mod gate;
mod line;

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use self::{
    breaker::{CreateBreaker, Failure, LookBreaker},
    bucket::Bucket,
    gate::{KeyGate, SessionHash},
    line::Lines,
};
use super::{Call, KeyIdentity, PortalUrl, Trouble, VerificationId};
use crate::priority::Priority;

/// Where no rate is set, those who wait come back this far apart.
const APART: Duration = Duration::from_millis(1);
/// Pauses in a row double from the first to the second, unless a `Retry-After` asks for more.
const PAUSE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_mins(2));
/// No pause is longer.
const LONGEST_PAUSE: Duration = Duration::from_mins(15);
/// A budget that nobody used for this long is dropped.
const UNUSED: Duration = Duration::from_hours(1);

/// The operator's settings for every budget.
#[derive(Clone, Copy, Debug)]
pub struct BudgetSettings {
    /// Calls per second to one portal with one key; `None` for no limit.
    pub rate: Option<f64>,
    /// What comes in this time may go out at once.
    pub burst: Duration,
}

impl Default for BudgetSettings {
    fn default() -> Self {
        Self { rate: Some(50.0), burst: Duration::from_millis(200) }
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

/// All budgets of the process.
#[derive(Debug, Default)]
pub struct Budgets {
    settings: BudgetSettings,
    kept: Mutex<HashMap<(PortalUrl, KeyIdentity), Arc<Budget>>>,
}

impl Budgets {
    /// Budgets with these settings.
    #[must_use]
    pub fn new(settings: BudgetSettings) -> Self {
        Self { settings, kept: Mutex::default() }
    }

    /// The budget of a portal and key.
    pub fn budget(&self, portal: &PortalUrl, key: KeyIdentity) -> Arc<Budget> {
        let now = Instant::now();
        let mut kept = lock(&self.kept);
        if let Some(budget) = kept.get(&(portal.clone(), key)) {
            return Arc::clone(budget);
        }
        kept.retain(|_, budget| Arc::strong_count(budget) > 1 || !lock(&budget.state).is_unused(now));
        let budget = Arc::new(Budget { state: Mutex::new(State::new(self.settings, now)) });
        kept.insert((portal.clone(), key), Arc::clone(&budget));
        budget
    }
}

/// How much one portal may be asked with one key.
#[derive(Debug)]
pub struct Budget {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    bucket: Option<Bucket>,
    looks: LookBreaker,
    creates: CreateBreaker,
    paused_until: Option<Instant>,
    pauses: u32,
    key: KeyGate,
    /// Those who wait for the rate, or for another call to find out something.
    lines: Lines,
    used_at: Instant,
    /// When a poll was last answered with 200 and the session that was asked for.
    polled_at: Option<Instant>,
}

impl State {
    fn new(settings: BudgetSettings, now: Instant) -> Self {
        Self {
            bucket: settings.rate.map(|rate| Bucket::new(rate, settings.burst, now)),
            looks: LookBreaker::new(now),
            creates: CreateBreaker::default(),
            paused_until: None,
            pauses: 0,
            key: KeyGate::new(),
            lines: Lines::new(now),
            used_at: now,
            polled_at: None,
        }
    }

    fn is_unused(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.used_at) >= UNUSED
    }

    /// Whether the call may go out, and what it probes. What could refuse it is asked from the harshest on, and only
    /// the last one takes something.
    fn admit(&mut self, now: Instant, call: Call, priority: Priority) -> Result<Probes, (Instant, Closed)> {
        self.used_at = now;
        if let Some(until) = self.key.refused_until(now, call) {
            return Err((until, Closed::KeyRejected));
        }
        if let Some((from, closed)) = self.key.is_tried(now, call) {
            return Err((self.line_up(priority, from), closed));
        }
        if let Some(until) = self.paused_until.filter(|until| *until > now) {
            return Err((until, Closed::Paused));
        }
        let probes_creates = match call {
            Call::Create => match self.creates.admit(now) {
                Ok(probes) => probes,
                Err(until) if self.creates.is_probed() => {
                    return Err((self.line_up(priority, until), Closed::Breaker));
                }
                Err(until) => return Err((until, Closed::Breaker)),
            },
            Call::Look => {
                self.looks.admit(now).map_err(|until| (until, Closed::Breaker))?;
                false
            }
        };
        if self.bucket.as_mut().is_some_and(|bucket| !bucket.take(now, uses_reserve(priority))) {
            if probes_creates {
                self.creates.gave_back();
            }
            return Err((self.line_up(priority, now), Closed::Rate));
        }
        Ok(Probes { key: self.key.goes(now, call), creates: probes_creates })
    }

    /// When to come again: those who are sent away come back as fast as the full rate lets them go.
    fn line_up(&mut self, priority: Priority, from: Instant) -> Instant {
        self.lines.place(priority, from, self.bucket.as_ref().map_or(APART, Bucket::apart))
    }

    fn closed(&self, now: Instant) -> Option<(Instant, Closed)> {
        let refused = self.key.refused_until(now, Call::Look).map(|until| (until, Closed::KeyRejected));
        let closed = refused.or_else(|| self.paused_until.map(|until| (until, Closed::Paused)));
        closed.filter(|(until, _)| *until > now)
    }

    /// Takes in how a call ended. True, if creates that had to wait may go on by it.
    fn report(
        &mut self,
        now: Instant,
        call: Call,
        session: Option<SessionHash>,
        probes: Probes,
        result: Result<(), &Trouble>,
    ) -> bool {
        let mut creates_go_on = false;
        self.key.ended(now, call, session, probes.key, result);
        match result {
            Ok(()) => {
                self.pauses = 0;
                match call {
                    Call::Create => creates_go_on = self.creates.succeeded(),
                    Call::Look => self.creates.portal_answers(now),
                }
                self.looks.succeeded(now);
            }
            Err(Trouble::Limited { retry_after }) => {
                let (least, most) = PAUSE;
                // Those that were under way when the pause began say nothing new.
                if self.paused_until.is_none_or(|until| until <= now) {
                    self.pauses = self.pauses.saturating_add(1);
                }
                let doublings = self.pauses.saturating_sub(1).min(10);
                let own = least.saturating_mul(2_u32.saturating_pow(doublings)).min(most);
                // No time at all, or a date that has passed, is no leave to go on as before.
                let pause = retry_after.map_or(own, |asked| asked.max(own)).min(LONGEST_PAUSE);
                self.paused_until =
                    Some(self.paused_until.map_or(now + pause, |until| until.max(now + pause)));
                if let Some(bucket) = &mut self.bucket {
                    bucket.halve(now);
                }
                if probes.creates {
                    self.creates.gave_back();
                }
            }
            Err(trouble) => self.failed(now, call, probes, trouble),
        }
        creates_go_on
    }

    fn failed(&mut self, now: Instant, call: Call, probes: Probes, trouble: &Trouble) {
        let failure = match trouble {
            Trouble::Failed(_) => Some(Failure::Lost),
            Trouble::NotSent(_)
            | Trouble::Invalid
            | Trouble::NotFound
            | Trouble::Conflict
            | Trouble::Redirected
            | Trouble::Unconfigured
            | Trouble::Unclear { status: _ } => Some(Failure::Harmless),
            Trouble::KeyRejected | Trouble::AccessDenied | Trouble::Limited { retry_after: _ } => None,
        };
        match (call, failure) {
            (Call::Create, Some(failure)) => self.creates.failed(now, failure, probes.creates),
            (Call::Create, None) => self.creates.gave_back(),
            (Call::Look, _) => {
                if trouble.is_answer_of_the_portal() {
                    self.looks.succeeded(now);
                    self.creates.portal_answers(now);
                } else {
                    self.looks.failed(now);
                    self.creates.portal_is_silent();
                }
            }
        }
    }
}

/// What a call finds out for the others.
#[derive(Clone, Copy, Debug, Default)]
struct Probes {
    key: bool,
    creates: bool,
}

/// What is shown of a budget; it names neither portal nor key.
#[derive(Clone, Copy, Debug)]
pub struct BudgetSnapshot {
    /// Calls per second now; `None` for no limit.
    pub rate: Option<f64>,
    /// Whether the portal asked for a pause.
    pub paused: bool,
    /// Whether a breaker is open.
    pub breaker_open: bool,
}

impl Budget {
    /// Asks for a place for a call.
    pub fn admit(self: &Arc<Self>, now: Instant, call: Call, priority: Priority) -> Admission {
        match lock(&self.state).admit(now, call, priority) {
            Ok(probes) => {
                Admission::Go(Pass { budget: Arc::clone(self), call, session: None, probes, reported: false })
            }
            Err((until, closed)) => Admission::Wait { until, closed },
        }
    }

    /// Until when no look may go out at all, whatever the rate, and why. Takes no place.
    pub fn closed(&self, now: Instant) -> Option<(Instant, Closed)> {
        lock(&self.state).closed(now)
    }

    /// Whether a call without effect shall find out now if the portal answers, because creates wait for that. If so,
    /// nobody else is told to for half a minute.
    pub fn may_ping(&self, now: Instant) -> bool {
        lock(&self.state).creates.ping(now)
    }

    /// How much every interval is to be stretched, at least 1.
    pub fn stretch(&self, now: Instant) -> f64 {
        lock(&self.state).bucket.as_mut().map_or(1.0, |bucket| bucket.stretch(now))
    }

    /// When a poll of any session of this portal and key was last answered with 200 and that session.
    pub fn polled_at(&self) -> Option<Instant> {
        lock(&self.state).polled_at
    }

    /// How it stands.
    pub fn snapshot(&self, now: Instant) -> BudgetSnapshot {
        let state = lock(&self.state);
        BudgetSnapshot {
            rate: state.bucket.as_ref().map(Bucket::rate),
            paused: state.paused_until.is_some_and(|until| until > now),
            breaker_open: state.looks.is_open() || state.creates.is_open(),
        }
    }
}

/// The place of one call. Dropped without a report, it is as if the call had not been.
#[derive(Debug)]
pub struct Pass {
    budget: Arc<Budget>,
    call: Call,
    session: Option<SessionHash>,
    probes: Probes,
    reported: bool,
}

impl Pass {
    /// The call was a poll, answered with 200 and the session that was asked for.
    pub fn polled(&self, now: Instant) {
        lock(&self.budget.state).polled_at = Some(now);
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
    pub fn report(mut self, now: Instant, result: Result<(), &Trouble>) -> bool {
        self.reported = true;
        lock(&self.budget.state).report(now, self.call, self.session, self.probes, result)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if !self.reported {
            let mut state = lock(&self.budget.state);
            if self.probes.key {
                state.key.gave_back(self.call);
            }
            if self.probes.creates {
                state.creates.gave_back();
            }
        }
    }
}

/// Every change under these locks is complete before it can panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
