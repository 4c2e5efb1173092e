//! Namespaces are deleted while the operator is away.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use okid_operator::api::Phase;
use serde_json::json;

use super::environment::{Environment, until};
use super::portal::Portal;
use super::release::scale;
use super::report::{Report, figure};
use super::store;
use super::verification::{Name, all_in, manifest};

/// With Verifications in every phase.
const PHASES: &str = "phases";
/// With one whose evidence is deleted with it.
const HELD: &str = "held";
const KEY: &str = "hanging-key";
/// Seconds.
const DELETED_WITHIN: f64 = 30.0;
const LIMIT: Duration = Duration::from_mins(5);

/// Deletes a namespace with Verifications in every phase while no replica runs, and one that only the operator can release.
pub(super) fn are_deleted(environment: &Environment, report: &mut Report) -> Result<()> {
    let folder = prepare(environment)?;
    report.done("Verifications in every phase");
    scale(environment, 0)?;
    environment.apply(PHASES, &manifest("unseen", &json!({})))?;
    let phases: Vec<_> = all_in(environment, PHASES)?
        .iter()
        .map(|verification| verification["status"]["phase"].as_str().unwrap_or_default().to_owned())
        .collect();
    for phase in Phase::ALL.iter().map(|phase| phase.as_str()).chain([""]) {
        ensure!(
            phases.iter().any(|other| other == phase),
            "no Verification has the phase {phase:?}: {phases:?}"
        );
    }
    report.done("the operator scaled to zero");

    let since = Instant::now();
    environment.kubectl(&["delete", "namespace", PHASES, "--timeout=5m"])?;
    report.done("a namespace with Verifications in every phase deleted without the operator");
    figure("deleted after", since.elapsed().as_secs_f64(), "s", DELETED_WITHIN)?;

    environment.kubectl(&["delete", "namespace", HELD, "--wait=false"])?;
    until("the Verification is being deleted", LIMIT, || {
        let held = all_in(environment, HELD)?;
        Ok(held.iter().any(|held| held["metadata"]["deletionTimestamp"].is_string()).then_some(()))
    })?;
    scale(environment, 2)?;
    report.done("the operator scaled to two");
    let since = Instant::now();
    until("the namespace is deleted", LIMIT, || {
        let namespace = environment.kubectl(&["get", "namespace", HELD, "--ignore-not-found"])?;
        Ok(namespace.is_empty().then_some(()))
    })?;
    let left = store::count(environment, &folder)?;
    ensure!(left == 0, "{left} objects are left in the store");
    report.done("a namespace with deletionPolicy: Delete deleted, and the evidence too");
    figure("deleted after the operator was ready", since.elapsed().as_secs_f64(), "s", DELETED_WITHIN)
}

/// Brings Verifications into every phase, and stores evidence. Returns the folder of the evidence in the bucket.
fn prepare(environment: &Environment) -> Result<String> {
    environment.create_namespace(PHASES)?;
    environment.create_namespace(HELD)?;
    environment.kubectl(&["apply", "--namespace", PHASES, "--filename=tests/e2e/phases.yaml"])?;
    let folder = store::store_to_be_deleted(environment, Name(HELD, "erased"))?;

    let portal = Portal(environment);
    let acts = [
        ("in-progress", [json!("open"), json!({"complete": "terms"})]),
        ("processing", [json!("complete_all"), json!({"set_status": "validating"})]),
    ];
    for (name, acts) in acts {
        let id = Name(PHASES, name).id(environment)?;
        for act in &acts {
            portal.act(&id, act)?;
        }
    }
    for (name, verdict) in [
        ("in-review", "needs_manual_review"),
        ("storing", "verified"),
        ("verified", "verified"),
        ("rejected", "rejected"),
        ("expired", "expired"),
    ] {
        portal.decide(&Name(PHASES, name).id(environment)?, verdict)?;
    }
    portal.add_hanging_key(KEY)?;
    let mut creating = manifest("creating", &json!({}));
    creating["spec"]["apiKeySecretRef"]["name"] = json!("hanging");
    environment.apply(PHASES, &creating)?;
    for (name, phase) in [
        ("pending", Phase::Pending),
        ("awaiting-user", Phase::AwaitingUser),
        ("in-progress", Phase::InProgress),
        ("processing", Phase::Processing),
        ("in-review", Phase::InReview),
        ("storing", Phase::Storing),
        ("verified", Phase::Verified),
        ("rejected", Phase::Rejected),
        ("expired", Phase::Expired),
        ("failed", Phase::Failed),
        ("creating", Phase::Creating),
    ] {
        Name(PHASES, name).wait_for_phase(environment, phase.as_str())?;
    }
    Ok(folder)
}
