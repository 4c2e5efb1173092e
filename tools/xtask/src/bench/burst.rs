//! How long a burst of new verifications waits for its links, beside the least that the same API server can do. Touches
//! processes.
//!
//! Each run has a namespace of its own on one real API server. A run of the operator and a run of the plain loop take
//! turns, so that both meet the same machine; the medians of three runs are compared.

mod least;
mod load;

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

use self::load::{Arrivals, Links};
use super::figure::{Figure, Goal};
use super::operator::{Operator, Run};
use super::prometheus::{Labels, sum};
use super::writes::{REQUESTS, apply, install_definition, metrics};

/// How long the portal takes to answer.
const LATENCY: Duration = Duration::from_millis(20);
/// When the verdict is there, after the session was created.
const VERDICT_AFTER: Duration = Duration::from_secs(15);
/// Runs of each kind; odd, so that there is a median.
const RUNS: usize = 3;
/// The operator's slowest link in a hundred may take so many times as long as the plain loop's.
const RATIO: f64 = 1.5;
/// Requests for each verification up to its verdict, events aside: claim, record, verdict, a read, and a share of those
/// that all have in common.
const MOST_REQUESTS: f64 = 4.2;
/// A run takes far less.
const OVER_WITHIN: Duration = Duration::from_mins(5);
const TICK: Duration = Duration::from_millis(100);
const KEY: &str = "bench-key";

/// A burst.
struct Burst {
    name: &'static str,
    count: u32,
    /// Between two arrivals; zero for all at once.
    every: Duration,
}

const BURSTS: [Burst; 2] = [
    Burst { name: "200 at once", count: 200, every: Duration::ZERO },
    Burst { name: "2,000 at 60 a second", count: 2_000, every: Duration::from_micros(16_667) },
];

/// What one run of the operator showed.
struct Measured {
    links: Histogram<u64>,
    /// Most reconciles that were in flight at once.
    in_flight: usize,
    /// What the API server counted of it, as text of its metrics.
    before: String,
    after: String,
}

pub(super) fn measure(progress: Progress, operator: &Path) -> Result<Vec<Figure>> {
    let control_plane = crate::control_plane::start()?;
    install_definition(&control_plane)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("start tokio's runtime")?;
    let mut figures = Vec::new();
    for burst in &BURSTS {
        let mut runs = Vec::new();
        let mut least = Vec::new();
        for run in 0..RUNS {
            let mut task = progress.start(format!("burst: {}, run {} of {RUNS}", burst.name, run + 1));
            let measured = runtime.block_on(run_operator(&control_plane, operator, burst, run))?;
            task.tick();
            least.push(runtime.block_on(run_least(&control_plane, burst, run, measured.in_flight))?);
            runs.push(measured);
            task.end("done");
        }
        figures.extend(figures_of(burst, &runs, &least));
    }
    control_plane.stop()?;
    Ok(figures)
}

async fn client(control_plane: &ControlPlane) -> Result<Client> {
    let kubeconfig = Kubeconfig::from_yaml(&control_plane.kubeconfig()).context("read the kubeconfig")?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .context("use the kubeconfig")?;
    Client::try_from(config).context("make a client")
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
    let since = Instant::now();
    while !operator.is_ready()? {
        ensure!(since.elapsed() < OVER_WITHIN, "the operator is not ready");
        sleep(TICK).await;
    }
    let client = client(control_plane).await?;
    let before = metrics(control_plane)?;
    let links = Links::watch(client.clone(), &namespace).await?;
    let arrivals = Arrivals::start(client, &namespace, burst.count, burst.every);
    let mut in_flight = 0;
    let since = Instant::now();
    while links.verified() < burst.count {
        ensure!(since.elapsed() < OVER_WITHIN, "{} of {} are verified", links.verified(), burst.count);
        sleep(TICK).await;
        in_flight = in_flight.max(reconciles(&operator.metrics()?));
    }
    let created = arrivals.created().try_collect::<Vec<_>>().await?;
    while events(&operator.metrics()?) < 2 * burst.count {
        ensure!(since.elapsed() < OVER_WITHIN, "events are missing");
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

async fn run_least(
    control_plane: &ControlPlane,
    burst: &Burst,
    run: usize,
    in_flight: usize,
) -> Result<Histogram<u64>> {
    let namespace = format!("least-{}-{run}", burst.count);
    apply(
        control_plane,
        &[json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})],
    )?;
    let client = client(control_plane).await?;
    let arrivals = Arrivals::start(client.clone(), &namespace, burst.count, burst.every);
    least::follow(client, &namespace, arrivals, in_flight.max(1)).await
}

