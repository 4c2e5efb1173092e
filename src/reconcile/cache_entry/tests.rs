//! Cache entries in an index.

use serde_json::json;
use tokio::time::Instant;

use super::*;
use crate::{
    api::{Session, SessionState},
    clock::Clock,
    index::{Applied, Uid},
    lifecycle::{KeyVersion, fixtures},
    reconcile::unreported::Write,
};

fn alice() -> Verification {
    let mut object = fixtures::verification("alice");
    object.metadata.uid = Some("one".to_owned());
    object
}

#[test]
fn only_waits_for_creates_at_that_portal_end_when_creates_resume() {
    let object = alice();
    let fresh = CacheEntry::first(&object, &Clock::start()).0;
    let waiting = |closed| CacheEntry {
        portal_wait: Some(PortalWait { portal: 1, closed, is_shown: false }),
        ..fresh.clone()
    };
    assert!(waiting(Closed::Breaker).waits_to_create_at(1));
    assert!(!waiting(Closed::Breaker).waits_to_create_at(2));
    for closed in [Closed::Paused, Closed::KeyRejected, Closed::Rate] {
        assert!(!waiting(closed).waits_to_create_at(1));
    }
    assert!(!fresh.waits_to_create_at(1), "it does not wait for the portal");
    let session = Sessions::default().take("", &VerificationId::parse("ver_1").unwrap(), "one");
    assert!(!CacheEntry { session, ..waiting(Closed::Breaker) }.waits_to_create_at(1));
}

fn open_session(expires_at: &str) -> (Verification, CacheEntry) {
    let mut object = alice();
    object.status = serde_json::from_value(json!({
        "phase": "AwaitingUser", "verificationId": "ver_1", "expiresAt": expires_at,
        "session": {
            "attempt": 2, "state": "Created", "uid": "one", "portal": "https://portal.test",
            "createdAt": "2026-11-27T10:00:00Z",
        },
    }))
    .unwrap();
    let entry = CacheEntry::first(&object, &Clock::start()).0;
    (object, entry)
}

fn poll_context(object: &Verification) -> PollContext {
    let status = object.status.as_ref().unwrap();
    let now: Timestamp = "2026-11-27T10:00:30Z".parse().unwrap();
    let times = crate::lifecycle::Times { now, portal_now: Some(now) };
    let local = LocalState { seen: std::num::NonZeroU64::new(1), ..LocalState::default() };
    let bounds = crate::lifecycle::Bounds::of(&object.spec);
    let deadline = "2026-12-04T10:00:00Z".parse().unwrap();
    let baseline = PollBaseline::of(status, &local, bounds, deadline, times).unwrap();
    let portals = crate::portal::AllowedPortals::new(["https://portal.test"], false).unwrap();
    let portal = portals.iter().next().unwrap().clone();
    let account = Arc::new(Account::new(portal, &object.spec.api_key_secret_ref, None));
    PollContext { baseline, account }
}

#[test]
fn a_session_is_held_once_and_stays_known_when_the_next_reconcile_reads() {
    for expires_at in ["2026-11-27T11:00:00Z", "2026-11-27T09:00:00Z"] {
        let (object, mut entry) = open_session(expires_at);
        let known = KnownSession::of("one", object.status.as_ref().unwrap()).unwrap();
        assert_eq!(entry.known(), None);
        entry.know(Some(known.clone()));
        assert_eq!(entry.known().as_ref(), Some(&known));
        entry.set_poll_context(Some(Box::new(poll_context(&object))));
        assert!(entry.rare.is_none(), "the poll context holds the same");
        assert_eq!(entry.known().as_ref(), Some(&known), "as in status, including the expiry");
        assert_eq!(entry.changed(&object).known().as_ref(), Some(&known));
        let after = entry.clone().merged_with(&CacheEntry { changes: 7, ..entry.clone() });
        assert!(after.poll_context().is_none());
        assert_eq!(after.known().as_ref(), Some(&known));
        let other = KnownSession::of("one", open_session("2026-11-27T12:00:00Z").0.status.as_ref().unwrap());
        entry.know(other.clone());
        assert_eq!(entry.known(), other, "the latest one counts");
    }
}

#[test]
fn rare_data_takes_no_memory_in_other_entries() {
    let (object, mut entry) = open_session("2026-11-27T11:00:00Z");
    entry.set_poll_context(Some(Box::new(poll_context(&object))));
    let session = object.status.as_ref().unwrap().session.as_ref();
    entry.set_claim(Claim::observed(None, session, Instant::now()));
    assert!(entry.rare.is_some());
    entry.set_claim(None);
    assert!(entry.rare.is_none());
    assert!(size_of::<CacheEntry>() <= 80, "{}", size_of::<CacheEntry>());
    assert!(entry.heap() <= 80, "{}", entry.heap());
}

