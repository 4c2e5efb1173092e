//! All budgets of the process, by portal and key, as long as they are used.
//!
//! May depend on the other files of [`budget`](super).

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    closed::Closed, key_budget::KeyBudget, permit::Budget, portal_budget::PortalBudget, requester::Requester,
    settings::BudgetSettings,
};
use crate::{
    fairness::FairnessKey,
    portal::{allowed::PortalUrl, key::KeyIdentity},
};

/// How often unused budgets are removed.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);
/// Most budgets of one portal with whose keys no request was sent yet. Beyond that a key has a budget but is not remembered,
/// so that rotating Secrets does not fill the memory.
const MAX_NEW_KEYS: usize = 10_000;
/// At that number, how often unused budgets among them are removed.
const NEW_KEYS_SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// All budgets of the process.
#[derive(Debug)]
pub(crate) struct Budgets {
    settings: BudgetSettings,
    registry: Mutex<Registry>,
}

#[derive(Debug)]
struct Registry {
    portals: HashMap<PortalUrl, PortalEntry>,
    swept: Instant,
}

#[derive(Debug)]
struct PortalEntry {
    portal: Arc<Mutex<PortalBudget>>,
    keys: HashMap<KeyIdentity, Arc<Mutex<KeyBudget>>>,
    /// Budgets with whose keys no request was sent at the last check.
    new_keys: HashMap<KeyIdentity, Arc<Mutex<KeyBudget>>>,
    new_keys_swept: Instant,
}

impl PortalEntry {
    fn new(settings: BudgetSettings, now: Instant) -> Self {
        Self {
            portal: Arc::new(Mutex::new(PortalBudget::new(settings, now))),
            keys: HashMap::new(),
            new_keys: HashMap::new(),
            new_keys_swept: now,
        }
    }

    fn key_budget(
        &mut self,
        key: KeyIdentity,
        settings: BudgetSettings,
        now: Instant,
    ) -> Arc<Mutex<KeyBudget>> {
        if let Some(budget) = self.keys.get(&key) {
            return Arc::clone(budget);
        }
        if let Some(budget) = self.new_keys.get(&key).map(Arc::clone) {
            if budget.lock().was_used() {
                self.new_keys.remove(&key);
                self.keys.insert(key, Arc::clone(&budget));
            }
            return budget;
        }
        let budget = Arc::new(Mutex::new(KeyBudget::new(settings, now)));
        let is_full = self.new_keys.len() >= MAX_NEW_KEYS;
        if is_full && now.saturating_duration_since(self.new_keys_swept) >= NEW_KEYS_SWEEP_INTERVAL {
            self.sweep_new_keys(now, |_| false);
        }
        if self.new_keys.len() < MAX_NEW_KEYS {
            self.new_keys.insert(key, Arc::clone(&budget));
        }
        budget
    }

    /// Removes the budgets with whose keys no request was sent, except those in use and those that `retain` selects.
    fn sweep_new_keys(&mut self, now: Instant, retain: impl Fn(&KeyBudget) -> bool) {
        self.new_keys_swept = now;
        let Self { keys, new_keys, .. } = self;
        new_keys.retain(|key, budget| {
            let (was_used, is_retained) = {
                let budget = budget.lock();
                (budget.was_used(), retain(&budget))
            };
            if was_used {
                keys.insert(*key, Arc::clone(budget));
            }
            !was_used && (is_retained || Arc::strong_count(budget) > 1)
        });
    }

    fn key_budgets(&self) -> impl Iterator<Item = &Arc<Mutex<KeyBudget>>> {
        self.keys.values().chain(self.new_keys.values())
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
    pub(crate) fn new(settings: BudgetSettings) -> Self {
        let registry = Registry { portals: HashMap::new(), swept: Instant::now() };
        Self { settings, registry: Mutex::new(registry) }
    }

    /// The time between two requests at the rate of one key; zero, if there is no limit.
    pub(crate) fn spacing(&self) -> Duration {
        let rates = [self.settings.key_rate, self.settings.portal_rate];
        let spacings = rates.into_iter().flatten().map(|rate| Duration::from_secs_f64(rate.recip()));
        spacings.max().unwrap_or_default()
    }

    /// The budget of a portal and key for the namespace of a fairness key, for a requester that reads the resource before it
    /// asks again.
    pub(crate) fn budget(&self, portal: &PortalUrl, key: KeyIdentity, fairness_key: FairnessKey) -> Budget {
        let now = Instant::now();
        let mut registry = self.registry.lock();
        if now.saturating_duration_since(registry.swept) >= SWEEP_INTERVAL {
            registry.swept = now;
            registry.sweep(now);
        }
        let new = || PortalEntry::new(self.settings, now);
        let entry = registry.portals.entry(portal.clone()).or_insert_with(new);
        Budget {
            portal: Arc::clone(&entry.portal),
            key: entry.key_budget(key, self.settings, now),
            requester: Requester { namespace: fairness_key.namespace, reads_to_retry: true },
        }
    }

    /// Why each portal is closed, and for how much longer, for the key for which it is longest. A reason that lasts until a
    /// trial succeeds has no time left. For the metrics.
    #[must_use]
    pub(crate) fn closed(&self, now: Instant) -> HashMap<(PortalUrl, Closed), Duration> {
        let budgets: Vec<_> = {
            let registry = self.registry.lock();
            let entries = registry.portals.iter();
            entries
                .flat_map(|(portal, entry)| {
                    entry.key_budgets().map(|budget| (portal.clone(), Arc::clone(budget)))
                })
                .collect()
        };
        let mut longest = HashMap::new();
        for (portal, budget) in budgets {
            for (closed, until) in budget.lock().closed_reasons(now) {
                let left = longest.entry((portal.clone(), closed)).or_insert(Duration::ZERO);
                *left = (*left).max(until.saturating_duration_since(now));
            }
        }
        longest
    }

    #[cfg(test)]
    pub(super) fn key_count(&self) -> usize {
        self.registry.lock().portals.values().map(|entry| entry.key_budgets().count()).sum()
    }
}

impl Registry {
    /// Removes the keys that were unused for an hour, or for a minute if no request was sent with them. Portals stay: there
    /// are only the allowed ones.
    fn sweep(&mut self, now: Instant) {
        for entry in self.portals.values_mut() {
            entry.sweep_new_keys(now, |budget| !budget.is_unused(now));
            entry.keys.retain(|_, budget| Arc::strong_count(budget) > 1 || !budget.lock().is_unused(now));
            entry.portal.lock().sweep(now);
        }
    }
}
