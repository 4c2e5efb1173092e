//! Messages that depend on more than the reason: what is wrong with an evidence destination, so that a person can
//! correct it, and which of several causes an error has.

use super::Draft;
use crate::{
    api::{Condition, ConditionType, Reason},
    lifecycle::message::refused,
};

/// Conditions that show a refused destination or Secret, or a conflicting object.
const SHOWN_BY: [(ConditionType, Reason); 5] = [
    (ConditionType::Ready, Reason::DestinationNotAllowed),
    (ConditionType::Stalled, Reason::DestinationNotAllowed),
    (ConditionType::EvidenceStored, Reason::DestinationNotAllowed),
    (ConditionType::EvidenceStored, Reason::StoreSecretInvalid),
    (ConditionType::EvidenceStored, Reason::Conflict),
];

/// Reasons of `EvidenceStored` that stand for several causes.
const OF_CAUSES: [Reason; 5] = [
    Reason::StoreUnavailable,
    Reason::StoreMisconfigured,
    Reason::StoreAccessDenied,
    Reason::ImageUnusable,
    Reason::PortalUnavailable,
];

impl Draft<'_> {
    /// Names the cause. A cause that an earlier reconcile named stays for as long as its reason does.
    pub(crate) fn show_cause(&mut self) {
        let type_ = ConditionType::EvidenceStored;
        let before = Condition::find(&self.before.conditions, type_);
        let conditions = self.status.conditions.iter_mut();
        for condition in conditions.filter(|condition| condition.type_ == type_.as_str()) {
            if !OF_CAUSES.iter().any(|reason| condition.reason == reason.as_str()) {
                continue;
            }
            let stays =
                before.filter(|before| before.reason == condition.reason).map(|before| &before.message);
            match (self.cause, stays) {
                (Some(cause), _) => condition.message = cause.into(),
                (None, Some(before)) if self.inputs.evidence_reason.is_none() => {
                    condition.message.clone_from(before);
                }
                (None, _) => {}
            }
        }
    }

    /// Names what is refused, where a condition shows that. What an earlier reconcile named stays for as long as its
    /// reason does.
    pub(crate) fn show_refusal(&mut self) {
        for condition in &mut self.status.conditions {
            let is_it = |(type_, reason): &(ConditionType, Reason)| {
                condition.reason == reason.as_str() && condition.type_ == type_.as_str()
            };
            let Some((type_, _)) = SHOWN_BY.into_iter().find(is_it) else { continue };
            let said = match &self.refusal {
                Some(refusal) => Some(refused(refusal).into()),
                // Before there is a session, each reconcile checks the destination again.
                None if type_ != ConditionType::EvidenceStored => None,
                // Another error with the same reason, which has its own message.
                None if self.inputs.evidence_reason.is_some() => None,
                None => Condition::find(&self.before.conditions, type_)
                    .filter(|before| before.reason == condition.reason)
                    .map(|before| before.message.clone()),
            };
            if let Some(said) = said {
                condition.message = said;
            }
        }
    }
}
