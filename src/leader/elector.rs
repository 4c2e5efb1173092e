//! Acquires the Lease, renews it, and releases it. May depend on the rest of `leader`, the Lease of `cluster`, the log and
//! tokio's clock.

use std::{borrow::Cow, net::SocketAddr, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    election::{Decision, Election, Loss, Timing},
    leader_address::LeaderAddress,
    leadership::Leadership,
};
use crate::{
    clock::{Clock, Stopwatch},
    cluster::{ApiError, Cluster, LeaseNotWritten, LeaseRef, StoredLease},
    incidents::Incidents,
    metrics::Metrics,
};

/// After this long without a failure the next one is logged again.
const RESOLVE_TIMEOUT: Duration = Duration::from_mins(5);
/// How long the release of the Lease may take. Without it another replica waits for the lease duration.
const RELEASE_WITHIN: Duration = Duration::from_secs(2);

/// Why this process no longer leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseLost {
    /// The API server accepted no renewal in time.
    #[error("the Lease could not be renewed within --leader-renew-deadline")]
    Expired,
    /// Another replica has the Lease.
    #[error("another replica holds the Lease")]
    Taken,
}

/// How one attempt to acquire or renew the Lease ended.
enum Attempt {
    /// This replica holds it.
    Holds,
    /// Another replica holds it, or wrote first.
    HeldByAnother,
    /// It is unknown.
    Failed(ApiError),
}

/// One candidate of an election.
pub(crate) struct Elector {
    cluster: Arc<Cluster>,
    clock: Clock,
    metrics: Arc<Metrics>,
    lease: LeaseRef,
    timing: Timing,
    started: Stopwatch,
    election: Election,
    /// The Lease as this process last read or wrote it; `None` if it must be read before the next write.
    stored: Option<StoredLease>,
    /// Whether a write was sent that did not succeed, as far as is known.
    may_have_written: bool,
    leadership: Leadership,
    leader_address: LeaderAddress,
    /// Where this process receives what other replicas forward, while it leads.
    own_address: Option<SocketAddr>,
    failures: Incidents<(), Vec<Option<u16>>>,
}

impl Elector {
    /// A candidate with this identity, which no other process may have.
    pub(crate) fn new(
        cluster: Arc<Cluster>,
        clock: Clock,
        metrics: Arc<Metrics>,
        lease: LeaseRef,
        (identity, timing): (String, Timing),
    ) -> Self {
        Self {
            cluster,
            clock,
            metrics,
            lease,
            timing,
            started: Stopwatch::now(),
            election: Election::new(identity, timing),
            stored: None,
            may_have_written: false,
            leadership: Leadership::standby(timing.renew_deadline),
            leader_address: LeaderAddress::default(),
            own_address: None,
            failures: Incidents::default(),
        }
    }

    /// Writes this address into the Lease while this process leads.
    #[must_use]
    pub(crate) fn receiving_at(self, own_address: Option<SocketAddr>) -> Self {
        Self { own_address, ..self }
    }

    /// Where the leader receives what other replicas forward.
    pub(crate) const fn leader_address(&self) -> &LeaderAddress {
        &self.leader_address
    }

    /// The leadership of this process.
    pub(crate) const fn leadership(&self) -> &Leadership {
        &self.leadership
    }

