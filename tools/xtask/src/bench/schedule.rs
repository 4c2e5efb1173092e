//! How many requests the schedule needs, and how soon it sees a verdict: a simulation of people, with the operator's own
//! pure rules in place of the operator. Pure but for showing its progress.

use std::time::Duration;

use anyhow::Result;
use control_plane::Progress;

use super::crowd::{Cost, Costs, Crowd, Notified, PEOPLE};
use super::person::{HABITS, Habits, Leave};
use super::result::{BenchResult, Goal};

/// The baseline: the interval of the guide's own sample.
const FIXED: Duration = Duration::from_secs(5);

pub(super) fn measure(progress: Progress) -> Result<Vec<BenchResult>> {
    let mut task = progress.start(format!("schedule: simulating {PEOPLE} people, twice"));
    let mut follow = |habits: &Habits| Crowd::draw(habits)?.follow(&mut task, |_, _| Notified::none());
    let crowd = follow(&HABITS)?;
    let early = follow(&Habits { leave: Leave::BeforeTheLink, ..HABITS })?;
    task.end("done");
    let Habits { walk, verdict, abandon, leave: _ } = HABITS;
    let log_normal = |(median, sigma): (f64, f64)| format!("log-normal, median {median} s, sigma {sigma}");
    let share_of_verdicts = crowd.mean(|cost| if cost.delay.is_some() { 1.0 } else { 0.0 });
    let [finish, never] = [share_of_verdicts, 1.0 - share_of_verdicts].map(percent);
    Ok(vec![
        BenchResult::note("schedule: people, share who abandon", format!("{PEOPLE}, {}", percent(abandon))),
        BenchResult::note("schedule: from the link to the last module", log_normal(walk)),
        BenchResult::note("schedule: … to the verdict", log_normal(verdict)),
        BenchResult::note("schedule: polls per Verification, one every 5 s", one_decimal(crowd.mean(fixed))),
        BenchResult::note("schedule: polls per Verification", one_decimal(crowd.mean(|cost| cost.polls))),
        BenchResult::note(
            format!("schedule: … with a verdict ({finish})"),
            one_decimal(crowd.mean_of(|cost| cost.delay.is_some(), |cost| cost.polls)),
        ),
        BenchResult::note(
            format!("schedule: … without a verdict ({never})"),
            one_decimal(crowd.mean_of(|cost| cost.delay.is_none(), |cost| cost.polls)),
        ),
        BenchResult::new(
            "schedule: fewer polls than one every 5 s",
            ratio(&crowd),
            1,
            "times",
            Goal::AtLeast(5.0),
        ),
        BenchResult::note(
            "schedule: … if the link is never opened when abandoned",
            format!("{} times", one_decimal(ratio(&early))),
        ),
        BenchResult::new(
            "schedule: delay of the verdict, mean",
            crowd.mean_delay(),
            2,
            "s",
            Goal::AtMost(1.5),
        ),
        BenchResult::new("schedule: delay of the verdict, p99", crowd.p99_delay(), 2, "s", Goal::AtMost(5.0)),
    ])
}

/// Polls at the fixed interval.
fn fixed(cost: &Cost) -> f64 {
    (cost.lasted.as_secs_f64() / FIXED.as_secs_f64()).ceil()
}

fn ratio(costs: &Costs) -> f64 {
    costs.mean(fixed) / costs.mean(|cost| cost.polls)
}

fn percent(share: f64) -> String {
    format!("{:.0} %", 100.0 * share)
}

fn one_decimal(number: f64) -> String {
    format!("{number:.1}")
}
