//! The wiring: who watches, whose turn it is, and how it all ends. In one place.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::StreamExt;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Client};
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    api::Verification,
    doors::admin::{Readiness, routes},
    metrics::Metrics,
    portal::{ClientSettings, InvalidClient, PortalClient, budget::Budgets},
    priority::Priority,
    settings::{InvalidSettings, Run},
    turn::{Accounts, Clock, Complaints, Memory, READS_AT_ONCE, Reporter, Secrets, Sessions, Turns},
    watch::{Change, Due, DueSettings, Removed, Seen, StreamSettings, Table, changes},
};

/// The definition that must be there.
const DEFINITION: &str = "verifications.okid.io";

/// Why the operator could not run.
#[derive(Debug, thiserror::Error)]
pub enum RunOperator {
    /// A setting makes no sense.
    #[error("check the settings")]
    Settings(#[from] InvalidSettings),
    /// No cluster was found.
    #[error("find the cluster: set KUBECONFIG, or run in a pod with a ServiceAccount")]
    Cluster(#[source] kube::Error),
    /// The client for the portal could not be built.
    #[error("build the client for the portal")]
    Portal(#[from] InvalidClient),
    /// The admin address is not free.
    #[error("serve --admin-address")]
    Admin(#[source] std::io::Error),
    /// What was in flight did not end in time.
    #[error("record what was in flight within --grace-seconds; the next start treats it as unknown")]
    Drain,
}

/// Runs the operator until `shutdown`.
///
/// # Errors
///
/// [`RunOperator`].
pub async fn run(settings: &Run, shutdown: CancellationToken) -> Result<(), RunOperator> {
    let (allowed, default_portal) = settings.portals()?;
    let budget = settings.budget()?;
    let link_path = settings.link_path()?;
    let namespace = settings.namespace()?;
    let archive = settings.archive()?;
    let portal = PortalClient::new(ClientSettings {
        proxy: settings.portal_proxy.clone(),
        extra_ca_pem: settings.portal_ca()?,
        ..ClientSettings::default()
    })?;
    let client = Client::try_default().await.map_err(RunOperator::Cluster)?;

    let metrics = Arc::new(Metrics::new());
    let readiness = Readiness::waiting_for("the custom resource definition");
    let listener = TcpListener::bind(settings.admin_address).await.map_err(RunOperator::Admin)?;
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "serving /livez, /readyz and /metrics");
    }
    let run_id: u64 = rand::random();
    let holder = format!("{run_id:016x}/0");
    let slots = usize::try_from(settings.slots).unwrap_or(usize::MAX);
    let complaints = Arc::new(Complaints::default());
    let turns = Arc::new(Turns {
        reads: Semaphore::new(READS_AT_ONCE),
        secrets: Secrets::new(client.clone(), Arc::clone(&complaints)),
        portal,
        budgets: Budgets::new(budget),
        allowed,
        default_portal,
        link_path,
        reporter: Reporter::new(client.clone(), &holder, Arc::clone(&metrics)),
        holder,
        clock: Clock::start(),
        table: Mutex::new(Table::new()),
        sessions: Sessions::default(),
        accounts: Accounts::default(),
        archive,
        due: Due::new(DueSettings { slots, ..DueSettings::default() }),
        complaints,
        metrics,
        client,
    });

    let measured = Arc::clone(&turns);
    let doors = routes(readiness.clone(), Arc::clone(&turns.metrics), Arc::new(move || measured.measure()));
    let admin = tokio::spawn(axum::serve(listener, doors).into_future());

    let outcome = tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        () = wait_for_definition(&turns.client, &readiness) => work(&turns, namespace, settings.grace(), &readiness, shutdown.clone()).await,
    };
    admin.abort();
    outcome
}

/// Waits until the cluster knows the resource, and says so.
async fn wait_for_definition(client: &Client, readiness: &Readiness) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let mut told = false;
    loop {
        let found = timeout(Duration::from_secs(10), api.get_opt(DEFINITION)).await;
        let established = match &found {
            Ok(Ok(Some(definition))) => is_established(definition),
            // Who may not read definitions finds out by watching.
            Ok(Err(kube::Error::Api(status))) if status.code == 403 => true,
            Ok(Ok(None) | Err(_)) | Err(_) => false,
        };
        if established {
            readiness.set(Some("the first list of verifications"));
            return;
        }
        if !told {
            tracing::warn!(
                definition = DEFINITION,
                "waiting for the custom resource definition; `okid-operator crd | kubectl apply --server-side -f -` installs it"
            );
            told = true;
        }
        sleep(Duration::from_secs(1)).await;
    }
}

