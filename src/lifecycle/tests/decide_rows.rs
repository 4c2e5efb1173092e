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

const LIVE: &[On] = &[On::Fresh, On::Claimed, On::Refused, On::Lost, On::Spent, On::Open];
const WITHOUT_SESSION: &[On] = &[On::Fresh, On::Refused, On::Lost];

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

/// One row: on which pasts, with what the matter, which step, and why.
struct Row {
    number: &'static str,
    on: &'static [On],
    matters: &'static [Matter],
    step: fn(On) -> Step,
    reason: &'static str,
}

fn id() -> crate::portal::verification_id::VerificationId {
    fixtures::id().unwrap()
}

fn create(on: On) -> Step {
    Step::Create { attempt: if on == On::Fresh { 1 } else { 3 } }
}

const fn row(
    number: &'static str,
    on: &'static [On],
    matters: &'static [Matter],
    step: fn(On) -> Step,
    reason: &'static str,
) -> Row {
    Row { number, on, matters, step, reason }
}

/// The rows in their order, but for those that owe evidence.
const ROWS: &[Row] = &[
    row("2", LIVE, &[Deleting], |_| Step::Transition(Transition::Release), "what is being deleted is let go"),
    row(
        "2",
        &[On::Over, On::Settled, On::Unreadable],
        &[Deleting],
        |_| Step::Transition(Transition::Release),
        "whatever it was",
    ),
    row("3", &[On::Settled], &[], |_| Step::Transition(Transition::NoOp), "what owes nothing is left alone"),
    row(
        "4",
        &[On::Unreadable],
        &[],
        |_| Step::Transition(Transition::Show(Shown::StatusUnreadable)),
        "nothing is done on a status that contradicts itself",
    ),
    row("5", &[On::Over], &[], |_| Step::Transition(Transition::Settle), "it ended and owes nothing"),
    row(
        "5a",
        &[On::Fresh, On::Claimed, On::Refused, On::Lost, On::Spent],
        &[Known],
        |_| Step::Transition(Transition::Restore(fixtures::known().unwrap())),
        "a session that is known is never created anew",
    ),
    row(
        "6",
        LIVE,
        &[Suspended],
        |_| Step::Transition(Transition::Show(Shown::Suspended)),
        "nothing moves while suspended",
    ),
    row(
        "8",
        LIVE,
        &[Retry],
        |_| Step::Transition(Transition::Retry("go".to_owned())),
        "a person says how to go on",
    ),
    row(
        "11",
        &[On::Claimed],
        &[Passed, MaybeInFlight],
        |_| Step::Transition(Transition::Wait(Wait::InFlight(until()))),
        "the answer may still come and be a session",
    ),
    row(
        "12",
        &[On::Claimed],
        &[Passed],
        |_| Step::Transition(Transition::Fail),
        "no request can be in flight",
    ),
    row("12", WITHOUT_SESSION, &[Passed], |_| Step::Transition(Transition::Fail), "there is nothing to poll"),
    row(
        "12",
        &[On::Spent],
        &[Passed],
        |_| Step::Transition(Transition::Fail),
        "also where a person is waited for",
    ),
    row("13", &[On::Open], &[Passed], |_| Step::Poll(id()), "the verdict may be there"),
    row("13", &[On::Open], &[Passed, NotDue], |_| Step::Poll(id()), "the last poll waits for no schedule"),
    row(
        "13",
        &[On::Open],
        &[PassedLongAgo],
        |_| Step::Poll(id()),
        "the verdict may be from before the deadline",
    ),
    row(
        "14",
        &[On::Open],
        &[PassedAndPolled],
        |_| Step::Transition(Transition::Fail),
        "it was polled at and no verdict was there",
    ),
    row(
        "14",
        &[On::Open],
        &[PassedAndOverdue],
        |_| Step::Transition(Transition::Fail),
        "it could be asked for ten minutes, in vain",
    ),
    row(
        "14",
        &[On::Open],
        &[PassedAndOverdue, NoKey],
        |_| Step::Transition(Transition::Fail),
        "also where it cannot be asked any more",
    ),
    row(
        "14",
        &[On::Open],
        &[PassedLongAgo, NoKey],
        |_| Step::Transition(Transition::Fail),
        "a missing key delays the end for a day",
    ),
    row(
        "14",
        &[On::Open],
        &[PassedLongAgo, PortalNotAllowed],
        |_| Step::Transition(Transition::Fail),
        "so does a refused portal",
    ),
    row(
        "14",
        &[On::Open],
        &[PassedLongAgo, Breaker],
        |_| Step::Transition(Transition::Fail),
        "so does one that cannot be asked",
    ),
    row(
        "15",
        LIVE,
        &[PortalNotAllowed],
        |_| Step::Transition(Transition::Show(Shown::PortalNotAllowed)),
        "the key goes to no portal that is not allowed",
    ),
    row(
        "15b",
        &[On::Fresh, On::Refused, On::Lost, On::Spent],
        &[TooLarge],
        |_| Step::Transition(Transition::Show(Shown::ResourceTooLarge)),
        "an id that cannot be recorded would be lost",
    ),
    row(
        "16",
        &[On::Fresh, On::Claimed, On::Refused, On::Lost, On::Spent],
        &[Adopt, NoKey],
        |_| Step::Transition(Transition::Wait(Wait::Key(KeyFault::KeyEmpty))),
        "there is nobody to ask as",
    ),
    row(
        "17",
        &[On::Fresh, On::Claimed, On::Refused, On::Lost, On::Spent],
        &[Adopt, Paused],
        |_| Step::Transition(Transition::Wait(Wait::Admission(Refusal::Paused(until())))),
        "the portal asked for a pause",
    ),
    row(
        "17",
        &[On::Fresh, On::Claimed, On::Refused, On::Lost, On::Spent],
        &[Adopt, NotDue],
        |_| Step::Transition(Transition::Wait(Wait::Due(until()))),
        "its time has not come",
    ),
    row(
        "18",
        &[On::Fresh, On::Claimed, On::Refused, On::Lost, On::Spent],
        &[Adopt],
        |_| Step::Adopt(id()),
        "a session that exists needs no create",
    ),
    row(
        "19",
        &[On::Claimed],
        &[MaybeInFlight],
        |_| Step::Transition(Transition::Wait(Wait::InFlight(until()))),
        "another process may be asking right now",
    ),
    row(
        "20",
        &[On::Claimed],
        &[NeverSent],
        |_| Step::Transition(Transition::AbandonUnsent),
        "this process knows that nothing left",
    ),
    row(
        "21",
        &[On::Claimed],
        &[],
        |_| Step::Transition(Transition::AbandonUnknown),
        "nobody knows what the portal made of it",
    ),
    row(
        "22",
        &[On::Spent],
        &[],
        |_| Step::Transition(Transition::Show(Shown::CreateOutcomeUnknown)),
        "three lost answers are for a person to judge",
    ),
    row(
        "22",
        &[On::Lost],
        &[Hold],
        |_| Step::Transition(Transition::Show(Shown::CreateOutcomeUnknown)),
        "with Hold the first one is",
    ),
    row(
        "23",
        WITHOUT_SESSION,
        &[NoKey],
        |_| Step::Transition(Transition::Wait(Wait::Key(KeyFault::KeyEmpty))),
        "there is nobody to ask as",
    ),
    row(
        "24",
        WITHOUT_SESSION,
        &[KeyRejected],
        |_| Step::Transition(Transition::Wait(Wait::Admission(Refusal::KeyRejected(until())))),
        "one bad key costs no call of its own",
    ),
    row(
        "25",
        WITHOUT_SESSION,
        &[Paused],
        |_| Step::Transition(Transition::Wait(Wait::Admission(Refusal::Paused(until())))),
        "a pause is kept",
    ),
    row(
        "25",
        WITHOUT_SESSION,
        &[Breaker],
        |_| Step::Transition(Transition::Wait(Wait::Admission(Refusal::Breaker(until())))),
        "an outage strands nobody: no claim is made in it",
    ),
    row(
        "25",
        WITHOUT_SESSION,
        &[Rate],
        |_| Step::Transition(Transition::Wait(Wait::Admission(Refusal::Rate(until())))),
        "the rate is kept",
    ),
    row(
        "25",
        WITHOUT_SESSION,
        &[NotDue],
        |_| Step::Transition(Transition::Wait(Wait::Due(until()))),
        "its time has not come",
    ),
    row("26", WITHOUT_SESSION, &[], create, "all is well"),
    row(
        "27",
        &[On::Open],
        &[NoKey],
        |_| Step::Transition(Transition::Wait(Wait::Key(KeyFault::KeyEmpty))),
        "there is nobody to ask as",
    ),
    row(
        "28",
        &[On::Open],
        &[KeyRejected],
        |_| Step::Transition(Transition::Wait(Wait::Admission(Refusal::KeyRejected(until())))),
        "the key is refused",
    ),
    row(
        "28",
        &[On::Open],
        &[Paused],
        |_| Step::Transition(Transition::Wait(Wait::Admission(Refusal::Paused(until())))),
        "a pause is kept",
    ),
    row(
        "28",
        &[On::Open],
        &[Breaker],
        |_| Step::Transition(Transition::Wait(Wait::Admission(Refusal::Breaker(until())))),
        "the breaker is open",
    ),
    row(
        "28",
        &[On::Open],
        &[Rate],
        |_| Step::Transition(Transition::Wait(Wait::Admission(Refusal::Rate(until())))),
        "the rate is kept",
    ),
    row(
        "28",
        &[On::Open],
        &[NotDue],
        |_| Step::Transition(Transition::Wait(Wait::Due(until()))),
        "its time has not come",
    ),
    row("29", &[On::Open], &[], |_| Step::Poll(id()), "all is well"),
];

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
