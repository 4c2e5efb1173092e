//! The rows of `decide` for evidence, and the order in which they are tried.

use crate::{
    api::{DeletionPolicy, VerificationStatus},
    lifecycle::{
        decide::{after_refusal, decide},
        evidence::EvidenceFacts,
        evidence_error::EvidenceError,
        facts::{Due, Facts, PortalFact},
        fixtures::{self, UID},
        key_fact::{KeyFact, KeyFault},
        since::Since,
        state::ParsedStatus,
        step::{NotAdmitted, Refusal, ReleaseWhen, Shown, Step, Transition, Wait},
    },
};

/// What evidence a case has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Evidence {
    Pending,
    Failed,
    FailedInPart,
    Complete,
    NotApplicable,
    NotRequested,
}

use Evidence::{Complete, Failed, FailedInPart, NotApplicable, NotRequested, Pending};

/// What differs from the plain case; several may apply at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Circumstance {
    /// The spec says that evidence is removed with the resource.
    Delete,
    /// The resource has our finalizer.
    Held,
    Deleting,
    DeletedLongAgo,
    /// This many attempts to remove it, the first this many minutes ago.
    Removing(u32, i64),
    Suspended,
    Retry,
    /// Pending for a day.
    Day,
    /// This process has tried for ten minutes.
    Tried,
    PortalError,
    PortalNotAllowed,
    NoKey,
    Paused,
    Breaker,
    KeyRejected,
    Rate,
    NotDue,
}

use Circumstance::{
    Breaker, Day, Delete, DeletedLongAgo, Deleting, Held, KeyRejected, NoKey, NotDue, Paused, PortalError,
    PortalNotAllowed, Rate, Removing, Retry, Suspended, Tried,
};

const DAY: u64 = 24 * 3600;

fn until() -> jiff::Timestamp {
    fixtures::after(DAY + 60)
}

fn status(evidence: Evidence) -> VerificationStatus {
    let mut status = fixtures::finished(crate::api::Outcome::Verified);
    let with = |stored| {
        crate::lifecycle::conclude::conclude(
            &ParsedStatus::of(UID, &fixtures::finished(crate::api::Outcome::Verified)),
            &crate::lifecycle::step::StepOutcome::Store(stored),
            &facts_of(&status, &[]),
        )
    };
    match evidence {
        Pending | NotRequested => {}
        NotApplicable => status = fixtures::finished(crate::api::Outcome::Rejected),
        Failed => {
            let error = Some(EvidenceError::Conflict);
            let stored = crate::lifecycle::evidence::UploadOutcome {
                error,
                ..crate::lifecycle::evidence::UploadOutcome::default()
            };
            status = with(stored).status.unwrap();
        }
        FailedInPart => {
            let error = Some(EvidenceError::Conflict);
            let stored = crate::lifecycle::evidence::UploadOutcome {
                error,
                ..fixtures::stored(vec![fixtures::front()])
            };
            status = with(stored).status.unwrap();
        }
        Complete => {
            status = VerificationStatus { settled: false, ..with(fixtures::all_stored()).status.unwrap() };
        }
    }
    status
}

fn facts_of(status: &VerificationStatus, circumstances: &[Circumstance]) -> Facts {
    let has = |circumstance| circumstances.contains(&circumstance);
    let policy = if has(Delete) { DeletionPolicy::Delete } else { DeletionPolicy::Retain };
    let mut facts = Facts {
        evidence: EvidenceFacts::of(Some(fixtures::evidence_spec(policy)), status),
        now: fixtures::after(if has(Day) { DAY } else { 3600 }),
        ..fixtures::facts()
    };
    for circumstance in circumstances {
        match circumstance {
            Delete | Day | Paused | Breaker | KeyRejected | Rate => {}
            Held => facts.evidence.has_finalizer = true,
            Deleting => {
                facts.deleting = true;
                facts.evidence.deleted_at = Some(facts.now);
            }
            DeletedLongAgo => {
                facts.deleting = true;
                facts.evidence.deleted_at = Some(facts.now - jiff::SignedDuration::from_mins(10));
            }
            Removing(count, minutes) => {
                let since = facts.now - jiff::SignedDuration::from_mins(*minutes);
                facts.local_state.removing = Some(Since { what: (), since, count: *count });
            }
            Suspended => facts.suspend = true,
            Retry => facts.retry = Some("go".to_owned()),
            Tried => facts.local_state.storing_since = Some(facts.now - jiff::SignedDuration::from_mins(10)),
            PortalError => {
                let what = EvidenceError::StoreUnavailable;
                facts.local_state.storing = Some(Since { what, since: facts.now, count: 1 });
            }
            PortalNotAllowed => facts.portal = PortalFact::NotAllowed,
            NoKey => facts.key = KeyFact::Missing(KeyFault::KeyEmpty),
            NotDue => facts.due = Due::At(until()),
        }
    }
    facts
}

