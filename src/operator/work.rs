//! Waits until this replica leads, reconciles until the shutdown or the loss of the Lease, and waits for what is in flight. May depend on the modules that the operator wires.

use std::{pin::Pin, sync::Arc, time::Duration};

use tokio::{
    sync::Notify,
    task::JoinHandle,
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::error::RunOperator;
use crate::{
    admin::Readiness,
    leader::{Elector, LeaseLost},
    reconcile::{Followed, ListProgress, Reconciler, follow},
    settings::{Namespace, Selector, Settings},
};

/// A shutdown holds the Lease for as long as reconciles are in flight, but no longer than this: what was sent is
/// recorded in any case, and meanwhile nobody polls.
const RELEASE_AFTER: Duration = Duration::from_secs(5);

/// Follows the watch, and reconciles while this replica leads, until the shutdown. Then waits for what is in flight.
///
/// # Errors
///
/// [`RunOperator`].
pub(super) async fn work(
    reconciler: &Arc<Reconciler>,
    mut elector: Option<Elector>,
    settings: &Settings,
    readiness: &Readiness,
    shutdown: &CancellationToken,
) -> Result<(), RunOperator> {
    if elector.is_none() {
        reconciler.lead();
    } else {
        readiness.set_election(Some("the Lease of the leader election".into()));
    }
    let listed = Arc::new(Notify::new());
    let mut follow = spawn_follow(reconciler, settings, readiness, &listed);
    let ended = if let Some(elector) = &mut elector {
        let stop = CancellationToken::new();
        let mut wait_to_lead = std::pin::pin!(wait_to_lead(reconciler, elector, &listed, readiness, &stop));
        tokio::select! {
            () = &mut wait_to_lead => None,
            ended = until_shutdown(&mut follow, shutdown) => {
                stop.cancel();
                wait_to_lead.await;
                Some(ended)
            }
        }
    } else {
        None
    };
    let following = follow.abort_handle();
    let ended = if let Some(ended) = ended {
        ended
    } else {
        let until_shutdown = async {
            let ended = until_shutdown(&mut follow, shutdown).await;
            following.abort();
            ended
        };
        lead(reconciler, &mut elector, settings, readiness, until_shutdown).await
    };
    readiness.shut_down();
    following.abort();
    if matches!(ended, Err(RunOperator::Drain)) {
        return ended;
    }
    reconciler.end_reports().await;
    tracing::info!("stopped");
    ended
}

fn spawn_follow(
    reconciler: &Arc<Reconciler>,
    settings: &Settings,
    readiness: &Readiness,
    listed: &Arc<Notify>,
) -> JoinHandle<()> {
    let (reconciler, readiness, listed) = (Arc::clone(reconciler), readiness.clone(), Arc::clone(listed));
    let followed = Followed {
        namespaces: settings.namespaces.iter().map(Namespace::as_str).map(str::to_owned).collect(),
        selector: settings.selector.as_ref().map(Selector::as_str).map(str::to_owned),
    };
    tokio::spawn(async move {
        let on_progress = move |ListProgress { waiting_for, missing, may_lead }| {
            if may_lead {
                listed.notify_one();
            }
            readiness.set_missing(missing);
            readiness.set(waiting_for);
        };
        follow(&reconciler, &followed, &on_progress).await;
    })
}

/// Waits until the verifications that can be listed are known, and then until this replica leads. After `stop` it does not
/// lead, and has released the Lease.
async fn wait_to_lead(
    reconciler: &Reconciler,
    elector: &mut Elector,
    listed: &Notify,
    readiness: &Readiness,
    stop: &CancellationToken,
) {
    tokio::select! {
        () = listed.notified() => {}
        () = stop.cancelled() => return,
    }
    if elector.acquire(stop, |waiting| readiness.set_election(waiting)).await {
        reconciler.lead();
        reconciler.check_for_rollback();
    }
}

/// Reconciles until `ended` or until the Lease is lost, and waits for what is in flight.
async fn lead(
    reconciler: &Arc<Reconciler>,
    elector: &mut Option<Elector>,
    settings: &Settings,
    readiness: &Readiness,
    ended: impl Future<Output = Result<(), RunOperator>>,
) -> Result<(), RunOperator> {
    let departed = tokio::spawn({
        let reconciler = Arc::clone(reconciler);
        async move { reconciler.report_departed().await }
    });
    let mut running = std::pin::pin!(reconciler.run());
    let mut is_done = false;
    let ended = tokio::select! {
        () = &mut running => {
            is_done = true;
            Ok(())
        }
        ended = ended => ended,
        lost = hold(elector) => {
            tracing::warn!(why = %lost, "this replica no longer leads");
            Err(RunOperator::LeaseLost(lost))
        }
    };
    readiness.shut_down();
    reconciler.stop();
    let drained = if is_done {
        Ok(())
    } else {
        tracing::info!("shutting down: starting no new reconciles and waiting for those in flight");
        drain(running, elector, settings.shutdown_grace_period).await
    };
    release(elector).await;
    departed.abort();
    drained.and(ended)
}

/// Waits for what is in flight. Holds the Lease meanwhile, for a while.
async fn drain(
    mut running: Pin<&mut impl Future<Output = ()>>,
    elector: &mut Option<Elector>,
    grace_period: Duration,
) -> Result<(), RunOperator> {
    let end = Instant::now() + grace_period;
    tokio::select! {
        () = &mut running => return Ok(()),
        () = sleep(RELEASE_AFTER) => release(elector).await,
        _ = hold(elector) => {}
    }
    timeout_at(end, running).await.map_err(|_| RunOperator::Drain)
}

/// Holds the Lease until it is lost; without an election for ever.
async fn hold(elector: &mut Option<Elector>) -> LeaseLost {
    match elector {
        Some(elector) => elector.hold().await,
        None => std::future::pending().await,
    }
}

async fn release(elector: &mut Option<Elector>) {
    if let Some(elector) = elector {
        elector.release().await;
    }
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
