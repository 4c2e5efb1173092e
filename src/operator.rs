//! The wiring: builds everything from the settings, runs it, and shuts it down. May depend on every module.

mod check;
mod release;
mod setup;

use std::sync::Arc;

use clap::ValueEnum;
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    admin::{Health, Readiness, listen::listen, routes},
    clock::Clock,
    cluster::{Connect, OwnPod, WAITING, connect},
    evidence::Evidence,
    metrics::Metrics,
    portal::{Portal, PortalSettings, PortalUrl, budget::Budgets},
    reconcile::{Clients, Reconciler, follow},
    settings::{Namespace, PodReference, Settings},
    workqueue::{WorkQueue, WorkQueueSettings},
};

pub use check::{CheckError, check};
pub use release::{ReleaseError, release_finalizers};
pub use setup::Setup;

/// Why the operator could not run, or could not shut down cleanly.
#[derive(Debug, thiserror::Error)]
pub enum RunOperator {
    /// Something that a setting names cannot be opened.
    #[error(transparent)]
    Setup(#[from] Setup),
    /// There is no client for the API server.
    #[error(transparent)]
    Cluster(#[from] Connect),
    /// The admin address cannot be served.
    #[error("cannot serve on --admin-address")]
    Admin(#[source] std::io::Error),
    /// The task that follows the watch has panicked, so no change would be seen any more.
    #[error(
        "stopped because the task that follows the watch panicked; see the log, and restart the operator"
    )]
    WatchEnded,
    /// In-flight work did not finish in time.
    #[error(
        "could not record all in-flight work within --shutdown-grace-period; the next start treats its outcome as unknown"
    )]
    Drain,
}

/// Runs the operator until `shutdown`.
///
/// # Errors
///
/// [`RunOperator`].
pub async fn run(settings: &Settings, shutdown: CancellationToken) -> Result<(), RunOperator> {
    log_settings(settings);
    let evidence = setup::evidence(settings)?;
    let portal_client = setup::portal_client(settings)?;
    let clock = Clock::start();
    let metrics = Arc::new(Metrics::new());
    let run_id: u64 = rand::random();
    let holder = format!("{run_id:016x}/0");
    let own_pod = settings.own_pod.clone();
    let own_pod = own_pod.map(|PodReference { namespace, name, uid }| OwnPod { namespace, name, uid });
    let cluster = connect(clock.clone(), &holder, own_pod, Arc::clone(&metrics)).await?;
    let cluster = Arc::new(cluster);

    let readiness = Readiness::waiting_for(WAITING);
    let listener = listen(settings.admin_address).map_err(RunOperator::Admin)?;
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "serving /livez, /readyz and /metrics");
    }
    let portals = PortalSettings {
        allowed: settings.allowed_portals.clone(),
        default_portal: settings.default_portal.clone(),
        link_path: settings.link_path.as_str().to_owned(),
    };
    let budgets = Budgets::new(settings.budget());
    let portal = Portal::new(portal_client, budgets, portals, clock.clone(), Arc::clone(&metrics));
    let portal = Arc::new(portal);
    let evidence = Evidence::new(
        evidence,
        Arc::clone(&cluster),
        Arc::clone(&portal),
        clock.clone(),
        Arc::clone(&metrics),
    );
    let queue = WorkQueue::new(WorkQueueSettings {
        max_concurrent: settings.max_concurrent_reconciles,
        ..WorkQueueSettings::default()
    });
    let clients =
        Clients { cluster: Arc::clone(&cluster), portal, evidence, clock, metrics: Arc::clone(&metrics) };
    // The process may also end without a signal; a first signal must then not count as a second one.
    let reconciler = Arc::new(Reconciler::new(clients, queue, holder, shutdown.child_token()));

    let measured = Arc::clone(&reconciler);
    let (stuck, cut_off) = (Arc::clone(&reconciler), Arc::clone(&reconciler));
    let health =
        Health { stuck: Arc::new(move || stuck.stuck()), is_cut_off: Arc::new(move || cut_off.is_cut_off()) };
    let routes = routes(readiness.clone(), health, metrics, Arc::new(move || measured.measure()));
    let admin = tokio::spawn(axum::serve(listener, routes).into_future());

    let outcome = tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        () = cluster.wait_for_definition(|waiting| readiness.set(Some(waiting))) =>
            work(&reconciler, settings, &readiness, shutdown.clone()).await,
    };
    admin.abort();
    outcome
}

/// Logs what the operator watches and allows.
fn log_settings(settings: &Settings) {
    let portals: Vec<_> = settings.allowed_portals.iter().map(PortalUrl::as_str).collect();
    let store_endpoints: Vec<_> = settings.allowed_store_endpoints.iter().collect();
    let forbidden = settings.forbidden_images.iter().filter_map(ValueEnum::to_possible_value);
    let forbidden: Vec<_> = forbidden.map(|image| image.get_name().to_owned()).collect();
    tracing::info!(
        namespaces = settings.namespace.as_ref().map_or("all", Namespace::as_str),
        portals = portals.join(", "),
        default_portal = settings.default_portal.as_str(),
        store_endpoints = store_endpoints.join(", "),
        stores_file = settings.stores_file.as_ref().map(|file| file.display().to_string()),
        forbidden_images = forbidden.join(", "),
        variables = settings.variables.join(", "),
        "starting"
    );
}

/// Follows the watch and reconciles until shutdown, then waits for what is in flight.
async fn work(
    reconciler: &Arc<Reconciler>,
    settings: &Settings,
    readiness: &Readiness,
    shutdown: CancellationToken,
) -> Result<(), RunOperator> {
    let mut follow = tokio::spawn({
        let (reconciler, readiness, namespace) =
            (Arc::clone(reconciler), readiness.clone(), settings.namespace.clone());
        async move {
            let namespace = namespace.as_ref().map(Namespace::as_str);
            follow(&reconciler, namespace, &move |waiting| readiness.set(waiting)).await;
        }
    });
    let departed = tokio::spawn({
        let reconciler = Arc::clone(reconciler);
        async move { reconciler.report_departed().await }
    });
    let running = reconciler.run();
    tokio::pin!(running);
    let ended = tokio::select! {
        () = &mut running => Ok(()),
        ended = until_shutdown(&mut follow, &shutdown) => {
            tracing::info!("shutting down: starting no new reconciles and waiting for those in flight");
            readiness.shut_down();
            follow.abort();
            reconciler.stop();
            if timeout(settings.shutdown_grace_period, running).await.is_err() {
                return Err(RunOperator::Drain);
            }
            ended
        }
    };
    follow.abort();
    departed.abort();
    reconciler.end_reports().await;
    tracing::info!("stopped");
    ended
}

/// Waits for the shutdown, or for the end of the watch: without it the process would stay ready and see no change.
async fn until_shutdown(
    follow: &mut JoinHandle<()>,
    shutdown: &CancellationToken,
) -> Result<(), RunOperator> {
    tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        _ = follow => Err(RunOperator::WatchEnded),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_of_what_follows_the_watch_ends_the_process_with_an_error() {
        let shutdown = CancellationToken::new();
        let mut panics = tokio::spawn(async { panic!("a bug") });
        assert!(matches!(until_shutdown(&mut panics, &shutdown).await, Err(RunOperator::WatchEnded)));
        let mut follows = tokio::spawn(std::future::pending());
        shutdown.cancel();
        assert!(until_shutdown(&mut follows, &shutdown).await.is_ok());
    }
}
