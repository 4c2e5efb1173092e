//! `examples/kubectl`: a shell script that requests a check and waits for it.

use okid_sandbox::Verdict;

use super::{example, session, shell, text, with};
use crate::harness::{VerificationExt as _, World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_script_prints_the_link_and_its_exit_code_is_the_verdict() {
    let world = World::new().await;
    for (name, verdict, code) in
        [("alice", Verdict::Verified, 0), ("bob", Verdict::Rejected, 5), ("carol", Verdict::Expired, 5)]
    {
        let finish = async {
            let id = session(&world, name).await;
            world.sandbox().finish(&id, verdict).unwrap();
            id
        };
        let script = example("kubectl/check.sh");
        let arguments = [name];
        let (output, id) = tokio::join!(shell(&world, &script, &arguments), finish);
        assert_eq!(output.status.code(), Some(code), "{name}: {}", text(&output));
        let link = world.get(name).await.status_or_default().portal_url.unwrap();
        assert!(link.contains(&id) && text(&output).contains(&link), "{}", text(&output));
    }
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_script_ends_when_the_check_is_deleted_and_when_its_time_is_over() {
    let world = World::new().await;
    let script = example("kubectl/check.sh");
    let delete = async {
        session(&world, "alice").await;
        world.delete("alice").await;
    };
    let (output, ()) = tokio::join!(shell(&world, &script, &["alice"]), delete);
    assert_eq!(output.status.code(), Some(4), "{}", text(&output));
    let output = shell(&world, &script, &["bob", "0"]).await;
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_script_says_why_there_is_no_link() {
    let world = World::builder().without_secret().start().await;
    let script = with(&example("kubectl/check.sh"), "--timeout 5m", "--timeout 2s");
    let output = shell(&world, &script, &["alice"]).await;
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    let ready = world.get("alice").await.status_or_default().conditions;
    let message = &ready.iter().find(|condition| condition.type_ == "Ready").unwrap().message;
    assert!(text(&output).contains(&**message), "{}", text(&output));
    world.finish().await;
}
