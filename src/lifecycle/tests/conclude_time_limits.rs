//! The rows of `conclude` for evidence errors: how long each is retried, and what is shown meanwhile.

use super::world::{Answer, Reconcile, World, assert_led_to, expected, line, not_stored};
use crate::{
    api::{Condition, ConditionStatus, ConditionType, DeletionPolicy, ReadyWhen},
    lifecycle::{
        conclude::Requeue,
        event::Event,
        evidence::UploadOutcome,
        evidence_error::EvidenceError,
        facts::PortalFact,
        fixtures,
        key_fact::{KeyFact, KeyFault},
        since::elapsed,
        step::{Step, Transition},
    },
    portal::error::PortalError,
    store::no_response::NoResponse,
};

const STORING: &str = "Storing: R StoringEvidence, Rec StoringEvidence, CR Accepted, SC Created, F Verified, V Verified, ES Storing";
const STORED: &str = "Verified: R Verified, CR Accepted, SC Created, F Verified, V Verified, ES Stored";

/// Why evidence is not stored, and the reason that shows it.
const SLOW: [(EvidenceError, &str); 8] = [
    (EvidenceError::StoreUnavailable, "StoreUnavailable"),
    (EvidenceError::StoreUnresponsive(NoResponse::Tls), "StoreUnavailable"),
    (EvidenceError::BucketNotFound, "BucketNotFound"),
    (EvidenceError::StoreMisconfigured, "StoreMisconfigured"),
    (EvidenceError::StoreAccessDenied, "StoreAccessDenied"),
    (EvidenceError::StoreSecretNotFound, "StoreSecretNotFound"),
    (EvidenceError::StoreSecretForbidden, "StoreSecretForbidden"),
    (EvidenceError::PortalUnavailable, "PortalUnavailable"),
];

fn storing() -> World {
    World::storing(ReadyWhen::Verified, DeletionPolicy::Retain)
}

fn store(stored: UploadOutcome) -> Answer {
    Answer::Store(stored)
}

fn failed(reason: &str) -> String {
    format!(
        "Verified: R EvidenceFailed, St EvidenceFailed, CR Accepted, SC Created, F Verified, V Verified, ES {reason}"
    )
}

/// The same error until storing is abandoned.
#[track_caller]
fn failing_until_abandoned(world: &mut World, error: EvidenceError) -> Reconcile {
    for _ in 0..1000 {
        world.facts.now =
            world.facts.local_state.next.map_or(world.facts.now, |next| next.max(world.facts.now));
        let step = world.decide();
        let answer = if step == Step::Store { not_stored(error) } else { Answer::Uncalled };
        let reconcile = world.reconcile(answer);
        if reconcile.conclusion.events.contains(&Event::EvidenceFailed) {
            return reconcile;
        }
    }
    panic!("{error:?} is never abandoned");
}

fn request_retry(world: &mut World) -> Reconcile {
    world.facts.retry = Some("again".to_owned());
    let reconcile = world.reconcile(Answer::Uncalled);
    world.facts.retry = None;
    reconcile
}

#[test]
fn only_an_answer_of_the_portal_shows_that_the_key_is_accepted() {
    let mut world = storing();
    world.facts.key = KeyFact::Missing(KeyFault::SecretNotFound);
    world.reconcile(Answer::Uncalled);
    assert_eq!(world.reason(ConditionType::CredentialsReady), Some("SecretNotFound"));
    world.facts.key = KeyFact::Usable { fingerprint: "0011223344556677".to_owned() };
    world.reconcile(not_stored(EvidenceError::StoreUnavailable));
    assert_eq!(world.reason(ConditionType::CredentialsReady), Some("NotChecked"));
    world.reconcile_when_due(store(fixtures::stored(vec![fixtures::front()])));
    assert_eq!(world.reason(ConditionType::CredentialsReady), Some("Accepted"));
}

