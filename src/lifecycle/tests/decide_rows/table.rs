//! The rows in their order, except those about pending evidence.

use super::*;

const LIVE: &[StateKind] = &[
    StateKind::Fresh,
    StateKind::Claimed,
    StateKind::Refused,
    StateKind::OutcomeUnknown,
    StateKind::RetriesSpent,
    StateKind::Open,
];
const WITHOUT_SESSION: &[StateKind] = &[StateKind::Fresh, StateKind::Refused, StateKind::OutcomeUnknown];

fn id() -> crate::portal::verification_id::VerificationId {
    fixtures::id().unwrap()
}

/// One row: in which states, under which circumstances, which step, and why.
pub(super) struct Row {
    pub(super) number: &'static str,
    pub(super) states: &'static [StateKind],
    pub(super) circumstances: &'static [Circumstance],
    pub(super) step: fn(StateKind) -> Step,
    pub(super) reason: &'static str,
}

fn create(state: StateKind) -> Step {
    Step::Create { attempt: if state == StateKind::Fresh { 1 } else { 3 } }
}

const fn row(
    number: &'static str,
    states: &'static [StateKind],
    circumstances: &'static [Circumstance],
    step: fn(StateKind) -> Step,
    reason: &'static str,
) -> Row {
    Row { number, states, circumstances, step, reason }
}

