//! Invariants about what readers see (law a), its times and generations (law b), and its texts.

use std::time::Duration;

use super::{
    Checked::{self, NotApplicable},
    Concluded, OfConcluded, holds,
};
use crate::{
    api::{ConditionStatus, ConditionType, Outcome, ReadyWhen, Reason},
    lifecycle::{
        blocker::Blocker,
        conclude::conclude,
        conditions::whole_seconds,
        event::Event,
        evidence::EvidenceState,
        evidence_error::EvidenceError,
        facts::Facts,
        message::{message, refused},
        since::later,
        state::{ParsedStatus, State},
        step::Transition,
        tests::cause::REFUSAL,
    },
};

invariants! {
    OfConcluded;
    over_the_grid_and_the_state_space:
        reconciling_and_stalled_are_never_shown_together
        neither_is_shown_beside_ready_true
        reconciling_and_stalled_are_never_written_as_false
        every_condition_is_one_of_the_closed_table
        ready_means_verified_unless_the_spec_says_otherwise
        a_published_link_is_ready_where_the_spec_asks_for_no_more
        every_write_stamps_the_generation_on_the_status_and_on_each_condition
        every_write_echoes_the_annotation
        a_condition_keeps_its_time_until_its_status_flips
        messages_are_those_of_the_closed_set
    ;
    only_over_the_grid:
        a_step_without_effect_writes_nothing_the_second_time
}

fn reconciling_and_stalled_are_never_shown_together(case: &Concluded) -> Checked {
    let Some((_, shown)) = &case.after else { return NotApplicable };
    let both = [ConditionType::Reconciling, ConditionType::Stalled];
    holds(!both.iter().all(|type_| shown.reason(*type_).is_some()))
}

fn neither_is_shown_beside_ready_true(case: &Concluded) -> Checked {
    let Some((_, shown)) = &case.after else { return NotApplicable };
    if !shown.is(ConditionType::Ready, ConditionStatus::True) {
        return NotApplicable;
    }
    holds(
        shown.reason(ConditionType::Reconciling).is_none() && shown.reason(ConditionType::Stalled).is_none(),
    )
}

fn reconciling_and_stalled_are_never_written_as_false(case: &Concluded) -> Checked {
    let Some((_, shown)) = &case.after else { return NotApplicable };
    let is_true_if_shown = |type_| shown.reason(type_).is_none() || shown.is(type_, ConditionStatus::True);
    holds(is_true_if_shown(ConditionType::Reconciling) && is_true_if_shown(ConditionType::Stalled))
}

const NOT_READY: &[Reason] = &[
    Reason::Pending,
    Reason::CreatingSession,
    Reason::SecretNotFound,
    Reason::KeyMissing,
    Reason::KeyEmpty,
    Reason::KeyMalformed,
    Reason::SecretForbidden,
    Reason::KeyRejected,
    Reason::AccessDenied,
    Reason::KeyRotated,
    Reason::PortalNotAllowed,
    Reason::PortalRejectedRequest,
    Reason::PortalMisconfigured,
    Reason::PortalUnreachable,
    Reason::RateLimited,
    Reason::DestinationNotAllowed,
    Reason::CreateOutcomeUnknown,
    Reason::StatusUnreadable,
    Reason::AwaitingUser,
    Reason::InProgress,
    Reason::InReview,
    Reason::ProgressingWithRetry,
    Reason::Rejected,
    Reason::Expired,
    Reason::SessionNotFound,
    Reason::ResourceTooLarge,
    Reason::Failed,
    Reason::Suspended,
    Reason::StoringEvidence,
    Reason::EvidenceFailed,
];

const RECONCILING: &[Reason] = &[
    Reason::Pending,
    Reason::CreatingSession,
    Reason::CreateOutcomeUnknown,
    Reason::SecretNotFound,
    Reason::KeyMissing,
    Reason::KeyEmpty,
    Reason::KeyMalformed,
    Reason::SecretForbidden,
    Reason::KeyRejected,
    Reason::AccessDenied,
    Reason::KeyRotated,
    Reason::PortalRejectedRequest,
    Reason::PortalMisconfigured,
    Reason::PortalUnreachable,
    Reason::AwaitingUser,
    Reason::InProgress,
    Reason::InReview,
    Reason::ProgressingWithRetry,
    Reason::RateLimited,
    Reason::StoringEvidence,
];

