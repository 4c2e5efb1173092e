//! Tests that cannot run here say so, past the runner, which keeps what passing tests print.

use std::{
    collections::BTreeSet,
    fmt,
    fs::OpenOptions,
    io::{self, Write as _},
    thread,
};

use parking_lot::Mutex;

/// Names the file that `cargo xtask test` counts skipped tests in, one a line.
const SKIPS: &str = "OKID_TEST_SKIPS";

/// Says once that something is skipped, and counts this test among those that are.
pub(crate) fn skip(what: &'static str, why: &impl fmt::Display) {
    static SAID: Mutex<BTreeSet<&str>> = Mutex::new(BTreeSet::new());
    if SAID.lock().insert(what) {
        let _ = writeln!(io::stderr(), "{what} skipped: {why}");
    }
    if let Some(file) = std::env::var_os(SKIPS) {
        let test = thread::current().name().unwrap_or_default().to_owned();
        let mut file =
            OpenOptions::new().append(true).create(true).open(file).expect("open the list of skips");
        file.write_all(format!("{test}: {what} skipped: {why}\n").as_bytes()).expect("count a skipped test");
    }
}
