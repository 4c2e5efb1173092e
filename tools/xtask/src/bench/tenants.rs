//! How long one namespace waits for its links beside another namespace with far more Verifications. Starts processes.
//!
//! Each run has an operator of its own, on one real API server. The other namespace is complete before the operator starts, so
//! that creating it is not part of what is measured, and is deleted before the next run. Links are measured twice: while the
//! operator meets the other namespace for the first time, and once it has dealt with all of it. The runs without another
//! namespace come first and last, because other load of the machine changes.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use control_plane::{ControlPlane, Progress};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use hdrhistogram::Histogram;
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use okid_operator::api::Verification;
use okid_sandbox::Sandbox;
use serde_json::{Map, Value, json};
use tokio::time::sleep;

use super::arrivals::{Arrivals, Links};
use super::burst::{client, until_ready};
use super::fake::runtime;
use super::operator::{Operator, Run};
use super::prometheus::sum;
use super::result::{BenchResult, Goal};
use super::writes::{apply, install_definition};

/// How long the portal takes to respond.
const LATENCY: Duration = Duration::from_millis(20);
/// The links that are measured at a time, and the time between two of them.
const LINKS: u32 = 20;
const EVERY: Duration = Duration::from_millis(250);
/// The operator has dealt with the other namespace once it makes fewer requests about Verifications in a second.
const FEW_REQUESTS: f64 = 20.0;
/// How many times as long as alone the median may take.
const RATIO: f64 = 1.2;
/// Requests in flight while the Verifications of the other namespace are created.
const CREATED_AT_ONCE: usize = 32;
/// A run takes far less.
const DONE_WITHIN: Duration = Duration::from_mins(2);
/// The namespaces that are measured, one after the other, and the other one.
const FIRST: &str = "first";
const LATER: &str = "later";
const LARGE: &str = "large";
const KEY: &str = "bench-key";
/// Bytes of each entry of the large Secret: a thousand are almost the mebibyte that a Secret may have.
const ENTRY_BYTES: usize = 1_000;

/// What the other namespace has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Neighbour {
    /// 1,000 Verifications, each with another entry of one Secret. The portal knows none of the keys.
    LargeSecret,
    /// 2,000 Verifications with a Secret that does not exist.
    MissingSecret,
    /// 1,000 Verifications with 100 Secrets, each with a key that the portal accepts.
    ManySecrets,
}

impl Neighbour {
    const ALL: [Self; 3] = [Self::LargeSecret, Self::MissingSecret, Self::ManySecrets];

    const fn name(self) -> &'static str {
        match self {
            Self::LargeSecret => "1,000 entries of one Secret",
            Self::MissingSecret => "2,000 that wait for a Secret",
            Self::ManySecrets => "100 Secrets, 1,000 Verifications",
        }
    }

    const fn count(self) -> usize {
        match self {
            Self::LargeSecret | Self::ManySecrets => 1_000,
            Self::MissingSecret => 2_000,
        }
    }

    const fn secrets(self) -> usize {
        match self {
            Self::LargeSecret => 1,
            Self::MissingSecret => 0,
            Self::ManySecrets => 100,
        }
    }

    fn secret_name(self, number: usize) -> String {
        match self {
            Self::LargeSecret => "large".to_owned(),
            Self::MissingSecret => "missing".to_owned(),
            Self::ManySecrets => format!("secret-{number}"),
        }
    }

    /// The Secret of this number.
    fn secret(self, number: usize) -> Value {
        let data: Map<String, Value> = match self {
            Self::LargeSecret => (0..self.count())
                .map(|entry| (format!("entry-{entry}"), json!(format!("{entry:0>ENTRY_BYTES$}"))))
                .collect(),
            Self::MissingSecret | Self::ManySecrets => {
                Map::from_iter([("apiKey".to_owned(), json!(key(number)))])
            }
        };
        json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": self.secret_name(number), "namespace": LARGE},
            "stringData": data,
        })
    }

    /// The Secret of the Verification of this number.
    fn reference(self, number: usize) -> Value {
        match self {
            Self::LargeSecret => json!({"name": self.secret_name(0), "key": format!("entry-{number}")}),
            Self::MissingSecret => json!({"name": self.secret_name(0)}),
            Self::ManySecrets => json!({"name": self.secret_name(number % self.secrets())}),
        }
    }
}

/// The key in the Secret of this number.
fn key(number: usize) -> String {
    format!("{KEY}-{number}")
}

/// The times from creation to link, in microseconds.
struct Measured {
    /// While the operator meets the other namespace for the first time.
    first: Histogram<u64>,
    /// Once it has dealt with all of it; `None` without another namespace.
    later: Option<Histogram<u64>>,
}

pub(super) fn measure(progress: Progress, operator: &Path) -> Result<Vec<BenchResult>> {
    let control_plane = crate::control_plane::start()?;
    install_definition(&control_plane)?;
    let runtime = runtime()?;
    let namespace = |name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    let secret = |namespace| {
        json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "okid-api-key", "namespace": namespace},
            "stringData": {"apiKey": KEY},
        })
    };
    let objects = [namespace(FIRST), namespace(LATER), namespace(LARGE), secret(FIRST), secret(LATER)];
    apply(&control_plane, &objects)?;
    let measure = |neighbour: Option<Neighbour>| {
        let beside = neighbour.map_or("alone", Neighbour::name);
        let task = progress.start(format!("tenants: {beside}"));
        let measured = runtime.block_on(run(&control_plane, operator, neighbour));
        task.end(if measured.is_ok() { "done" } else { "failed" });
        measured.with_context(|| format!("tenants: {beside}"))
    };
    let mut alone = measure(None)?.first;
    let beside = Neighbour::ALL
        .into_iter()
        .map(|neighbour| Ok((neighbour, measure(Some(neighbour))?)))
        .collect::<Result<Vec<_>>>()?;
    alone.add(&measure(None)?.first).context("add up the runs without another namespace")?;
    control_plane.stop()?;
    Ok(results(&alone, &beside))
}