#[test]
fn an_error_is_shown_after_a_minute_and_retried_with_backoff() {
    for (error, reason) in SLOW {
        let mut world = storing();
        let before = world.status.clone();
        let reconcile = world.reconcile(not_stored(error));
        assert_led_to(&world, &reconcile, expected(STORING, 5..=5, &[]), reason);
        assert_eq!(world.status, before, "not in its first minute");
        let mut waits = Vec::new();
        for _ in 0..12 {
            let reconcile = world.reconcile_when_due(not_stored(error));
            assert_eq!(reconcile.step, Step::Store);
            let Requeue::At(at) = reconcile.conclusion.next else { panic!("{reason}") };
            waits.push(elapsed(world.facts.now, at));
        }
        assert!(waits.iter().all(|wait| (5..=300).contains(&wait.as_secs())), "{waits:?}");
        assert!(waits.last().unwrap().as_secs() > 30, "{waits:?}");
        assert_eq!(world.reason(ConditionType::EvidenceStored), Some(reason));
        assert_eq!(world.reason(ConditionType::Ready), Some("StoringEvidence"));
    }
}

#[test]
fn an_unresponsive_store_is_one_error_and_shows_its_last_cause() {
    let message = |world: &World| {
        let shown = Condition::find(&world.status.conditions, ConditionType::EvidenceStored).unwrap();
        shown.message.clone()
    };
    let mut world = storing();
    let causes =
        [NoResponse::Resolve, NoResponse::TimedOut, NoResponse::Refused, NoResponse::Cut, NoResponse::Tls];
    for why in causes.into_iter().chain(causes) {
        world.reconcile_when_due(not_stored(EvidenceError::StoreUnresponsive(why)));
    }
    assert_eq!(world.reason(ConditionType::EvidenceStored), Some("StoreUnavailable"));
    assert!(message(&world).contains("--store-ca-file"), "{}", message(&world));
    world.reconcile_when_due(not_stored(EvidenceError::StoreCircuitOpen));
    assert!(message(&world).contains("--store-ca-file"), "why the store is not called: {}", message(&world));
    world.reconcile_when_due(not_stored(EvidenceError::StoreUnavailable));
    assert!(message(&world).contains("temporarily unavailable"), "{}", message(&world));
    let silent = NoResponse::ALL.map(EvidenceError::StoreUnresponsive);
    for error in silent.into_iter().chain(EvidenceError::ALL).chain(EvidenceError::OTHER_CAUSES) {
        assert!(error.cause().is_none_or(|cause| cause.len() <= 256 && cause.ends_with('.')), "{error:?}");
    }
}

#[test]
fn an_error_that_has_ended_is_not_shown_any_more() {
    let mut world = storing();
    world.reconcile(not_stored(EvidenceError::StoreUnavailable));
    world.pass(60);
    world.reconcile(not_stored(EvidenceError::StoreUnavailable));
    assert_eq!(world.reason(ConditionType::EvidenceStored), Some("StoreUnavailable"));
    world.restart();
    world.reconcile(not_stored(EvidenceError::StoreUnavailable));
    assert_eq!(world.reason(ConditionType::EvidenceStored), Some("StoreUnavailable"), "also after a restart");
    world.reconcile_when_due(store(fixtures::stored(vec![fixtures::front()])));
    assert_eq!(line(&world.status), STORING);
}

#[test]
fn an_error_that_waiting_cannot_resolve_is_abandoned_at_once() {
    for (error, reason) in [
        (EvidenceError::Conflict, "Conflict"),
        (EvidenceError::NoConditionalWrites, "StoreMisconfigured"),
        (EvidenceError::DestinationNotAllowed, "DestinationNotAllowed"),
        (EvidenceError::StoreSecretInvalid, "StoreSecretInvalid"),
    ] {
        let mut world = storing();
        let reconcile = world.reconcile(not_stored(error));
        assert_eq!((line(&world.status), reconcile.conclusion.next), (failed(reason), Requeue::AwaitChange));
        assert_eq!(reconcile.conclusion.events, [Event::EvidenceFailed]);
        assert!(!world.status.settled);
    }
}

#[test]
fn a_required_image_is_requested_again_for_ten_minutes() {
    for (error, reason) in [
        (EvidenceError::ImageNotAvailable, "ImageNotAvailable"),
        (EvidenceError::ImageUnusable, "ImageUnusable"),
    ] {
        let mut world = storing();
        let begun = world.facts.now;
        failing_until_abandoned(&mut world, error);
        assert_eq!(line(&world.status), failed(reason));
        let waited = elapsed(begun, world.facts.now).as_secs();
        assert!((600..=900).contains(&waited), "{waited}");
    }
}

