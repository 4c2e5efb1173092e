//! What clients conclude from a resource: the rules of kstatus, Flux, kubectl, Argo CD and Argo Workflows, taken from
//! their sources and not from our code.

use serde_json::{Value, json};

/// A resource as clients see it.
#[derive(Clone, Debug)]
pub(super) struct Seen(pub(super) Value);

/// The results of kstatus (`sigs.k8s.io/cli-utils/pkg/kstatus/status/generic.go`), which Flux, Helm 4 and kpt use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kstatus {
    Terminating,
    InProgress,
    Failed,
    Current,
}

/// The results of Argo CD, with a health script that reads what kstatus reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Progressing,
    Suspended,
    Degraded,
    Healthy,
}

impl Seen {
    /// A resource with that generation and status, as JSON.
    pub(super) fn of(generation: i64, suspend: bool, status: &crate::api::VerificationStatus) -> Self {
        Self(json!({
            "metadata": {"generation": generation},
            "spec": {"suspend": suspend},
            "status": serde_json::to_value(status).expect("a status is JSON"),
        }))
    }

    /// The same, being deleted.
    pub(super) fn deleted(mut self) -> Self {
        self.0["metadata"]["deletionTimestamp"] = json!("2024-01-01T12:00:00Z");
        self
    }

    /// The same after an edit of the spec that is not observed yet.
    pub(super) fn edited(mut self) -> Self {
        self.0["metadata"]["generation"] = json!(self.generation() + 1);
        self
    }

    fn generation(&self) -> i64 {
        self.0["metadata"]["generation"].as_i64().unwrap_or_default()
    }

    fn conditions(&self) -> impl Iterator<Item = &Value> {
        self.0["status"]["conditions"].as_array().into_iter().flatten()
    }

    fn condition(&self, type_: &str) -> Option<&Value> {
        self.conditions().find(|condition| condition["type"] == type_)
    }

    fn is(&self, type_: &str, status: &str) -> bool {
        self.condition(type_).is_some_and(|condition| condition["status"] == status)
    }

    /// Deletion first; then a generation that is not observed; then the first of Reconciling and Stalled in the list;
    /// then Ready.
    pub(super) fn kstatus(&self) -> Kstatus {
        if !self.0["metadata"]["deletionTimestamp"].is_null() {
            return Kstatus::Terminating;
        }
        if let Some(observed) = self.0["status"]["observedGeneration"].as_i64()
            && observed != self.generation()
        {
            return Kstatus::InProgress;
        }
        for condition in self.conditions().filter(|condition| condition["status"] == "True") {
            if condition["type"] == "Reconciling" {
                return Kstatus::InProgress;
            }
            if condition["type"] == "Stalled" {
                return Kstatus::Failed;
            }
        }
        match self.condition("Ready").map(|ready| ready["status"] == "True") {
            Some(true) | None => Kstatus::Current,
            Some(false) => Kstatus::InProgress,
        }
    }

