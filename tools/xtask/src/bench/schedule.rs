//! How many requests the schedule needs, and how soon it sees a verdict: a simulation of people, with the operator's own
//! pure rules in place of the operator. Pure but for showing its progress.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use control_plane::{Progress, Task};
use jiff::Timestamp;
use okid_operator::{
    lifecycle::{Announced, Bounds},
    portal::PortalUrl,
};
use rand::{SeedableRng as _, rngs::StdRng};

use super::number::{id, uid};
use super::person::{EXPIRY, HABITS, Habits, Leave, Person};
use super::result::{BenchResult, Goal};
use super::session::{Plan, Session, allowed};

/// The number of simulated people.
const PEOPLE: u32 = 20_000;
/// The seed of all random values.
const SEED: u64 = 20_260_101;
/// The baseline: the interval of the guide's own sample.
const FIXED: Duration = Duration::from_secs(5);
/// A session that is polled more often would hang the simulation.
const MAX_POLLS: u32 = 10_000;

/// The cost of one person.
struct Cost {
    polls: f64,
    /// Polls at a fixed interval.
    fixed: f64,
    /// Time from the verdict until it was seen, in seconds; `None` without a verdict.
    delay: Option<f64>,
}

pub(super) fn measure(progress: Progress) -> Result<Vec<BenchResult>> {
    let mut task = progress.start(format!("schedule: simulating {PEOPLE} people, twice"));
    let crowd = Crowd::follow(&HABITS, &mut task)?;
    let early = Crowd::follow(&Habits { leave: Leave::BeforeTheLink, ..HABITS }, &mut task)?;
    task.end("done");
    let Habits { walk, verdict, abandon, leave: _ } = HABITS;
    let log_normal = |(median, sigma): (f64, f64)| format!("log-normal, median {median} s, sigma {sigma}");
    let [finish, never] = [crowd.share_of_verdicts(), 1.0 - crowd.share_of_verdicts()].map(percent);
    Ok(vec![
        BenchResult::note("schedule: people, share who abandon", format!("{PEOPLE}, {}", percent(abandon))),
        BenchResult::note("schedule: from the link to the last module", log_normal(walk)),
        BenchResult::note("schedule: … to the verdict", log_normal(verdict)),
        BenchResult::note(
            "schedule: polls per Verification, one every 5 s",
            one_decimal(crowd.mean(|cost| cost.fixed)),
        ),
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
            crowd.ratio(),
            1,
            "times",
            Goal::AtLeast(5.0),
        ),
        BenchResult::note(
            "schedule: … if the link is never opened when abandoned",
            format!("{} times", one_decimal(early.ratio())),
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

/// The costs of all people.
struct Crowd(Vec<Cost>);

impl Crowd {
    /// Draws people with these habits and simulates each of them.
    fn follow(habits: &Habits, task: &mut Task) -> Result<Self> {
        let portal = allowed("http://127.0.0.1:1")?;
        let mut rng = StdRng::seed_from_u64(SEED);
        let mut costs = Vec::new();
        for number in 0..PEOPLE {
            costs.push(follow(number, &portal, &habits.draw(&mut rng)?)?);
            task.tick();
        }
        Ok(Self(costs))
    }

    fn mean(&self, number: impl Fn(&Cost) -> f64) -> f64 {
        self.mean_of(|_| true, number)
    }

    fn mean_of(&self, includes: impl Fn(&Cost) -> bool, number: impl Fn(&Cost) -> f64) -> f64 {
        mean(self.0.iter().filter(|cost| includes(cost)).map(number))
    }

    fn share_of_verdicts(&self) -> f64 {
        self.mean(|cost| if cost.delay.is_some() { 1.0 } else { 0.0 })
    }

    fn ratio(&self) -> f64 {
        self.mean(|cost| cost.fixed) / self.mean(|cost| cost.polls)
    }

    fn mean_delay(&self) -> f64 {
        mean(self.0.iter().filter_map(|cost| cost.delay))
    }

    fn p99_delay(&self) -> f64 {
        let mut delays: Vec<f64> = self.0.iter().filter_map(|cost| cost.delay).collect();
        delays.sort_by(f64::total_cmp);
        delays.get(delays.len() * 99 / 100).copied().unwrap_or(f64::NAN)
    }
}

fn mean(numbers: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = numbers.fold((0.0, 0.0), |(sum, count), number| (sum + number, count + 1.0));
    sum / count
}

fn percent(share: f64) -> String {
    format!("{:.0} %", 100.0 * share)
}

fn one_decimal(number: f64) -> String {
    format!("{number:.1}")
}

/// Simulates one person from the creation of the session to its end.
fn follow(number: u32, portal: &PortalUrl, person: &Person) -> Result<Cost> {
    let created_at = Timestamp::from_second(1_800_000_000).context("compute the creation time")?;
    let plan = Plan {
        uid: &uid(number),
        id: &id(number),
        portal,
        created_at,
        lasts: EXPIRY,
        bounds: Bounds::default(),
        evidence: None,
        announced: Announced::Nothing,
    };
    let (mut session, mut now) = Session::create(&plan)?;
    for polls in 1..=MAX_POLLS {
        let age =
            Duration::try_from(now.duration_since(created_at)).context("compute the age of the session")?;
        let details = person.details(&session.id, created_at, age);
        let Some(next) = session.poll(now, &details)? else {
            let delay = person.verdict_at().map(|verdict| age.saturating_sub(verdict).as_secs_f64());
            let fixed = (person.ends_at().as_secs_f64() / FIXED.as_secs_f64()).ceil();
            return Ok(Cost { polls: f64::from(polls), fixed, delay });
        };
        ensure!(next > now, "the next poll is in the past");
        now = next;
    }
    bail!("a session was polled more than {MAX_POLLS} times")
}
