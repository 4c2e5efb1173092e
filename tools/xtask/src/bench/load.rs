//! What a hundred thousand live verifications cost the operator: memory, processor, and how late its looks are. Touches
//! processes.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Result;
use control_plane::Progress;

use super::cluster::Counted;
use super::figure::{Figure, Goal};
use super::population::LIVE;
use super::process::{memory as memory_of, processor_time};
use super::prometheus::sum;
use super::rig::{Asked, Rig};

/// How long is measured.
const MEASURED: Duration = Duration::from_mins(1);
/// After the first look at each, until what that took is given back.
const SETTLES: Duration = Duration::from_secs(20);
/// `spec.polling` of the polls.
const INTERVAL: Duration = Duration::from_secs(30);
/// How long the portal takes.
const SLOW: Duration = Duration::from_secs(2);
const QUICK: Duration = Duration::from_millis(100);
/// The share of looks that may be later than the goal.
const PERCENTILE: f64 = 99.0;
const LATE: Duration = Duration::from_millis(25);

/// Memory, on the operator's own schedule.
pub(super) fn memory(progress: Progress, program: &Path) -> Result<Vec<Figure>> {
    let rig = Rig::start(progress, program, "memory", &Asked { interval: None, latency: QUICK })?;
    rig.run("memory: settling", SETTLES, || Ok(()))?;
    let id = rig.operator.id();
    let mut resident = Vec::new();
    rig.run("memory: measuring", MEASURED, || {
        resident.push(memory_of(id)?.now);
        Ok(())
    })?;
    resident.sort_by(f64::total_cmp);
    let median = resident.get(resident.len() / 2).copied().unwrap_or(f64::NAN);
    let most = memory_of(id)?.most;
    let metrics = rig.operator.metrics()?;
    let record = sum(&metrics, "okid_cache_bytes", |_| true) / f64::from(LIVE);
    let live = sum(&metrics, "okid_live_verifications", |_| true);
    let mut figures = vec![
        Figure::note("memory: live verifications", format!("{live:.0}")),
        Figure::new("memory: of a record, in table and queue", record, 0, "bytes", Goal::AtMost(400.0)),
        Figure::new("memory: of the process, settled", median, 1, "MiB", Goal::AtMost(64.0)),
        Figure::note("memory: … the most it ever was", format!("{most:.1} MiB")),
    ];
    figures.extend(asked("memory", rig.cluster.counted()));
    rig.operator.stop()?;
    Ok(figures)
}

/// Looks, each verification every 30 s, at a portal that takes 2 s.
pub(super) fn polls(progress: Progress, program: &Path) -> Result<Vec<Figure>> {
    let rig = Rig::start(progress, program, "polls", &Asked { interval: Some(INTERVAL), latency: SLOW })?;
    rig.run("polls: settling", SETTLES, || Ok(()))?;
    let (id, book) = (rig.operator.id(), rig.portal.book());
    let before = rig.operator.metrics()?;
    book.forget();
    let (since, looks, used) = (Instant::now(), book.looks(), processor_time(id)?);
    rig.run("polls: measuring", MEASURED, || Ok(()))?;
    let seconds = since.elapsed().as_secs_f64();
    let late = book.late();
    let looks = count(book.looks() - looks);
    let cores = processor_time(id)?.saturating_sub(used).as_secs_f64() / seconds;
    let after = rig.operator.metrics()?;
    let reconciler = |bucket: &str| {
        let chosen = |metrics: &str| {
            sum(metrics, "okid_queue_delay_seconds_bucket", |labels| labels.has("le", bucket))
        };
        chosen(&after) - chosen(&before)
    };
    let failed = sum(&after, "okid_portal_requests_total", |labels| !labels.has("result", "ok"));
    let in_time = 100.0 * reconciler("0.025") / reconciler("+Inf");
    let milliseconds = |micros: u64| count(micros) / 1000.0;
    let p99 = milliseconds(late.value_at_percentile(PERCENTILE));
    let goal = count(u64::try_from(LATE.as_millis()).unwrap_or(u64::MAX));
    let resident = memory_of(id)?;
    let mut figures = vec![
        Figure::note("polls: looks, each second", format!("{:.0}", looks / seconds)),
        Figure::new("polls: late by, p99, as the portal sees it", p99, 1, "ms", Goal::AtMost(goal)),
        Figure::note("polls: … median", format!("{:.1} ms", milliseconds(late.value_at_percentile(50.0)))),
        Figure::note("polls: … p99.9", format!("{:.1} ms", milliseconds(late.value_at_percentile(99.9)))),
        Figure::note("polls: … the latest", format!("{:.1} ms", milliseconds(late.max()))),
        Figure::new("polls: turns begun within 25 ms", in_time, 2, "%", Goal::AtLeast(PERCENTILE)),
        Figure::note("polls: looks that failed, since the start", format!("{failed:.0}")),
        Figure::new("polls: processor", cores, 2, "cores", Goal::Under(0.5)),
        Figure::note(
            "polls: memory of the process, and the most",
            format!("{:.1}, {:.1} MiB", resident.now, resident.most),
        ),
    ];
    figures.extend(asked("polls", rig.cluster.counted()));
    rig.operator.stop()?;
    Ok(figures)
}

/// What the API server was asked from the start.
fn asked(what: &str, counted: &Counted) -> [Figure; 2] {
    let Counted { lists, reads, secrets, writes, events, unforeseen } = counted;
    let [lists, reads, secrets, writes, events, unforeseen] =
        [lists, reads, secrets, writes, events, unforeseen].map(|number| number.load(Ordering::Relaxed));
    [
        Figure::note(
            format!("{what}: lists and watches, resources, Secrets read"),
            format!("{lists}, {reads}, {secrets}"),
        ),
        Figure::new(
            format!("{what}: writes, and all else, to the API server"),
            count(writes + events + unforeseen),
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
