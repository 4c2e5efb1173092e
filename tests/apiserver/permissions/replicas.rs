//! Several replicas with limited permissions: the Lease, a namespace that may not be listed, and the removal of finalizers.

use super::*;
use crate::harness::{all, of_scope};
use crate::leader_election::{replica_in, until_leads};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_permissions_for_the_lease_suffice_and_a_missing_one_is_reported() {
    let mut world = prepare(&minimal()).await;
    let namespace = world.namespace.clone();
    world.start(replica_in(&namespace)).await;
    let refused = |line: &Value| {
        line["code"] == 403 && line["message"].as_str().is_some_and(|text| text.contains("Lease"))
    };
    let line = world.operator().until_logged("that it may not read the Lease", refused).await;
    assert!(line["message"].as_str().unwrap().contains("get, create and update"), "{line}");
    let body = world.operator().ask("/readyz").await.text().await.unwrap();
    let waits =
        format!("waiting for the Lease {namespace}/okid-operator of the leader election: 403 Forbidden\n");
    assert_eq!(body, waits);
    world.apply("alice", json!({})).await;

    grant(&world, &all()).await;
    world.until("alice", is_open).await;
    world.operator().until_ready().await;
    assert_eq!(world.operator().log_lines().iter().filter(|line| refused(line)).count(), 1);
    // A renewal, and the release at the end.
    let renewals = "okid_api_server_request_duration_seconds_count{verb=\"update\",resource=\"leases\"}";
    world.operator().until_metric(renewals, |count| count >= 1.0).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_leads_although_one_of_its_namespaces_may_not_be_listed() {
    let mut world = prepare(&all()).await;
    let forbidden = world.cluster.new_namespace(&world.client).await;
    let launch = replica_in(&world.namespace).flags(["--namespace", &forbidden]);
    let first = world.another(launch.clone());
    until_leads(&first).await;
    let second = world.another(launch);
    let id = world.create_session("alice", json!({})).await;
    // What is missing keeps neither from being ready, and is said.
    for replica in [&first, &second] {
        replica.until_ready().await;
        let body = replica.ask("/readyz").await.text().await.unwrap();
        let expected =
            format!("ok\nnamespace {forbidden}: waiting for the first list of verifications; tried to ");
        assert!(body.starts_with(&expected), "{body}");
        assert!(body.ends_with("403 Forbidden\n"), "{body}");
        assert_eq!(replica.metric("okid_incomplete_lists").await, 1.0);
    }

    assert!(first.stop().await.success());
    until_leads(&second).await;
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    let over = world.until("alice", |seen| seen.status_or_default().settled).await;
    assert_eq!(over.phase(), Some(Phase::Verified));
    world.replace_operator(second);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn finalizers_are_released_during_other_writes_and_beside_a_forbidden_namespace() {
    const OTHER: &str = "example.com/other";
    let world = prepare(&of_scope(RELEASE_FINALIZERS, Scope::WatchedNamespaces)).await;
    let forbidden = world.cluster.new_namespace(&world.client).await;
    let merge = async |name: &str, metadata: Value| {
        let patch = Patch::Merge(json!({"metadata": metadata}));
        world.api().patch(name, &PatchParams::default(), &patch).await.expect("patch the metadata");
    };
    for name in ["alice", "bob"] {
        world.apply(name, json!({"suspend": true})).await;
        merge(name, json!({"finalizers": [OTHER, EVIDENCE_FINALIZER]})).await;
    }
    let api = world.api();
    let writer = tokio::spawn(async move {
        for number in 0.. {
            let patch = Patch::Merge(json!({"metadata": {"labels": {"number": number.to_string()}}}));
            api.patch("alice", &PatchParams::default(), &patch).await.expect("write a label");
        }
    });
    let command = Operator::program(world.kubeconfig())
        .args(["release-finalizers", "--log-format", "json"])
        .args(["--namespace", &format!("{forbidden},{}", world.namespace)]);
    let log = world.folder().join("release.log");
    let release = world.run(command, log);
    for name in ["alice", "bob"] {
        world.until(name, |seen| seen.finalizers() == [OTHER]).await;
    }
    assert!(!writer.is_finished());
    writer.abort();
    assert!(release.runs(), "it tries the other namespace again");
    release.kill();
    release.wait().await;
    for name in ["alice", "bob"] {
        merge(name, json!({"finalizers": []})).await;
    }
    world.finish().await;
}