/// The refusal of the call, if it is refused.
fn refusal(circumstances: &[Circumstance]) -> Option<Refusal> {
    circumstances.iter().find_map(|circumstance| match circumstance {
        Paused => Some(Refusal::Paused(until())),
        Breaker => Some(Refusal::Breaker(until())),
        KeyRejected => Some(Refusal::KeyRejected(until())),
        Rate => Some(Refusal::Rate(until())),
        Delete
        | Held
        | Deleting
        | DeletedLongAgo
        | Removing(_, _)
        | Suspended
        | Retry
        | Day
        | Tried
        | PortalError
        | PortalNotAllowed
        | NoKey
        | NotDue => None,
    })
}

/// The step, or what a refusal of its call leads to.
fn decided(evidence: Evidence, circumstances: &[Circumstance]) -> Step {
    let status = status(evidence);
    let mut facts = facts_of(&status, circumstances);
    if evidence == NotRequested {
        let held = EvidenceFacts { spec: None, ..facts.evidence };
        facts.evidence =
            EvidenceFacts { state: crate::lifecycle::evidence::EvidenceState::NotRequested, ..held };
    }
    let step = decide(&ParsedStatus::of(UID, &status), &facts);
    match step.portal_step().zip(refusal(circumstances)) {
        Some((of, refusal)) => after_refusal(&NotAdmitted { step: of, refusal, cause: None }, &facts).into(),
        None => step,
    }
}

const EVERY: [Evidence; 6] = [Pending, Failed, FailedInPart, Complete, NotApplicable, NotRequested];
const FINISHED: Step = Step::Transition(Transition::Show(Shown::Finished));
const NOT_ALLOWED: Step = Step::Transition(Transition::Show(Shown::PortalNotAllowed));
const RELEASED: Step = Step::RemoveEvidence { release_when: ReleaseWhen::OnceRemoved };

