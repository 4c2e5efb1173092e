//! `examples/policy/resource-quota.yaml`: how many checks a namespace may have.

use serde_json::{Map, Value, json};

use super::{example, with};
use crate::harness::{World, until};
use crate::manifests::apply;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_quota_refuses_one_check_too_many_and_costs_the_portal_nothing() {
    let world = World::new().await;
    let count = "count/verifications.okid.io";
    let quota = with(&example("policy/resource-quota.yaml"), "\"20\"", "\"2\"");
    apply(&world.cluster, &world.namespace, &quota).await.unwrap();
    // This API server has no controller-manager, which would write the status from the spec.
    let hard = world
        .kubectl(&["get", "resourcequota", "identity-checks", "--output", "jsonpath={.spec.hard}"])
        .await;
    let hard: Value = serde_json::from_str(&hard).unwrap();
    let used: Map<_, _> = hard.as_object().unwrap().keys().map(|name| (name.clone(), json!("0"))).collect();
    let status = json!({"status": {"hard": hard, "used": used}}).to_string();
    let patch = ["patch", "resourcequota", "identity-checks", "--subresource=status", "--type=merge"];
    world.kubectl(&[&patch[..], &["--patch", &status]].concat()).await;

    // The API server sees the quota a moment later; what is created before that does not count.
    let used = async || {
        let query = format!("jsonpath={{.status.used.{}}}", count.replace('.', "\\."));
        let used = world.kubectl(&["get", "resourcequota", "identity-checks", "--output", &query]).await;
        if used == "2" { Ok(()) } else { Err(used) }
    };
    world.create_session("alice", json!({})).await;
    world.create_session("bob", json!({})).await;
    until(used, |used| format!("the quota counts {used} checks")).await;
    let refused = world.try_apply("carol", json!({})).await.unwrap_err();
    let kube::Error::Api(status) = refused else { panic!("{refused}") };
    assert_eq!(status.code, 403);
    assert!(status.message.contains("exceeded quota: identity-checks"), "{}", status.message);
    assert_eq!(world.creates(), 2);
    world.finish().await;
}
