//! Reports tests that cannot run here, past the test runner, which discards the output of passing tests. Every test program
//! with such tests uses it.

use std::{
    collections::BTreeSet,
    fmt,
    fs::OpenOptions,
    io::{self, Write as _},
    thread,
};

use parking_lot::Mutex;

/// The variable with the file in which `cargo xtask test` counts skipped tests, one per line.
const SKIPS: &str = "OKID_TEST_SKIPS";

/// Reports once why tests are skipped, and counts this test.
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
