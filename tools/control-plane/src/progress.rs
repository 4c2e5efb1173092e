//! Shows what takes long while it takes long. Touches standard error.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often a line is repeated where it cannot be refreshed.
const REPEAT_EVERY: Duration = Duration::from_secs(15);

/// How to show that something takes long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// One line, refreshed each second.
    Terminal,
    /// A plain line each 15 seconds.
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

    /// Says a whole line.
    pub(crate) fn say(self, line: &str) {
        match self {
            Self::Terminal | Self::Lines => eprintln!("{line}"),
            Self::Silent => {}
        }
    }

    /// Starts to show one thing that takes long.
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

/// One thing that takes long.
#[derive(Debug)]
pub struct Task {
    progress: Progress,
    what: String,
    since: Instant,
    /// The age at which it was last shown.
    shown: Duration,
}

impl Task {
    /// To be called several times a second.
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

    /// The last word.
    pub fn end(self, word: &str) {
        match self.progress {
            Progress::Terminal => self.refresh(&format!(", {word}\n")),
            Progress::Lines => eprintln!("{}: {word} after {} s", self.what, self.since.elapsed().as_secs()),
            Progress::Silent => {}
        }
    }

    fn refresh(&self, end: &str) {
        let mut terminal = std::io::stderr().lock();
        // Nobody can be told that nothing can be shown.
        let _ = write!(terminal, "\r\x1b[K{} … {} s{end}", self.what, self.since.elapsed().as_secs());
        let _ = terminal.flush();
    }
}
