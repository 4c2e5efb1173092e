//! Shows the progress of long tasks on standard error.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often a line is printed where it cannot be refreshed.
const REPEAT_EVERY: Duration = Duration::from_secs(15);

/// How to show progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// One line, refreshed every second.
    Terminal,
    /// A plain line every 15 seconds.
    Lines,
    /// Nothing.
    Silent,
}

impl Progress {
    /// [`Progress::Terminal`] if standard error is a terminal, else [`Progress::Lines`].
    #[must_use]
    pub fn detect() -> Self {
        if std::io::stderr().is_terminal() { Self::Terminal } else { Self::Lines }
    }

    /// Prints a line.
    pub(crate) fn print(self, line: &str) {
        match self {
            Self::Terminal | Self::Lines => eprintln!("{line}"),
            Self::Silent => {}
        }
    }

    /// Starts to show a task.
    #[must_use]
    pub fn start(self, what: String) -> Task {
        let task = Task { progress: self, what, since: Instant::now(), shown: Duration::ZERO };
        match self {
            Self::Terminal => task.refresh(""),
            Self::Lines => eprintln!("{} …", task.what),
            Self::Silent => {}
        }
        task
    }
}

/// A long task.
#[derive(Debug)]
pub struct Task {
    progress: Progress,
    what: String,
    since: Instant,
    /// The age at which it was last shown.
    shown: Duration,
}

impl Task {
    /// Shows the age of the task. Call it several times a second.
    pub fn tick(&mut self) {
        let age = self.since.elapsed();
        let every = match self.progress {
            Progress::Terminal => Duration::from_secs(1),
            Progress::Lines => REPEAT_EVERY,
            Progress::Silent => return,
        };
        if age.saturating_sub(self.shown) < every {
            return;
        }
        self.shown = age;
        match self.progress {
            Progress::Terminal => self.refresh(""),
            Progress::Lines => eprintln!("{} … {} s", self.what, age.as_secs()),
            Progress::Silent => {}
        }
    }

    /// Shows how the task ended.
    pub fn end(self, result: &str) {
        match self.progress {
            Progress::Terminal => self.refresh(&format!(", {result}\n")),
            Progress::Lines => {
                eprintln!("{}: {result} after {} s", self.what, self.since.elapsed().as_secs());
            }
            Progress::Silent => {}
        }
    }

    fn refresh(&self, end: &str) {
        let mut terminal = std::io::stderr().lock();
        // If standard error is closed, progress is not shown.
        let _ = write!(terminal, "\r\x1b[K{} … {} s{end}", self.what, self.since.elapsed().as_secs());
        let _ = terminal.flush();
    }
}
