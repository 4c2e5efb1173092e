//! What a command prints. Whoever reads it may stop reading, as `head` does; that ends no command.

use std::fmt::Display;
use std::io::Write as _;

/// Prints a text as it is.
pub(crate) fn print(text: impl Display) {
    let mut out = std::io::stdout();
    // Nobody reads it any more if this fails.
    let _ = write!(out, "{text}").and_then(|()| out.flush());
}

/// Prints a line.
pub(crate) fn line(text: impl Display) {
    print(format_args!("{text}\n"));
}
