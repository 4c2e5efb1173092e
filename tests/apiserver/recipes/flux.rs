//! `examples/flux`, with Flux's kustomize-controller. Its Git repository is an object whose status the test writes, with an
//! archive on the loopback interface.

use std::collections::BTreeMap;
use std::path::PathBuf;

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;
use control_plane::process::{Child, Command};
use control_plane::{Progress, Reader, go_module};
use flate2::{Compression, write::GzEncoder};
use okid_operator::api::{Phase, TTL_IN_GITOPS, Verification};
use okid_operator::store::sha256_hex;
use okid_sandbox::Verdict;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::{JoinSet, spawn_blocking};

use super::admission_policy::{keep_ended_specs, refuse_edits_again};
use super::{example, session, with};
use crate::harness::{VerificationExt as _, World, until};
use crate::manifests::apply;
use crate::ttl::new_world;

const CHECK: &str = "kustomization/identity-check";
const APPLICATION: &str = "kustomization/application";

/// Flux in the world's namespace.
struct Flux<'a> {
    world: &'a World,
    controller: Child,
    archives: PathBuf,
    address: String,
    _server: JoinSet<()>,
}

impl<'a> Flux<'a> {
    /// Starts the controller for the world's namespace, and applies the Kustomizations.
    async fn start(world: &'a World, kustomizations: &str) -> Self {
        let build = || Reader::KUSTOMIZE_CONTROLLER.find_or_build(Progress::detect()).expect("build Flux");
        let program = spawn_blocking(build).await.unwrap();
        install_definitions(world).await;
        let [archives, temporary] = ["archives", "tmp"].map(|name| world.folder().join(name));
        for folder in [&archives, &temporary] {
            std::fs::create_dir(folder).unwrap();
        }
        let (address, server) = serve(archives.clone()).await;
        let controller = Command::new(program)
            .args(["--watch-all-namespaces=false", "--metrics-addr=127.0.0.1:0", "--health-addr=127.0.0.1:0"])
            .args(["--requeue-dependency=2s", "--concurrent=10"])
            // When it starts, it removes the temporary folders of all others.
            .env("TMPDIR", temporary)
            .env("RUNTIME_NAMESPACE", &world.namespace)
            .env("KUBECONFIG", world.cluster.kubeconfig())
            .start(world.folder().join("kustomize-controller.log"))
            .unwrap();
        let flux = Self { world, controller, archives, address, _server: server };
        let repository = json!({
            "apiVersion": "source.toolkit.fluxcd.io/v1",
            "kind": "GitRepository",
            "metadata": {"name": "onboarding"},
            "spec": {"url": "https://git.example/onboarding.git", "interval": "1h"},
        });
        apply(&world.cluster, &world.namespace, &repository.to_string()).await.unwrap();
        flux.commit(&flux.verification()).await;
        flux.apply(kustomizations).await;
        flux
    }

    /// The example's check, in the world's namespace.
    fn verification(&self) -> String {
        with(
            &example("flux/verification.yaml"),
            "namespace: default",
            &format!("namespace: {}", self.world.namespace),
        )
    }

    async fn apply(&self, kustomizations: &str) {
        let here =
            with(kustomizations, "namespace: default", &format!("namespace: {}", self.world.namespace));
        apply(&self.world.cluster, &self.world.namespace, &here).await.unwrap();
    }

