//! What one Verification costs the API server, counted by the metrics of a real API server. Starts processes.

use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use control_plane::{ControlPlane, Progress};
use okid_sandbox::{Act, Endpoint, Person, Sandbox, Verdict};
use serde_json::{Value, json};

use super::operator::{Operator, Run};
use super::prometheus::{Labels, sum};
use super::result::{BenchResult, Goal};
use crate::cargo::root;

/// The number of Verifications, which run at the same time.
const VERIFICATIONS: u32 = 100;
/// Time between two acts of a person. The operator shows a change at most every 10 s, so each change is shown.
const PACE: Duration = Duration::from_secs(15);
/// Both bounds of `spec.polling`.
const POLL_INTERVAL: &str = "2s";
/// Status writes without progress: claim, created, verdict.
const MINIMUM_WRITES: u32 = 3;
const KEY: &str = "bench-key";
/// A run takes far less.
const DONE_WITHIN: Duration = Duration::from_mins(5);
const TICK: Duration = Duration::from_millis(250);
pub(super) const REQUESTS: &str = "apiserver_request_total";

/// What the person does before the verdict. Each act changes the status or the progress that is shown.
fn acts() -> Vec<Act> {
    let complete = |module: &str| Act::Complete(module.to_owned());
    vec![Act::Open, complete("terms"), complete("document"), complete("liveness"), complete("form_data")]
}

pub(super) fn measure(progress: Progress, operator: &Path) -> Result<Vec<BenchResult>> {
    let control_plane = crate::control_plane::start()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("start tokio's runtime")?;
    let acts = acts();
    let changes = u32::try_from(acts.len()).context("count acts")?;
    let person = acts
        .into_iter()
        .chain([Act::Decide(Verdict::Verified)])
        .zip(1_u32..)
        .fold(Person::new(), |person, (act, number)| person.then(PACE * number, act));
    let sandbox = runtime
        .block_on(Sandbox::builder().key(KEY).person(person).records(0).try_start())
        .context("start the sandbox portal")?;
    install(&control_plane)?;

    let before = metrics(&control_plane)?;
    let running = start(operator, &control_plane, &sandbox)?;
    let mut task = progress
        .start(format!("writes: {VERIFICATIONS} Verifications, {} s each", (PACE * (changes + 1)).as_secs()));
    let since = Instant::now();
    while !is_done(&running, &sandbox)? {
        ensure!(since.elapsed() < DONE_WITHIN, "the Verifications were not finished after {DONE_WITHIN:?}");
        sleep(TICK);
        task.tick();
    }
    task.end("done");
    running.stop()?;
    let after = metrics(&control_plane)?;

    let phases = kubectl(control_plane.kubectl().args([
        "get",
        "verifications",
        "--output",
        "jsonpath={.items[*].status.phase}",
    ]))?;
    let verified = phases.split(' ').filter(|phase| *phase == "Verified").count();
    ensure!(
        u32::try_from(verified) == Ok(VERIFICATIONS),
        "{verified} of {VERIFICATIONS} are Verified: {phases}"
    );
    runtime.block_on(sandbox.stop());
    control_plane.stop()?;
    Ok(results(&before, &after, changes))
}

/// Installs the definition and waits until it is served.
pub(super) fn install_definition(control_plane: &ControlPlane) -> Result<()> {
    let definition = root().join("crds/verifications.okid.io.yaml");
    kubectl(control_plane.kubectl().args(["apply", "--server-side", "--filename"]).arg(&definition))?;
    let established = ["wait", "--for=condition=Established", "--timeout=30s", "--filename"];
    kubectl(control_plane.kubectl().args(established).arg(&definition))?;
    Ok(())
}

/// Creates objects in this order.
pub(super) fn apply(control_plane: &ControlPlane, objects: &[Value]) -> Result<()> {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    let path = control_plane.folder().join("objects.json");
    std::fs::write(&path, list.to_string()).with_context(|| format!("write {}", path.display()))?;
    kubectl(control_plane.kubectl().args(["create", "--filename"]).arg(path))?;
    Ok(())
}

/// Installs the definition, the key and the Verifications before the operator starts.
fn install(control_plane: &ControlPlane) -> Result<()> {
    install_definition(control_plane)?;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "okid-api-key", "namespace": "default"},
        "stringData": {"apiKey": KEY},
    });
    let verifications: Vec<Value> = (0..VERIFICATIONS)
        .map(|number| {
            json!({
                "apiVersion": "okid.io/v1alpha1", "kind": "Verification",
                "metadata": {"name": format!("person-{number}"), "namespace": "default"},
                "spec": {
                    "apiKeySecretRef": {"name": "okid-api-key"},
                    "polling": {"minInterval": POLL_INTERVAL, "maxInterval": POLL_INTERVAL},
                },
            })
        })
        .collect();
    apply(control_plane, &[secret])?;
    apply(control_plane, &verifications)
}

