//! Invariants about what is recorded: what never goes back (law c), and the create protocol (law d).

use super::{
    Checked::{self, NotApplicable},
    Concluded, OfConcluded, holds, is_claim,
};
use crate::{
    api::{ConditionStatus, ConditionType, Outcome, Phase, SessionState, VerificationStatus},
    lifecycle::{
        conditions::whole_seconds,
        event::Event,
        evidence::EvidenceState,
        facts::PortalFact,
        state::{State, attempts},
        step::{CreateOutcome, StepOutcome, Transition},
    },
    portal::error::PortalError,
};

invariants! {
    OfConcluded;
    over_the_grid_and_the_state_space:
        the_counters_never_fall
        an_id_an_outcome_and_their_times_never_change
        the_phase_is_the_outcome_once_finished_and_storing_while_evidence_is_pending
        a_claim_counts_one_attempt_and_signs_it
        an_unknown_outcome_counts_one_orphan_and_is_reported
    ;
    only_over_the_grid:
        what_is_final_never_goes_back
}

fn the_counters_never_fall(case: &Concluded) -> Checked {
    let Some((status, _)) = &case.after else { return NotApplicable };
    let (before, after) = (case.before.session.as_ref(), status.session.as_ref());
    let count = |session: Option<&crate::api::Session>| {
        session.map_or((0, 0, 0), |session| (session.attempt, session.orphans, session.acknowledged))
    };
    let (old, new) = (count(before), count(after));
    let sound = matches!(case.state, State::Inconsistent(_)) || (new.2 <= new.1 && new.1 <= new.0);
    holds(new.0 >= old.0 && new.1 >= old.1 && new.2 >= old.2 && sound)
}

fn an_id_an_outcome_and_their_times_never_change(case: &Concluded) -> Checked {
    fn kept<T: PartialEq>(before: Option<&T>, after: Option<&T>) -> bool {
        before.is_none() || before == after
    }
    let Some((after, _)) = &case.after else { return NotApplicable };
    let before = case.before;
    let portal = |status: &VerificationStatus| status.session.as_ref().and_then(|s| s.portal.clone());
    holds(
        kept(before.verification_id.as_ref(), after.verification_id.as_ref())
            && kept(before.outcome.as_ref(), after.outcome.as_ref())
            && kept(before.finished_at.as_ref(), after.finished_at.as_ref())
            && (before.verification_id.is_none() || kept(portal(before).as_ref(), portal(after).as_ref()))
            && before.settled <= after.settled,
    )
}

fn what_is_final_never_goes_back(case: &Concluded) -> Checked {
    let Some((_, after)) = &case.after else { return NotApplicable };
    let before = case.shown_before;
    let final_before =
        |type_: ConditionType, not_final| before.0[type_ as usize].filter(|(status, _)| *status != not_final);
    let finished = final_before(ConditionType::Finished, ConditionStatus::False);
    let verified = final_before(ConditionType::Verified, ConditionStatus::Unknown);
    if finished.is_none() && verified.is_none() {
        return NotApplicable;
    }
    let same =
        |before: Option<_>, type_: ConditionType| before.is_none() || before == after.0[type_ as usize];
    holds(same(finished, ConditionType::Finished) && same(verified, ConditionType::Verified))
}

fn the_phase_is_the_outcome_once_finished_and_storing_while_evidence_is_pending(case: &Concluded) -> Checked {
    let Some((status, _)) = &case.after else { return NotApplicable };
    let Some(outcome) = status.outcome else {
        let end = [Phase::Storing, Phase::Verified, Phase::Rejected, Phase::Expired, Phase::Failed];
        let is_end = status.phase.is_some_and(|phase| end.contains(&phase));
        return if matches!(case.state, State::Inconsistent(_)) { NotApplicable } else { holds(!is_end) };
    };
    if matches!(case.state, State::Inconsistent(_)) {
        return holds(status.phase == case.before.phase);
    }
    let is_pending = case.evidence_after.as_ref().is_some_and(|after| after.state == EvidenceState::Pending);
    let phase = match outcome {
        _ if is_pending => Phase::Storing,
        Outcome::Verified => Phase::Verified,
        Outcome::Rejected => Phase::Rejected,
        Outcome::Expired => Phase::Expired,
        Outcome::Failed => Phase::Failed,
    };
    holds(status.phase == Some(phase))
}

fn a_claim_counts_one_attempt_and_signs_it(case: &Concluded) -> Checked {
    if !is_claim(case) {
        return NotApplicable;
    }
    let Some((status, _)) = &case.after else { return NotApplicable };
    let Some(session) = &status.session else { return Checked::Broken };
    let PortalFact::Allowed(portal) = &case.facts.portal else { return Checked::Broken };
    holds(
        attempts(status).attempt == attempts(case.before).attempt + 1
            && session.state == Some(SessionState::Claimed)
            && session.uid.as_ref() == Some(&case.facts.uid)
            && session.holder.as_ref() == Some(&case.facts.holder)
            && session.portal.as_deref() == Some(portal.as_str())
            && session.claimed_at == Some(whole_seconds(case.facts.now)),
    )
}

fn outcome_unknown_here(case: &Concluded) -> bool {
    case.transition() == Some(&Transition::AbandonUnknown)
        || matches!(
            case.outcome,
            Some(StepOutcome::Create(CreateOutcome::Answered(Err(PortalError::Failed(_)))))
        )
}

fn an_unknown_outcome_counts_one_orphan_and_is_reported(case: &Concluded) -> Checked {
    let Some((status, shown)) = &case.after else { return NotApplicable };
    let more = attempts(status).orphans - attempts(case.before).orphans;
    let reported =
        case.conclusion.events.iter().filter(|event| **event == Event::CreateOutcomeUnknown).count();
    if !outcome_unknown_here(case) {
        return holds(more == 0 && reported == 0);
    }
    let state = status.session.as_ref().and_then(|session| session.state);
    holds(
        more == 1
            && reported == 1
            && state == Some(SessionState::Unknown)
            && shown.is(ConditionType::SessionCreated, ConditionStatus::Unknown),
    )
}
