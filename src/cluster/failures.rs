//! Reports that requests to the API server fail: once for each incident, not for each resource at each attempt, because
//! there may be a hundred thousand of them, and some requests may succeed while others fail.
//!
//! May depend on tokio's clock and the log.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::{Instant, error::Elapsed, sleep_until};

use super::error::ApiError;
use crate::incidents::{Incident, Incidents};

/// An incident ends once nothing has failed for this long. Longer than any wait between two reconciles.
const RESOLVE_TIMEOUT: Duration = Duration::from_mins(5);
/// The same for deletions that are refused, which are tried again within an hour.
const REFUSED_DELETIONS_RESOLVE_TIMEOUT: Duration = Duration::from_hours(2);
/// An incident stays open for this long after its last failure, though all requests have succeeded since: an API server
/// that responds to some and not to others is one incident.
const KEEP_OPEN_FOR: Duration = Duration::from_secs(10);
/// The most objects that one incident tracks. With more of them it ends only by the timeout.
const MOST_TRACKED: usize = 4096;

/// A call that a reconcile makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ServerCall {
    /// Reading a resource before it is reconciled.
    GetVerification,
    /// Writing the status that a reconcile concluded.
    PatchStatus,
    /// Writing the finalizer of evidence.
    PatchVerification,
    /// Deleting a resource at the end of its `spec.ttlAfterFinished`.
    DeleteVerification,
    /// Reading an API key or the credentials of a store.
    GetSecret,
}

impl ServerCall {
    /// The verb that RBAC must allow.
    const fn verb(self) -> &'static str {
        match self {
            Self::GetVerification | Self::GetSecret => "get",
            Self::PatchStatus | Self::PatchVerification => "patch",
            Self::DeleteVerification => "delete",
        }
    }

    /// The resource that RBAC must allow it on.
    const fn resource(self) -> &'static str {
        match self {
            Self::GetVerification | Self::PatchVerification | Self::DeleteVerification => "verifications",
            Self::PatchStatus => "verifications/status",
            Self::GetSecret => "secrets",
        }
    }
}

/// What an incident is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum IncidentKind {
    /// The API server does not respond, or responds that it cannot: this concerns every call.
    Unavailable,
    /// The API server does not accept the credentials: this concerns every call.
    Unauthenticated,
    /// It refuses that call with that code.
    Refused(ServerCall, u16),
}

impl IncidentKind {
    fn of(call: ServerCall, code: Option<u16>) -> Self {
        match code {
            None | Some(408 | 429 | 500..) => Self::Unavailable,
            Some(401) => Self::Unauthenticated,
            Some(code) => Self::Refused(call, code),
        }
    }

    const fn resolve_timeout(self) -> Duration {
        match self {
            Self::Refused(ServerCall::DeleteVerification, _) => REFUSED_DELETIONS_RESOLVE_TIMEOUT,
            Self::Unavailable | Self::Unauthenticated | Self::Refused(_, _) => RESOLVE_TIMEOUT,
        }
    }

    /// Whether a success of that call suggests that the failure has ended.
    fn may_end_with(self, call: ServerCall) -> bool {
        match self {
            Self::Unavailable | Self::Unauthenticated => true,
            Self::Refused(refused, _) => refused == call,
        }
    }
}

/// The current failures. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct FailureLog(Arc<Mutex<Incidents<IncidentKind, Failing>>>);

/// What fails in an incident.
#[derive(Debug, Default)]
struct Failing {
    /// What failed and has not succeeded since, by hashes of call and name.
    objects: HashSet<u64>,
    /// There were more of them than are tracked.
    has_untracked: bool,
    /// A task waits to report the end.
    has_waiter: bool,
}

/// The end of an incident.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// It has ended.
    Now,
    /// It ends at that time, unless something fails before.
    At(IncidentKind, Instant),
}

impl FailureLog {
    /// Notes how a call ended, and reports the beginning and the end of an incident.
    pub(crate) fn note<T>(
        &self,
        call: ServerCall,
        (namespace, name): (&str, &str),
        response: &Result<kube::Result<T>, Elapsed>,
    ) {
        let now = Instant::now();
        let (verb, resource) = (call.verb(), call.resource());
        let error = match response {
            // A resource that no longer exists cannot fail, and a conflict is a response.
            Ok(Err(kube::Error::Api(status)))
                if status.code == 409 || (status.code == 404 && status.reason == "NotFound") =>
            {
                None
            }
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(ApiError::from(error)),
            Err(_) => Some(ApiError::TIMED_OUT),
        };
        let Some(error) = error else {
            for end in self.succeeded(call, (namespace, name), now) {
                match end {
                    End::Now => report_end(call),
                    End::At(failure, at) => self.report_end_at(call, failure, at),
                }
            }
            return;
        };
        if self.failed(call, error.code(), (namespace, name), now) {
            let (code, reason) = (error.code(), error.reason());
            tracing::warn!(
                verb,
                resource,
                code,
                reason,
                namespace,
                name,
                "Kubernetes API request failed; retrying"
            );
        }
    }

