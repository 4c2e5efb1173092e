//! A poll that finds nothing new leads to the same result as a full reconcile.

use std::collections::BTreeMap;

use crate::{
    api::{Phase, SessionState, VerificationStatus},
    lifecycle::{
        conclude::{Requeue, conclude},
        fixtures,
        local_state::LocalState,
        poll_baseline::{CompactState, PollBaseline},
        schedule::{Announced, Spacing},
        state::ParsedStatus,
        step::{CreateOutcome, StepOutcome},
    },
    portal::{verification_id::VerificationId, wire::Details},
};

/// The baseline after a full reconcile whose poll got this answer.
fn after_a_reconcile(details: &Details) -> (PollBaseline, CompactState, VerificationStatus) {
    let status = fixtures::open(Phase::AwaitingUser);
    let facts = fixtures::facts();
    let outcome = StepOutcome::Poll { id: fixtures::id().unwrap(), answer: Ok(details.clone()) };
    let done = conclude(&ParsedStatus::of(fixtures::UID, &status), &outcome, &facts);
    let after = done.status.unwrap();
    let baseline =
        PollBaseline::of(&after, &done.local_state, facts.bounds, fixtures::after(1_000_000), facts.times())
            .unwrap();
    (baseline, CompactState::of(&done.local_state).unwrap(), after)
}

#[test]
fn the_same_answer_again_is_unchanged_and_a_reconcile_writes_nothing() {
    for (word, completed) in
        [("generated", &[][..]), ("in_progress", &["document"]), ("an unknown status", &[])]
    {
        let details = fixtures::details(word, completed);
        let (baseline, compact, status) = after_a_reconcile(&details);
        let mut facts = fixtures::facts();
        facts.now = fixtures::after(60);
        facts.local_state = compact.local_state();
        let short =
            baseline.unchanged(&compact, &details, facts.now, Spacing::unstretched(facts.jitter_seed));
        let outcome = StepOutcome::Poll { id: fixtures::id().unwrap(), answer: Ok(details.clone()) };
        let long = conclude(&ParsedStatus::of(fixtures::UID, &status), &outcome, &facts);
        assert_eq!(long.status.as_ref(), Some(&status), "{word}");
        let short = short.unwrap();
        assert_eq!(long.next, Requeue::At(short.next), "{word}");
        assert_eq!(CompactState::of(&long.local_state).unwrap(), short.compact, "{word}");
        assert_eq!(long.priority, short.priority, "{word}");
    }
}

#[test]
fn a_due_poll_is_deferred_only_if_a_notification_was_confirmed_since_the_last_one() {
    let (baseline, compact, _) = after_a_reconcile(&fixtures::details("generated", &[]));
    let spacing = Spacing { announced: Announced::Progress, ..Spacing::unstretched(7) };
    let polled = compact.local_state().last_poll.unwrap();
    let due = compact.due().unwrap();
    let deferred = |announced_at| baseline.deferred(&compact, announced_at, due, spacing);
    assert_eq!(deferred(polled), None);
    let after = deferred(due).unwrap();
    assert!(after.next > due && after.compact.due().unwrap() > polled);
    assert_eq!(after.compact.local_state().last_poll, Some(polled), "it was not polled");
    let (new, never_polled, _) = after_the_create();
    assert_eq!(new.deferred(&never_polled, due, due, spacing), None);
}

/// The baseline of a session that was created a moment ago, and the status that says so.
fn after_the_create() -> (PollBaseline, CompactState, VerificationStatus) {
    let status = fixtures::attempted(SessionState::Claimed, 1, 0);
    let facts = fixtures::facts();
    let outcome = StepOutcome::Create(CreateOutcome::Answered(Ok(fixtures::created().unwrap())));
    let done = conclude(&ParsedStatus::of(fixtures::UID, &status), &outcome, &facts);
    let after = done.status.unwrap();
    let deadline = fixtures::after(1_000_000);
    assert_eq!(PollBaseline::of(&after, &done.local_state, facts.bounds, deadline, facts.times()), None);
    let baseline =
        PollBaseline::of_new(&after, &done.local_state, facts.bounds, deadline, facts.times()).unwrap();
    (baseline, CompactState::of(&done.local_state).unwrap(), after)
}

