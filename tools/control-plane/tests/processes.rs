//! No program outlives the process that started it, and its folder is removed last.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command as Parent, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use control_plane::Folder;
use control_plane::process::{Command, ProcessError, Signal};

/// Everything here takes far less.
const SOON: Duration = Duration::from_secs(30);

/// Logs on TERM that it exits, after a moment in which what it needs must still exist.
const POLITE: &str =
    "trap 'sleep 0.3; echo \"$1 exited\" >>\"$2\"; exit 0' TERM; echo ready; while :; do sleep 0.05; done";
const STUBBORN: &str = "trap '' TERM; echo ready; while :; do sleep 0.05; done";

#[test]
fn a_program_exits_with_its_own_status_and_a_log() {
    let folder = Folder::create("processes-").unwrap();
    let child = Command::new("sh")
        .args(["-c", "echo \"$GREETING\"; echo oops >&2; exit 7"])
        .env("GREETING", "hello there")
        .start(folder.path().join("log"))
        .unwrap();
    assert_eq!(child.wait(SOON).unwrap().unwrap().code(), Some(7));
    assert_eq!(child.log(), "hello there\noops\n");
}

#[test]
fn the_id_is_the_programs_own() {
    let folder = Folder::create("processes-").unwrap();
    let child = Command::new("sh").args(["-c", "echo $$"]).start(folder.path().join("log")).unwrap();
    child.wait(SOON).unwrap();
    assert_eq!(child.log().trim(), child.id().to_string());
}

#[test]
fn a_missing_program_is_reported_in_the_log() {
    let folder = Folder::create("processes-").unwrap();
    let child = Command::new("no-such-program").start(folder.path().join("log")).unwrap();
    let error = child.wait_for_line("ready", SOON).unwrap_err();
    assert!(matches!(error, ProcessError::Exited { .. }), "{error}");
    assert!(error.to_string().contains("no-such-program: not found"), "{error}");
}

#[test]
fn a_program_that_ignores_term_is_killed() {
    let folder = Folder::create("processes-").unwrap();
    let child = Command::new("sh").args(["-c", STUBBORN]).start(folder.path().join("log")).unwrap();
    child.wait_for_line("ready", SOON).unwrap();
    let status = child.stop(Signal::Terminate, Duration::from_millis(200)).unwrap();
    assert_eq!(status.code(), None);
    assert!(!runs(child.id()));
}

#[test]
fn a_program_can_be_killed_at_once_and_a_second_time_without_harm() {
    let folder = Folder::create("processes-").unwrap();
    let child = Command::new("sh").args(["-c", STUBBORN]).start(folder.path().join("log")).unwrap();
    child.wait_for_line("ready", SOON).unwrap();
    let status = child.kill().unwrap();
    assert_eq!(child.kill().unwrap(), status);
    assert_eq!(child.stop(Signal::Interrupt, SOON).unwrap(), status);
    child.lifeline().unwrap_err();
}

#[test]
fn a_dropped_program_is_killed_and_its_folder_removed() {
    let folder = Folder::create("processes-").unwrap();
    let child = Command::new("sh")
        .args(["-c", STUBBORN])
        .needs(folder.lifeline().unwrap())
        .start(folder.path().join("log"))
        .unwrap();
    child.wait_for_line("ready", SOON).unwrap();
    let (id, path) = (child.id(), folder.path().to_owned());
    drop(child);
    drop(folder);
    assert!(!runs(id));
    assert!(!path.exists());
}

#[test]
fn when_the_parent_is_killed_programs_stop_before_what_they_need() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut parent = parent_of_programs(log.path());
    let mut output = BufReader::new(parent.stdout.take().unwrap()).lines();
    let folder = loop {
        let line = output.next().expect("the parent prints its folder").unwrap();
        if let Some((_, rest)) = line.split_once("FOLDER=") {
            break PathBuf::from(rest);
        }
    };
    let ids: Vec<u32> =
        fs::read_to_string(folder.join("ids")).unwrap().lines().map(|id| id.parse().unwrap()).collect();
    assert_eq!(ids.len(), 3);
    assert!(ids.iter().copied().all(runs));

    parent.kill().unwrap();
    parent.wait().unwrap();

    until("the folder is gone", || !folder.exists());
    until("the programs are gone", || !ids.iter().copied().any(runs));
    assert_eq!(fs::read_to_string(log.path()).unwrap(), "second exited\nfirst exited\n");
}

/// Runs [`parent`] of this same test program.
fn parent_of_programs(log: &Path) -> std::process::Child {
    Parent::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "parent"])
        .env("LOG", log)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
#[ignore = "not a test: the process that another test kills"]
fn parent() {
    let log = std::env::var_os("LOG").unwrap();
    let folder = Folder::create("processes-").unwrap();
    let program = |name, script| {
        Command::new("sh").args(["-c", script, "sh", name]).arg(&log).grace(Duration::from_secs(10))
    };
    let first = program("first", POLITE)
        .needs(folder.lifeline().unwrap())
        .start(folder.path().join("first.log"))
        .unwrap();
    let second = program("second", POLITE)
        .needs(first.lifeline().unwrap())
        .start(folder.path().join("second.log"))
        .unwrap();
    let stubborn = program("stubborn", STUBBORN)
        .grace(Duration::from_millis(100))
        .needs(second.lifeline().unwrap())
        .start(folder.path().join("stubborn.log"))
        .unwrap();
    let children = [first, second, stubborn];
    for child in &children {
        child.wait_for_line("ready", SOON).unwrap();
    }
    let ids: Vec<String> = children.iter().map(|child| child.id().to_string()).collect();
    fs::write(folder.path().join("ids"), ids.join("\n")).unwrap();
    println!("FOLDER={}", folder.path().display());
    std::io::stdin().lines().for_each(drop);
    loop {
        std::thread::park();
    }
}

/// Whether a process with this id exists and is not a zombie.
fn runs(id: u32) -> bool {
    let output = Parent::new("ps").args(["-o", "stat=", "-p", &id.to_string()]).output().unwrap();
    let state = String::from_utf8(output.stdout).unwrap();
    !state.trim().is_empty() && !state.trim().starts_with('Z')
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < SOON, "{what}: not within {SOON:?}");
        sleep(Duration::from_millis(20));
    }
}
