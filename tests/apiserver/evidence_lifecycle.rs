//! Evidence from the verdict to the store: what is requested is stored once, unchanged, and nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use http::Method;
use okid_operator::api::{ObjectState, Phase, RETRY, Verification};
use okid_sandbox::{Document, Endpoint, Verdict};
use serde_json::{Value, json};

use crate::harness::evidence::{asking, check, evidence_folder, front, sha256};
use crate::harness::{Launch, VerificationExt, World};

const IMAGE_CALLS: [Endpoint; 4] =
    [Endpoint::Image, Endpoint::ImageUnredacted, Endpoint::ImageFront, Endpoint::ImageBack];

/// The conditions while evidence is pending.
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
    seen.status_or_default().settled
}

/// Both sides, the back required.
fn with_the_back() -> Value {
    asking(json!({"images": [{"kind": "Back", "required": true}, {"kind": "Front"}]}))
}

fn image_requests(world: &World) -> Vec<u64> {
    IMAGE_CALLS.iter().map(|endpoint| world.sandbox().count(*endpoint)).collect()
}

/// The files of an administrator: a folder for evidence, and the list of stores that names it.
pub(crate) fn named_store(world: &World, namespaces: &Value) -> (PathBuf, Launch) {
    let folder = world.folder().join("archive");
    fs::create_dir_all(&folder).unwrap();
    let list = world.folder().join("stores.yaml");
    let url = format!("file://{}", folder.display());
    let text = json!({"stores": [{"name": "archive", "url": url, "namespaces": namespaces}]});
    fs::write(&list, text.to_string()).unwrap();
    (folder, Launch::new().flags(["--stores-file", list.to_str().unwrap()]))
}

