//! Evidence in the store that runs as a Pod. Starts processes.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use control_plane::process::{self, Child};
use futures::TryStreamExt as _;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{ObjectStore as _, ObjectStoreExt as _};
use okid_operator::store::sha256_hex;
use serde_json::{Value, json};

use super::environment::Environment;
use super::portal::Portal;
use super::report::Report;
use super::verification::{Name, manifest};
use crate::interrupt::runtime;

/// The example that names a store of the operator.
const EXAMPLE: &str = "--filename=examples/evidence-named-store.yaml";
const FRIDA: Name<'_> = Name("default", "frida");
const BUCKET: &str = "evidence";
const FORWARDING: &str = "Forwarding from 127.0.0.1:";
const FORWARDS_WITHIN: Duration = Duration::from_secs(30);

/// Applies the example, and compares what is in the store with what its status says.
pub(super) fn evidence_is_stored(environment: &Environment, report: &mut Report) -> Result<()> {
    environment.kubectl(&["apply", EXAMPLE])?;
    Portal(environment).decide(&FRIDA.id(environment)?, "verified")?;
    FRIDA.wait(environment, "condition=EvidenceStored")?;
    let status = FRIDA.get(environment)?["status"]["evidence"].take();
    let expected = digests(&status)?;
    let folder = folder_of(&status)?;
    let stored = Forwarded::start(environment)?.digests(&folder)?;
    for digest in &expected {
        ensure!(stored.contains(digest), "the store has no object with the SHA-256 {digest} of the status");
    }
    report.done(format_args!("{} objects of evidence are in a store that runs as a Pod", stored.len()));
    Ok(())
}

/// Creates a Verification whose evidence is deleted with it, waits until it is stored, and returns its folder in the bucket.
pub(super) fn store_to_be_deleted(environment: &Environment, name: Name<'_>) -> Result<String> {
    let spec = json!({
        "polling": {"maxInterval": "1s"},
        "evidence": {"results": true, "destination": {"store": "evidence"}, "deletionPolicy": "Delete"},
    });
    environment.apply(name.0, &manifest(name.1, &spec))?;
    Portal(environment).decide(&name.id(environment)?, "verified")?;
    name.wait(environment, "condition=EvidenceStored")?;
    folder_of(&name.get(environment)?["status"]["evidence"])
}

/// The number of objects in a folder of the bucket.
pub(super) fn count(environment: &Environment, folder: &str) -> Result<usize> {
    Ok(Forwarded::start(environment)?.digests(folder)?.len())
}

/// The folder in the bucket that a status names.
fn folder_of(evidence: &Value) -> Result<String> {
    let prefix = evidence["prefix"].as_str().unwrap_or_default();
    let folder = prefix.strip_prefix(&format!("s3://{BUCKET}/"));
    folder.map(str::to_owned).context("find the folder of the evidence in the status")
}

/// The SHA-256 of each object that a status lists as stored, and that of the manifest.
fn digests(evidence: &Value) -> Result<Vec<String>> {
    let objects = evidence["objects"].as_array().into_iter().flatten();
    let digests = objects.map(|object| &object["sha256"]).chain([&evidence["manifestSha256"]]);
    let digests: Vec<_> = digests.filter_map(Value::as_str).map(str::to_owned).collect();
    // At least the front of the document, the results and the manifest.
    ensure!(digests.len() >= 3, "the status lists too little evidence: {evidence}");
    Ok(digests)
}

/// A port of this machine that kubectl forwards to the store.
struct Forwarded {
    client: AmazonS3,
    _kubectl: Child,
}

impl Forwarded {
    fn start(environment: &Environment) -> Result<Self> {
        let folder = environment.folder();
        let mut command = process::Command::new(environment.kubectl_path())
            .args(["port-forward", "--namespace=store", "service/s3-server", ":9000"])
            .needs(folder.lifeline().context("keep the folder of the test")?);
        for (name, value) in environment.command(environment.kubectl_path()).get_envs() {
            command = command.env(name, value.unwrap_or_default());
        }
        let kubectl = command.start(folder.path().join("port-forward.log"))?;
        let line = kubectl.wait_for_line(FORWARDING, FORWARDS_WITHIN)?;
        let port = line.split(FORWARDING).nth(1).and_then(|rest| rest.split(' ').next());
        let port: u16 = port.unwrap_or_default().parse().context("read the forwarded port")?;
        let client = AmazonS3Builder::new()
            .with_endpoint(format!("http://127.0.0.1:{port}"))
            .with_allow_http(true)
            .with_region("eu-central-1")
            .with_bucket_name(BUCKET)
            .with_access_key_id("test-access-key")
            .with_secret_access_key("test-secret-key")
            .build()
            .context("configure the client of the store")?;
        Ok(Self { client, _kubectl: kubectl })
    }

    /// The SHA-256 of each object in a folder.
    fn digests(&self, folder: &str) -> Result<Vec<String>> {
        runtime()?.block_on(async {
            let folder = Path::parse(folder.trim_end_matches('/')).context("read the folder")?;
            let objects: Vec<_> =
                self.client.list(Some(&folder)).try_collect().await.context("list the objects")?;
            let mut digests = Vec::new();
            for object in objects {
                let content = self.client.get(&object.location).await.context("read an object")?;
                let content = content.bytes().await.context("read an object")?;
                digests.push(sha256_hex(&content));
            }
            Ok(digests)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_status_lists_as_stored_has_a_digest_and_the_manifest_too() {
        let evidence = json!({
            "prefix": "s3://evidence/kyc/default/frida/",
            "objects": [
                {"key": "front.jpg", "sha256": "aa"},
                {"key": "back.jpg", "state": "Absent"},
                {"key": "details.json", "sha256": "bb"},
            ],
            "manifestSha256": "cc",
        });
        assert_eq!(digests(&evidence).unwrap(), ["aa", "bb", "cc"]);
        assert_eq!(folder_of(&evidence).unwrap(), "kyc/default/frida/");
        assert!(digests(&json!({"manifestSha256": "cc"})).is_err());
        assert!(folder_of(&json!({})).is_err());
    }
}
