//! What the operator requests, by the API server's audit log: every permission in the list in the code is used, nothing
//! else is requested, and next to nothing by replicas that have nothing to do.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use okid_operator::api::{EVIDENCE_FINALIZER, Verification};
use okid_operator::permissions::{Objects, Permission, RELEASE_FINALIZERS, RUN, Scope};
use okid_sandbox::Verdict;
use serde_json::json;

use crate::harness::evidence::{asking, front};
use crate::harness::{
    ACCOUNT, AuditLog, AuditedRequest, Cluster, Operator, VerificationExt as _, World, of_scope, until,
};
use crate::leader_election::{replica_in, world_with_standby};
use crate::stores::Fault;

const LEASES: (&str, &str) = ("coordination.k8s.io", "leases");
const VERIFICATIONS: (&str, &str) = ("okid.io", "verifications");

/// The document of the schema, which everybody may read.
const OPENAPI: &str = "/openapi/v3/apis/okid.io/v1alpha1";

/// The namespaces of an operator: the one that it watches, and its own.
struct Places<'a> {
    watched: &'a str,
    own: &'a str,
}

impl Places<'_> {
    /// Whether a request needs this permission.
    fn needs(&self, permission: &Permission, request: &AuditedRequest) -> bool {
        let Some(object) = &request.object_ref else { return false };
        let namespace = match permission.scope {
            Scope::WatchedNamespaces => self.watched,
            Scope::OwnNamespace => self.own,
        };
        let is_named = permission.objects == Objects::All || object.name == ACCOUNT;
        request.is((permission.api_group, permission.resource), permission.verb)
            && object.namespace == namespace
            && is_named
    }

    /// Waits until each permission was needed by a request, and checks that no request needed another one.
    async fn check(&self, permissions: &[Permission], log: &mut AuditLog) {
        let all_used = async || {
            let requests = log.requests();
            let is_unused =
                |permission: &&Permission| !requests.iter().any(|request| self.needs(permission, request));
            let unused: Vec<_> = permissions.iter().filter(is_unused).collect();
            if unused.is_empty() { Ok(()) } else { Err(format!("never used: {unused:#?}")) }
        };
        until(all_used, |unused| unused).await;
        let is_expected = |request: &&AuditedRequest| {
            let needs = permissions.iter().any(|permission| self.needs(permission, request));
            (needs || request.path() == Some(OPENAPI)) && request.is_allowed()
        };
        let others: BTreeSet<_> =
            log.requests().iter().filter(|request| !is_expected(request)).map(ToString::to_string).collect();
        assert!(others.is_empty(), "not listed, or not granted: {others:#?}");
    }
}

