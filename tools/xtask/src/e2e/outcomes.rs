//! `kubectl wait` for each end of a check, and Helm's for a chart that holds a Verification.

use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::json;

use super::command::Finished;
use super::environment::Environment;
use super::portal::Portal;
use super::report::{Report, figure};
use super::verification::{Name, list, manifest};

const NAMESPACE: &str = "outcomes";
/// A chart with one Verification, whose name is that of the release.
const CHART: &str = "examples/helm";
/// The portal's verdicts, and what is waited for after each; the last check fails without one.
const ENDS: [(&str, &str); 3] = [("verified", "Verified"), ("rejected", "Rejected"), ("expired", "Expired")];
/// Far longer than the test waits: with this timeout Helm must not run into it.
const TIMEOUT: &str = "--timeout=5m";
/// Seconds from the verdict, or from the link, until Helm has returned.
const RETURNS_WITHIN: f64 = 10.0;

/// Ends a check in each way, while `kubectl wait` waits for all.
pub(super) fn each_end(environment: &Environment, report: &mut Report) -> Result<()> {
    environment.create_namespace(NAMESPACE)?;
    let polling = json!({"polling": {"maxInterval": "1s"}});
    let mut checks: Vec<_> = ENDS.iter().map(|(name, _)| manifest(name, &polling)).collect();
    checks.push(manifest("failed", &json!({"activeDeadline": "5s"})));
    environment.apply(NAMESPACE, &list(&checks))?;

    let wait = ["wait", "verifications", "--all", "--for=condition=Finished", "--namespace", NAMESPACE];
    let wait = [&wait[..], &["--timeout=2m"]].concat();
    let waited = thread::scope(|scope| {
        let wait = scope.spawn(|| environment.kubectl(&wait));
        for (name, _) in ENDS {
            Portal(environment).decide(&Name(NAMESPACE, name).id(environment)?, name)?;
        }
        wait.join().map_err(|_| anyhow!("the thread that waits panicked"))?
    })?;
    ensure!(waited.lines().count() == checks.len(), "kubectl wait printed\n{waited}");
    for (name, phase) in ENDS.into_iter().chain([("failed", "Failed")]) {
        let name = Name(NAMESPACE, name);
        name.wait_for_phase(environment, phase)?;
        let (verified, kstatus) =
            if phase == "Verified" { ("Verified", "Ready") } else { ("Verified=False", "Stalled") };
        for condition in [verified, kstatus] {
            name.wait(environment, &format!("condition={condition}"))?;
        }
    }
    report.done("kubectl wait returns for Verified, Rejected, Expired and Failed");
    Ok(())
}

/// Installs a chart with a Verification that is ready with the link.
pub(super) fn chart_is_ready_with_the_link(environment: &Environment, report: &mut Report) -> Result<()> {
    let since = Instant::now();
    let install = ["install", "link", CHART, "--set", "readyWhen=SessionCreated", "--wait", TIMEOUT];
    environment.helm_succeeds(NAMESPACE, &install)?;
    let returned = since.elapsed();
    let link = Name(NAMESPACE, "link").get(environment)?;
    ensure!(
        link.pointer("/status/portalUrl").is_some(),
        "Helm has not waited for the link: {}",
        link["status"]
    );
    report.done("helm install --wait of a chart returns on SessionCreated");
    figure("returned after", returned.as_secs_f64(), "s", RETURNS_WITHIN)
}

/// Installs a chart with a Verification that is rejected.
pub(super) fn chart_fails_on_rejected(environment: &Environment, report: &mut Report) -> Result<()> {
    let install = ["install", "refused", CHART, "--wait", TIMEOUT];
    let (Finished { succeeded, output, errors }, waited) = thread::scope(|scope| {
        let helm = scope.spawn(|| {
            let finished = environment.helm(NAMESPACE, &install);
            (finished, Instant::now())
        });
        // Helm applies the chart meanwhile.
        let name = Name(NAMESPACE, "refused");
        environment.kubectl(&["wait", "--for=create", "verification/refused", "--namespace", NAMESPACE])?;
        Portal(environment).decide(&name.id(environment)?, "rejected")?;
        name.wait(environment, "condition=Stalled")?;
        let since = Instant::now();
        let (finished, ended) = helm.join().map_err(|_| anyhow!("the thread that runs Helm panicked"))?;
        anyhow::Ok((finished?, ended.saturating_duration_since(since)))
    })
    .context("reject a check that Helm waits for")?;
    ensure!(!succeeded, "helm install of a rejected check succeeded:\n{output}");
    ensure!(errors.contains("refused"), "Helm does not name the Verification:\n{errors}");
    report.done("helm install --wait of a chart fails on Rejected");
    figure("failed after Stalled", waited.as_secs_f64(), "s", RETURNS_WITHIN)
}
