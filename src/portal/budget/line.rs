//! Those who are sent away come back one after another, not all at once. No clock: times are arguments.

use std::time::Duration;

use tokio::time::Instant;

use crate::priority::Priority;

/// Nobody who is in a hurry stands in line for longer than this.
const HURRIED: Duration = Duration::from_secs(10);
/// Nobody else stands in line for longer than this.
const PATIENT: Duration = Duration::from_mins(5);

/// One line for each priority, so that nobody in a hurry stands behind ten thousand new sessions.
#[derive(Debug)]
pub(super) struct Lines {
    create: Line,
    nudge: Line,
    finishing: Line,
    active: Line,
    idle: Line,
}

impl Lines {
    /// Lines in which nobody stands.
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            create: Line::new(now, PATIENT),
            nudge: Line::new(now, HURRIED),
            finishing: Line::new(now, HURRIED),
            active: Line::new(now, HURRIED),
            idle: Line::new(now, PATIENT),
        }
    }

    /// When to come again: after `from`, and that long after the one before.
    pub(super) fn place(&mut self, priority: Priority, from: Instant, apart: Duration) -> Instant {
        let line = match priority {
            Priority::Create => &mut self.create,
            Priority::Nudge => &mut self.nudge,
            Priority::Finishing => &mut self.finishing,
            Priority::Active => &mut self.active,
            Priority::Idle => &mut self.idle,
        };
        line.place(from, apart)
    }
}

/// A line of those who wait.
#[derive(Debug)]
pub(super) struct Line {
    end: Instant,
    longest: Duration,
}

impl Line {
    /// A line in which nobody stands, and nobody ever will for longer than `longest`.
    pub(super) const fn new(now: Instant, longest: Duration) -> Self {
        Self { end: now, longest }
    }

    /// When to come again: after `from`, and that long after the one before. Where the line is full, another one begins
    /// beside it, so that those who come too late for the first are spread as evenly.
    pub(super) fn place(&mut self, from: Instant, apart: Duration) -> Instant {
        let place = self.end.max(from) + apart;
        self.end = if place <= from + self.longest { place } else { from + apart };
        self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const APART: Duration = Duration::from_millis(20);

    #[test]
    fn who_comes_first_is_told_to_come_again_first() {
        let now = Instant::now();
        let mut line = Line::new(now, PATIENT);
        let places: Vec<_> = (0..100).map(|_| line.place(now, APART)).collect();
        assert_eq!(places[..2], [now + APART, now + 2 * APART]);
        assert!(places.is_sorted());
    }

    #[test]
    fn a_line_that_is_full_spreads_the_others_over_its_whole_length() {
        let now = Instant::now();
        let mut line = Line::new(now, HURRIED);
        let mut in_second = [0; 11];
        for _ in 0..10_000 {
            let place = line.place(now, APART);
            assert!(place > now && place <= now + HURRIED);
            in_second[usize::try_from((place - now).as_secs()).unwrap()] += 1;
        }
        assert!(in_second.into_iter().all(|places| places <= 1_000), "{in_second:?}");
    }

    #[test]
    fn nobody_in_a_hurry_stands_behind_those_who_are_not() {
        let now = Instant::now();
        let mut lines = Lines::new(now);
        for _ in 0..10_000 {
            lines.place(Priority::Create, now, APART);
        }
        assert_eq!(lines.place(Priority::Nudge, now, APART), now + APART);
    }
}
