//! kstatus, which Flux, Helm and kpt use; Flux's conformance; and `kubectl wait`.

use std::collections::BTreeMap;
use std::fs;
use std::sync::LazyLock;

use control_plane::Reader;
use okid_operator::api::{Outcome, Phase, Verification};
use serde::Deserialize;
use serde_json::Value;

use crate::promise::{Promise, is_observed};
use crate::reader::{assert_none, conclusions, repository};
use crate::statuses::{Case, all, rows};

/// The arguments of `kubectl wait --for` whose result is known for every resource.
const WAITS: [&str; 6] = [
    "condition=Ready",
    "condition=finished",
    "condition=Verified",
    "condition=Verified=False",
    "condition=Stalled",
    "jsonpath={.status.phase}=Verified",
];

/// What the program writes for a resource.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Conclusion {
    kstatus: String,
    flux: String,
    flux_failures: Vec<String>,
    flux_warnings: Vec<String>,
    flux_expressions: String,
    query: bool,
    kubectl: BTreeMap<String, bool>,
}

/// Every case with what the program concludes, which takes a while.
static JUDGED: LazyLock<Vec<(Case, Verification, Conclusion)>> = LazyLock::new(judged);

fn judged() -> Vec<(Case, Verification, Conclusion)> {
    let kustomization = repository("examples/flux/health-check-exprs.yaml");
    let object = fs::read_to_string(repository("examples/crossplane/object.yaml")).unwrap();
    let object: Value = serde_norway::from_str(&object).unwrap();
    let query = object["spec"]["readiness"]["celQuery"].as_str().unwrap();
    let mut arguments: Vec<_> = WAITS.iter().flat_map(|wait| ["--for", wait]).collect();
    arguments.extend(["--health-check-exprs", kustomization.to_str().unwrap(), "--query", query]);
    conclusions(&Reader::CONVENTIONS, &arguments, all())
}

#[test]
fn kstatus_and_flux_read_every_status_as_promised() {
    let mut contradictions = Vec::new();
    for (case, resource, conclusion) in &*JUDGED {
        let promised = Promise::of(resource).kstatus;
        if [&conclusion.kstatus, &conclusion.flux] != [promised; 2] {
            contradictions
                .push(format!("{}: not {promised} but {conclusion:?}: {}", case.name, case.resource));
        }
    }
    assert_none(&contradictions);
}

#[test]
fn each_row_has_the_promise_that_the_lifecycle_names() {
    for Case { name, resource, row } in rows() {
        let Some((kstatus, argo_cd)) = row else { continue };
        let promised = Promise::of(&serde_json::from_value(resource).unwrap());
        assert_eq!((promised.kstatus, promised.argo_cd), (kstatus.as_str(), argo_cd.as_str()), "{name}");
    }
}

#[test]
fn every_status_conforms_to_the_conventions_of_flux() {
    let mut contradictions = Vec::new();
    for (case, resource, conclusion) in &*JUDGED {
        if resource.status.as_ref().is_none_or(|status| status.conditions.is_empty()) {
            assert_eq!(conclusion.flux_failures, ["Ready condition must always be present"], "{}", case.name);
        } else if is_observed(resource)
            && !(conclusion.flux_failures.is_empty() && conclusion.flux_warnings.is_empty())
        {
            contradictions.push(format!("{}: {conclusion:?}: {}", case.name, case.resource));
        }
    }
    assert_none(&contradictions);
}

#[test]
fn kubectl_waits_for_every_status_as_promised() {
    let mut contradictions = Vec::new();
    for (case, resource, conclusion) in &*JUDGED {
        // kubectl does not look at the deletion.
        let mut resource = resource.clone();
        resource.metadata.deletion_timestamp = None;
        let kstatus = Promise::of(&resource).kstatus;
        let is_observed = is_observed(&resource);
        let outcome = resource.status.as_ref().and_then(|status| status.outcome);
        let is_verified = outcome == Some(Outcome::Verified);
        let phase = resource.status.as_ref().and_then(|status| status.phase);
        let promised = [
            kstatus == "Current",
            is_observed && outcome.is_some(),
            is_observed && is_verified,
            is_observed && outcome.is_some() && !is_verified,
            kstatus == "Failed",
            phase == Some(Phase::Verified),
        ];
        let promised: BTreeMap<_, _> = WAITS.map(str::to_owned).into_iter().zip(promised).collect();
        if conclusion.kubectl != promised {
            contradictions
                .push(format!("{}: not {promised:?} but {conclusion:?}: {}", case.name, case.resource));
        }
    }
    assert_none(&contradictions);
}

#[test]
fn the_expressions_for_flux_and_crossplane_wait_for_the_verdict_whatever_ready_means() {
    let mut contradictions = Vec::new();
    for (case, resource, conclusion) in &*JUDGED {
        let phase = resource.status.as_ref().and_then(|status| status.phase);
        let promised = match phase {
            _ if !is_observed(resource) => "InProgress",
            Some(Phase::Verified) => "Current",
            Some(Phase::Rejected | Phase::Expired | Phase::Failed) => "Failed",
            _ => "InProgress",
        };
        let is_verified = phase == Some(Phase::Verified);
        if (conclusion.flux_expressions.as_str(), conclusion.query) != (promised, is_verified) {
            contradictions
                .push(format!("{}: not {promised} but {conclusion:?}: {}", case.name, case.resource));
        }
    }
    assert_none(&contradictions);
}
