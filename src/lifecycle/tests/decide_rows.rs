//! The table of `decide`, row by row, and the order in which the rows are tried.

use std::time::Duration;

use crate::{
    api::{OnUnknownOutcome, Outcome, Phase, SessionState, VerificationStatus},
    lifecycle::{
        cleanup::CleanupFacts,
        decide::{after_refusal, decide},
        facts::{Deadline, Due, Facts, InFlight, PortalFact},
        fixtures::{self, UID},
        key_fact::{KeyFact, KeyFault},
        state::ParsedStatus,
        step::{NotAdmitted, Refusal, Shown, Step, Transition, Wait},
    },
};

use table::{ROWS, Row};

mod table;

/// What differs from the plain case; several may apply at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Circumstance {
    Deleting,
    Suspended,
    Retry,
    Passed,
    PassedAndPolled,
    PassedAndOverdue,
    PassedLongAgo,
    PortalNotAllowed,
    TooLarge,
    Known,
    Adopt,
    MaybeInFlight,
    NeverSent,
    Hold,
    NoKey,
    KeyRejected,
    Paused,
    Breaker,
    Rate,
    NotDue,
    Ttl,
    TtlPassed,
    TtlPassedAndManagedByGitOps,
}

use Circumstance::{
    Adopt, Breaker, Deleting, Hold, KeyRejected, Known, MaybeInFlight, NeverSent, NoKey, NotDue, Passed,
    PassedAndOverdue, PassedAndPolled, PassedLongAgo, Paused, PortalNotAllowed, Rate, Retry, Suspended,
    TooLarge, Ttl, TtlPassed, TtlPassedAndManagedByGitOps,
};

fn until() -> jiff::Timestamp {
    fixtures::after(60)
}

fn cleanup(seconds: u64, managed_by_git_ops: bool) -> CleanupFacts {
    CleanupFacts { ttl: Duration::from_secs(seconds), managed_by_git_ops }
}

