//! Evidence of several namespaces at one store: one whose uploads all fail delays no other.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::Request;
use hyper::body::Incoming;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use okid_operator::api::{Phase, RECONCILE_REQUESTED_AT, Verification};
use okid_operator::permissions::{RUN, Scope};
use okid_sandbox::{Sandbox, Verdict};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::evidence_failures::{STORED, is_settled};
use crate::harness::evidence::{STORE_SECRET, asking, check, entries, files, front};
use crate::harness::{Launch, SECRET, VerificationExt as _, World, holds, of_scope, until};
use crate::stores::{BUCKET, Fault};

/// Several times as many as may use one store at the same time.
const FAILING: usize = 40;

/// A namespace beside the world's, with a portal of its own.
struct Tenant {
    namespace: String,
    secrets: Api<Secret>,
    verifications: Api<Verification>,
    portal: Sandbox,
}

impl Tenant {
    /// A namespace whose API key and credentials are those of the world.
    async fn new(world: &World) -> Self {
        let namespace = world.cluster.new_namespace(&world.client).await;
        world.account.grant(Some(&namespace), &of_scope(RUN, Scope::WatchedNamespaces)).await;
        let tenant = Self {
            secrets: Api::namespaced(world.client.clone(), &namespace),
            verifications: Api::namespaced(world.client.clone(), &namespace),
            portal: Sandbox::builder().key(&world.key).start().await,
            namespace,
        };
        let mut store = entries(world.s3());
        store["aws_server_side_encryption"] = json!("AES256");
        tenant.secret(SECRET, json!({"apiKey": world.key})).await;
        tenant.secret(STORE_SECRET, store).await;
        tenant
    }

    async fn secret(&self, name: &str, data: Value) {
        let secret = json!({"metadata": {"name": name}, "stringData": data});
        let secret = serde_json::from_value(secret).unwrap();
        self.secrets.create(&PostParams::default(), &secret).await.unwrap();
    }

    async fn list(&self) -> Vec<Verification> {
        self.verifications.list(&ListParams::default()).await.unwrap().items
    }

    /// Creates verifications with evidence, and brings their sessions to a verdict.
    async fn create_and_finish(&self, count: usize) {
        let mut spec = asking(front());
        spec["apiKeySecretRef"] = json!({"name": SECRET});
        spec["portal"] = json!(self.portal.url());
        for number in 0..count {
            let object = json!({
                "apiVersion": "okid.io/v1alpha1", "kind": "Verification",
                "metadata": {"name": format!("person-{number}")}, "spec": spec,
            });
            let object = serde_json::from_value(object).unwrap();
            self.verifications.create(&PostParams::default(), &object).await.unwrap();
        }
        self.until_all("a session", |seen| seen.phase() == Some(Phase::AwaitingUser)).await;
        for session in self.portal.sessions() {
            self.portal.finish(&session.id, Verdict::Verified).unwrap();
        }
    }

    async fn until_all(&self, what: &str, is_so: impl Fn(&Verification) -> bool) {
        until(async || holds(self.list().await.iter().all(&is_so)), |()| format!("{what} is missing")).await;
    }

    async fn request_polls(&self) {
        let token = format!("{:016x}", rand::random::<u64>());
        let patch = Patch::Merge(json!({"metadata": {"annotations": {RECONCILE_REQUESTED_AT: token}}}));
        for verification in self.list().await {
            let name = verification.name_any();
            self.verifications.patch(&name, &PatchParams::default(), &patch).await.unwrap();
        }
    }
}

/// Checks that evidence is stored without delay while every request of another namespace gets this response, at the same
/// bucket and with the same credentials. That many of the other's uploads are tried.
async fn delays_no_other_namespace((status, body): (u16, &'static str), tried: usize) {
    let mut world = World::builder().without_operator().s3().start().await;
    let tenant = Tenant::new(&world).await;
    let launch = Launch::new().flags(["--namespace", &tenant.namespace]);
    world.start(launch.allow([world.sandbox().url(), tenant.portal.url()])).await;
    // The store is in use by both, so that one does not speak for it.
    world.create_and_finish("before", asking(front()), Verdict::Verified).await;
    world.until("before", is_settled).await;

    let failed: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let fail = |fault| {
        let (folder, failed) = (format!("/{}/", tenant.namespace), Arc::clone(&failed));
        let is_of_tenant = move |request: &Request<Incoming>| {
            let name = request.uri().path().split_once(&folder).and_then(|(_, rest)| rest.split('/').next());
            failed.lock().extend(name.map(str::to_owned));
            name.is_some()
        };
        world.s3().proxy.matching(is_of_tenant, fault);
    };
    let until_failed =
        async |count| world.until_portal("a failed upload", |_| failed.lock().len() >= count).await;
    fail(Fault::Answer(status, body));
    tenant.create_and_finish(FAILING).await;
    let is_failure = |line: &Value| line["message"] == "evidence is not stored";
    world.operator().until_logged("a failed upload", is_failure).await;
    // A request in flight keeps whatever waits for its result waiting.
    fail(Fault::HoldAndAnswer(status, body));
    let held = world.s3().proxy.held();
    until(
        async || {
            tenant.request_polls().await;
            holds(world.s3().proxy.held() > held)
        },
        |()| "no upload is retried".to_owned(),
    )
    .await;

    for name in ["alice", "bob", "carol"] {
        world.create_and_finish(name, asking(front()), Verdict::Verified).await;
        let stored = world.until_with_clock(name, is_settled).await;
        assert!(stored.shows(&STORED), "{stored:?}");
        check(&stored, &world.in_s3(&stored));
        let shown = world.distinct_values(name, |seen| seen.condition("EvidenceStored"));
        let waits = shown.iter().flatten().any(|shown| shown.contains("StoreUnavailable"));
        assert!(!waits, "{name} waited for the store: {shown:?}");
    }
    fail(Fault::Answer(status, body));
    world.s3().proxy.release();
    until_failed(tried).await;
    assert!(files(&world.s3().folder.path().join(BUCKET).join("kyc").join(&tenant.namespace)).is_empty());
    for failing in tenant.list().await {
        assert_eq!(failing.phase(), Some(Phase::Storing), "{failing:?}");
    }
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forty_uploads_that_the_store_refuses_delay_no_other_namespace() {
    delays_no_other_namespace((501, "<Error><Code>NotImplemented</Code></Error>"), FAILING).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forty_uploads_without_a_response_of_the_store_delay_no_other_namespace() {
    delays_no_other_namespace((503, ""), 1).await;
}
