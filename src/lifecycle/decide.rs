//! The first table: past and facts → exactly one step. The first row that matches decides.

use crate::{api::OnUnknownOutcome, portal::verification_id::VerificationId};

use super::{
    evidence::{DestinationFact, EvidenceStanding, let_go, storing_is_over},
    facts::{Deadline, Due, Facts, Gate, KeyFact, PortalFact, Quiet},
    past::{Ledger, Past},
    step::{LetGo, Shown, Step, Wait},
};

/// Decides what to do next.
#[must_use]
pub fn decide(past: &Past, ledger: Ledger, facts: &Facts) -> Step {
    if facts.deleting {
        return if facts.evidence.has_finalizer {
            Step::RemoveEvidence { let_go: let_go(facts) }
        } else {
            Step::Forget
        };
    }
    match past {
        Past::Settled => Step::Rest,
        Past::Unreadable(_) => Step::Show(Shown::StatusUnreadable),
        Past::Over(_) => decide_over(facts),
        Past::Fresh | Past::Claimed | Past::Refused | Past::Lost | Past::Open { .. } => {
            decide_live(past, ledger, facts)
        }
    }
}

fn decide_live(past: &Past, ledger: Ledger, facts: &Facts) -> Step {
    if let Some(known) = facts.known.as_ref().filter(|_| !matches!(past, Past::Open { .. })) {
        return Step::Restore(known.clone());
    }
    if facts.suspend {
        return Step::Show(Shown::Suspended);
    }
    if let Some(token) = &facts.retry {
        return Step::Grant(token.clone());
    }
    match past {
        Past::Open { id, phase: _ } => decide_open(id, facts),
        Past::Claimed => decide_claimed(facts),
        Past::Fresh | Past::Refused | Past::Lost => decide_without_session(past, ledger, facts),
        Past::Over(_) | Past::Settled | Past::Unreadable(_) => Step::Rest,
    }
}

fn decide_over(facts: &Facts) -> Step {
    let evidence = &facts.evidence;
    if !evidence.keeps_it_live() {
        return Step::Settle;
    }
    if facts.suspend {
        return Step::Show(Shown::Over);
    }
    if let Some(token) = &facts.retry {
        return Step::Grant(token.clone());
    }
    if evidence.is_held_for_nothing() {
        return Step::RemoveEvidence { let_go: LetGo::OnceRemoved };
    }
    if evidence.standing != EvidenceStanding::Owed {
        return if evidence.lacks_finalizer() { Step::AddFinalizer } else { Step::Show(Shown::Over) };
    }
    let wait = wait_before_call(facts);
    if storing_is_over(facts) && !goes_on_by_itself(wait, facts) {
        return Step::GiveUpEvidence;
    }
    if matches!(facts.portal, PortalFact::NotAllowed) {
        return Step::Show(Shown::PortalNotAllowed);
    }
    if evidence.lacks_finalizer() {
        return Step::AddFinalizer;
    }
    wait.map_or(Step::Store, Step::Wait)
}

/// Whether storing meets no trouble, as far as is known, and only its turn is waited for.
const fn goes_on_by_itself(wait: Option<Wait>, facts: &Facts) -> bool {
    let is_prevented = match wait {
        None | Some(Wait::Due(_) | Wait::Rate(_)) => matches!(facts.portal, PortalFact::NotAllowed),
        Some(Wait::Key(_) | Wait::KeyRejected(_) | Wait::Paused(_) | Wait::Breaker(_) | Wait::Quiet(_)) => {
            true
        }
    };
    !is_prevented && facts.streaks.storing.is_none()
}

fn decide_claimed(facts: &Facts) -> Step {
    if let Quiet::No(until) = facts.quiet
        && passed(facts)
    {
        return Step::Wait(Wait::Quiet(until));
    }
    if passed(facts) {
        return Step::End;
    }
    if matches!(facts.portal, PortalFact::NotAllowed) {
        return Step::Show(Shown::PortalNotAllowed);
    }
    if let Some(id) = &facts.adopt {
        return decide_adoption(id, facts);
    }
    match facts.quiet {
        Quiet::No(until) => Step::Wait(Wait::Quiet(until)),
        Quiet::NeverSent => Step::GiveUpRefused,
        Quiet::Yes => Step::GiveUpLost,
    }
}

fn decide_without_session(past: &Past, ledger: Ledger, facts: &Facts) -> Step {
    if passed(facts) {
        return Step::End;
    }
    if matches!(facts.portal, PortalFact::NotAllowed) {
        return Step::Show(Shown::PortalNotAllowed);
    }
    if matches!(facts.evidence.destination, DestinationFact::Refused(_)) {
        return Step::Show(Shown::DestinationRefused);
    }
    if facts.too_large {
        return Step::Show(Shown::ResourceTooLarge);
    }
    if let Some(id) = &facts.adopt {
        return decide_adoption(id, facts);
    }
    if matches!(past, Past::Lost) && asks_a_person(ledger, facts.on_unknown) {
        return Step::Show(Shown::CreateOutcomeUnknown);
    }
    if let Some(wait) = wait_before_call(facts) {
        return Step::Wait(wait);
    }
    Step::Create { attempt: ledger.attempt.saturating_add(1) }
}

fn decide_adoption(id: &VerificationId, facts: &Facts) -> Step {
    wait_before_call(facts).map_or_else(|| Step::Adopt(id.clone()), Step::Wait)
}

fn decide_open(id: &VerificationId, facts: &Facts) -> Step {
    let may_look = matches!(facts.portal, PortalFact::Allowed(_))
        && matches!(facts.key, KeyFact::Usable { .. })
        && matches!(facts.gate, Gate::Open);
    if let Deadline::Passed { at: _, looked, overdue, long_ago } = facts.deadline {
        if looked || overdue {
            return Step::End;
        }
        // A verdict from before the deadline counts, however late it is asked for.
        if may_look {
            let held = facts.held_until();
            return held.map_or_else(|| Step::Look(id.clone()), |until| Step::Wait(Wait::Due(until)));
        }
        if long_ago {
            return Step::End;
        }
    }
    if matches!(facts.portal, PortalFact::NotAllowed) {
        return Step::Show(Shown::PortalNotAllowed);
    }
    wait_before_call(facts).map_or_else(|| Step::Look(id.clone()), Step::Wait)
}

/// Whether lost answers are for a person to judge now.
pub(super) const fn asks_a_person(ledger: Ledger, policy: OnUnknownOutcome) -> bool {
    match policy {
        OnUnknownOutcome::Retry => ledger.left() == 0,
        OnUnknownOutcome::Hold => ledger.unforgiven() > 0,
    }
}

const fn passed(facts: &Facts) -> bool {
    matches!(facts.deadline, Deadline::Passed { .. })
}

/// What keeps a call from going out now; the key first, because without it there is nobody to ask as.
fn wait_before_call(facts: &Facts) -> Option<Wait> {
    if let KeyFact::Missing(fault) = facts.key {
        return Some(Wait::Key(fault));
    }
    match facts.gate {
        Gate::KeyRejected(until) => return Some(Wait::KeyRejected(until)),
        Gate::Paused(until) => return Some(Wait::Paused(until)),
        Gate::Breaker(until) => return Some(Wait::Breaker(until)),
        Gate::Open | Gate::Rate(_) => {}
    }
    if let Due::At(at) = facts.due {
        return Some(Wait::Due(at));
    }
    match facts.gate {
        Gate::Rate(until) => Some(Wait::Rate(until)),
        Gate::Open | Gate::KeyRejected(_) | Gate::Paused(_) | Gate::Breaker(_) => None,
    }
}
