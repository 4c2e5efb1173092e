//! The release of the chart: installation, upgrade, uninstallation, and its replicas.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use serde_json::Value;

use super::environment::{Environment, until};
use super::portal::Portal;
use super::report::{Report, figure};
use super::verification::{self, Name, items};

pub(super) const RELEASE: &str = "okid-operator";
pub(super) const NAMESPACE: &str = "okid-operator";
pub(super) const CHART: &str = "charts/okid-operator";
/// Labels of the Pods of the operator, not of its hooks.
pub(super) const REPLICAS: &str =
    "--selector=app.kubernetes.io/instance=okid-operator,app.kubernetes.io/component=operator";
const VALUES: &str = "tests/e2e/values.yaml";
const DEFINITION: &str = "customresourcedefinition/verifications.okid.io";
/// Seconds from the creation of a Pod, whose image is there, until it is ready.
const READY_WITHIN: f64 = 10.0;
const TIMEOUT: &str = "--timeout=3m";

/// Installs the chart without values, as the documentation does.
pub(super) fn install(environment: &Environment, report: &mut Report) -> Result<()> {
    environment.create_namespace(NAMESPACE)?;
    let install = ["install", RELEASE, CHART, "--create-namespace", "--wait", TIMEOUT];
    environment.helm_succeeds(NAMESPACE, &install)?;
    report.done("helm install --wait without values: no warning, all Pods ready");
    for replica in replicas(environment)? {
        let name = name_of(&replica);
        figure(format_args!("{name} ready after its creation"), ready_after(&replica)?, "s", READY_WITHIN)?;
    }
    Ok(())
}

/// Runs the chart's own test, and the same checks in a Pod of the operator.
pub(super) fn test(environment: &Environment, report: &mut Report) -> Result<()> {
    environment.helm_succeeds(NAMESPACE, &["test", RELEASE])?;
    report.done("helm test");
    // The name of the admin port's host is in the Pod's /etc/hosts, and not in the DNS of a local cluster.
    let deployment = format!("deployment/{RELEASE}");
    let check =
        ["/okid-operator", "check", "--admin-url=http://localhost:8080", "--leader-lease-name", RELEASE];
    environment.kubectl(&[&["exec", &deployment, "--namespace", NAMESPACE, "--"], &check[..]].concat())?;
    report.done("in a Pod the program finds a name in /etc/hosts");
    Ok(())
}

/// Upgrades the release to the values with the portal and the stores, and starts a store.
pub(super) fn configure(environment: &Environment, report: &mut Report) -> Result<()> {
    environment.kubectl(&["apply", "--filename=tests/e2e/store.yaml"])?;
    let upgrade = ["upgrade", RELEASE, CHART, "--values", VALUES, "--wait", TIMEOUT];
    environment.helm_succeeds(NAMESPACE, &upgrade)?;
    let store = ["rollout", "status", "deployment/s3-server", "--namespace=store", "--timeout=2m"];
    environment.kubectl(&store)?;
    report.done("helm upgrade: the sandbox portal and a store run as Pods");
    Ok(())
}

/// Upgrades the release to another image, during open checks.
pub(super) fn change_image(environment: &Environment, report: &mut Report, tag: &str) -> Result<()> {
    let before = verification::ids(environment)?;
    let sessions = Portal(environment).sessions()?;
    let image = format!("image.tag={tag}");
    let upgrade =
        ["upgrade", RELEASE, CHART, "--reset-then-reuse-values", "--set", &image, "--wait", TIMEOUT];
    environment.helm_succeeds(NAMESPACE, &upgrade)?;
    until("only Pods of the new image are left", Duration::from_mins(1), || {
        let replicas = replicas(environment)?;
        let are_new = replicas.iter().all(|replica| {
            let image = replica.pointer("/spec/containers/0/image").and_then(Value::as_str);
            image.is_some_and(|image| image.ends_with(&format!(":{tag}")))
        });
        Ok((are_new && !replicas.is_empty()).then_some(()))
    })?;
    ensure!(verification::ids(environment)? == before, "an id has changed with the image");
    ensure!(
        Portal(environment).sessions()? == sessions,
        "a session was created with the change of the image"
    );
    let with_session = before.values().filter(|(_, id)| !id.is_empty()).count();
    report.done(format_args!("helm upgrade to another image: {with_session} ids are the same"));
    Ok(())
}

