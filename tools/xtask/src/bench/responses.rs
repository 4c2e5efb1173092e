//! What large responses of a portal cost the operator, if a thousand arrive at once. Starts processes.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use control_plane::Progress;

use super::harness::{Harness, Polling};
use super::prometheus::sum;
use super::result::{BenchResult, Goal};
use crate::process::memory;

/// The number of sessions, each with one large response.
const RESPONSES: u32 = 1_000;
/// Portraits in base64, as portals send them.
const PORTRAITS: usize = 600_000;
/// Just below the longest response that the operator reads.
const LONGEST: usize = 16 * 1024 * 1024 - 1024;
/// Both bounds of `spec.polling`, so that all are polled within the time that the portal holds its responses.
const INTERVAL: Duration = Duration::from_secs(2);
const LATENCY: Duration = Duration::from_millis(20);
/// How long the responses may take. The operator itself abandons a response after 30 s.
const ENDED_WITHIN: Duration = Duration::from_mins(3);

pub(super) fn measure(progress: Progress, program: &Path) -> Result<Vec<BenchResult>> {
    let mut results = Vec::new();
    for (what, bytes) in [("600 KB", PORTRAITS), ("16 MiB", LONGEST)] {
        results.extend(of_size(progress, program, what, bytes)?);
    }
    Ok(results)
}

fn of_size(progress: Progress, program: &Path, size: &str, bytes: usize) -> Result<[BenchResult; 2]> {
    let what = format!("responses: 1,000 of {size} at once");
    let polling =
        Polling { live: RESPONSES, interval: Some(INTERVAL), latency: LATENCY, results: Some(bytes) };
    let harness = Harness::start(progress, program, &what, &polling)?;
    let since = Instant::now();
    harness
        .wait(&what, ENDED_WITHIN, |harness| Ok(harness.portal.history().large_responses() >= RESPONSES))?;
    let seconds = since.elapsed().as_secs_f64();
    let peak = memory(harness.operator.id())?.peak;
    let metrics = harness.operator.metrics()?;
    let failed = sum(&metrics, "okid_portal_requests_total", |labels| !labels.has("result", "ok"));
    harness.operator.stop()?;
    Ok([
        BenchResult::new(format!("{what}: peak memory of the process"), peak, 1, "MiB", Goal::AtMost(64.0)),
        BenchResult::note(
            "responses: … failed requests, and time until all had ended",
            format!("{failed:.0}, {seconds:.1} s"),
        ),
    ])
}
