//! Evidence from the verdict to the store: what is asked for is stored once, as the portal has it, and nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use http::Method;
use okid_operator::api::{ObjectState, Phase, RETRY, Verification};
use okid_sandbox::{Document, Endpoint, Verdict};
use serde_json::{Value, json};

use crate::harness::evidence::{asking, check, front, place, sha256};
use crate::harness::{Launch, Seen, World};

const IMAGE_CALLS: [Endpoint; 4] =
    [Endpoint::Image, Endpoint::ImageUnredacted, Endpoint::ImageFront, Endpoint::ImageBack];

/// The verdict is in, and the evidence is still owed.
const STORING: [&str; 6] = [
    "Ready=False/StoringEvidence",
    "Reconciling=True/StoringEvidence",
    "Stalled=",
    "Finished=True/Verified",
    "Verified=True/Verified",
    "EvidenceStored=False/Storing",
];

const STORED: [&str; 6] = [
    "Ready=True/Verified",
    "Reconciling=",
    "Stalled=",
    "Finished=True/Verified",
    "Verified=True/Verified",
    "EvidenceStored=True/Stored",
];

fn is_settled(seen: &Verification) -> bool {
    seen.found().settled
}

/// Both sides, the back required.
fn with_the_back() -> Value {
    asking(json!({"images": [{"kind": "Back", "required": true}, {"kind": "Front"}]}))
}

fn image_requests(world: &World) -> Vec<u64> {
    IMAGE_CALLS.iter().map(|endpoint| world.sandbox().count(*endpoint)).collect()
}

/// The files of an operator's administrator: a folder for evidence, and the list of stores that names it.
fn named_store(world: &World, namespaces: &Value) -> (PathBuf, Launch) {
    let folder = world.folder().join("archive");
    fs::create_dir_all(&folder).unwrap();
    let list = world.folder().join("stores.yaml");
    let url = format!("file://{}", folder.display());
    let text = json!({"stores": [{"name": "archive", "url": url, "namespaces": namespaces}]});
    fs::write(&list, text.to_string()).unwrap();
    (folder, Launch::new().flags(["--stores-file", list.to_str().unwrap()]))
}

