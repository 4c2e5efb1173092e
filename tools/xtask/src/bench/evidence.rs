//! What storing evidence costs: memory, requests, and throughput compared with a plain upload loop. Starts processes and
//! writes to the disk.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use control_plane::{Folder, Progress};
use jiff::Timestamp;
use okid_operator::{api::EvidenceSpec, store::budget::DEFAULT_BYTES};
use serde_json::{Value, json};

use super::api_server::{FakeApiServer, RequestCounts};
use super::fake::{FakeProcess, runtime};
use super::operator::{Operator, Run};
use super::pending::PendingEvidence;
use super::prometheus::get;
use super::result::{BenchResult, Goal};
use super::session::allowed;
use super::store::{ACCESS_KEY, Put, SECRET_KEY, put};
use super::upload::{Load, upload};
use crate::process::{memory, processor_time};

/// The number of Verifications, which store evidence at the same time.
const VERIFICATIONS: u32 = 1_000;
const KINDS: [&str; 4] = ["Redacted", "Unredacted", "Front", "Back"];
const IMAGES: u32 = 4;
const IMAGE_BYTES: usize = 1_500_000;
/// As many images as fit into the operator's memory budget.
const CONCURRENCY: usize = DEFAULT_BYTES / IMAGE_BYTES;
/// The images and the manifest.
const OBJECTS: u32 = IMAGES + 1;
const KEY: &str = "bench-key";
/// The same in base64.
const KEY_ENCODED: &str = "YmVuY2gta2V5";
const BUCKET: &str = "evidence";
/// The plain loop uploads one half before the operator and one half after it, because other load on the machine changes.
const PLAIN: [&str; 2] = ["plain-before", "plain-after"];
const STORED_WITHIN: Duration = Duration::from_mins(10);
const TICK: Duration = Duration::from_millis(250);

/// What it cost to store everything.
struct Cost {
    /// The operator's peak memory in MiB.
    peak: f64,
    cpu: Duration,
    stored: usize,
    images: Calls,
    /// Requests to the API server: reads of resources, writes of status, events.
    requests: [u64; 3],
}

/// Requests for images, as the portal counted them.
struct Calls {
    total: f64,
    failed: f64,
}

pub(super) fn measure(progress: Progress, program: &Path) -> Result<Vec<BenchResult>> {
    let folder = Folder::create("okid-bench-").context("create a temporary folder")?;
    let buckets = folder.path().join("store");
    for bucket in PLAIN.iter().chain([&BUCKET]) {
        std::fs::create_dir_all(buckets.join(bucket)).context("create a bucket")?;
    }
    let start = |arguments: &[&str]| FakeProcess::start(arguments, folder.path(), Some(folder.lifeline()?));
    let store = start(&["store", &buckets.to_string_lossy()])?;
    let portal = start(&["portal", KEY, &VERIFICATIONS.to_string(), &IMAGE_BYTES.to_string()])?;

    let [before, after] = PLAIN;
    let before = plain(progress, &store, &buckets, before)?;
    let cost = run(progress, program, &portal, &store, folder.path())?;
    let evidence = put(store.address, BUCKET)?;
    let objects = files(&buckets.join(BUCKET))?;
    remove(&buckets, BUCKET)?;
    let after = plain(progress, &store, &buckets, after)?;
    results(&cost, &evidence, objects, &[before, after])
}

/// One Verification for each session of the portal.
fn pending(portal: &FakeProcess) -> Result<PendingEvidence> {
    let images: Vec<Value> = KINDS.iter().map(|kind| json!({"kind": kind, "required": true})).collect();
    let evidence = json!({"images": images, "destination": {"store": "bench"}});
    let evidence: EvidenceSpec =
        serde_json::from_value(evidence).context("build the spec of the evidence")?;
    let sessions: Value = serde_json::from_str(&get(portal.address, "/sandbox/sessions")?)
        .context("read the portal's sessions")?;
    let ids = sessions.as_array().into_iter().flatten().filter_map(|session| session["id"].as_str());
    let ids: Vec<String> = ids.map(str::to_owned).collect();
    ensure!(u32::try_from(ids.len()) == Ok(VERIFICATIONS), "the portal has {} sessions", ids.len());
    PendingEvidence::new(&allowed(&portal.url())?, &ids, &evidence, Timestamp::now())
}

