//! Expiry, scripted persons and the clock.

use std::time::Duration;

use okid_sandbox::{Act, Person, Sandbox, Verdict};

use crate::Scene;

fn stopped_clock() -> okid_sandbox::Builder {
    Sandbox::builder().speed(0.0)
}

#[tokio::test]
async fn an_unfinished_session_expires_by_the_sandbox_clock() {
    let scene = Scene::of(stopped_clock().expiry(Duration::from_mins(10))).await;
    let id = scene.created().await;
    scene.sandbox.advance(Duration::from_secs(599));
    assert_eq!(scene.session_status(&id).await, "generated");
    scene.sandbox.advance(Duration::from_secs(1));
    assert_eq!(scene.session_status(&id).await, "expired");
    let session = scene.sandbox.session(&id).unwrap();
    assert_eq!(session.updated_at, session.expires_at);
}

#[tokio::test]
async fn a_scripted_person_acts_as_the_clock_advances() {
    let person = Person::typical(Duration::from_secs(10), Verdict::Rejected);
    let scene = Scene::of(stopped_clock().person(person)).await;
    let id = scene.created().await;
    let mut seen = vec![scene.session_status(&id).await];
    for _ in 0..6 {
        scene.sandbox.advance(Duration::from_secs(10));
        seen.push(scene.session_status(&id).await);
    }
    let expected =
        ["generated", "initiated", "in_progress", "in_progress", "in_progress", "validating", "rejected"];
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_person_can_be_assigned_to_one_session() {
    let scene = Scene::of(stopped_clock()).await;
    let (assigned, other) = (scene.created().await, scene.created().await);
    let person = Person::new()
        .then(Duration::from_secs(2), Act::Decide(Verdict::NeedsManualReview))
        .then(Duration::from_secs(1), Act::CompleteAll);
    scene.sandbox.assign(&assigned, &person).unwrap();
    scene.sandbox.advance(Duration::from_secs(1));
    assert_eq!(scene.session_status(&assigned).await, "validating");
    scene.sandbox.advance(Duration::from_secs(1));
    assert_eq!(scene.session_status(&assigned).await, "needs_manual_review");
    assert_eq!(scene.session_status(&other).await, "generated");
}

#[tokio::test]
async fn the_date_header_follows_the_sandbox_clock() {
    let scene = Scene::of(stopped_clock()).await;
    scene.sandbox.advance(Duration::from_hours(48));
    let response = scene.create().await.unwrap();
    let date = httpdate::parse_http_date(response.headers()["date"].to_str().unwrap()).unwrap();
    let date = jiff::Timestamp::try_from(date).unwrap();
    assert_eq!(date.as_second(), scene.sandbox.now().as_second());
}
