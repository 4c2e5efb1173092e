//! The statuses that the grid starts from, each produced by reconciles.

use jiff::Timestamp;

use super::world::{Answer, World, not_stored, poll_failed, refused, said};
use crate::{
    api::{
        DeletionPolicy, EvidenceKind, Mode, OnUnknownOutcome, Outcome, ReadyWhen, SessionState,
        VerificationStatus,
    },
    lifecycle::{
        evidence::UploadOutcome,
        evidence_error::EvidenceError,
        facts::PortalFact,
        fixtures::{self, UID},
        key_fact::{KeyFact, KeyFault},
        state::{ParsedStatus, State},
        step::Refusal,
    },
    portal::error::{Failed, NotSent, PortalError},
};

/// A state by name.
pub(super) struct Sample {
    /// What it is.
    pub(super) name: &'static str,
    /// The status that it is read from.
    pub(super) status: VerificationStatus,
}

const LOST: PortalError = PortalError::Failed(Failed::TimedOut);

fn fresh() -> World {
    World::fresh(ReadyWhen::Verified)
}

fn open() -> World {
    World::open(ReadyWhen::Verified)
}

/// A claim that a process left behind, after this many lost responses.
fn claimed(times: u32) -> VerificationStatus {
    World::outcome_unknown(times).reconcile_when_due(refused(LOST)).claimed.unwrap()
}

/// After this refusal, repeated for a quarter of an hour.
fn refused_for_long(error: PortalError) -> World {
    let mut world = fresh();
    let begun = world.facts.now;
    while world.facts.now.duration_since(begun).as_mins() < 15 {
        world.reconcile_when_due(refused(error));
        world.pass(60);
    }
    world.reconcile_when_due(refused(error));
    world
}

/// An open session after this answer, repeated for a quarter of an hour.
fn polled_for_long(answer: &Answer) -> World {
    let mut world = open();
    let begun = world.facts.now;
    while world.facts.now.duration_since(begun).as_mins() < 15 {
        world.reconcile_when_due(answer.clone());
        world.pass(60);
    }
    world.reconcile_when_due(answer.clone());
    world
}

/// An open session that the portal did not find three times.
fn not_found() -> World {
    let mut session = open();
    for _ in 0..3 {
        session.reconcile_when_due(poll_failed(PortalError::NotFound));
    }
    session
}

/// An open session for which the portal reported this status.
fn open_as(word: &str, completed: &[&str]) -> World {
    let mut session = open();
    session.reconcile(said(word, completed));
    session
}

fn waiting(mut world: World, change: impl FnOnce(&mut World)) -> VerificationStatus {
    change(&mut world);
    world.reconcile(Answer::Uncalled);
    world.status
}

/// Ended, but not settled.
fn finished(outcome: Outcome) -> VerificationStatus {
    VerificationStatus { settled: false, ..settled(outcome) }
}

fn settled(outcome: Outcome) -> VerificationStatus {
    match outcome {
        Outcome::Verified => open_as("verified", &["document"]).status,
        Outcome::Rejected => open_as("rejected", &[]).status,
        Outcome::Expired => open_as("expired", &[]).status,
        Outcome::Failed => waiting(open_as("generated", &[]), |world| {
            world.deadline = Timestamp::UNIX_EPOCH;
        }),
    }
}

fn changed(
    mut status: VerificationStatus,
    change: impl FnOnce(&mut VerificationStatus),
) -> VerificationStatus {
    change(&mut status);
    status
}

fn of_another(status: VerificationStatus) -> VerificationStatus {
    changed(status, |status| {
        status.session.as_mut().unwrap().uid = Some(UID.replace('3', "4"));
    })
}