/// The front, kept in that store.
fn asking_of_archive() -> Value {
    let mut spec = asking(front());
    spec["evidence"]["destination"] = json!({"store": "archive"});
    spec
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_and_results_are_stored_as_the_portal_has_them_each_asked_for_once() {
    let world = World::builder().s3().start().await;
    let evidence = json!({
        "images": [
            {"kind": "Front", "required": true},
            {"kind": "Back", "imageType": "cropped"},
            {"kind": "Redacted", "attemptIndex": 0},
            {"kind": "Unredacted"},
        ],
        "results": true,
    });
    let id = world.judged("alice", asking(evidence), Verdict::Verified).await;
    let over = world.until("alice", is_settled).await;
    assert_eq!(image_requests(&world), [1, 1, 1, 1]);
    assert!(over.shows(&STORED), "{over:?}");
    assert_eq!(over.phase(), Some(Phase::Verified));
    let versions = world.versions("alice");
    let storing = versions.iter().find(|seen| seen.phase() == Some(Phase::Storing)).unwrap();
    assert!(storing.shows(&STORING), "{storing:?}");
    assert_eq!(world.history("alice", Seen::phase).last(), Some(&Some(Phase::Verified)));

    let uid = over.metadata.uid.clone().unwrap();
    let prefix = format!("s3://evidence/kyc/{}/alice/{uid}", world.namespace);
    assert_eq!(over.found().evidence.unwrap().prefix, prefix);
    let files = check(&over, &world.in_s3(&over));
    for (key, path) in [
        ("front-original.jpg", "image-front/ID?image_type=original"),
        ("back-cropped.jpg", "image-back/ID?image_type=cropped"),
        ("redacted-original-0.jpg", "image/ID?image_type=original&attempt_index=0"),
        ("unredacted-original.jpg", "image-unredacted/ID?image_type=original"),
        ("details.json", "details/ID"),
    ] {
        let bytes = world.portal_says(&format!("get-verification-{}", path.replace("ID", &id))).await;
        assert_eq!(sha256(&files[key]), sha256(&bytes), "{key}");
    }
    assert_eq!(files.len(), 6);

    let manifest: Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
    assert_eq!(
        (&manifest["namespace"], &manifest["name"], &manifest["uid"], &manifest["portalStatus"]),
        (&json!(world.namespace), &json!("alice"), &json!(uid), &json!("verified"))
    );
    world.until_events("alice", &["EvidenceStored", "SessionCreated", "Verified"]).await;
    let puts: Vec<_> = world.s3().proxy.passed().iter().map(|passed| passed.method.clone()).collect();
    assert_eq!(
        puts,
        vec![Method::PUT; 7],
        "one is asked about twice; nothing is looked at, listed, or sent in parts"
    );
    let attribute = |name: &str| {
        let passed = world.s3().proxy.passed();
        let values = passed.iter().map(|passed| passed.asked[name].to_str().unwrap().to_owned());
        values.collect::<BTreeSet<_>>()
    };
    let kinds = ["back", "front", "manifest", "redacted", "results", "unredacted"];
    assert_eq!(attribute("x-amz-meta-kind"), BTreeSet::from(kinds.map(str::to_owned)));
    let types = ["application/json", "image/jpeg"];
    assert_eq!(attribute("content-type"), BTreeSet::from(types.map(str::to_owned)));
    assert!(attribute("x-amz-meta-operator").iter().all(|operator| operator.starts_with("okid-operator/")));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_of_the_administrator_takes_evidence_under_the_namespace_and_a_link_stays_ready_meanwhile() {
    let mut world = World::builder().without_operator().start().await;
    let (folder, launch) = named_store(&world, &json!([world.namespace]));
    world.start(launch).await;
    let mut spec = asking(json!({"destination": {"store": "archive"}, "results": true}));
    spec["evidence"]["images"] = json!([{"kind": "Front"}]);
    spec["readyWhen"] = json!("SessionCreated");
    let id = world.judged("alice", spec, Verdict::Verified).await;
    let over = world.until("alice", is_settled).await;
    assert!(over.shows(&["Ready=True/Finished", "EvidenceStored=True/Stored"]), "{over:?}");
    let ready = world.history("alice", |seen| seen.condition("Ready"));
    let since_link = ready.iter().skip_while(|ready| ready.as_deref() != Some("True/SessionCreated"));
    assert!(since_link.clone().count() > 1, "{ready:?}");
    assert!(since_link.flatten().all(|ready| ready.starts_with("True/")), "{ready:?}");

    let files = check(&over, &place(&folder, &over));
    let path = format!("get-verification-image-front/{id}?image_type=original");
    assert_eq!(files["front-original.jpg"], world.portal_says(&path).await);
    assert_eq!(files["details.json"], world.portal_says(&format!("get-verification-details/{id}")).await);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_is_made_later_takes_the_evidence() {
    let mut world = World::builder().without_operator().start().await;
    let (folder, launch) = named_store(&world, &json!(["*"]));
    fs::remove_dir(&folder).unwrap();
    world.start(launch).await;
    world.judged("alice", asking_of_archive(), Verdict::Verified).await;
    let waiting = ["EvidenceStored=False/BucketNotFound", "Verified=True/Verified", "Stalled="];
    world.until_later("alice", |seen| seen.shows(&waiting)).await;
    assert!(!folder.exists(), "nobody makes it but its administrator");

    fs::create_dir(&folder).unwrap();
    let over = world.until_nudged("alice", is_settled).await;
    check(&over, &place(&folder, &over));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_of_another_namespace_is_told_before_a_session_is_made() {
    let mut world = World::builder().without_operator().start().await;
    let (folder, launch) = named_store(&world, &json!(["somebody-else"]));
    world.start(launch).await;
    world.apply("alice", asking_of_archive()).await;
    let refused = ["Ready=False/DestinationNotAllowed", "Stalled=True/DestinationNotAllowed", "Reconciling="];
    world.until("alice", |seen| seen.shows(&refused)).await;
    assert_eq!(world.creates(), 0);
    assert!(world.operator().stop().await.success());

    let (_, launch) = named_store(&world, &json!(["*"]));
    world.start(launch).await;
    let invited = world.until("alice", |seen| seen.phase() == Some(Phase::AwaitingUser)).await;
    assert!(invited.shows(&["Stalled=", "EvidenceStored=Unknown/NotStarted"]));
    world.sandbox().finish(&invited.id().unwrap(), Verdict::Verified).unwrap();
    let over = world.until("alice", is_settled).await;
    check(&over, &place(&folder, &over));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verdict_that_was_not_named_keeps_nothing() {
    let world = World::builder().s3().start().await;
    for (name, verdict, on) in [
        ("rejected", Verdict::Rejected, json!(["Verified"])),
        ("verified", Verdict::Verified, json!(["Rejected", "Expired"])),
    ] {
        let mut evidence = front();
        evidence["outcomes"] = on;
        world.judged(name, asking(evidence), verdict).await;
        let over = world.until(name, is_settled).await;
        assert!(over.shows(&["EvidenceStored=Unknown/NotApplicable"]), "{over:?}");
        assert!(over.found().evidence.is_none());
        assert!(!world.history(name, Seen::phase).contains(&Some(Phase::Storing)));
    }
    assert_eq!(image_requests(&world), [0; 4]);
    assert_eq!(world.s3().proxy.arrived(), 0);
    world.until_events("rejected", &["Rejected", "SessionCreated"]).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_evidence_of_a_rejection_is_kept_where_it_was_named() {
    let world = World::builder().s3().start().await;
    let mut evidence = front();
    evidence["outcomes"] = json!(["Rejected"]);
    world.judged("alice", asking(evidence), Verdict::Rejected).await;
    let over = world.until("alice", is_settled).await;
    assert_eq!(over.phase(), Some(Phase::Rejected));
    assert!(over.shows(&["Ready=False/Rejected", "Stalled=True/Rejected", "EvidenceStored=True/Stored"]));
    check(&over, &world.in_s3(&over));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_back_of_a_passport_is_absent_and_the_rest_is_stored() {
    let world = World::builder().s3().start().await;
    let evidence = json!({"images": [{"kind": "Back"}, {"kind": "Front", "required": true}]});
    let id = world.invite("alice", asking(evidence)).await;
    world.sandbox().show(&id, Document::Passport).unwrap();
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    // It is asked for once more, half a minute after the verdict.
    let over = world.until_later("alice", is_settled).await;
    assert!(over.shows(&STORED), "{over:?}");
    let calls = image_requests(&world);
    assert!(matches!(calls[..], [0, 0, 1, (2..)]), "{calls:?}");
    let mut objects = over.found().evidence.unwrap().objects;
    objects.sort_by(|one, other| one.key.cmp(&other.key));
    let states: Vec<_> = objects.iter().map(|object| (object.key.as_str(), object.state)).collect();
    assert_eq!(states, [("back-original", ObjectState::Absent), ("front-original.jpg", ObjectState::Stored)]);
    check(&over, &world.in_s3(&over));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_comes_to_be_there_after_the_verdict_is_stored() {
    let world = World::builder().s3().start().await;
    let evidence = json!({"images": [{"kind": "Back"}, {"kind": "Front", "required": true}]});
    let id = world.invite("alice", asking(evidence)).await;
    world.sandbox().show(&id, Document::Passport).unwrap();
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    world.until_portal("a look for the back", |world| world.sandbox().count(Endpoint::ImageBack) >= 1).await;
    world.sandbox().show(&id, Document::IdCard).unwrap();
    let over = world.until_later("alice", is_settled).await;
    assert!(over.shows(&STORED), "{over:?}");
    assert!(check(&over, &world.in_s3(&over)).contains_key("back-original.jpg"));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_portal_has_nothing_there_is_nothing_to_store() {
    let world = World::builder().s3().start().await;
    let id = world.invite("alice", asking(json!({"images": [{"kind": "Back"}]}))).await;
    world.sandbox().show(&id, Document::Passport).unwrap();
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    let over = world.until_later("alice", is_settled).await;
    assert!(over.shows(&["Ready=True/Verified", "EvidenceStored=True/NothingToStore"]), "{over:?}");
    assert_eq!(over.found().evidence.unwrap().manifest_sha256, None);
    let calls = image_requests(&world);
    assert!(matches!(calls[..], [0, 0, 0, (2..)]), "{calls:?}");
    assert_eq!(world.s3().proxy.arrived(), 0);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_required_image_that_is_not_there_yet_is_asked_for_again() {
    let world = World::builder().s3().start().await;
    let id = world.invite("alice", with_the_back()).await;
    world.sandbox().show(&id, Document::Passport).unwrap();
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    world.until_portal("a second try", |world| world.sandbox().count(Endpoint::ImageBack) >= 2).await;
    let waiting = world.get("alice").await;
    assert!(waiting.shows(&STORING), "{waiting:?}");
    assert_eq!(waiting.phase(), Some(Phase::Storing));
    assert_eq!(waiting.found().evidence.unwrap().manifest_sha256, None);

    world.sandbox().show(&id, Document::IdCard).unwrap();
    world.nudge("alice").await;
    let over = world.until("alice", is_settled).await;
    assert!(over.shows(&STORED), "{over:?}");
    assert_eq!(world.sandbox().count(Endpoint::ImageFront), 1, "what is stored is not asked for again");
    assert_eq!(check(&over, &world.in_s3(&over)).len(), 3);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_required_image_that_stays_missing_is_for_a_person_and_the_verdict_stays() {
    let world = World::builder().s3().start().await;
    let id = world.invite("alice", with_the_back()).await;
    world.sandbox().show(&id, Document::Passport).unwrap();
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    world.until_portal("a look for the back", |world| world.sandbox().count(Endpoint::ImageBack) >= 1).await;
    world.turn_clock(Duration::from_secs(61));
    let owed = ["Reconciling=True/StoringEvidence", "EvidenceStored=False/ImageNotAvailable"];
    world.until_nudged("alice", |seen| seen.shows(&owed)).await;
    let failed = [
        "Ready=False/EvidenceFailed",
        "Reconciling=",
        "Stalled=True/EvidenceFailed",
        "Verified=True/Verified",
        "EvidenceStored=False/ImageNotAvailable",
    ];
    let given_up = world.until_later("alice", |seen| seen.shows(&failed)).await;
    assert_eq!((given_up.phase(), given_up.found().settled), (Some(Phase::Verified), false));
    assert_eq!(given_up.found().evidence.unwrap().objects.len(), 1, "the front is stored");

    world.sandbox().show(&id, Document::IdCard).unwrap();
    world.annotate("alice", RETRY, "it is there now").await;
    let over = world.until("alice", is_settled).await;
    assert!(over.shows(&STORED), "{over:?}");
    assert_eq!(check(&over, &world.in_s3(&over)).len(), 3);
    world.until_events("alice", &["EvidenceFailed", "EvidenceStored", "SessionCreated", "Verified"]).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forbidden_kind_of_image_is_refused_before_a_session_is_made() {
    let launch = Launch::new().flags(["--forbid-image", "unredacted"]);
    let world = World::builder().s3().launch(launch).start().await;
    let evidence = json!({"images": [{"kind": "Redacted"}, {"kind": "Unredacted"}]});
    world.apply("alice", asking(evidence)).await;
    let refused = ["Ready=False/DestinationNotAllowed", "Stalled=True/DestinationNotAllowed", "Reconciling="];
    world.until("alice", |seen| seen.shows(&refused)).await;
    assert_eq!(world.creates(), 0);

    world.patch_spec("alice", json!({"evidence": {"images": [{"kind": "Redacted"}]}})).await;
    let invited = world.until("alice", |seen| seen.phase() == Some(Phase::AwaitingUser)).await;
    assert!(invited.shows(&["Stalled="]), "{invited:?}");
    world.finish().await;
}
