//! Local folders.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    os::unix::{
        fs::{MetadataExt, PermissionsExt, symlink},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    process::{Command, Output},
};

use control_plane::Folder as TempFolder;
use okid_operator::{
    api::{EvidenceKind, ObjectState, StoredObject},
    evidence::{Manifest, PortalEnd},
    store::{Cleared, Removal, StoreError},
};

use crate::harness::{key, of, put, put_as, skip, stored_bytes, stores};

fn named(folder: &TempFolder) -> String {
    format!("stores: [{{name: disk, url: 'file://{}', namespaces: ['*']}}]", folder.path().display())
}

#[tokio::test]
async fn a_file_that_a_dead_process_left_unfinished_is_removed() {
    let folder = TempFolder::create("okid-evidence-").unwrap();
    let store = stores(&named(&folder)).find("disk", "team-a").unwrap();
    put(&store, b"abc").await.unwrap();
    let inside = folder.path().join(of("team-a").to_string());
    let left = inside.join("front-original.jpg#1");
    fs::write(&left, b"ab").unwrap();
    let other = inside.join("front-original.jpg#notes");
    fs::write(&other, b"not ours").unwrap();
    assert!(put(&store, b"abc").await.unwrap().already_existed);
    assert!(!left.exists());
    fs::write(&left, b"ab").unwrap();
    store.delete(&of("team-a"), &[key("front-original.jpg")]).await.unwrap();
    assert!(!left.exists());
    assert!(other.exists());
}

#[tokio::test]
async fn a_file_that_is_being_written_stays_until_it_is_to_be_removed() {
    let folder = TempFolder::create("okid-evidence-").unwrap();
    let store = stores(&named(&folder)).find("disk", "team-a").unwrap();
    put(&store, b"abc").await.unwrap();
    let written = folder.path().join(of("team-a").to_string()).join("front-original.jpg#1");
    let writer = File::create(&written).unwrap();
    writer.lock().unwrap();
    assert!(put(&store, b"abc").await.unwrap().already_existed);
    assert!(written.exists());
    store.delete(&of("team-a"), &[key("front-original.jpg")]).await.unwrap();
    assert!(!written.exists());
}

#[tokio::test]
async fn unfinished_files_are_found_and_removed_with_the_others() {
    let folder = TempFolder::create("okid-evidence-").unwrap();
    let store = stores(&named(&folder)).find("disk", "team-a").unwrap();
    let inside = folder.path().join(of("team-a").to_string());
    fs::create_dir_all(&inside).unwrap();
    fs::write(inside.join("front-original.jpg#1"), b"ab").unwrap();
    let keys = store.keys(&of("team-a")).await.unwrap();
    assert_eq!(keys, [key("front-original.jpg")]);
    assert_eq!(stored_bytes(&store).await, None);
    store.delete(&of("team-a"), &keys).await.unwrap();
    assert!(!inside.exists());
}

#[tokio::test]
async fn nothing_is_written_while_the_folder_is_not_mounted() {
    let folder = TempFolder::create("okid-evidence-").unwrap();
    let store = stores(&named(&folder)).find("disk", "team-a").unwrap();
    fs::remove_dir(folder.path()).unwrap();
    assert_eq!(put(&store, b"abc").await, Err(StoreError::BucketMissing));
    assert!(!folder.path().exists());
    fs::create_dir(folder.path()).unwrap();
    assert!(!put(&store, b"abc").await.unwrap().already_existed);
}

#[tokio::test]
async fn no_folder_is_left_of_a_verification_whose_evidence_is_removed() {
    let folder = TempFolder::create("okid-evidence-").unwrap();
    let store = stores(&named(&folder)).find("disk", "team-a").unwrap();
    put(&store, b"abc").await.unwrap();
    put_as(&store, "manifest.json", b"{}").await.unwrap();
    store.delete(&of("team-a"), &[key("front-original.jpg"), key("manifest.json")]).await.unwrap();
    let namespace = folder.path().join("team-a");
    assert_eq!(fs::read_dir(namespace).unwrap().count(), 0);
}

#[tokio::test]
async fn a_folder_that_is_not_mounted_does_not_count_as_cleared() {
    let folder = TempFolder::create("okid-evidence-").unwrap();
    let store = stores(&named(&folder)).find("disk", "team-a").unwrap();
    assert_eq!(store.keys(&of("team-a")).await, Err(StoreError::BucketMissing));
    put(&store, b"abc").await.unwrap();
    let keys = store.keys(&of("team-a")).await.unwrap();
    store.delete(&of("team-a"), &keys).await.unwrap();
    assert_eq!(store.keys(&of("team-a")).await, Ok(Vec::new()), "the namespace's folder stays");
    fs::remove_dir(folder.path().join("team-a")).unwrap();
    assert_eq!(store.keys(&of("team-a")).await, Err(StoreError::BucketMissing));
    fs::remove_dir(folder.path()).unwrap();
    assert_eq!(store.keys(&of("team-a")).await, Err(StoreError::BucketMissing));
}

