//! `docs/reference/conditions.md`: condition types, reasons and events, with what they mean and what to do. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::Result;
use okid_operator::api::{ConditionType, Reason};
use okid_operator::lifecycle::{Blocker, Event, message};

use super::{GENERATED, cell, code};

/// The page.
pub(crate) fn page() -> Result<String> {
    let mut page = format!("{GENERATED}\n\n# Conditions, reasons and events\n\n");
    writeln!(
        page,
        "`kubectl describe verification NAME` shows the conditions and events of a Verification. Each reason has one meaning and \
         one section here. Once its cause is gone, a condition clears automatically unless its section says otherwise."
    )?;
    writeln!(page, "\n## Condition types\n\n| type | meaning |\n|---|---|")?;
    for type_ in ConditionType::ALL {
        writeln!(page, "| {} | {} |", code(type_.as_str()), cell(type_.description()))?;
    }
    writeln!(page, "\n## Reasons")?;
    for reason in Reason::ALL {
        write_reason(&mut page, *reason)?;
    }
    writeln!(page, "\n## Events\n\n| reason | type | messages |\n|---|---|---|")?;
    let mut events: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for event in Event::all() {
        let type_ = if event.warns() { "Warning" } else { "Normal" };
        events.entry((event.reason(), type_)).or_default().insert(event.note());
    }
    for ((reason, type_), notes) in events {
        let notes: Vec<_> = notes.into_iter().map(cell).collect();
        writeln!(page, "| {} | {type_} | {} |", code(reason), notes.join("<br>"))?;
    }
    Ok(page)
}

fn write_reason(page: &mut String, reason: Reason) -> Result<()> {
    writeln!(page, "\n### {}\n\n{}", reason.as_str(), reason.description())?;
    let of_types = ConditionType::ALL.iter().map(|type_| message(*type_, reason));
    let of_blockers = Blocker::ALL.into_iter().filter(|blocker| blocker.reason() == reason);
    let messages: BTreeSet<_> = of_types.chain(of_blockers.map(Blocker::message)).collect();
    for message in messages {
        writeln!(page, "\n> {message}")?;
    }
    writeln!(page, "\nWhat to do: {}", advice(reason))?;
    Ok(())
}

const WAIT: &str = "nothing. The operator continues automatically.";
const NOTHING: &str = "nothing.";
const TRY_AGAIN: &str = "to try again, create a new Verification.";
const SECRET: &str =
    "create or update the Secret that `spec.apiKeySecretRef` names. A new value is picked up automatically.";
const STORE_SECRET: &str =
    "create the Secret that `spec.evidence.destination` names. It is picked up automatically.";
const OUTCOME_UNKNOWN: &str = "nothing while the operator retries. If the condition Stalled is True, look for a session without a \
     Verification in the v2dashboard. Then set `spec.adopt` to its id, or set the annotation `okid.io/retry` \
     to a new value to create another one.";
const UNREACHABLE: &str = "check that the portal is reachable from the operator's Pod: DNS, network policies, proxies, \
     certificates. `okid_portal_requests_total` counts the errors by kind.";
const NOT_FOUND: &str = "check that `spec.portal` is right and that the session was not deleted at okID. To try again, create a \
     new Verification.";
const ROTATED: &str = "put the earlier key into the Secret, as the entry that `spec.apiKeySecretRef.previousKey` names, until the \
     checks that it created have finished: a key reads only its own sessions.";
const EVIDENCE_FAILED: &str = "see the reason of the condition EvidenceStored. Once the cause is gone, set the annotation \
     `okid.io/retry` to a new value.";
const FINALIZER_DENIED: &str = "grant the operator's ServiceAccount the verb `patch` on `verifications`, and check which admission \
     webhook refuses the finalizer.";
const CONFLICT: &str = "move the object that is in the way, and set the annotation `okid.io/retry` to a new value. The operator \
     never overwrites an object.";
const REJECTED_KEY: &str = "check in the v2dashboard that the API key is active, and that the Secret holds it. A new value is picked \
     up automatically.";

const DELETION_FORBIDDEN: &str = "grant the operator's ServiceAccount the verb `delete` on `verifications` (the chart's value \
     `rbac.ttlAfterFinished`), and check which admission policy refuses the deletion.";

