//! The operator crashes or is held while it stores evidence. The next one finds what is stored and stores the rest once.

use std::collections::BTreeMap;

use http::Method;
use kube::ResourceExt as _;
use okid_operator::{
    api::{EvidenceKind, ObjectState, Phase, RETRY, StoredObject, Verification},
    evidence::{Manifest, OPERATOR, PortalEnd},
    store::Folder,
};
use okid_sandbox::{Action, Call, Document, Endpoint, Fault as PortalFault, Verdict};
use serde_json::json;

use crate::harness::evidence::{asking, check, files, front, sha256};
use crate::harness::{Launch, VerificationExt, World};
use crate::stores::Fault;

const STORED: [&str; 4] = ["Ready=True/Verified", "Reconciling=", "Stalled=", "EvidenceStored=True/Stored"];

fn is_settled(seen: &Verification) -> bool {
    seen.status_or_default().settled
}

/// How often the store accepted each object.
fn uploads(world: &World) -> BTreeMap<String, usize> {
    let mut uploads = BTreeMap::new();
    for passed in world.s3().proxy.passed() {
        if passed.method == Method::PUT && passed.status.is_success() {
            let name = passed.path.rsplit('/').next().unwrap_or_default().to_owned();
            *uploads.entry(name).or_default() += 1;
        }
    }
    uploads
}