fn is_established(definition: &CustomResourceDefinition) -> bool {
    definition
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten())
        .any(|condition| condition.type_ == "Established" && condition.status == "True")
}

/// Watches and takes turns until shutdown, then waits for what is in flight.
async fn work(
    turns: &Arc<Turns>,
    namespace: Option<&str>,
    grace: Duration,
    readiness: &Readiness,
    shutdown: CancellationToken,
) -> Result<(), RunOperator> {
    let follow = tokio::spawn({
        let (turns, readiness, namespace) =
            (Arc::clone(turns), readiness.clone(), namespace.map(str::to_owned));
        async move { follow(&turns, namespace.as_deref(), &readiness).await }
    });
    let take = {
        let turns = Arc::clone(turns);
        move |turn: crate::watch::Turn| {
            let turns = Arc::clone(&turns);
            async move {
                turns.metrics.lateness.observe(turn.lateness.as_secs_f64());
                turns.take(turn.slot).await
            }
        }
    };
    let panicked = Arc::clone(turns);
    let on_panic = move |slot| {
        panicked.metrics.turn_panics.inc();
        let table = panicked.table();
        let (namespace, name) = table
            .view(slot)
            .map_or_else(Default::default, |view| (view.namespace.to_owned(), view.name.to_owned()));
        tracing::error!(namespace, name, "a turn panicked; it comes again in five minutes");
    };
    let running = turns.due.run(take, on_panic, shutdown.clone());
    tokio::pin!(running);
    tokio::select! {
        () = &mut running => {}
        () = shutdown.cancelled() => {
            tracing::info!("stopping: no new turns; waiting for what is in flight");
            readiness.set(Some("nothing: it is stopping"));
            follow.abort();
            if timeout(grace, running).await.is_err() {
                return Err(RunOperator::Drain);
            }
        }
    }
    follow.abort();
    turns.reporter.told().await;
    tracing::info!("stopped");
    Ok(())
}

/// Follows the live verifications into the table and the queue.
async fn follow(turns: &Turns, namespace: Option<&str>, readiness: &Readiness) {
    let stream = changes::<Verification>(&turns.client, namespace, StreamSettings::default());
    let mut stream = std::pin::pin!(stream);
    while let Some(change) = stream.next().await {
        note(turns, readiness, change);
    }
}

fn note(turns: &Turns, readiness: &Readiness, change: Change<Verification>) {
    match change {
        Change::Restarted => turns.table().restarted(),
        Change::Seen(object) => see(turns, &object),
        Change::Undecodable { object, error: _ } => {
            turns.table().still_there(&object.uid);
            turns.metrics.undecodable.inc();
            // The error quotes the object, so only its name is told.
            tracing::warn!(
                namespace = object.namespace,
                name = object.name,
                "a verification cannot be decoded and is left alone; compare it with the installed definition"
            );
        }
        Change::Synced => {
            let swept = turns.table().synced();
            for removed in swept {
                forget(turns, &removed);
            }
            readiness.set(None);
            tracing::info!(live = turns.table().len(), "watching verifications");
        }
        Change::Gone(object) => {
            let removed = turns.table().gone(&object.uid);
            if let Some(removed) = removed {
                forget(turns, &removed);
            }
        }
        Change::Interrupted { error, pause: _ } => {
            turns.metrics.watch_interruptions.inc();
            tracing::debug!(error = error.label(), "the watch was interrupted");
        }
    }
}

fn forget(turns: &Turns, removed: &Removed<Memory>) {
    turns.due.remove(removed.slot);
    if let Some(session) = removed.payload.session {
        turns.sessions.forget(session);
    }
}

fn see(turns: &Turns, object: &Verification) {
    let mut first = Instant::now();
    let seen = turns.table().seen(&object.metadata, |known| {
        if let Some(known) = known {
            return known.changed(object);
        }
        let (memory, at) = turns.first(object);
        first = at;
        memory
    });
    let lane = crate::turn::lane(object);
    match seen {
        Seen::New(slot) => {
            turns.due.set(slot, first, Priority::Create, lane);
        }
        Seen::Replaced { slot, removed } => {
            forget(turns, &removed);
            turns.due.set(slot, first, Priority::Create, lane);
        }
        Seen::Changed(slot) => turns.due.now(slot, Priority::Nudge, lane),
        Seen::Unchanged(_) | Seen::Stale(_) => {}
    }
}
