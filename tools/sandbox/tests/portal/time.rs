//! Expiry, scripted persons and the clock.

use std::time::Duration;

use okid_sandbox::{Act, Person, Sandbox, Verdict};

use crate::Scene;

fn standing() -> okid_sandbox::Builder {
    Sandbox::builder().speed(0.0)
}

#[tokio::test]
async fn a_session_that_nobody_finishes_expires_on_the_sandbox_clock() {
    let scene = Scene::of(standing().expiry(Duration::from_mins(10))).await;
    let id = scene.created().await;
    scene.sandbox.advance(Duration::from_secs(599));
    assert_eq!(scene.status_word(&id).await, "generated");
    scene.sandbox.advance(Duration::from_secs(1));
    assert_eq!(scene.status_word(&id).await, "expired");
    let session = scene.sandbox.session(&id).unwrap();
    assert_eq!(session.updated_at, session.expires_at);
}

#[tokio::test]
async fn a_scripted_person_acts_as_the_clock_is_set_forward() {
    let person = Person::typical(Duration::from_secs(10), Verdict::Rejected);
    let scene = Scene::of(standing().person(person)).await;
    let id = scene.created().await;
    let mut seen = vec![scene.status_word(&id).await];
    for _ in 0..6 {
        scene.sandbox.advance(Duration::from_secs(10));
        seen.push(scene.status_word(&id).await);
    }
    let told =
        ["generated", "initiated", "in_progress", "in_progress", "in_progress", "validating", "rejected"];
    assert_eq!(seen, told);
}

#[tokio::test]
async fn a_person_can_be_sent_to_one_session() {
    let scene = Scene::of(standing()).await;
    let (met, alone) = (scene.created().await, scene.created().await);
    let person = Person::new()
        .then(Duration::from_secs(2), Act::Decide(Verdict::NeedsManualReview))
        .then(Duration::from_secs(1), Act::CompleteAll);
    scene.sandbox.send(&met, &person).unwrap();
    scene.sandbox.advance(Duration::from_secs(1));
    assert_eq!(scene.status_word(&met).await, "validating");
    scene.sandbox.advance(Duration::from_secs(1));
    assert_eq!(scene.status_word(&met).await, "needs_manual_review");
    assert_eq!(scene.status_word(&alone).await, "generated");
}

#[tokio::test]
async fn the_date_header_follows_the_sandbox_clock() {
    let scene = Scene::of(standing()).await;
    scene.sandbox.advance(Duration::from_hours(48));
    let answer = scene.create().await.unwrap();
    let date = httpdate::parse_http_date(answer.headers()["date"].to_str().unwrap()).unwrap();
    let date = jiff::Timestamp::try_from(date).unwrap();
    assert_eq!(date.as_second(), scene.sandbox.now().as_second());
}
