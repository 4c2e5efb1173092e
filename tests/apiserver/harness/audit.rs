//! Reads the API server's audit log, which has every request of every `ServiceAccount`. Touches the file system.

use std::fmt;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;

use super::Cluster;

/// The requests of one user.
#[derive(Debug)]
pub(crate) struct AuditLog {
    path: PathBuf,
    user: String,
    position: u64,
    requests: Vec<AuditedRequest>,
}

/// A request. One that takes long, such as a watch, is there twice: at the start of its response and at the end.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AuditedRequest {
    /// The verb, as in a role.
    pub(crate) verb: String,
    #[serde(rename = "requestURI")]
    uri: String,
    user: User,
    /// The object; nothing if the request is for no resource.
    pub(crate) object_ref: Option<ObjectRef>,
    #[serde(default)]
    annotations: Value,
}

#[derive(Clone, Debug, Deserialize)]
struct User {
    username: String,
}

/// What a request is about. What it does not name is empty.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ObjectRef {
    api_group: String,
    resource: String,
    subresource: String,
    /// The namespace.
    pub(crate) namespace: String,
    /// The name of the object.
    pub(crate) name: String,
}

impl AuditLog {
    /// The requests of that user from now on.
    pub(crate) fn from_now(cluster: &Cluster, user: String) -> Self {
        let path = cluster.audit_log();
        let position = std::fs::metadata(&path).map_or(0, |file| file.len());
        Self { path, user, position, requests: Vec::new() }
    }

    /// The requests so far, in the order of their responses.
    pub(crate) fn requests(&mut self) -> &[AuditedRequest] {
        let mut file = File::open(&self.path).expect("open the audit log");
        file.seek(SeekFrom::Start(self.position)).expect("read the audit log");
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).expect("read the audit log");
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        self.position += whole as u64;
        let text = std::str::from_utf8(&bytes[..whole]).expect("the audit log is text");
        let of_user = text.lines().filter(|line| line.contains(&self.user));
        let parsed = of_user.map(|line| serde_json::from_str(line).expect("a line of the audit log is JSON"));
        self.requests.extend(parsed.filter(|request: &AuditedRequest| request.user.username == self.user));
        &self.requests
    }
}

impl AuditedRequest {
    /// Whether it is that verb on that resource, of that group, with the subresource after a slash.
    pub(crate) fn is(&self, (group, resource): (&str, &str), verb: &str) -> bool {
        let is_object = |object: &ObjectRef| object.api_group == group && object.resource() == resource;
        self.verb == verb && self.object_ref.as_ref().is_some_and(is_object)
    }

    /// The path of a request that is for no resource.
    pub(crate) fn path(&self) -> Option<&str> {
        self.object_ref.is_none().then_some(self.uri.as_str())
    }

    /// Whether a role allowed it.
    pub(crate) fn is_allowed(&self) -> bool {
        self.annotations["authorization.k8s.io/decision"] == "allow"
    }
}

impl ObjectRef {
    /// The resource, with the subresource after a slash.
    pub(crate) fn resource(&self) -> String {
        let Self { resource, subresource, .. } = self;
        if subresource.is_empty() { resource.clone() } else { format!("{resource}/{subresource}") }
    }
}

impl fmt::Display for AuditedRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.verb, self.uri)
    }
}