    /// Publishes a new revision of the repository with this check, and returns it.
    async fn commit(&self, verification: &str) -> String {
        let application = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "account", "namespace": self.world.namespace},
        });
        let files = [
            ("check/verification.yaml", verification.to_owned()),
            ("application/account.yaml", application.to_string()),
        ];
        let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (path, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, path, text.as_bytes()).unwrap();
        }
        let bytes = archive.into_inner().unwrap().finish().unwrap();
        let sum = sha256_hex(&bytes);
        let file = format!("{sum}.tar.gz");
        std::fs::write(self.archives.join(&file), bytes).unwrap();
        let (now, revision) = ("2026-01-01T12:00:00Z", format!("main@sha256:{sum}"));
        let status = json!({"status": {
            "observedGeneration": 1,
            "artifact": {
                "url": format!("http://{}/{file}", self.address),
                "path": file,
                "revision": revision,
                "digest": format!("sha256:{sum}"),
                "lastUpdateTime": now,
            },
            "conditions": [{
                "type": "Ready", "status": "True", "reason": "Succeeded", "message": "stored",
                "lastTransitionTime": now, "observedGeneration": 1,
            }],
        }});
        let patch =
            ["patch", "gitrepository", "onboarding", "--subresource=status", "--type=merge", "--patch"];
        self.world.kubectl(&[&patch[..], &[&status.to_string()]].concat()).await;
        revision
    }

    async fn get(&self, what: &str) -> Value {
        let text = self.world.kubectl(&["get", what, "--output", "json"]).await;
        serde_json::from_str(&text).unwrap()
    }

    /// Waits until a Kustomization has tried this revision and shows Ready with this reason; returns its message.
    async fn until_ready_is(&self, what: &str, revision: Option<&str>, ready: (&str, &str)) -> String {
        let shown = async || {
            let found = self.get(what).await;
            let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let of = |type_: &str| conditions.iter().find(|condition| condition["type"] == type_).cloned();
            let is_tried =
                revision.is_none_or(|revision| found["status"]["lastAttemptedRevision"] == revision);
            let is_idle = of("Reconciling").is_none_or(|shown| shown["reason"] == "ProgressingWithRetry");
            let is_shown =
                |shown: &Value| (&shown["status"], &shown["reason"]) == (&ready.0.into(), &ready.1.into());
            match of("Ready").filter(|shown| is_tried && is_idle && is_shown(shown)) {
                Some(shown) => Ok(shown["message"].as_str().unwrap().to_owned()),
                None => Err(found["status"].to_string()),
            }
        };
        let report = |status| format!("{what} is not {ready:?}: {status}\n{}", self.controller.log_tail());
        until(shown, report).await
    }

    /// Requests another reconcile of the check's Kustomization.
    async fn request_reconcile(&self, round: &str) {
        let annotation = format!("reconcile.fluxcd.io/requestedAt={round}");
        self.world.kubectl(&["annotate", "--overwrite", CHECK, &annotation]).await;
    }

    /// Requests another reconcile of the check's Kustomization, and waits for its end.
    async fn reconcile(&self, round: &str) {
        self.request_reconcile(round).await;
        let handled = async || {
            let found = self.get(CHECK).await;
            let is_handled = found["status"]["lastHandledReconcileAt"] == round;
            if is_handled { Ok(()) } else { Err(found["status"].to_string()) }
        };
        until(handled, |status| format!("the reconcile does not end: {status}")).await;
    }

    /// Waits for the link of the check, and gives the verdict.
    async fn finish_check(&self, verdict: Verdict) -> Verification {
        let id = session(self.world, "alice").await;
        self.world.sandbox().finish(&id, verdict).unwrap();
        self.world.until("alice", |seen| seen.status_or_default().settled).await
    }

    /// Stops the controller, which would otherwise create again what the end of the world deletes.
    fn stop(self) {
        self.controller.kill().unwrap();
    }
}

/// Installs the definitions of everything that the controller watches, from Flux's modules.
async fn install_definitions(world: &World) {
    let files = BTreeMap::from([
        ("github.com/fluxcd/kustomize-controller@v1.9.6", vec!["kustomize.toolkit.fluxcd.io_kustomizations"]),
        (
            "github.com/fluxcd/source-controller@v1.9.6",
            vec![
                "source.toolkit.fluxcd.io_buckets",
                "source.toolkit.fluxcd.io_externalartifacts",
                "source.toolkit.fluxcd.io_gitrepositories",
                "source.toolkit.fluxcd.io_ocirepositories",
            ],
        ),
    ]);
    for (module, names) in files {
        let folder = spawn_blocking(move || go_module(module)).await.unwrap().expect("download the module");
        for name in names {
            let file = folder.join(format!("config/crd/bases/{name}.yaml"));
            let file = file.to_str().unwrap();
            world.kubectl(&["apply", "--server-side", "--force-conflicts", "--filename", file]).await;
            let (group, plural) = name.split_once('_').unwrap();
            let definition = format!("customresourcedefinition/{plural}.{group}");
            world.kubectl(&["wait", "--for=condition=Established", &definition, "--timeout=60s"]).await;
        }
    }
}

/// Serves the files of a folder.
async fn serve(folder: PathBuf) -> (String, JoinSet<()>) {
    let file = async |State(folder): State<PathBuf>, Path(name): Path<String>| {
        tokio::fs::read(folder.join(name)).await.unwrap()
    };
    let router = Router::new().route("/{name}", get(file)).with_state(folder);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut server = JoinSet::new();
    server.spawn(async move { axum::serve(listener, router).await.unwrap() });
    (address, server)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "expensive to build: cargo xtask test readers"]