/// The facts, and the refusal of the call, if it is refused.
fn facts(circumstances: &[Circumstance]) -> (Facts, Option<Refusal>) {
    let passed =
        |polled, overdue, long_ago| Deadline::Passed { at: fixtures::now(), polled, overdue, long_ago };
    let mut facts = fixtures::facts();
    let mut refusal = None;
    for circumstance in circumstances {
        match circumstance {
            Deleting => facts.deleting = true,
            Suspended => facts.suspend = true,
            Retry => facts.retry = Some("go".to_owned()),
            Passed => facts.deadline = passed(false, false, false),
            PassedAndPolled => facts.deadline = passed(true, false, false),
            PassedAndOverdue => facts.deadline = passed(false, true, false),
            PassedLongAgo => facts.deadline = passed(false, false, true),
            PortalNotAllowed => facts.portal = PortalFact::NotAllowed,
            TooLarge => facts.too_large = true,
            Known => facts.known = fixtures::known(),
            Adopt => facts.adopt = fixtures::id(),
            MaybeInFlight => facts.in_flight = InFlight::Possible(until()),
            NeverSent => facts.in_flight = InFlight::NeverSent,
            Hold => facts.on_unknown = OnUnknownOutcome::Hold,
            NoKey => facts.key = KeyFact::Missing(KeyFault::KeyEmpty),
            KeyRejected => refusal = Some(Refusal::KeyRejected(until())),
            Paused => refusal = Some(Refusal::Paused(until())),
            Breaker => refusal = Some(Refusal::Breaker(until())),
            Rate => refusal = Some(Refusal::Rate(until())),
            NotDue => facts.due = Due::At(until()),
            Ttl => facts.cleanup = Some(cleanup(60, false)),
            TtlPassed => facts.cleanup = Some(cleanup(0, false)),
            TtlPassedAndManagedByGitOps => facts.cleanup = Some(cleanup(0, true)),
        }
    }
    (facts, refusal)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StateKind {
    Fresh,
    Claimed,
    Refused,
    OutcomeUnknown,
    RetriesSpent,
    Open,
    Finished,
    Settled,
    Inconsistent,
}

fn status(state: StateKind) -> VerificationStatus {
    match state {
        StateKind::Fresh => fixtures::fresh(),
        StateKind::Claimed => fixtures::attempted(SessionState::Claimed, 2, 1),
        StateKind::Refused => fixtures::attempted(SessionState::NotCreated, 2, 1),
        StateKind::OutcomeUnknown => fixtures::attempted(SessionState::Unknown, 2, 1),
        StateKind::RetriesSpent => fixtures::attempted(SessionState::Unknown, 3, 3),
        StateKind::Open => fixtures::open(Phase::AwaitingUser),
        StateKind::Finished => fixtures::finished(Outcome::Rejected),
        StateKind::Settled => VerificationStatus { settled: true, ..fixtures::finished(Outcome::Rejected) },
        StateKind::Inconsistent => {
            VerificationStatus { session: None, ..fixtures::open(Phase::AwaitingUser) }
        }
    }
}

/// The step, or what a refusal of its call leads to.
fn decided(state: StateKind, circumstances: &[Circumstance]) -> Step {
    let status = status(state);
    let (facts, refusal) = facts(circumstances);
    let step = decide(&ParsedStatus::of(UID, &status), &facts);
    match step.portal_step().zip(refusal) {
        Some((of, refusal)) => after_refusal(&NotAdmitted { step: of, refusal, cause: None }, &facts).into(),
        None => step,
    }
}

#[test]
fn each_row_leads_to_its_step() {
    for row in ROWS {
        for state in row.states {
            let step = decided(*state, row.circumstances);
            assert_eq!(step, (row.step)(*state), "row {} in {state:?}: {}", row.number, row.reason);
        }
    }
}

/// Where the circumstances of one row and of a later one apply together, the earlier row decides.
///
/// Pairs that exclude each other (such as two refusals of admission) are left out, and so are pairs where the later row
/// is narrower, because then the earlier one does not apply.
#[test]
fn of_two_rows_that_match_the_first_decides() {
    fn group(circumstance: Circumstance) -> u8 {
        match circumstance {
            Deleting => 0,
            Suspended => 1,
            Retry => 2,
            Passed | PassedAndPolled | PassedAndOverdue | PassedLongAgo => 3,
            PortalNotAllowed => 4,
            Adopt => 5,
            MaybeInFlight | NeverSent => 6,
            Hold => 7,
            NoKey => 8,
            KeyRejected | Paused | Breaker | Rate => 9,
            NotDue => 10,
            TooLarge => 11,
            Known => 12,
            Ttl | TtlPassed | TtlPassedAndManagedByGitOps => 13,
        }
    }
    let compatible = |one: &[Circumstance], other: &[Circumstance]| {
        one.iter().all(|a| other.iter().all(|b| a == b || group(*a) != group(*b)))
    };
    let mut pairs = 0;
    for (place, earlier) in ROWS.iter().enumerate() {
        // A row without circumstances is the last of its state, and a row that needs a usable call does not match where
        // a circumstance of the other row prevents the call.
        for later in &ROWS[place + 1..] {
            if earlier.circumstances.is_empty() || !compatible(earlier.circumstances, later.circumstances) {
                continue;
            }
            for state in earlier.states.iter().filter(|state| later.states.contains(state)) {
                let both: Vec<Circumstance> =
                    earlier.circumstances.iter().chain(later.circumstances).copied().collect();
                if prevents(earlier, &both) {
                    continue;
                }
                pairs += 1;
                assert_eq!(
                    decided(*state, &both),
                    (earlier.step)(*state),
                    "rows {} and {} in {state:?}: {}",
                    earlier.number,
                    later.number,
                    earlier.reason
                );
            }
        }
    }
    assert!(pairs > 200, "{pairs}");
}

/// Whether a circumstance of both rows takes away what this row needs, such as a call that can be made.
fn prevents(row: &Row, both: &[Circumstance]) -> bool {
    let has =
        |circumstances: &[Circumstance]| both.iter().any(|circumstance| circumstances.contains(circumstance));
    match row.number {
        "12" => row.states == [StateKind::Claimed] && has(&[MaybeInFlight]),
        "13" => has(&[PortalNotAllowed, NoKey, KeyRejected, Paused, Breaker, Rate]),
        // Admission matters only when the call is due.
        "17" => (has(&[Paused]) && has(&[NotDue]) && row.circumstances.contains(&Paused)) || has(&[NoKey]),
        "18" => has(&[NoKey, KeyRejected, Paused, Breaker, Rate, NotDue]),
        "24" | "25" | "28" => has(&[KeyRejected, Paused, Breaker, Rate]) && has(&[NotDue]),
        _ => false,
    }
}

#[test]
fn admission_matters_only_when_the_call_is_due() {
    for state in [StateKind::Fresh, StateKind::Refused, StateKind::OutcomeUnknown, StateKind::Open] {
        for refused in [KeyRejected, Paused, Breaker, Rate] {
            let step = decided(state, &[refused, NotDue]);
            assert_eq!(step, Step::Transition(Transition::Wait(Wait::Due(until()))), "{state:?} {refused:?}");
        }
    }
}

#[test]
fn a_last_poll_behind_the_rate_limit_waits_for_its_schedule() {
    let due = Step::Transition(Transition::Wait(Wait::Due(until())));
    assert_eq!(decided(StateKind::Open, &[Passed, NotDue, Rate]), due);
    let breaker = Step::Transition(Transition::Wait(Wait::Admission(Refusal::Breaker(until()))));
    assert_eq!(decided(StateKind::Open, &[Passed, NotDue, Breaker]), breaker, "the longer refusal decides");
}

#[test]
fn the_last_poll_waits_for_what_prevents_it() {
    assert_eq!(
        decided(StateKind::Open, &[Passed, PortalNotAllowed]),
        Step::Transition(Transition::Show(Shown::PortalNotAllowed))
    );
    assert_eq!(
        decided(StateKind::Open, &[Passed, NoKey]),
        Step::Transition(Transition::Wait(Wait::Key(KeyFault::KeyEmpty)))
    );
    assert_eq!(
        decided(StateKind::Open, &[Passed, Breaker]),
        Step::Transition(Transition::Wait(Wait::Admission(Refusal::Breaker(until()))))
    );
}

#[test]
fn a_claim_is_abandoned_even_if_no_call_is_possible() {
    for circumstances in [&[NoKey][..], &[KeyRejected], &[Breaker], &[NotDue], &[Hold]] {
        assert_eq!(
            decided(StateKind::Claimed, circumstances),
            Step::Transition(Transition::AbandonUnknown),
            "{circumstances:?}"
        );
    }
}

#[test]
fn an_acknowledged_outcome_is_retried_even_with_hold() {
    let mut status = fixtures::attempted(SessionState::Unknown, 3, 3);
    status.session.as_mut().unwrap().acknowledged = 3;
    let step = decide(&ParsedStatus::of(UID, &status), &facts(&[Hold]).0);
    assert_eq!(step, Step::Create { attempt: 4 });
}