    /// Reports the end of an incident in time, because there may be no further request that could do it.
    fn report_end_at(&self, call: ServerCall, failure: IncidentKind, mut at: Instant) {
        let failures = self.clone();
        tokio::spawn(async move {
            loop {
                sleep_until(at).await;
                match failures.end_of(failure, Instant::now()) {
                    None => return,
                    Some(End::Now) => return report_end(call),
                    Some(End::At(_, later)) => at = later,
                }
            }
        });
    }

    /// When the incident that a task waits for ends; `None` if something fails again.
    fn end_of(&self, failure: IncidentKind, now: Instant) -> Option<End> {
        let mut incidents = self.0.lock();
        let incident = incidents.get_mut(&failure)?;
        if is_over(incident, now) {
            incidents.forget(&failure);
            return Some(End::Now);
        }
        if incident.detail.has_recovered() {
            return Some(End::At(failure, incident.last_failure() + KEEP_OPEN_FOR));
        }
        incident.detail.has_waiter = false;
        None
    }

    /// Whether this failure begins an incident.
    fn failed(&self, call: ServerCall, code: Option<u16>, object: (&str, &str), now: Instant) -> bool {
        let mut incidents = self.0.lock();
        let failure = IncidentKind::of(call, code);
        let (is_new, failing) = incidents.failed(failure, Failing::default(), failure.resolve_timeout(), now);
        let object = hash(call, object);
        if failing.objects.len() < MOST_TRACKED {
            failing.objects.insert(object);
        } else if !failing.objects.contains(&object) {
            failing.has_untracked = true;
        }
        is_new
    }

    /// The ends of the incidents that this success resolves.
    fn succeeded(&self, call: ServerCall, object: (&str, &str), now: Instant) -> Vec<End> {
        let mut incidents = self.0.lock();
        if incidents.len() == 0 {
            return Vec::new();
        }
        let object = hash(call, object);
        let mut ends = Vec::new();
        let resolved = incidents.resolve(now, |incident| {
            let was_failing = incident.detail.objects.remove(&object);
            if incident.detail.has_waiter || !incident.key.may_end_with(call) {
                return false;
            }
            if is_over(incident, now) {
                return true;
            }
            if was_failing && incident.detail.has_recovered() {
                incident.detail.has_waiter = true;
                ends.push(End::At(incident.key, incident.last_failure() + KEEP_OPEN_FOR));
            }
            false
        });
        ends.extend(resolved.iter().map(|_| End::Now));
        ends
    }
}

fn report_end(call: ServerCall) {
    let (verb, resource) = (call.verb(), call.resource());
    tracing::info!(verb, resource, "Kubernetes API requests succeed again");
}

fn is_over(incident: &Incident<IncidentKind, Failing>, now: Instant) -> bool {
    let is_stable = now.saturating_duration_since(incident.last_failure()) >= KEEP_OPEN_FOR;
    incident.has_timed_out(now) || (is_stable && incident.detail.has_recovered())
}

impl Failing {
    /// Whether all that failed has succeeded since.
    fn has_recovered(&self) -> bool {
        self.objects.is_empty() && !self.has_untracked
    }
}

