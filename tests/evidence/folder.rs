//! What holds for local folders only.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
    process::{Command, Output},
};

use control_plane::Folder as TempFolder;
use okid_operator::{
    api::{EvidenceKind, ObjectState, StoredObject},
    evidence::{Manifest, StoreTrouble, manifest::PortalEnd},
};

use crate::harness::{key, look, of, put, put_as, stores};

fn named(folder: &TempFolder) -> String {
    format!("stores: [{{name: disk, url: 'file://{}', namespaces: ['*']}}]", folder.path().display())
}

#[tokio::test]
async fn what_a_killed_process_left_half_written_is_removed() {
    let folder = TempFolder::create("okid-evidence-").unwrap();
    let store = stores(&named(&folder)).find("disk", "team-a").unwrap();
    put(&store, b"abc").await.unwrap();
    let inside = folder.path().join(of("team-a").to_string());
    let left = inside.join("front-original.jpg#1");
    fs::write(&left, b"ab").unwrap();
    let other = inside.join("front-original.jpg#notes");
    fs::write(&other, b"not ours").unwrap();
    assert!(put(&store, b"abc").await.unwrap().was_there);
    assert!(!left.exists());
    fs::write(&left, b"ab").unwrap();
    store.delete(&of("team-a"), &[key("front-original.jpg")]).await.unwrap();
    assert!(!left.exists());
    assert!(other.exists());
}

#[tokio::test]
async fn what_somebody_is_writing_is_left_alone_until_it_is_to_be_removed() {
    let folder = TempFolder::create("okid-evidence-").unwrap();
    let store = stores(&named(&folder)).find("disk", "team-a").unwrap();
    put(&store, b"abc").await.unwrap();
    let written = folder.path().join(of("team-a").to_string()).join("front-original.jpg#1");
    let writer = File::create(&written).unwrap();
    writer.lock().unwrap();
    assert!(put(&store, b"abc").await.unwrap().was_there);
    assert!(written.exists());
    store.delete(&of("team-a"), &[key("front-original.jpg")]).await.unwrap();
    assert!(!written.exists());
}

#[tokio::test]
async fn what_was_never_finished_is_found_and_removed_with_the_rest() {
    let folder = TempFolder::create("okid-evidence-").unwrap();
    let store = stores(&named(&folder)).find("disk", "team-a").unwrap();
    let inside = folder.path().join(of("team-a").to_string());
    fs::create_dir_all(&inside).unwrap();
    fs::write(inside.join("front-original.jpg#1"), b"ab").unwrap();
    let keys = store.keys(&of("team-a")).await.unwrap();
    assert_eq!(keys, [key("front-original.jpg")]);
    assert_eq!(look(&store).await, None);
    store.delete(&of("team-a"), &keys).await.unwrap();
    assert!(!inside.exists());
}

#[tokio::test]
async fn nothing_is_written_while_the_folder_is_not_mounted() {
    let folder = TempFolder::create("okid-evidence-").unwrap();
    let store = stores(&named(&folder)).find("disk", "team-a").unwrap();
    fs::remove_dir(folder.path()).unwrap();
    assert_eq!(put(&store, b"abc").await, Err(StoreTrouble::BucketMissing));
    assert!(!folder.path().exists());
    fs::create_dir(folder.path()).unwrap();
    assert!(!put(&store, b"abc").await.unwrap().was_there);
}

#[tokio::test]
async fn nothing_is_left_of_a_verification_whose_evidence_is_removed() {
    let folder = TempFolder::create("okid-evidence-").unwrap();
    let store = stores(&named(&folder)).find("disk", "team-a").unwrap();
    put(&store, b"abc").await.unwrap();
    put_as(&store, "manifest.json", b"{}").await.unwrap();
    store.delete(&of("team-a"), &[key("front-original.jpg"), key("manifest.json")]).await.unwrap();
    let namespace = folder.path().join("team-a");
    assert_eq!(fs::read_dir(namespace).unwrap().count(), 0);
}

#[tokio::test]
async fn a_place_where_nothing_is_mounted_does_not_count_as_emptied() {
    let folder = TempFolder::create("okid-evidence-").unwrap();
    let store = stores(&named(&folder)).find("disk", "team-a").unwrap();
    assert_eq!(store.keys(&of("team-a")).await, Err(StoreTrouble::BucketMissing));
    put(&store, b"abc").await.unwrap();
    let keys = store.keys(&of("team-a")).await.unwrap();
    store.delete(&of("team-a"), &keys).await.unwrap();
    assert_eq!(store.keys(&of("team-a")).await, Ok(Vec::new()), "the namespace's folder stays");
    fs::remove_dir(folder.path().join("team-a")).unwrap();
    assert_eq!(store.keys(&of("team-a")).await, Err(StoreTrouble::BucketMissing));
    fs::remove_dir(folder.path()).unwrap();
    assert_eq!(store.keys(&of("team-a")).await, Err(StoreTrouble::BucketMissing));
}

/// Runs the first command of the docs that checks a folder against its manifest, in that folder.
fn check_as_documented(folder: &Path) -> Output {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/evidence.md");
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
        let _ = writeln!(io::stderr(), "the documented check of a folder is skipped: there is no {missing}");
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
