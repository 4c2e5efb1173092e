//! What an operator watches: several namespaces, and what a label selector selects.

use std::collections::BTreeSet;

use clap::Parser as _;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use okid_operator::api::{Phase, SessionState, Verification};
use okid_operator::permissions::{RUN, Scope};
use okid_operator::settings::{Command, CommandLine};
use okid_sandbox::{Action, Call, Fault, Sandbox, Verdict};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::harness::{LIMIT, Launch, Operator, SECRET, VerificationExt as _, World, all, of_scope};

const LABEL: &str = "sharding.fluxcd.io/key";
const READS: &str = "okid_verification_reads_total";

fn is_open(seen: &Verification) -> bool {
    seen.phase() == Some(Phase::AwaitingUser)
}

/// Creates a Secret and a verification in a namespace that is not the world's, and waits until its link is published.
async fn create_in(world: &World, namespace: &str, portal: &Sandbox) -> Verification {
    let secrets: Api<Secret> = Api::namespaced(world.client.clone(), namespace);
    let secret = json!({"metadata": {"name": SECRET}, "stringData": {"apiKey": world.key}});
    let _ = secrets.create(&PostParams::default(), &serde_json::from_value(secret).unwrap()).await;
    let api: Api<Verification> = Api::namespaced(world.client.clone(), namespace);
    let object = json!({
        "apiVersion": "okid.io/v1alpha1", "kind": "Verification", "metadata": {"name": "alice"},
        "spec": {"apiKeySecretRef": {"name": SECRET}, "portal": portal.url()},
    });
    api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
    until_open(&api, "alice").await
}

async fn until_open(api: &Api<Verification>, name: &str) -> Verification {
    let open = await_condition(api.clone(), name, |seen: Option<&Verification>| seen.is_some_and(is_open));
    timeout(LIMIT, open).await.expect("the link is published in time").unwrap().unwrap()
}

async fn label(world: &World, name: &str, value: &str) {
    let patch = Patch::Merge(json!({"metadata": {"labels": {LABEL: value}}}));
    world.api().patch(name, &PatchParams::default(), &patch).await.unwrap();
}

fn selecting(shard: &str) -> Launch {
    Launch::new().flags(["--selector".to_owned(), format!("{LABEL}={shard}")])
}

