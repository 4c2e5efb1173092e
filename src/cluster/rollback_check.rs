//! Lists one item beside the watch, to notice that the API server's state was rolled back. May depend on `request`, `rollback`,
//! `verifications` and kube's client.

use std::time::Duration;

use kube::{Api, api::ListParams};
use tokio::time::{Instant, sleep, timeout};

use super::{
    request::DEADLINE,
    rollback::{LIST_AGAIN, Rollback, RollbackDetector},
    verifications::Cluster,
};
use crate::api::Verification;

/// Interval between two lists.
const EVERY: Duration = Duration::from_secs(30);

impl Cluster {
    /// Lists one item from time to time, until two lists say that the state was rolled back.
    pub(crate) async fn until_rolled_back(&self, namespace: Option<&str>) {
        let api: Api<Verification> = match namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        };
        let one = ListParams::default().limit(1);
        let mut detector = RollbackDetector::default();
        let mut pause = EVERY;
        loop {
            tokio::select! {
                () = sleep(pause) => {}
                () = self.newest_version().rollback_suspected(), if pause == EVERY => {}
            }
            // A list that is requested now cannot be older than this.
            let known = self.newest_version().get();
            let answer = timeout(DEADLINE, api.list_metadata(&one)).await;
            pause = EVERY;
            let Ok(Ok(list)) = answer else { continue };
            self.last_contact().server_responded();
            let version = list.metadata.resource_version.as_deref().and_then(|version| version.parse().ok());
            let Some(version) = version else { continue };
            match detector.check(Instant::now(), known, version) {
                Rollback::None => self.newest_version().observed(&version.to_string()),
                Rollback::Suspected => pause = LIST_AGAIN,
                Rollback::Confirmed => return self.newest_version().reset_to(version),
            }
        }
    }
}
