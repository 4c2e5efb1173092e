//! A portal that is broken, not allowed, behind a gateway, or responds with nonsense.

use okid_operator::api::{Phase, SessionState};
use okid_sandbox::{Action, Call, Cut, Fault, Gateway, Huge, Malformed, Sandbox, Verdict};
use serde_json::{Value, json};
use tokio::net::TcpSocket;

use crate::harness::{Launch, VerificationExt as _, World, new_key};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_portal_that_fails_for_a_while_changes_nothing_and_is_polled_again() {
    let world = World::new().await;
    let id = world.create_session("alice", json!({})).await;
    let before = world.resource_version("alice").await;
    for status in [500, 502, 503] {
        world.sandbox().inject(Fault::new(Call::Details, Action::status(status)).once());
    }
    world
        .until_portal("three failures", |world| world.sandbox().faults().iter().all(|fault| fault.hits == 1))
        .await;
    world.until_polled(&id, 1).await;
    assert_eq!(world.resource_version("alice").await, before);
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    world.until("alice", |seen| seen.phase() == Some(Phase::Verified)).await;
    assert_eq!(world.creates(), 1);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_is_logged_with_its_cause_once_when_it_begins_and_once_when_it_ends() {
    let world = World::new().await;
    let id = world.create_session("alice", json!({})).await;
    let outages = [
        (Action::Huge(Huge::Endless { bytes: 20 << 20 }), "too_large"),
        (Action::Cut(Cut::MidBody), "cut"),
        (Action::Malformed(Malformed::Html), "unusable"),
    ];
    let mut expected = Vec::new();
    for (action, cause) in outages {
        world.sandbox().inject(Fault::new(Call::Details, action));
        world.until_polled(&id, 3).await;
        world.sandbox().clear_faults();
        expected.push(("WARN".to_owned(), cause.to_owned()));
        expected.push(("INFO".to_owned(), cause.to_owned()));
        let ends = |line: &Value| line["level"] == "INFO" && line["error"] == cause;
        world.operator().until_logged("that requests succeed again", ends).await;
    }
    let lines = world.operator().log_lines();
    let about_requests = |line: &&Value| {
        line["message"].as_str().is_some_and(|message| message.starts_with("requests to the portal"))
    };
    let field = |line: &Value, name: &str| line[name].as_str().unwrap_or_default().to_owned();
    let logged: Vec<_> = lines
        .iter()
        .filter(about_requests)
        .map(|line| (field(line, "level"), field(line, "error")))
        .collect();
    assert_eq!(logged, expected);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_create_whose_response_is_lost_is_reported_and_tried_again() {
    let world = World::new().await;
    world.sandbox().inject(Fault::new(Call::Create, Action::status(500)).once().after());
    world.apply("alice", json!({})).await;
    let lost = world.until("alice", |seen| seen.state() == Some(SessionState::Unknown)).await;
    assert!(lost.shows(&[
        "Ready=False/CreatingSession",
        "Reconciling=True/CreateOutcomeUnknown",
        "Stalled=",
        "SessionCreated=Unknown/OutcomeUnknown",
    ]));
    assert_eq!(lost.phase(), Some(Phase::Creating));
    assert_eq!((lost.session().attempt, lost.session().orphans), (1, 1));
    world.until_event("alice", "CreateOutcomeUnknown").await;
    world.operator().until_metric("okid_create_unknown_outcome_total", |lost| lost == 1.0).await;
    let orphan = world.sandbox().sessions()[0].id.clone();

    let invited = world.until("alice", |seen| seen.phase() == Some(Phase::AwaitingUser)).await;
    assert_eq!((invited.session().attempt, invited.session().orphans), (2, 1));
    assert_ne!(invited.id(), Some(orphan));
    assert!(invited.shows(&["SessionCreated=True/Created", "Reconciling=True/AwaitingUser"]));
    assert_eq!(world.creates(), 2);
    world.until_events("alice", &["CreateOutcomeUnknown", "SessionCreated"]).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_create_that_is_refused_leaves_no_orphan() {
    let mut world = World::new().await;
    let unconfigured = Action::body(500, r#"{"error": "Server not configured"}"#);
    for (name, refusal, reason) in [
        ("400", Action::status(400), "PortalRejectedRequest"),
        ("404", Action::status(404), "PortalMisconfigured"),
        ("409", Action::status(409), "PortalRejectedRequest"),
        ("422", Action::status(422), "PortalRejectedRequest"),
        ("unconfigured", unconfigured, "PortalMisconfigured"),
    ] {
        // Each has its own key, so that none waits for another.
        let (name, key) = (format!("refused-{name}"), new_key());
        world.secret(&name, &key).await;
        world.sandbox().add_key(&key);
        world.sandbox().inject(Fault::new(Call::Create, refusal).key(&key));
        world.apply(&name, json!({"apiKeySecretRef": {"name": name}})).await;
        let refused = world.until(&name, |seen| seen.state() == Some(SessionState::NotCreated)).await;
        assert!(
            refused.shows(&[
                &format!("Ready=False/{reason}"),
                &format!("Reconciling=True/{reason}"),
                "SessionCreated=False/Refused",
                "Stalled=",
            ]),
            "{name}"
        );
        assert_eq!((refused.session().attempt, refused.session().orphans), (1, 0), "{name}");
        world.until_event(&name, reason).await;
    }
    assert_eq!(world.sandbox().session_count(), 0);
    world.finish().await;
}

fn gateways() -> [Action; 4] {
    [Gateway::Challenge, Gateway::Empty { status: 401 }, Gateway::Empty { status: 404 }, Gateway::Nginx502]
        .map(Action::gateway)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_responds_to_a_poll_says_nothing_of_key_and_session() {
    let world = World::new().await;
    let id = world.create_session("alice", json!({})).await;
    let before = world.resource_version("alice").await;
    for gateway in gateways() {
        world.sandbox().inject(Fault::new(Call::Details, gateway).once());
    }
    let all_hit = |world: &World| world.sandbox().faults().iter().all(|fault| fault.hits == 1);
    world.until_portal("four responses from gateways", all_hit).await;
    world.until_polled(&id, 1).await;
    assert_eq!(world.resource_version("alice").await, before);
    // No other resource with that key waits for it.
    world.create_session("bob", json!({})).await;
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    world.until("alice", |seen| seen.phase() == Some(Phase::Verified)).await;
    world.until_events("alice", &["SessionCreated", "Verified"]).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_create_that_a_gateway_refuses_leaves_no_orphan_and_blames_no_key() {
    let world = World::new().await;
    let [challenge, _, not_found, _] = gateways();
    for gateway in [challenge, not_found] {
        world.sandbox().inject(Fault::new(Call::Create, gateway).once());
    }
    world.create_session("alice", json!({})).await;
    let session = world.get("alice").await.session();
    assert_eq!((session.attempt, session.orphans), (3, 0));
    assert_eq!(world.sandbox().session_count(), 1);
    for seen in world.versions("alice") {
        assert!(seen.shows(&["Stalled="]), "{seen:?}");
        assert!(!seen.shows(&["CredentialsReady=False/KeyRejected"]), "{seen:?}");
        assert!(!seen.shows(&["CredentialsReady=False/AccessDenied"]), "{seen:?}");
    }
    world.until_events("alice", &["PortalUnreachable", "SessionCreated"]).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_the_portal_does_not_find_is_not_replaced_and_recovers() {
    let world = World::new().await;
    let id = world.create_session("alice", json!({})).await;
    let before = world.resource_version("alice").await;
    let gone = world.sandbox().inject(Fault::new(Call::Details, Action::status(404)));
    // A young session may not be known to every replica of the portal yet.
    world.until_portal("polls of a young session", |world| world.sandbox().hits(gone) >= 5).await;
    assert_eq!(world.resource_version("alice").await, before);

    let lost = world.until("alice", |seen| seen.shows(&["Stalled=True/SessionNotFound"])).await;
    assert!(lost.shows(&["Ready=False/SessionNotFound", "Reconciling=", "Finished=False/Running"]));
    assert_eq!((lost.phase(), lost.id().as_ref()), (Some(Phase::AwaitingUser), Some(&id)));
    world.until_event("alice", "SessionNotFound").await;

    world.sandbox().clear(gone);
    let found = world.until("alice", |seen| seen.shows(&["Stalled="])).await;
    assert!(found.shows(&["Ready=False/AwaitingUser", "Reconciling=True/AwaitingUser"]));
    assert_eq!(world.creates(), 1);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_portal_that_is_not_allowed_is_not_called_until_it_is() {
    let mut world = World::builder().portals(2).without_operator().start().await;
    let (first, second) = (world.portal(0).url(), world.portal(1).url());
    world.start(Launch::new().allow([&first])).await;
    world.apply("alice", json!({"portal": second})).await;
    let refused = world.until("alice", |seen| seen.shows(&["Stalled=True/PortalNotAllowed"])).await;
    assert!(refused.shows(&["Ready=False/PortalNotAllowed", "Reconciling="]));
    world.until_event("alice", "PortalNotAllowed").await;
    assert_eq!(world.portal(1).counters().connections, 0);

    world.operator().stop().await;
    world.start(Launch::new()).await;
    let invited = world.until("alice", |seen| seen.phase() == Some(Phase::AwaitingUser)).await;
    assert!(invited.shows(&["Stalled=", "Reconciling=True/AwaitingUser"]));
    let id = invited.id().unwrap();
    assert!(world.portal(1).session(&id).is_some());

    // An open session whose portal is no longer allowed waits, and continues afterwards.
    world.operator().stop().await;
    world.start(Launch::new().allow([&first])).await;
    let waiting = world.until("alice", |seen| seen.shows(&["Stalled=True/PortalNotAllowed"])).await;
    assert!(waiting.shows(&["Ready=False/AwaitingUser", "SessionCreated=True/Created"]));
    world.portal(1).finish(&id, Verdict::Verified).unwrap();
    world.operator().stop().await;
    world.start(Launch::new()).await;
    world.until("alice", |seen| seen.phase() == Some(Phase::Verified)).await;
    assert_eq!(world.creates(), 1);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_portal_that_cannot_be_reached_leaves_no_orphan() {
    let mut world = World::builder().without_operator().start().await;
    // The port is reserved, so that nothing else listens there.
    let held = TcpSocket::new_v4().unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let portal = format!("http://{}", held.local_addr().unwrap());
    world.start(Launch::new().allow([&portal])).await;
    world.apply("alice", json!({})).await;
    let waiting = world.until("alice", |seen| seen.state() == Some(SessionState::NotCreated)).await;
    assert!(waiting.shows(&[
        "Ready=False/PortalUnreachable",
        "Reconciling=True/PortalUnreachable",
        "SessionCreated=False/NotYet",
    ]));
    let opened = Sandbox::builder().key(&world.key).serve(held.listen(1024).unwrap()).unwrap();
    let invited = world.until("alice", |seen| seen.phase() == Some(Phase::AwaitingUser)).await;
    assert_eq!(invited.session().orphans, 0);
    assert_eq!(opened.creates().len(), 1);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_portal_status_is_shown_unchanged_and_decides_nothing() {
    let world = World::new().await;
    let id = world.create_session("alice", json!({})).await;
    world.sandbox().set_status(&id, "VERIFIED").unwrap();
    let seen = world
        .until("alice", |seen| seen.status_or_default().portal_status.as_deref() == Some("VERIFIED"))
        .await;
    assert_eq!((seen.phase(), seen.status_or_default().outcome), (Some(Phase::AwaitingUser), None));
    assert!(seen.shows(&["Ready=False/AwaitingUser", "Verified=Unknown/NotFinished"]));
    world.until_event("alice", "UnknownPortalStatus").await;
    let before = world.resource_version("alice").await;
    world.until_polled(&id, 3).await;
    assert_eq!(world.resource_version("alice").await, before);
    let events_total = "okid_events_total{reason=\"UnknownPortalStatus\"}";
    world.operator().until_metric(events_total, |events| events >= 1.0).await;
    world.until_polled(&id, 2).await;
    assert_eq!(world.operator().metric(events_total).await, 1.0, "one event for one status");

    world.sandbox().set_status(&id, " verified\u{7}").unwrap();
    world.until("alice", |seen| seen.status_or_default().portal_status.as_deref() == Some("verified")).await;
    world.operator().until_metric(events_total, |events| events == 2.0).await;
    let seen = world.get("alice").await;
    assert_eq!((seen.phase(), seen.status_or_default().outcome), (Some(Phase::AwaitingUser), None));
    world.sandbox().decide(&id, Verdict::Verified).unwrap();
    world.until("alice", |seen| seen.phase() == Some(Phase::Verified)).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_about_another_session_decides_nothing() {
    let world = World::new().await;
    let id = world.create_session("alice", json!({})).await;
    let other = world.sandbox().seed(1).remove(0);
    let mixed_up = world.sandbox().inject(Fault::new(Call::Details, Action::set("/verification_id", other)));
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    world.until_event("alice", "IdMismatch").await;
    world
        .until_portal("two responses about another session", |world| world.sandbox().hits(mixed_up) >= 2)
        .await;
    let seen = world.get("alice").await;
    assert_eq!((seen.phase(), seen.status_or_default().outcome), (Some(Phase::AwaitingUser), None));
    world.sandbox().clear(mixed_up);
    world.until("alice", |seen| seen.phase() == Some(Phase::Verified)).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirect_is_never_followed() {
    let mut world = World::builder().portals(2).without_operator().start().await;
    world.start(Launch::new().allow([world.portal(0).url()])).await;
    let elsewhere = format!("{}/api/generate-verification", world.portal(1).url());
    let id = world.create_session("alice", json!({})).await;
    for status in [301, 302, 307, 308] {
        world.sandbox().inject(Fault::new(Call::Details, Action::redirect(status, &elsewhere)).once());
    }
    world
        .until_portal("all redirects", |world| world.sandbox().faults().iter().all(|fault| fault.hits == 1))
        .await;
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    world.until("alice", |seen| seen.phase() == Some(Phase::Verified)).await;

    world.sandbox().inject(Fault::new(Call::Create, Action::redirect(307, &elsewhere)).once());
    world.apply("bob", json!({})).await;
    let refused = world.until("bob", |seen| seen.state() == Some(SessionState::NotCreated)).await;
    assert!(refused.shows(&["Reconciling=True/PortalMisconfigured", "SessionCreated=False/Refused"]));
    assert_eq!((refused.session().attempt, refused.session().orphans), (1, 0));
    assert_eq!(world.portal(1).counters().connections, 0, "no connection reached the other host");
    world.finish().await;
}
