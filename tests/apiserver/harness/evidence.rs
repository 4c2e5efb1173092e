//! Evidence in a test: an S3 server, its objects, and specs that request evidence. Touches the loopback interface and
//! the server's folder.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use kube::{Api, ResourceExt as _};
use okid_operator::api::{ObjectState, RECONCILE_REQUESTED_AT, Verification};
use okid_sandbox::Verdict;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::time::interval;

use super::{VerificationExt as _, World};
use crate::stores::{BUCKET, S3};

/// The Secret with the credentials of the world's S3.
pub(crate) const STORE_SECRET: &str = "evidence-store";

/// How often a poll is requested where the operator's own schedule would take minutes.
const POLL_REQUESTED_EVERY: Duration = Duration::from_millis(500);
/// How far the clock advances each time.
const CLOCK_ADVANCED_BY: Duration = Duration::from_secs(15);

/// A server with unique credentials, so that a leak can be found.
pub(super) async fn new_s3() -> S3 {
    let [access, secret] = ["access", "secret"].map(|what| format!("{what}-{:016x}", rand::random::<u64>()));
    S3::start(&access, &secret).await
}

/// The entries of the Secret for that server.
pub(crate) fn entries(s3: &S3) -> Value {
    s3.options().into_iter().map(|(name, value)| (name.to_owned(), Value::from(value))).collect()
}

/// A destination in the world's S3.
pub(crate) fn to_s3() -> Value {
    json!({"url": format!("s3://{BUCKET}/kyc"), "credentialsSecretRef": {"name": STORE_SECRET}})
}

/// A spec with evidence in the world's S3, merged with these fields of `spec.evidence`.
pub(crate) fn asking(evidence: Value) -> Value {
    let mut whole = json!({"destination": to_s3()});
    let Value::Object(evidence) = evidence else { panic!("evidence is an object") };
    whole.as_object_mut().expect("an object").extend(evidence);
    json!({"evidence": whole})
}

/// The evidence of the front image, required.
pub(crate) fn front() -> Value {
    json!({"images": [{"kind": "Front", "required": true}]})
}

/// SHA-256 in hex.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("text can grow");
        text
    })
}

/// The files below a folder, by their path in it.
pub(crate) fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).into_iter().flatten() {
            let path = entry.expect("read a folder").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(folder).expect("a file below the folder").display().to_string();
            // An object may have been removed since.
            files.extend(std::fs::read(&path).ok().map(|bytes| (name, bytes)));
        }
    }
    files
}

/// The folder of a verification's evidence below a prefix.
pub(crate) fn evidence_folder(prefix: &Path, verification: &Verification) -> PathBuf {
    let (namespace, uid) = (verification.namespace(), verification.uid());
    prefix
        .join(namespace.expect("a namespace"))
        .join(verification.name_any())
        .join(uid.expect("an object has a uid"))
}

/// Checks that the folder has exactly the objects that status lists, with their sizes and checksums, and the manifest.
/// Returns the files.
pub(crate) fn check(verification: &Verification, folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let evidence = verification.status_or_default().evidence.expect("evidence");
    let files = files(folder);
    let mut names = vec!["manifest.json".to_owned()];
    for object in &evidence.objects {
        if object.state == ObjectState::Absent {
            continue;
        }
        let bytes = files.get(&object.key).unwrap_or_else(|| panic!("{} is not there", object.key));
        assert_eq!(object.sha256.as_deref(), Some(sha256(bytes).as_str()), "{}", object.key);
        assert_eq!(object.size, i64::try_from(bytes.len()).ok(), "{}", object.key);
        names.push(object.key.clone());
    }
    names.sort();
    assert_eq!(files.keys().cloned().collect::<Vec<_>>(), names);
    assert_eq!(evidence.manifest_sha256, Some(sha256(&files["manifest.json"])));
    let manifest: Value = serde_json::from_slice(&files["manifest.json"]).expect("the manifest is JSON");
    let mut listed = evidence.objects;
    listed.sort_by(|one, other| one.key.cmp(&other.key));
    assert_eq!(manifest["objects"], serde_json::to_value(listed).expect("objects are JSON"));
    files
}

impl World {
    /// The world's S3.
    pub(crate) fn s3(&self) -> &S3 {
        self.s3.as_ref().expect("the world has an S3")
    }

    /// The folder of a verification's evidence in the world's S3.
    pub(crate) fn in_s3(&self, verification: &Verification) -> PathBuf {
        evidence_folder(&self.s3().folder.path().join(BUCKET).join("kyc"), verification)
    }

    /// Creates or replaces the Secret with the credentials of the world's S3, with these changes.
    pub(crate) async fn store_secret(&self, changes: Value) {
        let mut entries = entries(self.s3());
        let Value::Object(changes) = changes else { panic!("changes are an object") };
        entries.as_object_mut().expect("an object").extend(changes);
        // An apply would keep the entries that it does not name.
        let secret = json!({"metadata": {"name": STORE_SECRET}, "stringData": entries});
        let secret = serde_json::from_value(secret).expect("a Secret");
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        match api.replace(STORE_SECRET, &PostParams::default(), &secret).await {
            Err(kube::Error::Api(response)) if response.code == 404 => {
                api.create(&PostParams::default(), &secret).await.expect("make a Secret")
            }
            replaced => replaced.expect("replace a Secret"),
        };
    }

    /// Applies a verification and brings its session to a verdict; returns its id.
    pub(crate) async fn create_and_finish(&self, name: &str, spec: Value, verdict: Verdict) -> String {
        let id = self.create_session(name, spec).await;
        self.sandbox().finish(&id, verdict).expect("a session ends");
        id
    }

    /// The body of the portal's response for a path of its API.
    pub(crate) async fn portal_response(&self, path: &str) -> Vec<u8> {
        let client = reqwest::Client::builder().no_proxy().build().expect("make a client");
        let call = client.get(format!("{}/api/{path}", self.sandbox().url())).header("X-SDK-Key", &self.key);
        let response = call.send().await.expect("call the portal");
        assert!(response.status().is_success(), "{path}: {}", response.status());
        response.bytes().await.expect("read the portal's response").to_vec()
    }

    /// Requests a poll now.
    pub(crate) async fn request_poll(&self, name: &str) {
        self.annotate(name, RECONCILE_REQUESTED_AT, &format!("{:016x}", rand::random::<u64>())).await;
    }

    /// As [`World::until`], for what takes minutes: advances the clock and requests polls until then.
    pub(crate) async fn until_with_clock(
        &self,
        name: &str,
        holds: impl Fn(&Verification) -> bool,
    ) -> Verification {
        self.until_repeating(name, holds, CLOCK_ADVANCED_BY).await
    }

    /// As [`World::until`], for what the schedule does not bring soon: requests polls until then.
    pub(crate) async fn until_with_polls(
        &self,
        name: &str,
        holds: impl Fn(&Verification) -> bool,
    ) -> Verification {
        self.until_repeating(name, holds, Duration::ZERO).await
    }

    async fn until_repeating(
        &self,
        name: &str,
        holds: impl Fn(&Verification) -> bool,
        by: Duration,
    ) -> Verification {
        let requests = async {
            let mut ticks = interval(POLL_REQUESTED_EVERY);
            loop {
                ticks.tick().await;
                self.advance_clock(by);
                self.request_poll(name).await;
            }
        };
        tokio::select! {
            found = self.until(name, holds) => found,
            () = requests => unreachable!("requests are sent without end"),
        }
    }
}