#[test]
fn a_session_counts_as_in_need_of_the_previous_key_until_it_was_asked() {
    let (mut object, entry) = open_session("2026-11-27T11:00:00Z");
    assert!(!entry.needs_previous_key(), "the spec names none");
    object.spec.api_key_secret_ref.previous_key = Some("apiKeyOld".to_owned());
    let entry = || CacheEntry::first(&object, &Clock::start()).0;
    assert!(entry().needs_previous_key());
    assert!(entry().changed(&object).needs_previous_key(), "nothing is known of it yet");
    let needs_after = |key_version, failing| {
        let mut entry = entry();
        entry.remember(LocalState { failing, key_version, ..LocalState::default() });
        entry.needs_previous_key()
    };
    let failing = Some(crate::lifecycle::Since { what: (), since: Timestamp::UNIX_EPOCH, count: 1 });
    for failing in [None, failing] {
        assert!(
            needs_after(KeyVersion::Previous, failing) && !needs_after(KeyVersion::Current, failing),
            "{failing:?}"
        );
    }
    object.status = None;
    assert!(!CacheEntry::first(&object, &Clock::start()).0.needs_previous_key(), "there is no session");
}

#[test]
fn a_session_recorded_while_its_resource_is_deleted_is_released() {
    let object = alice();
    let (sessions, clock) = (Sessions::default(), Clock::start());
    let mut index = Index::new();
    let Applied::New(record_id) = index.applied(&object.metadata, |_| CacheEntry::first(&object, &clock).0)
    else {
        panic!("it is not in the index yet");
    };
    let mut entry = index.get(record_id).unwrap().clone();
    let id = VerificationId::parse("ver_1").unwrap();
    entry.session = sessions.take("https://one.example", &id, "one");
    let removed = index.deleted("one").unwrap();
    assert_eq!(removed.payload.session, None, "so a deletion would not forget it");
    entry.store(&mut index, record_id, "one", &sessions);
    assert!(sessions.take("https://one.example", &id, "two").is_some());
}

#[test]
fn a_report_of_a_write_whose_response_was_lost_survives_the_reconcile_that_lost_it() {
    let (object, entry) = open_session("2026-11-27T11:00:00Z");
    let unreported = || {
        Some(Box::new(Unreported {
            namespace: "kyc".to_owned(),
            name: "alice".to_owned(),
            uid: "one".to_owned(),
            write: Write::Release(Box::new(object.clone())),
            events: Vec::new(),
        }))
    };
    let mut cached = entry.clone();
    cached.replace_unreported(unreported());
    for changes in [0, 1] {
        let cached = CacheEntry { changes, ..cached.clone() };
        assert!(entry.clone().merged_with(&cached).unreported().is_some(), "noted only in the index");
    }
    let mut both = entry.clone();
    both.replace_unreported(unreported());
    assert!(both.merged_with(&entry).unreported().is_some(), "noted only by the reconcile");
    assert!(entry.clone().merged_with(&entry).unreported().is_none());
}

/// An open session that was created that long ago and is polled as its spec asks.
fn followed(created: &str) -> Verification {
    let (mut object, _) = open_session("2100-01-01T00:00:00Z");
    object.metadata.generation = Some(1);
    let status = object.status.as_mut().unwrap();
    status.observed_generation = Some(1);
    status.session.as_mut().unwrap().created_at = Some(created.parse().unwrap());
    object
}

#[tokio::test(start_paused = true)]
async fn a_standby_of_an_hour_spreads_its_first_polls_from_when_it_leads() {
    let clock = Clock::start();
    let object = followed("2020-01-01T00:00:00Z");
    let mut entry = CacheEntry::of_standby(None, &object, &clock);
    tokio::time::advance(std::time::Duration::from_hours(1)).await;
    let waits: Vec<_> = (0..100)
        .map(|number| {
            let mut entry = entry.clone();
            let first = entry.begin(Uid::of(&format!("uid-{number}")), &clock);
            // A change before then does not poll earlier; whole seconds are remembered.
            let next = clock.instant(entry.local_state().next.unwrap());
            assert!(first.saturating_duration_since(next) < std::time::Duration::from_secs(1));
            first.saturating_duration_since(Instant::now()).as_secs()
        })
        .collect();
    // The longest interval of an idle session.
    assert!(waits.iter().all(|wait| *wait <= 300), "{waits:?}");
    assert!(waits.iter().filter(|wait| **wait > 150).count() > 20, "{waits:?}");
    entry.begin(Uid::of("one"), &clock);
    assert!(entry.rare.is_none(), "the plan takes no memory of a leader");
}

