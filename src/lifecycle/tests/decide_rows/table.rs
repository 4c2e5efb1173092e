//! The rows in their order, but for those that owe evidence.

use super::*;

const LIVE: &[On] = &[On::Fresh, On::Claimed, On::Refused, On::Lost, On::Spent, On::Open];
const WITHOUT_SESSION: &[On] = &[On::Fresh, On::Refused, On::Lost];

fn id() -> crate::portal::verification_id::VerificationId {
    fixtures::id().unwrap()
}

/// One row: on which pasts, with what the matter, which step, and why.
pub(super) struct Row {
    pub(super) number: &'static str,
    pub(super) on: &'static [On],
    pub(super) matters: &'static [Matter],
    pub(super) step: fn(On) -> Step,
    pub(super) reason: &'static str,
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

pub(super) const ROWS: &[Row] = &[
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
