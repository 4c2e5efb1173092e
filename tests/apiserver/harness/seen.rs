//! Reads a verification that was seen. Pure.

use okid_operator::api::{Phase, Session, SessionState, Verification, VerificationStatus};

/// Questions that tests ask of a verification.
pub(crate) trait Seen {
    /// Its status; the empty one if it has none.
    fn found(&self) -> VerificationStatus;

    /// Its phase.
    fn phase(&self) -> Option<Phase> {
        self.found().phase
    }

    /// The id it publishes.
    fn id(&self) -> Option<String> {
        self.found().verification_id
    }

    /// The record of its create; the empty one if it has none.
    fn session(&self) -> Session {
        self.found().session.unwrap_or_default()
    }

    /// What became of its last create.
    fn state(&self) -> Option<SessionState> {
        self.session().state
    }

    /// A condition as `Status/Reason`, such as `False/AwaitingUser`.
    fn condition(&self, type_: &str) -> Option<String> {
        self.found()
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

impl Seen for Verification {
    fn found(&self) -> VerificationStatus {
        self.status.clone().unwrap_or_default()
    }
}
