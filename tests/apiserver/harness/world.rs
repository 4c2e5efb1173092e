//! The scene of one test: a namespace, portals, an operator, and a witness. Touches all of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use control_plane::Folder;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client};
use okid_operator::api::{Phase, Verification};
use okid_sandbox::{Endpoint, Sandbox};
use serde_json::{Value, json};
use tokio::sync::SemaphorePermit;
use tokio::time::{sleep, timeout, timeout_at};

use super::builder::Builder;
use super::evidence::{STORE_SECRET, entries};
use super::witness::Witness;
use super::{Cluster, LIMIT, LOOK_EVERY, Launch, Operator, Seen as _};
use crate::stores::S3;

/// The Secret that verifications name unless told otherwise.
pub(crate) const SECRET: &str = "okid-api-key";

/// The scene of one test. Its end is [`World::finish`].
#[must_use = "a world that is not finished checks nothing"]
pub(crate) struct World {
    pub(super) operator: Option<Operator>,
    pub(super) witness: Witness,
    pub(super) folder: Folder,
    pub(super) logs: Vec<PathBuf>,
    pub(super) keys: Vec<String>,
    pub(super) finished: bool,
    pub(super) _place: SemaphorePermit<'static>,
    /// The control plane.
    pub(crate) cluster: &'static Cluster,
    /// The administrator's client.
    pub(crate) client: Client,
    /// The namespace that the operator watches.
    pub(crate) namespace: String,
    /// The API key that the portals know.
    pub(crate) key: String,
    pub(super) portals: Vec<Sandbox>,
    pub(super) s3: Option<S3>,
}

impl World {
    /// A world as usual: one portal, a Secret with a good key, an operator.
    pub(crate) async fn new() -> Self {
        Self::builder().start().await
    }

    /// A world that is not as usual.
    pub(crate) fn builder() -> Builder {
        Builder::usual()
    }

    /// A folder for the test's own files, which goes with the world.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The first portal, which is the operator's default.
    pub(crate) fn sandbox(&self) -> &Sandbox {
        self.portal(0)
    }

    /// The portal of that number, from 0.
    pub(crate) fn portal(&self, number: usize) -> &Sandbox {
        &self.portals[number]
    }

    /// The operator.
    pub(crate) fn operator(&self) -> &Operator {
        self.operator.as_ref().expect("the world has an operator")
    }

    /// Starts the world's operator, after the one before has ended or been killed.
    pub(crate) async fn start(&mut self, launch: Launch) {
        let operator = self.another(launch);
        operator.until_watching().await;
        self.operator = Some(operator);
    }

    /// Runs one more operator on the same namespace.
    pub(crate) fn another(&mut self, launch: Launch) -> Operator {
        let Launch { flags, environment, portals } = launch;
        let portals = portals.unwrap_or_else(|| self.portals.iter().map(Sandbox::url).collect());
        let endpoint = self.s3.as_ref().map(|s3| s3.proxy.url());
        let mut command = Operator::program(self.cluster.kubeconfig())
            .args(["run", "--allow-plain-http", "--admin-address", "127.0.0.1:0", "--log-format", "json"])
            .args(["--namespace", &self.namespace])
            .args(portals.iter().flat_map(|portal| ["--allowed-portal", portal]))
            .args(endpoint.iter().flat_map(|endpoint| ["--allowed-store-endpoint", endpoint]))
            .args(flags);
        command = command.env("OKID_CLOCK_FILE", self.clock_file().to_str().expect("a path in UTF-8"));
        for (name, value) in environment {
            command = command.env(name, value);
        }
        let log = self.folder.path().join(format!("operator-{}.log", self.logs.len()));
        self.logs.push(log.clone());
        Operator::start(command, log, self.folder.lifeline().expect("the folder stays"))
    }

    fn clock_file(&self) -> PathBuf {
        self.folder.path().join("clock")
    }

    /// Reconciler the clock of the operators forward. Whoever waits already is not woken by it.
    pub(crate) fn turn_clock(&self, by: Duration) {
        let file = self.clock_file();
        let before: u64 = fs::read_to_string(&file).map_or(0, |text| text.parse().expect("seconds"));
        let new = self.folder.path().join("clock.new");
        fs::write(&new, (before + by.as_secs()).to_string()).expect("write the clock");
        fs::rename(new, file).expect("write the clock");
    }

