//! The scene of one test: a namespace, portals, an operator, and a witness. Touches all of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use control_plane::Folder;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client};
use okid_operator::api::{Phase, Verification};
use okid_sandbox::{Endpoint, Sandbox};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{sleep, timeout, timeout_at};

use super::evidence::{STORE_SECRET, entries, files, new_s3};
use super::witness::Witness;
use super::{Cluster, LIMIT, LOOK_EVERY, Launch, Operator, Seen as _};
use crate::stores::S3;

/// Worlds at once: they mostly wait, but each starts a process.
static PLACES: Semaphore = Semaphore::const_new(12);

/// The Secret that verifications name unless told otherwise.
pub(crate) const SECRET: &str = "okid-api-key";

/// What a world is made of. See [`World::builder`].
#[must_use]
pub(crate) struct Builder {
    launch: Option<Launch>,
    portals: usize,
    secret: bool,
    s3: bool,
}

impl Builder {
    /// Starts the operator with more than usual.
    pub(crate) fn launch(self, launch: Launch) -> Self {
        Self { launch: Some(launch), ..self }
    }

    /// Starts no operator.
    pub(crate) fn without_operator(self) -> Self {
        Self { launch: None, ..self }
    }

    /// That many portals, which all know the key.
    pub(crate) fn portals(self, portals: usize) -> Self {
        Self { portals, ..self }
    }

    /// With an S3 that the operator allows, and a Secret with its credentials.
    pub(crate) fn s3(self) -> Self {
        Self { s3: true, ..self }
    }

    /// Makes no Secret.
    pub(crate) fn without_secret(self) -> Self {
        Self { secret: false, ..self }
    }

    /// Sets the scene; the operator watches when this returns.
    pub(crate) async fn start(self) -> World {
        let Self { launch, portals: count, secret, s3 } = self;
        let place = PLACES.acquire().await.expect("the places are never closed");
        let cluster = Cluster::shared().await;
        let client = cluster.client().await;
        let namespace = cluster.new_namespace(&client).await;
        let key = new_key();
        let mut portals = Vec::new();
        for _ in 0..count {
            portals.push(Sandbox::builder().key(&key).start().await);
        }
        let mut world = World {
            operator: None,
            witness: Witness::start(client.clone(), &namespace),
            folder: Folder::create("okid-operator-").expect("make a folder"),
            logs: Vec::new(),
            keys: vec![key.clone()],
            finished: false,
            _place: place,
            cluster,
            client,
            namespace,
            key,
            portals,
            s3: None,
        };
        if secret {
            world.secret(SECRET, &world.key.clone()).await;
        }
        if s3 {
            world.add_s3(new_s3().await).await;
        }
        if let Some(launch) = launch {
            world.start(launch).await;
        }
        world
    }
}

/// The scene of one test. Its end is [`World::finish`].
#[must_use = "a world that is not finished checks nothing"]
pub(crate) struct World {
    operator: Option<Operator>,
    witness: Witness,
    folder: Folder,
    logs: Vec<PathBuf>,
    keys: Vec<String>,
    finished: bool,
    _place: SemaphorePermit<'static>,
    /// The control plane.
    pub(crate) cluster: &'static Cluster,
    /// The administrator's client.
    pub(crate) client: Client,
    /// The namespace that the operator watches.
    pub(crate) namespace: String,
    /// The API key that the portals know.
    pub(crate) key: String,
    portals: Vec<Sandbox>,
    pub(super) s3: Option<S3>,
}

impl World {
    /// A world as usual: one portal, a Secret with a good key, an operator.
    pub(crate) async fn new() -> Self {
        Self::builder().start().await
    }

