//! Records every version of every verification in a namespace, and checks the invariants of each. Touches the API
//! server.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt as _;
use kube::api::{ApiResource, DynamicObject};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use okid_operator::api::Verification;
use parking_lot::{Mutex, MutexGuard};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Every version that was observed so far.
#[derive(Debug)]
pub(crate) struct History {
    records: Arc<Mutex<Records>>,
    changes: watch::Receiver<()>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Records {
    /// By uid.
    objects: BTreeMap<String, ObjectHistory>,
    violations: Vec<String>,
}

/// The versions of one verification.
#[derive(Debug, Clone, Default)]
struct ObjectHistory {
    name: String,
    /// In the order in which they were observed.
    versions: Vec<Value>,
    deleted: bool,
}

impl History {
    /// Starts to watch a namespace.
    pub(super) fn start(client: Client, namespace: &str) -> Self {
        let resource = ApiResource::erase::<Verification>(&());
        let api: Api<DynamicObject> = Api::namespaced_with(client, namespace, &resource);
        let records = Arc::new(Mutex::new(Records::default()));
        let (notify, changes) = watch::channel(());
        let task = tokio::spawn({
            let records = Arc::clone(&records);
            async move {
                let mut events = std::pin::pin!(watcher::watcher(api, watcher::Config::default()));
                while let Some(event) = events.next().await {
                    // The watcher restarts an interrupted watch.
                    let Ok(event) = event else { continue };
                    let mut records = records.lock();
                    match event {
                        Event::Apply(object) | Event::InitApply(object) => records.record(&object, false),
                        Event::Delete(object) => records.record(&object, true),
                        Event::Init | Event::InitDone => {}
                    }
                    drop(records);
                    notify.send_replace(());
                }
            }
        });
        Self { records, changes, task }
    }

    /// Notifies of each new version.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changes.clone()
    }

    /// The newest version of the verification of that name that is not deleted, and its resource version.
    pub(super) fn newest(&self, name: &str) -> Option<(u64, Option<Verification>)> {
        let records = self.records();
        let object = records.objects.values().rev().find(|object| object.name == name && !object.deleted)?;
        let newest = object.versions.last()?;
        Some((resource_version(newest), serde_json::from_value(newest.clone()).ok()))
    }

    /// Whether the deletion of the verification with that uid was observed.
    pub(super) fn saw_deletion(&self, uid: &str) -> bool {
        self.records().objects.get(uid).is_some_and(|object| object.deleted)
    }

    /// Every decodable version of the verifications of that name, in the order in which they were observed.
    pub(super) fn versions(&self, name: &str) -> Vec<Verification> {
        let records = self.records();
        let objects = records.objects.values().filter(|object| object.name == name);
        objects
            .flat_map(|object| &object.versions)
            .filter_map(|version| serde_json::from_value(version.clone()).ok())
            .collect()
    }

    /// The sum of all attempts, those of deleted verifications included.
    pub(super) fn attempts(&self) -> u64 {
        let records = self.records();
        records.objects.values().map(|object| object.versions.last().map_or(0, attempt)).sum()
    }

    /// The violations of invariants so far.
    pub(super) fn violations(&self) -> Vec<String> {
        self.records().violations.clone()
    }

    /// Every version as text, to be searched for secrets.
    pub(super) fn text(&self) -> String {
        let records = self.records();
        let versions = records.objects.values().flat_map(|object| &object.versions);
        versions.map(Value::to_string).collect::<Vec<_>>().join("\n")
    }

    /// The messages of all conditions of all versions as text.
    pub(super) fn messages(&self) -> String {
        let records = self.records();
        let versions = records.objects.values().flat_map(|object| &object.versions);
        let messages = versions.flat_map(conditions).filter_map(|condition| condition["message"].as_str());
        messages.collect::<Vec<_>>().join("\n")
    }

    /// Every version, so that `tests/readers` can have it judged by the tools that wait for verifications.
    pub(super) fn all_versions(&self) -> Vec<Value> {
        let records = self.records();
        records.objects.values().flat_map(|object| object.versions.iter().cloned()).collect()
    }

    /// The newest version of each verification as text, for the report of a failed test.
    pub(super) fn newest_versions(&self) -> String {
        let newest = |object: &ObjectHistory| {
            let newest = object.versions.last().unwrap_or(&Value::Null);
            let deleted = if object.deleted { " (deleted)" } else { "" };
            format!("{}{deleted}: spec {} status {}", object.name, newest["spec"], newest["status"])
        };
        self.records().objects.values().map(newest).collect::<Vec<_>>().join("\n")
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock()
    }
}

impl Drop for History {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Records {
    fn record(&mut self, object: &DynamicObject, deleted: bool) {
        let version = serde_json::to_value(object).expect("an object is JSON");
        let uid = object.metadata.uid.clone().expect("an object has a uid");
        let name = object.metadata.name.clone().expect("an object has a name");
        let object =
            self.objects.entry(uid).or_insert_with(|| ObjectHistory { name, ..ObjectHistory::default() });
        object.deleted |= deleted;
        let before = object.versions.last();
        if before.is_some_and(|before| resource_version(before) >= resource_version(&version)) {
            return;
        }
        let mut violations = violations_in(&version);
        violations.extend(before.into_iter().flat_map(|before| violations_between(before, &version)));
        let violations: Vec<_> =
            violations.into_iter().map(|violation| format!("{}: {violation}", object.name)).collect();
        object.versions.push(version);
        self.violations.extend(violations);
    }
}

/// Violations within one version, beyond what the tools find that `tests/readers` has judge it.
fn violations_in(version: &Value) -> Vec<String> {
    let status = &version["status"];
    let others = conditions(version)
        .iter()
        .filter(|condition| condition["observedGeneration"] != status["observedGeneration"]);
    let mut violations: Vec<_> = others
        .map(|condition| format!("{} has another generation than the status", condition["type"]))
        .collect();
    if status["observedGeneration"].as_i64() > version["metadata"]["generation"].as_i64() {
        violations.push("observedGeneration is ahead of the generation".to_owned());
    }
    violations
}

/// Violations between one version and the next.
fn violations_between(before: &Value, after: &Value) -> Vec<String> {
    let mut violations = Vec::new();
    let id = &before["status"]["verificationId"];
    if !id.is_null() && *id != after["status"]["verificationId"] {
        violations.push("the published id changed".to_owned());
    }
    for new in conditions(after) {
        let same = |old: &&Value| old["type"] == new["type"] && old["status"] == new["status"];
        let old = conditions(before).iter().find(same);
        if old.is_some_and(|old| old["lastTransitionTime"] != new["lastTransitionTime"]) {
            violations.push(format!("{} has a new lastTransitionTime without a new status", new["type"]));
        }
    }
    violations
}

fn conditions(version: &Value) -> &[Value] {
    version["status"]["conditions"].as_array().map_or(&[], Vec::as_slice)
}

fn resource_version(version: &Value) -> u64 {
    version["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn attempt(version: &Value) -> u64 {
    version["status"]["session"]["attempt"].as_u64().unwrap_or_default()
}
