//! Simulated people, each followed by the operator's own pure rules in place of the operator. Pure but for showing its progress.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use control_plane::Task;
use jiff::Timestamp;
use okid_operator::{
    lifecycle::{Announced, Bounds},
    portal::PortalUrl,
};
use rand::{SeedableRng as _, rngs::StdRng};

use super::number::{id, uid};
use super::person::{EXPIRY, Habits, Person};
use super::session::{Plan, Session, after, allowed};

/// The number of simulated people.
pub(super) const PEOPLE: u32 = 20_000;
/// The seed of all random values of the people.
const SEED: u64 = 20_260_101;
/// A session that is polled more often would hang the simulation.
const MAX_POLLS: u32 = 10_000;

/// People who behave alike.
pub(super) struct Crowd {
    people: Vec<Person>,
    portal: PortalUrl,
}

/// The notifications that arrive while one person is followed.
pub(super) struct Notified<'a> {
    pub(super) announced: Announced,
    /// Those about this person: when, since the creation of the session, in order.
    pub(super) at: Vec<Duration>,
    /// Those about anybody: when, in order, since a common beginning; and when the session is created, since then.
    pub(super) about_anybody: (&'a [Duration], Duration),
    /// All are lost that would arrive later than this after the creation of the session.
    pub(super) lost_from: Duration,
}

/// What one person costs.
pub(super) struct Cost {
    pub(super) polls: f64,
    /// Time from the creation of the session to its end.
    pub(super) lasted: Duration,
    /// Time from the verdict until it was seen, in seconds; `None` without a verdict.
    pub(super) delay: Option<f64>,
    /// Time to the first poll after all notifications were lost, in intervals without notifications; `None` if the session has
    /// ended by then.
    pub(super) intervals_after_loss: Option<f64>,
}

/// What all people cost.
pub(super) struct Costs(Vec<Cost>);

impl Crowd {
    /// Draws people with these habits.
    pub(super) fn draw(habits: &Habits) -> Result<Self> {
        let mut rng = StdRng::seed_from_u64(SEED);
        let people = (0..PEOPLE).map(|_| habits.draw(&mut rng)).collect::<Result<_>>()?;
        Ok(Self { people, portal: allowed("http://127.0.0.1:1")? })
    }

    pub(super) fn people(&self) -> &[Person] {
        &self.people
    }

    /// Follows each person, with the notifications that arrive meanwhile.
    pub(super) fn follow<'a>(
        &self,
        task: &mut Task,
        mut notified: impl FnMut(u32, &Person) -> Notified<'a>,
    ) -> Result<Costs> {
        let mut costs = Vec::new();
        for (number, person) in (0..).zip(&self.people) {
            costs.push(follow(number, &self.portal, person, &notified(number, person))?);
            task.tick();
        }
        Ok(Costs(costs))
    }
}

impl Notified<'_> {
    /// None at all.
    pub(super) const fn none() -> Self {
        Self {
            announced: Announced::Nothing,
            at: Vec::new(),
            about_anybody: (&[], Duration::ZERO),
            lost_from: Duration::MAX,
        }
    }

    /// When the last one about anybody had arrived by this age of the session.
    fn last_by(&self, age: Duration) -> Option<Duration> {
        let (all, created) = self.about_anybody;
        let by = created.saturating_add(age.min(self.lost_from));
        let arrived = all.partition_point(|at| *at <= by);
        all.get(arrived.checked_sub(1)?)?.checked_sub(created)
    }
}

impl Costs {
    pub(super) fn mean(&self, number: impl Fn(&Cost) -> f64) -> f64 {
        self.mean_of(|_| true, number)
    }

    pub(super) fn mean_of(&self, includes: impl Fn(&Cost) -> bool, number: impl Fn(&Cost) -> f64) -> f64 {
        mean(self.0.iter().filter(|cost| includes(cost)).map(number))
    }

    /// The mean delay of the verdict, in seconds.
    pub(super) fn mean_delay(&self) -> f64 {
        mean(self.0.iter().filter_map(|cost| cost.delay))
    }

    /// The same, p99.
    pub(super) fn p99_delay(&self) -> f64 {
        let mut delays: Vec<f64> = self.0.iter().filter_map(|cost| cost.delay).collect();
        delays.sort_by(f64::total_cmp);
        delays.get(delays.len() * 99 / 100).copied().unwrap_or(f64::NAN)
    }

    /// The longest time to the first poll after all notifications were lost, in intervals without notifications.
    pub(super) fn most_intervals_after_loss(&self) -> f64 {
        self.0.iter().filter_map(|cost| cost.intervals_after_loss).fold(f64::NAN, f64::max)
    }
}

fn mean(numbers: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = numbers.fold((0.0, 0.0), |(sum, count), number| (sum + number, count + 1.0));
    sum / count
}

/// Simulates one person from the creation of the session to its end.
fn follow(number: u32, portal: &PortalUrl, person: &Person, notified: &Notified<'_>) -> Result<Cost> {
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
    let arrive = notified.at.iter().filter(|at| **at <= notified.lost_from);
    let mut notifications = arrive.map(|at| after(created_at, *at)).peekable();
    let lost_from = after(created_at, notified.lost_from);
    let (mut intervals_after_loss, mut is_lost) = (None, false);
    let mut polls = 0;
    while polls < MAX_POLLS {
        let notified_at = notifications.next_if(|at| *at <= planned);
        let now = notified_at.unwrap_or(planned);
        let age =
            Duration::try_from(now.duration_since(created_at)).context("compute the age of the session")?;
        let deferred = notified
            .last_by(age)
            .filter(|_| notified_at.is_none())
            .and_then(|last| session.deferred(after(created_at, last), now));
        if let Some(deferred) = deferred {
            planned = deferred;
            continue;
        }
        if !is_lost && now >= lost_from {
            is_lost = true;
            let wait = now.duration_since(lost_from).as_secs_f64();
            intervals_after_loss = session.interval(lost_from).map(|interval| wait / interval.as_secs_f64());
        }
        let details = person.details(&session.id, created_at, age);
        polls += 1;
        let Some(next) = session.poll(now, &details)? else {
            let delay = person.verdict_at().map(|verdict| age.saturating_sub(verdict).as_secs_f64());
            let lasted = person.ends_at();
            return Ok(Cost { polls: f64::from(polls), lasted, delay, intervals_after_loss });
        };
        ensure!(next > now, "the next poll is in the past");
        planned = next;
    }
    bail!("a session was polled more than {MAX_POLLS} times")
}
