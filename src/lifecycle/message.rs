//! The closed set of condition messages: each says what it means and what to do. No id, host, time or remote text; one alone
//! is not from the set, and names the option of a store that cannot be used. Pure.

use super::past::LOST_ANSWERS;
use crate::api::{ConditionType, Reason};

/// Most characters of a message.
const MAX_CHARS: usize = 256;

/// The message of a condition that shows why evidence cannot be kept as asked.
pub(super) fn refused(refusal: &str) -> String {
    let message = format!("spec.images cannot be kept as asked: {refusal}.");
    let printable = message.chars().filter(|character| character.is_ascii() && !character.is_ascii_control());
    printable.take(MAX_CHARS).collect()
}

/// The message of a condition, at most 256 characters.
#[must_use]
pub const fn message(type_: ConditionType, reason: Reason) -> &'static str {
    match reason {
        Reason::Pending => {
            "Waiting to create the session; see CredentialsReady and Stalled for what is missing."
        }
        Reason::CreatingSession => "A session is being created at the portal.",
        Reason::CreateOutcomeUnknown => create_outcome_unknown(type_),
        Reason::AwaitingUser => "The link is published; the person has not begun.",
        Reason::InProgress => "The person or the portal is at work on the check.",
        Reason::InReview => "People at okID review the check; this can take days.",
        Reason::ProgressingWithRetry => "Requests to the portal are failing; the operator is retrying.",
        Reason::RateLimited => {
            "The portal asked for a pause; the operator keeps to it and goes on by itself."
        }
        Reason::Suspended => "spec.suspend is true: nothing is asked and nothing ends until it is false.",
        Reason::SessionCreated => "The link is published; spec.readyWhen asks for no more.",
        Reason::Finished => "The check is over; see the condition Verified for the verdict.",
        Reason::Verified => "The person is verified.",
        Reason::Rejected => "The person is rejected. For another try create a new Verification.",
        Reason::Expired => "The session expired. For another try create a new Verification.",
        Reason::Failed => "spec.activeDeadline passed without a verdict.",
        Reason::DeadlineExceeded => {
            "spec.activeDeadline passed without a verdict. For another try create a new Verification."
        }
        Reason::SessionNotFound => {
            "The portal does not know the session. It is asked again each hour; for another try create a new Verification."
        }
        Reason::PortalNotAllowed => {
            "The portal is not among those that the operator may ask. Its administrator can allow it (--allowed-portal)."
        }
        Reason::PortalMisconfigured => {
            "The portal does not answer as an okID portal that is set up. Check spec.portal, and the portal's own configuration."
        }
        Reason::InvalidSpec => {
            "The portal refuses the request as invalid (check the API key's configuration at okID), or spec.images.destination may not be used here."
        }
        Reason::ResourceTooLarge => {
            "The resource is too large to hold the record of a session. Remove labels, annotations or owner references that it does not need."
        }
        Reason::StatusUnreadable => {
            "The status contradicts itself, as after an edit by hand, so nothing is done. Restore it, or create a new Verification."
        }
        Reason::Accepted => "The portal accepts the API key.",
        Reason::NotChecked => "The API key was not used yet.",
        Reason::SecretNotFound => {
            "The Secret named by spec.apiKeySecretRef does not exist in this namespace. Create it; it is found by itself."
        }
        Reason::KeyMissing => "The Secret has no such key. Add it, or change spec.apiKeySecretRef.key.",
        Reason::KeyEmpty => "The API key in the Secret is empty.",
        Reason::KeyMalformed => {
            "The value in the Secret cannot be an API key: it has spaces, line breaks or characters that are not printable ASCII, or is too long."
        }
        Reason::SecretForbidden => {
            "The operator may not read the Secret. Grant it `get` on secrets in this namespace."
        }
        Reason::KeyRejected => key_rejected(type_),
        Reason::AccessDenied => access_denied(type_),
        Reason::KeyRotated => {
            "The portal denies access (403), and the API key is another one than the session was created with. A key reads only its own sessions."
        }
        Reason::Created => "The portal created the session.",
        Reason::Adopted => "The session existed already and is followed.",
        Reason::NotYet => "No session was created yet.",
        Reason::Refused => "The portal refused to create the session.",
        Reason::OutcomeUnknown => "Nobody knows whether the last create made a session.",
        Reason::Running => "Not over yet.",
        Reason::NotFinished => "Not over yet, so there is no verdict.",
        Reason::StoringEvidence => "The verdict is in; what spec.images asks for is being stored.",
        Reason::EvidenceFailed => {
            "The verdict is in, and the evidence could not be stored; see EvidenceStored. Set the annotation okid.io/retry to a new value to try again."
        }
        Reason::NotStarted => "Evidence is stored once the verdict is in.",
        Reason::NotOwed => "The verdict is none of those that spec.images.on names, so nothing is stored.",
        Reason::Storing => "What spec.images asks for is being stored.",
        Reason::StoreUnavailable => {
            "The store does not answer, or the bucket, region, encryption key or folder is wrong. Check spec.images.destination and its options; it is tried again by itself."
        }
        Reason::PortalUnavailable => {
            "The portal does not give the images: it does not answer, or cannot be asked; see CredentialsReady for the API key."
        }
        Reason::ImageNotAvailable => "The portal does not have a required image.",
        Reason::ImageUnusable => {
            "The portal sent something that is no image, or is too large; it was not stored."
        }
        Reason::Conflict => "Something else is in the store under the same key; it was not overwritten.",
        Reason::Stored => "What spec.images asks for is in the store.",
        Reason::NothingToStore => "The portal has nothing of what spec.images asks for.",
    }
}

// The sentence below speaks of three lost answers; it must agree with the budget.
const _: () = assert!(LOST_ANSWERS == 3);

const fn create_outcome_unknown(type_: ConditionType) -> &'static str {
    if matches!(type_, ConditionType::Stalled) {
        "The portal may hold a session that nobody uses. To go on, set the annotation okid.io/retry to a new value, or spec.adopt to the session's id."
    } else {
        "The answer to a create was lost; it is tried again within a budget of three lost answers."
    }
}

const fn key_rejected(type_: ConditionType) -> &'static str {
    if matches!(type_, ConditionType::Stalled) {
        "The portal refuses the API key. Put a valid one into the Secret; it is found by itself."
    } else {
        "The portal says that the API key is not valid (401)."
    }
}

const fn access_denied(type_: ConditionType) -> &'static str {
    if matches!(type_, ConditionType::EvidenceStored) {
        "The store refuses the credentials, or the destination is not allowed. Check spec.images.destination, its Secret, and the operator's stores."
    } else {
        "The portal denies access with this API key (403)."
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
