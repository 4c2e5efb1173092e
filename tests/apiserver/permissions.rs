//! The operator as a `ServiceAccount` with limited permissions: the minimal role suffices for everything, and a missing
//! permission affects only what it is for.

mod replicas;

use std::collections::BTreeSet;
use std::time::Duration;

use control_plane::Folder;
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use okid_operator::api::{EVIDENCE_FINALIZER, Phase, RETRY, Verification};
use okid_operator::permissions::{self, Scope};
use okid_sandbox::{Action, Call, Endpoint, Fault, Verdict};
use serde_json::{Value, json};

use crate::harness::evidence::{asking, check, files, front};
use crate::harness::{Launch, Operator, VerificationExt as _, World, holds, until};
use crate::stores::Fault as StoreFault;

/// A permission in the namespace that the operator watches: group, resource, verb.
pub(crate) type Permission = (&'static str, &'static str, &'static str);

const GET: Permission = ("okid.io", "verifications", "get");

/// The permission for the finalizer of evidence that is removed with its resource.
const PATCH: Permission = ("okid.io", "verifications", "patch");

/// The minimal role; examples/operator/rbac.yaml explains each permission.
pub(crate) const MINIMAL_ROLE: &[Permission] = &[
    ("okid.io", "verifications", "list"),
    ("okid.io", "verifications", "watch"),
    GET,
    PATCH,
    ("okid.io", "verifications/status", "patch"),
    ("", "secrets", "get"),
    ("events.k8s.io", "events", "create"),
    ("events.k8s.io", "events", "patch"),
];

/// What the leader election needs in the namespace of its Lease.
pub(crate) const LEADER_ROLE: &[Permission] = &[
    ("coordination.k8s.io", "leases", "create"),
    ("coordination.k8s.io", "leases", "get"),
    ("coordination.k8s.io", "leases", "update"),
];

const ACCOUNT: &str = "okid-operator";

#[test]
fn these_roles_are_what_the_list_in_the_code_grants() {
    let of = |holds: &dyn Fn(&permissions::Permission) -> bool| -> BTreeSet<Permission> {
        let needed = permissions::RUN.iter().filter(|needed| holds(needed));
        needed.map(|needed| (needed.api_group, needed.resource, needed.verb)).collect()
    };
    let watched = of(&|needed| needed.scope == Scope::WatchedNamespaces);
    assert_eq!(watched, MINIMAL_ROLE.iter().copied().collect());
    assert_eq!(of(&|needed| needed.is_for_leader_election()), LEADER_ROLE.iter().copied().collect());
}

fn without(resource: &str) -> Vec<Permission> {
    MINIMAL_ROLE.iter().copied().filter(|(_, known, _)| *known != resource).collect()
}

/// A world whose operator runs as a `ServiceAccount`, and its kubeconfig.
struct RestrictedWorld {
    world: World,
    kubeconfig: Folder,
}

impl RestrictedWorld {
    /// A world without an operator, for an account with these permissions.
    async fn prepare(permissions: &[Permission]) -> Self {
        let world = World::builder().without_operator().s3().start().await;
        let kubeconfig = Folder::create("okid-operator-").expect("make a folder");
        let text = std::fs::read_to_string(world.cluster.kubeconfig()).expect("read the kubeconfig");
        let mut config: Value = serde_norway::from_str(&text).expect("a kubeconfig is YAML");
        config["users"][0]["user"]["as"] = json!(account(&world));
        let text = serde_norway::to_string(&config).expect("a kubeconfig is YAML");
        std::fs::write(kubeconfig.path().join("kubeconfig"), text).expect("write the kubeconfig");

        let restricted = Self { world, kubeconfig };
        restricted.grant(permissions).await;
        restricted
    }

    /// The options of its operator.
    fn launch(&self) -> Launch {
        let kubeconfig = self.kubeconfig.path().join("kubeconfig");
        Launch::new().env("KUBECONFIG", kubeconfig.to_str().expect("a path is text"))
    }

    /// A world with an operator that has these permissions.
    async fn start(permissions: &[Permission]) -> Self {
        let mut restricted = Self::prepare(permissions).await;
        let launch = restricted.launch();
        restricted.world.start(launch).await;
        restricted
    }

    /// Grants the account exactly these permissions. They are in effect when this returns.
    async fn grant(&self, permissions: &[Permission]) {
        let namespace = &self.world.namespace;
        let rules: Vec<_> = permissions
            .iter()
            .map(|(group, resource, verb)| json!({"apiGroups": [group], "resources": [resource], "verbs": [verb]}))
            .collect();
        let role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": {"name": ACCOUNT},
            "rules": rules,
        });
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": ACCOUNT},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": ACCOUNT},
            "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": namespace}],
        });
        let apply = PatchParams::apply("okid-tests").force();
        let client = &self.world.client;
        let all: Api<Role> = Api::namespaced(client.clone(), namespace);
        all.patch(ACCOUNT, &apply, &Patch::Apply(&role)).await.expect("write a Role");
        let all: Api<RoleBinding> = Api::namespaced(client.clone(), namespace);
        all.patch(ACCOUNT, &apply, &Patch::Apply(&binding)).await.expect("write a RoleBinding");

        for permission in MINIMAL_ROLE.iter().chain(LEADER_ROLE) {
            let is_applied = async || holds(self.may(*permission).await == permissions.contains(permission));
            until(is_applied, |()| "the API server does not apply the Role".to_owned()).await;
        }
    }

    async fn may(&self, (group, resource, verb): Permission) -> bool {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let review = json!({"metadata": {}, "spec": {
            "user": account(&self.world),
            "resourceAttributes": {
                "namespace": self.world.namespace, "group": group, "resource": resource, "subresource": subresource,
                "verb": verb,
            },
        }});
        let review: SubjectAccessReview = serde_json::from_value(review).expect("a review");
        let api: Api<SubjectAccessReview> = Api::all(self.world.client.clone());
        let response = api.create(&PostParams::default(), &review).await.expect("ask for a review");
        response.status.is_some_and(|status| status.allowed)
    }
}

