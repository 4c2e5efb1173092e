//! Verifications of the test: manifests, ids, and what is waited for.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::environment::Environment;

const TIMEOUT: &str = "--timeout=2m";

/// The manifest of a Verification. `spec` has what it says beside the API key, which every namespace of the test has.
pub(super) fn manifest(name: &str, spec: &Value) -> Value {
    let mut spec = spec.clone();
    spec["apiKeySecretRef"] = json!({"name": "okid-api-key"});
    json!({"apiVersion": "okid.io/v1alpha1", "kind": "Verification", "metadata": {"name": name}, "spec": spec})
}

/// Several manifests in one.
pub(super) fn list(items: &[Value]) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

/// A Verification, by its namespace and its name.
#[derive(Clone, Copy)]
pub(super) struct Name<'a>(pub(super) &'a str, pub(super) &'a str);

impl Name<'_> {
    /// Waits with kubectl, such as for `condition=Verified`.
    pub(super) fn wait(self, environment: &Environment, what: &str) -> Result<()> {
        let Self(namespace, name) = self;
        let what = format!("--for={what}");
        environment
            .kubectl(&["wait", "verification", name, "--namespace", namespace, &what, TIMEOUT])
            .map(drop)
    }

    pub(super) fn wait_for_phase(self, environment: &Environment, phase: &str) -> Result<()> {
        self.wait(environment, &format!("jsonpath={{.status.phase}}={phase}"))
    }

    /// Waits for the session, and returns its id.
    pub(super) fn id(self, environment: &Environment) -> Result<String> {
        self.wait(environment, "condition=SessionCreated")?;
        let verification = self.get(environment)?;
        let id = verification.pointer("/status/verificationId").and_then(Value::as_str);
        id.map(str::to_owned).context("find the id of the session")
    }

    pub(super) fn get(self, environment: &Environment) -> Result<Value> {
        let Self(namespace, name) = self;
        environment.get(&["verification", name, "--namespace", namespace])
    }
}

/// All Verifications of a namespace.
pub(super) fn all_in(environment: &Environment, namespace: &str) -> Result<Vec<Value>> {
    items(environment.get(&["verifications", "--namespace", namespace])?)
}

/// The uid and the session's id of every Verification, by namespace and name.
pub(super) fn ids(environment: &Environment) -> Result<BTreeMap<String, (String, String)>> {
    let all = items(environment.get(&["verifications", "--all-namespaces"])?)?;
    let text = |verification: &Value, pointer: &str| {
        verification.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let entry = |verification: &Value| {
        let name = text(verification, "/metadata/namespace") + "/" + &text(verification, "/metadata/name");
        (name, (text(verification, "/metadata/uid"), text(verification, "/status/verificationId")))
    };
    Ok(all.iter().map(entry).collect())
}

pub(super) fn items(mut list: Value) -> Result<Vec<Value>> {
    let Value::Array(items) = list["items"].take() else {
        bail!("kubectl printed something other than a list")
    };
    Ok(items)
}
