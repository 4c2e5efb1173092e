//! What one endpoint may take of what all share.

use okid_operator::api::Verification;
use okid_sandbox::Verdict;
use serde_json::{Value, json};

use crate::harness::evidence::{asking, check, entries, front};
use crate::harness::{Launch, Seen as _, World};
use crate::stores::{Fault, Proxy};

/// More than there are places.
const HANGING: usize = 20;
/// Places that one namespace may take at one endpoint.
const AT_ONE_ENDPOINT: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_hangs_for_more_than_there_are_places_keeps_no_other_store_waiting() {
    let elsewhere = Proxy::start("127.0.0.1:9".parse().unwrap());
    elsewhere.always(Fault::Hang);
    let mut world = World::builder().without_operator().s3().start().await;
    world.start(Launch::new().flags(["--allowed-store-endpoint", &elsewhere.url()])).await;
    let mut credentials = entries(world.s3());
    credentials["aws_endpoint"] = Value::from(elsewhere.url());
    world.secret_data("hanging-store", credentials).await;
    for number in 0..HANGING {
        let mut evidence = front();
        // Each names a place of its own, as each namespace does.
        evidence["destination"] = json!({
            "url": format!("s3://bucket-{number}/kyc"), "credentialsSecretRef": {"name": "hanging-store"},
        });
        world.judged(&format!("person-{number}"), asking(evidence), Verdict::Verified).await;
    }
    let is_full = |_: &World| elsewhere.arrived() >= AT_ONE_ENDPOINT;
    world.until_portal("uploads that hang", is_full).await;

    world.judged("bob", asking(front()), Verdict::Verified).await;
    let over = world.until("bob", |seen: &Verification| seen.found().settled).await;
    assert!(over.shows(&["EvidenceStored=True/Stored"]), "{over:?}");
    check(&over, &world.in_s3(&over));
    assert_eq!(elsewhere.arrived(), AT_ONE_ENDPOINT, "nothing has ended there meanwhile");
    drop(elsewhere);
    world.finish().await;
}
