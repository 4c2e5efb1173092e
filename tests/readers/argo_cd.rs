//! The health script, the actions and the application of `examples/argo-cd`, as Argo CD evaluates them.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use control_plane::Reader;
use jiff::Timestamp;
use okid_operator::api::Verification;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::promise::{Promise, reason};
use crate::reader::{assert_none, conclusions, repository};
use crate::statuses::{Case, all};

/// What the program writes for a resource.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Conclusion {
    health: String,
    message: String,
    bundled_health: String,
    actions: BTreeMap<String, Action>,
    compared: Value,
}

#[derive(Clone, Debug, Deserialize)]
struct Action {
    disabled: bool,
    result: Value,
}

/// Every case with what the program concludes, which takes a while.
static JUDGED: LazyLock<Vec<(Case, Verification, Conclusion)>> = LazyLock::new(judged);

fn judged() -> Vec<(Case, Verification, Conclusion)> {
    let files = ["argocd-cm", "application"].map(|name| repository(&format!("examples/argo-cd/{name}.yaml")));
    let arguments = files.each_ref().map(|file| file.to_str().unwrap());
    conclusions(&Reader::ARGO_CD, &arguments, all())
}

#[test]
#[ignore = "expensive to build: cargo xtask test readers"]
fn argo_cd_reads_every_status_as_promised() {
    let mut contradictions = Vec::new();
    for (case, resource, conclusion) in &*JUDGED {
        let Conclusion { health, message, bundled_health, .. } = conclusion;
        let promised = Promise::of(resource).argo_cd;
        if [health, bundled_health] != [promised; 2] || message.is_empty() {
            contradictions.push(format!("{}: not {promised} but {health}: {}", case.name, case.resource));
        }
    }
    assert_none(&contradictions);
}

#[test]
#[ignore = "expensive to build: cargo xtask test readers"]
fn the_actions_of_argo_cd_change_what_they_name_and_never_the_status() {
    for (Case { name, resource, .. }, parsed, conclusion) in &*JUDGED {
        let status = parsed.status.clone().unwrap_or_default();
        let (suspended, settled) = (parsed.spec.suspend, status.settled);
        let stalled = reason(&status, "Stalled").is_some();
        let mut actions = conclusion.actions.clone();
        for (action, disabled, annotation) in [
            ("poll-now", settled, "okid.io/reconcile-requested-at"),
            ("retry", settled || !stalled, "okid.io/retry"),
        ] {
            let Action { disabled: is_disabled, result } = actions.remove(action).unwrap();
            let time = result["metadata"]["annotations"][annotation].as_str().unwrap();
            assert!(time.parse::<Timestamp>().is_ok(), "{name}: {time}");
            let mut annotated = resource.clone();
            annotated["metadata"]["annotations"][annotation] = json!(time);
            assert_eq!((is_disabled, result), (disabled, annotated), "{name}: {action}");
        }
        for (action, disabled, suspend) in
            [("suspend", settled || suspended, true), ("resume", settled || !suspended, false)]
        {
            let Action { disabled: is_disabled, result } = actions.remove(action).unwrap();
            let mut changed = resource.clone();
            changed["spec"]["suspend"] = json!(suspend);
            assert_eq!((is_disabled, result), (disabled, changed), "{name}: {action}");
        }
        assert!(actions.is_empty(), "{actions:?}");
    }
}

#[test]
#[ignore = "expensive to build: cargo xtask test readers"]
fn argo_cd_compares_all_of_a_check_but_its_spec_with_git() {
    for (Case { name, resource, .. }, _, conclusion) in &*JUDGED {
        let mut compared = resource.clone();
        compared.as_object_mut().unwrap().remove("spec");
        assert_eq!(conclusion.compared, compared, "{name}");
    }
}
