//! Sees every version of every verification in a namespace, and notes what must never be. Touches the API server.

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

/// Everything that was seen so far.
#[derive(Debug)]
pub(crate) struct Witness {
    book: Arc<Mutex<Book>>,
    changes: watch::Receiver<()>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Book {
    /// By uid.
    lives: BTreeMap<String, Life>,
    violations: Vec<String>,
}

/// One verification from its first version to its last.
#[derive(Debug, Clone, Default)]
struct Life {
    name: String,
    /// In the order they were seen, as they came.
    versions: Vec<Value>,
    deleted: bool,
}

impl Witness {
    /// Watches a namespace from now on.
    pub(super) fn start(client: Client, namespace: &str) -> Self {
        let resource = ApiResource::erase::<Verification>(&());
        let api: Api<DynamicObject> = Api::namespaced_with(client, namespace, &resource);
        let book = Arc::new(Mutex::new(Book::default()));
        let (tell, changes) = watch::channel(());
        let task = tokio::spawn({
            let book = Arc::clone(&book);
            async move {
                let mut events = std::pin::pin!(watcher::watcher(api, watcher::Config::default()));
                while let Some(event) = events.next().await {
                    // An interrupted watch comes again by itself.
                    let Ok(event) = event else { continue };
                    let mut book = book.lock();
                    match event {
                        Event::Apply(object) | Event::InitApply(object) => book.see(&object, false),
                        Event::Delete(object) => book.see(&object, true),
                        Event::Init | Event::InitDone => {}
                    }
                    drop(book);
                    tell.send_replace(());
                }
            }
        });
        Self { book, changes, task }
    }

    /// Waits until something new is seen.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changes.clone()
    }

    /// The newest version of the verification of that name that is not deleted, and its resource version.
    pub(super) fn newest(&self, name: &str) -> Option<(u64, Option<Verification>)> {
        let book = self.book();
        let life = book.lives.values().rev().find(|life| life.name == name && !life.deleted)?;
        let newest = life.versions.last()?;
        Some((resource_version(newest), serde_json::from_value(newest.clone()).ok()))
    }

    /// Whether a verification of that uid was seen to be deleted.
    pub(super) fn saw_deletion(&self, uid: &str) -> bool {
        self.book().lives.get(uid).is_some_and(|life| life.deleted)
    }

    /// Every version of the verifications of that name, in the order they were seen, those that can be decoded.
    pub(super) fn versions(&self, name: &str) -> Vec<Verification> {
        let book = self.book();
        let lives = book.lives.values().filter(|life| life.name == name);
        lives
            .flat_map(|life| &life.versions)
            .filter_map(|version| serde_json::from_value(version.clone()).ok())
            .collect()
    }

    /// The sum of all attempts, those of deleted verifications included.
    pub(super) fn attempts(&self) -> u64 {
        let book = self.book();
        book.lives.values().map(|life| life.versions.last().map_or(0, attempt)).sum()
    }

    /// What was seen and must never be.
    pub(super) fn violations(&self) -> Vec<String> {
        self.book().violations.clone()
    }

    /// Every version as text, to look for what must not be in it.
    pub(super) fn text(&self) -> String {
        let book = self.book();
        let versions = book.lives.values().flat_map(|life| &life.versions);
        versions.map(Value::to_string).collect::<Vec<_>>().join("\n")
    }

    /// The messages of all conditions of all versions as text.
    pub(super) fn messages(&self) -> String {
        let book = self.book();
        let versions = book.lives.values().flat_map(|life| &life.versions);
        let messages = versions.flat_map(conditions).filter_map(|condition| condition["message"].as_str());
        messages.collect::<Vec<_>>().join("\n")
    }

    /// The newest version of each verification as text, for a person.
    pub(super) fn newest_versions(&self) -> String {
        let newest = |life: &Life| {
            let newest = life.versions.last().unwrap_or(&Value::Null);
            let deleted = if life.deleted { " (deleted)" } else { "" };
            format!("{}{deleted}: spec {} status {}", life.name, newest["spec"], newest["status"])
        };
        self.book().lives.values().map(newest).collect::<Vec<_>>().join("\n")
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock()
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Book {
    fn see(&mut self, object: &DynamicObject, deleted: bool) {
        let version = serde_json::to_value(object).expect("an object is JSON");
        let uid = object.metadata.uid.clone().expect("an object has a uid");
        let name = object.metadata.name.clone().expect("an object has a name");
        let life = self.lives.entry(uid).or_insert_with(|| Life { name, ..Life::default() });
        life.deleted |= deleted;
        let before = life.versions.last();
        if before.is_some_and(|before| resource_version(before) >= resource_version(&version)) {
            return;
        }
        let mut wrong = wrong_in(&version);
        wrong.extend(before.into_iter().flat_map(|before| wrong_between(before, &version)));
        let wrong: Vec<_> = wrong.into_iter().map(|wrong| format!("{}: {wrong}", life.name)).collect();
        life.versions.push(version);
        self.violations.extend(wrong);
    }
}

/// What must not be in one version: the rules of those who read conditions.
fn wrong_in(version: &Value) -> Vec<String> {
    let status = &version["status"];
    let conditions = conditions(version);
    let shown = |type_: &str| conditions.iter().find(|condition| condition["type"] == type_);
    let mut wrong = Vec::new();
    let at_work = shown("Reconciling").is_some() || shown("Stalled").is_some();
    if shown("Reconciling").is_some() && shown("Stalled").is_some() {
        wrong.push("Reconciling and Stalled".to_owned());
    }
    match shown("Ready").map(|ready| &ready["status"]) {
        None if conditions.is_empty() => {}
        None => wrong.push("conditions without Ready".to_owned()),
        Some(ready) if ready == "False" || (ready == "True" && !at_work) => {}
        Some(ready) => wrong.push(format!("Ready is {ready} beside Reconciling or Stalled, or at all")),
    }
    for condition in conditions {
        let type_ = &condition["type"];
        if (type_ == "Reconciling" || type_ == "Stalled") && condition["status"] != "True" {
            wrong.push(format!("{type_} is {}, and should be absent", condition["status"]));
        }
        if condition["observedGeneration"] != status["observedGeneration"] {
            wrong.push(format!("{type_} is of another generation than the status"));
        }
    }
    if status["observedGeneration"].as_i64() > version["metadata"]["generation"].as_i64() {
        wrong.push("a generation is observed that is not there yet".to_owned());
    }
    wrong
}

/// What must not be between one version and the next.
fn wrong_between(before: &Value, after: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let id = &before["status"]["verificationId"];
    if !id.is_null() && *id != after["status"]["verificationId"] {
        wrong.push("the published id changed".to_owned());
    }
    for new in conditions(after) {
        let same = |old: &&Value| old["type"] == new["type"] && old["status"] == new["status"];
        let old = conditions(before).iter().find(same);
        if old.is_some_and(|old| old["lastTransitionTime"] != new["lastTransitionTime"]) {
            wrong.push(format!("{} has a new time without a new status", new["type"]));
        }
    }
    wrong
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