/// Uploads half of all bytes with the plain loop, and removes them.
fn plain(progress: Progress, store: &FakeProcess, buckets: &Path, bucket: &str) -> Result<Put> {
    let runtime = runtime()?;
    let folders = VERIFICATIONS / 2;
    let work = runtime.spawn(upload(Load {
        server: store.url(),
        bucket: bucket.to_owned(),
        folders,
        images: IMAGES,
        image_bytes: IMAGE_BYTES,
        concurrency: CONCURRENCY,
    }));
    let mut task = progress.start(format!("evidence: plain upload of {} images", folders * IMAGES));
    while !work.is_finished() {
        sleep(TICK);
        task.tick();
    }
    task.end("done");
    runtime.block_on(work).context("wait for the plain upload")??;
    let put = put(store.address, bucket)?;
    remove(buckets, bucket)?;
    Ok(put)
}

/// Stores everything with the operator.
fn run(
    progress: Progress,
    program: &Path,
    portal: &FakeProcess,
    store: &FakeProcess,
    folder: &Path,
) -> Result<Cost> {
    let pending = Arc::new(pending(portal)?);
    let runtime = runtime()?;
    let api_server = runtime.block_on(FakeApiServer::start(pending.clone(), KEY_ENCODED))?;
    let (kubeconfig, stores) = (folder.join("kubeconfig"), folder.join("stores.yaml"));
    std::fs::write(&kubeconfig, api_server.kubeconfig()).context("write a kubeconfig")?;
    std::fs::write(&stores, stores_file(store)).context("write the stores")?;
    let arguments = [
        "--allow-plain-http",
        "--portal-qps",
        "0",
        "--key-qps",
        "0",
        "--stores-file",
        &stores.to_string_lossy(),
    ];
    let operator = Operator::start(
        program,
        Run {
            kubeconfig: &kubeconfig,
            portal: &portal.url(),
            arguments: &arguments.map(str::to_owned),
            folder,
            needs: None,
        },
    )?;
    let what = format!("evidence: storing {} images of {} MB", VERIFICATIONS * IMAGES, megabytes(1.0));
    let mut task = progress.start(what);
    let all = usize::try_from(VERIFICATIONS).context("count verifications")?;
    let since = Instant::now();
    while pending.settled() < all {
        ensure!(
            since.elapsed() < STORED_WITHIN,
            "{} of {all} are stored after {} s",
            pending.stored(),
            STORED_WITHIN.as_secs()
        );
        operator.check()?;
        sleep(TICK);
        task.tick();
    }
    task.end("done");
    let RequestCounts { lists: _, reads, secrets: _, writes, events, unexpected } =
        api_server.request_counts();
    let requests = [reads, writes, events].map(|number| number.load(Ordering::Relaxed));
    let unexpected = unexpected.load(Ordering::Relaxed);
    ensure!(unexpected == 0, "the API server received {unexpected} unexpected requests");
    let cost = Cost {
        peak: memory(operator.id())?.peak,
        cpu: processor_time(operator.id())?,
        stored: pending.stored(),
        images: calls(portal)?,
        requests,
    };
    operator.stop()?;
    Ok(cost)
}

/// The file of stores; JSON is valid YAML.
fn stores_file(store: &FakeProcess) -> String {
    let options = json!({
        "aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY,
        "aws_region": "eu-central-1", "aws_endpoint": store.url(),
    });
    let bench = json!({
        "name": "bench", "url": format!("s3://{BUCKET}/kyc"), "options": options, "namespaces": ["default"],
    });
    json!({"stores": [bench]}).to_string()
}

