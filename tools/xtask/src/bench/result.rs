//! The table that is printed at the end. Pure.

use std::fmt;

/// One line of the table: a measurement, and its goal if it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BenchResult {
    what: String,
    measured: String,
    /// The goal as text, and whether it is met. A result without a goal explains another one.
    goal: Option<(String, bool)>,
}

/// What a measurement is compared with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Goal {
    /// At most this.
    AtMost(f64),
    /// At least this.
    AtLeast(f64),
    /// Less than this.
    Under(f64),
    /// This, to the hundredth.
    Exactly(f64),
}

impl BenchResult {
    /// A result with a goal, printed with this many decimals.
    pub(super) fn new(
        what: impl Into<String>,
        measured: f64,
        decimals: usize,
        unit: &str,
        goal: Goal,
    ) -> Self {
        let (sign, bound, holds) = match goal {
            Goal::AtMost(bound) => ("≤", bound, measured <= bound),
            Goal::AtLeast(bound) => ("≥", bound, measured >= bound),
            Goal::Under(bound) => ("<", bound, measured < bound),
            Goal::Exactly(bound) => ("=", bound, (measured - bound).abs() < 0.005),
        };
        Self {
            what: what.into(),
            measured: quantity(measured, decimals, unit),
            goal: Some((format!("{sign} {}", quantity_plain(bound, unit)), holds)),
        }
    }

    /// A result that explains another one.
    pub(super) fn note(what: impl Into<String>, measured: impl Into<String>) -> Self {
        Self { what: what.into(), measured: measured.into(), goal: None }
    }

    /// Whether the goal, if there is one, is met.
    pub(super) fn holds(&self) -> bool {
        self.goal.as_ref().is_none_or(|(_, holds)| *holds)
    }
}

fn quantity(number: f64, decimals: usize, unit: &str) -> String {
    format!("{number:.decimals$} {unit}").trim_end().to_owned()
}

fn quantity_plain(number: f64, unit: &str) -> String {
    format!("{number} {unit}").trim_end().to_owned()
}

/// The results as text.
pub(super) struct Table<'a>(pub(super) &'a [BenchResult]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["measurement", "measured", "goal", "met"].map(str::to_owned);
        let rows = self.0.iter().map(|BenchResult { what, measured, goal }| {
            let (goal, holds) = goal
                .as_ref()
                .map_or(("", ""), |(goal, holds)| (goal.as_str(), if *holds { "yes" } else { "no" }));
            [what, measured, goal, holds].map(str::to_owned)
        });
        let rows: Vec<[String; 4]> = std::iter::once(head).chain(rows).collect();
        let width = |column: usize| {
            rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let [what, measured, goal] = [width(0), width(1), width(2)];
        for [a, b, c, d] in &rows {
            let line = format!("{a:<what$}  {b:>measured$}  {c:<goal$}  {d}");
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_goal_says_no_and_a_note_says_nothing() {
        let results = [
            BenchResult::new("bytes", 401.0, 0, "B", Goal::AtMost(400.0)),
            BenchResult::new("writes", 8.0, 2, "", Goal::Exactly(8.0)),
            BenchResult::new("cores", 0.5, 2, "", Goal::Under(0.5)),
            BenchResult::note("people", "7"),
        ];
        assert_eq!(results.each_ref().map(BenchResult::holds), [false, true, false, true]);
        let table = Table(&results).to_string();
        assert!(table.contains("bytes           401 B  ≤ 400 B  no\n"), "{table}");
        assert!(table.contains("people              7\n"), "{table}");
    }
}
