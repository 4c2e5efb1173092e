//! Prints to standard output. A reader that stops early, such as `head`, does not end the command.

use std::fmt::Display;
use std::io::Write as _;

/// Prints text unchanged.
pub(crate) fn print(text: impl Display) {
    let mut out = std::io::stdout();
    // If this fails, the reader is gone.
    let _ = write!(out, "{text}").and_then(|()| out.flush());
}

/// Prints a line.
pub(crate) fn line(text: impl Display) {
    print(format_args!("{text}\n"));
}