async fn run(control_plane: &ControlPlane, program: &Path, neighbour: Option<Neighbour>) -> Result<Measured> {
    let client = client(control_plane).await?;
    if let Some(neighbour) = neighbour {
        let secrets: Vec<Value> = (0..neighbour.secrets()).map(|number| neighbour.secret(number)).collect();
        if !secrets.is_empty() {
            apply(control_plane, &secrets)?;
        }
        create(&client, neighbour).await?;
    }
    let keys = (0..Neighbour::ManySecrets.secrets()).map(key);
    let portal = keys.fold(Sandbox::builder().key(KEY), okid_sandbox::Builder::key);
    let portal = portal.latency(LATENCY).records(0).try_start().await.context("start the sandbox portal")?;
    let operator = Operator::start(
        program,
        Run {
            kubeconfig: &control_plane.kubeconfig_path(),
            portal: &portal.url(),
            arguments: &["--allow-plain-http".to_owned()],
            folder: control_plane.folder(),
            needs: Some(control_plane.lifeline()?),
        },
    )?;
    until_ready(&operator).await?;
    let first = links(&client, FIRST, &operator).await?;
    let later = if neighbour.is_some() {
        until_few_requests(&operator).await?;
        Some(links(&client, LATER, &operator).await?)
    } else {
        None
    };
    // Requests of the other namespace that are in flight need not finish.
    drop(operator);
    portal.stop().await;
    for namespace in [FIRST, LATER, LARGE] {
        delete_all(&client, namespace).await?;
    }
    Ok(Measured { first, later })
}

/// Creates Verifications in a namespace and measures the time until each has its link.
async fn links(client: &Client, namespace: &str, operator: &Operator) -> Result<Histogram<u64>> {
    let links = Links::watch(client.clone(), namespace).await?;
    let arrivals = Arrivals::start(client.clone(), namespace, LINKS, EVERY);
    links.until(LINKS, operator, DONE_WITHIN).await?;
    let created = arrivals.created().try_collect::<Vec<_>>().await?;
    links.since(created.into_iter().map(|one| (one.name, one.at)))
}

/// Waits until the operator has dealt with the other namespace.
async fn until_few_requests(operator: &Operator) -> Result<()> {
    let requests = || {
        let metrics = operator.metrics()?;
        let count = |name| sum(&metrics, name, |_| true);
        anyhow::Ok(count("okid_verification_reads_total") + count("okid_status_writes_total"))
    };
    let since = Instant::now();
    let mut before = requests()?;
    loop {
        sleep(Duration::from_secs(1)).await;
        let now = requests()?;
        if now - before < FEW_REQUESTS {
            return Ok(());
        }
        ensure!(since.elapsed() < DONE_WITHIN, "the operator did not finish with the other namespace");
        before = now;
    }
}

/// Creates the Verifications of the other namespace.
async fn create(client: &Client, neighbour: Neighbour) -> Result<()> {
    let api: Api<Verification> = Api::namespaced(client.clone(), LARGE);
    stream::iter(0..neighbour.count())
        .map(|number| {
            let api = api.clone();
            async move {
                let object = serde_json::from_value(json!({
                    "apiVersion": "okid.io/v1alpha1", "kind": "Verification",
                    "metadata": {"name": format!("person-{number}")},
                    "spec": {"apiKeySecretRef": neighbour.reference(number)},
                }))
                .context("build a Verification")?;
                api.create(&PostParams::default(), &object).await.context("create a Verification")?;
                anyhow::Ok(())
            }
        })
        .buffer_unordered(CREATED_AT_ONCE)
        .try_collect()
        .await
}

/// Deletes the Verifications of a namespace. The operator is stopped, and none has a finalizer.
async fn delete_all(client: &Client, namespace: &str) -> Result<()> {
    let api: Api<Verification> = Api::namespaced(client.clone(), namespace);
    api.delete_collection(&DeleteParams::default(), &ListParams::default())
        .await
        .context("delete the Verifications")?;
    Ok(())
}

fn results(alone: &Histogram<u64>, beside: &[(Neighbour, Measured)]) -> Vec<BenchResult> {
    let seconds = |links: &Histogram<u64>, quantile| {
        Duration::from_micros(links.value_at_quantile(quantile)).as_secs_f64()
    };
    let times =
        |links: &Histogram<u64>| format!("{:.3} s, {:.3} s", seconds(links, 0.5), seconds(links, 1.0));
    let relative = |links: &Histogram<u64>| seconds(links, 0.5) / seconds(alone, 0.5);
    let mut results =
        vec![BenchResult::note("tenants, alone: creation to link, p50 and maximum", times(alone))];
    for (neighbour, Measured { first, later }) in beside {
        let name = neighbour.name();
        if let Some(later) = later {
            results.push(BenchResult::note(
                format!("tenants, beside {name}: creation to link, p50 and maximum"),
                times(later),
            ));
            results.push(BenchResult::new(
                format!("tenants, beside {name}: p50, relative to alone"),
                relative(later),
                2,
                "",
                Goal::AtMost(RATIO),
            ));
        }
        results.push(BenchResult::note(
            format!("tenants, beside {name}: … while all of it is new"),
            format!("{}, {:.2} times", times(first), relative(first)),
        ));
    }
    results
}