#[tokio::test(start_paused = true)]
async fn what_is_no_followed_session_is_reconciled_as_soon_as_the_replica_leads() {
    let clock = Clock::start();
    let mut edited = followed("2020-01-01T00:00:00Z");
    edited.metadata.generation = Some(2);
    let mut fresh = edited.clone();
    fresh.status = None;
    for object in [edited, fresh] {
        let mut entry = CacheEntry::of_standby(None, &object, &clock);
        assert_eq!(entry.begin(Uid::of("one"), &clock), Instant::now());
    }
}

#[tokio::test(start_paused = true)]
async fn a_standby_keeps_what_it_has_seen_of_a_claim_and_of_a_session() {
    let clock = Clock::start();
    let (object, _) = open_session("2026-11-27T11:00:00Z");
    let mut claimed = object.clone();
    let status = claimed.status.as_mut().unwrap();
    (status.verification_id, status.phase) = (None, Some(Phase::Creating));
    let session = status.session.as_mut().unwrap();
    (session.state, session.created_at) = (Some(SessionState::Claimed), None);

    let first = CacheEntry::of_standby(None, &claimed, &clock);
    let seen = first.claim().unwrap();
    assert_eq!(seen.seen, Instant::now());
    tokio::time::advance(std::time::Duration::from_secs(30)).await;
    let again = CacheEntry::of_standby(Some(&first), &claimed, &clock);
    assert_eq!(again.claim().unwrap().seen, seen.seen);
    let changes: [fn(&mut Session); 2] =
        [|session| session.attempt = 3, |session| session.holder = Some("later/0".to_owned())];
    for change in changes {
        let mut another = claimed.clone();
        change(another.status.as_mut().unwrap().session.as_mut().unwrap());
        let another = CacheEntry::of_standby(Some(&first), &another, &clock);
        assert_eq!(another.claim().unwrap().seen, Instant::now(), "another claim is another request");
    }

    let known = KnownSession::of("one", object.status.as_ref().unwrap());
    let mut entry = CacheEntry::of_standby(None, &object, &clock);
    entry.know(known.clone());
    let lost = CacheEntry::of_standby(Some(&entry), &claimed, &clock);
    assert!(
        known.is_some() && lost.known() == known,
        "a status that has lost its session does not make it forgotten"
    );
}

#[test]
fn a_finished_resource_that_is_seen_first_is_looked_at_in_time_and_after_all_others() {
    let clock = Clock::start();
    let (open, entry) = open_session("2026-11-27T11:00:00Z");
    assert_eq!(entry.first_priority(), Priority::Create);
    let mut object = open;
    object.spec.ttl_after_finished = Some(crate::api::Duration::from_secs(720 * 3600));
    let status = object.status.as_mut().unwrap();
    status.finished_at = Some(clock.now());
    (status.outcome, status.phase) = (Some(crate::api::Outcome::Verified), Some(Phase::Verified));
    let ready = json!([{
        "type": "CleanupReady", "status": "True", "reason": "Scheduled", "message": "", "observedGeneration": 1,
        "lastTransitionTime": clock.now(),
    }]);
    status.conditions = serde_json::from_value(ready).unwrap();
    (status.observed_generation, object.metadata.generation) = (Some(1), Some(1));
    let in_hours = |uid: usize, is_standby: bool| {
        let mut object = object.clone();
        object.metadata.uid = Some(uid.to_string());
        let (entry, at) = if is_standby {
            let mut entry = CacheEntry::of_standby(None, &object, &clock);
            let at = entry.begin(Uid::of(&uid.to_string()), &clock);
            (entry, at)
        } else {
            CacheEntry::first(&object, &clock)
        };
        assert_eq!(entry.first_priority(), Priority::Idle);
        at.duration_since(Instant::now()).as_secs() / 3600
    };
    for is_standby in [false, true] {
        let hours: std::collections::BTreeSet<_> = (0..100).map(|uid| in_hours(uid, is_standby)).collect();
        assert!(hours.iter().all(|hours| (11..24).contains(hours)) && hours.len() > 8, "{hours:?}");
    }
}
