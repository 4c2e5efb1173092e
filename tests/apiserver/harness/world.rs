//! The world of one test: a namespace, portals, an operator, and a history. Touches all of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use control_plane::Folder;
use control_plane::process::Command;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client};
use okid_operator::api::{Phase, Verification};
use okid_sandbox::{Endpoint, Sandbox};
use serde_json::{Value, json};
use tokio::sync::SemaphorePermit;
use tokio::time::{timeout, timeout_at};

use super::builder::Builder;
use super::evidence::{STORE_SECRET, entries};
use super::history::History;
use super::{Account, Cluster, LIMIT, Launch, Operator, VerificationExt as _, until};
use crate::stores::S3;

/// The Secret that verifications name by default.
pub(crate) const SECRET: &str = "okid-api-key";

/// The world of one test. Every test ends with [`World::finish`].
#[must_use = "a world that is not finished checks nothing"]
pub(crate) struct World {
    pub(super) operator: Option<Operator>,
    pub(super) history: History,
    pub(super) folder: Folder,
    pub(super) logs: Vec<PathBuf>,
    pub(super) keys: Vec<String>,
    pub(super) finished: bool,
    pub(super) _permit: SemaphorePermit<'static>,
    /// The control plane.
    pub(crate) cluster: Arc<Cluster>,
    /// The administrator's client.
    pub(crate) client: Client,
    /// The account of the operators. Here it may do all that the operator needs, and elsewhere nothing.
    pub(crate) account: Account,
    pub(super) kubeconfig: PathBuf,
    /// The namespace that the operator watches.
    pub(crate) namespace: String,
    /// The API key that the portals know.
    pub(crate) key: String,
    pub(super) portals: Vec<Sandbox>,
    pub(super) s3: Option<S3>,
}

impl World {
    /// The usual world: one portal, a Secret with a valid key, and an operator.
    pub(crate) async fn new() -> Self {
        Self::builder().start().await
    }

    /// Builds an unusual world.
    pub(crate) fn builder() -> Builder {
        Builder::usual()
    }

    /// A folder for the test's own files, which is removed with the world.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The kubeconfig of the operators, which has a token of their account.
    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
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

    /// Starts the world's operator. The previous one must have exited.
    pub(crate) async fn start(&mut self, launch: Launch) {
        let operator = self.another(launch);
        operator.until_watching().await;
        self.operator = Some(operator);
    }

    /// Makes another operator the world's, in place of one that has exited.
    pub(crate) fn replace_operator(&mut self, operator: Operator) {
        self.operator = Some(operator);
    }

    /// Starts another operator on the same namespace.
    pub(crate) fn another(&mut self, launch: Launch) -> Operator {
        let Launch { flags, environment, portals } = launch;
        let portals = portals.unwrap_or_else(|| self.portals.iter().map(Sandbox::url).collect());
        let endpoint = self.s3.as_ref().map(|s3| s3.proxy.url());
        // Without a Lease, a test that kills an operator need not wait until it expires.
        let is_alone = !flags.iter().any(|flag| flag.starts_with("--leader-elect"));
        let mut command = Operator::program(&self.kubeconfig)
            .args(["run", "--allow-plain-http", "--admin-address", "127.0.0.1:0", "--log-format", "json"])
            .args(["--namespace", &self.namespace])
            .args(portals.iter().flat_map(|portal| ["--allowed-portal", portal]))
            .args(endpoint.iter().flat_map(|endpoint| ["--allowed-store-endpoint", endpoint]))
            .args(is_alone.then_some("--leader-elect=false"))
            .args(flags);
        command = command.env("OKID_CLOCK_FILE", self.clock_file().to_str().expect("a path in UTF-8"));
        for (name, value) in environment {
            command = command.env(name, value);
        }
        let log = self.folder.path().join(format!("operator-{}.log", self.logs.len()));
        self.logs.push(log.clone());
        self.run(command, log)
    }

    /// Runs a command of the operator's.
    pub(crate) fn run(&self, command: Command, log: PathBuf) -> Operator {
        Operator::start(command, log, self.folder.lifeline().expect("the folder stays"))
    }

    fn clock_file(&self) -> PathBuf {
        self.folder.path().join("clock")
    }

    /// Advances the clock of the operators. It does not wake what waits already.
    pub(crate) fn advance_clock(&self, by: Duration) {
        let file = self.clock_file();
        let before: u64 = fs::read_to_string(&file).map_or(0, |text| text.parse().expect("seconds"));
        let new = self.folder.path().join("clock.new");
        fs::write(&new, (before + by.as_secs()).to_string()).expect("write the clock");
        fs::rename(new, file).expect("write the clock");
    }

    /// Writes a Secret with a value under `apiKey`. [`World::finish`] checks that the value appears nowhere else.
    pub(crate) async fn secret(&mut self, name: &str, key: &str) {
        self.secret_data(name, json!({"apiKey": key})).await;
        if key.trim().len() > 4 {
            self.keys.push(key.trim().to_owned());
        }
    }

    /// Adds an S3 server. [`World::finish`] checks that its address and credentials appear nowhere else.
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

    /// Applies a verification with the usual Secret and a poll each second, merged with `spec`.
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

    /// Applies a verification and waits until its link is published; returns its id.
    pub(crate) async fn create_session(&self, name: &str, spec: Value) -> String {
        self.apply(name, spec).await;
        let invited = self.until(name, |seen| seen.phase() == Some(Phase::AwaitingUser)).await;
        invited.id().expect("a link has an id")
    }