/// Uninstalls the release, while a Verification has the operator's finalizer.
pub(super) fn uninstall(environment: &Environment, report: &mut Report, held: Name<'_>) -> Result<()> {
    let finalizers =
        |verification: &Value| verification["metadata"]["finalizers"].as_array().map_or(0, Vec::len);
    ensure!(finalizers(&held.get(environment)?) == 1, "the Verification has no finalizer before");
    let before = verification::ids(environment)?;
    // Helm also prints the log of the hook, whose warnings are meant for the reader.
    let uninstalled = environment.helm(NAMESPACE, &["uninstall", RELEASE, "--wait", TIMEOUT])?;
    ensure!(uninstalled.succeeded, "helm uninstall failed:\n{}{}", uninstalled.output, uninstalled.errors);
    environment.kubectl(&["get", DEFINITION])?;
    ensure!(verification::ids(environment)? == before, "a Verification has not stayed as it was");
    ensure!(finalizers(&held.get(environment)?) == 0, "the Verification has kept the finalizer");
    let job = format!("job/{RELEASE}-release-finalizers");
    let log = environment.kubectl(&["logs", &job, "--namespace", NAMESPACE])?;
    ensure!(log.contains(held.1), "the log of {job} does not list the evidence that is left:\n{log}");
    let left = replicas(environment)?;
    ensure!(left.is_empty(), "{} Pods of the operator are left", left.len());
    report.done(format_args!(
        "helm uninstall: its hook has released the finalizer; the definition and {} resources are left",
        before.len()
    ));
    Ok(())
}

/// Sets the number of replicas, and waits until as many are ready, or all have ended.
pub(super) fn scale(environment: &Environment, number: u32) -> Result<()> {
    let deployment = format!("deployment/{RELEASE}");
    let option = format!("--replicas={number}");
    environment.kubectl(&["scale", &deployment, &option, "--namespace", NAMESPACE])?;
    if number == 0 {
        return until("the Pods of the operator have ended", Duration::from_mins(2), || {
            Ok(replicas(environment)?.is_empty().then_some(()))
        });
    }
    let wait = ["rollout", "status", &deployment, "--namespace", NAMESPACE, "--timeout=2m"];
    environment.kubectl(&wait).map(drop)
}

/// The Pods of the operator.
pub(super) fn replicas(environment: &Environment) -> Result<Vec<Value>> {
    items(environment.get(&["pods", REPLICAS, "--namespace", NAMESPACE])?)
}

pub(super) fn name_of(pod: &Value) -> &str {
    pod.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
}

/// Seconds from the creation of a Pod until it was ready, by the API server's clock, which counts whole ones.
fn ready_after(pod: &Value) -> Result<f64> {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
    let ready = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == "Ready" && condition["status"] == "True")
        .with_context(|| format!("find the time at which {} was ready", name_of(pod)))?;
    let time = |value: &Value| -> Result<Timestamp> {
        value.as_str().unwrap_or_default().parse().context("read a time of the Pod")
    };
    let waited =
        time(&ready["lastTransitionTime"])?.duration_since(time(&pod["metadata"]["creationTimestamp"])?);
    Ok(waited.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_time_until_a_pod_is_ready_begins_with_its_creation() {
        let pod = |status: &str| {
            json!({
                "metadata": {"name": "a", "creationTimestamp": "2026-01-02T03:04:05Z"},
                "status": {"conditions": [
                    {"type": "Initialized", "status": "True", "lastTransitionTime": "2026-01-02T03:04:06Z"},
                    {"type": "Ready", "status": status, "lastTransitionTime": "2026-01-02T03:04:08Z"},
                ]},
            })
        };
        assert!((ready_after(&pod("True")).unwrap() - 3.0).abs() < 0.1);
        assert!(ready_after(&pod("False")).is_err());
    }
}