async fn an_application_waits_for_the_verdict_and_later_edits_of_the_check_fail_nothing() {
    let world = World::new().await;
    let flux = Flux::start(&world, &example("flux/check.yaml")).await;
    flux.until_ready_is(APPLICATION, None, ("False", "DependencyNotReady")).await;
    let before = flux.finish_check(Verdict::Verified).await;
    flux.until_ready_is(CHECK, None, ("True", "ReconciliationSucceeded")).await;
    flux.until_ready_is(APPLICATION, None, ("True", "ReconciliationSucceeded")).await;
    world.kubectl(&["get", "configmap", "account"]).await;

    let edited = with(&flux.verification(), "name: okid-api-key", "name: renamed");
    let revision = flux.commit(&edited).await;
    flux.until_ready_is(CHECK, Some(&revision), ("True", "ReconciliationSucceeded")).await;
    let after = world.get("alice").await;
    assert_eq!((&after.spec, &after.status), (&before.spec, &before.status));
    assert_eq!(after.metadata.uid, before.metadata.uid);

    // Without the annotation, the same edit fails the Kustomization.
    let revision = flux.commit(&with(&edited, "ssa: IfNotPresent", "ssa: Override")).await;
    let message = flux.until_ready_is(CHECK, Some(&revision), ("False", "ReconciliationFailed")).await;
    assert!(message.contains("its spec cannot change"), "{message}");

    // The policy keeps the spec, so that the edit fails nothing.
    if let Some(policy) = keep_ended_specs(&world, "alice").await {
        flux.reconcile("1").await;
        flux.until_ready_is(CHECK, Some(&revision), ("True", "ReconciliationSucceeded")).await;
        let after = world.get("alice").await;
        assert_eq!((&after.spec, &after.status), (&before.spec, &before.status));
        assert_eq!(after.metadata.uid, before.metadata.uid);
        refuse_edits_again(&world, &policy).await;
    }
    assert_eq!(world.creates(), 1);
    flux.stop();
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "expensive to build: cargo xtask test readers"]
async fn a_rejection_fails_every_round_and_wait_true_would_let_the_second_one_pass() {
    let world = World::new().await;
    let check = example("flux/check.yaml");
    let flux = Flux::start(&world, &check).await;
    flux.finish_check(Verdict::Rejected).await;
    for round in ["1", "2"] {
        let message = flux.until_ready_is(CHECK, None, ("False", "HealthCheckFailed")).await;
        assert!(message.contains("stalled resources"), "{message}");
        flux.reconcile(round).await;
    }
    flux.until_ready_is(CHECK, None, ("False", "HealthCheckFailed")).await;
    flux.until_ready_is(APPLICATION, None, ("False", "DependencyNotReady")).await;

    flux.apply(&with(&check, "\n  wait: false", "\n  wait: true")).await;
    flux.until_ready_is(CHECK, None, ("True", "ReconciliationSucceeded")).await;
    flux.stop();
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "expensive to build: cargo xtask test readers"]
async fn force_would_replace_the_check_and_its_verdict_by_another_session() {
    let world = World::new().await;
    let check = with(&example("flux/check.yaml"), "\n  wait: false", "\n  force: true\n  wait: false");
    let flux = Flux::start(&world, &check).await;
    let before = flux.finish_check(Verdict::Verified).await;
    let edited = with(&flux.verification(), "spec:\n", "spec:\n  mode: Select\n");
    flux.commit(&with(&edited, "ssa: IfNotPresent", "ssa: Override")).await;
    let after = world
        .until("alice", |seen| {
            seen.metadata.uid != before.metadata.uid && seen.phase() == Some(Phase::AwaitingUser)
        })
        .await;
    assert_ne!(after.id(), before.id());
    assert_eq!(world.creates(), 2);
    flux.stop();
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "expensive to build: cargo xtask test readers"]
async fn a_check_of_flux_is_not_deleted_by_its_ttl_because_it_would_come_back() {
    let world = new_world().await;
    let flux = Flux::start(&world, &example("flux/check.yaml")).await;
    let id = session(&world, "alice").await;
    world.patch_spec("alice", json!({"ttlAfterFinished": "0s"})).await;
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    let kept = world.until("alice", |seen| seen.phase() == Some(Phase::Verified)).await;
    assert!(kept.shows(&["CleanupReady=False/ManagedByGitOps"]));
    flux.until_ready_is(CHECK, None, ("True", "ReconciliationSucceeded")).await;

    // `IfNotPresent` does not help: nothing is present any more.
    world.annotate("alice", TTL_IN_GITOPS, "allow").await;
    world.until_deleted("alice").await;
    flux.request_reconcile("1").await;
    assert_ne!(session(&world, "alice").await, id);
    assert_eq!(world.creates(), 2);
    flux.stop();
    world.finish().await;
}
