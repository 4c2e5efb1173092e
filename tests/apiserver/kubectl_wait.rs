//! Waiting with kubectl.

use okid_sandbox::Verdict;
use serde_json::json;

use crate::harness::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_can_wait_for_any_outcome_with_one_condition() {
    let world = World::new().await;
    let alice = world.create_session("alice", json!({})).await;
    let bob = world.create_session("bob", json!({})).await;
    let finish = async {
        world.until_polled(&alice, 1).await;
        world.sandbox().finish(&alice, Verdict::Verified).unwrap();
        world.sandbox().finish(&bob, Verdict::Rejected).unwrap();
    };
    let wait = world.kubectl(&[
        "wait",
        "--for=condition=Finished",
        "--timeout=60s",
        "verification/alice",
        "verification/bob",
    ]);
    let (waited, ()) = tokio::join!(wait, finish);
    assert!(waited.contains("alice condition met") && waited.contains("bob condition met"), "{waited}");
    world.kubectl(&["wait", "--for=condition=Verified", "--timeout=60s", "verification/alice"]).await;
    world.kubectl(&["wait", "--for=condition=Ready", "--timeout=60s", "verification/alice"]).await;
    world.kubectl(&["wait", "--for=condition=Verified=False", "--timeout=60s", "verification/bob"]).await;
    world.kubectl(&["wait", "--for=jsonpath={.status.phase}=Rejected", "--timeout=60s", "vrf/bob"]).await;
    world.finish().await;
}
