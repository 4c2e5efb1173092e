//! Polls with notifications, and the delay of a verdict whose notification was lost, alone or with all others: the simulated
//! people of `schedule`. Pure but for showing its progress.

use std::time::Duration;

use anyhow::Result;
use control_plane::Progress;
use okid_operator::lifecycle::Announced;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::super::crowd::{Costs, Crowd, Notified, PEOPLE};
use super::super::person::{HABITS, Person};
use super::super::result::{BenchResult, Goal};

/// The seed of what is lost.
const SEED: u64 = 20_260_102;
/// The share of notifications that are lost.
const LOST: f64 = 0.01;
/// Time between two new sessions of the portal and key. What arrives about others shows that notifications arrive.
const EVERY: Duration = Duration::from_secs(2);
/// The same where notifications are rarer.
const RARER: Duration = Duration::from_mins(1);
/// The polls of each verification.
const MOST_POLLS: f64 = 12.0;
/// How many times as long the verdict takes whose notification was lost.
const RATIO: f64 = 2.0;

/// What arrives of the notifications about everybody, which announce each change but the end of a session that expires.
struct Arriving {
    losses: StdRng,
    every: Duration,
    /// About each person, since the creation of the session.
    about: Vec<Vec<Duration>>,
    /// About anybody, since the first session was created.
    about_anybody: Vec<Duration>,
}

impl Arriving {
    fn draw(people: &[Person], every: Duration) -> Self {
        let mut losses = StdRng::seed_from_u64(SEED);
        let mut about = Vec::new();
        for person in people {
            let mut changes = person.changes();
            changes.retain(|_| !losses.random_bool(LOST));
            about.push(changes);
        }
        let about_person = |(number, changes): (u32, &Vec<Duration>)| {
            changes.iter().map(|at| every * number + *at).collect::<Vec<_>>()
        };
        let mut about_anybody: Vec<_> = (0..).zip(&about).flat_map(about_person).collect();
        about_anybody.sort_unstable();
        Self { losses, every, about, about_anybody }
    }

    /// What arrives while this person is followed.
    fn meanwhile(&self, number: u32) -> Notified<'_> {
        Notified {
            announced: Announced::Progress,
            at: self.about.get(number as usize).cloned().unwrap_or_default(),
            about_anybody: (&self.about_anybody, self.every * number),
            lost_from: Duration::MAX,
        }
    }
}

pub(super) fn measure(progress: Progress) -> Result<Vec<BenchResult>> {
    let mut task = progress.start(format!("webhook: simulating {PEOPLE} people, five times"));
    let crowd = Crowd::draw(&HABITS)?;
    let mut arriving = Arriving::draw(crowd.people(), EVERY);
    let rarer = Arriving::draw(crowd.people(), RARER);
    let outages: Vec<_> = crowd
        .people()
        .iter()
        .map(|person| person.ends_at().mul_f64(arriving.losses.random_range(0.0..1.0)))
        .collect();
    let without = crowd.follow(&mut task, |_, _| Notified::none())?;
    let with = crowd.follow(&mut task, |number, _| arriving.meanwhile(number))?;
    let with_fewer = crowd.follow(&mut task, |number, _| rarer.meanwhile(number))?;
    let lost = crowd.follow(&mut task, |number, person| {
        let mut notified = arriving.meanwhile(number);
        notified.at.retain(|at| Some(*at) != person.verdict_at());
        notified
    })?;
    let outage = crowd.follow(&mut task, |number, _| Notified {
        lost_from: outages.get(number as usize).copied().unwrap_or_default(),
        ..arriving.meanwhile(number)
    })?;
    task.end("done");
    let polls = |costs: &Costs| costs.mean(|cost| cost.polls);
    let text = |costs: &Costs| format!("{:.2} s, {:.2} s", costs.mean_delay(), costs.p99_delay());
    let mut results = vec![
        BenchResult::note(
            "webhook: polls per Verification without notifications",
            format!("{:.1}", polls(&without)),
        ),
        BenchResult::new(
            "webhook: polls per Verification, 1 % lost",
            polls(&with),
            1,
            "",
            Goal::AtMost(MOST_POLLS),
        ),
        BenchResult::note(
            "webhook: … with a new session every minute instead of every 2 s",
            format!("{:.1}", polls(&with_fewer)),
        ),
        BenchResult::note(
            "webhook: delay of the verdict without notifications, mean and p99",
            text(&without),
        ),
    ];
    for (name, costs) in
        [("with notifications, its own lost", &lost), ("all lost from a random moment on", &outage)]
    {
        results.push(BenchResult::note(format!("webhook: … {name}"), text(costs)));
        let ratios = [
            ("mean", costs.mean_delay() / without.mean_delay()),
            ("p99", costs.p99_delay() / without.p99_delay()),
        ];
        for (what, ratio) in ratios {
            let name = format!("webhook: … {what}, relative to without notifications");
            results.push(BenchResult::new(name, ratio, 2, "", Goal::AtMost(RATIO)));
        }
    }
    results.push(BenchResult::new(
        "webhook: all lost: longest time to the next poll, relative to the usual interval",
        outage.most_intervals_after_loss(),
        2,
        "",
        Goal::AtMost(RATIO),
    ));
    Ok(results)
}