    /// A world that is not as usual.
    pub(crate) fn builder() -> Builder {
        Builder { launch: Some(Launch::new()), portals: 1, secret: true, s3: false }
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

    /// Turns the clock of the operators forward. Whoever waits already is not woken by it.
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

    async fn add_s3(&mut self, s3: S3) {
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
        let current = self.get(name).await.metadata.resource_version.and_then(|text| text.parse().ok());
        let current: u64 = current.expect("a resource version is a number");
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

    /// Waits until the reasons of the events about a verification are these, in alphabetical order. Events are
    /// published after the write, in the background.
    pub(crate) async fn until_events(&self, name: &str, reasons: &[&str]) {
        let since = Instant::now();
        loop {
            let events = self.events(name).await;
            if events == reasons {
                return;
            }
            assert!(
                since.elapsed() < LIMIT,
                "events about {name}: {events:?}, not {reasons:?}\n{}",
                self.report()
            );
            sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until an event about a verification is there.
    pub(crate) async fn until_event(&self, name: &str, reason: &str) {
        let since = Instant::now();
        while !self.events(name).await.iter().any(|known| known == reason) {
            assert!(since.elapsed() < LIMIT, "no event {reason} about {name}\n{}", self.report());
            sleep(LOOK_EVERY).await;
        }
    }

    /// The reasons of the events about a verification so far, in alphabetical order.
    pub(crate) async fn events(&self, name: &str) -> Vec<String> {
        let all = self.all_events().await;
        let about = |event: &&Event| {
            event.regarding.as_ref().and_then(|regarding| regarding.name.as_deref()) == Some(name)
        };
        let mut reasons: Vec<_> = all.iter().filter(about).filter_map(|event| event.reason.clone()).collect();
        reasons.sort();
        reasons
    }

    async fn all_events(&self) -> Vec<Event> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        api.list(&ListParams::default()).await.expect("list events").items
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
        self.portals.iter().find_map(|portal| portal.session(id)).map_or(0, |session| session.details_calls)
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

    /// Ends the scene, and checks what must hold whatever happened.
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

        let violations = self.witness.violations();
        assert!(violations.is_empty(), "{violations:#?}\n{}", self.report());
        let (creates, attempts) = (self.creates(), self.witness.attempts());
        assert!(creates <= attempts, "{creates} creates, {attempts} attempts\n{}", self.report());
        let metrics = metrics.unwrap_or_default();
        assert!(
            !metrics.contains("turn_panics_total") || metrics.contains("okid_turn_panics_total 0"),
            "{metrics}"
        );

        let logs = logs.join("\n");
        assert!(!logs.contains("\"message\":\"a panic\""), "{logs}");

        let mut places = BTreeMap::from([("a metric", metrics), ("an event", events), ("a log", logs)]);
        places.insert("a message", self.witness.messages());
        for (place, text) in &places {
            for secret in self.keys.iter().chain(&self.sessions()) {
                assert!(!text.contains(secret.as_str()), "{place} tells {secret}");
            }
        }
        let statuses = self.witness.text();
        for key in &self.keys {
            assert!(!statuses.contains(key.as_str()), "a verification tells the key {key}");
        }
    }

    /// No key of an object and no manifest tells who is behind it or how to get there; what the portal said may name the
    /// session.
    fn check_store(&self) {
        let Some(s3) = &self.s3 else { return };
        s3.proxy.heal();
        for (name, bytes) in files(s3.folder.path()) {
            let text = String::from_utf8_lossy(&bytes);
            assert!(!self.keys.iter().any(|key| text.contains(key)), "{name} tells a key");
            let is_answer = name.ends_with("/details.json");
            for secret in self.keys.iter().chain(&self.sessions()) {
                assert!(!name.contains(secret), "an object's key tells {secret}");
                assert!(is_answer || !text.contains(secret), "{name} tells {secret}");
            }
        }
    }

    /// Deletes everything, ends the operator, and returns its last metrics.
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

    /// The ids of all sessions; each is in the link too.
    fn sessions(&self) -> Vec<String> {
        self.portals.iter().flat_map(|portal| portal.sessions()).map(|session| session.id).collect()
    }

    /// What is known when a test fails.
    fn report(&self) -> String {
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

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.report());
        } else {
            assert!(self.finished, "this test does not finish its world, and checks too little");
        }
    }
}

/// A key that is nowhere else, so that it is found wherever it should not be.
pub(crate) fn new_key() -> String {
    format!("key-{:016x}", rand::random::<u64>())
}
