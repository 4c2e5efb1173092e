//! Records every version of every verification that a run saw, for `tests/readers`. Touches the file system.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::thread;

use parking_lot::Mutex;
use serde_json::{Value, json};

/// How many versions a run records: several times as many as all tests see.
const MOST: usize = 50_000;

/// The variable with another file than the usual one.
const FILE: &str = "OKID_TEST_STATUSES";

/// The operator, as a writer of fields.
const OPERATOR: &str = "okid-operator";

/// The file of this run, and how many versions it may still have. The file of the last run is replaced.
static RECORDS: LazyLock<Mutex<(BufWriter<File>, usize)>> = LazyLock::new(|| {
    let usual = || Path::new(env!("CARGO_TARGET_TMPDIR")).join("statuses.jsonl");
    let file = std::env::var_os(FILE).map_or_else(usual, PathBuf::from);
    let file = File::create(&file).expect("make the file of the statuses");
    Mutex::new((BufWriter::new(file), MOST))
});

/// Whether nobody but the operator wrote the status last. A test may forge one.
fn is_of_operator(resource: &Value) -> bool {
    let managers = resource["metadata"]["managedFields"].as_array().map_or(&[][..], Vec::as_slice);
    let of_status = managers.iter().filter(|manager| manager["subresource"] == "status");
    let last = of_status.clone().map(|manager| manager["time"].as_str()).max();
    let mut last = of_status.filter(|manager| Some(manager["time"].as_str()) == last);
    last.all(|manager| manager["manager"] == OPERATOR)
}

/// Records versions with the name of this test.
pub(super) fn record(versions: Vec<Value>) {
    let test = thread::current().name().unwrap_or_default().to_owned();
    let mut records = RECORDS.lock();
    let (file, left) = &mut *records;
    for mut resource in versions.into_iter().filter(is_of_operator).take(*left) {
        // Long, and nobody who waits reads them.
        resource["metadata"].as_object_mut().expect("metadata is an object").remove("managedFields");
        *left -= 1;
        writeln!(file, "{}", json!({"test": test, "resource": resource})).expect("record a status");
    }
    file.flush().expect("record a status");
}
