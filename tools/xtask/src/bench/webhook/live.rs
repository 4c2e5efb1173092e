//! The time from the portal's verdict to the status, with notifications: the real operator and a real API server. Starts
//! processes.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use control_plane::{ControlPlane, Progress};
use futures::StreamExt as _;
use hdrhistogram::Histogram;
use kube::api::{Api, WatchEvent, WatchParams};
use kube::{Client, ResourceExt as _};
use okid_operator::api::{Phase, Verification};
use okid_sandbox::{Sandbox, Verdict, Webhook};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::{interval, timeout};

use super::super::arrivals::{Arrivals, Links, histogram, record};
use super::super::burst::{client, until_ready};
use super::super::fake::runtime;
use super::super::operator::{Operator, Run};
use super::super::result::{BenchResult, Goal};
use super::super::writes::{apply, install_definition};
use super::{HEADER, NAME, SECRET, arguments};

/// How long the portal takes to respond.
const LATENCY: Duration = Duration::from_millis(20);
const COUNT: u32 = 300;
/// Time between two arrivals, and between two verdicts.
const EVERY: Duration = Duration::from_millis(50);
/// The goal of the time from the verdict to the status.
const GOAL: f64 = 1.0;
/// A run takes far less.
const DONE_WITHIN: Duration = Duration::from_mins(3);
const NAMESPACE: &str = "webhook";
const KEY: &str = "bench-key";

pub(super) fn measure(progress: Progress, operator: &Path) -> Result<Vec<BenchResult>> {
    let control_plane = crate::control_plane::start()?;
    install_definition(&control_plane)?;
    let runtime = runtime()?;
    let task = progress.start(format!("webhook: {COUNT} verdicts, one every {} ms", EVERY.as_millis()));
    let measured = runtime.block_on(run(&control_plane, operator));
    task.end(if measured.is_ok() { "done" } else { "failed" });
    let delays = measured?;
    control_plane.stop()?;
    let seconds = |quantile| Duration::from_micros(delays.value_at_quantile(quantile)).as_secs_f64();
    Ok(vec![
        BenchResult::note(
            "webhook: verdict to status, median and maximum",
            format!("{:.3} s, {:.3} s", seconds(0.5), seconds(1.0)),
        ),
        BenchResult::new("webhook: verdict to status, p99", seconds(0.99), 3, "s", Goal::AtMost(GOAL)),
    ])
}

async fn run(control_plane: &ControlPlane, program: &Path) -> Result<Histogram<u64>> {
    let portal = Sandbox::builder().key(KEY).latency(LATENCY).records(0);
    let portal = portal.try_start().await.context("start the sandbox portal")?;
    let owner = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "okid-api-key", "namespace": NAMESPACE},
        "stringData": {"apiKey": KEY},
    });
    apply(control_plane, &[owner, secret])?;
    let mut arguments = arguments(control_plane.folder())?;
    arguments.push("--allow-plain-http".to_owned());
    let operator = Operator::start(
        program,
        Run {
            kubeconfig: &control_plane.kubeconfig_path(),
            portal: &portal.url(),
            arguments: &arguments,
            folder: control_plane.folder(),
            needs: Some(control_plane.lifeline()?),
        },
    )?;
    until_ready(&operator).await?;
    let url = format!("http://{}/notify/{NAME}", operator.webhook_address()?);
    portal.set_webhook(Some(Webhook { url, secret: SECRET.to_owned(), header: HEADER.to_owned() }));
    let client = client(control_plane).await?;
    create(&client, &operator).await?;
    let (ids, mut verified) = watch_verdicts(&client).await?;
    let mut decided = HashMap::new();
    let mut ticks = interval(EVERY);
    for (name, id) in ids {
        ticks.tick().await;
        decided.insert(name, Instant::now());
        portal.decide(&id, Verdict::Verified).context("decide")?;
    }
    let seen = timeout(DONE_WITHIN, &mut verified).await.context("not every verdict is shown")?;
    let mut delays = histogram()?;
    for (name, at) in seen.context("watch the verdicts")?? {
        let decided = decided.get(&name).with_context(|| format!("{name} was not decided"))?;
        record(&mut delays, at.saturating_duration_since(*decided))?;
    }
    operator.stop()?;
    portal.stop().await;
    Ok(delays)
}

/// Creates the Verifications, and waits until each has its link.
async fn create(client: &Client, operator: &Operator) -> Result<()> {
    let links = Links::watch(client.clone(), NAMESPACE).await?;
    let _arrivals = Arrivals::start(client.clone(), NAMESPACE, COUNT, EVERY);
    links.until(COUNT, operator, DONE_WITHIN).await
}

/// When each Verification was verified, once all are.
type Verdicts = JoinHandle<Result<HashMap<String, Instant>>>;

/// The names and ids of all Verifications, and a watch of their verdicts.
async fn watch_verdicts(client: &Client) -> Result<(Vec<(String, String)>, Verdicts)> {
    let api: Api<Verification> = Api::namespaced(client.clone(), NAMESPACE);
    let list = api.list(&kube::api::ListParams::default()).await.context("list Verifications")?;
    let version = list.metadata.resource_version.unwrap_or_default();
    let id = |object: Verification| {
        let id = object.status.as_ref().and_then(|status| status.verification_id.clone());
        id.map(|id| (object.name_any(), id)).context("find the id of a Verification")
    };
    let ids = list.items.into_iter().map(id).collect::<Result<Vec<_>>>()?;
    let mut events =
        api.watch(&WatchParams::default().timeout(290), &version).await.context("watch")?.boxed();
    let verdicts = tokio::spawn(async move {
        let mut seen = HashMap::new();
        while seen.len() < COUNT as usize {
            let event = events.next().await.context("the watch has ended")?.context("watch")?;
            if let WatchEvent::Added(object) | WatchEvent::Modified(object) = event
                && object.status.as_ref().is_some_and(|status| status.phase == Some(Phase::Verified))
            {
                seen.entry(object.name_any()).or_insert_with(Instant::now);
            }
        }
        Ok(seen)
    });
    Ok((ids, verdicts))
}
