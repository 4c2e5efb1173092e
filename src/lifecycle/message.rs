//! The closed set of condition messages: each says what it means and what to do. No id, host, time or remote text; one alone
//! is not from the set, and names the option of a store that cannot be used. Pure.

use super::{blocker::Blocker, facts::KeyFault, state::LOST_ANSWERS};
use crate::api::{ConditionType, Reason};

/// Most characters of a message.
const MAX_CHARS: usize = 256;

/// The message of a condition that shows why evidence cannot be kept as asked.
pub(super) fn refused(refusal: &str) -> String {
    let message = format!("spec.evidence cannot be kept as asked: {refusal}.");
    let printable = message.chars().filter(|character| character.is_ascii() && !character.is_ascii_control());
    printable.take(MAX_CHARS).collect()
}

/// The message of a condition, at most 256 characters.
#[must_use]
pub const fn message(type_: ConditionType, reason: Reason) -> &'static str {
    match reason {
        Reason::Pending => "The session is not created yet; the request is waiting for its turn.",
        Reason::CreatingSession => "A session is being created at the portal.",
        Reason::CreateOutcomeUnknown => create_outcome_unknown(type_),
        Reason::AwaitingUser => "The link is published; the person has not begun.",
        Reason::InProgress => "The check is in progress.",
        Reason::InReview => "okID is reviewing the check manually; this can take days.",
        Reason::ProgressingWithRetry => "Requests to the portal are failing; the operator is retrying.",
        Reason::RateLimited => {
            "The portal asked for a pause; the operator waits for its end and then continues."
        }
        Reason::Suspended => "Suspended by spec.suspend; polling and deadlines are paused.",
        Reason::SessionCreated => "The link is published; spec.readyWhen asks for no more.",
        Reason::Finished => "The check is over; see the condition Verified for the verdict.",
        Reason::Verified => "The person is verified.",
        Reason::Rejected => "The person is rejected. To try again, create a new Verification.",
        Reason::Expired => "The session expired. To try again, create a new Verification.",
        Reason::Failed => "spec.activeDeadline passed without a verdict.",
        Reason::DeadlineExceeded => {
            "spec.activeDeadline passed without a verdict. To try again, create a new Verification."
        }
        Reason::SessionNotFound => {
            "The portal does not know the session. The operator keeps polling; to try again, create a new Verification."
        }
        Reason::PortalNotAllowed => {
            "The portal is not among those that the operator may ask. Its administrator can allow it (--allowed-portal)."
        }
        Reason::PortalMisconfigured => {
            "The portal does not answer as an okID portal does. Check spec.portal, or contact the portal's administrator."
        }
        Reason::PortalRejectedRequest => Blocker::RequestRejected.message(),
        Reason::PortalUnreachable => Blocker::NoUsableAnswer.message(),
        Reason::DestinationNotAllowed => {
            "The destination of the evidence may not be used. Check spec.evidence.destination and its Secret."
        }
        Reason::ResourceTooLarge => {
            "The resource is too large to hold the record of a session. Remove labels, annotations or owner references that it does not need."
        }
        Reason::StatusUnreadable => {
            "The status contradicts itself, as after an edit by hand, so nothing is done. Restore it, or create a new Verification."
        }
        Reason::Accepted => "The portal accepts the API key.",
        Reason::NotChecked => "No answer of the portal has shown yet whether it accepts the API key.",
        Reason::SecretNotFound => Blocker::Key(KeyFault::SecretNotFound).message(),
        Reason::KeyMissing => Blocker::Key(KeyFault::KeyMissing).message(),
        Reason::KeyEmpty => Blocker::Key(KeyFault::KeyEmpty).message(),
        Reason::KeyMalformed => Blocker::Key(KeyFault::KeyMalformed).message(),
        Reason::SecretForbidden => Blocker::Key(KeyFault::SecretForbidden).message(),
        Reason::KeyRejected => Blocker::KeyRejected.message(),
        Reason::AccessDenied => access_denied(type_),
        Reason::KeyRotated => Blocker::KeyRotated.message(),
        Reason::Created => "The portal created the session.",
        Reason::Adopted => "The session existed already and is followed.",
        Reason::NotYet => "No session was created yet.",
        Reason::Refused => "The portal refused to create the session.",
        Reason::OutcomeUnknown => "It is unknown whether the last create request created a session.",
        Reason::Running => "The check has not finished.",
        Reason::NotFinished => "No verdict yet.",
        Reason::StoringEvidence => "The verdict is in; what spec.evidence asks for is being stored.",
        Reason::EvidenceFailed => {
            "The verdict is in, and the evidence could not be stored; see EvidenceStored. Set the annotation okid.io/retry to a new value to try again."
        }
        Reason::NotStarted => "Evidence is stored once the verdict is in.",
        Reason::NotOwed => {
            "The verdict is none of those that spec.evidence.outcomes names, so nothing is stored."
        }
        Reason::Storing => "What spec.evidence asks for is being stored.",
        Reason::StoreUnavailable => {
            "The store, or the API server that has the store's Secret, says that it cannot now. It is tried again by itself."
        }
        Reason::BucketNotFound => {
            "The store has no such bucket, container or folder. Make it, or correct spec.evidence.destination; it is found by itself."
        }
        Reason::StoreMisconfigured => {
            "The store does not take the region, the encryption key or another option. Correct the options of spec.evidence.destination; it is tried again by itself."
        }
        Reason::PortalUnavailable => {
            "The portal does not give the images: it does not answer, or cannot be asked; see CredentialsReady for the API key."
        }
        Reason::ImageNotAvailable => "The portal does not have a required image.",
        Reason::ImageUnusable => {
            "The portal sent something that is no image, or is too large; it was not stored."
        }
        Reason::Conflict => "Something else is in the store under the same key; it was not overwritten.",
        Reason::Stored => "What spec.evidence asks for is in the store.",
        Reason::NothingToStore => "The portal has nothing of what spec.evidence asks for.",
    }
}

// The sentence below speaks of three lost answers; it must agree with the budget.
const _: () = assert!(LOST_ANSWERS == 3);

const fn create_outcome_unknown(type_: ConditionType) -> &'static str {
    if matches!(type_, ConditionType::Stalled | ConditionType::Ready) {
        "The portal may hold a session that nobody uses. To go on, set the annotation okid.io/retry to a new value, or spec.adopt to the session's id."
    } else {
        "The response to a create request was lost. The operator tries again, until three responses are lost."
    }
}

const fn access_denied(type_: ConditionType) -> &'static str {
    if matches!(type_, ConditionType::EvidenceStored) {
        "The store refuses the credentials, or the destination is not allowed. Check spec.evidence.destination, its Secret, and the operator's stores."
    } else {
        Blocker::AccessDenied.message()
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