    /// Writes a Secret with a value under `apiKey`. The value must not be seen anywhere else.
    pub(crate) async fn secret(&mut self, name: &str, key: &str) {
        self.secret_data(name, json!({"apiKey": key})).await;
        if key.trim().len() > 4 {
            self.keys.push(key.trim().to_owned());
        }
    }

    /// Adds an S3; its address and credentials must not be seen anywhere else.
    pub(super) async fn add_s3(&mut self, s3: S3) {
        let entries = entries(&s3);
        self.keys.extend(
            ["aws_access_key_id", "aws_secret_access_key", "aws_endpoint"]
                .iter()
                .filter_map(|name| Some(entries[name].as_str()?.to_owned())),
        );
        self.secret_data(STORE_SECRET, entries).await;
        self.s3 = Some(s3);
    }

    /// Writes a Secret with these values.
    pub(crate) async fn secret_data(&self, name: &str, data: Value) {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let secret =
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data});
        let apply = PatchParams::apply("okid-tests").force();
        api.patch(name, &apply, &Patch::Apply(&secret)).await.expect("write a Secret");
    }

    /// Deletes a Secret.
    pub(crate) async fn delete_secret(&self, name: &str) {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        api.delete(name, &DeleteParams::default()).await.expect("delete a Secret");
    }

    /// Verifications of the namespace.
    pub(crate) fn api(&self) -> Api<Verification> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Applies a verification with the usual Secret, looked at every second, and what `spec` says beside.
    pub(crate) async fn apply(&self, name: &str, spec: Value) -> Verification {
        self.try_apply(name, spec).await.expect("apply a verification")
    }

    /// As [`World::apply`], where the API server may refuse it.
    pub(crate) async fn try_apply(&self, name: &str, spec: Value) -> kube::Result<Verification> {
        let mut whole = json!({"apiKeySecretRef": {"name": SECRET}, "polling": {"maxInterval": "1s"}});
        let Value::Object(spec) = spec else { panic!("a spec is an object") };
        whole.as_object_mut().expect("an object").extend(spec);
        let object = json!({
            "apiVersion": "okid.io/v1alpha1",
            "kind": "Verification",
            "metadata": {"name": name},
            "spec": whole,
        });
        let apply = PatchParams::apply("okid-tests").force();
        self.api().patch(name, &apply, &Patch::Apply(&object)).await
    }

    /// Applies a verification, and waits until its link is published; its id.
    pub(crate) async fn invite(&self, name: &str, spec: Value) -> String {
        self.apply(name, spec).await;
        let invited = self.until(name, |seen| seen.phase() == Some(Phase::AwaitingUser)).await;
        invited.id().expect("a link has an id")
    }

    /// The verification as the API server has it now.
    pub(crate) async fn get(&self, name: &str) -> Verification {
        self.api().get(name).await.expect("get a verification")
    }

    /// Its resource version now.
    pub(crate) async fn resource_version(&self, name: &str) -> String {
        self.get(name).await.metadata.resource_version.expect("an object has a resource version")
    }

    /// Merges into its spec.
    pub(crate) async fn patch_spec(&self, name: &str, spec: Value) -> Verification {
        let patch = Patch::Merge(json!({"spec": spec}));
        self.api().patch(name, &PatchParams::default(), &patch).await.expect("patch a spec")
    }

    /// Merges into its status, as nobody but the operator should.
    pub(crate) async fn patch_status(&self, name: &str, status: Value) -> Verification {
        let patch = Patch::Merge(json!({"status": status}));
        self.api().patch_status(name, &PatchParams::default(), &patch).await.expect("patch a status")
    }

    /// Sets an annotation.
    pub(crate) async fn annotate(&self, name: &str, annotation: &str, value: &str) {
        let patch = Patch::Merge(json!({"metadata": {"annotations": {annotation: value}}}));
        self.api().patch(name, &PatchParams::default(), &patch).await.expect("annotate");
    }

    /// Deletes a verification, and waits until it is gone.
    pub(crate) async fn delete(&self, name: &str) {
        let uid = self.get(name).await.metadata.uid.expect("an object has a uid");
        self.api().delete(name, &DeleteParams::default()).await.expect("delete a verification");
        self.until_witnessed(&format!("{name} is gone"), name, |witness| {
            witness.saw_deletion(&uid).then_some(())
        })
        .await;
    }

    /// Waits until a verification whose deletion was asked for is gone; it may be gone already.
    pub(crate) async fn until_deleted(&self, name: &str) {
        self.until_witnessed(&format!("{name} is gone"), name, |witness| {
            witness.newest(name).is_none().then_some(())
        })
        .await;
    }

    /// Waits until a version of the verification, from the current one on, is so; returns it.
    pub(crate) async fn until(&self, name: &str, holds: impl Fn(&Verification) -> bool) -> Verification {
        let current: u64 = self.resource_version(name).await.parse().expect("a resource version is a number");
        self.until_witnessed("a condition of a test", name, |witness| {
            let (version, verification) = witness.newest(name)?;
            verification.filter(|verification| version >= current && holds(verification))
        })
        .await
    }

    async fn until_witnessed<T>(&self, what: &str, name: &str, look: impl Fn(&Witness) -> Option<T>) -> T {
        let limit = tokio::time::Instant::now() + LIMIT;
        let mut changes = self.witness.changes();
        loop {
            changes.mark_unchanged();
            if let Some(found) = look(&self.witness) {
                return found;
            }
            let in_time = timeout_at(limit, changes.changed()).await.is_ok();
            assert!(in_time, "{what} did not come about for {name}\n{}", self.report());
        }
    }

    /// Every version of the verifications of that name, in the order they were seen.
    pub(crate) fn versions(&self, name: &str) -> Vec<Verification> {
        self.witness.versions(name)
    }

    /// The values that something took on over all versions, without repetition.
    pub(crate) fn history<T: PartialEq>(&self, name: &str, of: impl Fn(&Verification) -> T) -> Vec<T> {
        let mut history: Vec<T> = self.versions(name).iter().map(of).collect();
        history.dedup();
        history
    }

    /// Creates that arrived at any portal.
    pub(crate) fn creates(&self) -> u64 {
        self.portals.iter().map(|portal| portal.count(Endpoint::Create)).sum()
    }

    /// Waits for a portal to be so.
    pub(crate) async fn until_portal(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let since = Instant::now();
        while !holds(self) {
            assert!(since.elapsed() < LIMIT, "{what} did not come about\n{}", self.report());
            sleep(LOOK_EVERY).await;
        }
    }

    /// Looks that arrived for one session, at whichever portal it lives.
    pub(crate) fn looks_at(&self, id: &str) -> u32 {
        self.portals
            .iter()
            .find_map(|portal| portal.session(id))
            .map_or(0, |session| session.details_requests)
    }

    /// Waits for so many more looks at a session.
    pub(crate) async fn until_looked_at(&self, id: &str, times: u32) {
        let wanted = self.looks_at(id) + times;
        self.until_portal("another look", |world| world.looks_at(id) >= wanted).await;
    }

    /// Runs kubectl in the namespace, and returns what it prints; it must succeed.
    pub(crate) async fn kubectl(&self, arguments: &[&str]) -> String {
        let mut kubectl = tokio::process::Command::from(self.cluster.kubectl());
        kubectl.args(["--namespace", &self.namespace]).args(arguments).kill_on_drop(true);
        let output =
            timeout(LIMIT, kubectl.output()).await.expect("kubectl ends in time").expect("run kubectl");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {arguments:?}: {errors}\n{}", self.report());
        String::from_utf8(output.stdout).expect("kubectl prints text")
    }

    /// What is known when a test fails.
    pub(super) fn report(&self) -> String {
        let newest = self.witness.newest_versions();
        let log = self.logs.last().map(|log| std::fs::read_to_string(log).unwrap_or_default());
        let log = log.unwrap_or_default();
        let tail: Vec<_> = log.lines().rev().take(20).collect();
        let tail: Vec<_> = tail.into_iter().rev().collect();
        let counters: Vec<_> = self.portals.iter().map(|portal| portal.counters()).collect();
        format!(
            "newest versions:\n{}\nthe operator's log:\n{}\nthe portals: {counters:?}",
            newest,
            tail.join("\n")
        )
    }
}

/// A key that is nowhere else, so that it is found wherever it should not be.
pub(crate) fn new_key() -> String {
    format!("key-{:016x}", rand::random::<u64>())
}