#[test]
fn other_errors_are_abandoned_a_day_after_the_verdict() {
    for (error, reason) in [
        (EvidenceError::StoreUnavailable, "StoreUnavailable"),
        (EvidenceError::StoreAccessDenied, "StoreAccessDenied"),
        (EvidenceError::PortalUnavailable, "PortalUnavailable"),
    ] {
        let mut world = storing();
        let begun = world.facts.now;
        let reconcile = failing_until_abandoned(&mut world, error);
        assert_eq!(line(&world.status), failed(reason));
        assert_eq!(reconcile.conclusion.next, Requeue::AwaitChange);
        let waited = elapsed(begun, world.facts.now).as_secs();
        assert!((86_400..=86_400 + 300).contains(&waited), "{waited}");
    }
}

#[test]
fn a_required_image_missing_across_restarts_is_abandoned_within_a_day() {
    let mut world = storing();
    let begun = world.facts.now;
    while elapsed(begun, world.facts.now).as_secs() < 86_400 {
        world.restart();
        world.reconcile(not_stored(EvidenceError::ImageNotAvailable));
        assert_eq!(world.reason(ConditionType::Stalled), None, "each process waits for ten minutes anew");
        world.pass(300);
    }
    world.restart();
    failing_until_abandoned(&mut world, EvidenceError::ImageNotAvailable);
    assert!(elapsed(begun, world.facts.now).as_secs() <= 86_400 + 900);
}

#[test]
fn a_process_that_starts_days_later_tries_for_ten_minutes_to_store() {
    let mut well = storing();
    well.pass(3 * 86_400);
    well.restart();
    assert_eq!(well.reconcile(store(fixtures::all_stored())).step, Step::Store);
    assert_eq!(line(&well.status), STORED, "the store was available, but not called");

    let mut world = storing();
    world.pass(3 * 86_400);
    world.restart();
    let begun = world.facts.now;
    failing_until_abandoned(&mut world, EvidenceError::StoreUnavailable);
    let waited = elapsed(begun, world.facts.now).as_secs();
    assert!((600..=900).contains(&waited), "{waited}");
}

#[test]
fn a_new_error_does_not_end_a_long_upload_but_a_stuck_one_ends() {
    let mut world = storing();
    world.pass(2 * 86_400);
    world.restart();
    world.facts.key = KeyFact::Missing(KeyFault::SecretNotFound);
    assert!(
        matches!(world.reconcile(Answer::Uncalled).step, Step::Transition(Transition::Wait(_))),
        "the process has just started"
    );
    world.pass(600);
    assert_eq!(world.reconcile(Answer::Uncalled).step, Step::Transition(Transition::AbandonEvidence));
    let shown = "Verified: R EvidenceFailed, St EvidenceFailed, CR SecretNotFound, SC Created, F Verified, V Verified, ES PortalUnavailable";
    assert_eq!(line(&world.status), shown, "a store that was not called is not blamed");
}

#[test]
fn a_portal_that_is_not_allowed_any_more_is_abandoned_after_a_day() {
    let mut world = storing();
    world.facts.portal = PortalFact::NotAllowed;
    let reconcile = world.reconcile(Answer::Uncalled);
    let shown = STORING.replace("Rec StoringEvidence", "St PortalNotAllowed");
    let events = [Event::PortalNotAllowed];
    assert_led_to(&world, &reconcile, expected(&shown, 3600..=3600, &events), "it may be allowed again");
    world.pass(86_400);
    let reconcile = world.reconcile(Answer::Uncalled);
    assert_eq!(
        (reconcile.step, line(&world.status)),
        (Step::Transition(Transition::AbandonEvidence), failed("PortalUnavailable"))
    );
}

#[test]
fn suspended_evidence_is_neither_stored_nor_abandoned() {
    let mut world = storing();
    world.facts.suspend = true;
    for _ in 0..2 {
        let reconcile = world.reconcile(Answer::Uncalled);
        assert_eq!(
            (line(&world.status).as_str(), reconcile.conclusion.next),
            (STORING, Requeue::AwaitChange)
        );
        world.pass(3 * 86_400);
    }
    world.facts.suspend = false;
    world.reconcile(not_stored(EvidenceError::StoreUnavailable));
    assert_eq!(line(&world.status), STORING, "its ten minutes begin now");
    world.reconcile_when_due(store(fixtures::all_stored()));
    assert_eq!(line(&world.status), STORED);
}

