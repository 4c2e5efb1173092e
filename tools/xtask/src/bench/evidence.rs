//! What storing evidence costs: memory, requests, and how much slower than a plain upload it is. Touches processes and
//! the disk.

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

use super::cluster::{Cluster, Counted};
use super::figure::{Figure, Goal};
use super::operator::{Operator, Run};
use super::owed::Owed;
use super::process::{memory, processor_time};
use super::prometheus::get;
use super::session::allowed;
use super::stand_in::{Running, runtime};
use super::store::{ACCESS_KEY, Put, SECRET_KEY, put};
use super::upload::{Load, upload};

/// How many verifications store at once.
const VERIFICATIONS: u32 = 1_000;
const KINDS: [&str; 4] = ["Redacted", "Unredacted", "Front", "Back"];
const IMAGES: u32 = 4;
const IMAGE_BYTES: usize = 1_500_000;
/// As many as the operator's budget of bytes has room for.
const AT_ONCE: usize = DEFAULT_BYTES / IMAGE_BYTES;
/// The images and the manifest.
const OBJECTS: u32 = IMAGES + 1;
const KEY: &str = "bench-key";
/// The same in base 64.
const KEY_ENCODED: &str = "YmVuY2gta2V5";
const BUCKET: &str = "evidence";
/// The plain loop uploads half before the operator and half after it: what else runs on the machine changes.
const PLAIN: [&str; 2] = ["plain-before", "plain-after"];
const STORED_WITHIN: Duration = Duration::from_mins(10);
const TICK: Duration = Duration::from_millis(250);

/// What it took the operator, and others, until all was stored.
struct Used {
    /// The most memory that it held, in MiB.
    most: f64,
    processor: Duration,
    stored: usize,
    images: Calls,
    /// Requests to the API server: resources read, statuses written, Events.
    requests: [u64; 3],
}

/// Calls for images, as the portal counted them.
struct Calls {
    all: f64,
    failed: f64,
}

pub(super) fn measure(progress: Progress, program: &Path) -> Result<Vec<Figure>> {
    let folder = Folder::create("okid-bench-").context("make a temporary folder")?;
    let buckets = folder.path().join("store");
    for bucket in PLAIN.iter().chain([&BUCKET]) {
        std::fs::create_dir_all(buckets.join(bucket)).context("make a bucket")?;
    }
    let start = |arguments: &[&str]| Running::start(arguments, folder.path(), Some(folder.lifeline()?));
    let store = start(&["store", &buckets.to_string_lossy()])?;
    let portal = start(&["portal", KEY, &VERIFICATIONS.to_string(), &IMAGE_BYTES.to_string()])?;

    let [before, after] = PLAIN;
    let before = plain(progress, &store, &buckets, before)?;
    let used = run(progress, program, &portal, &store, folder.path())?;
    let evidence = put(store.address, BUCKET)?;
    let objects = files(&buckets.join(BUCKET))?;
    remove(&buckets, BUCKET)?;
    let after = plain(progress, &store, &buckets, after)?;
    figures(&used, &evidence, objects, &[before, after])
}

/// The verifications, one for each session of the portal.
fn owed(portal: &Running) -> Result<Owed> {
    let images: Vec<Value> = KINDS.iter().map(|kind| json!({"kind": kind, "required": true})).collect();
    let evidence = json!({"images": images, "destination": {"store": "bench"}});
    let evidence: EvidenceSpec = serde_json::from_value(evidence).context("ask for images")?;
    let sessions: Value = serde_json::from_str(&get(portal.address, "/sandbox/sessions")?)
        .context("read the portal's sessions")?;
    let ids = sessions.as_array().into_iter().flatten().filter_map(|session| session["id"].as_str());
    let ids: Vec<String> = ids.map(str::to_owned).collect();
    ensure!(u32::try_from(ids.len()) == Ok(VERIFICATIONS), "the portal has {} sessions", ids.len());
    Owed::new(&allowed(&portal.url())?, &ids, &evidence, Timestamp::now())
}

