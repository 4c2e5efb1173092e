//! How long a burst of new Verifications waits for its links, compared with a minimal client at the same API server. Starts
//! processes.
//!
//! Each run has its own namespace on one real API server. Runs of the operator and of the minimal client alternate, so that
//! both meet the same load of the machine. The medians of three runs are compared.

mod baseline;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use control_plane::{ControlPlane, Progress};
use futures::TryStreamExt as _;
use hdrhistogram::Histogram;
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use okid_sandbox::{Act, Person, Sandbox, Verdict};
use serde_json::json;
use tokio::time::sleep;

use super::arrivals::{Arrivals, Links};
use super::fake::runtime;
use super::operator::{Operator, Run};
use super::prometheus::{Labels, sum};
use super::result::{BenchResult, Goal};
use super::writes::{REQUESTS, apply, install_definition, metrics};

/// How long the portal takes to respond.
const LATENCY: Duration = Duration::from_millis(20);
/// When the verdict follows, after the session was created.
const VERDICT_AFTER: Duration = Duration::from_secs(15);
/// Runs of each kind. An odd number has a median.
const RUNS: usize = 3;
/// How many times as long as with the minimal client the p99 of the operator may take.
const RATIO: f64 = 1.5;
/// Requests for each Verification until its verdict, without events: claim, record, verdict, one read, and a share of the
/// requests for all of them.
const MOST_REQUESTS: f64 = 4.2;
/// A run takes far less.
const DONE_WITHIN: Duration = Duration::from_mins(5);
const READY_WITHIN: Duration = Duration::from_mins(1);
const TICK: Duration = Duration::from_millis(100);
const KEY: &str = "bench-key";

/// A burst.
struct Burst {
    name: &'static str,
    count: u32,
    /// Time between two arrivals; zero for all at once.
    every: Duration,
}

const BURSTS: [Burst; 2] = [
    Burst { name: "200 at once", count: 200, every: Duration::ZERO },
    Burst { name: "2,000 at 60/s", count: 2_000, every: Duration::from_micros(16_667) },
];

/// What one run of the operator measured.
struct Measured {
    links: Histogram<u64>,
    /// The maximum of reconciles in flight.
    in_flight: usize,
    /// The API server's metrics before and after.
    before: String,
    after: String,
}

pub(super) fn measure(progress: Progress, operator: &Path) -> Result<Vec<BenchResult>> {
    let control_plane = crate::control_plane::start()?;
    install_definition(&control_plane)?;
    let runtime = runtime()?;
    let mut results = Vec::new();
    for burst in &BURSTS {
        let mut runs = Vec::new();
        let mut baselines = Vec::new();
        for run in 0..RUNS {
            let mut task = progress.start(format!("burst: {}, run {} of {RUNS}", burst.name, run + 1));
            let measured = runtime.block_on(run_operator(&control_plane, operator, burst, run))?;
            task.tick();
            baselines.push(runtime.block_on(run_baseline(&control_plane, burst, run, measured.in_flight))?);
            runs.push(measured);
            task.end("done");
        }
        results.extend(results_of(burst, &runs, &baselines));
    }
    control_plane.stop()?;
    Ok(results)
}

pub(super) async fn client(control_plane: &ControlPlane) -> Result<Client> {
    let kubeconfig = Kubeconfig::from_yaml(&control_plane.kubeconfig()).context("read the kubeconfig")?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .context("use the kubeconfig")?;
    Client::try_from(config).context("create a client")
}

async fn run_operator(
    control_plane: &ControlPlane,
    program: &Path,
    burst: &Burst,
    run: usize,
) -> Result<Measured> {
    let namespace = format!("operator-{}-{run}", burst.count);
    let person = Person::new().then(VERDICT_AFTER, Act::Decide(Verdict::Verified));
    let sandbox = Sandbox::builder()
        .key(KEY)
        .person(person)
        .latency(LATENCY)
        .records(0)
        .try_start()
        .await
        .context("start the sandbox portal")?;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "okid-api-key", "namespace": namespace},
        "stringData": {"apiKey": KEY},
    });
    let owner = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    apply(control_plane, &[owner, secret])?;
    let arguments = ["--allow-plain-http", "--portal-qps", "0", "--key-qps", "0", "--namespace", &namespace];
    let operator = Operator::start(
        program,
        Run {
            kubeconfig: &control_plane.kubeconfig_path(),
            portal: &sandbox.url(),
            arguments: &arguments.map(str::to_owned),
            folder: control_plane.folder(),
            needs: Some(control_plane.lifeline()?),
        },
    )?;
    until_ready(&operator).await?;
    let client = client(control_plane).await?;
    let before = metrics(control_plane)?;
    let links = Links::watch(client.clone(), &namespace).await?;
    let arrivals = Arrivals::start(client, &namespace, burst.count, burst.every);
    let mut in_flight = 0;
    let since = Instant::now();
    while links.verified() < burst.count {
        ensure!(since.elapsed() < DONE_WITHIN, "only {} of {} are verified", links.verified(), burst.count);
        sleep(TICK).await;
        in_flight = in_flight.max(reconciles(&operator.metrics()?));
    }
    let created = arrivals.created().try_collect::<Vec<_>>().await?;
    while events(&operator.metrics()?) < 2 * burst.count {
        ensure!(since.elapsed() < DONE_WITHIN, "not all events were published");
        sleep(TICK).await;
    }
    let after = metrics(control_plane)?;
    operator.stop()?;
    sandbox.stop().await;
    Ok(Measured {
        links: links.since(created.into_iter().map(|one| (one.name, one.at)))?,
        in_flight,
        before,
        after,
    })
}