/// What a person can do about a reason.
fn advice(reason: Reason) -> &'static str {
    match reason {
        Reason::Pending
        | Reason::CreatingSession
        | Reason::InProgress
        | Reason::InReview
        | Reason::RateLimited
        | Reason::NotChecked
        | Reason::NotYet
        | Reason::Running
        | Reason::NotFinished
        | Reason::StoringEvidence
        | Reason::NotStarted
        | Reason::Storing
        | Reason::Scheduled => WAIT,
        Reason::AwaitingUser | Reason::SessionCreated => "send the link in `status.portalUrl` to the person.",
        Reason::Finished
        | Reason::Verified
        | Reason::Accepted
        | Reason::Created
        | Reason::Adopted
        | Reason::NotApplicable
        | Reason::Stored
        | Reason::NothingToStore => NOTHING,
        Reason::Rejected | Reason::Expired | Reason::Failed | Reason::DeadlineExceeded => TRY_AGAIN,
        Reason::Suspended => "set `spec.suspend` to false to continue.",
        Reason::CreateOutcomeUnknown | Reason::OutcomeUnknown => OUTCOME_UNKNOWN,
        Reason::ProgressingWithRetry | Reason::PortalUnreachable => UNREACHABLE,
        Reason::SessionNotFound => NOT_FOUND,
        Reason::PortalNotAllowed => {
            "use another portal in a new Verification, or ask the operator's administrator to add it with `--allowed-portal`."
        }
        Reason::PortalMisconfigured => {
            "check that `spec.portal` is the base URL of an okID portal, and contact its administrator."
        }
        Reason::PortalRejectedRequest | Reason::Refused => {
            "check the configuration of the API key in the v2dashboard."
        }
        Reason::DestinationNotAllowed => {
            "correct `spec.evidence`, or ask the operator's administrator to allow the endpoint, the store or the kind of image."
        }
        Reason::ResourceTooLarge => "remove unneeded labels, annotations and owner references.",
        Reason::StatusUnreadable => "restore the status from a backup, or create a new Verification.",
        Reason::SecretNotFound | Reason::KeyMissing | Reason::KeyEmpty | Reason::KeyMalformed => SECRET,
        Reason::SecretForbidden | Reason::StoreSecretForbidden => {
            "grant the operator's ServiceAccount the verb `get` on `secrets` in this namespace."
        }
        Reason::KeyRejected => REJECTED_KEY,
        Reason::AccessDenied => "check in the v2dashboard what the API key may do, or use another key.",
        Reason::KeyRotated => ROTATED,
        Reason::EvidenceFailed => EVIDENCE_FAILED,
        Reason::StoreUnavailable => "check the store if this lasts. The operator is retrying.",
        Reason::StoreAccessDenied => {
            "grant the credentials the permissions that the page on operating evidence lists. The operator is retrying."
        }
        Reason::BucketNotFound => {
            "create the bucket, container or folder, or correct `spec.evidence.destination`."
        }
        Reason::StoreMisconfigured => {
            "correct the options that the message names: region, encryption, endpoint. The store must support conditional writes."
        }
        Reason::StoreSecretNotFound => STORE_SECRET,
        Reason::StoreSecretInvalid => {
            "correct the Secret that `spec.evidence.destination` names, and set the annotation `okid.io/retry` to a new value."
        }
        Reason::FinalizerDenied => FINALIZER_DENIED,
        Reason::PortalUnavailable => {
            "check the conditions CredentialsReady and Ready for the cause. The operator is retrying."
        }
        Reason::ImageNotAvailable => {
            "correct `spec.evidence.images`: request images that the check produces, or do not mark them as required."
        }
        Reason::ImageUnusable => {
            "contact the portal's administrator: the portal must return JPEG, PNG, WebP, HEIC or PDF files."
        }
        Reason::Conflict => CONFLICT,
        Reason::ManagedByGitOps => {
            "delete the resource from its source, or set the annotation `okid.io/ttl-in-gitops` to `allow`."
        }
        Reason::DeletionForbidden => DELETION_FORBIDDEN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_reason_and_event_is_on_the_page_once() {
        let page = page().unwrap();
        for reason in Reason::ALL {
            let heading = format!("\n### {}\n\n{}\n\n> ", reason.as_str(), reason.description());
            assert_eq!(page.matches(&heading).count(), 1, "{heading}");
        }
        for type_ in ConditionType::ALL {
            assert!(page.contains(&format!("| `{}` | {} |", type_.as_str(), cell(type_.description()))));
        }
        for event in Event::all() {
            assert!(
                page.contains(&format!("\n| `{}` |", event.reason())) && page.contains(&cell(event.note()))
            );
        }
    }
}
