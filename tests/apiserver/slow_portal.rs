//! Sessions are due to be polled faster than the portal's rate admits.

use futures::future::join_all;
use okid_operator::api::Phase;
use serde_json::json;

use crate::harness::{Launch, VerificationExt as _, World};

const SESSIONS: u32 = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_a_first_poll_that_has_to_wait_reads_its_resource_once() {
    let mut world = World::new().await;
    let begin = (0..SESSIONS).map(|number| {
        let world = &world;
        async move {
            let name = format!("person-{number}");
            let id = world.create_session(&name, json!({})).await;
            world.sandbox().complete(&id, "document").unwrap();
            world.until(&name, |seen| seen.phase() == Some(Phase::InProgress)).await;
            id
        }
    });
    let ids = join_all(begin).await;
    assert!(world.operator().stop().await.success());

    let before: Vec<_> = ids.iter().map(|id| world.polls_of(id)).collect();
    // Each session is due every second. Most polls are refused several times before they are admitted.
    world.start(Launch::new().flags(["--portal-qps", "1"])).await;
    let each_is_polled =
        |world: &World| ids.iter().zip(&before).all(|(id, before)| world.polls_of(id) > *before);
    world.until_portal("a poll of each", each_is_polled).await;
    // One when its first poll is refused, and one when that is answered.
    let reads = world.operator().metric("okid_verification_reads_total").await;
    assert!(reads <= f64::from(2 * SESSIONS), "{reads} reads");
    world.finish().await;
}
