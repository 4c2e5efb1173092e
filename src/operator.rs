//! The wiring: builds everything from the settings, runs it, and shuts it down. May depend on every module.

mod check;
mod error;
mod release;
mod setup;
mod webhook;
mod work;

use std::{net::SocketAddr, sync::Arc};

use clap::ValueEnum;
use tokio_util::sync::CancellationToken;

use crate::{
    admin::{Health, Readiness, listen::listen, routes},
    clock::Clock,
    cluster::{OwnPod, WAITING, connect},
    evidence::Evidence,
    leader::Leadership,
    metrics::Metrics,
    portal::{Portal, PortalSettings, PortalUrl, budget::Budgets},
    reconcile::{Clients, Reconciler},
    settings::{Namespace, PodReference, Selector, Settings},
    telemetry::LogControl,
    workqueue::{WorkQueue, WorkQueueSettings},
};
use webhook::Webhook;
use work::work;

pub use check::{CheckError, check};
pub use error::RunOperator;
pub use release::{ReleaseError, release_finalizers};
pub use setup::Setup;

/// Runs the operator until `shutdown`. The admin server changes `log`.
///
/// # Errors
///
/// [`RunOperator`].
pub async fn run(
    settings: &Settings,
    log: LogControl,
    shutdown: CancellationToken,
) -> Result<(), RunOperator> {
    log_settings(settings);
    let evidence = setup::evidence(settings)?;
    let portal_client = setup::portal_client(settings)?;
    let webhook = Webhook::open(settings)?;
    let clock = Clock::start();
    let metrics = Arc::new(Metrics::new());
    let run_id: u64 = rand::random();
    let process = format!("{run_id:016x}");
    let own_pod = settings.own_pod.clone();
    let own_pod = own_pod.map(|PodReference { namespace, name, uid }| OwnPod { namespace, name, uid });
    let cluster = connect(clock.clone(), &process, own_pod, Arc::clone(&metrics)).await?;
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
    let elector =
        setup::elector(settings, run_id, (Arc::clone(&cluster), clock.clone(), Arc::clone(&metrics)));
    let own_address = || webhook.as_ref().and_then(Webhook::own_address);
    let elector = elector.map(|elector| elector.receiving_at(own_address()));
    let leader_address = elector.as_ref().map(|elector| elector.leader_address().clone());
    let leadership =
        elector.as_ref().map_or_else(Leadership::unconditional, |elector| elector.leadership().clone());
    let clients = Clients {
        cluster: Arc::clone(&cluster),
        portal,
        evidence,
        clock,
        metrics: Arc::clone(&metrics),
        leadership,
    };
    // The process may also end without a signal; a first signal must then not count as a second one.
    let reconciler = Arc::new(Reconciler::new(clients, queue, process, shutdown.child_token()));

    let measured = Arc::clone(&reconciler);
    let (stuck, cut_off) = (Arc::clone(&reconciler), Arc::clone(&reconciler));
    let health =
        Health { stuck: Arc::new(move || stuck.stuck()), is_cut_off: Arc::new(move || cut_off.is_cut_off()) };
    let measure = Arc::new(move || measured.measure());
    let receiving = webhook
        .map(|webhook| webhook.start((&reconciler, leader_address), &metrics, &shutdown))
        .transpose()?;
    let routes = routes(readiness.clone(), health, metrics, measure, log);
    let routes = routes.into_make_service_with_connect_info::<SocketAddr>();
    let admin = tokio::spawn(axum::serve(listener, routes).into_future());

    let outcome = tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        () = cluster.wait_for_definition(|waiting| readiness.set(Some(waiting))) =>
            work(&reconciler, elector, settings, &readiness, &shutdown).await,
    };
    if let Some(receiving) = receiving {
        webhook::end(receiving, &shutdown).await;
    }
    admin.abort();
    outcome
}

/// Logs what the operator watches and allows.
fn log_settings(settings: &Settings) {
    let portals: Vec<_> = settings.allowed_portals.iter().map(PortalUrl::as_str).collect();
    let store_endpoints: Vec<_> = settings.allowed_store_endpoints.iter().collect();
    let forbidden = settings.forbidden_images.iter().filter_map(ValueEnum::to_possible_value);
    let forbidden: Vec<_> = forbidden.map(|image| image.get_name().to_owned()).collect();
    let namespaces: Vec<_> = settings.namespaces.iter().map(Namespace::as_str).collect();
    tracing::info!(
        namespaces = if namespaces.is_empty() { "all".to_owned() } else { namespaces.join(", ") },
        selector = settings.selector.as_ref().map(Selector::as_str),
        portals = portals.join(", "),
        default_portal = settings.default_portal.as_str(),
        store_endpoints = store_endpoints.join(", "),
        lease = settings.leader_election.as_ref().map(|election| election.lease_name.as_str()),
        stores_file = settings.stores_file.as_ref().map(|file| file.display().to_string()),
        forbidden_images = forbidden.join(", "),
        variables = settings.variables.join(", "),
        "starting"
    );
}
