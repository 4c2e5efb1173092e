//! A minimal client: it writes claim, record and verdict of each Verification once, each on top of the last response, and
//! does nothing else. Connects to the API server.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use hdrhistogram::Histogram;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use okid_operator::api::Verification;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::super::arrivals::{Arrivals, Created, histogram, record};
use super::{LATENCY, VERDICT_AFTER};

/// Takes each Verification from its creation to its verdict, with at most this many in flight, and returns the times from
/// creation to link, in microseconds.
pub(super) async fn follow(
    client: Client,
    namespace: &str,
    arrivals: Arrivals,
    in_flight: usize,
) -> Result<Histogram<u64>> {
    let api: Api<Verification> = Api::namespaced(client, namespace);
    let permits = Arc::new(Semaphore::new(in_flight));
    let mut tasks = JoinSet::new();
    let mut created = arrivals.created();
    while let Some(one) = created.next().await {
        tasks.spawn(follow_one(api.clone(), Arc::clone(&permits), one?));
    }
    let mut histogram = histogram()?;
    while let Some(took) = tasks.join_next().await {
        record(&mut histogram, took.context("follow a Verification")??)?;
    }
    Ok(histogram)
}

async fn follow_one(api: Api<Verification>, permits: Arc<Semaphore>, created: Created) -> Result<Duration> {
    let Created { name, at, object } = created;
    let permit = permits.acquire().await.context("wait for a permit")?;
    let claim =
        json!({"attempt": 1, "state": "Claimed", "holder": "bench/0", "portal": "https://portal.test"});
    let claimed = write(&api, &name, &object, json!({"phase": "Creating", "session": claim})).await?;
    sleep(LATENCY).await;
    let record = json!({
        "phase": "AwaitingUser", "verificationId": format!("ver_{name}"),
        "portalUrl": format!("https://portal.test/?verification_id=ver_{name}"),
        "flow": ["terms", "document", "liveness"], "modules": ["document", "liveness"],
        "session": {"state": "Created"},
    });
    let recorded = write(&api, &name, &claimed, record).await?;
    let took = at.elapsed();
    drop(permit);
    sleep(VERDICT_AFTER).await;
    let _permit = permits.acquire().await.context("wait for a permit")?;
    write(&api, &name, &recorded, json!({"phase": "Verified", "outcome": "Verified", "settled": true}))
        .await?;
    Ok(took)
}

async fn write(
    api: &Api<Verification>,
    name: &str,
    current: &Verification,
    status: Value,
) -> Result<Verification> {
    let version = current.metadata.resource_version.as_deref();
    let conditions: Vec<Value> = ["Ready", "Reconciling", "CredentialsReady", "SessionCreated"]
        .into_iter()
        .map(|type_| {
            json!({
                "type": type_, "status": "False", "reason": "FakeProcess", "observedGeneration": 1,
                "message": "The link is published; the person has not started.",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            })
        })
        .collect();
    let mut patch = json!({"metadata": {"resourceVersion": version}, "status": status});
    patch["status"]["conditions"] = Value::Array(conditions);
    patch["status"]["observedGeneration"] = json!(1);
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .with_context(|| format!("write the status of {name}"))
}
