//! The rows of `decide` for evidence, and that rows are tried in their order.

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

/// How evidence stands in a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stands {
    Pending,
    Failed,
    FailedInPart,
    Complete,
    NotApplicable,
    NotAsked,
}

use Stands::{Complete, Failed, FailedInPart, NotApplicable, NotAsked, Pending};

/// What is the matter in a case; several may be at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Matter {
    /// The spec says that evidence is removed with the resource.
    Delete,
    /// The resource has our finalizer.
    Held,
    Deleting,
    DeletedLongAgo,
    /// So many tries to remove it, since so many minutes ago.
    Removing(u32, i64),
    Suspended,
    Retry,
    /// Pending for a day.
    Day,
    /// This process tries for ten minutes.
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

use Matter::{
    Breaker, Day, Delete, DeletedLongAgo, Deleting, Held, KeyRejected, NoKey, NotDue, Paused, PortalError,
    PortalNotAllowed, Rate, Removing, Retry, Suspended, Tried,
};

const DAY: u64 = 24 * 3600;

fn until() -> jiff::Timestamp {
    fixtures::after(DAY + 60)
}

fn status(stands: Stands) -> VerificationStatus {
    let mut status = fixtures::over(crate::api::Outcome::Verified);
    let with = |stored| {
        crate::lifecycle::conclude::conclude(
            &ParsedStatus::of(UID, &fixtures::over(crate::api::Outcome::Verified)),
            &crate::lifecycle::step::StepOutcome::Store(stored),
            &facts_of(&status, &[]),
        )
    };
    match stands {
        Pending | NotAsked => {}
        NotApplicable => status = fixtures::over(crate::api::Outcome::Rejected),
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

fn facts_of(status: &VerificationStatus, matters: &[Matter]) -> Facts {
    let has = |matter| matters.contains(&matter);
    let policy = if has(Delete) { DeletionPolicy::Delete } else { DeletionPolicy::Retain };
    let mut facts = Facts {
        evidence: EvidenceFacts::of(Some(fixtures::evidence_spec(policy)), status),
        now: fixtures::after(if has(Day) { DAY } else { 3600 }),
        ..fixtures::facts()
    };
    for matter in matters {
        match matter {
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

/// Why the call is refused, if it is.
fn refusal(matters: &[Matter]) -> Option<Refusal> {
    matters.iter().find_map(|matter| match matter {
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
fn decided(stands: Stands, matters: &[Matter]) -> Step {
    let status = status(stands);
    let mut facts = facts_of(&status, matters);
    if stands == NotAsked {
        let held = EvidenceFacts { spec: None, ..facts.evidence };
        facts.evidence = EvidenceFacts { state: crate::lifecycle::evidence::EvidenceState::NotAsked, ..held };
    }
    let step = decide(&ParsedStatus::of(UID, &status), &facts);
    match step.portal_step().zip(refusal(matters)) {
        Some((of, refusal)) => after_refusal(&NotAdmitted { step: of, refusal, cause: None }, &facts).into(),
        None => step,
    }
}

const EVERY: [Stands; 6] = [Pending, Failed, FailedInPart, Complete, NotApplicable, NotAsked];
const OVER: Step = Step::Transition(Transition::Show(Shown::Finished));
const NOT_ALLOWED: Step = Step::Transition(Transition::Show(Shown::PortalNotAllowed));
const RELEASED: Step = Step::RemoveEvidence { release_when: ReleaseWhen::OnceRemoved };

/// One row: on which standings, with what the matter, which step, and why.
type Row = (&'static [Stands], &'static [Matter], Step, &'static str);

fn rows() -> Vec<Row> {
    [rows_of_deletion_and_ends(), rows_after_a_day(), rows_of_pending_evidence()].concat()
}

fn rows_of_deletion_and_ends() -> Vec<Row> {
    vec![
        (&EVERY, &[Deleting], Step::Transition(Transition::Release), "nothing holds it"),
        (&EVERY, &[Deleting, Held, Delete], RELEASED, "what is stored goes first"),
        (&EVERY, &[Deleting, Held], RELEASED, "nobody else takes the finalizer off"),
        (
            &EVERY,
            &[DeletedLongAgo, Held, Delete],
            RELEASED,
            "ten minutes are over, and this process has just begun",
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
            "ten minutes are over, and the store was asked once",
        ),
        (
            &EVERY,
            &[DeletedLongAgo, Removing(0, 20), Held, Delete],
            Step::RemoveEvidence { release_when: ReleaseWhen::Anyway },
            "nobody could ask the store for twenty minutes",
        ),
        (&EVERY, &[Deleting, Removing(9, 9), Held, Delete], RELEASED, "ten minutes are not over"),
        (&[NotApplicable, NotAsked, Complete], &[], Step::Transition(Transition::Settle), "it owes nothing"),
        (
            &[NotApplicable, NotAsked],
            &[Delete],
            Step::Transition(Transition::Settle),
            "nothing is there to be removed",
        ),
        (
            &[NotApplicable, NotAsked, Complete],
            &[Suspended],
            Step::Transition(Transition::Settle),
            "settling moves nothing",
        ),
        (&[Pending, Failed, FailedInPart], &[Suspended], OVER, "nothing moves while suspended"),
        (&[Complete, Pending], &[Suspended, Delete], OVER, "not even the finalizer"),
        (&EVERY, &[Suspended, Held], OVER, "not even the finalizer"),
        (
            &[Pending, Failed, FailedInPart],
            &[Retry],
            Step::Transition(Transition::Retry("go".to_owned())),
            "a person asks again",
        ),
        (&EVERY, &[Held], RELEASED, "the policy was to remove it and is not any more"),
        (&[Complete, Failed, FailedInPart], &[Delete, Held], OVER, "it is removed when it is deleted"),
        (&[Complete, FailedInPart, Pending], &[Delete], Step::AddFinalizer, "it is to be removed one day"),
        (&[Failed], &[Delete], OVER, "nothing is stored that would have to be removed"),
        (&[Failed, FailedInPart], &[], OVER, "only a person can help"),
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
        (&[Pending], &[Day, Tried], Step::Store, "it goes well, only late"),
        (
            &[Pending],
            &[Day, Tried, NotDue],
            Step::Transition(Transition::Wait(Wait::Due(until()))),
            "it goes well, only late",
        ),
        (
            &[Pending],
            &[Day, Tried, Rate],
            Step::Transition(Transition::Wait(Wait::Admission(Refusal::Rate(until())))),
            "it goes well, only late",
        ),
        (&[Pending], &[Day, PortalError], Step::Store, "this process has just begun"),
        (&[Pending], &[Tried, PortalError], Step::Store, "it is the same day"),
    ]
}

fn rows_of_pending_evidence() -> Vec<Row> {
    vec![
        (&[Pending], &[PortalNotAllowed], NOT_ALLOWED, "the key goes to no portal that is not allowed"),
        (&[Pending], &[PortalNotAllowed, Delete], NOT_ALLOWED, "nothing will be stored for now"),
        (
            &[Pending],
            &[NoKey],
            Step::Transition(Transition::Wait(Wait::Key(KeyFault::KeyEmpty))),
            "there is nobody to ask as",
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
            "a pause is kept",
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
            "the rate is kept",
        ),
        (
            &[Pending],
            &[NotDue],
            Step::Transition(Transition::Wait(Wait::Due(until()))),
            "its time has not come",
        ),
        (
            &[Pending],
            &[Delete, Held, NotDue],
            Step::Transition(Transition::Wait(Wait::Due(until()))),
            "its time has not come",
        ),
        (&[Pending], &[], Step::Store, "all is well"),
        (&[Pending], &[Delete, Held], Step::Store, "all is well"),
    ]
}

#[test]
fn each_row_leads_to_its_step() {
    for (standings, matters, step, reason) in rows() {
        for stands in standings {
            assert_eq!(decided(*stands, matters), step, "{stands:?} {matters:?}: {reason}");
        }
    }
}

/// Deletion comes before suspension, suspension before a retry, a retry before the finalizer, and that before storing.
#[test]
fn of_two_rows_that_match_the_first_decides() {
    let order: [(&[Matter], Step); 5] = [
        (&[Deleting, Held], RELEASED),
        (&[Suspended], OVER),
        (&[Retry], Step::Transition(Transition::Retry("go".to_owned()))),
        (&[Held], RELEASED),
        (&[Day, Tried, PortalError], Step::Transition(Transition::AbandonEvidence)),
    ];
    for (place, (earlier, step)) in order.iter().enumerate() {
        for (later, _) in &order[place + 1..] {
            let both: Vec<Matter> = earlier.iter().chain(*later).copied().collect();
            assert_eq!(decided(Pending, &both), *step, "{both:?}");
        }
    }
}

#[test]
fn evidence_of_a_session_that_is_not_over_is_left_alone() {
    for status in [fixtures::fresh(), fixtures::open(crate::api::Phase::InProgress)] {
        let facts = facts_of(&status, &[Delete, Held]);
        let step = decide(&ParsedStatus::of(UID, &status), &facts);
        assert!(matches!(step, Step::Create { .. } | Step::Poll(_)), "{step:?}");
    }
}

#[test]
fn a_destination_that_is_refused_keeps_only_a_session_from_being_created() {
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
    assert!(matches!(refused(&open, None), Step::Poll(_)), "a person may be at it");
}
