//! Responses of the portal that differ from the guide: usable parts are used, and the rest is dropped.

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use okid_operator::api::{Phase, SessionState};
use okid_sandbox::{Action, Call, Edit, Fault, Huge, Malformed, Verdict};
use serde_json::{Value, json};

use crate::harness::{VerificationExt as _, World, holds, new_key, until};

fn set(at: &str, value: Value) -> Edit {
    Edit::Set { at: at.to_owned(), value }
}

fn remove(at: &str) -> Edit {
    Edit::Remove { at: at.to_owned() }
}

/// The field that a create's response shows differently than usual.
enum Shown {
    ExpiresAt(Option<&'static str>),
    Flow(Vec<String>),
    Modules(Vec<String>),
}

/// Values in a create's response by their field, and what status shows for them.
fn unusual_values() -> Vec<(&'static str, Value, Shown)> {
    let words =
        |count: usize| -> Vec<String> { (0..count).map(|number| format!("word{number:03}")).collect() };
    let crowd: serde_json::Map<_, _> =
        words(100).into_iter().map(|word| (word, json!({"deep": [1]}))).collect();
    let cut = vec!["w".repeat(64), "ab".to_owned()];
    let listed = vec!["one".to_owned(), "two".to_owned()];
    vec![
        (
            "/expiresAt",
            json!("2031-02-03T04:05:06.789+02:00"),
            Shown::ExpiresAt(Some("2031-02-03T02:05:06Z")),
        ),
        ("/expiresAt", json!("9999-12-30T12:00:00Z"), Shown::ExpiresAt(Some("9999-12-30T12:00:00Z"))),
        ("/expiresAt", json!("99999-01-01T00:00:00Z"), Shown::ExpiresAt(None)),
        ("/expiresAt", json!("1969-12-31T23:59:59Z"), Shown::ExpiresAt(None)),
        ("/expiresAt", json!("in an hour"), Shown::ExpiresAt(None)),
        ("/expiresAt", json!(1_767_268_800), Shown::ExpiresAt(None)),
        ("/expiresAt", Value::Null, Shown::ExpiresAt(None)),
        ("/flow", json!(words(100)), Shown::Flow(words(16))),
        ("/flow", json!(["w".repeat(100_000), 7, "a\u{1F600}\r\nb", "", {"c": 1}]), Shown::Flow(cut)),
        ("/flow", json!("terms"), Shown::Flow(Vec::new())),
        ("/flow", Value::Null, Shown::Flow(Vec::new())),
        ("/modules", Value::Object(crowd), Shown::Modules(words(16))),
        ("/modules", json!(["one", "two"]), Shown::Modules(listed)),
        ("/modules", json!(17), Shown::Modules(Vec::new())),
        ("/modules", Value::Null, Shown::Modules(Vec::new())),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_beyond_the_bounds_is_cut_to_them_and_keeps_its_session() {
    let world = World::new().await;
    let mut expected = Vec::new();
    for (number, (at, value, shown)) in unusual_values().into_iter().enumerate() {
        world.sandbox().inject(Fault::new(Call::Create, Action::set(at, value)).once().after());
        let name = format!("person-{number}");
        let id = world.create_session(&name, json!({})).await;
        assert_eq!(world.sandbox().sessions().last().map(|session| session.id.clone()), Some(id.clone()));
        world.sandbox().finish(&id, Verdict::Verified).unwrap();
        expected.push((name, shown));
    }
    for (name, shown) in expected {
        let over = world.until(&name, |seen| seen.status_or_default().settled).await;
        assert_eq!((over.phase(), over.session().attempt), (Some(Phase::Verified), 1));
        let found = over.status_or_default();
        let (at, flow, modules) = match shown {
            Shown::ExpiresAt(at) => (at.map(str::to_owned), usual_flow(), usual_modules()),
            Shown::Flow(flow) => (found.expires_at.map(|at| at.to_string()), flow, usual_modules()),
            Shown::Modules(modules) => (found.expires_at.map(|at| at.to_string()), usual_flow(), modules),
        };
        assert_eq!(found.expires_at.map(|at| at.to_string()), at, "{name}");
        assert_eq!((found.flow, found.modules), (flow, modules), "{name}");
    }
    world.finish().await;
}

/// The sandbox's default; a response with an unusual value lists its modules in this order.
fn usual_flow() -> Vec<String> {
    ["terms", "document", "liveness", "form_data"].map(str::to_owned).into()
}

fn usual_modules() -> Vec<String> {
    ["document", "form_data", "liveness"].map(str::to_owned).into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_with_only_an_id_is_a_session() {
    let world = World::new().await;
    let edits = ["/expiresAt", "/flow", "/modules"].map(remove).into();
    world.sandbox().inject(Fault::new(Call::Create, Action::Edit(edits)).once().after());
    let id = world.create_session("alice", json!({})).await;
    let found = world.get("alice").await.status_or_default();
    assert_eq!((found.expires_at, found.flow.len(), found.modules.len()), (None, 0, 0));
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    let over = world.until("alice", |seen| seen.status_or_default().settled).await;
    assert_eq!((over.phase(), over.id()), (Some(Phase::Verified), Some(id)));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_2xx_status_with_a_usable_id_is_a_session() {
    let world = World::new().await;
    let longest = "v".repeat(128);
    for status in [200, 201, 202, 203] {
        let id = if status == 203 { longest.clone() } else { world.sandbox().seed(1).remove(0) };
        let body = json!({"verificationId": id}).to_string();
        world.sandbox().inject(Fault::new(Call::Create, Action::body(status, body)).once());
        assert_eq!(world.create_session(&format!("person-{status}"), json!({})).await, id);
    }
    let link = world.get("person-203").await.status_or_default().portal_url.unwrap();
    assert_eq!(link, format!("{}/?verification_id={longest}", world.sandbox().url()));
    world.finish().await;
}

/// Responses to a create without a usable session, by a short name.
fn unusable() -> Vec<(&'static str, Action)> {
    let id = |value: Value| Action::set("/verificationId", value);
    vec![
        ("no-id", Action::remove("/verificationId")),
        ("null-id", id(Value::Null)),
        ("empty-id", id(json!(""))),
        ("number-id", id(json!(17))),
        ("path-id", id(json!("../../admin"))),
        ("crlf-id", id(json!("ver\r\nX-Header: 1"))),
        ("letter-id", id(json!("v\u{e9}r"))),
        ("long-id", Action::fill("/verificationId", 129)),
        ("huge-id", Action::fill("/verificationId", 300_000)),
        ("list", Action::body(200, "[\"ver_one\"]")),
        ("no-content", Action::body(204, "")),
        ("empty", Action::Malformed(Malformed::Empty)),
        ("html", Action::Malformed(Malformed::Html)),
        ("truncated", Action::Malformed(Malformed::Truncated)),
        ("bom", Action::Malformed(Malformed::Bom)),
        ("garbage", Action::Malformed(Malformed::TrailingGarbage)),
        ("twice", Action::Malformed(Malformed::DuplicateKeys)),
        ("nan", Action::Malformed(Malformed::Nan)),
        ("not-utf8", Action::Malformed(Malformed::NotUtf8)),
        ("nested", Action::Malformed(Malformed::Nested { depth: 10_000 })),
        ("endless", Action::Huge(Huge::Endless { bytes: 1 << 30 })),
        ("too-short", Action::Huge(Huge::WrongLength { declared: 1 << 20 })),
        ("huge-header", Action::Huge(Huge::Header { bytes: 10 << 20 })),
        ("server-error", Action::status(500)),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_without_a_usable_id_is_an_unknown_outcome_and_never_published() {
    let mut world = World::new().await;
    let unusable = unusable();
    for (name, action) in &unusable {
        // A lost response delays all creates with its key, so each has its own.
        let key = new_key();
        world.sandbox().add_key(&key);
        world.secret(name, &key).await;
        world.sandbox().inject(Fault::new(Call::Create, action.clone()).key(&key).after());
        let spec = json!({"apiKeySecretRef": {"name": name}, "onUnknownOutcome": "Hold"});
        world.apply(name, spec).await;
    }
    for (name, _) in &unusable {
        let held = world.until(name, |seen| seen.shows(&["Stalled=True/CreateOutcomeUnknown"])).await;
        let session = held.session();
        assert_eq!((session.attempt, session.orphans), (1, 1), "{name}");
        assert_eq!((held.id(), held.state()), (None, Some(SessionState::Unknown)), "{name}");
        assert_eq!(held.status_or_default().portal_url, None, "{name}");
    }
    assert_eq!(world.creates(), unusable.len() as u64);
    let peak = world.operator().peak_memory();
    assert!(peak < 256 << 20, "{peak} bytes at the peak");
    world.finish().await;
}

/// Makes the API server refuse, with 422, every status with a link in the world's namespace.
async fn refuse_links(world: &World) {
    let name = format!("links-{}", world.namespace);
    let policy = json!({"metadata": {"name": name}, "spec": {
        "failurePolicy": "Fail",
        "matchConstraints": {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": world.namespace}},
            "resourceRules": [{
                "apiGroups": ["okid.io"], "apiVersions": ["*"], "operations": ["UPDATE"],
                "resources": ["verifications/status"],
            }],
        },
        "validations": [{"expression": "!has(object.status.portalUrl)"}],
    }});
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(world.client.clone());
    let policy = serde_json::from_value(policy).expect("a policy");
    policies.create(&PostParams::default(), &policy).await.expect("make a policy");
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(world.client.clone());
    let binding =
        json!({"metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"]}});
    let binding = serde_json::from_value(binding).expect("a binding");
    bindings.create(&PostParams::default(), &binding).await.expect("bind the policy");

    // The API server applies a policy after a while.
    world.apply("probe", json!({"suspend": true})).await;
    let link = Patch::Merge(json!({"status": {"portalUrl": "https://portal.example/"}}));
    let dry = PatchParams { dry_run: true, ..PatchParams::default() };
    let is_refused = async || holds(world.api().patch_status("probe", &dry, &link).await.is_err());
    until(is_refused, |()| "the API server does not apply the policy".to_owned()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_the_api_server_refuses_does_not_cost_the_id_and_is_logged() {
    let world = World::new().await;
    refuse_links(&world).await;
    let id = world.create_session("alice", json!({})).await;
    let recorded = world.get("alice").await;
    assert_eq!(
        (recorded.state(), recorded.status_or_default().portal_url),
        (Some(SessionState::Created), None)
    );
    let refused = |line: &Value| line["code"] == 422 && line["resource"] == "verifications/status";
    let line = world.operator().until_logged("the refusal", refused).await;
    assert_eq!((&line["level"], &line["name"]), (&json!("WARN"), &json!("alice")));
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    let over = world.until("alice", |seen| seen.status_or_default().settled).await;
    assert_eq!((over.phase(), over.id(), world.creates()), (Some(Phase::Verified), Some(id), 1));
    world.finish().await;
}

/// Responses to a poll that are not about the session, by a short name. Those that name another session end in `-id`.
fn meaningless() -> Vec<(&'static str, Action)> {
    let forged = |edit: Edit| Action::Edit(vec![edit, set("/status/current", json!("verified"))]);
    vec![
        ("another-id", forged(set("/verification_id", json!("ver_another")))),
        ("no-id", forged(remove("/verification_id"))),
        ("unusable-id", forged(set("/verification_id", json!("../ver")))),
        ("empty", Action::Malformed(Malformed::Empty)),
        ("html", Action::Malformed(Malformed::Html)),
        ("truncated", Action::Malformed(Malformed::Truncated)),
        ("twice", Action::Malformed(Malformed::DuplicateKeys)),
        ("endless", Action::Huge(Huge::Endless { bytes: 1 << 30 })),
        ("server-error", Action::body(500, r#"{"status":{"current":"verified"}}"#)),
        ("teapot", Action::body(418, r#"{"status":{"current":"verified"}}"#)),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_that_is_not_about_the_session_changes_nothing() {
    let world = World::new().await;
    let mut invited = Vec::new();
    for (name, action) in meaningless() {
        let id = world.create_session(name, json!({})).await;
        world.until_polled(&id, 1).await;
        let version = world.resource_version(name).await;
        let fault = world.sandbox().inject(Fault::new(Call::Details, action).session(&id).times(2));
        invited.push((name, id, version, fault));
    }
    for (name, _, version, fault) in &invited {
        world.until_portal("two unusual responses", |world| world.sandbox().hits(*fault) == 2).await;
        assert_eq!(&world.resource_version(name).await, version, "{name}");
    }
    for (name, id, _, _) in &invited {
        if name.ends_with("-id") {
            world.until_event(name, "IdMismatch").await;
        }
        world.sandbox().finish(id, Verdict::Rejected).unwrap();
        let over = world.until(name, |seen| seen.status_or_default().settled).await;
        assert_eq!((over.phase(), over.id().as_ref()), (Some(Phase::Rejected), Some(id)));
    }
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_that_hangs_or_drips_delays_no_other() {
    let world = World::new().await;
    let drip = Action::Drip { every: std::time::Duration::from_millis(500) };
    let quick = world.create_session("quick", json!({})).await;
    let mut slow = Vec::new();
    for (name, action) in [("hangs", Action::Hang), ("drips", drip)] {
        let id = world.create_session(name, json!({})).await;
        let fault = world.sandbox().inject(Fault::new(Call::Details, action).session(&id).once());
        world.until_portal("a slow response", |world| world.sandbox().hits(fault) == 1).await;
        slow.push((name, fault, id));
    }
    // Each times out after 30 seconds and is sent again.
    for (name, fault, id) in slow {
        world.sandbox().finish(&id, Verdict::Verified).unwrap();
        let over = world.until(name, |seen| seen.status_or_default().settled).await;
        assert_eq!(over.phase(), Some(Phase::Verified));
        let calls = world.sandbox().requests();
        let hit = calls.iter().position(|call| call.fault == Some(fault)).unwrap();
        let meanwhile = calls[hit + 1..].iter().take_while(|call| call.session.as_ref() != Some(&id));
        let quick = meanwhile.filter(|call| call.session.as_ref() == Some(&quick)).count();
        assert!(quick > 1, "{quick} polls while {name} waited for its response");
    }
    world.finish().await;
}
