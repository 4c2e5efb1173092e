//! Lists one item beside the watch, to notice that the API server's state went back. Touches the API server.

use std::time::Duration;

use kube::{Api, api::ListParams};
use tokio::time::{Instant, sleep, timeout};

use super::rollback::{LIST_AGAIN, Lists, Said};
use crate::{api::Verification, reconcile::Reconciler};

/// How often the list is asked for.
const EVERY: Duration = Duration::from_secs(30);
/// Longest time a list may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// Lists one item now and then, until two lists say that the state went back.
pub(crate) async fn until_rewound(reconciler: &Reconciler, namespace: Option<&str>) {
    let api: Api<Verification> = match namespace {
        Some(namespace) => Api::namespaced(reconciler.client.clone(), namespace),
        None => Api::all(reconciler.client.clone()),
    };
    let one = ListParams::default().limit(1);
    let mut lists = Lists::default();
    let mut pause = EVERY;
    loop {
        tokio::select! {
            () = sleep(pause) => {}
            () = reconciler.newest.suspected(), if pause == EVERY => {}
        }
        // A list that is asked for now cannot be older than this.
        let known = reconciler.newest.known();
        let answer = timeout(DEADLINE, api.list_metadata(&one)).await;
        pause = EVERY;
        let Ok(Ok(list)) = answer else { continue };
        reconciler.last_contact.server();
        let version = list.metadata.resource_version.as_deref().and_then(|version| version.parse().ok());
        let Some(version) = version else { continue };
        match lists.listed(Instant::now(), known, version) {
            Said::Onward => reconciler.newest.reached(&version.to_string()),
            Said::Older => pause = LIST_AGAIN,
            Said::WentBack => return reconciler.newest.went_back_to(version),
        }
    }
}