/// The front image, stored in that store.
fn asking_of_archive() -> Value {
    let mut spec = asking(front());
    spec["evidence"]["destination"] = json!({"store": "archive"});
    spec
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_and_results_are_stored_unchanged_and_requested_once_each() {
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
    let id = world.create_and_finish("alice", asking(evidence), Verdict::Verified).await;
    let over = world.until("alice", is_settled).await;
    assert_eq!(image_requests(&world), [1, 1, 1, 1]);
    assert!(over.shows(&STORED), "{over:?}");
    assert_eq!(over.phase(), Some(Phase::Verified));
    let versions = world.versions("alice");
    let storing = versions.iter().find(|seen| seen.phase() == Some(Phase::Storing)).unwrap();
    assert!(storing.shows(&STORING), "{storing:?}");
    assert_eq!(world.distinct_values("alice", VerificationExt::phase).last(), Some(&Some(Phase::Verified)));

    let uid = over.metadata.uid.clone().unwrap();
    let prefix = format!("s3://evidence/kyc/{}/alice/{uid}", world.namespace);
    assert_eq!(over.status_or_default().evidence.unwrap().prefix, prefix);
    let files = check(&over, &world.in_s3(&over));
    for (key, path) in [
        ("front-original.jpg", "image-front/ID?image_type=original"),
        ("back-cropped.jpg", "image-back/ID?image_type=cropped"),
        ("redacted-original-0.jpg", "image/ID?image_type=original&attempt_index=0"),
        ("unredacted-original.jpg", "image-unredacted/ID?image_type=original"),
        ("details.json", "details/ID"),
    ] {
        let bytes = world.portal_response(&format!("get-verification-{}", path.replace("ID", &id))).await;
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
    assert_eq!(puts, vec![Method::PUT; 7], "one is sent twice; nothing is read, listed, or sent in parts");
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
async fn a_named_store_holds_evidence_by_namespace_and_ready_stays_true_with_a_link() {
    let mut world = World::builder().without_operator().start().await;
    let (folder, launch) = named_store(&world, &json!([world.namespace]));
    world.start(launch).await;
    let mut spec = asking(json!({"destination": {"store": "archive"}, "results": true}));
    spec["evidence"]["images"] = json!([{"kind": "Front"}]);
    spec["readyWhen"] = json!("SessionCreated");
    let id = world.create_and_finish("alice", spec, Verdict::Verified).await;
    let over = world.until("alice", is_settled).await;
    assert!(over.shows(&["Ready=True/Finished", "EvidenceStored=True/Stored"]), "{over:?}");
    let ready = world.distinct_values("alice", |seen| seen.condition("Ready"));
    let since_link = ready.iter().skip_while(|ready| ready.as_deref() != Some("True/SessionCreated"));
    assert!(since_link.clone().count() > 1, "{ready:?}");
    assert!(since_link.flatten().all(|ready| ready.starts_with("True/")), "{ready:?}");

    let files = check(&over, &evidence_folder(&folder, &over));
    let path = format!("get-verification-image-front/{id}?image_type=original");
    assert_eq!(files["front-original.jpg"], world.portal_response(&path).await);
    assert_eq!(files["details.json"], world.portal_response(&format!("get-verification-details/{id}")).await);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evidence_is_stored_once_a_missing_folder_is_created() {
    let mut world = World::builder().without_operator().start().await;
    let (folder, launch) = named_store(&world, &json!(["*"]));
    fs::remove_dir(&folder).unwrap();
    world.start(launch).await;
    world.create_and_finish("alice", asking_of_archive(), Verdict::Verified).await;
    let waiting = ["EvidenceStored=False/BucketNotFound", "Verified=True/Verified", "Stalled="];
    world.until_with_clock("alice", |seen| seen.shows(&waiting)).await;
    assert!(!folder.exists(), "only the administrator creates it");

    fs::create_dir(&folder).unwrap();
    let over = world.until_with_polls("alice", is_settled).await;
    check(&over, &evidence_folder(&folder, &over));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_of_another_namespace_is_refused_before_a_session_is_created() {
    let mut world = World::builder().without_operator().start().await;
    let (folder, launch) = named_store(&world, &json!(["another-namespace"]));
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
    check(&over, &evidence_folder(&folder, &over));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outcome_that_is_not_listed_stores_nothing() {
    let world = World::builder().s3().start().await;
    for (name, verdict, on) in [
        ("rejected", Verdict::Rejected, json!(["Verified"])),
        ("verified", Verdict::Verified, json!(["Rejected", "Expired"])),
    ] {
        let mut evidence = front();
        evidence["outcomes"] = on;
        world.create_and_finish(name, asking(evidence), verdict).await;
        let over = world.until(name, is_settled).await;
        assert!(over.shows(&["EvidenceStored=Unknown/NotApplicable"]), "{over:?}");
        assert!(over.status_or_default().evidence.is_none());
        assert!(!world.distinct_values(name, VerificationExt::phase).contains(&Some(Phase::Storing)));
    }
    assert_eq!(image_requests(&world), [0; 4]);
    assert_eq!(world.s3().proxy.arrived(), 0);
    world.until_events("rejected", &["Rejected", "SessionCreated"]).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_evidence_of_a_rejection_is_stored_where_rejected_is_listed() {
    let world = World::builder().s3().start().await;
    let mut evidence = front();
    evidence["outcomes"] = json!(["Rejected"]);
    world.create_and_finish("alice", asking(evidence), Verdict::Rejected).await;
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
    let id = world.create_session("alice", asking(evidence)).await;
    world.sandbox().show(&id, Document::Passport).unwrap();
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    // It is requested once more, half a minute after the verdict.
    let over = world.until_with_clock("alice", is_settled).await;
    assert!(over.shows(&STORED), "{over:?}");
    let calls = image_requests(&world);
    assert!(matches!(calls[..], [0, 0, 1, (2..)]), "{calls:?}");
    let mut objects = over.status_or_default().evidence.unwrap().objects;
    objects.sort_by(|one, other| one.key.cmp(&other.key));
    let states: Vec<_> = objects.iter().map(|object| (object.key.as_str(), object.state)).collect();
    assert_eq!(states, [("back-original", ObjectState::Absent), ("front-original.jpg", ObjectState::Stored)]);
    check(&over, &world.in_s3(&over));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_appears_after_the_verdict_is_stored() {
    let world = World::builder().s3().start().await;
    let evidence = json!({"images": [{"kind": "Back"}, {"kind": "Front", "required": true}]});
    let id = world.create_session("alice", asking(evidence)).await;
    world.sandbox().show(&id, Document::Passport).unwrap();
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    world
        .until_portal("a request for the back", |world| world.sandbox().count(Endpoint::ImageBack) >= 1)
        .await;
    world.sandbox().show(&id, Document::IdCard).unwrap();
    let over = world.until_with_clock("alice", is_settled).await;
    assert!(over.shows(&STORED), "{over:?}");
    assert!(check(&over, &world.in_s3(&over)).contains_key("back-original.jpg"));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_any_image_at_the_portal_there_is_nothing_to_store() {
    let world = World::builder().s3().start().await;
    let id = world.create_session("alice", asking(json!({"images": [{"kind": "Back"}]}))).await;
    world.sandbox().show(&id, Document::Passport).unwrap();
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    let over = world.until_with_clock("alice", is_settled).await;
    assert!(over.shows(&["Ready=True/Verified", "EvidenceStored=True/NothingToStore"]), "{over:?}");
    assert_eq!(over.status_or_default().evidence.unwrap().manifest_sha256, None);
    let calls = image_requests(&world);
    assert!(matches!(calls[..], [0, 0, 0, (2..)]), "{calls:?}");
    assert_eq!(world.s3().proxy.arrived(), 0);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_required_image_that_does_not_exist_yet_is_requested_again() {
    let world = World::builder().s3().start().await;
    let id = world.create_session("alice", with_the_back()).await;
    world.sandbox().show(&id, Document::Passport).unwrap();
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    world.until_portal("a second attempt", |world| world.sandbox().count(Endpoint::ImageBack) >= 2).await;
    let waiting = world.get("alice").await;
    assert!(waiting.shows(&STORING), "{waiting:?}");
    assert_eq!(waiting.phase(), Some(Phase::Storing));
    assert_eq!(waiting.status_or_default().evidence.unwrap().manifest_sha256, None);

    world.sandbox().show(&id, Document::IdCard).unwrap();
    world.request_poll("alice").await;
    let over = world.until("alice", is_settled).await;
    assert!(over.shows(&STORED), "{over:?}");
    assert_eq!(world.sandbox().count(Endpoint::ImageFront), 1, "a stored image is not requested again");
    assert_eq!(check(&over, &world.in_s3(&over)).len(), 3);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_required_image_that_stays_missing_fails_the_evidence_and_not_the_verdict() {
    let world = World::builder().s3().start().await;
    let id = world.create_session("alice", with_the_back()).await;
    world.sandbox().show(&id, Document::Passport).unwrap();
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    world
        .until_portal("a request for the back", |world| world.sandbox().count(Endpoint::ImageBack) >= 1)
        .await;
    world.advance_clock(Duration::from_secs(61));
    let pending = ["Reconciling=True/StoringEvidence", "EvidenceStored=False/ImageNotAvailable"];
    world.until_with_polls("alice", |seen| seen.shows(&pending)).await;
    let failed = [
        "Ready=False/EvidenceFailed",
        "Reconciling=",
        "Stalled=True/EvidenceFailed",
        "Verified=True/Verified",
        "EvidenceStored=False/ImageNotAvailable",
    ];
    let failed_evidence = world.until_with_clock("alice", |seen| seen.shows(&failed)).await;
    assert_eq!(
        (failed_evidence.phase(), failed_evidence.status_or_default().settled),
        (Some(Phase::Verified), false)
    );
    assert_eq!(failed_evidence.status_or_default().evidence.unwrap().objects.len(), 1, "the front is stored");

    world.sandbox().show(&id, Document::IdCard).unwrap();
    world.annotate("alice", RETRY, "it is there now").await;
    let over = world.until("alice", is_settled).await;
    assert!(over.shows(&STORED), "{over:?}");
    assert_eq!(check(&over, &world.in_s3(&over)).len(), 3);
    world.until_events("alice", &["EvidenceFailed", "EvidenceStored", "SessionCreated", "Verified"]).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forbidden_kind_of_image_is_refused_before_a_session_is_created() {
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
