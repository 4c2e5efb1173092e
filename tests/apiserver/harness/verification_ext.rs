//! Shorthands to read a verification. Pure.

use okid_operator::api::{Phase, Session, SessionState, Verification, VerificationStatus};

/// Shorthands to read a verification.
pub(crate) trait VerificationExt {
    /// Its status, or an empty one.
    fn status_or_default(&self) -> VerificationStatus;

    /// Its phase.
    fn phase(&self) -> Option<Phase> {
        self.status_or_default().phase
    }

    /// The id it publishes.
    fn id(&self) -> Option<String> {
        self.status_or_default().verification_id
    }

    /// The record of its create, or an empty one.
    fn session(&self) -> Session {
        self.status_or_default().session.unwrap_or_default()
    }

    /// The state of its last create.
    fn state(&self) -> Option<SessionState> {
        self.session().state
    }

    /// The process that has written its last claim.
    fn claimed_by(&self) -> Option<String> {
        let holder = self.session().holder?;
        let (process, _reconcile) = holder.split_once('/').expect("a holder is a process and a reconcile");
        Some(process.to_owned())
    }

    /// A condition as `Status/Reason`, such as `False/AwaitingUser`.
    fn condition(&self, type_: &str) -> Option<String> {
        self.status_or_default()
            .conditions
            .into_iter()
            .find(|condition| condition.type_ == type_)
            .map(|condition| format!("{:?}/{}", condition.status, condition.reason))
    }

    /// Whether it has all of these conditions, each as `Type=Status/Reason`, or `Type=` for none of that type.
    fn shows(&self, conditions: &[&str]) -> bool {
        conditions.iter().all(|wanted| {
            let (type_, rest) = wanted.split_once('=').expect("a condition is Type=Status/Reason");
            self.condition(type_).unwrap_or_default() == rest
        })
    }
}

impl VerificationExt for Verification {
    fn status_or_default(&self) -> VerificationStatus {
        self.status.clone().unwrap_or_default()
    }
}
