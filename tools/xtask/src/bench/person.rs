//! Simulated people: when each of them does what, drawn at random from a fixed seed. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use okid_operator::portal::{Details, VerificationId};
use rand::{Rng, RngExt as _};
use rand_distr::{Distribution as _, LogNormal};

use super::session::{MODULES, after};

/// How people behave. The values were chosen before the first measurement; do not tune them.
pub(super) struct Habits {
    /// Median and sigma of the log-normal time from the link to the last module, in seconds.
    pub(super) walk: (f64, f64),
    /// Median and sigma of the log-normal time from the last module to the verdict, in seconds.
    pub(super) verdict: (f64, f64),
    /// Share of people who abandon the check.
    pub(super) abandon: f64,
    /// When they abandon it.
    pub(super) leave: Leave,
}

/// When people abandon the check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    /// Before the link or any of the modules, each equally likely.
    Anywhere,
    /// Before they open the link.
    BeforeTheLink,
}

/// The habits of the published figures.
pub(super) const HABITS: Habits =
    Habits { walk: (180.0, 0.75), verdict: (10.0, 0.6), abandon: 0.28, leave: Leave::Anywhere };

/// Lifetime of a session.
pub(super) const EXPIRY: Duration = Duration::from_hours(1);

/// When one person does what, since the creation of the session. Something that never happens has a time after the session's end.
pub(super) struct Person {
    opens: Duration,
    completes: [Duration; MODULES.len()],
    verdict: Duration,
}

impl Habits {
    /// Draws a person.
    pub(super) fn draw(&self, rng: &mut impl Rng) -> Result<Person> {
        let walk = log_normal(self.walk)?.sample(rng);
        let review = log_normal(self.verdict)?.sample(rng);
        // The time is divided into the opening of the link and the modules, with random weights from 0.5 to 1.5.
        let parts: [f64; MODULES.len() + 1] = std::array::from_fn(|_| rng.random_range(0.5..1.5));
        let whole: f64 = parts.iter().sum();
        let mut reached = 0.0;
        let moments = parts.map(|part| {
            reached += walk * part / whole;
            Duration::from_secs_f64(reached)
        });
        let leaves = rng.random_bool(self.abandon);
        let leaves_before = match (leaves, self.leave) {
            (false, Leave::Anywhere | Leave::BeforeTheLink) => parts.len(),
            (true, Leave::Anywhere) => rng.random_range(0..parts.len()),
            (true, Leave::BeforeTheLink) => 0,
        };
        let mut index = 0;
        let [opens, completes @ ..] = moments.map(|moment| {
            let stays = index < leaves_before;
            index += 1;
            if stays { moment } else { Duration::MAX }
        });
        let last = completes.iter().max().copied().unwrap_or(opens);
        Ok(Person { opens, completes, verdict: last.saturating_add(Duration::from_secs_f64(review)) })
    }
}

fn log_normal((median, sigma): (f64, f64)) -> Result<LogNormal<f64>> {
    LogNormal::new(median.ln(), sigma).context("draw a log-normal time")
}

impl Person {
    /// When the verdict follows; `None` if the session expires before the person has completed all modules.
    pub(super) fn verdict_at(&self) -> Option<Duration> {
        let completed = self.completes.iter().max().copied().unwrap_or_default();
        (completed < EXPIRY).then_some(self.verdict)
    }

    /// When something changes before the session expires: the link is opened, a module is completed, or the verdict is there.
    pub(super) fn changes(&self) -> Vec<Duration> {
        let all = std::iter::once(self.opens).chain(self.completes).chain(self.verdict_at());
        let mut changes: Vec<_> = all.filter(|at| *at <= self.ends_at()).collect();
        changes.sort_unstable();
        changes
    }

    /// When the session ends, with a verdict or without one.
    pub(super) fn ends_at(&self) -> Duration {
        self.verdict_at().unwrap_or(EXPIRY)
    }

    /// The portal's details of the session at this age.
    pub(super) fn details(&self, id: &VerificationId, created_at: Timestamp, age: Duration) -> Details {
        let is_over = age >= self.ends_at();
        let done = self.completes.iter().filter(|moment| **moment <= age).count();
        let current = match (is_over, self.verdict_at()) {
            (true, Some(_)) => "verified",
            (true, None) => "expired",
            (false, _) if done == MODULES.len() => "validating",
            (false, _) if done > 0 => "in_progress",
            (false, _) if self.opens <= age => "initiated",
            (false, _) => "generated",
        };
        let changed = [self.opens, self.ends_at()]
            .into_iter()
            .chain(self.completes)
            .filter(|moment| *moment <= age)
            .max()
            .unwrap_or_default();
        let progress: BTreeMap<String, String> = MODULES
            .iter()
            .zip(self.completes)
            .map(|(module, moment)| {
                let state = if moment <= age { "completed" } else { "pending" };
                ((*module).to_owned(), state.to_owned())
            })
            .collect();
        Details {
            id: Some(id.clone()),
            current: Some(current.to_owned()),
            updated_at: Some(after(created_at, changed)),
            progress,
            date: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_verified_after_the_last_module_or_expires() {
        let id = VerificationId::parse("ver_1").unwrap();
        let second = Duration::from_secs;
        let status = |person: &Person, age| person.details(&id, Timestamp::UNIX_EPOCH, age).current.unwrap();
        let person = Person {
            opens: second(10),
            completes: [second(20), second(30), second(40)],
            verdict: second(50),
        };
        let statuses = [5, 10, 20, 40, 50].map(|age| status(&person, second(age)));
        assert_eq!(statuses, ["generated", "initiated", "in_progress", "validating", "verified"]);
        let gone = Person { completes: [second(20), Duration::MAX, Duration::MAX], ..person };
        assert_eq!(status(&gone, EXPIRY.saturating_sub(second(1))), "in_progress");
        assert_eq!(status(&gone, EXPIRY), "expired");
    }
}
