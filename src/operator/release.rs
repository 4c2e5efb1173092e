//! `okid-operator release-finalizers`: removes the operator's finalizer from all Verifications before an uninstallation, so
//! that they and their namespaces can be deleted without it. An operator that runs would add the finalizer again, so it is
//! stopped first.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    time::Duration,
};

use futures::{StreamExt as _, stream};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use crate::{
    api::EVIDENCE_FINALIZER,
    clock::Clock,
    cluster::{ApiError, Cluster, Connect, HeldVerification, LeftEvidence, connect, scopes},
    metrics::Metrics,
    settings::{Namespace, ReleaseSettings, Selector},
};

/// How long scaling the operator's Deployment to zero is retried.
const SCALED_WITHIN: Duration = Duration::from_secs(10);
/// How long the operator's Pods may take to end. Their default grace period is shorter.
const PODS_END_WITHIN: Duration = Duration::from_secs(80);
/// How long the removal of the finalizers is retried.
const REMOVED_WITHIN: Duration = Duration::from_mins(2);
/// The pause before another attempt.
const PAUSE: Duration = Duration::from_secs(1);
/// How many finalizers are removed at the same time.
const CONCURRENT: usize = 16;
/// How many Verifications are listed in one request at first. Their metadata may be large.
const PAGE: u32 = 50;
/// How many times the finalizer of one Verification is removed, if it is added again.
const REMOVALS: u32 = 3;
/// How many Verifications that were not released the last message names.
const NAMED: usize = 10;

/// Why not all finalizers were removed.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// There is no client for the API server.
    #[error(transparent)]
    Cluster(#[from] Connect),
    /// Some of the Verifications still have the finalizer, or may have it.
    #[error("did not remove the finalizer {EVIDENCE_FINALIZER} from all Verifications: {0}")]
    Incomplete(String),
}

/// Removes the finalizer from all Verifications. One from which it cannot be removed does not keep it on the others.
///
/// # Errors
///
/// [`ReleaseError`].
pub async fn release_finalizers(settings: &ReleaseSettings) -> Result<(), ReleaseError> {
    let cluster = connect(Clock::start(), "release-finalizers", None, Metrics::new().into()).await?;
    let release = Release { cluster, settings, progress: Mutex::default() };
    let is_stopped = release.stop_operator().await;
    let failures = release.remove_all(Instant::now() + REMOVED_WITHIN, is_stopped).await;
    let progress = release.progress.into_inner();
    tracing::info!(
        released = progress.removals.len(),
        with_evidence = progress.with_evidence,
        "removed the finalizer {EVIDENCE_FINALIZER}"
    );
    for (what, why) in &failures.0 {
        tracing::error!(what, why, "the finalizer was not removed");
    }
    if failures.0.is_empty() { Ok(()) } else { Err(ReleaseError::Incomplete(failures.to_string())) }
}

struct Release<'a> {
    cluster: Cluster,
    settings: &'a ReleaseSettings,
    progress: Mutex<Progress>,
}

#[derive(Debug)]
struct Progress {
    /// How many Verifications are listed in one request.
    page_limit: u32,
    /// How often the finalizer of each Verification was removed, by uid.
    removals: HashMap<String, u32>,
    /// How many of them have evidence in a store.
    with_evidence: usize,
}

impl Default for Progress {
    fn default() -> Self {
        Self { page_limit: PAGE, removals: HashMap::new(), with_evidence: 0 }
    }
}

/// What still has the finalizer, or may have it, and why.
#[derive(Debug, Default)]
struct Failures(BTreeMap<String, String>);

impl fmt::Display for Failures {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (what, why)) in self.0.iter().take(NAMED).enumerate() {
            write!(formatter, "{}{what} ({why})", if number == 0 { "" } else { ", " })?;
        }
        match self.0.len().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(formatter, ", and {more} more"),
        }
    }
}

/// What one pass over all Verifications has found.
#[derive(Debug, Default)]
struct Pass {
    /// Whether one had the finalizer.
    has_found: bool,
    failures: Failures,
}

impl Pass {
    fn failed(&mut self, what: String, why: impl Into<String>) {
        self.failures.0.insert(what, why.into());
    }
}