/// The table of conditions that readers are promised.
const fn table(type_: ConditionType, status: ConditionStatus) -> &'static [Reason] {
    use ConditionStatus::{False, True, Unknown};
    use Reason as R;
    match (type_, status) {
        (ConditionType::Ready, True) => &[R::Verified, R::SessionCreated, R::Finished],
        (ConditionType::Ready, False) => NOT_READY,
        (ConditionType::Reconciling, True) => RECONCILING,
        (ConditionType::Stalled, True) => &[
            R::Rejected,
            R::Expired,
            R::KeyRejected,
            R::AccessDenied,
            R::KeyRotated,
            R::PortalNotAllowed,
            R::PortalMisconfigured,
            R::PortalRejectedRequest,
            R::DestinationNotAllowed,
            R::CreateOutcomeUnknown,
            R::SessionNotFound,
            R::DeadlineExceeded,
            R::ResourceTooLarge,
            R::StatusUnreadable,
            R::EvidenceFailed,
        ],
        (ConditionType::CredentialsReady, True) => &[R::Accepted],
        (ConditionType::CredentialsReady, Unknown) => &[R::NotChecked],
        (ConditionType::CredentialsReady, False) => &[
            R::SecretNotFound,
            R::KeyMissing,
            R::KeyEmpty,
            R::KeyMalformed,
            R::SecretForbidden,
            R::KeyRejected,
            R::AccessDenied,
            R::KeyRotated,
        ],
        (ConditionType::SessionCreated, True) => &[R::Created, R::Adopted],
        (ConditionType::SessionCreated, False) => &[R::NotYet, R::Refused],
        (ConditionType::SessionCreated, Unknown) => &[R::OutcomeUnknown],
        (ConditionType::Finished, False) => &[R::Running],
        (ConditionType::Finished, True) => &[R::Verified, R::Rejected, R::Expired, R::Failed],
        (ConditionType::Verified, Unknown) => &[R::NotFinished],
        (ConditionType::Verified, True) => &[R::Verified],
        (ConditionType::Verified, False) => &[R::Rejected, R::Expired, R::Failed],
        (ConditionType::EvidenceStored, status) => of_evidence(status),
        (ConditionType::CleanupReady, True) => &[R::Scheduled],
        (ConditionType::CleanupReady, False) => &[R::ManagedByGitOps, R::DeletionForbidden],
        (ConditionType::Ready | ConditionType::Finished | ConditionType::CleanupReady, Unknown)
        | (ConditionType::Reconciling | ConditionType::Stalled, False | Unknown) => &[],
    }
}

/// The reasons of `EvidenceStored`.
const fn of_evidence(status: ConditionStatus) -> &'static [Reason] {
    use ConditionStatus::{False, True, Unknown};
    use Reason as R;
    match status {
        Unknown => &[R::NotStarted, R::NotApplicable],
        False => &[
            R::Storing,
            R::StoreUnavailable,
            R::BucketNotFound,
            R::StoreMisconfigured,
            R::StoreAccessDenied,
            R::StoreSecretNotFound,
            R::StoreSecretForbidden,
            R::StoreSecretInvalid,
            R::DestinationNotAllowed,
            R::FinalizerDenied,
            R::PortalUnavailable,
            R::ImageNotAvailable,
            R::ImageUnusable,
            R::Conflict,
        ],
        True => &[R::Stored, R::NothingToStore],
    }
}

fn every_condition_is_one_of_the_closed_table(case: &Concluded) -> Checked {
    let Some((_, shown)) = &case.after else { return NotApplicable };
    let asks_for_evidence = case.facts.evidence.spec.is_some();
    let always_there = ConditionType::ALL.iter().all(|type_| match type_ {
        ConditionType::Reconciling | ConditionType::Stalled => true,
        ConditionType::EvidenceStored => shown.reason(*type_).is_some() == asks_for_evidence,
        ConditionType::CleanupReady => shown.reason(*type_).is_some() == case.facts.cleanup.is_some(),
        ConditionType::Ready
        | ConditionType::CredentialsReady
        | ConditionType::SessionCreated
        | ConditionType::Finished
        | ConditionType::Verified => shown.reason(*type_).is_some(),
    });
    let in_table = ConditionType::ALL.iter().all(|type_| {
        shown.0[*type_ as usize].is_none_or(|(status, reason)| table(*type_, status).contains(&reason))
    });
    holds(always_there && in_table)
}

fn ready_means_verified_unless_the_spec_says_otherwise(case: &Concluded) -> Checked {
    let Some((status, shown)) = &case.after else { return NotApplicable };
    if case.facts.ready_when == ReadyWhen::SessionCreated || matches!(case.state, State::Inconsistent(_)) {
        return NotApplicable;
    }
    let ready = shown.is(ConditionType::Ready, ConditionStatus::True);
    let lacks_evidence = case
        .evidence_after
        .as_ref()
        .is_some_and(|after| matches!(after.state, EvidenceState::Pending | EvidenceState::Failed));
    holds(ready == (status.outcome == Some(Outcome::Verified) && !lacks_evidence))
}

