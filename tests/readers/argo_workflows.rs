//! The conditions of `examples/argo-workflows`, as the executor of Argo Workflows evaluates them.

use std::collections::BTreeSet;

use control_plane::Reader;
use okid_operator::api::{Phase, Verification};
use serde::Deserialize;
use serde_json::Value;

use crate::reader::{assert_none, conclusions, repository};
use crate::statuses::{Case, all, rows};

/// What the program writes for a resource.
#[derive(Debug, Deserialize)]
struct Conclusion {
    step: String,
}

/// The phase of each resource, and what the step does for it with these conditions.
fn steps(success: &str, failure: &str, cases: Vec<Case>) -> Vec<(Case, Option<Phase>, String)> {
    let arguments = ["--success", success, "--failure", failure];
    let judged: Vec<(_, Verification, Conclusion)> = conclusions(&Reader::ARGO_WORKFLOWS, &arguments, cases);
    let phase = |resource: Verification| resource.status?.phase;
    judged.into_iter().map(|(case, resource, Conclusion { step })| (case, phase(resource), step)).collect()
}

/// The successCondition and the failureCondition of the example.
fn conditions() -> (String, String) {
    let text = std::fs::read_to_string(repository("examples/argo-workflows/workflow.yaml")).unwrap();
    let workflow: Value = serde_norway::from_str(&text).unwrap();
    let templates = workflow["spec"]["templates"].as_array().unwrap();
    let resource = templates.iter().find_map(|template| template.get("resource")).unwrap();
    let condition = |name: &str| resource[name].as_str().unwrap().to_owned();
    (condition("successCondition"), condition("failureCondition"))
}

#[test]
#[ignore = "expensive to build: cargo xtask test readers"]
fn argo_workflows_waits_for_the_verdict_and_its_evidence() {
    let (success, failure) = conditions();
    let mut contradictions = Vec::new();
    for (case, phase, step) in steps(&success, &failure, all()) {
        let promised = match phase {
            Some(Phase::Verified) => "Succeeded",
            Some(Phase::Rejected | Phase::Expired | Phase::Failed) => "Failed",
            None
            | Some(
                Phase::Pending
                | Phase::Creating
                | Phase::AwaitingUser
                | Phase::InProgress
                | Phase::Processing
                | Phase::InReview
                | Phase::Storing,
            ) => "Waits",
        };
        if step != promised {
            contradictions.push(format!("{}: not {promised} but {step}: {}", case.name, case.resource));
        }
    }
    assert_none(&contradictions);
}

#[test]
#[ignore = "expensive to build: cargo xtask test readers"]
fn a_comma_in_a_failure_condition_means_or_and_an_inequality_matches_what_is_absent() {
    let of_phase = |success, failure, phase| {
        let all = steps(success, failure, rows()).into_iter();
        all.filter(|(_, seen, _)| *seen == phase).map(|(_, _, step)| step).collect::<BTreeSet<_>>()
    };
    let (success, failure) = conditions();
    let comma = "status.settled == true, status.outcome != Verified";
    let (verified, unseen) = (Some(Phase::Verified), None);
    assert_eq!(of_phase(&success, &failure, verified), ["Succeeded".to_owned()].into());
    assert!(of_phase(&success, comma, verified).contains("Failed"));
    assert_eq!(of_phase(&success, comma, unseen), ["Failed".to_owned()].into());
    assert_eq!(of_phase("status.phase != Rejected", "", unseen), ["Succeeded".to_owned()].into());
}