/// Waits until the operator is ready.
pub(super) async fn until_ready(operator: &Operator) -> Result<()> {
    let since = Instant::now();
    while !operator.is_ready()? {
        ensure!(since.elapsed() < READY_WITHIN, "the operator did not become ready");
        sleep(TICK).await;
    }
    Ok(())
}

async fn run_baseline(
    control_plane: &ControlPlane,
    burst: &Burst,
    run: usize,
    in_flight: usize,
) -> Result<Histogram<u64>> {
    let namespace = format!("baseline-{}-{run}", burst.count);
    apply(
        control_plane,
        &[json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})],
    )?;
    let client = client(control_plane).await?;
    let arrivals = Arrivals::start(client.clone(), &namespace, burst.count, burst.every);
    baseline::follow(client, &namespace, arrivals, in_flight.max(1)).await
}

/// Reconciles in flight, from the operator's metrics.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a gauge of a small whole number"
)]
fn reconciles(metrics: &str) -> usize {
    sum(metrics, "okid_reconciles_in_flight", |_| true) as usize
}

/// Events that the operator published or dropped.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a counter of a small whole number"
)]
fn events(metrics: &str) -> u32 {
    (sum(metrics, "okid_events_total", |_| true) + sum(metrics, "okid_events_dropped_total", |_| true)) as u32
}

/// The median of a quantile over all runs, in seconds.
fn median<'a>(runs: impl Iterator<Item = &'a Histogram<u64>>, quantile: f64) -> f64 {
    let mut values: Vec<u64> = runs.map(|run| run.value_at_quantile(quantile)).collect();
    values.sort_unstable();
    let middle = values.get(values.len() / 2).copied().unwrap_or_default();
    Duration::from_micros(middle).as_secs_f64()
}

fn results_of(burst: &Burst, runs: &[Measured], baselines: &[Histogram<u64>]) -> Vec<BenchResult> {
    let name = burst.name;
    let ours = |quantile| median(runs.iter().map(|run| &run.links), quantile);
    let theirs = |quantile| median(baselines.iter(), quantile);
    let counted = |chosen: &dyn Fn(&Labels<'_>) -> bool| {
        let mut counts: Vec<f64> = runs
            .iter()
            .map(|run| sum(&run.after, REQUESTS, chosen) - sum(&run.before, REQUESTS, chosen))
            .collect();
        counts.sort_by(f64::total_cmp);
        counts.get(counts.len() / 2).copied().unwrap_or_default() / f64::from(burst.count)
    };
    let resource = |labels: &Labels<'_>, name| labels.has("resource", name);
    // The bench itself creates each Verification.
    let is_own = |labels: &Labels<'_>| resource(labels, "verifications") && labels.has("verb", "POST");
    let is_about_it = |labels: &Labels<'_>| {
        (resource(labels, "verifications") && !is_own(labels)) || resource(labels, "secrets")
    };
    let verb = |name: &'static str, verb: &'static str| {
        move |labels: &Labels<'_>| resource(labels, name) && labels.has("verb", verb)
    };
    vec![
        BenchResult::note(
            format!("burst, {name}: creation to link, p50 and p99"),
            format!("{:.2} s, {:.2} s", ours(0.5), ours(0.99)),
        ),
        BenchResult::note(
            format!("burst, {name}: … with a minimal client"),
            format!("{:.2} s, {:.2} s", theirs(0.5), theirs(0.99)),
        ),
        BenchResult::new(
            format!("burst, {name}: p99, relative to the minimal client"),
            ours(0.99) / theirs(0.99),
            2,
            "",
            Goal::AtMost(RATIO),
        ),
        BenchResult::new(
            format!("burst, {name}: requests per Verification, without events"),
            counted(&is_about_it),
            2,
            "",
            Goal::AtMost(MOST_REQUESTS),
        ),
        BenchResult::note(
            format!("burst, {name}: GET, PATCH and events, per Verification"),
            format!(
                "{:.2}, {:.2}, {:.2}",
                counted(&verb("verifications", "GET")),
                counted(&verb("verifications", "PATCH")),
                counted(&|labels| resource(labels, "events")),
            ),
        ),
        BenchResult::note(
            format!("burst, {name}: maximum of reconciles in flight"),
            runs.iter().map(|run| run.in_flight.to_string()).collect::<Vec<_>>().join(", "),
        ),
    ]
}