fn hash(call: ServerCall, object: (&str, &str)) -> u64 {
    let mut hasher = DefaultHasher::new();
    (call, object).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: ServerCall = ServerCall::PatchStatus;
    const ALICE: (&str, &str) = ("kyc", "alice");
    const BOB: (&str, &str) = ("kyc", "bob");

    fn second(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn an_incident_is_reported_once_and_ends_when_all_have_succeeded() {
        let (failures, now) = (FailureLog::default(), Instant::now());
        assert!(failures.failed(CALL, Some(403), ALICE, now));
        assert!((0..100_000).all(|_| !failures.failed(CALL, Some(403), BOB, now)));
        let later = now + KEEP_OPEN_FOR;
        assert_eq!(failures.succeeded(CALL, BOB, later), [], "alice is still refused");
        assert_eq!(failures.succeeded(ServerCall::GetVerification, ALICE, later), []);
        assert_eq!(failures.succeeded(CALL, ALICE, later), [End::Now]);
        assert_eq!(failures.succeeded(CALL, ALICE, later), []);
        assert!(failures.failed(CALL, Some(403), BOB, later), "the next one is another incident");
    }

    #[test]
    fn deletions_that_are_refused_every_hour_are_one_incident() {
        let (failures, start) = (FailureLog::default(), Instant::now());
        let fails = |hour| {
            failures.failed(ServerCall::DeleteVerification, Some(403), ALICE, start + second(3600) * hour)
        };
        assert_eq!([0, 1, 2, 3].map(fails), [true, false, false, false]);
        assert!(fails(6), "the API server had let others through, or nothing was left to delete");
    }

    /// The lines of five minutes in which each call fails as `fails` says.
    async fn lines(fails: impl Fn(u32, usize) -> bool, objects: usize) -> Vec<(u64, bool)> {
        let (failures, start) = (FailureLog::default(), Instant::now());
        let calls = [ServerCall::GetVerification, ServerCall::PatchStatus, ServerCall::GetSecret];
        let codes = [None, Some(500), Some(503), Some(429)];
        let mut lines = Vec::new();
        let mut ends = Vec::new();
        for step in 0..300_u32 {
            for number in 0..objects {
                let name = number.to_string();
                let (object, call) = (("kyc", name.as_str()), calls[number % 3]);
                let now = Instant::now();
                let since = now.duration_since(start).as_secs();
                if fails(step, number) {
                    let code = codes[(number + usize::try_from(step).unwrap()) % 4];
                    if failures.failed(call, code, object, now) {
                        lines.push((since, true));
                    }
                } else {
                    for end in failures.succeeded(call, object, now) {
                        match end {
                            End::Now => lines.push((since, false)),
                            End::At(failure, at) => ends.push((failure, at)),
                        }
                    }
                }
            }
            tokio::time::advance(second(1)).await;
            let now = Instant::now();
            let due = std::mem::take(&mut ends);
            for (failure, at) in due {
                let end = if at > now { Some(End::At(failure, at)) } else { failures.end_of(failure, now) };
                match end {
                    None => {}
                    Some(End::Now) => lines.push((now.duration_since(start).as_secs(), false)),
                    Some(End::At(failure, at)) => ends.push((failure, at)),
                }
            }
        }
        lines
    }

    #[tokio::test(start_paused = true)]
    async fn a_secret_that_can_be_read_every_other_time_is_one_incident() {
        let lines = lines(|step, _| step < 90 && step.is_multiple_of(2), 1).await;
        assert_eq!(lines, [(0, true), (98, false)]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_two_lines_however_many_objects_fail_in_however_many_ways() {
        // They recover one after the other.
        let fails = |step, number| step < 120 + u32::try_from(number % 30).unwrap();
        let lines = lines(fails, 200).await;
        assert_eq!(lines, [(0, true), (158, false)]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_is_reported_though_no_further_request_is_made() {
        let failures = FailureLog::default();
        assert!(failures.failed(CALL, Some(403), ALICE, Instant::now()));
        let response: Result<kube::Result<()>, Elapsed> = Ok(Ok(()));
        failures.note(CALL, ALICE, &response);
        assert_eq!(failures.0.lock().len(), 1);
        tokio::time::sleep(KEEP_OPEN_FOR + second(1)).await;
        assert!(failures.0.lock().len() == 0);
    }

    #[test]
    fn each_refusal_of_a_call_is_an_incident_of_its_own() {
        let (failures, now) = (FailureLog::default(), Instant::now());
        assert!(failures.failed(CALL, Some(422), ALICE, now));
        assert!(failures.failed(CALL, Some(403), ALICE, now));
        assert!(failures.failed(CALL, None, ALICE, now));
        assert!(failures.failed(CALL, Some(401), ALICE, now));
        assert!(failures.failed(ServerCall::GetSecret, Some(403), ALICE, now));
        assert!(!failures.failed(ServerCall::GetSecret, Some(401), ALICE, now));
    }

    #[test]
    fn an_incident_without_failures_is_over_after_five_minutes() {
        let (failures, now) = (FailureLog::default(), Instant::now());
        let later = now + RESOLVE_TIMEOUT + second(1);
        assert!(failures.failed(CALL, Some(403), ALICE, now));
        assert_eq!(failures.succeeded(CALL, BOB, now + RESOLVE_TIMEOUT), []);
        assert_eq!(failures.succeeded(CALL, BOB, later), [End::Now]);
        assert!(failures.failed(CALL, Some(403), ALICE, now));
        assert!(failures.failed(CALL, Some(403), BOB, later));
    }

    #[test]
    fn an_incident_with_more_objects_than_are_tracked_ends_when_it_times_out() {
        let (failures, now) = (FailureLog::default(), Instant::now());
        let names: Vec<_> = (0..=MOST_TRACKED).map(|number| number.to_string()).collect();
        let reported = names.iter().filter(|name| failures.failed(CALL, Some(403), ("kyc", name), now));
        assert_eq!(reported.count(), 1);
        let ends = |at| names.iter().any(|name| !failures.succeeded(CALL, ("kyc", name), at).is_empty());
        assert!(!ends(now + KEEP_OPEN_FOR));
        assert!(ends(now + RESOLVE_TIMEOUT + second(1)));
    }
}
