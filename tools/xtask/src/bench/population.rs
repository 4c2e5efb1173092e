//! A hundred thousand live verifications, each made of its number when it is asked for. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use okid_operator::{
    lifecycle::{Bounds, PollSchedule, Stage, next_poll},
    portal::{Details, PortalUrl},
    reconcile::jitter_seed,
};
use serde_json::{Value, json};

use super::api_server::Resources;
use super::number::{id, uid};
use super::session::{MODULES, Plan, Session, after, spec};

/// How many are alive.
pub(super) const LIVE: u32 = 100_000;
/// How many namespaces they live in, each with its own Secret.
const NAMESPACES: u32 = 100;
/// How long a session lasts: longer than anything here.
const LASTS: Duration = Duration::from_hours(48);

/// What all of them have in common.
pub(super) struct Population {
    /// Where their sessions live.
    pub(super) portal: PortalUrl,
    /// When they were created.
    pub(super) created_at: Timestamp,
    /// `spec.polling`, both bounds; none for the operator's own schedule.
    pub(super) interval: Option<Duration>,
}

impl Resources for Population {
    fn count(&self) -> u32 {
        LIVE
    }

    fn version(&self) -> String {
        (LIVE + 1).to_string()
    }

    /// One of them, as an API server shows it after the operator has written all that it wants to write.
    fn resource(&self, number: u32) -> Result<Value> {
        let plan = Plan {
            uid: &uid(number),
            id: &id(number),
            portal: &self.portal,
            created_at: self.created_at,
            lasts: LASTS,
            bounds: self.bounds(),
            evidence: None,
        };
        let (mut session, first) = Session::create(&plan)?;
        let mut details = self.details();
        details.id = Some(session.id.clone());
        session.look(first, &details)?;
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
            "status": serde_json::to_value(&session.status).context("write a status")?,
        }))
    }

    fn write(&self, _: u32, _: &Value) -> Option<Value> {
        None
    }
}

impl Population {
    /// What the portal says of each, but for its id.
    fn details(&self) -> Details {
        let progress: BTreeMap<String, String> =
            MODULES.iter().map(|module| ((*module).to_owned(), "pending".to_owned())).collect();
        let current = Some("generated".to_owned());
        Details { id: None, current, updated_at: Some(self.created_at), progress, date: None }
    }

    /// The same as the portal writes it.
    pub(super) fn answer(&self, number: u32) -> String {
        let Details { id: _, current, updated_at, progress, date: _ } = self.details();
        let updated_at = updated_at.map(|stamp| stamp.to_string());
        let status = json!({"current": current, "updated_at": updated_at, "progress": progress});
        json!({"verification_id": id(number), "status": status}).to_string()
    }

    /// The time from an answer about one of them to the next look, by the operator's own schedule.
    pub(super) fn next_look_after(&self, number: u32) -> Duration {
        let now = self.created_at;
        let poll_schedule = PollSchedule {
            created_at: now,
            changed_at: now,
            stage: Stage::Idle,
            expires_at: Some(after(now, LASTS)),
            bounds: self.bounds(),
        };
        let next = next_poll(&poll_schedule, now, jitter_seed(&uid(number)), 1.0);
        Duration::try_from(next.duration_since(now)).unwrap_or_default()
    }

    fn bounds(&self) -> Bounds {
        Bounds { min: self.interval, max: self.interval }
    }
}

/// What `kubectl apply` and the operator leave in each resource.
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