/// Statuses of resources without a session.
fn without_session() -> Vec<(&'static str, VerificationStatus)> {
    let hold = waiting(World::outcome_unknown(1), |world| world.facts.on_unknown = OnUnknownOutcome::Hold);
    let retried =
        |times| waiting(World::outcome_unknown(times), |world| world.facts.retry = Some("go".to_owned()));
    let mut retried_and_unknown = World::outcome_unknown(3);
    retried_and_unknown.facts.retry = Some("go".to_owned());
    retried_and_unknown.reconcile(Answer::Uncalled);
    retried_and_unknown.facts.retry = None;
    retried_and_unknown.reconcile_when_due(refused(LOST));
    let mut refused_after_unknown = World::outcome_unknown(2);
    refused_after_unknown.reconcile_when_due(refused(PortalError::NotSent(NotSent::Connect)));
    let once = |error| {
        let mut world = fresh();
        world.reconcile(refused(error));
        world.status
    };
    vec![
        ("fresh", fixtures::fresh()),
        (
            "fresh, no key",
            waiting(fresh(), |world| world.facts.key = KeyFact::Missing(KeyFault::SecretNotFound)),
        ),
        ("fresh, portal not allowed", waiting(fresh(), |world| world.facts.portal = PortalFact::NotAllowed)),
        ("fresh, suspended", waiting(fresh(), |world| world.facts.suspend = true)),
        (
            "fresh, breaker open",
            waiting(fresh(), |world| world.refusal = Some(Refusal::Breaker(fixtures::after(90)))),
        ),
        ("claimed", claimed(0)),
        ("claimed, one unknown", claimed(1)),
        ("claimed, two unknown", claimed(2)),
        ("refused, not sent", once(PortalError::NotSent(NotSent::Connect))),
        ("refused, conflict", once(PortalError::Conflict)),
        ("refused, 401", once(PortalError::KeyRejected)),
        ("refused, key stalled", refused_for_long(PortalError::KeyRejected).status),
        ("refused, invalid stalled", refused_for_long(PortalError::Invalid).status),
        ("refused, misconfigured stalled", refused_for_long(PortalError::Unconfigured).status),
        ("refused after two unknown", refused_after_unknown.status),
        ("outcome unknown once", World::outcome_unknown(1).status),
        ("outcome unknown twice", World::outcome_unknown(2).status),
        ("outcome unknown three times", World::outcome_unknown(3).status),
        ("lost, held", hold),
        ("lost, acknowledged", retried(1)),
        ("outcome unknown three times, acknowledged", retried(3)),
        ("outcome unknown again after acknowledgement", retried_and_unknown.status),
    ]
}

/// Statuses of open sessions.
fn with_session() -> Vec<(&'static str, VerificationStatus)> {
    let reported = |word, completed: &[&str]| open_as(word, completed).status;
    let expired = |status| {
        changed(status, |status: &mut VerificationStatus| {
            let ago = |hours| Some(fixtures::now() - jiff::SignedDuration::from_hours(hours));
            status.expires_at = ago(3);
            status.session.as_mut().unwrap().created_at = ago(4);
        })
    };
    let young = changed(open().status, |status| {
        status.session.as_mut().unwrap().created_at = Some(fixtures::after(3590));
    });
    let mut adopted = fresh();
    adopted.facts.adopt = fixtures::id();
    adopted.reconcile(said("in_progress", &["document"]));
    let mut paused = open();
    paused.refusal = Some(Refusal::Paused(fixtures::after(900)));
    paused.reconcile(Answer::Uncalled);
    paused.pass(61);
    let mut select = open();
    select.facts.mode = Mode::Select;
    vec![
        ("open", reported("generated", &[])),
        ("open, in progress", reported("in_progress", &["document"])),
        ("open, evaluated", reported("validating", &["document", "liveness"])),
        ("open, in review", reported("needs_manual_review", &["document"])),
        ("open, an unknown status", reported("junk", &[])),
        ("open, ten seconds old", young),
        ("open, three hours past its end", expired(reported("generated", &[]))),
        (
            "open, three hours past its end, in review",
            expired(reported("needs_manual_review", &["document"])),
        ),
        ("open, adopted", adopted.status),
        ("open, no key", waiting(open(), |world| world.facts.key = KeyFact::Missing(KeyFault::KeyEmpty))),
        ("open, suspended", waiting(open(), |world| world.facts.suspend = true)),
        ("open, portal not allowed", waiting(open(), |world| world.facts.portal = PortalFact::NotAllowed)),
        ("open, rate limited", waiting(paused, |_| {})),
        ("open, error", polled_for_long(&poll_failed(LOST)).status),
        ("open, key stalled", polled_for_long(&poll_failed(PortalError::AccessDenied)).status),
        ("open, not found", not_found().status),
        ("open, not found, three hours past its end", expired(not_found().status)),
        ("open, select", select.status),
    ]
}

/// Statuses of verifications that ended.
fn ended() -> Vec<(&'static str, VerificationStatus)> {
    vec![
        ("finished, verified", finished(Outcome::Verified)),
        ("finished, rejected", finished(Outcome::Rejected)),
        ("finished, expired", finished(Outcome::Expired)),
        ("finished, failed", finished(Outcome::Failed)),
        ("settled, verified", settled(Outcome::Verified)),
        ("settled, failed", settled(Outcome::Failed)),
    ]
}

fn storing() -> World {
    World::storing(ReadyWhen::Verified, DeletionPolicy::Retain)
}

/// What is pending after these reconciles.
fn stored(answers: Vec<Answer>) -> World {
    let mut world = storing();
    for answer in answers {
        world.reconcile(answer);
    }
    world
}

