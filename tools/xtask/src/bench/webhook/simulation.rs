//! Polls with notifications, and the delay of a verdict whose notification was lost: the simulated people of `schedule`. Pure
//! but for showing its progress.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use control_plane::{Progress, Task};
use jiff::Timestamp;
use okid_operator::{
    lifecycle::{Announced, Bounds},
    portal::PortalUrl,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::super::number::{id, uid};
use super::super::person::{EXPIRY, HABITS, Person};
use super::super::result::{BenchResult, Goal};
use super::super::session::{Plan, Session, after, allowed};

/// The number of simulated people.
const PEOPLE: u32 = 20_000;
/// The seeds of all random values: of the people, and of what is lost.
const SEED: u64 = 20_260_101;
const LOSS_SEED: u64 = 20_260_102;
/// The share of notifications that are lost.
const LOST: f64 = 0.01;
/// The polls of each verification.
const MOST_POLLS: f64 = 12.0;
/// How many times as long the verdict takes whose notification was lost.
const RATIO: f64 = 2.0;
/// A session that is polled more often would hang the simulation.
const MAX_POLLS: u32 = 10_000;

/// The cost of one person.
struct Cost {
    polls: f64,
    /// Time from the verdict until it was seen, in seconds; `None` without a verdict.
    delay: Option<f64>,
}

pub(super) fn measure(progress: Progress) -> Result<Vec<BenchResult>> {
    let mut task = progress.start(format!("webhook: simulating {PEOPLE} people, three times"));
    let portal = allowed("http://127.0.0.1:1")?;
    let mut rng = StdRng::seed_from_u64(SEED);
    let people: Vec<Person> = (0..PEOPLE).map(|_| HABITS.draw(&mut rng)).collect::<Result<_>>()?;
    let mut losses = StdRng::seed_from_u64(LOSS_SEED);
    let without = follow_all(&people, &portal, &mut task, |_| Notified::none())?;
    let with = follow_all(&people, &portal, &mut task, |person| Notified::but_lost(person, &mut losses))?;
    let lost = follow_all(&people, &portal, &mut task, |person| {
        let mut notified = Notified::but_lost(person, &mut losses);
        notified.at.retain(|at| Some(*at) != person.verdict_at());
        notified
    })?;
    task.end("done");
    let polls = |costs: &[Cost]| costs.iter().map(|cost| cost.polls).sum::<f64>() / f64::from(PEOPLE);
    let (usual, relaxed) = (delays(&without), delays(&lost));
    let text = |delays: &[f64]| format!("{:.2} s, {:.2} s", mean(delays), p99(delays));
    Ok(vec![
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
        BenchResult::note("webhook: delay of the verdict without notifications, mean and p99", text(&usual)),
        BenchResult::note("webhook: … with notifications, its own lost", text(&relaxed)),
        BenchResult::new(
            "webhook: … mean, relative to without notifications",
            mean(&relaxed) / mean(&usual),
            2,
            "",
            Goal::AtMost(RATIO),
        ),
        BenchResult::new(
            "webhook: … p99, relative to without notifications",
            p99(&relaxed) / p99(&usual),
            2,
            "",
            Goal::AtMost(RATIO),
        ),
    ])
}

/// The delays of those with a verdict, sorted.
fn delays(costs: &[Cost]) -> Vec<f64> {
    let mut delays: Vec<f64> = costs.iter().filter_map(|cost| cost.delay).collect();
    delays.sort_by(f64::total_cmp);
    delays
}

fn mean(numbers: &[f64]) -> f64 {
    let (sum, count) = numbers.iter().fold((0.0, 0.0), |(sum, count), number| (sum + number, count + 1.0));
    sum / count
}

fn p99(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len() * 99 / 100).copied().unwrap_or(f64::NAN)
}

/// The notifications about one person that arrive.
struct Notified {
    announced: Announced,
    /// When, since the creation of the session, in order.
    at: Vec<Duration>,
}

impl Notified {
    const fn none() -> Self {
        Self { announced: Announced::Nothing, at: Vec::new() }
    }

    /// One for each change, but for those that are lost. The portal does not announce that a session expires.
    fn but_lost(person: &Person, losses: &mut StdRng) -> Self {
        let mut at = person.changes();
        at.retain(|_| !losses.random_bool(LOST));
        Self { announced: Announced::Progress, at }
    }
}

fn follow_all(
    people: &[Person],
    portal: &PortalUrl,
    task: &mut Task,
    mut notified: impl FnMut(&Person) -> Notified,
) -> Result<Vec<Cost>> {
    (0..)
        .zip(people)
        .map(|(number, person)| {
            task.tick();
            follow(number, portal, person, &notified(person))
        })
        .collect()
}

/// Simulates one person from the creation of the session to its end.
fn follow(number: u32, portal: &PortalUrl, person: &Person, notified: &Notified) -> Result<Cost> {
    let created_at = Timestamp::from_second(1_800_000_000).context("compute the creation time")?;
    let plan = Plan {
        uid: &uid(number),
        id: &id(number),
        portal,
        created_at,
        lasts: EXPIRY,
        bounds: Bounds::default(),
        evidence: None,
        announced: notified.announced,
    };
    let (mut session, mut planned) = Session::create(&plan)?;
    let mut notifications = notified.at.iter().map(|at| after(created_at, *at)).peekable();
    for polls in 1..=MAX_POLLS {
        let now = match notifications.next_if(|at| *at <= planned) {
            Some(notified_at) => notified_at,
            None => planned,
        };
        let age =
            Duration::try_from(now.duration_since(created_at)).context("compute the age of the session")?;
        let details = person.details(&session.id, created_at, age);
        let Some(next) = session.poll(now, &details)? else {
            let delay = person.verdict_at().map(|verdict| age.saturating_sub(verdict).as_secs_f64());
            return Ok(Cost { polls: f64::from(polls), delay });
        };
        ensure!(next > now, "the next poll is in the past");
        planned = next;
    }
    bail!("a session was polled more than {MAX_POLLS} times")
}