/// A Verification with a warning that is repeated: its Secret is missing before and after a pause.
async fn warn_twice(world: &World) {
    let missing = |seen: &Verification| seen.shows(&["Ready=False/SecretNotFound"]);
    world.apply("bob", json!({"apiKeySecretRef": {"name": "missing"}})).await;
    world.until("bob", missing).await;
    world.patch_spec("bob", json!({"suspend": true})).await;
    world.until("bob", |seen| !missing(seen)).await;
    world.patch_spec("bob", json!({"suspend": false})).await;
    world.until("bob", missing).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_uses_every_permission_and_requests_nothing_else() {
    // Without streaming lists.
    let cluster = Cluster::start_with(&["--feature-gates=WatchList=false"]).await;
    cluster.install_definition().await;
    let mut world = World::builder().cluster(cluster).s3().without_operator().start().await;
    let own = world.cluster.new_namespace(&world.client).await;
    world.account.grant(Some(&world.namespace), &of_scope(RUN, Scope::WatchedNamespaces)).await;
    world.account.grant(Some(&own), &of_scope(RUN, Scope::OwnNamespace)).await;
    let mut log = AuditLog::from_now(&world.cluster, world.account.user());
    let pod = ["--pod-name", "okid-operator-0", "--pod-uid", "the-uid", "--pod-namespace", &own];
    world.start(replica_in(&own).flags(pod)).await;

    warn_twice(&world).await;
    let mut evidence = front();
    evidence["deletionPolicy"] = json!("Delete");
    world.create_and_finish("alice", asking(evidence), Verdict::Verified).await;
    world.until("alice", |seen| seen.shows(&["EvidenceStored=True/Stored"])).await;
    world.s3().proxy.whenever(Method::DELETE, Fault::Answer(403, "<Error><Code>AccessDenied</Code></Error>"));
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    namespaces.delete(&world.namespace, &DeleteParams::default()).await.unwrap();
    world.delete("alice").await;

    Places { watched: &world.namespace, own: &own }.check(RUN, &mut log).await;
    let is_page = |request: &AuditedRequest| {
        request.is(VERIFICATIONS, "list") && request.to_string().contains("limit=500")
    };
    assert!(log.requests().iter().any(is_page), "there is no list without streaming");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_removal_of_finalizers_uses_every_permission_and_requests_nothing_else() {
    let world = World::builder().without_operator().start().await;
    let own = world.cluster.new_namespace(&world.client).await;
    for (scope, namespace) in [(Scope::WatchedNamespaces, &world.namespace), (Scope::OwnNamespace, &own)] {
        world.account.grant(Some(namespace), &of_scope(RELEASE_FINALIZERS, scope)).await;
    }
    let labels = json!({"app": "okid-operator"});
    let deployment = json!({"metadata": {"name": ACCOUNT}, "spec": {
        "replicas": 2,
        "selector": {"matchLabels": labels},
        "template": {
            "metadata": {"labels": labels},
            "spec": {"containers": [{"name": "operator", "image": "okid-operator"}]},
        },
    }});
    let deployments: Api<Deployment> = Api::namespaced(world.client.clone(), &own);
    deployments.create(&PostParams::default(), &serde_json::from_value(deployment).unwrap()).await.unwrap();
    world.apply("alice", json!({"suspend": true})).await;
    let held = Patch::Merge(json!({"metadata": {"finalizers": [EVIDENCE_FINALIZER]}}));
    world.api().patch("alice", &PatchParams::default(), &held).await.unwrap();

    let mut log = AuditLog::from_now(&world.cluster, world.account.user());
    let command = Operator::program(world.kubeconfig()).args([
        "release-finalizers",
        "--namespace",
        &world.namespace,
        "--stop-deployment",
        ACCOUNT,
        "--pod-selector",
        "app=okid-operator",
        "--pod-namespace",
        &own,
    ]);
    let release = world.run(command, world.folder().join("release.log"));
    assert!(release.wait().await.success(), "{}", release.log());
    let scaled = deployments.get(ACCOUNT).await.unwrap().spec.unwrap().replicas;
    assert_eq!((scaled, world.get("alice").await.metadata.finalizers), (Some(0), None));
    Places { watched: &world.namespace, own: &own }.check(RELEASE_FINALIZERS, &mut log).await;
    world.finish().await;
}

/// Two replicas that have nothing left to do: one leads, the other stands by. So many Verifications are settled.
async fn idle_replicas(settled: usize) -> (World, Operator) {
    let (world, standby) = world_with_standby(|launch| launch).await;
    for number in 0..settled {
        let name = format!("person-{number}");
        world.create_and_finish(&name, json!({}), Verdict::Verified).await;
        world.until(&name, |seen| seen.status_or_default().settled).await;
        world.until_events(&name, &["SessionCreated", "Verified"]).await;
    }
    for operator in [world.operator(), &standby] {
        operator.until_metric("okid_live_verifications", |live| live == 0.0).await;
    }
    (world, standby)
}

/// What both replicas request while the leader renews its Lease so often, and how often each: nothing is expected but
/// requests for the Lease and renewals of the watch.
async fn unexpected_requests(world: &World, renewals: usize) -> BTreeMap<String, usize> {
    let mut log = AuditLog::from_now(&world.cluster, world.account.user());
    let renewed = async || {
        let requests = log.requests().iter();
        let count = requests.filter(|request| request.is(LEASES, "update")).count();
        if count >= renewals { Ok(()) } else { Err(count) }
    };
    until(renewed, |count| format!("the Lease was renewed {count} times, not {renewals}")).await;
    let mut others = BTreeMap::new();
    for request in log.requests() {
        let is_expected =
            request.is(LEASES, "get") || request.is(LEASES, "update") || request.is(VERIFICATIONS, "watch");
        if !is_expected {
            *others.entry(request.to_string()).or_default() += 1;
        }
    }
    others
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_replicas_request_only_their_lease_and_renewals_of_their_watches() {
    /// Every other second: a minute.
    const RENEWALS: usize = 30;
    let without = async {
        let (world, standby) = idle_replicas(0).await;
        (unexpected_requests(&world, RENEWALS).await, world, standby)
    };
    let with_settled = async {
        let (world, standby) = idle_replicas(5).await;
        (unexpected_requests(&world, RENEWALS).await, world, standby)
    };
    let (without, with_settled) = tokio::join!(without, with_settled);
    for (others, world, standby) in [without, with_settled] {
        assert_eq!(others, BTreeMap::new(), "unexpected requests, and how often");
        assert!(standby.stop().await.success());
        world.finish().await;
    }
}
