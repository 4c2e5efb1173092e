//! Which record a replica writes into the Lease, and when. Pure: time is an argument.
//!
//! Times of this process are durations since it started, by a clock that includes suspension. Times in a record are by
//! the clock of whoever wrote it, and are only compared for equality.

use std::time::Duration;

use jiff::Timestamp;

use crate::cluster::LeaseRecord;

/// The durations of an election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timing {
    /// A Lease that has not changed for this long has expired.
    pub(crate) lease_duration: Duration,
    /// A leader that could not renew for this long steps down. Shorter than the lease duration.
    pub(crate) renew_deadline: Duration,
    /// How often a replica renews or reads the Lease.
    pub(crate) retry_period: Duration,
}

impl Timing {
    /// The shortest pause between two attempts to renew.
    const SHORTEST_PAUSE: Duration = Duration::from_millis(250);

    /// How long a leader waits before its next attempt to renew, with that much of the renew deadline left. After a failed
    /// attempt it waits less, so that one request without a response does not cost the leadership.
    pub(super) fn pause(&self, remaining: Duration, has_renewed: bool) -> Duration {
        let pause = if has_renewed { remaining / 2 } else { (remaining / 4).max(Self::SHORTEST_PAUSE) };
        pause.min(self.retry_period).min(remaining)
    }

    /// The deadline of one request: short enough for another attempt within what is left of the renew deadline. For a
    /// replica that does not lead nothing is left.
    pub(super) fn request_deadline(&self, remaining: Duration) -> Duration {
        if remaining.is_zero() { self.renew_deadline / 2 } else { remaining / 2 }
    }
}

/// What one replica knows of the Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Election {
    identity: String,
    timing: Timing,
    observed: Option<Observed>,
    /// When the last successful write was sent. `None` until this replica leads.
    renewed: Option<Duration>,
}

/// A record, and when this replica first saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Observed {
    record: LeaseRecord,
    since: Duration,
}

/// What follows from what is known of the Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Write this record.
    Write(LeaseRecord),
    /// Leave the Lease alone: another replica holds it.
    Wait,
}

/// Why a leader has lost the Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// It could not renew within the renew deadline.
    Expired,
    /// Another replica holds the Lease.
    Taken,
}

impl Election {
    pub(super) const fn new(identity: String, timing: Timing) -> Self {
        Self { identity, timing, observed: None, renewed: None }
    }

    /// The Lease was read; `None` if there is none.
    pub(super) fn observe(&mut self, record: Option<LeaseRecord>, now: Duration) {
        let Some(record) = record else {
            self.observed = None;
            return;
        };
        if self.observed.as_ref().is_none_or(|observed| observed.record != record) {
            self.observed = Some(Observed { record, since: now });
        }
    }

    /// What to do with the Lease as it was last read. `time` goes into the record.
    pub(super) fn decide(&self, now: Duration, time: Timestamp) -> Decision {
        let renewed = LeaseRecord {
            holder: self.identity.clone(),
            duration: Some(self.timing.lease_duration),
            acquired_at: Some(time),
            renewed_at: Some(time),
            transitions: 0,
        };
        let Some(observed) = &self.observed else { return Decision::Write(renewed) };
        let LeaseRecord { holder, duration: _, acquired_at, renewed_at: _, transitions } = &observed.record;
        if *holder == self.identity {
            let (acquired_at, transitions) = (acquired_at.or(renewed.acquired_at), *transitions);
            Decision::Write(LeaseRecord { acquired_at, transitions, ..renewed })
        } else if self.is_led_by_another(now) {
            Decision::Wait
        } else {
            Decision::Write(LeaseRecord { transitions: transitions.saturating_add(1), ..renewed })
        }
    }

    /// Whether another replica holds the Lease as it was last read, which has not expired.
    pub(super) fn is_led_by_another(&self, now: Duration) -> bool {
        self.observed.as_ref().is_some_and(|observed| {
            let holder = &observed.record.holder;
            !holder.is_empty() && *holder != self.identity && !self.has_expired(observed, now)
        })
    }

    /// A record of this replica was written, by a request that was sent at `sent`.
    pub(super) fn wrote(&mut self, record: LeaseRecord, sent: Duration, now: Duration) {
        self.observed = Some(Observed { record, since: now });
        self.renewed = Some(sent);
    }

    /// Whether this replica has acquired the Lease. It may have lost it since.
    pub(super) const fn has_acquired(&self) -> bool {
        self.renewed.is_some()
    }

    /// Whether and why a leader has lost the Lease.
    pub(super) fn loss(&self, now: Duration) -> Option<Loss> {
        let renewed = self.renewed?;
        if now.saturating_sub(renewed) >= self.timing.renew_deadline {
            Some(Loss::Expired)
        } else if self.holder().is_some_and(|holder| holder != self.identity) {
            Some(Loss::Taken)
        } else {
            None
        }
    }

    /// The record that releases the Lease: nobody holds it, for a second.
    pub(super) fn released(&self, time: Timestamp) -> Option<LeaseRecord> {
        let record = &self.observed.as_ref()?.record;
        (record.holder == self.identity).then(|| LeaseRecord {
            holder: String::new(),
            duration: Some(Duration::from_secs(1)),
            acquired_at: Some(time),
            renewed_at: Some(time),
            transitions: record.transitions,
        })
    }

    /// Who held the Lease when it was last read.
    pub(super) fn holder(&self) -> Option<&str> {
        let observed = self.observed.as_ref()?;
        Some(observed.record.holder.as_str()).filter(|holder| !holder.is_empty())
    }

    /// A holder that renews says for how long others leave its Lease alone; its settings may differ.
    fn has_expired(&self, observed: &Observed, now: Duration) -> bool {
        let duration = observed.record.duration.unwrap_or(self.timing.lease_duration);
        now.saturating_sub(observed.since) >= duration
    }
}

#[cfg(test)]
mod tests;
