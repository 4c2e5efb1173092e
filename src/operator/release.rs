//! `okid-operator release-finalizers`: removes the operator's finalizer from all Verifications before an uninstallation, so
//! that they and their namespaces can be deleted without it. An operator that runs would add the finalizer again, so it is
//! stopped first.

use std::{collections::HashSet, future::ready, time::Duration};

use futures::{StreamExt as _, stream};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    api::EVIDENCE_FINALIZER,
    clock::Clock,
    cluster::{ApiError, Cluster, Connect, HeldVerification, Released, connect},
    metrics::Metrics,
    settings::{Namespace, ReleaseSettings, Selector},
};

/// How long all of it may take.
const LONGEST: Duration = Duration::from_mins(2);
/// How long the operator's Pods may take to end. Their default grace period is shorter.
const PODS_END_WITHIN: Duration = Duration::from_secs(80);
/// The pause before something is tried again.
const PAUSE: Duration = Duration::from_secs(1);
/// How many finalizers are removed at the same time.
const CONCURRENT: usize = 16;

/// Why not all finalizers were removed.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// There is no client for the API server.
    #[error(transparent)]
    Cluster(#[from] Connect),
    /// The time was over.
    #[error(
        "could not remove the finalizer {EVIDENCE_FINALIZER} from all Verifications within {} s{why}",
        LONGEST.as_secs()
    )]
    TimedOut {
        /// What is known of the cause.
        why: String,
    },
}

/// Removes the finalizer from all Verifications.
///
/// # Errors
///
/// [`ReleaseError`].
pub async fn release_finalizers(settings: &ReleaseSettings) -> Result<(), ReleaseError> {
    let cluster = connect(Clock::start(), "release-finalizers", None, Metrics::new().into()).await?;
    let release = Release { cluster, settings, progress: Mutex::default() };
    let done = timeout(LONGEST, release.run()).await;
    let progress = release.progress.into_inner();
    tracing::info!(
        released = progress.released.len(),
        with_evidence = progress.with_evidence,
        "removed the finalizer {EVIDENCE_FINALIZER}"
    );
    done.map_err(|_| ReleaseError::TimedOut { why: progress.cause() })
}

struct Release<'a> {
    cluster: Cluster,
    settings: &'a ReleaseSettings,
    progress: Mutex<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    /// The uids of the Verifications that were released.
    released: HashSet<String>,
    /// How many of them have evidence in a store.
    with_evidence: usize,
    /// Whether one had to be released again.
    was_added_again: bool,
    last_error: Option<ApiError>,
}

impl Progress {
    fn cause(&self) -> String {
        match &self.last_error {
            Some(error) => format!("; the last request failed: {error}"),
            None if self.was_added_again => {
                "; an operator that is still running adds it again, so stop that first".to_owned()
            }
            None => String::new(),
        }
    }
}

impl Release<'_> {
    async fn run(&self) {
        self.stop_operator().await;
        loop {
            let Some(held) = self.find().await else {
                sleep(PAUSE).await;
                continue;
            };
            if held.is_empty() {
                return;
            }
            let removals = stream::iter(&held).map(|held| self.remove(held)).buffer_unordered(CONCURRENT);
            if !removals.fold(true, |all, removed| ready(all && removed)).await {
                sleep(PAUSE).await;
            }
        }
    }

    /// Stops the operator, if the settings name its Deployment, and waits until its Pods have ended.
    async fn stop_operator(&self) {
        let ReleaseSettings { stop_deployment, pod_selector, pod_namespace, .. } = self.settings;
        let (Some(namespace), Some(deployment)) = (pod_namespace, stop_deployment) else { return };
        while self.note(self.cluster.stop_deployment(namespace, deployment).await).is_none() {
            sleep(PAUSE).await;
        }
        tracing::info!(namespace, deployment, "scaled the operator to zero");
        let Some(selector) = pod_selector.as_ref().map(Selector::as_str) else { return };
        let since = Instant::now();
        while self.note(self.cluster.has_pods(namespace, selector).await) != Some(false) {
            if since.elapsed() >= PODS_END_WITHIN {
                tracing::warn!(
                    namespace,
                    selector,
                    "the operator's Pods have not ended; going on regardless"
                );
                return;
            }
            sleep(PAUSE).await;
        }
    }

    /// Lists the Verifications that have the finalizer; nothing if the list fails.
    async fn find(&self) -> Option<Vec<HeldVerification>> {
        let ReleaseSettings { namespaces, selector, .. } = self.settings;
        let selector = selector.as_ref().map(Selector::as_str);
        if namespaces.is_empty() {
            return self.note(self.cluster.with_finalizer(None, selector).await);
        }
        let mut all = Vec::new();
        for namespace in namespaces.iter().map(Namespace::as_str) {
            all.extend(self.note(self.cluster.with_finalizer(Some(namespace), selector).await)?);
        }
        Some(all)
    }

    /// Removes one finalizer. Returns false if that failed, or if it had been removed before.
    async fn remove(&self, held: &HeldVerification) -> bool {
        let Some(Released::Done(evidence)) = self.note(self.cluster.remove_finalizer(held).await) else {
            return false;
        };
        let mut progress = self.progress.lock();
        if !progress.released.insert(held.uid.clone()) {
            progress.was_added_again = true;
            return false;
        }
        let HeldVerification { namespace, name, uid, .. } = held;
        if evidence.objects > 0 {
            progress.with_evidence += 1;
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
        true
    }

    /// Notes the error of a request for the final message.
    fn note<T>(&self, response: Result<T, ApiError>) -> Option<T> {
        let (value, error) = match response {
            Ok(value) => (Some(value), None),
            Err(error) => (None, Some(error)),
        };
        self.progress.lock().last_error = error;
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_the_last_error_or_the_operator_that_still_runs() {
        let mut progress = Progress::default();
        assert_eq!(progress.cause(), "");
        progress.was_added_again = true;
        assert!(progress.cause().contains("still running"));
        progress.last_error = Some(ApiError::TIMED_OUT);
        assert!(progress.cause().ends_with("the last request failed: timed out"));
    }
}
