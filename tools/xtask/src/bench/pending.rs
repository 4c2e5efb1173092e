//! Verified Verifications whose evidence is pending, and the status writes to them. Pure but for its state in memory.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use okid_operator::{
    api::EvidenceSpec,
    lifecycle::{Announced, Bounds},
    portal::{Details, PortalUrl},
};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::api_server::Resources;
use super::number::uid;
use super::session::{MODULES, Plan, Session, spec};

/// Lifetime of the sessions.
const LIFETIME: Duration = Duration::from_hours(1);

/// The resources, as an API server stores them.
pub(super) struct PendingEvidence {
    resources: Mutex<Vec<Value>>,
    version: AtomicU32,
}

impl PendingEvidence {
    /// One Verification for each session of the portal, as the operator's own rules leave it after the verdict.
    pub(super) fn new(
        portal: &PortalUrl,
        ids: &[String],
        evidence: &EvidenceSpec,
        now: Timestamp,
    ) -> Result<Self> {
        let resources = (0_u32..).zip(ids).map(|(number, id)| resource(number, id, portal, evidence, now));
        let resources = resources.collect::<Result<Vec<_>>>()?;
        let version = u32::try_from(resources.len()).context("count Verifications")? + 1;
        Ok(Self { resources: Mutex::new(resources), version: AtomicU32::new(version) })
    }

    /// The number of settled ones.
    pub(super) fn settled(&self) -> usize {
        self.count(|status| status["settled"] == json!(true))
    }

    /// The number of those whose evidence is stored.
    pub(super) fn stored(&self) -> usize {
        self.count(|status| {
            let conditions = status["conditions"].as_array().map_or(&[][..], Vec::as_slice);
            let stored = conditions.iter().find(|condition| condition["type"] == "EvidenceStored");
            stored.is_some_and(|stored| stored["status"] == "True")
        })
    }

    fn count(&self, holds: impl Fn(&Value) -> bool) -> usize {
        let resources = self.resources.lock();
        resources.iter().filter(|resource| holds(&resource["status"])).count()
    }
}

impl Resources for PendingEvidence {
    fn count(&self) -> u32 {
        let resources = self.resources.lock();
        u32::try_from(resources.len()).unwrap_or(u32::MAX)
    }

    fn version(&self) -> String {
        self.version.load(Ordering::Relaxed).to_string()
    }

    fn resource(&self, number: u32) -> Result<Value> {
        let resources = self.resources.lock();
        let index = usize::try_from(number).context("count Verifications")?;
        resources.get(index).cloned().context("find a Verification")
    }

    fn write(&self, number: u32, patch: &Value) -> Option<Value> {
        let mut resources = self.resources.lock();
        let resource = resources.get_mut(usize::try_from(number).ok()?)?;
        // The operator is the only writer, so there are no conflicts.
        let version = self.version.fetch_add(1, Ordering::Relaxed) + 1;
        json_patch::merge(&mut resource["status"], &patch["status"]);
        resource["metadata"]["resourceVersion"] = json!(version.to_string());
        Some(resource.clone())
    }
}

fn resource(
    number: u32,
    id: &str,
    portal: &PortalUrl,
    evidence: &EvidenceSpec,
    created_at: Timestamp,
) -> Result<Value> {
    let plan = Plan {
        uid: &uid(number),
        id,
        portal,
        created_at,
        lasts: LIFETIME,
        bounds: Bounds::default(),
        evidence: Some(evidence.clone()),
        announced: Announced::Nothing,
    };
    let (mut session, first) = Session::create(&plan)?;
    let details = Details {
        id: Some(session.id.clone()),
        current: Some("verified".to_owned()),
        updated_at: Some(created_at),
        progress: MODULES.map(|module| (module.to_owned(), "completed".to_owned())).into(),
        date: None,
    };
    session.poll(first, &details)?;
    let mut spec = spec();
    spec["evidence"] = serde_json::to_value(evidence).context("serialize a spec")?;
    Ok(json!({
        "apiVersion": "okid.io/v1alpha1",
        "kind": "Verification",
        "metadata": {
            "name": format!("person-{number}"),
            "namespace": "default",
            "uid": plan.uid,
            "resourceVersion": (number + 1).to_string(),
            "generation": 1,
            "creationTimestamp": created_at.to_string(),
        },
        "spec": spec,
        "status": serde_json::to_value(&session.status).context("serialize a status")?,
    }))
}
