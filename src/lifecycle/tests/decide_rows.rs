//! The table of `decide`, row by row, and that rows are tried in their order.

use crate::{
    api::{OnUnknownOutcome, Outcome, Phase, SessionState, VerificationStatus},
    lifecycle::{
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

/// What is the matter in a case; several may be at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Matter {
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
}

use Matter::{
    Adopt, Breaker, Deleting, Hold, KeyRejected, Known, MaybeInFlight, NeverSent, NoKey, NotDue, Passed,
    PassedAndOverdue, PassedAndPolled, PassedLongAgo, Paused, PortalNotAllowed, Rate, Retry, Suspended,
    TooLarge,
};

fn until() -> jiff::Timestamp {
    fixtures::after(60)
}

/// The facts, and the refusal of the call, if it is refused.
fn facts(matters: &[Matter]) -> (Facts, Option<Refusal>) {
    let passed =
        |polled, overdue, long_ago| Deadline::Passed { at: fixtures::now(), polled, overdue, long_ago };
    let mut facts = fixtures::facts();
    let mut refusal = None;
    for matter in matters {
        match matter {
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
        }
    }
    (facts, refusal)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum On {
    Fresh,
    Claimed,
    Refused,
    Lost,
    Spent,
    Open,
    Over,
    Settled,
    Unreadable,
}

fn status(on: On) -> VerificationStatus {
    match on {
        On::Fresh => fixtures::fresh(),
        On::Claimed => fixtures::attempted(SessionState::Claimed, 2, 1),
        On::Refused => fixtures::attempted(SessionState::NotCreated, 2, 1),
        On::Lost => fixtures::attempted(SessionState::Unknown, 2, 1),
        On::Spent => fixtures::attempted(SessionState::Unknown, 3, 3),
        On::Open => fixtures::open(Phase::AwaitingUser),
        On::Over => fixtures::over(Outcome::Rejected),
        On::Settled => VerificationStatus { settled: true, ..fixtures::over(Outcome::Rejected) },
        On::Unreadable => VerificationStatus { session: None, ..fixtures::open(Phase::AwaitingUser) },
    }
}

/// The step, or what a refusal of its call leads to.
fn decided(on: On, matters: &[Matter]) -> Step {
    let status = status(on);
    let (facts, refusal) = facts(matters);
    let step = decide(&ParsedStatus::of(UID, &status), &facts);
    match step.portal_step().zip(refusal) {
        Some((of, refusal)) => after_refusal(&NotAdmitted { step: of, refusal, cause: None }, &facts).into(),
        None => step,
    }
}

#[test]
fn each_row_leads_to_its_step() {
    for row in ROWS {
        for on in row.on {
            let step = decided(*on, row.matters);
            assert_eq!(step, (row.step)(*on), "row {} on {on:?}: {}", row.number, row.reason);
        }
    }
}

/// What one row and a later one name may be the matter at once: then the earlier row decides.
///
/// Matters that exclude each other (two states of the gate, say) are left out, and so are pairs where the later row
/// is narrower than the earlier one, which then is not what is the matter.
#[test]
fn of_two_rows_that_match_the_first_decides() {
    fn record_id(matter: Matter) -> u8 {
        match matter {
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
        }
    }
    let compatible = |one: &[Matter], other: &[Matter]| {
        one.iter().all(|a| other.iter().all(|b| a == b || record_id(*a) != record_id(*b)))
    };
    let mut pairs = 0;
    for (place, earlier) in ROWS.iter().enumerate() {
        // A row that asks for nothing to be the matter is the last of its past, and one that needs a usable call
        // does not match where another row's matter prevents the call.
        for later in &ROWS[place + 1..] {
            if earlier.matters.is_empty() || !compatible(earlier.matters, later.matters) {
                continue;
            }
            for on in earlier.on.iter().filter(|on| later.on.contains(on)) {
                let both: Vec<Matter> = earlier.matters.iter().chain(later.matters).copied().collect();
                if prevents(earlier, &both) {
                    continue;
                }
                pairs += 1;
                assert_eq!(
                    decided(*on, &both),
                    (earlier.step)(*on),
                    "rows {} and {} on {on:?}: {}",
                    earlier.number,
                    later.number,
                    earlier.reason
                );
            }
        }
    }
    assert!(pairs > 200, "{pairs}");
}

/// Whether one more matter takes away what that row needs: a poll may be made, a request is not in flight, and so on.
fn prevents(row: &Row, both: &[Matter]) -> bool {
    let has = |matters: &[Matter]| both.iter().any(|matter| matters.contains(matter));
    match row.number {
        "12" => row.on == [On::Claimed] && has(&[MaybeInFlight]),
        "13" => has(&[PortalNotAllowed, NoKey, KeyRejected, Paused, Breaker, Rate]),
        // Admission is asked for only when the time has come.
        "17" => (has(&[Paused]) && has(&[NotDue]) && row.matters.contains(&Paused)) || has(&[NoKey]),
        "18" => has(&[NoKey, KeyRejected, Paused, Breaker, Rate, NotDue]),
        "24" | "25" | "28" => has(&[KeyRejected, Paused, Breaker, Rate]) && has(&[NotDue]),
        _ => false,
    }
}

#[test]
fn admission_is_asked_for_only_when_the_time_has_come() {
    for on in [On::Fresh, On::Refused, On::Lost, On::Open] {
        for refused in [KeyRejected, Paused, Breaker, Rate] {
            let step = decided(on, &[refused, NotDue]);
            assert_eq!(step, Step::Transition(Transition::Wait(Wait::Due(until()))), "{on:?} {refused:?}");
        }
    }
}

#[test]
fn a_last_poll_that_the_rate_refuses_waits_for_its_schedule() {
    let due = Step::Transition(Transition::Wait(Wait::Due(until())));
    assert_eq!(decided(On::Open, &[Passed, NotDue, Rate]), due);
    let breaker = Step::Transition(Transition::Wait(Wait::Admission(Refusal::Breaker(until()))));
    assert_eq!(
        decided(On::Open, &[Passed, NotDue, Breaker]),
        breaker,
        "what refuses it longer is waited for"
    );
}

#[test]
fn the_last_poll_gives_way_to_what_prevents_it() {
    assert_eq!(
        decided(On::Open, &[Passed, PortalNotAllowed]),
        Step::Transition(Transition::Show(Shown::PortalNotAllowed))
    );
    assert_eq!(
        decided(On::Open, &[Passed, NoKey]),
        Step::Transition(Transition::Wait(Wait::Key(KeyFault::KeyEmpty)))
    );
    assert_eq!(
        decided(On::Open, &[Passed, Breaker]),
        Step::Transition(Transition::Wait(Wait::Admission(Refusal::Breaker(until()))))
    );
}

#[test]
fn a_claim_is_abandoned_also_where_nothing_could_be_asked() {
    for matters in [&[NoKey][..], &[KeyRejected], &[Breaker], &[NotDue], &[Hold]] {
        assert_eq!(
            decided(On::Claimed, matters),
            Step::Transition(Transition::AbandonUnknown),
            "{matters:?}"
        );
    }
}

#[test]
fn an_acknowledged_outcome_is_tried_again_also_with_hold() {
    let mut status = fixtures::attempted(SessionState::Unknown, 3, 3);
    status.session.as_mut().unwrap().acknowledged = 3;
    let step = decide(&ParsedStatus::of(UID, &status), &facts(&[Hold]).0);
    assert_eq!(step, Step::Create { attempt: 4 });
}
