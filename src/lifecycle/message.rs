//! The closed set of condition messages. Each says what is wrong and what to do, without ids, hosts, times or remote
//! text. One exception: the message about an unusable destination names the wrong option. Pure.

use super::{blocker::Blocker, key_fact::KeyFault, state::UNKNOWN_OUTCOME_BUDGET};
use crate::api::{ConditionType, Reason};

/// The longest message, in characters.
const MAX_CHARS: usize = 256;

/// The message of a condition that shows why evidence cannot be stored as requested.
pub(super) fn refused(refusal: &str) -> String {
    let message = format!("spec.evidence cannot be stored as requested: {refusal}.");
    let printable = message.chars().filter(|character| character.is_ascii() && !character.is_ascii_control());
    printable.take(MAX_CHARS).collect()
}

const DESTINATION_NOT_ALLOWED: &str = "spec.evidence requests something that the operator's administrator does not allow. Correct it, or ask the administrator.";
const STORE_UNAVAILABLE: &str =
    "The store reports that it is temporarily unavailable. The operator is retrying.";
const STORE_ACCESS_DENIED: &str = "The store denies access with these credentials. Grant them the permissions that evidence needs; the operator is retrying.";
const BUCKET_NOT_FOUND: &str = "The bucket, container or folder does not exist. Create it, or correct spec.evidence.destination; the operator is retrying.";
const STORE_MISCONFIGURED: &str = "The store rejects the request. Check the options of spec.evidence.destination; the operator is retrying.";
const STORE_SECRET_NOT_FOUND: &str = "The Secret with the store's credentials does not exist in this namespace. Create it; it is picked up automatically.";
const STORE_SECRET_FORBIDDEN: &str = "The operator is not allowed to read the Secret with the store's credentials. Grant it the verb get on secrets in this namespace.";
const STORE_SECRET_INVALID: &str = "The Secret with the store's credentials cannot be used. Correct it, then set the annotation okid.io/retry to a new value.";
const FINALIZER_DENIED: &str = "deletionPolicy Delete needs the finalizer okid.io/evidence, and the API server does not let the operator add it. Grant the verb patch on verifications, and check the admission webhooks.";
const PORTAL_UNAVAILABLE: &str = "The portal does not return the images. The operator is retrying; CredentialsReady shows whether the API key is accepted.";
const EVIDENCE_FAILED: &str = "The evidence could not be stored; see the condition EvidenceStored. To try again, set the annotation okid.io/retry to a new value.";

const SCHEDULED: &str = "The operator deletes this resource when spec.ttlAfterFinished has passed since the check finished and nothing was pending any more.";
const MANAGED_BY_GIT_OPS: &str = "Flux, Argo CD or Helm manages this resource and would bring it back as a new check, so it is not deleted. Remove it from its source, or set the annotation okid.io/ttl-in-gitops to allow.";
const DELETION_FORBIDDEN: &str = "The API server does not let the operator delete this resource. Grant the operator the verb delete on verifications, and check the admission policies; the operator is retrying.";