/// The plain upload loop with half of all bytes, which are removed after it.
fn plain(progress: Progress, store: &Running, buckets: &Path, bucket: &str) -> Result<Put> {
    let runtime = runtime()?;
    let folders = VERIFICATIONS / 2;
    let work = runtime.spawn(upload(Load {
        server: store.url(),
        bucket: bucket.to_owned(),
        folders,
        images: IMAGES,
        image_bytes: IMAGE_BYTES,
        at_once: AT_ONCE,
    }));
    let mut task = progress.start(format!("evidence: a plain upload of {} images", folders * IMAGES));
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

/// Lets the operator store everything.
fn run(progress: Progress, program: &Path, portal: &Running, store: &Running, folder: &Path) -> Result<Used> {
    let owed = Arc::new(owed(portal)?);
    let runtime = runtime()?;
    let cluster = runtime.block_on(Cluster::start(owed.clone(), KEY_ENCODED))?;
    let (kubeconfig, stores) = (folder.join("kubeconfig"), folder.join("stores.yaml"));
    std::fs::write(&kubeconfig, cluster.kubeconfig()).context("write a kubeconfig")?;
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
    while owed.settled() < all {
        ensure!(
            since.elapsed() < STORED_WITHIN,
            "{} of {all} are stored after {} s",
            owed.stored(),
            STORED_WITHIN.as_secs()
        );
        operator.check()?;
        sleep(TICK);
        task.tick();
    }
    task.end("done");
    let Counted { lists: _, reads, secrets: _, writes, events, unforeseen } = cluster.counted();
    let requests = [reads, writes, events].map(|number| number.load(Ordering::Relaxed));
    let unforeseen = unforeseen.load(Ordering::Relaxed);
    ensure!(unforeseen == 0, "{unforeseen} requests to the API server were unforeseen");
    let used = Used {
        most: memory(operator.id())?.most,
        processor: processor_time(operator.id())?,
        stored: owed.stored(),
        images: calls(portal)?,
        requests,
    };
    operator.stop()?;
    Ok(used)
}

/// The administrator's stores, as JSON, which is YAML.
fn stores_file(store: &Running) -> String {
    let options = json!({
        "aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY,
        "aws_region": "eu-central-1", "aws_endpoint": store.url(),
    });
    let bench = json!({
        "name": "bench", "url": format!("s3://{BUCKET}/kyc"), "options": options, "namespaces": ["default"],
    });
    json!({"stores": [bench]}).to_string()
}

fn calls(portal: &Running) -> Result<Calls> {
    let counters = get(portal.address, "/sandbox/counters")?;
    let counters: Value = serde_json::from_str(&counters).context("read the portal's counters")?;
    let number = |value: &Value| value.as_f64().unwrap_or_default();
    let mut calls = Calls { all: 0.0, failed: 0.0 };
    for endpoint in ["image", "image_unredacted", "image_front", "image_back"] {
        let counter = &counters["endpoints"][endpoint];
        calls.all += number(&counter["calls"]);
        calls.failed += number(&counter["calls"]) - number(&counter["statuses"]["200"]);
    }
    Ok(calls)
}

/// How many files are in a folder and those below it.
fn files(folder: &Path) -> Result<u32> {
    let mut number = 0;
    let context = || format!("read {}", folder.display());
    for entry in std::fs::read_dir(folder).with_context(context)? {
        let entry = entry.with_context(context)?;
        number += if entry.file_type().with_context(context)?.is_dir() { files(&entry.path())? } else { 1 };
    }
    Ok(number)
}

/// Removes what is in a bucket: nothing of it is to be written to the disk while something else is measured.
fn remove(buckets: &Path, bucket: &str) -> Result<()> {
    std::fs::remove_dir_all(buckets.join(bucket)).with_context(|| format!("empty the bucket {bucket}"))
}

fn figures(used: &Used, evidence: &Put, objects: u32, plain: &[Put; 2]) -> Result<Vec<Figure>> {
    let Used { most, processor, stored, images: calls, requests: [reads, writes, events] } = used;
    ensure!(
        u32::try_from(*stored) == Ok(VERIFICATIONS),
        "the evidence of {stored} of {VERIFICATIONS} verifications is stored"
    );
    let each = |number: f64| number / f64::from(VERIFICATIONS);
    let images = f64::from(VERIFICATIONS * IMAGES);
    let rate = |images: f64, seconds: f64| megabytes(images) / seconds;
    let rates = plain.each_ref().map(|put| rate(images / 2.0, put.seconds));
    let plainly = rate(images, plain.iter().map(|put| put.seconds).sum());
    let stored = rate(images, evidence.seconds);
    let [first, second] = rates;
    Ok(vec![
        Figure::note(
            "evidence: verifications, images of each, at once",
            format!("{VERIFICATIONS}, {IMAGES} of {} MB, {AT_ONCE}", megabytes(1.0)),
        ),
        Figure::new("evidence: memory of the process, the most", *most, 1, "MiB", Goal::Under(128.0)),
        Figure::new(
            "evidence: throughput, of a plain upload loop's",
            stored / plainly,
            2,
            "",
            Goal::AtLeast(0.8),
        ),
        Figure::note("evidence: … the operator's", format!("{stored:.0} MB/s")),
        Figure::note("evidence: … the loop's, before and after", format!("{first:.0}, {second:.0} MB/s")),
        Figure::note(
            "evidence: processor of the operator, each",
            format!("{:.1} ms", each(processor.as_secs_f64() * 1_000.0)),
        ),
        Figure::new(
            "evidence: images asked of the portal, each",
            each(calls.all),
            2,
            "",
            Goal::Exactly(f64::from(IMAGES)),
        ),
        Figure::note("evidence: … not answered with an image, all", format!("{:.0}", calls.failed)),
        Figure::new(
            "evidence: objects written, each (images, manifest)",
            each(evidence.accepted),
            2,
            "",
            Goal::Exactly(f64::from(OBJECTS)),
        ),
        Figure::new(
            "evidence: objects in the store, each",
            each(f64::from(objects)),
            2,
            "",
            Goal::Exactly(f64::from(OBJECTS)),
        ),
        Figure::note(
            "evidence: API server: resources read, status writes, Events, all",
            format!("{reads}, {writes}, {events}"),
        ),
        Figure::note("evidence: writes that the store refused, all", format!("{:.0}", evidence.refused)),
    ])
}

#[expect(clippy::cast_precision_loss, reason = "an image has far fewer than 2^53 bytes")]
fn megabytes(images: f64) -> f64 {
    images * IMAGE_BYTES as f64 / 1e6
}