/// One row: for which evidence, under which circumstances, which step, and why.
type Row = (&'static [Evidence], &'static [Circumstance], Step, &'static str);

fn rows() -> Vec<Row> {
    [rows_of_deletion_and_ends(), rows_after_a_day(), rows_of_pending_evidence()].concat()
}

fn rows_of_deletion_and_ends() -> Vec<Row> {
    vec![
        (&EVERY, &[Deleting], Step::Transition(Transition::Release), "nothing holds it"),
        (&EVERY, &[Deleting, Held, Delete], RELEASED, "the stored evidence is removed first"),
        (&EVERY, &[Deleting, Held], RELEASED, "only the operator removes the finalizer"),
        (
            &EVERY,
            &[DeletedLongAgo, Held, Delete],
            RELEASED,
            "ten minutes are over, but this process has just started",
        ),
        (
            &EVERY,
            &[DeletedLongAgo, Removing(2, 10), Held, Delete],
            Step::RemoveEvidence { release_when: ReleaseWhen::OnceTried },
            "ten minutes are over",
        ),
        (
            &EVERY,
            &[DeletedLongAgo, Removing(1, 19), Held, Delete],
            RELEASED,
            "ten minutes are over, and the store was called once",
        ),
        (
            &EVERY,
            &[DeletedLongAgo, Removing(0, 20), Held, Delete],
            Step::RemoveEvidence { release_when: ReleaseWhen::Anyway },
            "the store could not be called for twenty minutes",
        ),
        (&EVERY, &[Deleting, Removing(9, 9), Held, Delete], RELEASED, "ten minutes are not over"),
        (
            &[NotApplicable, NotRequested, Complete],
            &[],
            Step::Transition(Transition::Settle),
            "nothing is pending",
        ),
        (
            &[NotApplicable, NotRequested],
            &[Delete],
            Step::Transition(Transition::Settle),
            "there is nothing to remove",
        ),
        (
            &[NotApplicable, NotRequested, Complete],
            &[Suspended],
            Step::Transition(Transition::Settle),
            "settling calls nothing",
        ),
        (&[Pending, Failed, FailedInPart], &[Suspended], FINISHED, "nothing happens while suspended"),
        (&[Complete, Pending], &[Suspended, Delete], FINISHED, "not even the finalizer"),
        (&EVERY, &[Suspended, Held], FINISHED, "not even the finalizer"),
        (
            &[Pending, Failed, FailedInPart],
            &[Retry],
            Step::Transition(Transition::Retry("go".to_owned())),
            "a person requests a retry",
        ),
        (&EVERY, &[Held], RELEASED, "the policy does not remove it any more"),
        (&[Complete, Failed, FailedInPart], &[Delete, Held], FINISHED, "it is removed when it is deleted"),
        (
            &[Complete, FailedInPart, Pending],
            &[Delete],
            Step::AddFinalizer,
            "it is removed with the resource",
        ),
        (&[Failed], &[Delete], FINISHED, "nothing is stored that would have to be removed"),
        (&[Failed, FailedInPart], &[], FINISHED, "only a person can resolve it"),
    ]
}

/// Evidence that has been pending for a day, or nearly so.
fn rows_after_a_day() -> Vec<Row> {
    vec![
        (
            &[Pending],
            &[Day, Tried, PortalError],
            Step::Transition(Transition::AbandonEvidence),
            "a day is enough",
        ),
        (
            &[Pending],
            &[Day, Tried, NoKey],
            Step::Transition(Transition::AbandonEvidence),
            "a day without a key, too",
        ),
        (
            &[Pending],
            &[Day, Tried, PortalNotAllowed],
            Step::Transition(Transition::AbandonEvidence),
            "and without a portal",
        ),
        (
            &[Pending],
            &[Day, Tried, Breaker],
            Step::Transition(Transition::AbandonEvidence),
            "and without an answer",
        ),
        (
            &[Pending],
            &[Day, Tried, PortalError, NotDue],
            Step::Transition(Transition::AbandonEvidence),
            "it waits for no schedule",
        ),
        (&[Pending], &[Day, Tried], Step::Store, "no error is known, it is only late"),
        (
            &[Pending],
            &[Day, Tried, NotDue],
            Step::Transition(Transition::Wait(Wait::Due(until()))),
            "no error is known, it is only late",
        ),
        (
            &[Pending],
            &[Day, Tried, Rate],
            Step::Transition(Transition::Wait(Wait::Admission(Refusal::Rate(until())))),
            "no error is known, it is only late",
        ),
        (&[Pending], &[Day, PortalError], Step::Store, "this process has just started"),
        (&[Pending], &[Tried, PortalError], Step::Store, "less than a day has passed"),
    ]
}

fn rows_of_pending_evidence() -> Vec<Row> {
    vec![
        (
            &[Pending],
            &[PortalNotAllowed],
            NOT_ALLOWED,
            "the key must not be sent to a portal that is not allowed",
        ),
        (&[Pending], &[PortalNotAllowed, Delete], NOT_ALLOWED, "nothing will be stored for now"),
        (
            &[Pending],
            &[NoKey],
            Step::Transition(Transition::Wait(Wait::Key(KeyFault::KeyEmpty))),
            "there is no key to call with",
        ),
        (
            &[Pending],
            &[KeyRejected],
            Step::Transition(Transition::Wait(Wait::Admission(Refusal::KeyRejected(until())))),
            "the key is refused",
        ),
        (
            &[Pending],
            &[Paused],
            Step::Transition(Transition::Wait(Wait::Admission(Refusal::Paused(until())))),
            "a pause is observed",
        ),
        (
            &[Pending],
            &[Breaker],
            Step::Transition(Transition::Wait(Wait::Admission(Refusal::Breaker(until())))),
            "the breaker is open",
        ),
        (
            &[Pending],
            &[Rate],
            Step::Transition(Transition::Wait(Wait::Admission(Refusal::Rate(until())))),
            "the rate limit is observed",
        ),
        (&[Pending], &[NotDue], Step::Transition(Transition::Wait(Wait::Due(until()))), "it is not due"),
        (
            &[Pending],
            &[Delete, Held, NotDue],
            Step::Transition(Transition::Wait(Wait::Due(until()))),
            "it is not due",
        ),
        (&[Pending], &[], Step::Store, "nothing is in the way"),
        (&[Pending], &[Delete, Held], Step::Store, "nothing is in the way"),
    ]
}

#[test]
fn each_row_leads_to_its_step() {
    for (cases, circumstances, step, reason) in rows() {
        for evidence in cases {
            assert_eq!(decided(*evidence, circumstances), step, "{evidence:?} {circumstances:?}: {reason}");
        }
    }
}

/// Deletion comes before suspension, suspension before a retry, a retry before the finalizer, and that before storing.
#[test]
fn of_two_rows_that_match_the_first_decides() {
    let order: [(&[Circumstance], Step); 5] = [
        (&[Deleting, Held], RELEASED),
        (&[Suspended], FINISHED),
        (&[Retry], Step::Transition(Transition::Retry("go".to_owned()))),
        (&[Held], RELEASED),
        (&[Day, Tried, PortalError], Step::Transition(Transition::AbandonEvidence)),
    ];
    for (place, (earlier, step)) in order.iter().enumerate() {
        for (later, _) in &order[place + 1..] {
            let both: Vec<Circumstance> = earlier.iter().chain(*later).copied().collect();
            assert_eq!(decided(Pending, &both), *step, "{both:?}");
        }
    }
}

#[test]
fn evidence_of_a_session_that_has_not_ended_is_left_alone() {
    for status in [fixtures::fresh(), fixtures::open(crate::api::Phase::InProgress)] {
        let facts = facts_of(&status, &[Delete, Held]);
        let step = decide(&ParsedStatus::of(UID, &status), &facts);
        assert!(matches!(step, Step::Create { .. } | Step::Poll(_)), "{step:?}");
    }
}

#[test]
fn a_refused_destination_prevents_only_a_create() {
    let refused = |status: &VerificationStatus, adopt| {
        let mut facts = facts_of(status, &[]);
        facts.evidence.destination = super::cause::refused_destination();
        facts.adopt = adopt;
        decide(&ParsedStatus::of(UID, status), &facts)
    };
    let shown = Step::Transition(Transition::Show(Shown::DestinationRefused));
    assert_eq!(refused(&fixtures::fresh(), None), shown);
    assert_eq!(refused(&fixtures::fresh(), fixtures::id()), shown);
    let open = fixtures::open(crate::api::Phase::InProgress);
    assert!(matches!(refused(&open, None), Step::Poll(_)), "the person may have started");
}
