//! The wiring: who watches, whose turn it is, and how it all ends. In one place.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    admin::{Readiness, Vitals, listen::listen, routes},
    clock::Clock,
    cluster::{
        Connect, FailureLog, LastContact, NewestVersion, Reporter, Secrets, WAITING, connect,
        wait_for_definition,
    },
    fairness::FairSemaphore,
    index::Index,
    metrics::Metrics,
    portal::{ClientSettings, InvalidClient, PortalClient, budget::Budgets},
    reconcile::{
        Accounts, DepartedReports, FirstResponses, PortalFailureLog, RecentObjects, Reconciler, SERVER_CALLS,
        Sessions, follow,
    },
    settings::{InvalidSettings, Run},
    workqueue::{WorkQueue, WorkQueueSettings},
};

/// Why the operator could not run.
#[derive(Debug, thiserror::Error)]
pub enum RunOperator {
    /// A setting makes no sense.
    #[error("check the settings")]
    Settings(#[from] InvalidSettings),
    /// No client for the API server can be made.
    #[error(transparent)]
    Cluster(#[from] Connect),
    /// The client for the portal could not be built.
    #[error("build the client for the portal")]
    Portal(#[from] InvalidClient),
    /// The admin address is not free.
    #[error("serve --admin-address")]
    Admin(#[source] std::io::Error),
    /// What follows the verifications has ended, so no change would be seen any more.
    #[error("follow the verifications; a panic is in the log, and the next start goes on from here")]
    Blind,
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
    let evidence = settings.archive()?;
    let portal = PortalClient::new(ClientSettings {
        proxy: settings.portal_proxy()?,
        extra_ca_pem: settings.portal_ca()?,
        ..ClientSettings::default()
    })
    .map_err(|invalid| match invalid {
        InvalidClient::Trust(trust) if settings.portal_ca_file.is_some() => {
            InvalidSettings::PortalTrust(trust).into()
        }
        invalid @ (InvalidClient::Trust(_) | InvalidClient::Http(_)) => RunOperator::Portal(invalid),
    })?;
    settings.tell();
    let clock = Clock::start();
    let client = connect(clock.clone()).await?;

    let metrics = Arc::new(Metrics::new());
    let readiness = Readiness::waiting_for(WAITING);
    let listener = listen(settings.admin_address).map_err(RunOperator::Admin)?;
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "serving /livez, /readyz and /metrics");
    }
    let run_id: u64 = rand::random();
    let holder = format!("{run_id:016x}/0");
    let slots = usize::try_from(settings.slots).unwrap_or(usize::MAX);
    let failures = Arc::new(FailureLog::default());
    let reconciler = Arc::new(Reconciler {
        server_calls: FairSemaphore::new(SERVER_CALLS.0, SERVER_CALLS.1),
        secrets: Secrets::new(client.clone(), Arc::clone(&failures), metrics.secret_reads.clone()),
        portal,
        budgets: Budgets::new(budget),
        allowed,
        default_portal,
        link_path,
        reporter: Reporter::new(client.clone(), &holder, settings.own_pod(), Arc::clone(&metrics)),
        holder,
        clock,
        index: Mutex::new(Index::new()),
        last_contact: LastContact::default(),
        newest: NewestVersion::default(),
        recent: RecentObjects::default(),
        first_responses: FirstResponses::default(),
        sessions: Sessions::default(),
        accounts: Accounts::default(),
        departed: DepartedReports::default(),
        evidence,
        queue: WorkQueue::new(WorkQueueSettings { slots, ..WorkQueueSettings::default() }),
        failures,
        portal_failures: PortalFailureLog::default(),
        metrics,
        // The process may also end by itself, and is not told twice to end then.
        ending: shutdown.child_token(),
        client,
    });

    let measured = Arc::clone(&reconciler);
    let (stuck, cut_off) = (Arc::clone(&reconciler), Arc::clone(&reconciler));
    let vitals =
        Vitals { stuck: Arc::new(move || stuck.stuck()), is_cut_off: Arc::new(move || cut_off.is_cut_off()) };
    let doors = routes(
        readiness.clone(),
        vitals,
        Arc::clone(&reconciler.metrics),
        Arc::new(move || measured.measure()),
    );
    let admin = tokio::spawn(axum::serve(listener, doors).into_future());

    let outcome = tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        () = wait_for_definition(&reconciler.client, &readiness) => work(&reconciler, namespace, settings.grace(), &readiness, shutdown.clone()).await,
    };
    admin.abort();
    outcome
}

/// Watches and takes turns until shutdown, then waits for what is in flight.
async fn work(
    reconciler: &Arc<Reconciler>,
    namespace: Option<&str>,
    grace: Duration,
    readiness: &Readiness,
    shutdown: CancellationToken,
) -> Result<(), RunOperator> {
    let mut follow = tokio::spawn({
        let (reconciler, readiness, namespace) =
            (Arc::clone(reconciler), readiness.clone(), namespace.map(str::to_owned));
        async move { follow(&reconciler, namespace.as_deref(), &readiness).await }
    });
    let departed = tokio::spawn({
        let reconciler = Arc::clone(reconciler);
        async move { reconciler.tell_of_departed().await }
    });
    let take = {
        let reconciler = Arc::clone(reconciler);
        move |turn: crate::workqueue::DueReconcile| {
            let reconciler = Arc::clone(&reconciler);
            async move {
                reconciler.metrics.lateness.observe(turn.lateness.as_secs_f64());
                reconciler.take(turn.record_id).await
            }
        }
    };
    let panicked = Arc::clone(reconciler);
    let on_panic = move |record_id| {
        panicked.metrics.turn_panics.inc();
        let index = panicked.index();
        let (namespace, name) = index
            .view(record_id)
            .map_or_else(Default::default, |view| (view.namespace.to_owned(), view.name.to_owned()));
        tracing::error!(namespace, name, "a turn panicked; it comes again in five minutes");
    };
    let running = reconciler.queue.run(take, on_panic, reconciler.ending.clone());
    tokio::pin!(running);
    let ended = tokio::select! {
        () = &mut running => Ok(()),
        ended = until_ending(&mut follow, &shutdown) => {
            tracing::info!("stopping: no new turns; waiting for what is in flight");
            readiness.set(Some("nothing: it is stopping".into()));
            follow.abort();
            reconciler.ending.cancel();
            if timeout(grace, running).await.is_err() {
                return Err(RunOperator::Drain);
            }
            ended
        }
    };
    follow.abort();
    departed.abort();
    reconciler.give_up_untold();
    reconciler.reporter.told().await;
    tracing::info!("stopped");
    ended
}

/// Waits until the process is told to end, or must: one that sees no changes would be ready and blind for ever.
async fn until_ending(follow: &mut JoinHandle<()>, shutdown: &CancellationToken) -> Result<(), RunOperator> {
    tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        _ = follow => Err(RunOperator::Blind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_process_ends_with_an_error_when_what_follows_the_verifications_panics() {
        let shutdown = CancellationToken::new();
        let mut panics = tokio::spawn(async { panic!("a bug") });
        assert!(matches!(until_ending(&mut panics, &shutdown).await, Err(RunOperator::Blind)));
        let mut follows = tokio::spawn(std::future::pending());
        shutdown.cancel();
        assert!(until_ending(&mut follows, &shutdown).await.is_ok());
    }
}