    /// Violations of Flux's conventions (`fluxcd/pkg/runtime/conditions/check`).
    pub(super) fn flux_faults(&self) -> Vec<&'static str> {
        let mut faults = Vec::new();
        let mut fault = |is_one: bool, name| {
            if is_one {
                faults.push(name);
            }
        };
        let status = &self.0["status"];
        let observed = status["observedGeneration"].as_i64();
        fault(self.condition("Ready").is_none(), "Ready is missing");
        for negative in ["Reconciling", "Stalled"] {
            fault(
                self.condition(negative).is_some() && !self.is(negative, "True"),
                "a negative one is not True",
            );
            fault(self.is(negative, "True") && !self.is("Ready", "False"), "Ready is not False beside it");
        }
        fault(self.is("Reconciling", "True") && self.is("Stalled", "True"), "both at once");
        fault(observed.is_some_and(|observed| observed > self.generation()), "observed from the future");
        for condition in self.conditions() {
            fault(condition["observedGeneration"].as_i64() != observed, "observed at another generation");
        }
        faults
    }

    /// `kubectl wait --for=condition=TYPE[=STATUS]`: in any case; a condition with an older generation does not count.
    pub(super) fn kubectl_waits_for(&self, condition: &str) -> bool {
        let (type_, status) = condition.split_once('=').unwrap_or((condition, "True"));
        self.conditions().any(|shown| {
            let same = |field: &str, wanted: &str| {
                shown[field].as_str().is_some_and(|text| text.eq_ignore_ascii_case(wanted))
            };
            let behind = shown["observedGeneration"].as_i64().is_some_and(|seen| seen < self.generation());
            same("type", type_) && same("status", status) && !behind
        })
    }

    /// Argo CD: the same conditions in the same order; a wait for a person is Suspended.
    pub(super) fn argo_cd(&self) -> Health {
        match self.kstatus() {
            Kstatus::Terminating => Health::Progressing,
            Kstatus::Failed => Health::Degraded,
            Kstatus::Current => Health::Healthy,
            Kstatus::InProgress => {
                let seen = self.0["status"]["observedGeneration"].as_i64() == Some(self.generation());
                let reason = self.condition("Ready").and_then(|ready| ready["reason"].as_str());
                let waits_for_people = matches!(reason, Some("AwaitingUser" | "InReview"))
                    && self.condition("Reconciling").is_some_and(|shown| {
                        Some(&shown["reason"]) == self.condition("Ready").map(|ready| &ready["reason"])
                    });
                let suspended = self.0["spec"]["suspend"] == true && reason == Some("Suspended");
                if seen && (waits_for_people || suspended) { Health::Suspended } else { Health::Progressing }
            }
        }
    }

    /// Argo Workflows: `status.phase == X` or `status.phase in (X, Y)`, a label selector over scalar paths.
    pub(super) fn argo_workflows(&self, selector: &str) -> bool {
        let phase = self.0["status"]["phase"].as_str();
        let wanted = selector.strip_prefix("status.phase ").expect("a selector over the phase");
        if let Some(one) = wanted.strip_prefix("== ") {
            return phase == Some(one);
        }
        let list = wanted.strip_prefix("in (").and_then(|list| list.strip_suffix(')')).expect("a list");
        list.split(", ").any(|one| phase == Some(one))
    }
}

fn with(conditions: &Value) -> Seen {
    Seen(json!({
        "metadata": {"generation": 2},
        "spec": {},
        "status": {"observedGeneration": 2, "conditions": conditions},
    }))
}

fn shown(type_: &str, status: &str) -> Value {
    json!({"type": type_, "status": status, "reason": "X", "observedGeneration": 2})
}

#[test]
fn kstatus_reads_in_its_order() {
    assert_eq!(with(&json!([])).kstatus(), Kstatus::Current, "nothing at all passes");
    assert_eq!(with(&json!([shown("Ready", "True")])).kstatus(), Kstatus::Current);
    assert_eq!(with(&json!([shown("Ready", "False")])).kstatus(), Kstatus::InProgress);
    assert_eq!(with(&json!([shown("Ready", "Unknown")])).kstatus(), Kstatus::InProgress);
    let both = json!([shown("Ready", "True"), shown("Stalled", "True"), shown("Reconciling", "True")]);
    assert_eq!(with(&both).kstatus(), Kstatus::Failed, "the first of the two in the list");
    assert_eq!(with(&json!([shown("Stalled", "False"), shown("Ready", "True")])).kstatus(), Kstatus::Current);
    assert_eq!(with(&both).edited().kstatus(), Kstatus::InProgress, "not observed yet");
    assert_eq!(with(&both).edited().deleted().kstatus(), Kstatus::Terminating, "deletion is first");
}

#[test]
fn the_rules_of_the_clients_find_violations() {
    assert_eq!(with(&json!([])).flux_faults(), ["Ready is missing"]);
    let both = json!([shown("Ready", "False"), shown("Stalled", "True"), shown("Reconciling", "True")]);
    assert_eq!(with(&both).flux_faults(), ["both at once"]);
    let beside = json!([shown("Ready", "True"), shown("Stalled", "True")]);
    assert_eq!(with(&beside).flux_faults(), ["Ready is not False beside it"]);
    let not_true = json!([shown("Ready", "True"), shown("Reconciling", "False")]);
    assert_eq!(with(&not_true).flux_faults(), ["a negative one is not True"]);
    let mut behind = with(&json!([shown("Ready", "True")]));
    behind.0["status"]["observedGeneration"] = json!(1);
    assert_eq!(behind.flux_faults(), ["observed at another generation"]);
    let ready = with(&json!([shown("Ready", "True")]));
    assert!(ready.kubectl_waits_for("ready") && ready.kubectl_waits_for("Ready=true"));
    assert!(!ready.kubectl_waits_for("Ready=False") && !ready.kubectl_waits_for("Finished"));
    assert!(!ready.edited().kubectl_waits_for("Ready"), "a condition that is behind does not count");
}
