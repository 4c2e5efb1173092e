//! Logs: their format, their filter, and a panic hook that logs where a panic happened but not its message. Depends on
//! nothing of this crate.

use std::{io::IsTerminal as _, str::FromStr};

use clap::ValueEnum;
use tracing_subscriber::{
    EnvFilter, Layer as _,
    filter::{ParseError, filter_fn},
    fmt,
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// Text, with colors on a terminal.
    Human,
}

/// Which log lines are written: directives that `tracing` understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter(String);

/// The text is not a [`LogFilter`].
#[derive(Debug, thiserror::Error)]
#[error("write a level such as info, or directives such as okid_operator=debug")]
pub struct InvalidFilter(#[source] ParseError);

impl Default for LogFilter {
    /// Level info.
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl FromStr for LogFilter {
    type Err = InvalidFilter;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        EnvFilter::builder().parse(text).map_err(InvalidFilter)?;
        Ok(Self(text.to_owned()))
    }
}

/// Colors are for terminals whose user has not opted out (<https://no-color.org>).
fn wants_colors() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Starts logging to standard error.
pub fn start(format: LogFormat, LogFilter(directives): &LogFilter) {
    let filter = EnvFilter::builder().parse_lossy(directives);
    let layer = match format {
        LogFormat::Json => fmt::layer().json().flatten_event(true).with_writer(std::io::stderr).boxed(),
        LogFormat::Human => fmt::layer().with_writer(std::io::stderr).with_ansi(wants_colors()).boxed(),
    };
    // Libraries log whole bodies and URLs at debug level, and kube logs a body it cannot decode as a warning. Both may
    // hold what must not be logged.
    let own_lines = filter_fn(|metadata| metadata.target().starts_with("okid_operator"));
    tracing_subscriber::registry().with(layer.with_filter(own_lines)).with(filter).init();
    std::panic::set_hook(Box::new(|panic| {
        // The message may quote a value; the location is enough to find the cause.
        let location = panic.location().map_or_else(String::new, ToString::to_string);
        tracing::error!(location, "panicked");
    }));
}
