//! `examples/tekton`, `examples/github-actions`, `examples/terraform`, `examples/crossplane` and `examples/kyverno`: what can be
//! run of them without the tools that they are for.

use std::process::Output;

use okid_operator::api::Phase;
use okid_sandbox::Verdict;
use serde_json::Value;

use super::{example, shell, text};
use crate::examples::{parse, parse_all};
use crate::harness::{VerificationExt as _, World};
use crate::manifests::apply;

/// Runs a script for the check of that name, with variables as the tools set them. GitHub ends a script at the first error.
async fn run(world: &World, script: &Value, name: &str) -> Output {
    let output = world.folder().join(name);
    let variables = format!("set -e\nexport PERSON={name} RESULT={0} GITHUB_OUTPUT={0}\n", output.display());
    shell(world, &(variables + script.as_str().unwrap()), &[]).await
}

/// A script before which the API server does not answer once, when the check is read.
fn after_an_outage(world: &World, script: &Value) -> Value {
    let seen = world.folder().join("outage");
    let outage = format!(
        "kubectl() {{ if [ \"$1\" = get ] && ! [ -e {0} ]; then : > {0}; return 1; fi; command kubectl \"$@\"; }}\n",
        seen.display()
    );
    (outage + script.as_str().unwrap()).into()
}

/// What the last script of that check wrote.
fn written(world: &World, name: &str) -> String {
    std::fs::read_to_string(world.folder().join(name)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scripts_of_the_tekton_task_succeed_only_if_the_person_is_verified() {
    let world = World::new().await;
    let task = parse(&example("tekton/task.yaml"));
    let [request, wait] = [0, 1].map(|step| task["spec"]["steps"][step]["script"].clone());
    for (name, verdict) in [("alice", Verdict::Verified), ("bob", Verdict::Rejected)] {
        let output = run(&world, &request, name).await;
        assert!(output.status.success(), "{}", text(&output));
        let id = world.get(name).await.id().unwrap();
        world.sandbox().finish(&id, verdict).unwrap();
        let output = run(&world, &wait, name).await;
        assert_eq!(output.status.success(), verdict == Verdict::Verified, "{}", text(&output));
        assert_eq!(written(&world, name), format!("{verdict:?}"));
    }
    let output = run(&world, &after_an_outage(&world, &wait), "alice").await;
    assert!(output.status.success(), "{}", text(&output));
    assert!(world.folder().join("outage").exists());
    let output = run(&world, &request, "alice").await;
    assert!(text(&output).contains("AlreadyExists"), "{}", text(&output));
    world.delete("alice").await;
    let output = run(&world, &wait, "alice").await;
    assert!(!output.status.success() && text(&output).contains("was deleted"), "{}", text(&output));
    world.finish().await;
}

#[test]
fn the_image_of_a_tekton_step_with_a_script_has_a_shell() {
    let task = parse(&example("tekton/task.yaml"));
    for step in task["spec"]["steps"].as_array().unwrap() {
        assert!(step["script"].as_str().unwrap().starts_with("#!/bin/sh\n"));
        let image = step["image"].as_str().unwrap();
        assert!(!image.starts_with("registry.k8s.io/kubectl"), "{image} has kubectl alone");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scripts_of_the_github_workflows_request_a_check_and_read_its_verdict() {
    let world = World::new().await;
    let script = |file: &str, job: &str| {
        parse(&example(&format!("github-actions/{file}")))["jobs"][job]["steps"][0]["run"].take()
    };
    let (request, read) = (script("check.yaml", "request"), script("verdict.yaml", "verdict"));
    for (name, verdict) in [("alice", Verdict::Verified), ("bob", Verdict::Rejected)] {
        let output = run(&world, &request, name).await;
        assert!(output.status.success(), "{}", text(&output));
        let output = run(&world, &read, name).await;
        assert!(output.status.success(), "{}", text(&output));
        assert_eq!(written(&world, name), "outcome=\n");
        let id = world.get(name).await.id().unwrap();
        world.sandbox().finish(&id, verdict).unwrap();
        world.until(name, |seen| seen.status_or_default().settled).await;
        let output = run(&world, &read, name).await;
        assert_eq!(output.status.success(), verdict == Verdict::Verified, "{}", text(&output));
        assert_eq!(written(&world, name), format!("outcome=\noutcome={verdict:?}\n"));
    }
    world.delete("bob").await;
    let output = run(&world, &read, "bob").await;
    assert!(!output.status.success(), "{}", text(&output));
    world.finish().await;
}

/// The manifest in the Terraform configuration, as YAML: its indentation is the same.
fn terraform_manifest(text: &str) -> String {
    let (_, rest) = text.split_once("  manifest = {\n").unwrap();
    let (manifest, _) = rest.split_once("\n  }\n").unwrap();
    let lines = manifest.lines().filter(|line| line.trim() != "}");
    lines.map(|line| line.replacen(" = {", ":", 1).replacen(" =", ":", 1) + "\n").collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_manifests_for_terraform_and_crossplane_can_be_applied_and_get_a_link() {
    let world = World::new().await;
    let terraform = example("terraform/main.tf");
    let crossplane = parse(&example("crossplane/object.yaml"));
    let manifests =
        [parse(&terraform_manifest(&terraform)), crossplane["spec"]["forProvider"]["manifest"].clone()];
    for mut manifest in manifests {
        manifest["metadata"]["namespace"].take();
        apply(&world.cluster, &world.namespace, &manifest.to_string()).await.unwrap();
        world.until("alice", |seen| seen.phase() == Some(Phase::AwaitingUser)).await;
        let (_, condition) = terraform.split_once("condition {").unwrap();
        let words: Vec<_> = condition.split('"').collect();
        let [type_, status] = [words[1], words[3]];
        let wait = format!("--for=condition={type_}={status}");
        world.kubectl(&["wait", "verification", "alice", &wait, "--timeout=60s"]).await;
        world.delete("alice").await;
    }
    world.finish().await;
}

#[test]
fn the_policy_for_kyverno_has_the_rules_of_the_validating_admission_policy() {
    let policy = example("policy/validating-admission-policy.yaml");
    let policy = parse_all(&policy).swap_remove(0);
    let kyverno = parse(&example("kyverno/policy.yaml"));
    let rule = &kyverno["spec"]["rules"][0];
    let rules = rule["validate"]["cel"]["expressions"].as_array().unwrap();
    let expected = policy["spec"]["validations"].as_array().unwrap();
    assert_eq!(rules.len(), expected.len());
    for (rule, expected) in rules.iter().zip(expected) {
        let (exception, expression) = rule["expression"].as_str().unwrap().split_once(" || ").unwrap();
        assert_eq!(exception, "oldObject != null && object.spec == oldObject.spec");
        assert_eq!(expression, expected["expression"]);
        assert_eq!(rule["message"], expected["message"]);
    }
    let selector = &rule["match"]["any"][0]["resources"]["namespaceSelector"]["matchLabels"];
    assert_eq!(selector["identity-checks"], "strict");
}