#[test]
fn the_first_poll_of_a_session_that_nobody_has_started_is_unchanged() {
    let pending = [("document".to_owned(), "pending".to_owned())].into();
    for progress in [BTreeMap::new(), pending] {
        let details = Details { progress, ..fixtures::details("generated", &[]) };
        let (baseline, compact, status) = after_the_create();
        let mut facts = fixtures::facts();
        facts.now = fixtures::after(16);
        facts.local_state = compact.local_state();
        let short = baseline
            .unchanged(&compact, &details, facts.now, Spacing::unstretched(facts.jitter_seed))
            .unwrap();
        let id = VerificationId::parse(status.verification_id.as_deref().unwrap()).unwrap();
        let outcome = StepOutcome::Poll { id, answer: Ok(details.clone()) };
        let after = |facts: &_| conclude(&ParsedStatus::of(fixtures::UID, &status), &outcome, facts);
        let long = after(&facts);
        assert_eq!(long.status.as_ref(), Some(&status));
        assert_eq!((long.next, long.priority), (Requeue::At(short.next), short.priority));
        assert_eq!(CompactState::of(&long.local_state).unwrap(), short.compact);

        // And so does the second.
        facts.now = fixtures::after(60);
        facts.local_state = short.compact.local_state();
        let short = baseline
            .unchanged(&short.compact, &details, facts.now, Spacing::unstretched(facts.jitter_seed))
            .unwrap();
        let long = after(&facts);
        assert_eq!((long.next, long.priority), (Requeue::At(short.next), short.priority));
        assert_eq!(CompactState::of(&long.local_state).unwrap(), short.compact);
    }
}

#[test]
fn the_first_poll_of_a_session_that_somebody_has_started_is_concluded() {
    let (baseline, compact, _) = after_the_create();
    for other in [
        fixtures::details("initiated", &[]),
        fixtures::details("generated", &["document"]),
        fixtures::details("verified", &[]),
        fixtures::details("an unknown status", &[]),
        Details { id: None, ..fixtures::details("generated", &[]) },
    ] {
        assert_eq!(
            baseline.unchanged(&compact, &other, fixtures::after(16), Spacing::unstretched(7)),
            None,
            "{other:?}"
        );
    }
}

#[test]
fn any_other_answer_is_concluded() {
    let details = fixtures::details("in_progress", &["document"]);
    let (baseline, compact, _) = after_a_reconcile(&details);
    for other in [
        fixtures::details("verified", &["document"]),
        fixtures::details("in_progress", &["document", "liveness"]),
        fixtures::details("validating", &["document"]),
        Details { id: None, ..details.clone() },
        Details {
            updated_at: fixtures::now().checked_sub(jiff::SignedDuration::from_secs(1)).ok(),
            ..details.clone()
        },
    ] {
        assert_eq!(
            baseline.unchanged(&compact, &other, fixtures::after(60), Spacing::unstretched(7)),
            None,
            "{other:?}"
        );
    }
}

#[test]
fn a_local_state_with_an_error_has_no_compact_form() {
    let local_state = LocalState { paused: Some(fixtures::now()), ..LocalState::default() };
    assert_eq!(CompactState::of(&local_state), None);
    let compact = LocalState { next: Some(fixtures::now()), good_polls: 3, ..LocalState::default() };
    assert_eq!(CompactState::of(&compact).unwrap().local_state(), compact);
}

#[test]
fn the_last_poll_has_a_compact_form_without_an_answer_and_is_never_earlier_there() {
    let between = fixtures::now().checked_add(jiff::SignedDuration::from_millis(1)).unwrap();
    for (last_poll, kept) in [(fixtures::now(), fixtures::now()), (between, fixtures::after(1))] {
        let local_state = LocalState { last_poll: Some(last_poll), ..LocalState::default() };
        let compact = CompactState::of(&local_state).unwrap();
        assert_eq!(compact.local_state(), LocalState { last_poll: Some(kept), ..local_state });
    }
}

#[test]
fn the_deadline_and_the_end_of_the_session_need_more_than_a_poll() {
    let (baseline, _, _) = after_a_reconcile(&fixtures::details("generated", &[]));
    assert!(baseline.is_plain_at(fixtures::after(60)));
    assert!(!baseline.is_plain_at(fixtures::after(7200)));
    assert!(!baseline.is_plain_at(fixtures::after(1_000_000)));
}
