//! `examples/helm`: a chart with a check, for `helm install --wait`.

use std::path::PathBuf;
use std::process::Output;

use control_plane::Progress;
use okid_sandbox::Verdict;
use tokio::process::Command;
use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;

use super::{example, session, text, with};
use crate::harness::{VerificationExt as _, World};
use crate::manifests::repository;

/// Helm, where `cargo xtask test` has built it.
const HELM: &str = "OKID_TEST_HELM";

static PROGRAM: OnceCell<PathBuf> = OnceCell::const_new();

async fn program() -> &'static PathBuf {
    let build = || match std::env::var_os(HELM) {
        Some(path) => path.into(),
        None => control_plane::helm(Progress::detect()).expect("build helm"),
    };
    PROGRAM.get_or_init(async || spawn_blocking(build).await.expect("build helm")).await
}

/// Runs Helm in the world's namespace.
async fn helm(world: &World, arguments: &[&str]) -> Output {
    let mut command = Command::new(program().await);
    command.args(arguments).args(["--namespace", &world.namespace]).kill_on_drop(true);
    command.env("KUBECONFIG", world.cluster.kubeconfig());
    for folder in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        command.env(folder, world.folder().join("helm").join(folder));
    }
    command.output().await.unwrap()
}

fn chart() -> String {
    repository("examples/helm").to_str().unwrap().to_owned()
}

/// Installs the chart, and meanwhile waits for the link and gives the verdict.
async fn install(world: &World, name: &str, verdict: Verdict) -> Output {
    let chart = chart();
    let finish = async {
        let id = session(world, name).await;
        world.sandbox().finish(&id, verdict).unwrap();
    };
    let arguments = ["install", name, &chart, "--wait", "--timeout", "4m"];
    tokio::join!(helm(world, &arguments), finish).0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn helm_waits_for_the_verdict_and_a_rejection_fails_the_release_at_once() {
    let world = World::new().await;
    let output = install(&world, "alice", Verdict::Verified).await;
    assert!(output.status.success(), "{}", text(&output));
    for (name, verdict) in [("bob", Verdict::Rejected), ("carol", Verdict::Expired)] {
        let output = install(&world, name, verdict).await;
        assert!(!output.status.success(), "{}", text(&output));
        assert!(text(&output).contains("status: Failed, message: "), "{}", text(&output));
        assert!(text(&output).contains("To try again, create a new Verification."), "{}", text(&output));
    }
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn helm_stops_waiting_at_its_timeout_or_at_the_link_if_that_is_enough() {
    let world = World::new().await;
    let output = helm(&world, &["install", "alice", &chart(), "--wait", "--timeout", "5s"]).await;
    assert!(!output.status.success(), "{}", text(&output));
    assert!(
        text(&output).contains("The link is published; the person has not started."),
        "{}",
        text(&output)
    );
    let link = ["install", "bob", &chart(), "--set", "readyWhen=SessionCreated", "--wait", "--timeout", "4m"];
    let output = helm(&world, &link).await;
    assert!(output.status.success(), "{}", text(&output));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_with_other_values_leaves_a_check_that_has_ended_unchanged() {
    let world = World::new().await;
    let output = install(&world, "alice", Verdict::Verified).await;
    assert!(output.status.success(), "{}", text(&output));
    let before = world.until("alice", |seen| seen.status_or_default().settled).await;

    let upgrade = ["upgrade", "alice", &chart(), "--set", "secretName=renamed", "--wait", "--timeout", "4m"];
    let output = helm(&world, &upgrade).await;
    assert!(output.status.success(), "{}", text(&output));
    let after = world.get("alice").await;
    assert_eq!((&after.spec, &after.status), (&before.spec, &before.status));
    assert_eq!(after.metadata.uid, before.metadata.uid);

    // Without the look-up, the API server refuses the same upgrade.
    let folder = world.folder().join("chart");
    std::fs::create_dir_all(folder.join("templates")).unwrap();
    for file in ["Chart.yaml", "values.yaml"] {
        std::fs::write(folder.join(file), example(&format!("helm/{file}"))).unwrap();
    }
    let template = with(&example("helm/templates/verification.yaml"), "if $existing", "if false");
    std::fs::write(folder.join("templates/verification.yaml"), template).unwrap();
    let upgrade = ["upgrade", "alice", folder.to_str().unwrap(), "--set", "secretName=renamed"];
    let output = helm(&world, &upgrade).await;
    assert!(
        !output.status.success() && text(&output).contains("its spec cannot change"),
        "{}",
        text(&output)
    );
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_creates_a_deleted_check_again_and_with_it_another_session() {
    let world = World::new().await;
    let output = install(&world, "alice", Verdict::Verified).await;
    assert!(output.status.success(), "{}", text(&output));
    let before = world.until("alice", |seen| seen.status_or_default().settled).await;
    world.delete("alice").await;
    let output = helm(&world, &["upgrade", "alice", &chart()]).await;
    assert!(output.status.success(), "{}", text(&output));
    assert_ne!(Some(session(&world, "alice").await), before.id());
    assert_eq!(world.creates(), 2);
    world.finish().await;
}