/// Everything below a folder by its path: the content of files, the targets of links, and other entries.
fn everything(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let kind = path.symlink_metadata().unwrap().file_type();
            let what = if kind.is_dir() {
                folders.push(path.clone());
                "a folder".to_owned()
            } else if kind.is_file() {
                String::from_utf8(fs::read(&path).unwrap()).unwrap()
            } else {
                format!("{kind:?} {:?}", fs::read_link(&path).ok())
            };
            found.insert(path, what);
        }
    }
    found
}

#[tokio::test]
async fn a_link_in_place_of_a_folder_leads_to_no_other_evidence() {
    let uid = of("team-a").uid().to_owned();
    // The folders of the namespace, the resource and the uid, each replaced by a link within the root and by one out of it.
    let inside =
        ["team-b".to_owned(), "../team-b/customer".to_owned(), format!("../../team-b/customer/{uid}")];
    for (level, inside) in inside.into_iter().enumerate() {
        for leaves_the_root in [false, true] {
            let folder = TempFolder::create("okid-evidence-").unwrap();
            let elsewhere = TempFolder::create("okid-evidence-").unwrap();
            let store = stores(&named(&folder)).find("disk", "team-a").unwrap();
            let own = folder.path().join(of("team-a").to_string());
            let link = own.ancestors().nth(2 - level).unwrap();
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            let roots = if leaves_the_root { &elsewhere } else { &folder };
            let other = roots.path().join(of("team-b").to_string());
            fs::create_dir_all(&other).unwrap();
            fs::write(other.join("front-original.jpg"), "retained").unwrap();
            fs::write(other.join("front-original.jpg#1"), "half written").unwrap();
            let target = other.ancestors().nth(2 - level).unwrap();
            symlink(if leaves_the_root { target } else { Path::new(&inside) }, link).unwrap();
            assert!(own.join("front-original.jpg").exists(), "the link leads there");

            let before = (everything(folder.path()), everything(elsewhere.path()));
            let front = key("front-original.jpg");
            let refused = StoreError::Conflict;
            assert_eq!(put(&store, b"ours").await, Err(refused), "{link:?}");
            assert_eq!(put_as(&store, "back-original.jpg", b"ours").await, Err(refused), "{link:?}");
            assert_eq!(store.read(&of("team-a"), &front, 100).await, Err(refused), "{link:?}");
            assert_eq!(store.keys(&of("team-a")).await, Err(refused), "{link:?}");
            assert_eq!(store.delete(&of("team-a"), &[front]).await, Err(refused), "{link:?}");
            assert_eq!(store.clear(&of("team-a"), &[]).await, Err(refused), "{link:?}");
            assert_eq!((everything(folder.path()), everything(elsewhere.path())), before, "{link:?}");
        }
    }
}

