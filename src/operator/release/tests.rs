//! The release against an API server that refuses some of it.

use std::sync::Arc;

use http::{Method, request::Parts};
use serde_json::{Value, json};

use super::*;
use crate::{
    cluster::test_client::{client, failure},
    telemetry::LogFormat,
};

#[test]
fn the_message_names_what_was_not_released_and_why() {
    let mut pass = Pass::default();
    pass.failed("kyc/alice".to_owned(), ApiError::TIMED_OUT.to_string());
    pass.failed("namespace hr".to_owned(), "list: 403 Forbidden");
    let error = |pass: Pass| ReleaseError::Incomplete(pass.failures.to_string()).to_string();
    assert!(error(pass).ends_with("kyc/alice (timed out), namespace hr (list: 403 Forbidden)"));
    let mut pass = Pass::default();
    for number in 0..12 {
        pass.failed(format!("kyc/{number}"), "409 Conflict");
    }
    assert!(error(pass).ends_with("kyc/7 (409 Conflict), and 2 more"));
}

/// An API server with verifications that have the finalizer. It answers no long list in time.
struct Server {
    held: Mutex<Vec<&'static str>>,
    patched: Mutex<Vec<String>>,
}

impl Server {
    async fn respond(&self, request: Parts) -> (u16, Value) {
        let path = request.uri.path();
        let query = request.uri.query().unwrap_or_default();
        if request.method == Method::GET {
            let limit = query.split('&').find_map(|pair| pair.strip_prefix("limit=")?.parse::<u32>().ok());
            return match path {
                _ if path.contains("/namespaces/forbidden/") => failure(403, "Refused"),
                _ if limit.is_none_or(|limit| limit > 10) => std::future::pending().await,
                _ => (200, self.list()),
            };
        }
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        let is_first = !self.patched.lock().contains(&name);
        self.patched.lock().push(name.clone());
        match name.as_str() {
            "denied" => return failure(403, "Refused"),
            "busy" if is_first => return failure(409, "Refused"),
            "held-again" => {}
            _ => self.held.lock().retain(|held| *held != name),
        }
        (200, json!({"apiVersion": "okid.io/v1alpha1", "kind": "Verification", "metadata": {"name": name}}))
    }

    fn list(&self) -> Value {
        let held = self.held.lock();
        let items: Vec<_> = held
            .iter()
            .map(|name| {
                json!({"metadata": {
                    "namespace": "kyc", "name": name, "uid": name, "finalizers": [EVIDENCE_FINALIZER],
                }})
            })
            .collect();
        json!({
            "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {}, "items": items,
        })
    }
}

/// Removes the finalizers. Returns what is left, and how often each verification was patched.
async fn remove_all(is_stopped: bool) -> (Vec<String>, BTreeMap<String, usize>) {
    let held = Mutex::new(vec!["alice", "busy", "denied", "held-again"]);
    let server = Arc::new(Server { held, patched: Mutex::default() });
    let responding = Arc::clone(&server);
    let client = client(move |request, _| {
        let server = Arc::clone(&responding);
        async move { server.respond(request).await }
    });
    let cluster = Cluster::new(client, "test", None, Metrics::new().into());
    let settings = ReleaseSettings {
        namespaces: ["forbidden", "kyc"].map(|name| name.parse().unwrap()).to_vec(),
        selector: None,
        stop_deployment: None,
        pod_selector: None,
        pod_namespace: None,
        log_format: LogFormat::Human,
    };
    let release = Release { cluster, settings: &settings, progress: Mutex::default() };
    let failures = release.remove_all(Instant::now() + REMOVED_WITHIN, is_stopped).await;
    let mut patched = BTreeMap::new();
    for name in server.patched.lock().drain(..) {
        *patched.entry(name).or_default() += 1;
    }
    (failures.0.into_keys().collect(), patched)
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_released_keeps_the_finalizer_on_nothing_else() {
    let (left, patched) = remove_all(false).await;
    assert_eq!(left, ["kyc/denied", "kyc/held-again", "namespace forbidden"]);
    assert_eq!((patched["alice"], patched["busy"], patched["held-again"]), (1, 2, 3));
    assert!(patched["denied"] > 3, "it is tried until the time is over");
    let (left, _) = remove_all(true).await;
    assert_eq!(left, ["kyc/denied", "namespace forbidden"], "the operator does not add it again");
}