#[test]
fn failed_evidence_stays_unchanged_while_suspended() {
    let mut world = storing();
    world.reconcile(not_stored(EvidenceError::Conflict));
    for suspend in [false, true] {
        world.facts.suspend = suspend;
        let reconcile = world.reconcile(Answer::Uncalled);
        assert_eq!(
            (line(&world.status), reconcile.conclusion.next),
            (failed("Conflict"), Requeue::AwaitChange)
        );
        assert_eq!(reconcile.conclusion.events, []);
    }
}

#[test]
fn a_retry_restarts_failed_evidence_and_gives_it_another_day() {
    for ready_when in [ReadyWhen::Verified, ReadyWhen::SessionCreated] {
        let mut world = World::storing(ready_when, DeletionPolicy::Retain);
        failing_until_abandoned(&mut world, EvidenceError::StoreUnavailable);
        world.pass(2 * 86_400);
        let reconcile = request_retry(&mut world);
        assert_eq!(reconcile.conclusion.next, Requeue::Now);
        assert_eq!(world.status.phase, Some(crate::api::Phase::Storing));
        assert_eq!(world.reason(ConditionType::EvidenceStored), Some("Storing"));
        let begun = world.facts.now;
        world.reconcile(not_stored(EvidenceError::StoreUnavailable));
        world.pass(3600);
        world.restart();
        failing_until_abandoned(&mut world, EvidenceError::StoreUnavailable);
        let waited = elapsed(begun, world.facts.now).as_secs();
        assert!((86_400..=86_400 + 300).contains(&waited), "{waited}, {ready_when:?}, also over a restart");
        request_retry(&mut world);
        world.reconcile(store(fixtures::all_stored()));
        assert!(world.status.settled);
    }
}

#[test]
fn a_refused_destination_prevents_a_create_and_is_checked_every_minute() {
    let mut world = World::fresh(ReadyWhen::Verified);
    world.facts.evidence.spec = Some(fixtures::evidence_spec(DeletionPolicy::Retain));
    world.facts.evidence.destination = super::cause::refused_destination();
    let reconcile = world.reconcile(Answer::Uncalled);
    let shown =
        "Pending: R DestinationNotAllowed, St DestinationNotAllowed, CR NotChecked, SC NotYet, ES NotStarted";
    let reported = [Event::DestinationNotAllowed];
    assert_led_to(&world, &reconcile, expected(shown, 60..=60, &reported), "its Secret is not watched");
    world.facts.evidence.destination = crate::lifecycle::evidence::DestinationFact::Allowed;
    world.facts.key = KeyFact::Missing(KeyFault::SecretNotFound);
    world.reconcile(Answer::Uncalled);
    let shown = "Pending: R SecretNotFound, Rec SecretNotFound, CR SecretNotFound, SC NotYet, ES NotStarted";
    assert_eq!(line(&world.status), shown, "it clears automatically, before a session is created");
}

#[test]
fn a_missing_key_is_shown_before_a_link_and_a_refusal_returns_after_it() {
    let mut world = World::fresh(ReadyWhen::Verified);
    for _ in 0..60 {
        world.reconcile_when_due(super::world::refused(PortalError::Invalid));
    }
    assert_eq!(world.reason(ConditionType::Stalled), Some("PortalRejectedRequest"));
    let key = std::mem::replace(&mut world.facts.key, KeyFact::Missing(KeyFault::SecretNotFound));
    world.reconcile(Answer::Uncalled);
    assert_eq!(world.reason(ConditionType::Ready), Some("SecretNotFound"));
    assert_eq!(world.reason(ConditionType::Stalled), None, "a new Secret may resolve it");
    world.facts.key = key;
    world.reconcile_when_due(super::world::refused(PortalError::Invalid));
    assert_eq!(world.reason(ConditionType::Stalled), Some("PortalRejectedRequest"));
}

#[test]
fn ready_is_true_while_storing_if_the_spec_requires_only_a_link() {
    let mut world = World::storing(ReadyWhen::SessionCreated, DeletionPolicy::Retain);
    assert_eq!(
        line(&world.status),
        "Storing: R Finished, CR Accepted, SC Created, F Verified, V Verified, ES Storing"
    );
    world.reconcile(not_stored(EvidenceError::Conflict));
    assert_eq!(line(&world.status), failed("Conflict"), "but not once it failed");
    assert_eq!(world.shown(ConditionType::Verified), Some((ConditionStatus::True, "Verified")));
}
