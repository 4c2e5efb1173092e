//! `examples/policy/validating-admission-policy.yaml`: what a namespace may request.

use serde_json::{Value, json};

use super::{example, with};
use crate::harness::{World, until};
use crate::manifests::apply;

/// Tries to create a check, without creating it; the message of the API server if it refuses.
async fn refusal(world: &World, spec: Value) -> Option<String> {
    let mut manifest = json!({
        "apiVersion": "okid.io/v1alpha1",
        "kind": "Verification",
        "metadata": {"name": "attempt"},
        "spec": {"apiKeySecretRef": {"name": "okid-api-key"}},
    });
    crate::requests::merge(&mut manifest["spec"], &spec);
    let arguments = ["create", "--dry-run=server", "--filename", "-"];
    crate::manifests::kubectl(&world.cluster, &world.namespace, &arguments, &manifest.to_string()).await.err()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_policy_requires_a_store_a_verdict_for_ready_and_a_minute_before_deletion() {
    let world = World::new().await;
    let name = format!("strict-{}", world.namespace);
    // Of this test alone, because other tests share the API server.
    let policy = example("policy/validating-admission-policy.yaml")
        .replace("strict-identity-checks", &name)
        .replace("identity-checks: strict", &format!("identity-checks: {name}"));
    let id = world.create_session("older", json!({"readyWhen": "SessionCreated"})).await;
    apply(&world.cluster, &world.namespace, &policy).await.unwrap();
    let label = format!("identity-checks={name}");
    world.kubectl(&["label", "namespace", &world.namespace, &label]).await;

    let store = json!({"evidence": {"results": true, "destination": {"store": "archive"}}});
    let refused = async || refusal(&world, json!({})).await.ok_or(());
    let message = until(refused, |()| "the policy is not enforced".to_owned()).await;
    assert!(message.contains("spec.evidence.destination.store is missing"), "{message}");
    let own = json!({"url": "s3://bucket/kyc", "credentialsSecretRef": {"name": "evidence"}});
    let message = refusal(&world, json!({"evidence": {"results": true, "destination": own}})).await.unwrap();
    assert!(message.contains("spec.evidence.destination.store is missing"), "{message}");
    for (ttl, refused) in [("0s", true), ("59s", true), ("1m", false), ("1h30m", false)] {
        let mut deleted = store.clone();
        deleted["ttlAfterFinished"] = json!(ttl);
        let message = refusal(&world, deleted).await.unwrap_or_default();
        assert_eq!(message.contains("must be at least 1m in this namespace"), refused, "{ttl}: {message}");
        assert_eq!(message.is_empty(), !refused, "{ttl}: {message}");
    }
    let mut early = store.clone();
    early["readyWhen"] = json!("SessionCreated");
    let message = refusal(&world, early).await.unwrap();
    assert!(message.contains("spec.readyWhen must be Verified in this namespace"), "{message}");
    assert_eq!(refusal(&world, store).await, None);

    // A check that is older than the policy goes on to its end, and can be labelled and deleted, but not edited.
    world.kubectl(&["label", "verification", "older", "team=kyc"]).await;
    let patch = ["patch", "verification", "older", "--type=merge", "--patch", r#"{"spec":{"suspend":true}}"#];
    let refused = crate::manifests::kubectl(&world.cluster, &world.namespace, &patch, "").await.unwrap_err();
    assert!(refused.contains("spec.evidence.destination.store is missing"), "{refused}");
    world.sandbox().finish(&id, okid_sandbox::Verdict::Verified).unwrap();
    world.until("older", |seen| seen.status.as_ref().is_some_and(|status| status.settled)).await;

    // Without its second rule, the policy lets a check be Ready at the link.
    let rule = "object.spec.readyWhen != 'SessionCreated'";
    let lax = with(&policy, rule, "\"true\"");
    apply(&world.cluster, &world.namespace, &lax).await.unwrap();
    let allowed = async || {
        let early = json!({
            "evidence": {"results": true, "destination": {"store": "archive"}},
            "readyWhen": "SessionCreated",
        });
        refusal(&world, early).await.map_or(Ok(()), Err)
    };
    until(allowed, |message| message).await;
    world.kubectl(&["delete", "validatingadmissionpolicybinding", &name]).await;
    world.kubectl(&["delete", "validatingadmissionpolicy", &name]).await;
    world.finish().await;
}
