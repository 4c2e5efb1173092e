//! The settings of the leader election, which depend on each other.

use std::{fmt::Write as _, time::Duration};

use sha2::{Digest as _, Sha256};

use super::{flags::LeaderFlags, values::Namespace};

/// The name of the Lease of an operator that watches everything.
const LEASE_NAME: &str = "okid-operator";

/// The longest duration of a Lease. After a crash nobody leads for that long.
const LONGEST_LEASE: Duration = Duration::from_hours(1);

/// How the leader is elected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderElection {
    /// The name of the Lease.
    pub lease_name: String,
    /// The namespace of the Lease; the operator's own, if it is `None`.
    pub lease_namespace: Option<Namespace>,
    /// A Lease that did not change for this long has expired. Whole seconds.
    pub lease_duration: Duration,
    /// A leader that could not renew for this long steps down.
    pub renew_deadline: Duration,
    /// How often the Lease is renewed, or looked at.
    pub retry_period: Duration,
}

/// The durations do not fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidTiming {
    /// A crash would leave the work undone for too long.
    #[error("--leader-lease-duration must be at most 1h; the default is 15s")]
    LongLease,
    /// The renew deadline leaves no time to step down before the Lease expires.
    #[error(
        "--leader-lease-duration must be longer than --leader-renew-deadline, so that a leader that cannot renew steps down \
         before another one takes over; the defaults are 15s and 10s"
    )]
    LeaseDuration,
    /// The retry period leaves no second attempt.
    #[error(
        "--leader-renew-deadline must be longer than 1.2 times --leader-retry-period, so that a leader has a second attempt to \
         renew; the defaults are 10s and 2s"
    )]
    RenewDeadline,
    /// Requests would follow each other without a pause.
    #[error("--leader-retry-period must be at least 1s; the default is 2s")]
    RetryPeriod,
}

impl InvalidTiming {
    /// The flag whose value must change.
    pub(super) const fn flag(self) -> &'static str {
        match self {
            Self::LeaseDuration | Self::LongLease => "--leader-lease-duration",
            Self::RenewDeadline => "--leader-renew-deadline",
            Self::RetryPeriod => "--leader-retry-period",
        }
    }
}

impl LeaderElection {
    /// The election of an operator that watches these namespaces with that selector; nothing, if there is none.
    pub(super) fn of(
        flags: LeaderFlags,
        namespaces: &[Namespace],
        selector: Option<&str>,
    ) -> Result<Option<Self>, InvalidTiming> {
        let LeaderFlags { elect, lease_duration, renew_deadline, retry_period, lease_name, lease_namespace } =
            flags;
        let (lease_duration, renew_deadline) = (lease_duration.get(), renew_deadline.get());
        let retry_period = retry_period.get();
        if retry_period < Duration::from_secs(1) {
            return Err(InvalidTiming::RetryPeriod);
        }
        if lease_duration > LONGEST_LEASE {
            return Err(InvalidTiming::LongLease);
        }
        if lease_duration <= renew_deadline {
            return Err(InvalidTiming::LeaseDuration);
        }
        // The longest durations cannot be multiplied.
        if renew_deadline <= retry_period || renew_deadline <= retry_period.mul_f64(1.2) {
            return Err(InvalidTiming::RenewDeadline);
        }
        let lease_name =
            lease_name.map_or_else(|| default_name(namespaces, selector), |name| name.as_str().to_owned());
        let election = Self { lease_name, lease_namespace, lease_duration, renew_deadline, retry_period };
        Ok(elect.then_some(election))
    }
}

/// Operators that share the work of a cluster by namespace or label must not share a Lease: all but one would do nothing.
fn default_name(namespaces: &[Namespace], selector: Option<&str>) -> String {
    if namespaces.is_empty() && selector.is_none() {
        return LEASE_NAME.to_owned();
    }
    let namespaces: Vec<_> = namespaces.iter().map(Namespace::as_str).collect();
    let hash = Sha256::digest(format!("{}\n{}", namespaces.join(","), selector.unwrap_or_default()));
    let mut name = format!("{LEASE_NAME}-");
    for byte in &hash[..4] {
        // Writing to a string does not fail.
        let _ = write!(name, "{byte:02x}");
    }
    name
}
