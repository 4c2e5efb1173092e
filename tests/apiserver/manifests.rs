//! The files of the repository, and kubectl in a namespace. Touches the file system and processes.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::task::spawn_blocking;

use crate::harness::Cluster;

/// A file of the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The output of kubectl in a namespace with that input, or its error output.
pub(crate) async fn kubectl(
    cluster: &Cluster,
    namespace: &str,
    arguments: &[&str],
    input: &str,
) -> Result<String, String> {
    let mut kubectl = cluster.kubectl();
    kubectl.args(["--namespace", namespace]).args(arguments);
    kubectl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let input = input.to_owned();
    let done = spawn_blocking(move || {
        let mut running = kubectl.spawn()?;
        // The pipe is dropped at the end of the statement, so that kubectl sees the end of its input.
        running.stdin.take().map_or(Ok(()), |mut pipe| pipe.write_all(input.as_bytes()))?;
        running.wait_with_output()
    });
    let output = done.await.expect("kubectl does not panic").expect("run kubectl");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// Applies a manifest with strict validation: an unknown field is an error.
pub(crate) async fn apply(cluster: &Cluster, namespace: &str, manifest: &str) -> Result<String, String> {
    kubectl(cluster, namespace, &["apply", "--validate=strict", "--filename", "-"], manifest).await
}
