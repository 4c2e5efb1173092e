//! `examples/policy/validating-admission-policy.yaml`: what a namespace may request, and
//! `examples/policy/mutating-admission-policy.yaml`: edits of checks that have ended.

use okid_sandbox::Verdict;
use serde_json::{Value, json};

use super::{example, with};
use crate::harness::{VerificationExt as _, World, until};
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
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
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

/// Edits a check.
async fn edit(world: &World, name: &str, more: &[&str]) -> Result<String, String> {
    let patch = r#"{"metadata": {"labels": {"team": "kyc"}}, "spec": {"suspend": true}}"#;
    let arguments = ["patch", "verification", name, "--type=merge", "--patch", patch];
    crate::manifests::kubectl(&world.cluster, &world.namespace, &[&arguments, more].concat(), "").await
}

/// Applies the policy that keeps the spec of checks that have ended, in this world's namespace alone, waits until it has an
/// effect on this one, and returns its name. Older API servers do not have such policies.
pub(super) async fn keep_ended_specs(world: &World, ended: &str) -> Option<String> {
    let name = format!("keep-{}", world.namespace);
    let policy = example("policy/mutating-admission-policy.yaml")
        .replace("keep-ended-identity-checks", &name)
        .replace("identity-checks: gitops", &format!("identity-checks: {name}"));
    if let Err(message) = apply(&world.cluster, &world.namespace, &policy).await {
        assert!(message.contains("no matches for kind \"MutatingAdmissionPolicy\""), "{message}");
        return None;
    }
    world.kubectl(&["label", "namespace", &world.namespace, &format!("identity-checks={name}")]).await;
    until(async || edit(world, ended, &["--dry-run=server"]).await, |message| message).await;
    Some(name)
}

/// Deletes that policy.
pub(super) async fn refuse_edits_again(world: &World, name: &str) {
    for kind in ["mutatingadmissionpolicybinding", "mutatingadmissionpolicy"] {
        world.kubectl(&["delete", kind, name]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_policy_an_edit_of_a_check_that_has_ended_changes_nothing() {
    let world = World::new().await;
    let open = world.create_session("open", json!({})).await;
    world.create_and_finish("ended", json!({}), Verdict::Verified).await;
    let before = world.until("ended", |seen| seen.status_or_default().settled).await;
    let Some(policy) = keep_ended_specs(&world, "ended").await else { return world.finish().await };
    edit(&world, "ended", &[]).await.unwrap();
    let after = world.get("ended").await;
    assert_eq!((&after.spec, &after.status), (&before.spec, &before.status));
    assert_eq!(after.metadata.generation, before.metadata.generation);
    assert_eq!(after.metadata.labels.unwrap()["team"], "kyc");

    // A check that goes on is edited, and runs to its end.
    edit(&world, "open", &[]).await.unwrap();
    world.until("open", |seen| seen.shows(&["Ready=False/Suspended"])).await;
    world.patch_spec("open", json!({"suspend": false})).await;
    world.sandbox().finish(&open, Verdict::Verified).unwrap();
    world.until("open", |seen| seen.status_or_default().settled).await;
    refuse_edits_again(&world, &policy).await;
    let refused = async || edit(&world, "open", &[]).await.err().ok_or("the policy still has an effect");
    let message = until(refused, str::to_owned).await;
    assert!(message.contains("its spec cannot change"), "{message}");
    world.finish().await;
}