/// The message of a condition, at most 256 characters.
#[must_use]
pub const fn message(type_: ConditionType, reason: Reason) -> &'static str {
    match reason {
        Reason::Pending => "The session has not been created yet; the request is queued.",
        Reason::CreatingSession => "A session is being created at the portal.",
        Reason::CreateOutcomeUnknown => create_outcome_unknown(type_),
        Reason::AwaitingUser => "The link is published; the person has not started.",
        Reason::InProgress => "The check is in progress.",
        Reason::InReview => "okID is reviewing the check manually; this can take days.",
        Reason::ProgressingWithRetry => "Requests to the portal are failing; the operator is retrying.",
        Reason::RateLimited => "The portal asked for a pause; the operator continues when it is over.",
        Reason::Suspended => "Suspended by spec.suspend; polling and deadlines are paused.",
        Reason::SessionCreated => "The link is published, which is all that spec.readyWhen requires.",
        Reason::Finished => "The check has finished; see the condition Verified for the verdict.",
        Reason::Verified => "The person is verified.",
        Reason::Rejected => "The person was rejected. To try again, create a new Verification.",
        Reason::Expired => "The session expired. To try again, create a new Verification.",
        Reason::Failed => "spec.activeDeadline passed without a verdict.",
        Reason::DeadlineExceeded => {
            "spec.activeDeadline passed without a verdict. To try again, create a new Verification."
        }
        Reason::SessionNotFound => {
            "The portal does not know the session. The operator keeps polling; to try again, create a new Verification."
        }
        Reason::PortalNotAllowed => {
            "The operator is not allowed to call this portal. Its administrator can allow it (--allowed-portal)."
        }
        Reason::PortalMisconfigured => {
            "The portal does not respond as an okID portal does. Check spec.portal, or contact the portal's administrator."
        }
        Reason::PortalRejectedRequest => Blocker::RequestRejected.message(),
        Reason::PortalUnreachable => Blocker::NoUsableAnswer.message(),
        Reason::DestinationNotAllowed => DESTINATION_NOT_ALLOWED,
        Reason::ResourceTooLarge => {
            "The resource is too large to record a session in its status. Remove labels, annotations and owner references that it does not need."
        }
        Reason::StatusUnreadable => {
            "The status contradicts itself, as after a manual edit, so the operator does nothing. Restore it, or create a new Verification."
        }
        Reason::Accepted => "The portal accepts the API key.",
        Reason::NotChecked => "The portal has not shown yet whether it accepts the API key.",
        Reason::SecretNotFound => Blocker::Key(KeyFault::SecretNotFound).message(),
        Reason::KeyMissing => Blocker::Key(KeyFault::KeyMissing).message(),
        Reason::KeyEmpty => Blocker::Key(KeyFault::KeyEmpty).message(),
        Reason::KeyMalformed => Blocker::Key(KeyFault::KeyMalformed).message(),
        Reason::SecretForbidden => Blocker::Key(KeyFault::SecretForbidden).message(),
        Reason::KeyRejected => Blocker::KeyRejected.message(),
        Reason::AccessDenied => Blocker::AccessDenied.message(),
        Reason::KeyRotated => Blocker::KeyRotated.message(),
        Reason::Created => "The portal created the session.",
        Reason::Adopted => "An existing session was adopted.",
        Reason::NotYet => "No session has been created yet.",
        Reason::Refused => "The portal refused to create the session.",
        Reason::OutcomeUnknown => "It is unknown whether the last create request created a session.",
        Reason::Running => "The check has not finished.",
        Reason::NotFinished => "No verdict yet.",
        Reason::StoringEvidence => "The check has finished; the evidence is being stored.",
        Reason::EvidenceFailed => EVIDENCE_FAILED,
        Reason::NotStarted => "Evidence is stored once the check has finished.",
        Reason::NotApplicable => {
            "spec.evidence.outcomes does not list the outcome of the check, so no evidence is stored."
        }
        Reason::Storing => "The evidence is being stored.",
        Reason::StoreUnavailable => STORE_UNAVAILABLE,
        Reason::StoreAccessDenied => STORE_ACCESS_DENIED,
        Reason::BucketNotFound => BUCKET_NOT_FOUND,
        Reason::StoreMisconfigured => STORE_MISCONFIGURED,
        Reason::StoreSecretNotFound => STORE_SECRET_NOT_FOUND,
        Reason::StoreSecretForbidden => STORE_SECRET_FORBIDDEN,
        Reason::StoreSecretInvalid => STORE_SECRET_INVALID,
        Reason::FinalizerDenied => FINALIZER_DENIED,
        Reason::PortalUnavailable => PORTAL_UNAVAILABLE,
        Reason::ImageNotAvailable => "The portal does not have a required image.",
        Reason::ImageUnusable => "The portal returned data in an unsupported format; it was not stored.",
        Reason::Conflict => "A different object exists under the same key; it was not overwritten.",
        Reason::Stored => "The evidence is stored.",
        Reason::NothingToStore => "The portal has none of the images that spec.evidence requests.",
        Reason::Scheduled => SCHEDULED,
        Reason::ManagedByGitOps => MANAGED_BY_GIT_OPS,
        Reason::DeletionForbidden => DELETION_FORBIDDEN,
    }
}

// The message below mentions three lost responses; it must agree with the retry budget.
const _: () = assert!(UNKNOWN_OUTCOME_BUDGET == 3);

const fn create_outcome_unknown(type_: ConditionType) -> &'static str {
    if matches!(type_, ConditionType::Stalled | ConditionType::Ready) {
        "The portal may hold a session that nobody uses. To continue, set the annotation okid.io/retry to a new value, or set spec.adopt to the session's id."
    } else {
        "The response to a create request was lost. The operator retries until three responses have been lost."
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_fits_its_bound_and_ends_as_a_sentence() {
        for type_ in ConditionType::ALL {
            for reason in Reason::ALL {
                let text = message(*type_, *reason);
                assert!(text.len() <= 256, "{reason:?} has {} characters", text.len());
                assert!(text.ends_with('.') || text.ends_with(')'), "{text}");
            }
        }
    }
}
