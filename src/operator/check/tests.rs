//! The lines of a check, and what an API server was asked for them.

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::*;
use crate::cluster::test_client::{client, failure};

fn settings(namespaces: &[&str], lease: Option<&str>) -> CheckSettings {
    CheckSettings {
        admin_url: None,
        namespaces: namespaces.iter().map(|name| name.parse().unwrap()).collect(),
        leader_lease_name: lease.map(str::to_owned),
        leader_lease_namespace: None,
        ttl_after_finished: false,
        pod_namespace: Some("okid-operator".parse().unwrap()),
    }
}

fn places<'a>(settings: &'a CheckSettings, resource: &str) -> Vec<Place<'a>> {
    let needed = needed(settings).into_iter().filter(|(permission, _)| permission.resource == resource);
    needed.map(|(_, place)| place).collect()
}

fn is_skipped(places: &[Place<'_>]) -> bool {
    !places.is_empty() && places.iter().all(|place| matches!(place, Place::Skipped(_)))
}

#[test]
fn permissions_are_checked_where_the_operator_needs_them() {
    let all = settings(&[], Some("okid"));
    assert_eq!(places(&all, "secrets"), [Place::Cluster]);
    assert_eq!(places(&all, "leases"), [Place::Namespace("okid-operator"); 3]);
    let two = settings(&["team-a", "team-b"], None);
    assert_eq!(places(&two, "secrets"), [Place::Namespace("team-a"), Place::Namespace("team-b")]);
    assert!(is_skipped(&places(&two, "leases")));
    let elsewhere = CheckSettings {
        leader_lease_namespace: Some("leases".parse().unwrap()),
        ..settings(&[], Some("okid"))
    };
    assert_eq!(places(&elsewhere, "leases"), [Place::Namespace("leases"); 3]);
    let own_events = needed(&elsewhere)
        .into_iter()
        .filter(|(permission, _)| permission.resource == "events" && permission.scope == Scope::OwnNamespace);
    assert!(own_events.map(|(_, place)| place).all(|place| place == Place::Namespace("okid-operator")));
}

#[test]
fn what_cannot_be_checked_without_the_namespace_of_the_pod_is_said() {
    let unknown =
        CheckSettings { pod_namespace: None, ttl_after_finished: true, ..settings(&[], Some("okid")) };
    assert!(is_skipped(&places(&unknown, "leases")));
    let skipped = needed(&unknown).into_iter().filter(|(_, place)| matches!(place, Place::Skipped(_)));
    assert!(skipped.map(|(permission, _)| permission.scope).all(|scope| scope == Scope::OwnNamespace));
    let finding = Finding { what: "may get leases".to_owned(), result: CheckResult::Skipped("pass a flag") };
    assert_eq!(finding.to_string(), "skipped may get leases: pass a flag");
}

#[test]
fn a_finding_is_one_line_that_says_what_is_wrong() {
    let finding = |problem: Option<&str>| {
        let result = CheckResult::of(problem.map(str::to_owned));
        Finding { what: "ready".to_owned(), result }.to_string()
    };
    assert_eq!(finding(None), "ok      ready");
    assert_eq!(finding(Some("503")), "FAILED  ready: 503");
}

#[test]
fn a_permission_for_deleting_is_checked_where_the_operator_deletes() {
    let delete = |settings: &CheckSettings| -> Vec<String> {
        let needed = needed(settings).into_iter().filter(|(permission, _)| permission.verb == "delete");
        needed.map(|(permission, place)| format!("{} {place:?}", permission.resource)).collect()
    };
    let with = |settings: CheckSettings| CheckSettings { ttl_after_finished: true, ..settings };
    assert_eq!(delete(&with(settings(&[], None))), ["verifications Cluster"]);
    assert_eq!(
        delete(&with(settings(&["team-a", "team-b"], None))),
        [r#"verifications Namespace("team-a")"#, r#"verifications Namespace("team-b")"#]
    );
    for without in [settings(&[], None), settings(&["team-a", "team-b"], None)] {
        assert!(matches!(&delete(&without)[..], [skipped] if skipped.contains("--ttl-after-finished")));
    }
}

/// The lines of a check of the permissions, and how many checks were made and how many failed. The API server answers
/// reviews with that.
async fn lines<F>(settings: &CheckSettings, respond: F) -> (Vec<String>, usize, usize)
where
    F: Fn(&Value) -> (u16, Value) + Clone + Send + Sync + 'static,
{
    let client = client(move |request, sent| {
        let respond = respond.clone();
        async move {
            if request.uri.path().ends_with("/selfsubjectreviews") {
                let user = json!({"username": "system:serviceaccount:okid-operator:okid-operator"});
                return (201, json!({"metadata": {}, "status": {"userInfo": user}}));
            }
            let (code, answer) = respond(&sent["spec"]["resourceAttributes"]);
            if code == 201 {
                (201, json!({"metadata": {}, "spec": {}, "status": answer}))
            } else {
                (code, answer)
            }
        }
    });
    let cluster = Cluster::new(client, "check", None, Metrics::new().into());
    let lines: Mutex<Vec<String>> = Mutex::default();
    let line = |line: &str| lines.lock().push(line.to_owned());
    let mut report = Report { line, made: 0, failed: 0 };
    check_permissions(&cluster, settings, &mut report).await;
    let (made, failed) = (report.made, report.failed);
    (lines.into_inner(), made, failed)
}

#[tokio::test]
async fn what_is_not_granted_is_named_with_what_it_is_for() {
    let settings = CheckSettings { ttl_after_finished: true, ..settings(&[], Some("okid")) };
    let missing = |asked: &Value| {
        let is_missing = asked["verb"] == "delete" || asked["verb"] == "update";
        (201, json!({"allowed": !is_missing}))
    };
    let (lines, made, failed) = lines(&settings, missing).await;
    assert_eq!((lines.len(), made, failed), (14, 14, 2));
    assert_eq!(
        lines[0],
        "ok      the API server answers; it knows this account as \
         system:serviceaccount:okid-operator:okid-operator"
    );
    let problems: Vec<_> = lines.iter().filter(|line| !line.starts_with("ok")).collect();
    assert_eq!(
        problems,
        [
            "FAILED  may update leases (coordination.k8s.io) in namespace okid-operator: not granted for the object \
             okid; it is needed because the operator acquires, renews and releases the leadership",
            "FAILED  may delete verifications (okid.io) in the cluster: not granted; it is needed because the operator \
             deletes a finished resource whose spec.ttlAfterFinished has passed; nothing else",
        ]
    );
}

#[tokio::test]
async fn a_permission_that_the_api_server_cannot_evaluate_is_not_said_to_be_missing() {
    let unknown = |asked: &Value| {
        let error = if asked["resource"] == "secrets" { "canary" } else { "" };
        (201, json!({"allowed": asked["resource"] != "secrets", "evaluationError": error}))
    };
    let (lines, _, failed) = lines(&settings(&[], Some("okid")), unknown).await;
    let problems: Vec<_> = lines.iter().filter(|line| line.starts_with("FAILED")).collect();
    assert!(
        failed == 1 && problems[0].contains("may get secrets (core) in the cluster: not granted, or"),
        "{lines:?}"
    );
    assert!(!lines.iter().any(|line| line.contains("canary")), "{lines:?}");
}

#[tokio::test]
async fn permissions_that_nobody_can_be_asked_about_are_not_said_to_be_missing() {
    let settings = CheckSettings { ttl_after_finished: true, ..settings(&[], Some("okid")) };
    let (lines, made, failed) = lines(&settings, |_| failure(403, "Forbidden")).await;
    assert_eq!((lines.len(), made, failed), (14, 2, 1));
    assert!(lines[1].ends_with("in the cluster: the API server cannot be asked: 403 Forbidden"), "{lines:?}");
    assert!(lines[2..].iter().all(|line| line.starts_with("skipped may ")), "{lines:?}");
    assert!(lines[2..].iter().all(|line| line.ends_with(": the API server cannot be asked")), "{lines:?}");
}

#[tokio::test]
async fn a_request_without_a_response_is_reported_with_the_cause() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let problem = get(&url, "/readyz").await.unwrap_err();
    assert!(problem.starts_with("no response: ") && problem.contains("refused"), "{problem}");
}
