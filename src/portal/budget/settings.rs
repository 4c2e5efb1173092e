//! The settings of every budget. Pure. May depend on [`priority`](crate::priority).

use std::time::Duration;

use crate::priority::Priority;

/// If the rate is unlimited, deferred requests come back this far apart.
pub(super) const UNLIMITED_SPACING: Duration = Duration::from_millis(1);

/// The settings of every budget.
#[derive(Clone, Copy, Debug)]
pub struct BudgetSettings {
    /// Requests per second to one portal; `None` for no limit.
    pub portal_rate: Option<f64>,
    /// Requests per second to one portal with one key; `None` for no limit.
    pub key_rate: Option<f64>,
    /// The requests of this time may be sent at once.
    pub burst: Duration,
    /// Most requests in flight to one portal, so that a slow portal does not hold every reconcile.
    pub max_in_flight: usize,
}

impl Default for BudgetSettings {
    fn default() -> Self {
        Self {
            portal_rate: Some(200.0),
            key_rate: Some(50.0),
            burst: Duration::from_millis(200),
            max_in_flight: 9_000,
        }
    }
}

/// Whether requests of this priority may use the reserve.
pub(super) const fn uses_reserve(priority: Priority) -> bool {
    match priority {
        Priority::Create | Priority::Requested | Priority::Finishing => true,
        Priority::Active | Priority::Idle => false,
    }
}
