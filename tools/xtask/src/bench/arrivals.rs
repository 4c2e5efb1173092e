//! New Verifications on a schedule, and when each has its link. Connects to the API server.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::{Stream, StreamExt as _, stream};
use hdrhistogram::Histogram;
use kube::api::{Api, PostParams, WatchEvent, WatchParams};
use kube::{Client, ResourceExt as _};
use okid_operator::api::{Phase, Verification};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant as TokioInstant, sleep, sleep_until};

use super::operator::Operator;

/// Time between two looks at how many have a link.
const TICK: Duration = Duration::from_millis(100);

/// A Verification that was created.
pub(super) struct Created {
    pub(super) name: String,
    /// When the API server responded.
    pub(super) at: Instant,
    pub(super) object: Verification,
}

/// Verifications that are created on a fixed schedule, however slowly they are handled.
pub(super) struct Arrivals {
    created: mpsc::UnboundedReceiver<Result<Created>>,
}

impl Arrivals {
    /// Starts to create them.
    pub(super) fn start(client: Client, namespace: &str, count: u32, every: Duration) -> Self {
        let (sender, created) = mpsc::unbounded_channel();
        let api: Api<Verification> = Api::namespaced(client, namespace);
        let start = TokioInstant::now();
        tokio::spawn(async move {
            for number in 0..count {
                sleep_until(start + every * number).await;
                let (api, sender) = (api.clone(), sender.clone());
                tokio::spawn(async move {
                    // If the run has failed, the receiver is gone.
                    let _ = sender.send(create(&api, number).await);
                });
            }
        });
        Self { created }
    }

    /// The Verifications, each as soon as it is created.
    pub(super) fn created(self) -> impl Stream<Item = Result<Created>> + Unpin {
        Box::pin(stream::unfold(self.created, |mut created| async {
            let next = created.recv().await?;
            Some((next, created))
        }))
    }
}

async fn create(api: &Api<Verification>, number: u32) -> Result<Created> {
    let object = serde_json::from_value(json!({
        "apiVersion": "okid.io/v1alpha1", "kind": "Verification",
        "metadata": {"name": format!("person-{number}")},
        "spec": {"apiKeySecretRef": {"name": "okid-api-key"}},
    }))
    .context("build a Verification")?;
    let object = api.create(&PostParams::default(), &object).await.context("create a Verification")?;
    Ok(Created { name: object.name_any(), at: Instant::now(), object })
}

/// When each Verification has its link, as a watch sees it.
pub(super) struct Links {
    seen: Arc<Mutex<Seen>>,
    watch: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    links: HashMap<String, Instant>,
    verified: u32,
}

impl Links {
    /// Watches the Verifications of an empty namespace.
    pub(super) async fn watch(client: Client, namespace: &str) -> Result<Self> {
        let api: Api<Verification> = Api::namespaced(client, namespace);
        let parameters = WatchParams::default().timeout(290);
        let mut events = api.watch(&parameters, "0").await.context("watch Verifications")?.boxed();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let noted = Arc::clone(&seen);
        let watch = tokio::spawn(async move {
            while let Some(Ok(event)) = events.next().await {
                if let WatchEvent::Added(object) | WatchEvent::Modified(object) = event {
                    noted.lock().note(&object);
                }
            }
        });
        Ok(Self { seen, watch })
    }

    /// Waits until so many have a link.
    pub(super) async fn until(&self, count: u32, operator: &Operator, within: Duration) -> Result<()> {
        let since = Instant::now();
        loop {
            let linked = self.seen.lock().links.len();
            if linked >= count as usize {
                return Ok(());
            }
            operator.check()?;
            ensure!(since.elapsed() < within, "only {linked} of {count} have a link");
            sleep(TICK).await;
        }
    }

    /// The number of verified ones.
    pub(super) fn verified(&self) -> u32 {
        self.seen.lock().verified
    }

    /// The times from creation to link, in microseconds.
    pub(super) fn since(self, created: impl Iterator<Item = (String, Instant)>) -> Result<Histogram<u64>> {
        self.watch.abort();
        let seen = self.seen.lock();
        let mut histogram = histogram()?;
        for (name, at) in created {
            let link = seen.links.get(&name).with_context(|| format!("{name} has no link"))?;
            record(&mut histogram, link.saturating_duration_since(at))?;
        }
        Ok(histogram)
    }
}

impl Seen {
    fn note(&mut self, object: &Verification) {
        let Some(status) = &object.status else { return };
        if status.portal_url.is_some() {
            let name = object.name_any();
            let now = Instant::now();
            self.links.entry(name).or_insert(now);
        }
        // The last write of each.
        if status.phase == Some(Phase::Verified) && status.settled {
            self.verified += 1;
        }
    }
}

pub(super) fn histogram() -> Result<Histogram<u64>> {
    Histogram::new(3).context("create a histogram")
}

pub(super) fn record(histogram: &mut Histogram<u64>, time: Duration) -> Result<()> {
    let micros = u64::try_from(time.as_micros()).context("count microseconds")?;
    histogram.record(micros.max(1)).context("record a time")
}
