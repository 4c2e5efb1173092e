//! The sandbox portal in the cluster, which the API server is asked to forward requests to.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::environment::Environment;

const PATH: &str = "/api/v1/namespaces/okid-operator/services/http:okid-operator-sandbox:8090/proxy/sandbox";

/// The portal, with the endpoints that control it.
#[derive(Clone, Copy)]
pub(super) struct Portal<'a>(pub(super) &'a Environment);

impl Portal<'_> {
    /// The ids of the sessions, in the order of their creation.
    pub(super) fn sessions(self) -> Result<Vec<String>> {
        let text = self.0.kubectl(&["get", "--raw", &format!("{PATH}/sessions")])?;
        let sessions: Value = serde_json::from_str(&text).context("read the sessions of the portal")?;
        let sessions = sessions.as_array().into_iter().flatten();
        Ok(sessions.filter_map(|session| session["id"].as_str()).map(str::to_owned).collect())
    }

    /// The number of requests for a session so far, those in flight included.
    pub(super) fn creates(self) -> Result<usize> {
        let text = self.0.kubectl(&["get", "--raw", &format!("{PATH}/creates")])?;
        let creates: Value = serde_json::from_str(&text).context("read the requests to the portal")?;
        Ok(creates.as_array().map_or(0, Vec::len))
    }

    /// What the person or the reviewer does.
    pub(super) fn act(self, id: &str, act: &Value) -> Result<()> {
        self.post(&format!("/sessions/{id}/act"), act)
    }

    /// The person completes every step, and the reviewer decides.
    pub(super) fn decide(self, id: &str, verdict: &str) -> Result<()> {
        self.act(id, &json!("complete_all"))?;
        self.act(id, &json!({"decide": verdict}))
    }

    /// Adds an API key whose requests for a session get no response.
    pub(super) fn add_hanging_key(self, key: &str) -> Result<()> {
        self.post("/keys", &json!({"key": key}))?;
        self.post("/faults", &json!({"call": "create", "key": key, "action": "hang"}))
    }

    /// The least duration of every request.
    pub(super) fn set_latency(self, milliseconds: u32) -> Result<()> {
        self.post("/settings", &json!({"latency_ms": milliseconds}))
    }

    fn post(self, path: &str, body: &Value) -> Result<()> {
        let url = format!("{PATH}{path}");
        self.0.kubectl_with(&["create", "--raw", &url, "--filename=-"], &body.to_string()).map(drop)
    }
}
