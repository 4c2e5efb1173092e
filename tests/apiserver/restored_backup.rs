//! etcd is restored from a backup while the operator runs.

use std::path::PathBuf;
use std::time::Duration;

use control_plane::{Backup, Folder};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use okid_operator::api::{Phase, SessionState, Verification};
use okid_sandbox::{Action, Call, Endpoint, Fault, RetryAfter, Sandbox, Verdict};
use serde_json::{Value, json};
use tokio::runtime::Handle;

use crate::harness::{Account, Cluster, Operator, SECRET, VerificationExt as _, all, holds, new_key, until};

/// A control plane of its own, whose etcd can be restored, with a portal and an operator.
struct Restorable {
    cluster: Cluster,
    namespace: String,
    sandbox: Sandbox,
    operator: Operator,
    folder: Folder,
}

/// Flags of a leader that outlives a restore.
const PATIENT: [&str; 5] = [
    "--leader-elect=true",
    "--leader-lease-duration=10m",
    "--leader-renew-deadline=9m",
    "--leader-lease-name=okid-operator",
    "--leader-lease-namespace",
];

impl Restorable {
    async fn start() -> Self {
        Self::start_with(|_| vec!["--leader-elect=false".to_owned()]).await
    }

    /// Starts an operator with flags that may depend on its namespace.
    async fn start_with(flags: impl FnOnce(&str) -> Vec<String>) -> Self {
        let cluster = Cluster::start().await;
        cluster.install_definition().await;
        let client = cluster.client().await;
        let namespace = cluster.new_namespace(&client).await;
        let key = new_key();
        let secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": SECRET},
            "stringData": {"apiKey": key},
        });
        let secrets: Api<Secret> = Api::namespaced(client, &namespace);
        let apply = PatchParams::apply("okid-tests");
        secrets.patch(SECRET, &apply, &Patch::Apply(&secret)).await.expect("write a Secret");
        let sandbox = Sandbox::builder().key(&key).start().await;
        let folder = Folder::create("okid-operator-").expect("make a folder");
        let hold = folder.path().join("held");
        let account = Account::create(cluster.client().await, &namespace).await;
        account.grant(Some(&namespace), &all()).await;
        let command = Operator::program(&account.kubeconfig(&cluster, folder.path()).await)
            .args(["run", "--allow-plain-http", "--admin-address", "127.0.0.1:0"])
            .args(flags(&namespace))
            .args(["--namespace", &namespace, "--allowed-portal", &sandbox.url()])
            .env("OKID_FAILPOINT_HOLD", "AfterResponse")
            .env("OKID_FAILPOINT_HOLD_FILE", hold);
        let needs = folder.lifeline().expect("the folder stays");
        let operator = Operator::start(command, folder.path().join("log"), needs);
        operator.until_watching().await;
        Self { cluster, namespace, sandbox, operator, folder }
    }

    /// With a client of its own: those before a restart have broken connections.
    async fn api(&self) -> Api<Verification> {
        Api::namespaced(self.cluster.client().await, &self.namespace)
    }

    async fn apply(&self, name: &str) {
        let object = json!({
            "apiVersion": "okid.io/v1alpha1",
            "kind": "Verification",
            "metadata": {"name": name},
            "spec": {"apiKeySecretRef": {"name": SECRET}, "polling": {"maxInterval": "1s"}},
        });
        let apply = PatchParams::apply("okid-tests");
        self.api().await.patch(name, &apply, &Patch::Apply(&object)).await.expect("apply a verification");
    }

    async fn until(&self, name: &str, holds: impl Fn(&Verification) -> bool) -> Verification {
        let api = self.api().await;
        let check = async || {
            let seen = api.get(name).await.expect("get a verification");
            if holds(&seen) { Ok(seen) } else { Err(seen.status_or_default()) }
        };
        let report = |status| format!("{name} stays {status:?}\n{}", self.operator.log_tail());
        until(check, report).await
    }

    /// Waits for the link, and returns the id.
    async fn until_open(&self, name: &str) -> String {
        let open = self.until(name, |seen| seen.phase() == Some(Phase::AwaitingUser)).await;
        open.id().expect("a link has an id")
    }

    fn hold(&self) -> PathBuf {
        self.folder.path().join("held")
    }

    async fn until_held(&self) {
        let report = |()| format!("no create was held\n{}", self.operator.log_tail());
        until(async || holds(self.hold().exists()), report).await;
    }

    async fn until_event(&self, name: &str, reason: &str) {
        let api: Api<Event> = Api::namespaced(self.cluster.client().await, &self.namespace);
        let published = async || {
            let events = api.list(&ListParams::default()).await.expect("list events").items;
            let is_it = |event: &Event| {
                event.reason.as_deref() == Some(reason)
                    && event.regarding.as_ref().and_then(|regarding| regarding.name.as_deref()) == Some(name)
            };
            holds(events.iter().any(is_it))
        };
        let report = |()| format!("no event {reason} about {name}\n{}", self.operator.log_tail());
        until(published, report).await;
    }

    /// Backs up a state in which `recorded` has a session in its status. The session of `claimed` exists and is not
    /// recorded yet, and `refused` has none. Returns the ids that all of them have later, in this order.
    async fn back_up(&mut self) -> (Backup, [String; 3]) {
        self.apply("claimed").await;
        self.until_held().await;
        self.apply("recorded").await;
        let recorded = self.until_open("recorded").await;
        let busy = Action::retry_after(503, RetryAfter::Seconds(2));
        self.sandbox.inject(Fault::new(Call::Create, busy));
        self.apply("refused").await;
        self.until("refused", |seen| seen.state() == Some(SessionState::NotCreated)).await;
        assert_eq!(self.until("claimed", |_| true).await.state(), Some(SessionState::Claimed));

        for name in ["claimed", "refused"] {
            assert_eq!(self.until(name, |_| true).await.id(), None, "the backup has no id of {name}");
        }

        let backup = self.cluster.back_up();
        self.sandbox.clear_faults();
        std::fs::remove_file(self.hold()).expect("a create is held");
        let claimed = self.until_open("claimed").await;
        let refused = self.until_open("refused").await;
        (backup, [recorded, claimed, refused])
    }

    /// Writes so often that the revisions of the backup stay behind what the operator has seen, although an API server that
    /// starts writes objects of its own before it lets the operator read.
    async fn make_revisions(&self) {
        let secrets: Api<Secret> = Api::namespaced(self.cluster.client().await, &self.namespace);
        for number in 0..300 {
            let patch = Patch::Merge(json!({"metadata": {"annotations": {"revision": number.to_string()}}}));
            secrets.patch(SECRET, &PatchParams::default(), &patch).await.expect("annotate a Secret");
        }
    }

    /// Checks that the ids are shown again, that none but a new resource gets a session, and that all of them end well.
    async fn check(self, ids: [String; 3], creates: u64) {
        let names = ["recorded", "claimed", "refused"];
        self.apply("new").await;
        let new = self.until_open("new").await;
        for (name, id) in names.iter().zip(&ids) {
            let restored = self.until(name, |seen| seen.id().is_some()).await;
            assert_eq!(restored.id().as_ref(), Some(id), "{name}");
        }
        self.until_event("claimed", "StatusRestored").await;
        self.until_event("refused", "StatusRestored").await;
        self.operator.until_ready().await;
        assert!(self.api().await.get_opt("later").await.expect("get a verification").is_none());
        for (name, id) in names.iter().zip(&ids).chain([(&"new", &new)]) {
            self.sandbox.finish(id, Verdict::Verified).expect("the session exists");
            self.until(name, |seen| seen.phase() == Some(Phase::Verified)).await;
        }
        assert_eq!(self.sandbox.count(Endpoint::Create), creates + 1, "one create, for the new resource");
        assert!(self.operator.stop().await.success(), "{}", self.operator.log_tail());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_is_restored_while_the_operator_runs_loses_no_session() {
    let mut restorable = Restorable::start().await;
    let (backup, ids) = restorable.back_up().await;
    restorable.make_revisions().await;
    restorable.apply("later").await;
    restorable.until_open("later").await;
    let creates = restorable.sandbox.count(Endpoint::Create);

    restorable.cluster.restore(&backup, |_| {});
    restorable.operator.until_metric("okid_api_server_rollbacks_total", |rollbacks| rollbacks >= 1.0).await;
    restorable.check(ids, creates).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_is_restored_is_noticed_by_the_lease_of_the_leader() {
    let flags = |namespace: &str| PATIENT.into_iter().chain([namespace]).map(str::to_owned).collect();
    let mut restorable = Restorable::start_with(flags).await;
    let (backup, ids) = restorable.back_up().await;
    let creates = restorable.sandbox.count(Endpoint::Create);
    restorable.make_revisions().await;
    // Of what the operator sees, only the Lease changes before the restore.
    let lease = async || {
        let api: Api<Lease> = Api::namespaced(restorable.cluster.client().await, &restorable.namespace);
        let items = api.list(&ListParams::default()).await.expect("list Leases").items;
        items.into_iter().next().and_then(|lease| lease.metadata.resource_version)
    };
    let before = lease().await;
    until(async || holds(lease().await != before), |()| "the Lease is not renewed".to_owned()).await;

    restorable.cluster.restore(&backup, |_| {});
    restorable.operator.until_metric("okid_api_server_rollbacks_total", |rollbacks| rollbacks >= 1.0).await;
    restorable.check(ids, creates).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_is_restored_with_later_revisions_loses_no_session() {
    let mut restorable = Restorable::start().await;
    let (backup, ids) = restorable.back_up().await;
    restorable.apply("later").await;
    restorable.until_open("later").await;
    let creates = restorable.sandbox.count(Endpoint::Create);

    let handle = Handle::current();
    restorable.cluster.restore(&backup, |etcd| handle.block_on(bump_revision(etcd)));
    restorable.check(ids, creates).await;
}

/// Makes revisions continue far after those before the restore, and forgets the earlier ones, as
/// `etcdutl snapshot restore --bump-revision --mark-compacted` does.
async fn bump_revision(etcd: &str) {
    let http = reqwest::Client::builder().no_proxy().build().expect("make a client");
    let call = async |path: &str, body: Value| {
        let request = http.post(format!("{etcd}/v3/kv/{path}")).timeout(Duration::from_secs(10));
        let response = request.body(body.to_string()).send().await?.error_for_status()?;
        let response = response.bytes().await?;
        Ok::<Value, reqwest::Error>(serde_json::from_slice(&response).expect("etcd answers with JSON"))
    };
    // `bump` in base64, for the key and the value.
    let put = || call("put", json!({"key": "YnVtcA==", "value": "YnVtcA=="}));
    until(put, |error| format!("etcd does not answer: {error}")).await;
    let mut newest = Value::Null;
    for _ in 0..1000 {
        newest = put().await.expect("write to etcd")["header"]["revision"].clone();
    }
    call("compaction", json!({"revision": newest, "physical": true})).await.expect("compact etcd");
}