fn start(operator: &Path, control_plane: &ControlPlane, sandbox: &Sandbox) -> Result<Operator> {
    let arguments = ["--allow-plain-http", "--portal-qps", "0", "--key-qps", "0"].map(str::to_owned);
    Operator::start(
        operator,
        Run {
            kubeconfig: &control_plane.kubeconfig_path(),
            portal: &sandbox.url(),
            arguments: &arguments,
            folder: control_plane.folder(),
            needs: Some(control_plane.lifeline()?),
        },
    )
}

/// Whether all Verifications are settled and both events of each were published or dropped. Reads the operator's metrics,
/// because requests to the API server would be counted.
fn is_done(operator: &Operator, sandbox: &Sandbox) -> Result<bool> {
    let metrics = operator.metrics()?;
    let number = |name| sum(&metrics, name, |_| true);
    let events = number("okid_events_total") + number("okid_events_dropped_total");
    Ok(sandbox.count(Endpoint::Create) >= u64::from(VERIFICATIONS)
        && number("okid_live_verifications") < 0.5
        && events >= f64::from(2 * VERIFICATIONS))
}

fn results(before: &str, after: &str, changes: u32) -> Vec<BenchResult> {
    let counted =
        |chosen: &dyn Fn(&Labels<'_>) -> bool| sum(after, REQUESTS, chosen) - sum(before, REQUESTS, chosen);
    let each = |count: f64| count / f64::from(VERIFICATIONS);
    let ours = |labels: &Labels<'_>| labels.has("group", "okid.io");
    let status = |labels: &Labels<'_>| ours(labels) && labels.has("subresource", "status");
    let writes = |labels: &Labels<'_>| {
        ["POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"]
            .iter()
            .any(|verb| labels.has("verb", verb))
    };
    let events = |labels: &Labels<'_>| labels.has("resource", "events");
    // The API server renews its own Leases.
    let others =
        |labels: &Labels<'_>| !status(labels) && !events(labels) && !labels.has("resource", "leases");
    let secrets = |labels: &Labels<'_>| labels.has("resource", "secrets");
    let verb = |name: &'static str| move |labels: &Labels<'_>| ours(labels) && labels.has("verb", name);
    let minimum = f64::from(MINIMUM_WRITES + changes);
    vec![
        BenchResult::note(
            "writes: Verifications, progress changes of each",
            format!("{VERIFICATIONS}, {changes}, {} s apart", PACE.as_secs()),
        ),
        BenchResult::new(
            format!("writes: status, per Verification (claim, created, {changes} changes, verdict)"),
            each(counted(&|labels| status(labels) && writes(labels))),
            2,
            "",
            Goal::Exactly(minimum),
        ),
        BenchResult::new(
            "writes: other than status, events and Leases, per Verification",
            each(counted(&|labels| writes(labels) && others(labels))),
            2,
            "",
            Goal::Exactly(0.0),
        ),
        BenchResult::note(
            "writes: events, per Verification",
            format!("{:.2}", each(counted(&|labels| writes(labels) && events(labels)))),
        ),
        BenchResult::note(
            "writes: reads of the resource, per Verification",
            format!("{:.2}", each(counted(&verb("GET")))),
        ),
        BenchResult::note(
            "writes: lists and watches, total",
            format!(
                "{:.0}",
                counted(&|labels| {
                    ours(labels) && (labels.has("verb", "LIST") || labels.has("verb", "WATCH"))
                })
            ),
        ),
        BenchResult::note(
            "writes: reads of the Secret, total",
            format!("{:.0}", counted(&|labels| { secrets(labels) && labels.has("verb", "GET") })),
        ),
    ]
}

/// The API server's metrics.
pub(super) fn metrics(control_plane: &ControlPlane) -> Result<String> {
    kubectl(control_plane.kubectl().args(["get", "--raw", "/metrics"]))
}

/// Runs kubectl and returns its output.
fn kubectl(command: &mut Command) -> Result<String> {
    let output = command.output().context("run kubectl")?;
    ensure!(
        output.status.success(),
        "kubectl exited with {}:\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).context("read the output of kubectl")
}