pub(super) const ROWS: &[Row] = &[
    row(
        "2",
        LIVE,
        &[Deleting],
        |_| Step::Transition(Transition::Release),
        "what is being deleted is released",
    ),
    row(
        "2",
        &[StateKind::Finished, StateKind::Settled, StateKind::Inconsistent],
        &[Deleting],
        |_| Step::Transition(Transition::Release),
        "whatever its state",
    ),
    row("3", &[StateKind::Settled], &[], |_| Step::Transition(Transition::NoOp), "nothing is pending"),
    row(
        "4",
        &[StateKind::Inconsistent],
        &[],
        |_| Step::Transition(Transition::Show(Shown::StatusUnreadable)),
        "an inconsistent status must not be acted on",
    ),
    row(
        "5",
        &[StateKind::Finished],
        &[],
        |_| Step::Transition(Transition::Settle),
        "it ended and nothing is pending",
    ),
    row(
        "5a",
        &[
            StateKind::Fresh,
            StateKind::Claimed,
            StateKind::Refused,
            StateKind::OutcomeUnknown,
            StateKind::RetriesSpent,
        ],
        &[Known],
        |_| Step::Transition(Transition::Restore(fixtures::known().unwrap())),
        "a known session is never created again",
    ),
    row(
        "6",
        LIVE,
        &[Suspended],
        |_| Step::Transition(Transition::Show(Shown::Suspended)),
        "nothing happens while suspended",
    ),
    row(
        "8",
        LIVE,
        &[Retry],
        |_| Step::Transition(Transition::Retry("go".to_owned())),
        "a person decides how to continue",
    ),
    row(
        "11",
        &[StateKind::Claimed],
        &[Passed, MaybeInFlight],
        |_| Step::Transition(Transition::Wait(Wait::InFlight(until()))),
        "the response may still bring a session",
    ),
    row(
        "12",
        &[StateKind::Claimed],
        &[Passed],
        |_| Step::Transition(Transition::Fail),
        "no request can be in flight",
    ),
    row("12", WITHOUT_SESSION, &[Passed], |_| Step::Transition(Transition::Fail), "there is nothing to poll"),
    row(
        "12",
        &[StateKind::RetriesSpent],
        &[Passed],
        |_| Step::Transition(Transition::Fail),
        "also while waiting for a person",
    ),
    row("13", &[StateKind::Open], &[Passed], |_| Step::Poll(id()), "the verdict may be there"),
    row(
        "13",
        &[StateKind::Open],
        &[Passed, NotDue],
        |_| Step::Poll(id()),
        "the last poll does not wait for the schedule",
    ),
    row(
        "13",
        &[StateKind::Open],
        &[PassedLongAgo],
        |_| Step::Poll(id()),
        "the verdict may be from before the deadline",
    ),
    row(
        "14",
        &[StateKind::Open],
        &[PassedAndPolled],
        |_| Step::Transition(Transition::Fail),
        "it was polled, and there was no verdict",
    ),
    row(
        "14",
        &[StateKind::Open],
        &[PassedAndOverdue],
        |_| Step::Transition(Transition::Fail),
        "ten minutes of polls got no answer",
    ),
    row(
        "14",
        &[StateKind::Open],
        &[PassedAndOverdue, NoKey],
        |_| Step::Transition(Transition::Fail),
        "also if it cannot be polled any more",
    ),
    row(
        "14",
        &[StateKind::Open],
        &[PassedLongAgo, NoKey],
        |_| Step::Transition(Transition::Fail),
        "a missing key delays the end for a day",
    ),
    row(
        "14",
        &[StateKind::Open],
        &[PassedLongAgo, PortalNotAllowed],
        |_| Step::Transition(Transition::Fail),
        "so does a portal that is not allowed",
    ),
    row(
        "14",
        &[StateKind::Open],
        &[PassedLongAgo, Breaker],
        |_| Step::Transition(Transition::Fail),
        "so does an open breaker",
    ),
    row(
        "15",
        LIVE,
        &[PortalNotAllowed],
        |_| Step::Transition(Transition::Show(Shown::PortalNotAllowed)),
        "the key must not be sent to a portal that is not allowed",
    ),
    row(
        "15b",
        &[StateKind::Fresh, StateKind::Refused, StateKind::OutcomeUnknown, StateKind::RetriesSpent],
        &[TooLarge],
        |_| Step::Transition(Transition::Show(Shown::ResourceTooLarge)),
        "an id that cannot be recorded would be lost",
    ),
    row(
        "16",
        &[
            StateKind::Fresh,
            StateKind::Claimed,
            StateKind::Refused,
            StateKind::OutcomeUnknown,
            StateKind::RetriesSpent,
        ],
        &[Adopt, NoKey],
        |_| Step::Transition(Transition::Wait(Wait::Key(KeyFault::KeyEmpty))),
        "there is no key to call with",
    ),
    row(
        "17",
        &[
            StateKind::Fresh,
            StateKind::Claimed,
            StateKind::Refused,
            StateKind::OutcomeUnknown,
            StateKind::RetriesSpent,
        ],
        &[Adopt, Paused],
        |_| Step::Transition(Transition::Wait(Wait::Admission(Refusal::Paused(until())))),
        "the portal asked for a pause",
    ),
    row(
        "17",
        &[
            StateKind::Fresh,
            StateKind::Claimed,
            StateKind::Refused,
            StateKind::OutcomeUnknown,
            StateKind::RetriesSpent,
        ],
        &[Adopt, NotDue],
        |_| Step::Transition(Transition::Wait(Wait::Due(until()))),
        "it is not due",
    ),
    row(
        "18",
        &[
            StateKind::Fresh,
            StateKind::Claimed,
            StateKind::Refused,
            StateKind::OutcomeUnknown,
            StateKind::RetriesSpent,
        ],
        &[Adopt],
        |_| Step::Adopt(id()),
        "an existing session needs no create",
    ),
    row(
        "19",
        &[StateKind::Claimed],
        &[MaybeInFlight],
        |_| Step::Transition(Transition::Wait(Wait::InFlight(until()))),
        "the request of another process may be in flight",
    ),
    row(
        "20",
        &[StateKind::Claimed],
        &[NeverSent],
        |_| Step::Transition(Transition::AbandonUnsent),
        "this process knows that nothing was sent",
    ),
    row(
        "21",
        &[StateKind::Claimed],
        &[],
        |_| Step::Transition(Transition::AbandonUnknown),
        "the outcome is unknown",
    ),
    row(
        "22",
        &[StateKind::RetriesSpent],
        &[],
        |_| Step::Transition(Transition::Show(Shown::CreateOutcomeUnknown)),
        "after three unknown outcomes, a person decides",
    ),
    row(
        "22",
        &[StateKind::OutcomeUnknown],
        &[Hold],
        |_| Step::Transition(Transition::Show(Shown::CreateOutcomeUnknown)),
        "with Hold, a person decides after the first",
    ),
    row(
        "23",
        WITHOUT_SESSION,
        &[NoKey],
        |_| Step::Transition(Transition::Wait(Wait::Key(KeyFault::KeyEmpty))),
        "there is no key to call with",
    ),
    row(
        "24",
        WITHOUT_SESSION,
        &[KeyRejected],
        |_| Step::Transition(Transition::Wait(Wait::Admission(Refusal::KeyRejected(until())))),
        "a refused key is not tried by every resource",
    ),
    row(
        "25",
        WITHOUT_SESSION,
        &[Paused],
        |_| Step::Transition(Transition::Wait(Wait::Admission(Refusal::Paused(until())))),
        "a pause is observed",
    ),
    row(
        "25",
        WITHOUT_SESSION,
        &[Breaker],
        |_| Step::Transition(Transition::Wait(Wait::Admission(Refusal::Breaker(until())))),
        "no attempt is claimed during an outage",
    ),
    row(
        "25",
        WITHOUT_SESSION,
        &[Rate],
        |_| Step::Transition(Transition::Wait(Wait::Admission(Refusal::Rate(until())))),
        "the rate limit is observed",
    ),
    row(
        "25",
        WITHOUT_SESSION,
        &[NotDue],
        |_| Step::Transition(Transition::Wait(Wait::Due(until()))),
        "it is not due",
    ),
    row("26", WITHOUT_SESSION, &[], create, "nothing is in the way"),
    row(
        "27",
        &[StateKind::Open],
        &[NoKey],
        |_| Step::Transition(Transition::Wait(Wait::Key(KeyFault::KeyEmpty))),
        "there is no key to call with",
    ),
    row(
        "28",
        &[StateKind::Open],
        &[KeyRejected],
        |_| Step::Transition(Transition::Wait(Wait::Admission(Refusal::KeyRejected(until())))),
        "the key is refused",
    ),
    row(
        "28",
        &[StateKind::Open],
        &[Paused],
        |_| Step::Transition(Transition::Wait(Wait::Admission(Refusal::Paused(until())))),
        "a pause is observed",
    ),
    row(
        "28",
        &[StateKind::Open],
        &[Breaker],
        |_| Step::Transition(Transition::Wait(Wait::Admission(Refusal::Breaker(until())))),
        "the breaker is open",
    ),
    row(
        "28",
        &[StateKind::Open],
        &[Rate],
        |_| Step::Transition(Transition::Wait(Wait::Admission(Refusal::Rate(until())))),
        "the rate limit is observed",
    ),
    row(
        "28",
        &[StateKind::Open],
        &[NotDue],
        |_| Step::Transition(Transition::Wait(Wait::Due(until()))),
        "it is not due",
    ),
    row("29", &[StateKind::Open], &[], |_| Step::Poll(id()), "nothing is in the way"),
];