fn account(world: &World) -> String {
    format!("system:serviceaccount:{}:{ACCOUNT}", world.namespace)
}

fn all_but(permission: Permission) -> Vec<Permission> {
    MINIMAL_ROLE.iter().copied().filter(|known| *known != permission).collect()
}

fn is_open(seen: &Verification) -> bool {
    seen.phase() == Some(Phase::AwaitingUser)
}

/// Finishes a check from apply to the verdict.
async fn finishes(world: &World, name: &str) {
    let id = world.create_session(name, json!({})).await;
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    let over = world.until(name, |seen| seen.status_or_default().settled).await;
    assert_eq!(over.phase(), Some(Phase::Verified));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_minimal_role_suffices_from_apply_to_verdict() {
    let restricted = RestrictedWorld::start(MINIMAL_ROLE).await;
    let world = &restricted.world;
    finishes(world, "alice").await;
    world.until_events("alice", &["SessionCreated", "Verified"]).await;
    assert_eq!(world.operator().metric("okid_events_dropped_total").await, 0.0);
    restricted.world.finish().await;
}

/// Evidence that is removed with its resource.
fn with_policy_delete() -> Value {
    let mut evidence = front();
    evidence["deletionPolicy"] = json!("Delete");
    asking(evidence)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_minimal_role_suffices_for_evidence_and_its_removal() {
    let restricted = RestrictedWorld::start(MINIMAL_ROLE).await;
    let world = &restricted.world;
    world.create_and_finish("alice", with_policy_delete(), Verdict::Verified).await;
    let stored = world.until("alice", |seen| seen.shows(&["EvidenceStored=True/Stored"])).await;
    check(&stored, &world.in_s3(&stored));
    world.delete("alice").await;
    assert!(files(&world.in_s3(&stored)).is_empty());
    assert_eq!(world.operator().metric("okid_reconcile_retries_total").await, 0.0);
    restricted.world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_permission_for_the_finalizer_evidence_with_policy_delete_is_not_stored() {
    let restricted = RestrictedWorld::start(&all_but(PATCH)).await;
    let world = &restricted.world;
    world.create_and_finish("alice", with_policy_delete(), Verdict::Verified).await;
    world.until("alice", |seen| seen.phase() == Some(Phase::Storing)).await;
    // Evidence that is not removed with its resource needs no finalizer.
    world.create_and_finish("bob", asking(front()), Verdict::Verified).await;
    world.until("bob", |seen| seen.status_or_default().settled).await;
    assert_eq!(world.sandbox().count(Endpoint::ImageFront), 1, "for bob");
    let refused = ["EvidenceStored=False/FinalizerDenied", "Reconciling=True/StoringEvidence"];
    let alice = world.until_with_clock("alice", |seen| seen.shows(&refused)).await;
    let conditions = alice.status_or_default().conditions;
    let stored = conditions.iter().find(|condition| condition.type_ == "EvidenceStored").unwrap();
    assert!(stored.message.contains("okid.io/evidence"), "{}", stored.message);

    world.advance_clock(Duration::from_hours(24));
    let failed =
        ["EvidenceStored=False/FinalizerDenied", "Stalled=True/EvidenceFailed", "Verified=True/Verified"];
    let alice = world.until_with_clock("alice", |seen| seen.shows(&failed)).await;
    assert!(files(&world.in_s3(&alice)).is_empty());
    world.until_event("alice", "EvidenceFailed").await;

    restricted.grant(MINIMAL_ROLE).await;
    world.annotate("alice", RETRY, "granted").await;
    let stored = world.until_with_polls("alice", |seen| seen.shows(&["EvidenceStored=True/Stored"])).await;
    check(&stored, &world.in_s3(&stored));
    until_logged_once(world, PATCH, &["alice"]).await;
    restricted.world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stored_evidence_that_cannot_be_recorded_is_requested_once_and_recorded_later() {
    let restricted = RestrictedWorld::start(MINIMAL_ROLE).await;
    let world = &restricted.world;
    world.s3().proxy.next([StoreFault::Hold]);
    let id = world.create_and_finish("alice", asking(front()), Verdict::Verified).await;
    world.until_portal("an upload in flight", |world| world.s3().proxy.held() == 1).await;
    restricted.grant(&without("verifications/status")).await;
    world.s3().proxy.release();
    let repeated = world.operator().metric("okid_reconcile_retries_total").await;
    world.operator().until_metric("okid_reconcile_retries_total", |value| value >= repeated + 3.0).await;
    let requests =
        |world: &World| (world.sandbox().session(&id).unwrap().image_requests, world.s3().proxy.arrived());
    assert_eq!(
        requests(world),
        (1, 3),
        "the image, the image again as the check of conditional writes, the manifest"
    );

    restricted.grant(MINIMAL_ROLE).await;
    let over = world.until("alice", |seen| seen.status_or_default().settled).await;
    check(&over, &world.in_s3(&over));
    assert_eq!(requests(world), (1, 3));
    world.until_event("alice", "EvidenceStored").await;
    restricted.world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_permission_to_read_secrets_it_reports_that_and_recovers_once_granted() {
    let restricted = RestrictedWorld::start(&without("secrets")).await;
    let world = &restricted.world;
    world.apply("alice", json!({})).await;
    let waiting = [
        "CredentialsReady=False/SecretForbidden",
        "Ready=False/SecretForbidden",
        "Reconciling=True/SecretForbidden",
        "Stalled=",
    ];
    world.until("alice", |seen| seen.shows(&waiting)).await;
    assert_eq!(world.creates(), 0);

    restricted.grant(MINIMAL_ROLE).await;
    world.until("alice", |seen| is_open(seen) && seen.shows(&["CredentialsReady=True/Accepted"])).await;
    restricted.world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_permission_to_write_events_everything_else_works() {
    let restricted = RestrictedWorld::start(&without("events")).await;
    let world = &restricted.world;
    finishes(world, "alice").await;
    world.operator().until_metric("okid_events_dropped_total", |value| value == 2.0).await;
    world.until_events("alice", &[]).await;
    restricted.world.finish().await;
}

/// Waits until the log says that a refused call works again, and checks that the refusal was logged once.
async fn until_logged_once(world: &World, permission: Permission, names: &[&str]) {
    let (_, resource, verb) = permission;
    let about = |line: &Value| line["verb"] == verb && line["resource"] == resource;
    let again = |line: &Value| about(line) && line["level"] == "INFO";
    world.operator().until_logged("that it works again", again).await;
    let lines: Vec<_> = world.operator().log_lines().into_iter().filter(about).collect();
    let [refused, _again] = lines.as_slice() else { panic!("not one refusal and one recovery: {lines:#?}") };
    assert_eq!((&refused["level"], &refused["code"]), (&json!("WARN"), &json!(403)), "{refused}");
    assert_eq!((&refused["reason"], &refused["namespace"]), (&json!("Forbidden"), &json!(world.namespace)));
    assert!(names.contains(&refused["name"].as_str().unwrap()), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_permission_to_write_status_it_logs_once_and_calls_no_portal() {
    let restricted = RestrictedWorld::start(&without("verifications/status")).await;
    let world = &restricted.world;
    world.apply("alice", json!({})).await;
    world.apply("bob", json!({})).await;
    world.operator().until_metric("okid_reconcile_retries_total", |value| value >= 4.0).await;
    assert_eq!(world.creates(), 0);
    assert_eq!(world.get("alice").await.status_or_default().observed_generation, Some(-1));

    restricted.grant(MINIMAL_ROLE).await;
    for name in ["alice", "bob"] {
        assert_eq!(world.until(name, is_open).await.session().attempt, 1);
    }
    assert_eq!(world.creates(), 2);
    until_logged_once(world, ("okid.io", "verifications/status", "patch"), &["alice", "bob"]).await;
    restricted.world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_permission_to_write_status_stops_everything_until_it_is_restored() {
    let restricted = RestrictedWorld::start(MINIMAL_ROLE).await;
    let world = &restricted.world;
    let id = world.create_session("alice", json!({})).await;
    restricted.grant(&without("verifications/status")).await;
    let repeated = world.operator().metric("okid_reconcile_retries_total").await;
    world.apply("bob", json!({})).await;
    world.sandbox().finish(&id, Verdict::Rejected).unwrap();
    world.operator().until_metric("okid_reconcile_retries_total", |value| value >= repeated + 2.0).await;
    assert_eq!(world.creates(), 1);
    assert_eq!(world.get("alice").await.phase(), Some(Phase::AwaitingUser));

    restricted.grant(MINIMAL_ROLE).await;
    let over = world.until("alice", |seen| seen.status_or_default().settled).await;
    assert_eq!((over.phase(), over.id()), (Some(Phase::Rejected), Some(id)));
    world.until("bob", is_open).await;
    restricted.world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_that_may_not_be_written_is_retried_with_backoff_until_it_may() {
    let restricted = RestrictedWorld::start(MINIMAL_ROLE).await;
    let world = &restricted.world;
    let hang = world.sandbox().inject(Fault::new(Call::Create, Action::Hang).once().after());
    world.apply("alice", json!({})).await;
    world.until_portal("a create", |world| world.sandbox().hits(hang) == 1).await;
    restricted.grant(&without("verifications/status")).await;
    world.sandbox().clear(hang);
    world.operator().until_metric("okid_status_record_retries_total", |value| value >= 4.0).await;
    let writes = world.operator().metric("okid_status_writes_total").await;
    let retries = world.operator().metric("okid_status_record_retries_total").await;
    // The claim, one write before each pause, and perhaps one in flight.
    assert!(writes <= retries + 2.0, "{writes} writes, {retries} retries");

    restricted.grant(MINIMAL_ROLE).await;
    let open = world.until("alice", is_open).await;
    assert_eq!(open.id(), Some(world.sandbox().sessions()[0].id.clone()));
    assert_eq!((world.creates(), open.session().attempt, open.session().orphans), (1, 1, 0));
    restricted.world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_permission_to_read_verifications_it_logs_once_and_calls_no_portal() {
    let mut restricted = RestrictedWorld::prepare(&all_but(GET)).await;
    // What the first list returns is read again before its first reconcile.
    restricted.world.apply("alice", json!({})).await;
    let launch = restricted.launch();
    restricted.world.start(launch).await;
    let world = &restricted.world;
    world.operator().until_metric("okid_reconcile_retries_total", |value| value >= 2.0).await;
    assert_eq!(world.creates(), 0);

    restricted.grant(MINIMAL_ROLE).await;
    world.until("alice", is_open).await;
    until_logged_once(world, GET, &["alice"]).await;
    restricted.world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_that_may_not_watch_is_not_ready_and_says_why() {
    let permissions: Vec<_> = MINIMAL_ROLE.iter().copied().filter(|(_, _, verb)| *verb != "watch").collect();
    let mut restricted = RestrictedWorld::prepare(&permissions).await;
    let launch = restricted.launch();
    let operator = restricted.world.another(launch);
    operator.until_metric("okid_watch_interruptions_total", |value| value >= 3.0).await;
    let refused = |line: &Value| line["level"] == "WARN" && line["code"] == 403;
    let lines: Vec<_> = operator.log_lines().into_iter().filter(refused).collect();
    let [line] = lines.as_slice() else { panic!("it is not logged once: {lines:#?}") };
    assert_eq!((&line["action"], &line["reason"]), (&json!("start a watch"), &json!("Forbidden")));
    let response = operator.ask("/readyz").await;
    assert!(!response.status().is_success());
    let body = response.text().await.unwrap();
    let waits = "waiting for the first list of verifications; tried to start a watch: 403 Forbidden\n";
    assert_eq!(body, waits);

    restricted.grant(MINIMAL_ROLE).await;
    operator.until_watching().await;
    assert!(operator.ready().await);
    assert!(operator.stop().await.success());
    restricted.world.finish().await;
}