/// The name of the Lease of the operator of that shard.
fn lease(world: &World, shard: &str) -> String {
    let selector = format!("{LABEL}={shard}");
    let line = ["okid-operator", "run", "--namespace", &world.namespace, "--selector", &selector];
    let Command::Run(settings) = CommandLine::parse_from(line).command else { panic!("another command") };
    settings.leader_election.expect("it has a Lease").lease_name
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_operator_watches_several_namespaces_and_no_other() {
    let mut world = World::builder().without_operator().start().await;
    let [second, third, other] = [0; 3].map(|_| world.cluster.new_namespace(&world.client));
    let (second, third, other) = tokio::join!(second, third, other);
    // The world's own portal is for its own namespace alone: the attempts there are counted at the end.
    let portal = Sandbox::builder().key(&world.key).start().await;
    for namespace in [&second, &third] {
        world.account.grant(Some(namespace), &of_scope(RUN, Scope::WatchedNamespaces)).await;
    }
    let launch = Launch::new().flags(["--namespace".to_owned(), format!("{second},{third}")]);
    world.start(launch.allow([world.sandbox().url(), portal.url()])).await;
    world.create_session("alice", json!({})).await;
    create_in(&world, &second, &portal).await;
    create_in(&world, &third, &portal).await;
    world.operator().until_metric("okid_live_verifications", |live| live == 3.0).await;
    assert_eq!((world.creates(), portal.session_count()), (1, 2));

    let elsewhere: Api<Verification> = Api::namespaced(world.client.clone(), &other);
    let object = json!({
        "apiVersion": "okid.io/v1alpha1", "kind": "Verification", "metadata": {"name": "alice"},
        "spec": {"apiKeySecretRef": {"name": SECRET}},
    });
    elsewhere.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
    // What is deleted in one namespace leaves the others alone.
    world.delete("alice").await;
    world.operator().until_metric("okid_live_verifications", |live| live == 2.0).await;
    let ignored = elsewhere.get("alice").await.unwrap();
    assert_eq!(ignored.session().attempt, 0);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_operators_share_the_work_by_label_and_each_has_a_lease_of_its_own() {
    let mut world = World::builder().without_operator().start().await;
    let election = ["--leader-elect=true", "--leader-lease-namespace"].map(str::to_owned);
    let namespace = [world.namespace.clone()];
    world.account.limit_to_leases(["one", "two"].map(|shard| lease(&world, shard)).into());
    world.account.grant(Some(&world.namespace), &all()).await;
    world.start(selecting("one").flags(election.clone()).flags(namespace.clone())).await;
    let two = world.another(selecting("two").flags(election).flags(namespace));
    two.until_watching().await;
    for (name, shard) in [("alice", "one"), ("bob", "two"), ("carol", "")] {
        world.apply(name, json!({"suspend": true})).await;
        label(&world, name, shard).await;
        world.patch_spec(name, json!({"suspend": false})).await;
    }
    let (alice, bob) = (world.until("alice", is_open).await, world.until("bob", is_open).await);
    assert_ne!(alice.claimed_by(), bob.claimed_by());
    let live = async |operator: &Operator| operator.metric("okid_live_verifications").await;
    assert_eq!((live(world.operator()).await, live(&two).await), (1.0, 1.0));
    assert_eq!(world.get("carol").await.session().attempt, 0, "it is nobody's");
    let leases: Api<Lease> = Api::namespaced(world.client.clone(), &world.namespace);
    let leases = leases.list(&ListParams::default()).await.unwrap().items;
    let holders: BTreeSet<_> =
        leases.iter().map(|lease| lease.spec.as_ref().unwrap().holder_identity.clone()).collect();
    assert_eq!((leases.len(), holders.len()), (2, 2));
    assert!(two.stop().await.success());
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resource_that_moves_to_another_operator_during_its_create_has_one_session() {
    let mut world = World::builder().without_operator().start().await;
    world.start(selecting("one")).await;
    let two = world.another(selecting("two"));
    two.until_watching().await;
    world.apply("alice", json!({"suspend": true})).await;
    label(&world, "alice", "one").await;
    let hanging = world.sandbox().inject(Fault::new(Call::Create, Action::Hang).once().after());
    world.patch_spec("alice", json!({"suspend": false})).await;
    world.until_portal("a create in flight", |world| world.sandbox().hits(hanging) == 1).await;
    assert_eq!(world.get("alice").await.state(), Some(SessionState::Claimed));
    label(&world, "alice", "two").await;
    two.until_metric("okid_live_verifications", |live| live == 1.0).await;
    world.operator().until_metric("okid_live_verifications", |live| live == 0.0).await;
    world.sandbox().clear(hanging);

    let open = world.until("alice", is_open).await;
    let id = open.id().unwrap();
    assert_eq!((world.creates(), world.sandbox().session_count()), (1, 1));
    assert_eq!((open.session().attempt, open.session().orphans), (1, 0));
    // The operator that it belongs to now follows it to the verdict.
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    let over = world.until("alice", |seen| seen.status_or_default().settled).await;
    assert_eq!((over.phase(), over.id()), (Some(Phase::Verified), Some(id)));
    let polls = two.metric("okid_portal_requests_total{call=\"poll\",result=\"ok\"}").await;
    assert!(polls >= 1.0, "{polls}");
    assert!(two.stop().await.success());
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resource_that_leaves_and_comes_back_while_its_claim_waits_has_one_session() {
    let mut world = World::builder().without_operator().start().await;
    world.start(selecting("one")).await;
    for name in ["first", "alice"] {
        world.apply(name, json!({"suspend": true})).await;
        label(&world, name, "one").await;
    }
    world.patch_spec("first", json!({"suspend": false})).await;
    let first = world.until("first", is_open).await.id().unwrap();
    assert!(world.operator().stop().await.success());
    let folder = control_plane::Folder::create("okid-operator-").unwrap();
    let file = folder.path().join("hold");
    world.start(selecting("one").hold_at("BeforeClaim", &file)).await;
    // The portal accepts the key: creates need not wait for the first response any more.
    world.until_polled(&first, 1).await;
    let hanging = world.sandbox().inject(Fault::new(Call::Create, Action::Hang).once().after());
    world.patch_spec("alice", json!({"suspend": false})).await;
    world.until_portal("the hold", |_| file.exists()).await;
    let live = async |count: f64| {
        world.operator().until_metric("okid_live_verifications", |live| live == count).await;
    };
    label(&world, "alice", "two").await;
    live(1.0).await;
    // It comes back as another record, whose reconcile runs beside the one that is held.
    label(&world, "alice", "one").await;
    world.until_portal("a create in flight", |world| world.sandbox().hits(hanging) == 1).await;
    let reads = world.operator().metric(READS).await;
    std::fs::remove_file(&file).unwrap();
    // The claim that was held conflicts with the other one, which is then read.
    world.operator().until_metric(READS, |now| now > reads).await;
    world.sandbox().clear(hanging);
    let open = world.until("alice", is_open).await;
    assert!(world.operator().stop().await.success(), "nothing is in flight any more");
    assert_eq!((world.creates(), world.sandbox().session_count()), (2, 2));
    assert_eq!((open.session().attempt, open.session().orphans), (1, 0));
    world.start(selecting("one")).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_write_has_the_field_manager_of_the_operator() {
    let world = World::new().await;
    world.create_session("alice", json!({})).await;
    world.until_events("alice", &["SessionCreated"]).await;
    let managers = |fields: &Value| -> BTreeSet<String> {
        let all = fields.as_array().into_iter().flatten();
        all.map(|entry| entry["manager"].as_str().unwrap().to_owned()).collect()
    };
    let written = serde_json::to_value(world.get("alice").await).unwrap();
    assert!(managers(&written["metadata"]["managedFields"]).contains("okid-operator"), "{written}");
    for event in world.all_events().await {
        let event = serde_json::to_value(event).unwrap();
        assert_eq!(
            managers(&event["metadata"]["managedFields"]),
            BTreeSet::from(["okid-operator".to_owned()]),
            "{event}"
        );
    }
    world.finish().await;
}
