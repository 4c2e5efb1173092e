//! The recipes of `docs/use`, with the tools that they are for. Touches processes and the file system.

mod admission_policy;
mod flux;
mod helm;
mod kubectl;
mod kustomize;
mod resource_quota;
mod scripts;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Output;

use okid_operator::api::Phase;
use tokio::process::Command;

use crate::harness::{VerificationExt as _, World};
use crate::manifests::repository;

/// A file of `examples/`.
fn example(path: &str) -> String {
    fs::read_to_string(repository("examples").join(path)).unwrap()
}

/// A text with other words in one place. Fails if the text has the old ones nowhere, or in more than one place.
fn with(text: &str, old: &str, new: &str) -> String {
    assert_eq!(text.matches(old).count(), 1, "{old} in {text}");
    text.replace(old, new)
}

/// A folder in which `kubectl` is that of the tests, as the administrator and in the namespace of the world.
fn path_with_kubectl(world: &World) -> PathBuf {
    let folder = world.folder().join("bin");
    fs::create_dir_all(&folder).unwrap();
    let kubectl = world.cluster.kubectl();
    let environment: Vec<_> = kubectl
        .get_envs()
        .map(|(name, value)| format!("{}='{}'", name.display(), value.unwrap().display()))
        .collect();
    let script = format!(
        "#!/bin/sh\nexport {}\nexec '{}' --namespace '{}' \"$@\"\n",
        environment.join(" "),
        kubectl.get_program().display(),
        world.namespace
    );
    let file = folder.join("kubectl");
    fs::write(&file, script).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// Runs a shell script, with kubectl in its path, in a folder that is removed with the world.
async fn shell(world: &World, script: &str, arguments: &[&str]) -> Output {
    let mut path = path_with_kubectl(world).into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap());
    let mut command = Command::new("sh");
    command.args(["-c", script, "script"]).args(arguments).env("PATH", path).kill_on_drop(true);
    command.output().await.unwrap()
}

fn text(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

/// Waits for the link of a check, and returns its session.
async fn session(world: &World, name: &str) -> String {
    world.until_exists(name).await;
    world.until(name, |seen| seen.phase() == Some(Phase::AwaitingUser)).await.id().unwrap()
}