    /// Waits until this process leads, and returns true; false after `stop`. Passes to `on_waiting` why the Lease cannot be
    /// read, and `None` once it was read.
    pub(crate) async fn acquire(
        &mut self,
        stop: &CancellationToken,
        on_waiting: impl Fn(Option<Cow<'static, str>>),
    ) -> bool {
        let mut holder = None;
        while !stop.is_cancelled() {
            let attempt = tokio::select! {
                attempt = self.attempt() => attempt,
                // A write in flight that is not awaited leaves the Lease to a process that has ended.
                () = async { stop.cancelled().await; sleep(RELEASE_WITHIN).await } => break,
            };
            match attempt {
                Attempt::Holds if stop.is_cancelled() => break,
                Attempt::Holds => {
                    on_waiting(None);
                    let LeaseRef { namespace, name } = &self.lease;
                    tracing::info!(namespace, name, "this replica leads");
                    return true;
                }
                Attempt::HeldByAnother => on_waiting(None),
                Attempt::Failed(why) => on_waiting(Some(self.waiting_for(&why))),
            }
            let now = self.election.holder().map(str::to_owned);
            let is_new = now != holder;
            holder = now;
            if is_new && holder.is_some() {
                let LeaseRef { namespace, name } = &self.lease;
                tracing::info!(namespace, name, holder, "standby: another replica leads");
            }
            // With jitter, so that two replicas do not collide at every attempt.
            let pause = self.timing.retry_period.mul_f64(rand::random_range(0.9..1.1));
            tokio::select! {
                () = sleep(pause) => {}
                () = stop.cancelled() => {}
            }
        }
        self.release().await;
        false
    }

    /// Renews the Lease until it is lost.
    pub(crate) async fn hold(&mut self) -> LeaseLost {
        let mut has_renewed = true;
        loop {
            sleep(self.timing.pause(self.leadership.remaining(), has_renewed)).await;
            let remaining = self.leadership.remaining();
            if self.leadership.is_current() {
                // The attempt notes what it finds.
                has_renewed = matches!(timeout(remaining, self.attempt()).await, Ok(Attempt::Holds));
            }
            let lost = match self.election.loss(self.started.elapsed()) {
                Some(Loss::Taken) => LeaseLost::Taken,
                None if self.leadership.is_current() => continue,
                Some(Loss::Expired) | None => LeaseLost::Expired,
            };
            self.give_up();
            return lost;
        }
    }

    /// Releases the Lease, if this process holds it or may hold it without knowing, so that another replica need not wait.
    /// This process does not lead from then on, whether that succeeds or not.
    pub(crate) async fn release(&mut self) {
        let holds = self.leadership.is_current();
        self.give_up();
        let may_have_written = std::mem::take(&mut self.may_have_written);
        if may_have_written {
            self.stored = None;
        }
        if !holds && !may_have_written {
            return;
        }
        let failure = match timeout(RELEASE_WITHIN, self.write_release()).await {
            Ok(Ok(is_released)) => {
                if is_released {
                    tracing::info!("the Lease is released");
                }
                return;
            }
            Ok(Err(why)) => why,
            Err(_) => ApiError::TIMED_OUT,
        };
        let LeaseRef { namespace, name } = &self.lease;
        let (code, reason) = (failure.code(), failure.reason());
        tracing::warn!(
            namespace,
            name,
            code,
            reason,
            "the Lease of the leader election could not be released; another replica leads once it has expired"
        );
    }

    fn give_up(&self) {
        self.leadership.give_up();
        if self.metrics.leader.set(0) == 1 {
            self.metrics.leader_transitions.inc();
        }
    }

    /// Returns whether the Lease is released; false if another replica holds it, or wrote it first twice. A renewal whose
    /// response was not awaited may have changed it since it was read.
    async fn write_release(&mut self) -> Result<bool, ApiError> {
        for _ in 0..2 {
            if self.stored.is_none() {
                self.read().await?;
            }
            let Some(record) = self.election.released(self.clock.now()) else { return Ok(false) };
            let Some(mut stored) = self.stored.take() else { return Ok(false) };
            stored.set_webhook_address(None);
            let written = self.cluster.update_lease(&self.lease, stored, &record, RELEASE_WITHIN).await;
            match written {
                Ok(_) => return Ok(true),
                Err(LeaseNotWritten::Conflict) => {}
                Err(LeaseNotWritten::Failed(why)) => return Err(why),
            }
        }
        Ok(false)
    }

    /// Acquires or renews the Lease, if it is this replica's or free.
    async fn attempt(&mut self) -> Attempt {
        // A leader knows what it wrote last, and needs no read.
        let needs_read = !self.election.has_acquired() || self.stored.is_none();
        let mut attempt = if needs_read { Ok(false) } else { self.write().await };
        if let Ok(false) = attempt {
            attempt = match self.read().await {
                Ok(()) => self.write().await,
                Err(why) => Err(why),
            };
            // Nobody knows who receives at the address of a leader whose Lease has expired.
            let is_led = self.election.is_led_by_another(self.started.elapsed());
            let lease = self.stored.as_ref().filter(|_| is_led);
            self.leader_address.note(lease.and_then(StoredLease::webhook_address));
        }
        match attempt {
            Ok(true) => Attempt::Holds,
            Ok(false) => Attempt::HeldByAnother,
            Err(why) => {
                self.log_failure(&why);
                Attempt::Failed(why)
            }
        }
    }

    async fn read(&mut self) -> Result<(), ApiError> {
        self.stored = self.cluster.get_lease(&self.lease, self.deadline()).await?;
        let record = self.stored.as_ref().map(|stored| stored.record.clone());
        self.election.observe(record, self.started.elapsed());
        Ok(())
    }

    /// Writes the record that follows from the Lease as it was last read. False if another replica holds it, or wrote first.
    async fn write(&mut self) -> Result<bool, ApiError> {
        let Decision::Write(record) = self.election.decide(self.started.elapsed(), self.clock.now()) else {
            return Ok(false);
        };
        // The leadership is measured from before the request, which may be slow.
        let (sent, sent_at) = (Stopwatch::now(), self.started.elapsed());
        self.may_have_written = true;
        let written = match self.stored.take() {
            Some(mut stored) => {
                stored.set_webhook_address(self.own_address.map(|address| address.to_string()));
                self.cluster.update_lease(&self.lease, stored, &record, self.deadline()).await
            }
            // The first renewal says where this process receives.
            None => self.cluster.create_lease(&self.lease, &record, self.deadline()).await,
        };
        self.may_have_written = matches!(written, Err(LeaseNotWritten::Failed(_)));
        match written {
            Ok(stored) => {
                self.election.wrote(stored.record.clone(), sent_at, self.started.elapsed());
                self.stored = Some(stored);
                self.leadership.renewed(sent);
                Ok(true)
            }
            Err(LeaseNotWritten::Conflict) => Ok(false),
            Err(LeaseNotWritten::Failed(why)) => Err(why),
        }
    }

    fn deadline(&self) -> Duration {
        self.timing.request_deadline(self.leadership.remaining())
    }

    fn log_failure(&mut self, why: &ApiError) {
        if self.failures.is_news(why.code(), RESOLVE_TIMEOUT, Instant::now()) {
            let LeaseRef { namespace, name } = &self.lease;
            let (code, reason) = (why.code(), why.reason());
            tracing::warn!(
                namespace,
                name,
                code,
                reason,
                "the Lease of the leader election cannot be read or written; retrying. The operator needs permission to get, create \
                 and update it; --leader-elect=false runs a single replica without it"
            );
        }
    }

    fn waiting_for(&self, why: &ApiError) -> Cow<'static, str> {
        let LeaseRef { namespace, name } = &self.lease;
        format!("the Lease {namespace}/{name} of the leader election: {why}").into()
    }
}

#[cfg(test)]
mod tests;