    /// The verification as the API server has it now.
    pub(crate) async fn get(&self, name: &str) -> Verification {
        self.api().get(name).await.expect("get a verification")
    }

    /// Waits until there is a verification of that name, which another client creates.
    pub(crate) async fn until_exists(&self, name: &str) {
        self.until_recorded(&format!("{name} exists"), name, |history| history.newest(name).map(drop)).await;
    }

    /// Its resource version now.
    pub(crate) async fn resource_version(&self, name: &str) -> String {
        self.get(name).await.metadata.resource_version.expect("an object has a resource version")
    }

    /// Patches its spec, by merging.
    pub(crate) async fn patch_spec(&self, name: &str, spec: Value) -> Verification {
        let patch = Patch::Merge(json!({"spec": spec}));
        self.api().patch(name, &PatchParams::default(), &patch).await.expect("patch a spec")
    }

    /// Patches its status, by merging. Only the operator should do that.
    pub(crate) async fn patch_status(&self, name: &str, status: Value) -> Verification {
        let patch = Patch::Merge(json!({"status": status}));
        self.api().patch_status(name, &PatchParams::default(), &patch).await.expect("patch a status")
    }

    /// Sets an annotation.
    pub(crate) async fn annotate(&self, name: &str, annotation: &str, value: &str) {
        let patch = Patch::Merge(json!({"metadata": {"annotations": {annotation: value}}}));
        self.api().patch(name, &PatchParams::default(), &patch).await.expect("annotate");
    }

    /// Deletes a verification and waits until it is gone.
    pub(crate) async fn delete(&self, name: &str) {
        let uid = self.get(name).await.metadata.uid.expect("an object has a uid");
        self.api().delete(name, &DeleteParams::default()).await.expect("delete a verification");
        self.until_recorded(&format!("{name} is gone"), name, |history| {
            history.saw_deletion(&uid).then_some(())
        })
        .await;
    }

    /// Waits until a verification that is being deleted is gone. It may be gone already.
    pub(crate) async fn until_deleted(&self, name: &str) {
        self.until_recorded(&format!("{name} is gone"), name, |history| {
            history.newest(name).is_none().then_some(())
        })
        .await;
    }

    /// Waits for a version of the verification, from the current one on, for which `holds` is true; returns it.
    pub(crate) async fn until(&self, name: &str, holds: impl Fn(&Verification) -> bool) -> Verification {
        let current: u64 = self.resource_version(name).await.parse().expect("a resource version is a number");
        self.until_recorded("a condition of a test", name, |history| {
            let (version, verification) = history.newest(name)?;
            verification.filter(|verification| version >= current && holds(verification))
        })
        .await
    }

    async fn until_recorded<T>(&self, what: &str, name: &str, find: impl Fn(&History) -> Option<T>) -> T {
        let limit = tokio::time::Instant::now() + LIMIT;
        let mut changes = self.history.changes();
        loop {
            changes.mark_unchanged();
            if let Some(found) = find(&self.history) {
                return found;
            }
            let in_time = timeout_at(limit, changes.changed()).await.is_ok();
            assert!(in_time, "{what} did not happen for {name}\n{}", self.report());
        }
    }

    /// Every version of the verifications of that name, in the order in which they were observed.
    pub(crate) fn versions(&self, name: &str) -> Vec<Verification> {
        self.history.versions(name)
    }

    /// The values over all versions, without consecutive duplicates.
    pub(crate) fn distinct_values<T: PartialEq>(
        &self,
        name: &str,
        of: impl Fn(&Verification) -> T,
    ) -> Vec<T> {
        let mut history: Vec<T> = self.versions(name).iter().map(of).collect();
        history.dedup();
        history
    }

    /// The number of creates that arrived at any portal.
    pub(crate) fn creates(&self) -> u64 {
        self.portals.iter().map(|portal| portal.count(Endpoint::Create)).sum()
    }

    /// Waits until `holds` is true, for what only a portal or a store knows.
    pub(crate) async fn until_portal(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        until(async || super::holds(holds(self)), |()| format!("{what} did not happen\n{}", self.report()))
            .await;
    }

    /// The number of polls of one session, at whichever portal it belongs to.
    pub(crate) fn polls_of(&self, id: &str) -> u32 {
        self.portals
            .iter()
            .find_map(|portal| portal.session(id))
            .map_or(0, |session| session.details_requests)
    }

    /// Waits for that many more polls of a session.
    pub(crate) async fn until_polled(&self, id: &str, times: u32) {
        let wanted = self.polls_of(id) + times;
        self.until_portal("another poll", |world| world.polls_of(id) >= wanted).await;
    }

    /// Runs kubectl in the namespace and returns its output; it must succeed.
    pub(crate) async fn kubectl(&self, arguments: &[&str]) -> String {
        let mut kubectl = tokio::process::Command::from(self.cluster.kubectl());
        kubectl.args(["--namespace", &self.namespace]).args(arguments).kill_on_drop(true);
        let output =
            timeout(LIMIT, kubectl.output()).await.expect("kubectl ends in time").expect("run kubectl");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {arguments:?}: {errors}\n{}", self.report());
        String::from_utf8(output.stdout).expect("kubectl prints text")
    }

    /// The report of a failed test.
    pub(super) fn report(&self) -> String {
        let newest = self.history.newest_versions();
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

/// A unique key, so that a leak can be found.
pub(crate) fn new_key() -> String {
    format!("key-{:016x}", rand::random::<u64>())
}
