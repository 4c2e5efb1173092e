//! The share of the common limits that one endpoint may use.

use okid_operator::api::Verification;
use okid_sandbox::Verdict;
use serde_json::{Value, json};

use crate::harness::evidence::{asking, check, entries, front};
use crate::harness::{Launch, VerificationExt as _, World};
use crate::stores::{Fault, Proxy};

/// More than the number of permits.
const HANGING: usize = 20;
/// Permits that one namespace may use at one endpoint.
const AT_ONE_ENDPOINT: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_hangs_delays_no_other_store() {
    let elsewhere = Proxy::start("127.0.0.1:9".parse().unwrap());
    elsewhere.always(Fault::Hang);
    let mut world = World::builder().without_operator().s3().start().await;
    world.start(Launch::new().flags(["--allowed-store-endpoint", &elsewhere.url()])).await;
    let mut credentials = entries(world.s3());
    credentials["aws_endpoint"] = Value::from(elsewhere.url());
    world.secret_data("hanging-store", credentials).await;
    for number in 0..HANGING {
        let mut evidence = front();
        // Each has its own bucket, as each namespace does.
        evidence["destination"] = json!({
            "url": format!("s3://bucket-{number}/kyc"), "credentialsSecretRef": {"name": "hanging-store"},
        });
        world.create_and_finish(&format!("person-{number}"), asking(evidence), Verdict::Verified).await;
    }
    let is_full = |_: &World| elsewhere.arrived() >= AT_ONE_ENDPOINT;
    world.until_portal("uploads that hang", is_full).await;

    world.create_and_finish("bob", asking(front()), Verdict::Verified).await;
    let over = world.until("bob", |seen: &Verification| seen.status_or_default().settled).await;
    assert!(over.shows(&["EvidenceStored=True/Stored"]), "{over:?}");
    check(&over, &world.in_s3(&over));
    assert_eq!(elsewhere.arrived(), AT_ONE_ENDPOINT, "no request there has finished");
    drop(elsewhere);
    world.finish().await;
}