/// Reconciles in flight, as the operator counts them.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a gauge of a small whole number"
)]
fn reconciles(metrics: &str) -> usize {
    sum(metrics, "okid_reconciles_in_flight", |_| true) as usize
}

/// Events that the operator told or dropped.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a counter of a small whole number"
)]
fn events(metrics: &str) -> u32 {
    (sum(metrics, "okid_events_total", |_| true) + sum(metrics, "okid_events_dropped_total", |_| true)) as u32
}

/// A quantile in seconds, the median over the runs.
fn median<'a>(runs: impl Iterator<Item = &'a Histogram<u64>>, quantile: f64) -> f64 {
    let mut values: Vec<u64> = runs.map(|run| run.value_at_quantile(quantile)).collect();
    values.sort_unstable();
    let middle = values.get(values.len() / 2).copied().unwrap_or_default();
    Duration::from_micros(middle).as_secs_f64()
}

fn figures_of(burst: &Burst, runs: &[Measured], least: &[Histogram<u64>]) -> Vec<Figure> {
    let name = burst.name;
    let ours = |quantile| median(runs.iter().map(|run| &run.links), quantile);
    let theirs = |quantile| median(least.iter(), quantile);
    let counted = |chosen: &dyn Fn(&Labels<'_>) -> bool| {
        let mut counts: Vec<f64> = runs
            .iter()
            .map(|run| sum(&run.after, REQUESTS, chosen) - sum(&run.before, REQUESTS, chosen))
            .collect();
        counts.sort_by(f64::total_cmp);
        counts.get(counts.len() / 2).copied().unwrap_or_default() / f64::from(burst.count)
    };
    let resource = |labels: &Labels<'_>, name| labels.has("resource", name);
    // Each verification is created by the bench.
    let is_own = |labels: &Labels<'_>| resource(labels, "verifications") && labels.has("verb", "POST");
    let about_it = |labels: &Labels<'_>| {
        (resource(labels, "verifications") && !is_own(labels)) || resource(labels, "secrets")
    };
    let verb = |name: &'static str, verb: &'static str| {
        move |labels: &Labels<'_>| resource(labels, name) && labels.has("verb", verb)
    };
    vec![
        Figure::note(
            format!("burst, {name}: created to link, p50 and p99"),
            format!("{:.2} s, {:.2} s", ours(0.5), ours(0.99)),
        ),
        Figure::note(
            format!("burst, {name}: the least that the API server can do"),
            format!("{:.2} s, {:.2} s", theirs(0.5), theirs(0.99)),
        ),
        Figure::new(
            format!("burst, {name}: p99 beside the least"),
            ours(0.99) / theirs(0.99),
            2,
            "",
            Goal::AtMost(RATIO),
        ),
        Figure::new(
            format!("burst, {name}: requests for each, events aside"),
            counted(&about_it),
            2,
            "",
            Goal::AtMost(MOST_REQUESTS),
        ),
        Figure::note(
            format!("burst, {name}: GET, PATCH of it, events, each"),
            format!(
                "{:.2}, {:.2}, {:.2}",
                counted(&verb("verifications", "GET")),
                counted(&verb("verifications", "PATCH")),
                counted(&|labels| resource(labels, "events")),
            ),
        ),
        Figure::note(
            format!("burst, {name}: most reconciles in flight"),
            runs.iter().map(|run| run.in_flight.to_string()).collect::<Vec<_>>().join(", "),
        ),
    ]
}