/// Statuses of verifications that request evidence.
fn with_evidence() -> Vec<(&'static str, VerificationStatus)> {
    let silent = || not_stored(EvidenceError::StoreUnavailable);
    let front = || fixtures::stored(vec![fixtures::front()]);
    let conflict = Some(EvidenceError::Conflict);
    let mut shown = storing();
    shown.reconcile(silent());
    shown.pass(60);
    shown.reconcile(silent());
    let mut again = stored(vec![not_stored(EvidenceError::Conflict)]);
    again.facts.retry = Some("go".to_owned());
    again.reconcile(Answer::Uncalled);
    let absent = [EvidenceKind::Front, EvidenceKind::Back].map(fixtures::absent).to_vec();
    // The policy decides whether it is settled.
    let live = |world: World| VerificationStatus { settled: false, ..world.status };
    let mut refused = fresh();
    refused.facts.evidence.spec = Some(fixtures::evidence_spec(DeletionPolicy::Retain));
    refused.facts.evidence.destination = super::cause::refused_destination();
    let asking = World::asking(ReadyWhen::Verified, DeletionPolicy::Retain);
    let mut expired = World::asking(ReadyWhen::Verified, DeletionPolicy::Retain);
    expired.reconcile(said("expired", &[]));
    vec![
        ("fresh, destination refused", waiting(refused, |_| {})),
        ("open, evidence requested", asking.status),
        ("finished, storing", storing().status),
        ("finished, expired and storing", expired.status),
        ("finished, storing with error", shown.status),
        ("finished, one object stored", stored(vec![Answer::Store(front())]).status),
        ("finished, stored", live(stored(vec![Answer::Store(fixtures::all_stored())]))),
        ("finished, nothing to store", live(stored(vec![Answer::Store(fixtures::stored(absent))]))),
        ("finished, evidence failed", stored(vec![not_stored(EvidenceError::Conflict)]).status),
        (
            "finished, evidence failed in part",
            stored(vec![Answer::Store(UploadOutcome { error: conflict, ..front() })]).status,
        ),
        ("finished, evidence requested again", again.status),
    ]
}

/// Statuses that no reconcile leads to: edited by hand, or restored from a backup under another uid.
fn foreign() -> Vec<(&'static str, VerificationStatus)> {
    let open = || open_as("in_progress", &["document"]).status;
    let verified = || finished(Outcome::Verified);
    vec![
        ("edited, verdict without id", changed(verified(), |status| status.verification_id = None)),
        (
            "edited, verdict alone",
            VerificationStatus { outcome: Some(Outcome::Verified), ..fixtures::fresh() },
        ),
        ("edited, invalid id", changed(open(), |status| status.verification_id = Some("..".to_owned()))),
        ("edited, no portal", changed(open(), |status| status.session = None)),
        (
            "edited, more unknown than created",
            changed(World::outcome_unknown(1).status, |status| status.session.as_mut().unwrap().orphans = 9),
        ),
        ("edited, outcome removed", changed(verified(), |status| status.outcome = None)),
        ("edited, settled without outcome", VerificationStatus { settled: true, ..fixtures::fresh() }),
        ("edited, open and settled", changed(open(), |status| status.settled = true)),
        ("edited, created without id", fixtures::attempted(SessionState::Created, 1, 0)),
        ("restored, claimed", of_another(claimed(1))),
        ("restored, open", of_another(open())),
        ("restored, finished", of_another(verified())),
    ]
}

/// Every state of the grid.
pub(super) fn all() -> Vec<Sample> {
    let states = [without_session(), with_session(), ended(), with_evidence(), foreign()];
    states.into_iter().flatten().map(|(name, status)| Sample { name, status }).collect()
}

fn read(name: &str) -> State {
    let status = all().into_iter().find(|sample| sample.name == name).unwrap().status;
    ParsedStatus::of(UID, &status).state().clone()
}

#[test]
fn every_kind_of_state_is_among_them() {
    for (name, kind) in [
        ("fresh", State::Fresh),
        ("claimed", State::Claimed),
        ("outcome unknown once", State::OutcomeUnknown),
    ] {
        assert_eq!(read(name), kind, "{name}");
    }
    assert_eq!(read("refused, 401"), State::Refused);
    assert!(matches!(read("open"), State::Open { .. }));
    assert_eq!(read("finished, rejected"), State::Finished(Outcome::Rejected));
    assert_eq!(read("settled, failed"), State::Settled);
    assert_eq!(read("finished, storing"), State::Finished(Outcome::Verified));
    assert_eq!(read("finished, evidence failed"), State::Finished(Outcome::Verified));
    assert_eq!((read("restored, claimed"), read("restored, open")), (State::Fresh, State::Fresh));
    for (name, status) in with_session() {
        assert!(matches!(ParsedStatus::of(UID, &status).state(), State::Open { .. }), "{name}");
    }
    for (name, status) in foreign().into_iter().filter(|(name, _)| name.starts_with("edited")) {
        assert!(matches!(ParsedStatus::of(UID, &status).state(), State::Inconsistent(_)), "{name}");
    }
}