fn a_published_link_is_ready_where_the_spec_asks_for_no_more(case: &Concluded) -> Checked {
    let Some((status, shown)) = &case.after else { return NotApplicable };
    if case.facts.ready_when == ReadyWhen::Verified || status.verification_id.is_none() {
        return NotApplicable;
    }
    let spoiled = matches!(
        shown.reason(ConditionType::Stalled),
        Some(
            Reason::SessionNotFound
                | Reason::PortalNotAllowed
                | Reason::StatusUnreadable
                | Reason::DeadlineExceeded
                | Reason::EvidenceFailed
        )
    );
    let plain = shown.reason(ConditionType::Reconciling).is_none()
        && shown.reason(ConditionType::Stalled).is_none()
        && matches!(shown.reason(ConditionType::Ready), Some(Reason::SessionCreated | Reason::Finished));
    holds(spoiled || plain)
}

fn every_write_stamps_the_generation_on_the_status_and_on_each_condition(case: &Concluded) -> Checked {
    let Some((status, _)) = &case.after else { return NotApplicable };
    let generation = case.facts.generation;
    holds(
        status.observed_generation == Some(generation)
            && status.conditions.iter().all(|condition| condition.observed_generation == generation),
    )
}

fn every_write_echoes_the_annotation(case: &Concluded) -> Checked {
    match (&case.after, &case.facts.reconcile_requested) {
        (Some((status, _)), Some(requested)) => {
            holds(status.last_handled_reconcile_at.as_ref() == Some(requested))
        }
        (Some((status, _)), None) => {
            holds(status.last_handled_reconcile_at == case.before.last_handled_reconcile_at)
        }
        (None, _) => NotApplicable,
    }
}

fn a_condition_keeps_its_time_until_its_status_flips(case: &Concluded) -> Checked {
    let Some((status, _)) = &case.after else { return NotApplicable };
    let now = whole_seconds(case.facts.now);
    holds(status.conditions.iter().all(|condition| {
        case.before
            .conditions
            .iter()
            .find(|before| before.type_ == condition.type_ && before.status == condition.status)
            .map_or(condition.last_transition_time == now, |before| {
                condition.last_transition_time == before.last_transition_time
            })
    }))
}

fn a_step_without_effect_writes_nothing_the_second_time(case: &Concluded) -> Checked {
    let Some((status, _)) = &case.after else { return NotApplicable };
    let Some(outcome) = case.outcome else { return NotApplicable };
    if case.wait().is_none() && !matches!(case.transition(), Some(Transition::Show(_))) {
        return NotApplicable;
    }
    let again = Facts {
        now: later(case.facts.now, Duration::from_secs(1)),
        local_state: case.conclusion.local_state.clone(),
        ..case.facts.clone()
    };
    let second = conclude(&ParsedStatus::of(&case.facts.uid, status), outcome, &again);
    if second.waits_for != case.conclusion.waits_for {
        // By then the refusal of a call ends it.
        return NotApplicable;
    }
    holds(second.status.as_ref() == Some(status) && second.events.is_empty())
}

fn messages_are_those_of_the_closed_set(case: &Concluded) -> Checked {
    let Some((status, _)) = &case.after else { return NotApplicable };
    holds(status.conditions.iter().all(|condition| {
        let words = (ConditionType::from_word(&condition.type_), Reason::from_word(&condition.reason));
        let (Some(type_), Some(reason)) = words else { return false };
        let said = &*condition.message;
        let is_of_a_blocker =
            || Blocker::ALL.iter().any(|blocker| blocker.reason() == reason && blocker.message() == said);
        // What is wrong with a destination replaces the message of the set.
        let is_refusal = || {
            matches!(type_, ConditionType::Stalled | ConditionType::Ready)
                && reason == Reason::DestinationNotAllowed
                && said == refused(REFUSAL)
        };
        let is_cause = || {
            let errors = EvidenceError::ALL.iter().chain(&EvidenceError::OTHER_CAUSES);
            type_ == ConditionType::EvidenceStored
                && errors.copied().any(|error| error.reason() == reason && error.cause() == Some(said))
        };
        said == message(type_, reason) || is_of_a_blocker() || is_refusal() || is_cause()
    }))
}

#[test]
fn no_message_holds_an_id_a_host_a_link_or_a_time() {
    for type_ in ConditionType::ALL {
        for reason in Reason::ALL {
            let text = message(*type_, *reason);
            assert!(text.chars().count() <= 256, "{text}");
            for secret in ["://", "ver_", "verification_id", "verify.test", "okid.io.", "00:"] {
                assert!(!text.contains(secret), "{text}");
            }
            // `spec.adopt`, `okid.io/retry` and three-digit status codes are neither hosts nor times.
            let text = text.replace("v2dashboard", "");
            let digits = text.chars().filter(char::is_ascii_digit).collect::<String>();
            assert!(["", "401", "403"].contains(&digits.as_str()), "{text}");
        }
    }
    for event in Event::all() {
        let note = event.note().replace("v2dashboard", "");
        let digits = note.chars().filter(char::is_ascii_digit).collect::<String>();
        assert!(
            !note.contains("://") && ["", "401", "403", "404", "409"].contains(&digits.as_str()),
            "{note}"
        );
    }
}
