//! The kubelet restarts while the operator runs.

use anyhow::{Result, ensure};
use serde_json::Value;

use super::environment::Environment;
use super::leader::an_open_check_finishes;
use super::release::{name_of, replicas};
use super::report::Report;

/// Restarts the kubelet. The replicas must go on, and a check that was open must finish.
pub(super) fn restarts(environment: &mut Environment, report: &mut Report) -> Result<()> {
    let before = restarts_of(&replicas(environment)?);
    if !environment.restart_kubelet()? {
        report.skipped("the restart of a kubelet: nothing is known about the nodes of this cluster");
        return Ok(());
    }
    an_open_check_finishes(environment)?;
    let after = restarts_of(&replicas(environment)?);
    ensure!(before == after, "replicas and their restarts have changed from {before:?} to {after:?}");
    report.done("the kubelet restarted: the replicas went on, and an open check finished");
    Ok(())
}

/// How often each replica was restarted.
fn restarts_of(replicas: &[Value]) -> Vec<(String, Option<u64>)> {
    let restarts = |replica: &Value| replica.pointer("/status/containerStatuses/0/restartCount")?.as_u64();
    replicas.iter().map(|replica| (name_of(replica).to_owned(), restarts(replica))).collect()
}
