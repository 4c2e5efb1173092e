//! The conditions of `examples/argo-workflows`, as the executor of Argo Workflows evaluates them.

use std::collections::BTreeSet;

use control_plane::Reader;
use okid_operator::api::{Phase, Verification};
use serde::Deserialize;

use crate::reader::{assert_none, conclusions, repository};
use crate::statuses::{Case, all, rows};

/// What the program writes for a resource.
#[derive(Debug, Deserialize)]
struct Conclusion {
    step: String,
}

/// The phase of each resource, and what the step of the example does for it with these other conditions.
fn steps(others: &[&str], cases: Vec<Case>) -> Vec<(Case, Option<Phase>, String)> {
    let workflow = repository("examples/argo-workflows/workflow.yaml");
    let arguments = [&["--workflow", workflow.to_str().unwrap()], others].concat();
    let judged: Vec<(_, Verification, Conclusion)> = conclusions(&Reader::ARGO_WORKFLOWS, &arguments, cases);
    let phase = |resource: Verification| resource.status?.phase;
    judged.into_iter().map(|(case, resource, Conclusion { step })| (case, phase(resource), step)).collect()
}

#[test]
#[ignore = "expensive to build: cargo xtask test readers"]
fn argo_workflows_waits_for_the_verdict_and_its_evidence() {
    let mut contradictions = Vec::new();
    for (case, phase, step) in steps(&[], all()) {
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
    let of_phase = |others: &[&str], phase| {
        let all = steps(others, rows()).into_iter();
        all.filter(|(_, seen, _)| *seen == phase).map(|(_, _, step)| step).collect::<BTreeSet<_>>()
    };
    let comma = ["--failure", "status.settled == true, status.outcome != Verified"];
    let inequality = ["--success", "status.phase != Rejected"];
    let (verified, unseen) = (Some(Phase::Verified), None);
    assert_eq!(of_phase(&[], verified), ["Succeeded".to_owned()].into());
    assert!(of_phase(&comma, verified).contains("Failed"));
    assert_eq!(of_phase(&comma, unseen), ["Failed".to_owned()].into());
    assert_eq!(of_phase(&inequality, unseen), ["Succeeded".to_owned()].into());
}