/// Checks that everything is stored, that the store accepted each object once, and that no partial upload is left.
async fn stored_once(world: &World, name: &str, objects: usize) {
    let over = world.until(name, is_settled).await;
    assert!(over.shows(&STORED), "{over:?}");
    assert_eq!(check(&over, &world.in_s3(&over)).len(), objects + 1);
    let uploads = uploads(world);
    assert_eq!((uploads.len(), uploads.values().sum::<usize>()), (objects + 1, objects + 1), "{uploads:?}");
    assert_eq!(world.s3().proxy.count(&Method::POST), 0, "there is no multipart upload");
    let parts = |name: &&String| name.contains(".tmp") || name.contains("upload");
    assert_eq!(files(world.s3().folder.path()).keys().filter(parts).count(), 0, "no partial upload is left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_was_cut_by_a_kill_is_completed_by_the_next_operator() {
    let mut world = World::builder().s3().start().await;
    // The head of the request and a part of its image, which has more than ten thousand bytes.
    world.s3().proxy.next([Fault::StopAfter(8192)]);
    let images: Vec<_> = ["Front", "Back", "Redacted", "Unredacted"].map(|kind| json!({"kind": kind})).into();
    world.create_and_finish("alice", asking(json!({"images": images})), Verdict::Verified).await;
    let in_the_middle =
        |world: &World| world.s3().proxy.held() == 1 && uploads(world).values().sum::<usize>() == 3;
    world.until_portal("three uploads and a part of the fourth", in_the_middle).await;
    world.operator().kill();
    let left = world.get("alice").await;
    assert_eq!((left.phase(), left.status_or_default().evidence), (Some(Phase::Storing), None));

    world.start(Launch::new()).await;
    stored_once(&world, "alice", 4).await;
    world.until_event("alice", "EvidenceStored").await;
    world.finish().await;
}

/// Crashes at a failpoint when the store has that many objects, and lets another operator take over.
async fn crashed_at(point: &str, uploads_before: usize) {
    let mut world = World::builder().s3().launch(Launch::new().crash_at(point)).start().await;
    let images = json!([{"kind": "Front", "required": true}, {"kind": "Back"}, {"kind": "Redacted"}]);
    world
        .create_and_finish("alice", asking(json!({"images": images, "results": true})), Verdict::Verified)
        .await;
    let status = world.operator().wait().await;
    assert!(!status.success());
    assert_eq!(uploads(&world).len(), uploads_before);
    let left = world.get("alice").await;
    assert_eq!((left.phase(), left.status_or_default().evidence), (Some(Phase::Storing), None));

    world.start(Launch::new()).await;
    stored_once(&world, "alice", 4).await;
    world.until_event("alice", "EvidenceStored").await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evidence_without_a_manifest_after_a_crash_is_completed_by_the_next_operator() {
    crashed_at("BeforeManifest", 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evidence_missing_from_status_after_a_crash_is_found_by_the_next_operator() {
    crashed_at("AfterUpload", 5).await;
}

/// Crashes at a failpoint and lets another operator take over, which gets different bytes from the portal.
async fn crashed_before_the_bytes_changed(point: &str, requested_again: bool) {
    let mut world = World::builder().s3().launch(Launch::new().crash_at(point)).start().await;
    let id = world.create_session("alice", asking(front())).await;
    let bytes = |text: &str| Action::Respond {
        status: 200,
        headers: BTreeMap::from([("content-type".to_owned(), "image/jpeg".to_owned())]),
        body: Some(text.to_owned()),
        retry_after: None,
    };
    let first = world.sandbox().inject(PortalFault::new(Call::Image, bytes("%PDF-1.7 first")).session(&id));
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    assert!(!world.operator().wait().await.success());
    world.sandbox().clear(first);
    let later = world.sandbox().inject(PortalFault::new(Call::Image, bytes("%PDF-1.7 later")).session(&id));

    world.start(Launch::new()).await;
    stored_once(&world, "alice", 1).await;
    let over = world.get("alice").await;
    let stored = check(&over, &world.in_s3(&over));
    assert_eq!(stored["front-original.pdf"], b"%PDF-1.7 first", "the stored object stays");
    assert_eq!(world.sandbox().hits(later) > 0, requested_again);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_stored_before_a_crash_is_recognized_although_the_bytes_changed() {
    crashed_before_the_bytes_changed("BeforeManifest", true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evidence_with_a_manifest_is_complete_for_the_next_operator_too() {
    crashed_before_the_bytes_changed("AfterUpload", false).await;
}

/// The manifest of the front image, as the operator writes it.
fn manifest_of_the_front(verification: &Verification, image: &[u8]) -> String {
    let status = verification.status_or_default();
    let (namespace, uid) = (verification.namespace().unwrap(), verification.uid().unwrap());
    let folder = Folder::new(&namespace, &verification.name_any(), &uid).unwrap();
    let object = StoredObject {
        kind: EvidenceKind::Front,
        key: "front-original.jpg".to_owned(),
        state: ObjectState::Stored,
        size: i64::try_from(image.len()).ok(),
        sha256: Some(sha256(image)),
        content_type: Some("image/jpeg".to_owned()),
    };
    let end = PortalEnd {
        status: status.portal_status.as_deref().unwrap_or_default(),
        updated_at: status.portal_updated_at,
        finished_at: status.finished_at,
    };
    String::from_utf8(Manifest::new(&folder, end, &[object]).bytes().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_manifest_is_a_conflict_and_that_of_another_version_is_accepted() {
    let mut world = World::builder().s3().launch(Launch::new().crash_at("BeforeManifest")).start().await;
    world.create_and_finish("alice", asking(front()), Verdict::Verified).await;
    assert!(!world.operator().wait().await.success());
    let left = world.get("alice").await;
    let folder = world.in_s3(&left);
    let ours = manifest_of_the_front(&left, &std::fs::read(folder.join("front-original.jpg")).unwrap());
    let operator = format!("\"operator\": \"{OPERATOR}\",");
    let plant = |operator: &str, with: &str| {
        let text = ours.replace(operator, with);
        assert_ne!(text, ours);
        std::fs::write(folder.join("manifest.json"), &text).unwrap();
        text
    };
    let forged = plant(&operator, "\"operator\": \"okid-operator/9.9.9\",\n  \"approvedBy\": \"mallory\",");

    world.start(Launch::new()).await;
    let conflict = ["Stalled=True/EvidenceFailed", "EvidenceStored=False/Conflict"];
    let refused = world.until("alice", |seen| seen.shows(&conflict)).await;
    assert_eq!(refused.status_or_default().evidence.unwrap().manifest_sha256, None, "nothing is attested");
    assert_eq!(std::fs::read_to_string(folder.join("manifest.json")).unwrap(), forged);

    let earlier = plant(&operator, "\"operator\": \"okid-operator/0.0.1\",");
    world.annotate("alice", RETRY, "it was moved").await;
    let over = world.until("alice", is_settled).await;
    assert!(over.shows(&STORED), "{over:?}");
    check(&over, &folder);
    assert_eq!(std::fs::read_to_string(folder.join("manifest.json")).unwrap(), earlier);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_that_shuts_down_finishes_the_upload_and_records_it() {
    let world = World::builder().s3().start().await;
    world.s3().proxy.next([Fault::Hold]);
    world.create_and_finish("alice", asking(front()), Verdict::Verified).await;
    world.until_portal("an upload in flight", |world| world.s3().proxy.held() == 1).await;
    world.operator().signal(control_plane::process::Signal::Terminate);
    world
        .operator()
        .until_logged("that it shuts down", |line| {
            line["message"].as_str().is_some_and(|text| text.starts_with("shutting down"))
        })
        .await;
    world.s3().proxy.release();
    assert!(world.operator().wait().await.success());
    world.until_event("alice", "EvidenceStored").await;
    stored_once(&world, "alice", 1).await;
    assert_eq!(world.sandbox().count(Endpoint::ImageFront), 1);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn suspending_during_an_upload_records_it_and_then_pauses_until_resumed() {
    let world = World::builder().s3().start().await;
    let images = json!([{"kind": "Front", "required": true}, {"kind": "Back", "required": true}]);
    let id = world.create_session("alice", asking(json!({"images": images}))).await;
    world.sandbox().show(&id, Document::Passport).unwrap();
    world.s3().proxy.next([Fault::Hold]);
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    world.until_portal("an upload in flight", |world| world.s3().proxy.held() == 1).await;
    world.patch_spec("alice", json!({"suspend": true})).await;
    world.s3().proxy.release();
    let seen = |seen: &Verification| seen.status_or_default().observed_generation == seen.metadata.generation;
    let suspended = world.until("alice", seen).await;
    assert_eq!(suspended.phase(), Some(Phase::Storing));
    let evidence = suspended.status_or_default().evidence.expect("what was under way is recorded");
    let states: Vec<_> = evidence.objects.iter().map(|object| (object.key.as_str(), object.state)).collect();
    assert_eq!(states, [("front-original.jpg", ObjectState::Stored)]);

    let calls =
        |world: &World| (world.sandbox().session(&id).unwrap().image_requests, world.s3().proxy.arrived());
    let before = calls(&world);
    // A requested poll changes nothing while suspended, although everything that it waits for exists now.
    world.sandbox().show(&id, Document::IdCard).unwrap();
    world.request_poll("alice").await;
    let handled = |seen: &Verification| {
        let requested = seen.metadata.annotations.as_ref().and_then(|all| all.values().next().cloned());
        requested.is_some() && seen.status_or_default().last_handled_reconcile_at == requested
    };
    let still = world.until("alice", handled).await;
    assert_eq!((still.phase(), calls(&world)), (Some(Phase::Storing), before));
    assert!(still.shows(&["CredentialsReady=True/Accepted", "EvidenceStored=False/Storing"]), "{still:?}");

    world.patch_spec("alice", json!({"suspend": false})).await;
    world.request_poll("alice").await;
    stored_once(&world, "alice", 2).await;
    assert_eq!(world.sandbox().count(Endpoint::ImageFront), 1, "a recorded image is not requested again");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_that_are_cut_and_responses_that_are_lost_leave_each_object_once() {
    let world = World::builder().s3().start().await;
    world.s3().proxy.next([Fault::ResetAfter(8192), Fault::ResetInstead, Fault::AnswerAfter(500, "")]);
    let images: Vec<_> = ["Front", "Back", "Redacted", "Unredacted"].map(|kind| json!({"kind": kind})).into();
    world.create_and_finish("alice", asking(json!({"images": images})), Verdict::Verified).await;
    stored_once(&world, "alice", 4).await;
    let calls = world.sandbox().sessions()[0].image_requests;
    assert_eq!(calls, 4, "errors of the store cause no further calls to the portal");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_operators_on_one_namespace_store_the_same_evidence_without_conflict() {
    const RESOURCES: usize = 8;
    let mut world = World::builder().s3().start().await;
    let rival = world.another(Launch::new());
    rival.until_watching().await;
    let names: Vec<_> = (0..RESOURCES).map(|number| format!("person-{number}")).collect();
    for name in &names {
        world.create_and_finish(name, asking(front()), Verdict::Verified).await;
    }
    for name in &names {
        let over = world.until(name, is_settled).await;
        assert!(over.shows(&STORED), "{over:?}");
        check(&over, &world.in_s3(&over));
        assert!(!world.events(name).await.contains(&"EvidenceFailed".to_owned()));
        let failed = |seen: &Verification| seen.shows(&["Stalled=True/EvidenceFailed"]);
        assert!(!world.versions(name).iter().any(failed));
    }
    assert!(rival.stop().await.success());
    world.finish().await;
}
