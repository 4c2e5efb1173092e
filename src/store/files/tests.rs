//! How folders are opened, and how many threads a folder may occupy. `tests/evidence/folder.rs` tests the objects.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
};

use futures::future::join_all;
use parking_lot::Mutex;
use rustix::fd::OwnedFd;
use tempfile::TempDir;
use tokio::task::yield_now;

use super::*;

type Open = fn(&OwnedFd, &Path) -> rustix::io::Result<OwnedFd>;

/// With the system call and without it.
fn openers() -> Vec<Open> {
    let at_once: Open = |from, path| beneath::at_once(from, path).unwrap();
    let step_by_step: Open = beneath::step_by_step;
    let root = beneath::root(Path::new("/")).unwrap();
    let has_call = beneath::at_once(&root, Path::new(".")).is_some();
    has_call.then_some(at_once).into_iter().chain([step_by_step]).collect()
}

#[test]
fn no_folder_is_opened_through_a_link_or_a_parent() {
    let temporary = TempDir::new().unwrap();
    let inside = |name: &str| temporary.path().join(name);
    fs::create_dir_all(inside("root/team-b/customer/uid")).unwrap();
    fs::create_dir(inside("root/team-a")).unwrap();
    fs::create_dir(inside("outside")).unwrap();
    fs::write(inside("root/file"), b"").unwrap();
    symlink("team-b", inside("root/sibling")).unwrap();
    symlink("../team-b/customer", inside("root/team-a/customer")).unwrap();
    symlink(inside("outside"), inside("root/absolute")).unwrap();
    symlink("/proc/self/cwd", inside("root/magic")).unwrap();
    let root = beneath::root(&inside("root")).unwrap();
    for open in openers() {
        assert!(open(&root, Path::new("team-b/customer/uid")).is_ok());
        assert!(open(&root, Path::new(".")).is_ok());
        for refused in [
            "sibling",
            "sibling/customer",
            "team-a/customer",
            "team-a/customer/uid",
            "absolute",
            "magic",
            "file",
        ] {
            let error = open(&root, Path::new(refused)).unwrap_err();
            assert_eq!(beneath::classify_errno(error), CONFLICT, "{refused}");
        }
        for upwards in ["..", "team-a/../../outside", "/"] {
            assert!(open(&root, Path::new(upwards)).is_err(), "{upwards}");
        }
        let error = open(&root, Path::new("team-c")).unwrap_err();
        assert_eq!(beneath::classify_errno(error), RequestError::NotFound);
    }
}

#[test]
fn the_root_itself_may_be_a_link() {
    let temporary = TempDir::new().unwrap();
    let (volume, link) = (temporary.path().join("volume"), temporary.path().join("link"));
    fs::create_dir(&volume).unwrap();
    symlink(&volume, &link).unwrap();
    assert!(beneath::root(&link).is_ok());
    fs::remove_dir(&volume).unwrap();
    assert_eq!(beneath::root(&link).unwrap_err(), RequestError::Failed(StoreError::BucketMissing));
}

#[tokio::test]
async fn a_folder_that_hangs_occupies_a_bounded_number_of_threads() {
    let disk = Disk::new("/".into(), Modes::default());
    let (release, hang) = mpsc::channel::<()>();
    let (hang, begun) = (Arc::new(Mutex::new(hang)), Arc::new(AtomicUsize::new(0)));
    let calls = (0..MAX_CALLS * 2).map(|_| {
        let (hang, begun) = (Arc::clone(&hang), Arc::clone(&begun));
        disk.run(move |_| {
            begun.fetch_add(1, Ordering::SeqCst);
            let _ = hang.lock().recv();
            Ok(())
        })
    });
    let release_when = async {
        while begun.load(Ordering::SeqCst) < MAX_CALLS {
            yield_now().await;
        }
        assert_eq!(disk.permits.available_permits(), 0);
        assert_eq!(begun.load(Ordering::SeqCst), MAX_CALLS);
        drop(release);
    };
    let (done, ()) = tokio::join!(join_all(calls), release_when);
    assert!(done.iter().all(|done| *done == Ok(())));
    assert_eq!(begun.load(Ordering::SeqCst), MAX_CALLS * 2);
}
