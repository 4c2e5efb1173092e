//! Ends a world and checks the invariants.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, ListParams};

use super::World;
use super::evidence::files;
use super::statuses;

impl World {
    /// Ends the world and checks the invariants: what must hold whatever a test did.
    pub(crate) async fn finish(mut self) {
        for portal in &self.portals {
            portal.clear_faults();
        }
        self.finished = true;
        self.check_store();
        let metrics = self.clear().await;
        let logs: Vec<_> =
            self.logs.iter().map(|log| std::fs::read_to_string(log).expect("read a log")).collect();
        let events = serde_json::to_string(&self.all_events().await).expect("events are JSON");

        statuses::record(self.history.all_versions());
        let violations = self.history.violations();
        assert!(violations.is_empty(), "{violations:#?}\n{}", self.report());
        let (creates, attempts) = (self.creates(), self.history.attempts());
        assert!(creates <= attempts, "{creates} creates, {attempts} attempts\n{}", self.report());
        let metrics = metrics.unwrap_or_default();
        assert!(
            !metrics.contains("reconcile_panics_total") || metrics.contains("okid_reconcile_panics_total 0"),
            "{metrics}"
        );

        let allowed = self.s3.as_ref().map(|s3| format!("\"store_endpoints\":\"{}\"", s3.proxy.url()));
        let logs = logs.join("\n").replace(allowed.as_deref().unwrap_or("\0"), "");
        assert!(!logs.contains("\"message\":\"panicked\""), "{logs}");

        // The line of the settings names the allowed endpoints, so it is not searched for secrets.
        let is_of_settings = |line: &&str| line.contains("\"store_endpoints\":");
        let logs: Vec<_> = logs.lines().filter(|line| !is_of_settings(line)).collect();
        let logs = logs.join("\n");

        let mut places = BTreeMap::from([("a metric", metrics), ("an event", events), ("a log", logs)]);
        places.insert("a message", self.history.messages());
        for (place, text) in &places {
            for secret in self.keys.iter().chain(&self.sessions()) {
                assert!(!text.contains(secret.as_str()), "{place} contains {secret}");
            }
        }
        let statuses = self.history.text();
        for key in &self.keys {
            assert!(!statuses.contains(key.as_str()), "a verification contains the key {key}");
        }
    }

    /// No object key and no manifest contains an API key or a session id. Only the portal's own response may name the
    /// session.
    fn check_store(&self) {
        let Some(s3) = &self.s3 else { return };
        s3.proxy.heal();
        for (name, bytes) in files(s3.folder.path()) {
            let text = String::from_utf8_lossy(&bytes);
            assert!(!self.keys.iter().any(|key| text.contains(key)), "{name} contains a key");
            let is_response = name.ends_with("/details.json");
            for secret in self.keys.iter().chain(&self.sessions()) {
                assert!(!name.contains(secret), "an object's key contains {secret}");
                assert!(is_response || !text.contains(secret), "{name} contains {secret}");
            }
        }
    }

    /// Deletes everything, stops the operator, and returns its last metrics.
    async fn clear(&mut self) -> Option<String> {
        let all = self.api().list(&ListParams::default()).await.expect("list verifications");
        for verification in all {
            self.delete(verification.metadata.name.as_deref().expect("an object has a name")).await;
        }
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        secrets
            .delete_collection(&DeleteParams::default(), &ListParams::default())
            .await
            .expect("delete the Secrets");
        let operator = self.operator.as_ref().filter(|operator| operator.runs())?;
        let metrics = operator.metrics().await;
        let status = operator.stop().await;
        assert!(status.success(), "the operator ended with {status}:\n{}", operator.log_tail());
        Some(metrics)
    }

    /// The ids of all sessions; each link contains one.
    fn sessions(&self) -> Vec<String> {
        self.portals.iter().flat_map(|portal| portal.sessions()).map(|session| session.id).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.report());
        } else {
            assert!(self.finished, "this test does not finish its world, so its invariants are not checked");
        }
    }
}
