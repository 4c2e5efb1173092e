//! Those who wait with kubectl.

use okid_sandbox::Verdict;
use serde_json::json;

use crate::harness::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_waits_for_every_end_by_one_condition() {
    let world = World::new().await;
    let alice = world.invite("alice", json!({})).await;
    let bob = world.invite("bob", json!({})).await;
    let finish = async {
        world.until_looked_at(&alice, 1).await;
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
