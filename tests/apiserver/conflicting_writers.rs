//! Others write to the same resource: another controller at the same time, or a restored backup.

use futures::{StreamExt, stream};
use kube::api::{Patch, PatchParams};
use okid_operator::api::{Phase, SessionState};
use okid_sandbox::Verdict;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::harness::{Launch, VerificationExt, World};

/// Changes an annotation of these resources continuously, until the task is aborted.
fn write_continuously(world: &World, names: &[String]) -> JoinHandle<()> {
    let (api, names) = (world.api(), names.to_vec());
    tokio::spawn(async move {
        for time in 0_u64.. {
            let patch = json!({"metadata": {"annotations": {"example.com/count": time.to_string()}}});
            let (api, patch) = (&api, &patch);
            stream::iter(&names)
                .for_each_concurrent(None, |name| async move {
                    // The resource may not exist yet, or no longer.
                    let _ = api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
                })
                .await;
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conflicting_writer_causes_no_second_session_and_loses_no_verdict() {
    let world = World::new().await;
    let names: Vec<_> = (0..3).map(|number| format!("person-{number}")).collect();
    let writer = write_continuously(&world, &names);
    for name in &names {
        world.apply(name, json!({})).await;
    }
    for name in &names {
        let open = world.until(name, |seen| seen.phase() == Some(Phase::AwaitingUser)).await;
        world.sandbox().finish(&open.id().unwrap(), Verdict::Verified).unwrap();
        let over = world.until(name, |seen| seen.status_or_default().settled).await;
        assert_eq!((over.phase(), over.id()), (Some(Phase::Verified), open.id()));
        assert_eq!((over.session().attempt, over.session().orphans), (1, 0));
    }
    let before = world.resource_version(&names[0]).await;
    world.until(&names[0], |seen| seen.metadata.resource_version.as_ref() != Some(&before)).await;
    writer.abort();
    assert_eq!(world.creates(), 3);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_restored_into_another_resource_is_adopted_and_followed() {
    let mut world = World::builder().without_operator().start().await;
    world.apply("alice", json!({})).await;
    let id = world.sandbox().seed(1).remove(0);
    let session = json!({
        "attempt": 1, "state": "Created", "uid": "00000000-0000-0000-0000-000000000000", "holder": "earlier/0",
        "portal": world.sandbox().url(), "claimedAt": "2026-01-01T12:00:00Z", "createdAt": "2026-01-01T12:00:00Z",
    });
    let status = json!({
        "observedGeneration": 1, "phase": "InProgress", "verificationId": id, "session": session,
    });
    world.patch_status("alice", status).await;

    world.start(Launch::new()).await;
    let adopted = world.until("alice", |seen| seen.state() == Some(SessionState::Adopted)).await;
    assert_eq!((adopted.id(), adopted.session().uid), (Some(id.clone()), adopted.metadata.uid.clone()));
    assert!(adopted.shows(&["SessionCreated=True/Adopted", "Ready=False/AwaitingUser"]));
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    let over = world.until("alice", |seen| seen.status_or_default().settled).await;
    assert_eq!((over.phase(), over.id(), world.creates()), (Some(Phase::Verified), Some(id), 0));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_restored_into_another_resource_is_not_waited_for() {
    let mut world = World::builder().without_operator().start().await;
    world.apply("alice", json!({})).await;
    let session = json!({
        "attempt": 2, "orphans": 1, "state": "Claimed", "uid": "00000000-0000-0000-0000-000000000000",
        "holder": "earlier/0", "portal": world.sandbox().url(), "claimedAt": "2026-01-01T12:00:00Z",
    });
    world
        .patch_status("alice", json!({"observedGeneration": 1, "phase": "Creating", "session": session}))
        .await;

    world.start(Launch::new()).await;
    let open = world.until("alice", |seen| seen.phase() == Some(Phase::AwaitingUser)).await;
    let session = open.session();
    assert_eq!((session.attempt, session.orphans, session.uid), (3, 1, open.metadata.uid.clone()));
    assert_eq!(world.distinct_values("alice", VerificationExt::id).len(), 2);
    assert_eq!(world.creates(), 1);
    world.finish().await;
}
