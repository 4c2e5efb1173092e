//! Live Verifications, up to 100,000, each generated from its number on request. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use okid_operator::{
    lifecycle::{Announced, Bounds, PollSchedule, Spacing, Stage, jitter_seed, next_poll},
    portal::{Details, PortalUrl},
};
use serde_json::{Value, json};

use super::api_server::Resources;
use super::number::{id, uid};
use super::session::{MODULES, Plan, Session, after, spec};

/// The number of live Verifications that the goals are about.
pub(super) const LIVE: u32 = 100_000;
/// The number of their namespaces, each with its own Secret.
const NAMESPACES: u32 = 100;
/// Lifetime of the sessions, longer than any measurement.
const LIFETIME: Duration = Duration::from_hours(48);

/// What all Verifications have in common.
pub(super) struct Population {
    /// Their number.
    pub(super) live: u32,
    /// The portal of their sessions.
    pub(super) portal: PortalUrl,
    /// When they were created.
    pub(super) created_at: Timestamp,
    /// Both bounds of `spec.polling`; `None` for the operator's own schedule.
    pub(super) interval: Option<Duration>,
}

impl Resources for Population {
    fn count(&self) -> u32 {
        self.live
    }

    fn version(&self) -> String {
        (self.live + 1).to_string()
    }

    /// The resource after the last write of the operator.
    fn resource(&self, number: u32) -> Result<Value> {
        let plan = Plan {
            uid: &uid(number),
            id: &id(number),
            portal: &self.portal,
            created_at: self.created_at,
            lasts: LIFETIME,
            bounds: self.bounds(),
            evidence: None,
            announced: Announced::Nothing,
        };
        let (mut session, first) = Session::create(&plan)?;
        let mut details = self.details();
        details.id = Some(session.id.clone());
        session.poll(first, &details)?;
        let mut spec = spec();
        if let Some(interval) = self.interval {
            let interval = format!("{}s", interval.as_secs());
            spec["polling"] = json!({"minInterval": interval, "maxInterval": interval});
        }
        Ok(json!({
            "apiVersion": "okid.io/v1alpha1",
            "kind": "Verification",
            "metadata": {
                "name": format!("person-{number}"),
                "namespace": format!("team-{}", number % NAMESPACES),
                "uid": plan.uid,
                "resourceVersion": (number + 1).to_string(),
                "generation": 1,
                "creationTimestamp": self.created_at.to_string(),
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": spec.to_string()},
                "managedFields": managed_fields(),
            },
            "spec": spec,
            "status": serde_json::to_value(&session.status).context("serialize a status")?,
        }))
    }

    fn write(&self, _: u32, _: &Value) -> Option<Value> {
        None
    }
}

impl Population {
    /// The details of each session, without the id.
    fn details(&self) -> Details {
        let progress: BTreeMap<String, String> =
            MODULES.iter().map(|module| ((*module).to_owned(), "pending".to_owned())).collect();
        let current = Some("generated".to_owned());
        Details { id: None, current, updated_at: Some(self.created_at), progress, date: None }
    }

    /// The portal's response to a poll.
    pub(super) fn response(&self, number: u32) -> String {
        let Details { id: _, current, updated_at, progress, date: _ } = self.details();
        let updated_at = updated_at.map(|stamp| stamp.to_string());
        let status = json!({"current": current, "updated_at": updated_at, "progress": progress});
        json!({"verification_id": id(number), "status": status}).to_string()
    }

    /// The time from a response to the next poll, by the operator's own schedule.
    pub(super) fn time_to_next_poll(&self, number: u32) -> Duration {
        let now = self.created_at;
        let poll_schedule = PollSchedule {
            created_at: now,
            changed_at: now,
            stage: Stage::Idle,
            expires_at: Some(after(now, LIFETIME)),
            bounds: self.bounds(),
        };
        let next = next_poll(&poll_schedule, now, Spacing::unstretched(jitter_seed(uid(number))));
        Duration::try_from(next.duration_since(now)).unwrap_or_default()
    }

    fn bounds(&self) -> Bounds {
        Bounds { min: self.interval, max: self.interval }
    }
}

/// The entries of `kubectl apply` and of the operator.
fn managed_fields() -> Value {
    let field = json!({});
    json!([
        {
            "manager": "kubectl-client-side-apply", "operation": "Update", "apiVersion": "okid.io/v1alpha1",
            "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:metadata": {"f:annotations": {
                    ".": field, "f:kubectl.kubernetes.io/last-applied-configuration": field,
                }},
                "f:spec": {
                    ".": field, "f:activeDeadline": field, "f:apiKeySecretRef": {".": field, "f:key": field, "f:name": field},
                    "f:mode": field, "f:onUnknownOutcome": field, "f:readyWhen": field, "f:suspend": field,
                },
            },
        },
        {
            "manager": "okid-operator", "operation": "Update", "apiVersion": "okid.io/v1alpha1",
            "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1", "subresource": "status",
            "fieldsV1": {"f:status": {
                "f:conditions": field, "f:expiresAt": field, "f:flow": field, "f:modules": field,
                "f:observedGeneration": field, "f:phase": field, "f:portalUrl": field, "f:verificationId": field,
                "f:session": {
                    ".": field, "f:attempt": field, "f:claimedAt": field, "f:createdAt": field, "f:holder": field,
                    "f:keyFingerprint": field, "f:portal": field, "f:state": field, "f:uid": field,
                },
            }},
        },
    ])
}
