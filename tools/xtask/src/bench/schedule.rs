//! How many requests the schedule needs, and how soon it sees a verdict: a simulation of people, with the operator's own
//! tables in place of the operator. Pure but for its progress.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use control_plane::{Progress, Task};
use jiff::Timestamp;
use okid_operator::{lifecycle::Bounds, portal::PortalUrl};
use rand::{SeedableRng as _, rngs::StdRng};

use super::number::{id, uid};
use super::person::{EXPIRY, HABITS, Habits, Leave, Person};
use super::result::{BenchResult, Goal};
use super::session::{Plan, Session, allowed};

/// How many people are simulated.
const PEOPLE: u32 = 20_000;
/// Where all chance comes from.
const SEED: u64 = 20_260_101;
/// What the schedule is compared with: the interval of the guide's own sample.
const FIXED: Duration = Duration::from_secs(5);
/// No session is looked at more often; one that is would hang the simulation.
const MOST_LOOKS: u32 = 10_000;

/// What one person cost.
struct Cost {
    looks: f64,
    /// Looks each 5 s.
    fixed: f64,
    /// How long after the verdict it was seen, in seconds; `None` without a verdict.
    late: Option<f64>,
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
        BenchResult::note("schedule: people, who leave for good", format!("{PEOPLE}, {}", percent(abandon))),
        BenchResult::note("schedule: from the link to the last module", log_normal(walk)),
        BenchResult::note("schedule: from there to the verdict", log_normal(verdict)),
        BenchResult::note(
            "schedule: looks per verification, each 5 s",
            one_decimal(crowd.mean(|cost| cost.fixed)),
        ),
        BenchResult::note("schedule: looks per verification", one_decimal(crowd.mean(|cost| cost.looks))),
        BenchResult::note(
            format!("schedule: … of the {finish} who get a verdict"),
            one_decimal(crowd.mean_of(|cost| cost.late.is_some(), |cost| cost.looks)),
        ),
        BenchResult::note(
            format!("schedule: … of the {never} who do not"),
            one_decimal(crowd.mean_of(|cost| cost.late.is_none(), |cost| cost.looks)),
        ),
        BenchResult::new(
            "schedule: fewer looks than each 5 s",
            crowd.ratio(),
            1,
            "times",
            Goal::AtLeast(5.0),
        ),
        BenchResult::note(
            "schedule: … if who leaves never opens the link",
            format!("{} times", one_decimal(early.ratio())),
        ),
        BenchResult::new("schedule: verdict seen after, mean", crowd.late_mean(), 2, "s", Goal::AtMost(1.5)),
        BenchResult::new("schedule: verdict seen after, p99", crowd.late_p99(), 2, "s", Goal::AtMost(5.0)),
    ])
}

/// What all people cost.
struct Crowd(Vec<Cost>);

impl Crowd {
    /// Draws people with these habits and follows each of them.
    fn follow(habits: &Habits, task: &mut Task) -> Result<Self> {
        let portal = allowed("http://127.0.0.1:1")?;
        let mut chance = StdRng::seed_from_u64(SEED);
        let mut costs = Vec::new();
        for number in 0..PEOPLE {
            costs.push(follow(number, &portal, &habits.draw(&mut chance)?)?);
            task.tick();
        }
        Ok(Self(costs))
    }

    fn mean(&self, number: impl Fn(&Cost) -> f64) -> f64 {
        self.mean_of(|_| true, number)
    }

    fn mean_of(&self, whom: impl Fn(&Cost) -> bool, number: impl Fn(&Cost) -> f64) -> f64 {
        mean(self.0.iter().filter(|cost| whom(cost)).map(number))
    }

    fn share_of_verdicts(&self) -> f64 {
        self.mean(|cost| if cost.late.is_some() { 1.0 } else { 0.0 })
    }

    fn ratio(&self) -> f64 {
        self.mean(|cost| cost.fixed) / self.mean(|cost| cost.looks)
    }

    fn late_mean(&self) -> f64 {
        mean(self.0.iter().filter_map(|cost| cost.late))
    }

    fn late_p99(&self) -> f64 {
        let mut late: Vec<f64> = self.0.iter().filter_map(|cost| cost.late).collect();
        late.sort_by(f64::total_cmp);
        late.get(late.len() * 99 / 100).copied().unwrap_or(f64::NAN)
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

/// Follows one person from the create to the end.
fn follow(number: u32, portal: &PortalUrl, person: &Person) -> Result<Cost> {
    let created_at = Timestamp::from_second(1_800_000_000).context("name an instant")?;
    let plan = Plan {
        uid: &uid(number),
        id: &id(number),
        portal,
        created_at,
        lasts: EXPIRY,
        bounds: Bounds::default(),
        evidence: None,
    };
    let (mut session, mut now) = Session::create(&plan)?;
    for looks in 1..=MOST_LOOKS {
        let age = Duration::try_from(now.duration_since(created_at)).context("look after the create")?;
        let answer = person.answer(&session.id, created_at, age);
        let Some(next) = session.look(now, &answer)? else {
            let late = person.verdict_at().map(|verdict| age.saturating_sub(verdict).as_secs_f64());
            let fixed = (person.ends_at().as_secs_f64() / FIXED.as_secs_f64()).ceil();
            return Ok(Cost { looks: f64::from(looks), fixed, late });
        };
        ensure!(next > now, "a look is planned for the past");
        now = next;
    }
    bail!("a session was looked at more than {MOST_LOOKS} times")
}
