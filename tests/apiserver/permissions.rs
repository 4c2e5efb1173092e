//! The operator as a `ServiceAccount` of limited rights: with the least it needs everything works, and a right that is
//! missing harms nothing but what it is for.

use std::time::{Duration, Instant};

use control_plane::Folder;
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use okid_operator::api::{Phase, RETRY, Verification};
use okid_sandbox::{Action, Call, Endpoint, Fault, Verdict};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::harness::evidence::{asking, check, files, front};
use crate::harness::{LIMIT, LOOK_EVERY, Launch, Seen as _, World};
use crate::stores::Fault as StoreFault;

/// A right in the namespace that the operator watches: group, resource, verb.
pub(crate) type Right = (&'static str, &'static str, &'static str);

const GET: Right = ("okid.io", "verifications", "get");

/// The finalizer of evidence that is removed with its resource.
const PATCH: Right = ("okid.io", "verifications", "patch");

/// The least that suffices for the whole way; examples/operator/rbac.yaml says what each is for.
pub(crate) const LEAST: &[Right] = &[
    ("okid.io", "verifications", "list"),
    ("okid.io", "verifications", "watch"),
    GET,
    PATCH,
    ("okid.io", "verifications/status", "patch"),
    ("", "secrets", "get"),
    ("events.k8s.io", "events", "create"),
    ("events.k8s.io", "events", "patch"),
];

const ACCOUNT: &str = "okid-operator";

fn without(resource: &str) -> Vec<Right> {
    LEAST.iter().copied().filter(|(_, known, _)| *known != resource).collect()
}

/// A world whose operator runs as a `ServiceAccount`, and the folder with its kubeconfig.
struct Guarded {
    world: World,
    kubeconfig: Folder,
}

impl Guarded {
    /// The scene without an operator, for an account with these rights.
    async fn set(rights: &[Right]) -> Self {
        let world = World::builder().without_operator().s3().start().await;
        let kubeconfig = Folder::create("okid-operator-").expect("make a folder");
        let text = std::fs::read_to_string(world.cluster.kubeconfig()).expect("read the kubeconfig");
        let mut config: Value = serde_norway::from_str(&text).expect("a kubeconfig is YAML");
        config["users"][0]["user"]["as"] = json!(account(&world));
        let text = serde_norway::to_string(&config).expect("a kubeconfig is YAML");
        std::fs::write(kubeconfig.path().join("kubeconfig"), text).expect("write the kubeconfig");

        let guarded = Self { world, kubeconfig };
        guarded.grant(rights).await;
        guarded
    }

    /// What its operator is started with.
    fn launch(&self) -> Launch {
        let kubeconfig = self.kubeconfig.path().join("kubeconfig");
        Launch::new().env("KUBECONFIG", kubeconfig.to_str().expect("a path is text"))
    }

    /// The scene with an operator that has these rights.
    async fn start(rights: &[Right]) -> Self {
        let mut guarded = Self::set(rights).await;
        let launch = guarded.launch();
        guarded.world.start(launch).await;
        guarded
    }

    /// Gives the account these rights and takes all others away; the API server knows when this returns.
    async fn grant(&self, rights: &[Right]) {
        let namespace = &self.world.namespace;
        let rules: Vec<_> = rights
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

        let since = Instant::now();
        for right in LEAST {
            while self.may(*right).await != rights.contains(right) {
                assert!(since.elapsed() < LIMIT, "the API server does not take over the Role");
                sleep(LOOK_EVERY).await;
            }
        }
    }

    async fn may(&self, (group, resource, verb): Right) -> bool {
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
        let answer = api.create(&PostParams::default(), &review).await.expect("ask for a review");
        answer.status.is_some_and(|status| status.allowed)
    }
}

fn account(world: &World) -> String {
    format!("system:serviceaccount:{}:{ACCOUNT}", world.namespace)
}

fn but(right: Right) -> Vec<Right> {
    LEAST.iter().copied().filter(|known| *known != right).collect()
}

fn is_open(seen: &Verification) -> bool {
    seen.phase() == Some(Phase::AwaitingUser)
}

/// From apply to the verdict.
async fn goes_the_whole_way(world: &World, name: &str) {
    let id = world.invite(name, json!({})).await;
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    let over = world.until(name, |seen| seen.found().settled).await;
    assert_eq!(over.phase(), Some(Phase::Verified));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_least_rights_suffice_for_the_whole_way() {
    let guarded = Guarded::start(LEAST).await;
    let world = &guarded.world;
    goes_the_whole_way(world, "alice").await;
    world.until_events("alice", &["SessionCreated", "Verified"]).await;
    assert_eq!(world.operator().metric("okid_events_dropped_total").await, 0.0);
    guarded.world.finish().await;
}

/// Evidence that is removed with its resource.
fn removed_with_it() -> Value {
    let mut evidence = front();
    evidence["deletionPolicy"] = json!("Delete");
    asking(evidence)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_least_rights_suffice_for_evidence_and_its_removal() {
    let guarded = Guarded::start(LEAST).await;
    let world = &guarded.world;
    world.judged("alice", removed_with_it(), Verdict::Verified).await;
    let stored = world.until("alice", |seen| seen.shows(&["EvidenceStored=True/Stored"])).await;
    check(&stored, &world.in_s3(&stored));
    world.delete("alice").await;
    assert!(files(&world.in_s3(&stored)).is_empty());
    assert_eq!(world.operator().metric("okid_reconcile_retries_total").await, 0.0);
    guarded.world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_right_to_hold_a_resource_nothing_is_stored_that_goes_with_it_until_it_may() {
    let guarded = Guarded::start(&but(PATCH)).await;
    let world = &guarded.world;
    world.judged("alice", removed_with_it(), Verdict::Verified).await;
    world.until("alice", |seen| seen.phase() == Some(Phase::Storing)).await;
    // What is not removed with its resource needs no such right.
    world.judged("bob", asking(front()), Verdict::Verified).await;
    world.until("bob", |seen| seen.found().settled).await;
    assert_eq!(world.sandbox().count(Endpoint::ImageFront), 1, "for bob");
    let refused = ["EvidenceStored=False/FinalizerDenied", "Reconciling=True/StoringEvidence"];
    let alice = world.until_later("alice", |seen| seen.shows(&refused)).await;
    let conditions = alice.found().conditions;
    let told = conditions.iter().find(|condition| condition.type_ == "EvidenceStored").unwrap();
    assert!(told.message.contains("okid.io/evidence"), "{}", told.message);

    world.turn_clock(Duration::from_hours(24));
    let failed =
        ["EvidenceStored=False/FinalizerDenied", "Stalled=True/EvidenceFailed", "Verified=True/Verified"];
    let alice = world.until_later("alice", |seen| seen.shows(&failed)).await;
    assert!(files(&world.in_s3(&alice)).is_empty());
    world.until_event("alice", "EvidenceFailed").await;

    guarded.grant(LEAST).await;
    world.annotate("alice", RETRY, "granted").await;
    let stored = world.until_nudged("alice", |seen| seen.shows(&["EvidenceStored=True/Stored"])).await;
    check(&stored, &world.in_s3(&stored));
    until_told_once(world, PATCH, &["alice"]).await;
    guarded.world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_stored_and_may_not_be_written_down_is_asked_for_once_and_written_down_when_it_may() {
    let guarded = Guarded::start(LEAST).await;
    let world = &guarded.world;
    world.s3().proxy.next([StoreFault::Hold]);
    let id = world.judged("alice", asking(front()), Verdict::Verified).await;
    world.until_portal("an upload under way", |world| world.s3().proxy.held() == 1).await;
    guarded.grant(&without("verifications/status")).await;
    world.s3().proxy.release();
    let repeated = world.operator().metric("okid_reconcile_retries_total").await;
    world.operator().until_metric("okid_reconcile_retries_total", |value| value >= repeated + 3.0).await;
    let asked =
        |world: &World| (world.sandbox().session(&id).unwrap().image_requests, world.s3().proxy.arrived());
    assert_eq!(asked(world), (1, 3), "the image, once more to see that the store refuses it, the manifest");

    guarded.grant(LEAST).await;
    let over = world.until("alice", |seen| seen.found().settled).await;
    check(&over, &world.in_s3(&over));
    assert_eq!(asked(world), (1, 3));
    world.until_event("alice", "EvidenceStored").await;
    guarded.world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_right_to_read_secrets_it_says_so_and_goes_on_once_it_may() {
    let guarded = Guarded::start(&without("secrets")).await;
    let world = &guarded.world;
    world.apply("alice", json!({})).await;
    let waiting = [
        "CredentialsReady=False/SecretForbidden",
        "Ready=False/SecretForbidden",
        "Reconciling=True/SecretForbidden",
        "Stalled=",
    ];
    world.until("alice", |seen| seen.shows(&waiting)).await;
    assert_eq!(world.creates(), 0);

    guarded.grant(LEAST).await;
    world.until("alice", |seen| is_open(seen) && seen.shows(&["CredentialsReady=True/Accepted"])).await;
    guarded.world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_right_to_write_events_everything_else_works() {
    let guarded = Guarded::start(&without("events")).await;
    let world = &guarded.world;
    goes_the_whole_way(world, "alice").await;
    world.operator().until_metric("okid_events_dropped_total", |value| value == 2.0).await;
    world.until_events("alice", &[]).await;
    guarded.world.finish().await;
}

/// Waits until the log says that a call works again that was refused, and that it was told once that it is refused.
async fn until_told_once(world: &World, right: Right, names: &[&str]) {
    let (_, resource, verb) = right;
    let about = |line: &Value| line["verb"] == verb && line["resource"] == resource;
    let again = |line: &Value| about(line) && line["level"] == "INFO";
    world.operator().until_logged("that it works again", again).await;
    let told: Vec<_> = world.operator().log_lines().into_iter().filter(about).collect();
    let [refused, _again] = told.as_slice() else { panic!("not one refusal and one end: {told:#?}") };
    assert_eq!((&refused["level"], &refused["code"]), (&json!("WARN"), &json!(403)), "{refused}");
    assert_eq!((&refused["reason"], &refused["namespace"]), (&json!("Forbidden"), &json!(world.namespace)));
    assert!(names.contains(&refused["name"].as_str().unwrap()), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_right_to_write_status_it_says_so_once_and_asks_nothing_of_the_portal_until_it_may() {
    let guarded = Guarded::start(&without("verifications/status")).await;
    let world = &guarded.world;
    world.apply("alice", json!({})).await;
    world.apply("bob", json!({})).await;
    world.operator().until_metric("okid_reconcile_retries_total", |value| value >= 4.0).await;
    assert_eq!(world.creates(), 0);
    assert_eq!(world.get("alice").await.found().observed_generation, Some(-1));

    guarded.grant(LEAST).await;
    for name in ["alice", "bob"] {
        assert_eq!(world.until(name, is_open).await.session().attempt, 1);
    }
    assert_eq!(world.creates(), 2);
    until_told_once(world, ("okid.io", "verifications/status", "patch"), &["alice", "bob"]).await;
    guarded.world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_to_write_status_that_is_taken_away_stops_everything_and_gives_all_back_later() {
    let guarded = Guarded::start(LEAST).await;
    let world = &guarded.world;
    let id = world.invite("alice", json!({})).await;
    guarded.grant(&without("verifications/status")).await;
    let repeated = world.operator().metric("okid_reconcile_retries_total").await;
    world.apply("bob", json!({})).await;
    world.sandbox().finish(&id, Verdict::Rejected).unwrap();
    world.operator().until_metric("okid_reconcile_retries_total", |value| value >= repeated + 2.0).await;
    assert_eq!(world.creates(), 1);
    assert_eq!(world.get("alice").await.phase(), Some(Phase::AwaitingUser));

    guarded.grant(LEAST).await;
    let over = world.until("alice", |seen| seen.found().settled).await;
    assert_eq!((over.phase(), over.id()), (Some(Phase::Rejected), Some(id)));
    world.until("bob", is_open).await;
    guarded.world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_may_not_be_written_is_tried_with_pauses_until_it_may() {
    let guarded = Guarded::start(LEAST).await;
    let world = &guarded.world;
    let hang = world.sandbox().inject(Fault::new(Call::Create, Action::Hang).once().after());
    world.apply("alice", json!({})).await;
    world.until_portal("a create", |world| world.sandbox().hits(hang) == 1).await;
    guarded.grant(&without("verifications/status")).await;
    world.sandbox().clear(hang);
    world.operator().until_metric("okid_status_record_retries_total", |value| value >= 4.0).await;
    let writes = world.operator().metric("okid_status_writes_total").await;
    let retries = world.operator().metric("okid_status_record_retries_total").await;
    // The claim, one write before each pause, and perhaps one that is under way.
    assert!(writes <= retries + 2.0, "{writes} writes, {retries} retries");

    guarded.grant(LEAST).await;
    let open = world.until("alice", is_open).await;
    assert_eq!(open.id(), Some(world.sandbox().sessions()[0].id.clone()));
    assert_eq!((world.creates(), open.session().attempt, open.session().orphans), (1, 1, 0));
    guarded.world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_right_to_read_verifications_it_says_so_once_and_asks_nothing_of_the_portal_until_it_may()
{
    let mut guarded = Guarded::set(&but(GET)).await;
    // What the list at the start brings is read before its first turn.
    guarded.world.apply("alice", json!({})).await;
    let launch = guarded.launch();
    guarded.world.start(launch).await;
    let world = &guarded.world;
    world.operator().until_metric("okid_reconcile_retries_total", |value| value >= 2.0).await;
    assert_eq!(world.creates(), 0);

    guarded.grant(LEAST).await;
    world.until("alice", is_open).await;
    until_told_once(world, GET, &["alice"]).await;
    guarded.world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_that_may_not_watch_is_not_ready_and_says_what_it_waits_for() {
    let rights: Vec<_> = LEAST.iter().copied().filter(|(_, _, verb)| *verb != "watch").collect();
    let mut guarded = Guarded::set(&rights).await;
    let launch = guarded.launch();
    let operator = guarded.world.another(launch);
    operator.until_metric("okid_watch_interruptions_total", |value| value >= 3.0).await;
    let refused = |line: &Value| line["level"] == "WARN" && line["code"] == 403;
    let told: Vec<_> = operator.log_lines().into_iter().filter(refused).collect();
    let [told] = told.as_slice() else { panic!("it is not told once: {told:#?}") };
    assert_eq!((&told["action"], &told["reason"]), (&json!("start a watch"), &json!("Forbidden")));
    let answer = operator.ask("/readyz").await;
    assert!(!answer.status().is_success());
    let said = answer.text().await.unwrap();
    let waits = "waiting for the first list of verifications; tried to start a watch: 403 Forbidden\n";
    assert_eq!(said, waits);

    guarded.grant(LEAST).await;
    operator.until_watching().await;
    assert!(operator.ready().await);
    assert!(operator.stop().await.success());
    guarded.world.finish().await;
}
