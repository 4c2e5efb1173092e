//! Logs: their format, their filter, and a panic hook that logs where a panic happened but not its message. Depends on
//! nothing of this crate.

use std::{fmt::Debug, io::IsTerminal as _, str::FromStr, sync::Arc};

use clap::ValueEnum;
use tracing_subscriber::{
    EnvFilter, Layer as _, Registry,
    filter::{ParseError, filter_fn},
    fmt,
    layer::SubscriberExt as _,
    reload,
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
pub struct InvalidFilter(#[source] Option<ParseError>);

impl Default for LogFilter {
    /// Level info.
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl FromStr for LogFilter {
    type Err = InvalidFilter;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // The library takes no directive at all for the level error.
        if text.split(',').all(|directive| directive.trim().is_empty()) {
            return Err(InvalidFilter(None));
        }
        EnvFilter::builder().parse(text).map_err(|invalid| InvalidFilter(Some(invalid)))?;
        Ok(Self(text.to_owned()))
    }
}

/// Colors are for terminals whose user has not opted out (<https://no-color.org>).
fn wants_colors() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

impl LogFilter {
    /// The directives.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn layer(&self) -> EnvFilter {
        EnvFilter::builder().parse_lossy(&self.0)
    }
}

/// Changes which lines are written while the process runs. Clones change the same log.
#[derive(Clone)]
pub struct LogControl(Arc<dyn Fn(&LogFilter) -> bool + Send + Sync>);

impl LogControl {
    /// A control that calls `change` with each filter.
    pub fn new(change: impl Fn(&LogFilter) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(change))
    }

    /// Replaces the filter. False if the log is gone.
    #[must_use]
    pub fn set(&self, filter: &LogFilter) -> bool {
        (self.0)(filter)
    }
}

impl Debug for LogControl {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("LogControl")
    }
}

/// Starts logging to standard error.
#[must_use]
pub fn start(format: LogFormat, filter: &LogFilter) -> LogControl {
    let (filter, handle) = reload::Layer::<_, Registry>::new(filter.layer());
    let layer = match format {
        LogFormat::Json => fmt::layer().json().flatten_event(true).with_writer(std::io::stderr).boxed(),
        LogFormat::Human => fmt::layer().with_writer(std::io::stderr).with_ansi(wants_colors()).boxed(),
    };
    // Libraries log whole bodies and URLs at debug level, and kube logs a body it cannot decode as a warning. Both may
    // hold what must not be logged.
    let own_lines = filter_fn(|metadata| metadata.target().starts_with("okid_operator"));
    tracing_subscriber::registry().with(filter).with(layer.with_filter(own_lines)).init();
    std::panic::set_hook(Box::new(|panic| {
        // The message may quote a value; the location is enough to find the cause.
        let location = panic.location().map_or_else(String::new, ToString::to_string);
        tracing::error!(location, "panicked");
    }));
    LogControl::new(move |filter| handle.reload(filter.layer()).is_ok())
}
