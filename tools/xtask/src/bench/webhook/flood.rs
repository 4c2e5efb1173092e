//! What a flood of forged notifications costs, and how far it delays polls. Starts processes.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use control_plane::Progress;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::interval;

use super::super::harness::{Harness, Polling};
use super::super::prometheus::sum;
use super::super::result::{BenchResult, Goal};
use super::{HEADER, NAME, arguments};
use crate::process::processor_time;

const LIVE: u32 = 10_000;
/// Both bounds of `spec.polling`.
const INTERVAL: Duration = Duration::from_secs(30);
/// How long the portal takes to respond.
const LATENCY: Duration = Duration::from_millis(100);
/// Time after the first polls until the measurement: longer than the interval, so that the polls of the start are over.
const SETTLING: Duration = Duration::from_secs(40);
/// How long each measurement takes.
const MEASURED: Duration = Duration::from_mins(1);
/// Kept connections, and the time between two calls of each: 1,000 calls a second.
const CONNECTIONS: usize = 20;
const EVERY: Duration = Duration::from_millis(20);
const BODY_BYTES: usize = 1024;
/// The flood must not be smaller than this, in calls per second, or it proves nothing.
const CALLS: f64 = 950.0;
/// The processor time that the flood may take, in cores, and how far it may delay polls, in milliseconds.
const CORES: f64 = 0.2;
const DELAY: f64 = 25.0;

/// What is measured in one minute.
struct Measured {
    cores: f64,
    /// The delay of polls at the portal, p99, in milliseconds.
    delay: f64,
}

pub(super) fn measure(progress: Progress, program: &Path) -> Result<Vec<BenchResult>> {
    let folder = tempfile::tempdir().context("create a temporary folder")?;
    let polling = Polling { live: LIVE, interval: Some(INTERVAL), latency: LATENCY, results: None };
    let harness = Harness::start_with(progress, program, "webhook", &polling, &arguments(folder.path())?)?;
    harness.run("webhook: settling", SETTLING, || Ok(()))?;
    let calm = measure_minute(&harness, "webhook: measuring without a flood")?;
    let runtime = super::super::fake::runtime()?;
    let forged = |harness: &Harness| {
        let metrics = harness.operator.metrics()?;
        let is_forged =
            |labels: &super::super::prometheus::Labels<'_>| labels.has("result", "unauthenticated");
        anyhow::Ok(sum(&metrics, "okid_webhook_notifications_total", is_forged))
    };
    let before = forged(&harness)?;
    let flood = flood(&runtime, harness.operator.webhook_address()?);
    let flooded = measure_minute(&harness, "webhook: measuring with a flood")?;
    let calls = forged(&harness)? - before;
    drop(flood);
    harness.operator.stop()?;
    Ok(vec![
        BenchResult::new(
            "webhook: forged calls per second",
            calls / MEASURED.as_secs_f64(),
            0,
            "",
            Goal::AtLeast(CALLS),
        ),
        BenchResult::new(
            "webhook: CPU of forged calls",
            flooded.cores - calm.cores,
            2,
            "cores",
            Goal::AtMost(CORES),
        ),
        BenchResult::note(
            "webhook: delay of polls at the portal, p99, without and with them",
            format!("{:.1} ms, {:.1} ms", calm.delay, flooded.delay),
        ),
        BenchResult::new("webhook: … difference", flooded.delay - calm.delay, 1, "ms", Goal::AtMost(DELAY)),
    ])
}

fn measure_minute(harness: &Harness, what: &str) -> Result<Measured> {
    let (id, history) = (harness.operator.id(), harness.portal.history());
    history.reset();
    let (since, used) = (Instant::now(), processor_time(id)?);
    harness.run(what, MEASURED, || Ok(()))?;
    let cores = processor_time(id)?.saturating_sub(used).as_secs_f64() / since.elapsed().as_secs_f64();
    let delay = Duration::from_micros(history.delays().value_at_percentile(99.0));
    Ok(Measured { cores, delay: 1000.0 * delay.as_secs_f64() })
}

/// Sends forged calls until it is dropped.
fn flood(runtime: &Runtime, address: SocketAddr) -> JoinSet<Result<()>> {
    let mut connections = JoinSet::new();
    for _ in 0..CONNECTIONS {
        connections.spawn_on(call(address), runtime.handle());
    }
    connections
}

async fn call(address: SocketAddr) -> Result<()> {
    let (signature, body) = ("0".repeat(64), "x".repeat(BODY_BYTES));
    let request = format!(
        "POST /notify/{NAME} HTTP/1.1\r\nhost: {address}\r\n{HEADER}: {signature}\r\ncontent-length: {BODY_BYTES}\r\n\r\n{body}"
    );
    let mut ticks = interval(EVERY);
    // The receiver closes a connection that has had no authentic call for a while.
    loop {
        let mut stream = TcpStream::connect(address).await.context("connect to the receiver")?;
        stream.set_nodelay(true).context("set up the connection")?;
        loop {
            ticks.tick().await;
            if exchange(&mut stream, request.as_bytes()).await.is_err() {
                break;
            }
        }
    }
}

/// Makes one call, and reads the answer, which has no body.
async fn exchange(stream: &mut TcpStream, request: &[u8]) -> io::Result<()> {
    stream.write_all(request).await?;
    let (mut received, mut block) = (Vec::new(), [0; 1024]);
    while !received.ends_with(b"\r\n\r\n") {
        let read = stream.read(&mut block).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        received.extend_from_slice(&block[..read]);
    }
    Ok(())
}
