//! What the test prints: each step with its time, and figures with their goals.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::out;

/// A figure that is this many times its goal fails the test: other load on the machine distorts all of them.
const TOLERANCE: f64 = 3.0;

/// Prints as the test goes on.
pub(super) struct Report {
    begin: Instant,
    since: Instant,
}

impl Report {
    pub(super) fn new() -> Self {
        let begin = Instant::now();
        Self { begin, since: begin }
    }

    /// Prints that a step is done, and the time since the last one.
    pub(super) fn done(&mut self, step: impl fmt::Display) {
        out::line(format_args!("{:>7.1} s  {step}", self.since.elapsed().as_secs_f64()));
        self.since = Instant::now();
    }

    /// Prints something that is not done here, and why.
    pub(super) fn skipped(&mut self, step: impl fmt::Display) {
        out::line(format_args!("NOT RUN    {step}"));
        self.since = Instant::now();
    }

    /// The time since the beginning.
    pub(super) fn total(&self) -> Duration {
        self.begin.elapsed()
    }
}

/// Prints a line that explains the step before it.
pub(super) fn note(note: impl fmt::Display) {
    out::line(format_args!("           {note}"));
}

/// Prints a figure and its goal, and fails if it is far above it.
pub(super) fn figure(what: impl fmt::Display, value: f64, unit: &str, goal: f64) -> Result<()> {
    let verdict = if value <= goal { "" } else { ": missed" };
    note(format_args!("{what}: {value:.1} {unit} (goal: at most {goal} {unit}{verdict})"));
    ensure!(value <= TOLERANCE * goal, "{what}: {value:.1} {unit}, more than three times {goal} {unit}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_above_its_goal_is_printed_and_above_three_times_it_fails() {
        assert!(figure("ready", 29.9, "s", 10.0).is_ok());
        let error = figure("ready", 30.1, "s", 10.0).unwrap_err();
        assert_eq!(error.to_string(), "ready: 30.1 s, more than three times 10 s");
    }
}
