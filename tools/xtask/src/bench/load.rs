//! What 100,000 live Verifications cost the operator: memory, CPU time, and the delay of its polls. Starts processes.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Result;
use control_plane::Progress;

use super::api_server::RequestCounts;
use super::harness::{Harness, Polling};
use super::population::LIVE;
use super::prometheus::sum;
use super::result::{BenchResult, Goal};
use crate::process::{memory as memory_of, processor_time};

/// How long each measurement takes.
const MEASURED: Duration = Duration::from_mins(1);
/// Time after the first polls until the allocator has returned their memory.
const SETTLING: Duration = Duration::from_secs(20);
/// Both bounds of `spec.polling`.
const INTERVAL: Duration = Duration::from_secs(30);
/// Time after the first polls until their delay is measured: longer than the interval, so that the polls of the start are over.
const SETTLING_OF_POLLS: Duration = Duration::from_secs(40);
/// How long the portal takes to respond.
const SLOW: Duration = Duration::from_secs(2);
const QUICK: Duration = Duration::from_millis(100);
/// The share of polls that must meet the goal of the delay, in percent.
const PERCENTILE: f64 = 99.0;
const MAX_DELAY: Duration = Duration::from_millis(25);

/// Memory, with the operator's own schedule.
pub(super) fn memory(progress: Progress, program: &Path) -> Result<Vec<BenchResult>> {
    let polling = Polling { live: LIVE, interval: None, latency: QUICK, results: None };
    let harness = Harness::start(progress, program, "memory", &polling)?;
    harness.run("memory: settling", SETTLING, || Ok(()))?;
    let id = harness.operator.id();
    let mut resident = Vec::new();
    harness.run("memory: measuring", MEASURED, || {
        resident.push(memory_of(id)?.now);
        Ok(())
    })?;
    resident.sort_by(f64::total_cmp);
    let median = resident.get(resident.len() / 2).copied().unwrap_or(f64::NAN);
    let peak = memory_of(id)?.peak;
    let metrics = harness.operator.metrics()?;
    let record = sum(&metrics, "okid_cache_bytes", |_| true) / f64::from(LIVE);
    let live = sum(&metrics, "okid_live_verifications", |_| true);
    let mut results = vec![
        BenchResult::note("memory: live Verifications", format!("{live:.0}")),
        BenchResult::new(
            "memory: per Verification, in index and queue",
            record,
            0,
            "bytes",
            Goal::AtMost(400.0),
        ),
        BenchResult::new("memory: process, settled", median, 1, "MiB", Goal::AtMost(64.0)),
        BenchResult::note("memory: … peak", format!("{peak:.1} MiB")),
    ];
    results.extend(requests("memory", harness.api_server.request_counts()));
    harness.operator.stop()?;
    Ok(results)
}

/// Polls: each session every 30 s, at a portal that takes 2 s.
pub(super) fn polls(progress: Progress, program: &Path) -> Result<Vec<BenchResult>> {
    let polling = Polling { live: LIVE, interval: Some(INTERVAL), latency: SLOW, results: None };
    let harness = Harness::start(progress, program, "polls", &polling)?;
    harness.run("polls: settling", SETTLING_OF_POLLS, || Ok(()))?;
    let (id, history) = (harness.operator.id(), harness.portal.history());
    let before = harness.operator.metrics()?;
    history.reset();
    let (since, polls, used) = (Instant::now(), history.polls(), processor_time(id)?);
    harness.run("polls: measuring", MEASURED, || Ok(()))?;
    let seconds = since.elapsed().as_secs_f64();
    let delays = history.delays();
    let polls = count(history.polls() - polls);
    let cores = processor_time(id)?.saturating_sub(used).as_secs_f64() / seconds;
    let after = harness.operator.metrics()?;
    let reconciles = |bucket: &str| {
        let chosen = |metrics: &str| {
            sum(metrics, "okid_queue_delay_seconds_bucket", |labels| labels.has("le", bucket))
        };
        chosen(&after) - chosen(&before)
    };
    let failed = sum(&after, "okid_portal_requests_total", |labels| !labels.has("result", "ok"));
    let in_time = 100.0 * reconciles("0.025") / reconciles("+Inf");
    let milliseconds = |micros: u64| count(micros) / 1000.0;
    let p99 = milliseconds(delays.value_at_percentile(PERCENTILE));
    let goal = count(u64::try_from(MAX_DELAY.as_millis()).unwrap_or(u64::MAX));
    let resident = memory_of(id)?;
    let mut results = vec![
        BenchResult::note("polls: requests per second", format!("{:.0}", polls / seconds)),
        BenchResult::new("polls: delay at the portal, p99", p99, 1, "ms", Goal::AtMost(goal)),
        BenchResult::note(
            "polls: … median",
            format!("{:.1} ms", milliseconds(delays.value_at_percentile(50.0))),
        ),
        BenchResult::note(
            "polls: … p99.9",
            format!("{:.1} ms", milliseconds(delays.value_at_percentile(99.9))),
        ),
        BenchResult::note("polls: … maximum", format!("{:.1} ms", milliseconds(delays.max()))),
        BenchResult::new(
            "polls: reconciles started within 25 ms",
            in_time,
            2,
            "%",
            Goal::AtLeast(PERCENTILE),
        ),
        BenchResult::note("polls: failed requests since the start", format!("{failed:.0}")),
        BenchResult::new("polls: CPU", cores, 2, "cores", Goal::Under(0.5)),
        BenchResult::note(
            "polls: memory of the process, now and peak",
            format!("{:.1}, {:.1} MiB", resident.now, resident.peak),
        ),
    ];
    results.extend(requests("polls", harness.api_server.request_counts()));
    harness.operator.stop()?;
    Ok(results)
}

/// Requests to the API server since the start.
fn requests(what: &str, counts: &RequestCounts) -> [BenchResult; 2] {
    let RequestCounts { lists, reads, secrets, writes, events, unexpected } = counts;
    let [lists, reads, secrets, writes, events, unexpected] =
        [lists, reads, secrets, writes, events, unexpected].map(|number| number.load(Ordering::Relaxed));
    [
        BenchResult::note(
            format!("{what}: lists and watches, reads of resources and of Secrets"),
            format!("{lists}, {reads}, {secrets}"),
        ),
        BenchResult::new(
            format!("{what}: writes and all other requests to the API server"),
            count(writes + events + unexpected),
            0,
            "",
            Goal::Exactly(0.0),
        ),
    ]
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
const fn count(number: u64) -> f64 {
    number as f64
}