impl Release<'_> {
    /// Stops the operator, if the settings name its Deployment, and waits until its Pods have ended. Returns whether they
    /// have.
    async fn stop_operator(&self) -> bool {
        let ReleaseSettings { stop_deployment, pod_selector, pod_namespace, .. } = self.settings;
        let (Some(namespace), Some(deployment)) = (pod_namespace, stop_deployment) else { return false };
        let namespace = namespace.as_str();
        let since = Instant::now();
        while let Err(error) = self.cluster.stop_deployment(namespace, deployment).await {
            if since.elapsed() >= SCALED_WITHIN {
                tracing::warn!(
                    namespace,
                    deployment,
                    %error,
                    "the operator cannot be scaled to zero; going on regardless"
                );
                return false;
            }
            sleep(PAUSE).await;
        }
        tracing::info!(namespace, deployment, "scaled the operator to zero");
        let Some(selector) = pod_selector.as_ref().map(Selector::as_str) else { return false };
        let since = Instant::now();
        while !matches!(self.cluster.has_pods(namespace, selector).await, Ok(false)) {
            if since.elapsed() >= PODS_END_WITHIN {
                tracing::warn!(
                    namespace,
                    selector,
                    "the operator's Pods have not ended; going on regardless"
                );
                return false;
            }
            sleep(PAUSE).await;
        }
        true
    }

    /// Removes the finalizers until there are none, or until `end`. Returns what is left then.
    async fn remove_all(&self, end: Instant, is_stopped: bool) -> Failures {
        loop {
            let pass = self.pass(end, is_stopped).await;
            let is_done = !pass.has_found && pass.failures.0.is_empty();
            if is_done || Instant::now() >= end {
                return pass.failures;
            }
            if !pass.failures.0.is_empty() {
                sleep(PAUSE).await;
            }
        }
    }

    /// Lists all Verifications once, and removes the finalizer from those that have it.
    async fn pass(&self, end: Instant, is_stopped: bool) -> Pass {
        let mut pass = Pass::default();
        for namespace in scopes(self.settings.namespaces.iter().map(Namespace::as_str)) {
            if let Err(why) = self.pass_of(namespace, &mut pass, end, is_stopped).await {
                let what = namespace.map_or_else(
                    || "all namespaces".to_owned(),
                    |namespace| format!("namespace {namespace}"),
                );
                pass.failed(what, format!("list: {why}"));
            }
        }
        pass
    }

    /// The same in one namespace, or in all. What a page shows is released before the next one is listed.
    async fn pass_of(
        &self,
        namespace: Option<&str>,
        pass: &mut Pass,
        end: Instant,
        is_stopped: bool,
    ) -> Result<(), ApiError> {
        let selector = self.settings.selector.as_ref().map(Selector::as_str);
        let mut page = None;
        loop {
            let limit = self.progress.lock().page_limit;
            let found = self.cluster.with_finalizer(namespace, selector, limit, page.as_deref()).await;
            let found = match found {
                Err(error) if is_too_late(&error) && limit > 1 && Instant::now() < end => {
                    self.progress.lock().page_limit = limit / 2;
                    continue;
                }
                found => found?,
            };
            pass.has_found |= self.release(found.held, pass, is_stopped).await;
            page = found.next;
            if page.is_none() {
                return Ok(());
            }
            if Instant::now() >= end {
                return Err(ApiError::TIMED_OUT);
            }
        }
    }

    /// Removes the finalizer from these Verifications. Returns whether there were any, except those to which it is added
    /// again and again.
    async fn release(&self, held: Vec<HeldVerification>, pass: &mut Pass, is_stopped: bool) -> bool {
        let is_left = |held: &HeldVerification| {
            self.progress.lock().removals.get(&held.uid).is_some_and(|removals| *removals >= REMOVALS)
        };
        let (left, held): (Vec<_>, Vec<_>) = held.into_iter().partition(is_left);
        for HeldVerification { namespace, name, .. } in left {
            // It was not the operator, so this one Verification holds up no other.
            if is_stopped {
                tracing::warn!(namespace, name, "another client adds the finalizer again and again");
            } else {
                let why = "it is added again and again, perhaps by an operator that is still running";
                pass.failed(format!("{namespace}/{name}"), why);
            }
        }
        let has_found = !held.is_empty();
        let mut removals = stream::iter(held).map(|held| self.remove(held)).buffer_unordered(CONCURRENT);
        while let Some((held, removed)) = removals.next().await {
            if let Err(error) = removed {
                pass.failed(format!("{}/{}", held.namespace, held.name), error.to_string());
            }
        }
        has_found
    }

    /// Removes one finalizer.
    async fn remove(&self, held: HeldVerification) -> (HeldVerification, Result<(), ApiError>) {
        let removed = self.cluster.remove_finalizer(&held).await;
        let result = removed.map(|evidence| {
            if let Some(evidence) = evidence {
                self.note_removal(&held, &evidence);
            }
        });
        (held, result)
    }

    fn note_removal(&self, held: &HeldVerification, evidence: &LeftEvidence) {
        let HeldVerification { namespace, name, uid, .. } = held;
        let is_first = {
            let mut progress = self.progress.lock();
            let removals = progress.removals.entry(uid.clone()).or_default();
            *removals += 1;
            let is_first = *removals == 1;
            progress.with_evidence += usize::from(is_first && evidence.objects > 0);
            is_first
        };
        if !is_first {
            return;
        }
        if evidence.objects > 0 {
            tracing::warn!(
                namespace,
                name,
                uid,
                url = evidence.url,
                objects = evidence.objects,
                "removed the finalizer; the evidence stays in its store"
            );
        } else {
            tracing::info!(
                namespace,
                name,
                uid,
                url = evidence.url,
                "removed the finalizer; status lists no evidence"
            );
        }
    }
}

/// Whether a smaller page might have a response in time.
fn is_too_late(error: &ApiError) -> bool {
    *error == ApiError::TIMED_OUT || error.code() == Some(504)
}

#[cfg(test)]
mod tests;