fn calls(portal: &FakeProcess) -> Result<Calls> {
    let counters = get(portal.address, "/sandbox/counters")?;
    let counters: Value = serde_json::from_str(&counters).context("read the portal's counters")?;
    let number = |value: &Value| value.as_f64().unwrap_or_default();
    let mut calls = Calls { total: 0.0, failed: 0.0 };
    for endpoint in ["image", "image_unredacted", "image_front", "image_back"] {
        let counter = &counters["endpoints"][endpoint];
        calls.total += number(&counter["requests"]);
        calls.failed += number(&counter["requests"]) - number(&counter["statuses"]["200"]);
    }
    Ok(calls)
}

/// The number of files in a folder and its subfolders.
fn files(folder: &Path) -> Result<u32> {
    let mut number = 0;
    let context = || format!("read {}", folder.display());
    for entry in std::fs::read_dir(folder).with_context(context)? {
        let entry = entry.with_context(context)?;
        number += if entry.file_type().with_context(context)?.is_dir() { files(&entry.path())? } else { 1 };
    }
    Ok(number)
}

/// Removes a bucket, so that its files are not written to the disk during another measurement.
fn remove(buckets: &Path, bucket: &str) -> Result<()> {
    std::fs::remove_dir_all(buckets.join(bucket)).with_context(|| format!("empty the bucket {bucket}"))
}

fn results(cost: &Cost, evidence: &Put, objects: u32, plain: &[Put; 2]) -> Result<Vec<BenchResult>> {
    let Cost { peak, cpu, stored, images: calls, requests: [reads, writes, events] } = cost;
    ensure!(
        u32::try_from(*stored) == Ok(VERIFICATIONS),
        "the evidence of {stored} of {VERIFICATIONS} Verifications is stored"
    );
    let each = |number: f64| number / f64::from(VERIFICATIONS);
    let images = f64::from(VERIFICATIONS * IMAGES);
    let rate = |images: f64, seconds: f64| megabytes(images) / seconds;
    let rates = plain.each_ref().map(|put| rate(images / 2.0, put.seconds));
    let baseline = rate(images, plain.iter().map(|put| put.seconds).sum());
    let stored = rate(images, evidence.seconds);
    let [first, second] = rates;
    Ok(vec![
        BenchResult::note(
            "evidence: Verifications, images of each, concurrent images",
            format!("{VERIFICATIONS}, {IMAGES} of {} MB, {CONCURRENCY}", megabytes(1.0)),
        ),
        BenchResult::new("evidence: memory of the process, peak", *peak, 1, "MiB", Goal::Under(128.0)),
        BenchResult::new(
            "evidence: throughput, relative to a plain upload loop",
            stored / baseline,
            2,
            "",
            Goal::AtLeast(0.8),
        ),
        BenchResult::note("evidence: … of the operator", format!("{stored:.0} MB/s")),
        BenchResult::note(
            "evidence: … of the loop, before and after",
            format!("{first:.0}, {second:.0} MB/s"),
        ),
        BenchResult::note(
            "evidence: CPU time of the operator, per Verification",
            format!("{:.1} ms", each(cpu.as_secs_f64() * 1_000.0)),
        ),
        BenchResult::new(
            "evidence: image requests to the portal, per Verification",
            each(calls.total),
            2,
            "",
            Goal::Exactly(f64::from(IMAGES)),
        ),
        BenchResult::note("evidence: … that returned no image, total", format!("{:.0}", calls.failed)),
        BenchResult::new(
            "evidence: objects written, per Verification (images, manifest)",
            each(evidence.accepted),
            2,
            "",
            Goal::Exactly(f64::from(OBJECTS)),
        ),
        BenchResult::new(
            "evidence: objects in the store, per Verification",
            each(f64::from(objects)),
            2,
            "",
            Goal::Exactly(f64::from(OBJECTS)),
        ),
        BenchResult::note(
            "evidence: reads of resources, status writes and events, total",
            format!("{reads}, {writes}, {events}"),
        ),
        BenchResult::note(
            "evidence: writes that the store refused, total",
            format!("{:.0}", evidence.refused),
        ),
    ])
}

#[expect(clippy::cast_precision_loss, reason = "an image has far fewer than 2^53 bytes")]
fn megabytes(images: f64) -> f64 {
    images * IMAGE_BYTES as f64 / 1e6
}
