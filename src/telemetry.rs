//! Logs: JSON or for people, and a panic hook that tells where, but not what.

use std::io::IsTerminal as _;

use tracing_subscriber::{
    EnvFilter, Layer as _, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use crate::settings::LogFormat;

/// The directives cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("read --log; write directives such as info, or okid_operator=debug")]
pub struct InvalidDirectives(#[source] tracing_subscriber::filter::ParseError);

/// Colours are for a terminal, and for whoever has not said that they are not wanted (<https://no-color.org>).
fn wants_colours() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Starts logging to standard error.
///
/// # Errors
///
/// [`InvalidDirectives`].
pub fn start(format: LogFormat, directives: &str) -> Result<(), InvalidDirectives> {
    // Libraries print whole bodies and URLs at debug, and the client of Kubernetes prints a body it cannot read even as
    // a warning; both may hold what must not be logged.
    let own = EnvFilter::builder().parse(directives).map_err(InvalidDirectives)?;
    let layer = match format {
        LogFormat::Json => fmt::layer().json().flatten_event(true).with_writer(std::io::stderr).boxed(),
        LogFormat::Human => fmt::layer().with_writer(std::io::stderr).with_ansi(wants_colours()).boxed(),
    };
    let only_own =
        tracing_subscriber::filter::filter_fn(|metadata| metadata.target().starts_with("okid_operator"));
    tracing_subscriber::registry().with(layer.with_filter(only_own)).with(own).init();
    std::panic::set_hook(Box::new(|panic| {
        // The message may quote a value; the place is enough to find it.
        let place = panic.location().map_or_else(String::new, ToString::to_string);
        tracing::error!(place, "a panic");
    }));
    Ok(())
}