/// Creates an entry that is not a regular file; false if this machine does not allow it.
fn make_odd(kind: &str, path: &Path) -> bool {
    let run = |program: &str, arguments: &[&str]| {
        let made = Command::new(program).arg(path).args(arguments).output();
        made.is_ok_and(|made| made.status.success())
    };
    match kind {
        "a link to a file of another" => {
            symlink("../../../team-b/customer/uid/front-original.jpg", path).unwrap();
            true
        }
        "a link to nothing" => {
            symlink("nothing", path).unwrap();
            true
        }
        "a pipe" => run("mkfifo", &[]),
        "a socket" => UnixListener::bind(path).is_ok(),
        "a folder" => fs::create_dir(path).is_ok(),
        "a device that never ends" => run("mknod", &["c", "1", "5"]),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn an_entry_that_is_not_a_file_is_never_read_written_or_removed() {
    for kind in [
        "a link to a file of another",
        "a link to nothing",
        "a pipe",
        "a socket",
        "a folder",
        "a device that never ends",
    ] {
        let folder = TempFolder::create("okid-evidence-").unwrap();
        let store = stores(&named(&folder)).find("disk", "team-a").unwrap();
        let other = folder.path().join("team-b/customer/uid");
        fs::create_dir_all(&other).unwrap();
        fs::write(other.join("front-original.jpg"), "retained").unwrap();
        let own = folder.path().join(of("team-a").to_string());
        fs::create_dir_all(&own).unwrap();
        if !make_odd(kind, &own.join("front-original.jpg")) {
            let _ = writeln!(io::stderr(), "not tried: this machine does not make {kind}");
            continue;
        }
        let before = everything(folder.path());
        let front = key("front-original.jpg");
        assert_eq!(put(&store, b"retained").await, Err(StoreError::Conflict), "{kind}");
        assert_eq!(store.read(&of("team-a"), &front, 100).await, Err(StoreError::Conflict), "{kind}");
        let listed = store.keys(&of("team-a")).await.unwrap();
        assert_eq!(listed.len(), 1, "{kind}");
        assert_eq!(
            store.delete(&of("team-a"), &listed).await,
            Ok(vec![(front, Removal::Retained)]),
            "{kind}"
        );
        assert_eq!(everything(folder.path()), before, "{kind}");
    }
}

#[tokio::test]
async fn an_entry_with_the_name_of_an_unfinished_file_blocks_nothing() {
    let folder = TempFolder::create("okid-evidence-").unwrap();
    let store = stores(&named(&folder)).find("disk", "team-a").unwrap();
    let own = folder.path().join(of("team-a").to_string());
    fs::create_dir_all(&own).unwrap();
    for number in 0..20 {
        assert!(make_odd("a pipe", &own.join(format!("front-original.jpg#{number}"))));
    }
    assert!(make_odd("a socket", &own.join("front-original.jpg#20")));
    assert!(make_odd("a folder", &own.join("front-original.jpg#21")));
    assert!(make_odd("a link to a file of another", &own.join("front-original.jpg#22")));
    let before = everything(folder.path());
    assert_eq!(store.keys(&of("team-a")).await, Ok(Vec::new()));
    assert!(!put(&store, b"abc").await.unwrap().already_existed);
    assert_eq!(stored_bytes(&store).await.as_deref(), Some(&b"abc"[..]));
    assert_eq!(store.keys(&of("team-a")).await, Ok(vec![key("front-original.jpg")]));
    assert_eq!(store.clear(&of("team-a"), &[]).await, Ok(Cleared::default()));
    assert_eq!(everything(folder.path()), before);
}

#[tokio::test]
async fn new_files_and_folders_are_the_operators_alone_by_default() {
    for (options, file_mode, dir_mode) in [
        ("{}", 0o600, 0o700),
        ("{file_mode: 0640, dir_mode: '750'}", 0o640, 0o750),
        // Whatever the process's umask.
        ("{file_mode: '0666', dir_mode: '0777'}", 0o666, 0o777),
    ] {
        let folder = TempFolder::create("okid-evidence-").unwrap();
        let url = format!("file://{}", folder.path().display());
        let text = format!("stores: [{{name: disk, url: '{url}', namespaces: ['*'], options: {options}}}]");
        let store = stores(&text).find("disk", "team-a").unwrap();
        put(&store, b"abc").await.unwrap();
        let file = folder.path().join(of("team-a").to_string()).join("front-original.jpg");
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&file), file_mode, "{options}");
        for made in file.ancestors().skip(1).take(3) {
            assert_eq!(mode(made), dir_mode, "{options} {made:?}");
        }
        assert_eq!(file.metadata().unwrap().nlink(), 1, "nothing else is left of it");
    }
}

/// Runs the first documented command that checks a folder against its manifest, in that folder.
fn check_as_documented(folder: &Path) -> Output {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/evidence/verify.md");
    let docs = fs::read_to_string(docs).unwrap();
    let command = docs.lines().map(str::trim).find(|line| line.starts_with("jq -r '.objects")).unwrap();
    assert!(command.ends_with("manifest.json | sha256sum --check"), "{command}");
    Command::new("sh").args(["-c", command]).current_dir(folder).output().unwrap()
}

#[tokio::test]
async fn the_documented_command_checks_a_folder_against_its_manifest() {
    let runs = |program: &str| {
        Command::new(program).arg("--version").output().is_ok_and(|tried| tried.status.success())
    };
    if let Some(missing) = ["jq", "sha256sum"].into_iter().find(|program| !runs(program)) {
        skip("the documented check of a folder is", &format_args!("there is no {missing}"));
        return;
    }
    let temporary = TempFolder::create("okid-evidence-").unwrap();
    let store = stores(&named(&temporary)).find("disk", "team-a").unwrap();
    let mut objects = Vec::new();
    for (kind, name, bytes) in [
        (EvidenceKind::Front, "front-original.jpg", &b"abc"[..]),
        (EvidenceKind::Results, "details.json", b"{}"),
    ] {
        let put = put_as(&store, name, bytes).await.unwrap();
        objects.push(StoredObject {
            kind,
            key: name.to_owned(),
            state: ObjectState::Stored,
            size: i64::try_from(put.size).ok(),
            sha256: Some(put.sha256),
            content_type: None,
        });
    }
    objects.push(StoredObject {
        kind: EvidenceKind::Back,
        key: "back-original".to_owned(),
        state: ObjectState::Absent,
        size: None,
        sha256: None,
        content_type: None,
    });
    let end = PortalEnd { status: "verified", updated_at: None, finished_at: None };
    let manifest = Manifest::new(&of("team-a"), end, &objects).bytes().unwrap();
    put_as(&store, "manifest.json", &manifest).await.unwrap();

    let inside = temporary.path().join(of("team-a").to_string());
    let checked = check_as_documented(&inside);
    assert!(checked.status.success(), "{checked:?}");
    assert_eq!(String::from_utf8(checked.stdout).unwrap(), "details.json: OK\nfront-original.jpg: OK\n");
    fs::write(inside.join("front-original.jpg"), b"abd").unwrap();
    let checked = check_as_documented(&inside);
    assert_eq!(checked.status.code(), Some(1));
    assert_eq!(String::from_utf8(checked.stdout).unwrap(), "details.json: OK\nfront-original.jpg: FAILED\n");
}
