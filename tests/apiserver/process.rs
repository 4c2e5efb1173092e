//! The process: its admin server, its shutdown, its settings.

use std::time::Duration;

use control_plane::Folder;
use control_plane::process::Signal;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, PostParams};
use okid_operator::api::{Phase, SessionState, Verification};
use okid_sandbox::{Action, Call, Cut, Fault, Verdict};
use serde_json::{Value, json};

use crate::harness::evidence::{asking, front};
use crate::harness::{Account, Cluster, Launch, Operator, VerificationExt as _, World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_reports_a_missing_definition_and_is_ready_once_it_exists() {
    let cluster = Cluster::start().await;
    let folder = Folder::create("okid-operator-").unwrap();
    let account = Account::for_all_namespaces(&cluster).await;
    let kubeconfig = account.kubeconfig(&cluster, folder.path()).await;
    let command = Operator::program(&kubeconfig).args([
        "run",
        "--admin-address",
        "127.0.0.1:0",
        "--leader-elect=false",
    ]);
    let operator = Operator::start(command, folder.path().join("log"), folder.lifeline().unwrap());
    let line = operator.until_logged("what it is waiting for", |line| line["level"] == "WARN").await;
    assert!(line["message"].as_str().unwrap().contains("okid-operator crd | kubectl apply"), "{line}");
    let response = operator.ask("/readyz").await;
    assert_eq!(response.status(), 503);
    assert_eq!(response.text().await.unwrap(), "waiting for the custom resource definition\n");
    assert_eq!(operator.ask("/livez").await.status(), 200);

    // It shuts down while it waits.
    let another = Operator::program(&kubeconfig).args([
        "run",
        "--admin-address",
        "127.0.0.1:0",
        "--leader-elect=false",
    ]);
    let another = Operator::start(another, folder.path().join("another"), folder.lifeline().unwrap());
    another.until_logged("what it is waiting for", |line| line["level"] == "WARN").await;
    another.signal(Signal::Interrupt);
    assert_eq!(another.wait().await.code(), Some(0));

    cluster.install_definition().await;
    operator.until_watching().await;
    let response = operator.ask("/readyz").await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.text().await.unwrap(), "ok\n");

    // The definition may be removed again.
    cluster.remove_definition().await;
    let gone = |line: &Value| line["level"] == "WARN" && line["code"] == 404;
    let line = operator.until_logged("that the definition is gone", gone).await;
    assert!(line["message"].as_str().unwrap().contains("okid-operator crd | kubectl apply"), "{line}");
    let response = operator.ask("/readyz").await;
    assert_eq!(response.status(), 503);
    assert_eq!(response.text().await.unwrap(), "waiting for the custom resource definition\n");
    cluster.install_definition().await;
    operator.until_ready().await;
    assert_eq!(operator.log_lines().iter().filter(|line| gone(line)).count(), 1);
    assert!(operator.stop().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_undecodable_verification_is_logged_with_the_expected_type_and_no_value() {
    let cluster = Cluster::start().await;
    let mut wider = serde_json::to_value(okid_operator::api::definition()).unwrap();
    let schema = &mut wider["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    schema["properties"]["mode"] = json!({"type": "string", "maxLength": 64});
    cluster.install(&serde_json::from_value(wider).unwrap()).await;
    let resource = ApiResource::erase::<Verification>(&());
    let api: Api<DynamicObject> = Api::default_namespaced_with(cluster.client().await, &resource);
    let spec = json!({"spec": {"apiKeySecretRef": {"name": "key"}, "mode": "canary"}});
    let undecodable = DynamicObject::new("undecodable", &resource).data(spec);
    api.create(&PostParams::default(), &undecodable).await.unwrap();

    let folder = Folder::create("okid-operator-").unwrap();
    let account = Account::for_all_namespaces(&cluster).await;
    let kubeconfig = account.kubeconfig(&cluster, folder.path()).await;
    let command = Operator::program(&kubeconfig).args([
        "run",
        "--admin-address",
        "127.0.0.1:0",
        "--leader-elect=false",
    ]);
    let operator = Operator::start(command, folder.path().join("log"), folder.lifeline().unwrap());
    let line = operator.until_logged("what it cannot decode", |line| says(line, "cannot be decoded")).await;
    assert_eq!((&line["namespace"], &line["name"]), (&json!("default"), &json!("undecodable")));
    let expected = "unknown variant, expected ";
    assert!(line["error"].as_str().is_some_and(|error| error.starts_with(expected)), "{line}");
    operator.until_ready().await;
    assert!(!operator.log().contains("canary"), "{}", operator.log());
    assert!(operator.stop().await.success());
}

/// Runs an operator with a changed kubeconfig; returns its log line about the definition and the body of `/readyz`.
async fn logged_with(change: impl FnOnce(&mut Value), reason: &str) -> (Value, String) {
    let cluster = Cluster::shared().await;
    let folder = Folder::create("okid-operator-").unwrap();
    let text = std::fs::read_to_string(cluster.kubeconfig()).unwrap();
    let mut config: Value = serde_norway::from_str(&text).unwrap();
    change(&mut config);
    let kubeconfig = folder.path().join("kubeconfig");
    std::fs::write(&kubeconfig, serde_norway::to_string(&config).unwrap()).unwrap();
    let command = Operator::program(&kubeconfig).args(["run", "--admin-address", "127.0.0.1:0"]);
    let operator = Operator::start(command, folder.path().join("log"), folder.lifeline().unwrap());
    let about = |line: &Value| line["reason"].as_str().is_some_and(|text| text.contains(reason));
    let line = operator.until_logged(reason, about).await;
    let response = operator.ask("/readyz").await;
    assert_eq!(response.status(), 503);
    let readyz = response.text().await.unwrap();
    assert!(readyz.starts_with("waiting for the API server, to ask for the custom resource"), "{readyz}");
    assert!(
        !operator.log().contains("canary") && !operator.log().contains("installs it"),
        "{}",
        operator.log()
    );
    assert!(operator.stop().await.success());
    (line, readyz)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_api_server_is_logged_as_such_and_not_as_a_missing_definition() {
    // The port is reserved, so that nothing else listens there.
    let held = tokio::net::TcpSocket::new_v4().unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let nowhere = format!("https://{}", held.local_addr().unwrap());
    let away = |config: &mut Value| config["clusters"][0]["cluster"]["server"] = json!(nowhere);
    let (line, readyz) = logged_with(away, "connection refused").await;
    assert_eq!((&line["level"], &line["code"]), (&json!("WARN"), &Value::Null));
    assert!(readyz.ends_with(": connection refused\n"), "{readyz}");

    let stranger = |config: &mut Value| config["users"][0]["user"] = json!({"token": "canary"});
    let (line, readyz) = logged_with(stranger, "Unauthorized").await;
    assert_eq!((&line["level"], &line["code"]), (&json!("WARN"), &json!(401)));
    assert!(readyz.ends_with(": 401 Unauthorized\n"), "{readyz}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_metrics_are_openmetrics() {
    let world = World::new().await;
    let id = world.create_session("alice", json!({})).await;
    world.until_polled(&id, 1).await;
    let response = world.operator().ask("/metrics").await;
    assert_eq!(
        response.headers()["content-type"],
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    let text = response.text().await.unwrap();
    assert!(text.ends_with("# EOF\n"), "{text}");
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        let is_known = ["okid_", "process_"].iter().any(|prefix| name.starts_with(prefix));
        assert!(is_known && value.parse::<f64>().is_ok(), "{line}");
    }
    // The parser refuses the unit of a histogram, which the specification allows.
    let is_unit = |line: &&str| line.starts_with("# UNIT ") && line.ends_with(" seconds\n");
    let parsed: String = text.split_inclusive('\n').filter(|line| !is_unit(line)).collect();
    let parsed = openmetrics_parser::openmetrics::parse_openmetrics(&parsed).unwrap();
    for family in ["okid_portal_request_duration_seconds", "okid_api_server_request_duration_seconds"] {
        assert!(parsed.families.contains_key(family), "{text}");
    }
    for line in [
        r#"okid_live_verifications{phase="AwaitingUser"} 1"#,
        r#"okid_api_server_request_duration_seconds_count{verb="patch",resource="verifications/status"}"#,
        r#"okid_reconcile_duration_seconds_count{outcome="requeue"}"#,
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(text.contains("okid_portal_requests_total{call=\"create\",result=\"ok\"} 1\n"), "{text}");
    assert_eq!(world.operator().metric("okid_live_verifications").await, 1.0);
    assert!(!text.contains(&world.namespace) && !text.contains("alice"), "no label names a resource: {text}");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_counts_as_ok_once_its_whole_body_has_arrived() {
    let world = World::builder().s3().start().await;
    world.sandbox().inject(Fault::new(Call::Image, Action::Cut(Cut::MidBody)));
    world.create_and_finish("alice", asking(front()), Verdict::Verified).await;
    let cut = "okid_portal_requests_total{call=\"image\",result=\"cut\"}";
    world.operator().until_metric(cut, |images| images >= 1.0).await;
    assert_eq!(
        world.operator().metric("okid_portal_requests_total{call=\"image\",result=\"ok\"}").await,
        0.0
    );
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_in_flight_at_shutdown_is_recorded() {
    let world = World::new().await;
    let alice = world.create_session("alice", json!({})).await;
    let hanging = |call| Fault::new(call, Action::Hang).once();
    let poll = world.sandbox().inject(hanging(Call::Details).session(&alice));
    world.sandbox().finish(&alice, Verdict::Verified).unwrap();
    let create = world.sandbox().inject(hanging(Call::Create));
    world.apply("bob", json!({})).await;
    let both = |world: &World| world.sandbox().hits(poll) == 1 && world.sandbox().hits(create) == 1;
    world.until_portal("a poll and a create", both).await;
    assert_eq!(world.get("bob").await.state(), Some(SessionState::Claimed));
    assert_eq!(world.get("alice").await.phase(), Some(Phase::AwaitingUser));

    world.operator().signal(Signal::Terminate);
    world.operator().until_logged("that it shuts down", |line| says(line, "shutting down")).await;
    let response = world.operator().ask("/readyz").await;
    assert_eq!(response.status(), 503);
    world.apply("carol", json!({})).await;
    world.sandbox().clear_faults();
    let status = world.operator().wait().await;
    assert_eq!(status.code(), Some(0));
    assert_eq!(world.get("alice").await.phase(), Some(Phase::Verified));
    let bob = world.get("bob").await;
    assert_eq!((bob.phase(), bob.state()), (Some(Phase::AwaitingUser), Some(SessionState::Created)));
    assert!(world.sandbox().session(&bob.id().unwrap()).is_some());
    assert_eq!(world.get("carol").await.session().attempt, 0, "nothing is started during a shutdown");
    assert_eq!(world.creates(), 2);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_that_cannot_wait_for_a_response_says_so() {
    let world = World::builder().launch(Launch::new().flags(["--shutdown-grace-period", "1s"])).start().await;
    let hanging = world.sandbox().inject(Fault::new(Call::Create, Action::Hang));
    world.apply("alice", json!({})).await;
    world.until_portal("the create", |world| world.sandbox().hits(hanging) == 1).await;
    let status = world.operator().stop().await;
    assert_eq!(status.code(), Some(1));
    assert!(
        world.operator().log().contains("could not record all in-flight work within --shutdown-grace-period")
    );
    assert_eq!(world.get("alice").await.state(), Some(SessionState::Claimed), "left for the next process");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_it_at_once_and_leaves_work_in_flight_to_the_next_start() {
    let world = World::new().await;
    let hanging = world.sandbox().inject(Fault::new(Call::Create, Action::Hang));
    world.apply("alice", json!({})).await;
    world.until_portal("the create", |world| world.sandbox().hits(hanging) == 1).await;
    world.operator().signal(Signal::Interrupt);
    world.operator().until_logged("that it shuts down", |line| says(line, "shutting down")).await;
    world.operator().signal(Signal::Interrupt);
    assert_eq!(world.operator().wait().await.code(), Some(1));
    assert!(world.operator().log().contains("received a second termination signal"));
    assert_eq!(world.get("alice").await.state(), Some(SessionState::Claimed));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invalid_settings_end_the_process_with_a_message() {
    let cluster = Cluster::shared().await;
    let folder = Folder::create("okid-operator-").unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let missing = folder.path().join("missing").display().to_string();
    let empty = folder.path().join("empty").display().to_string();
    std::fs::write(&empty, "").unwrap();
    let endless = format!("/{}", "a".repeat(512));
    let cases: [(&[&str], &str); 21] = [
        (
            &["--portal-qps", "0.5"],
            "'--portal-qps <N>': write a number of requests per second from 1 to 100000, or 0 for no limit",
        ),
        (&["--key-qps=-1"], "'--key-qps <N>': write a number of requests per second"),
        (&["--key-qps", "many"], "'--key-qps <N>': write a number of requests per second"),
        (&["--max-concurrent-reconciles", "0"], "'--max-concurrent-reconciles <N>': 0 is not in 1..=100000"),
        (&["--shutdown-grace-period", "60"], "'--shutdown-grace-period <DURATION>': write a duration"),
        (&["--link-path", "verify"], "'--link-path <PATH>': write a path such as /verify: it begins with /"),
        (
            &["--default-portal", "https://elsewhere.example"],
            "--default-portal is not one of the allowed portals",
        ),
        (&["--link-path", &endless], "it begins with /, has no ? or #, and has at most 512 characters"),
        (&["--portal-proxy", "ftp://hunter2@proxy:1"], "--portal-proxy must be the URL of an HTTP proxy"),
        (&["--portal-proxy", "socks5://u:hunter2@proxy:1"], "which begins with http:// or https://"),
        (
            &["--portal-proxy", "http://user:hunter2@pro xy"],
            "--portal-proxy must be the URL of an HTTP proxy",
        ),
        (&["--allowed-portal", "http://portal.example"], "or set --allow-plain-http"),
        (&["--allowed-portal", "portal"], "check --allowed-portal"),
        (&["--portal-ca-file", &missing], "cannot read the file named by --portal-ca-file"),
        (&["--portal-ca-file", &empty], "check --portal-ca-file: the CA bundle contains no"),
        (&["--store-ca-file", &missing], "cannot read the file named by --store-ca-file"),
        (&["--store-ca-file", &empty], "check --store-ca-file: the CA bundle contains no"),
        (&["--admin-address", &taken], "cannot serve on --admin-address"),
        (&["--log-filter", "okid=loudest"], "'--log-filter <DIRECTIVES>': write a level such as info"),
        (&["--namespace"], "--namespace"),
        (&["--namespace", "Team_A"], "'--namespace <NAME>': write the name of a namespace"),
    ];
    for (number, (flags, message)) in cases.iter().enumerate() {
        let address =
            if flags[0] == "--admin-address" { vec![] } else { vec!["--admin-address", "127.0.0.1:0"] };
        let command = Operator::program(cluster.kubeconfig()).arg("run").args(address).args(*flags);
        let log = folder.path().join(number.to_string());
        let operator = Operator::start(command, log, folder.lifeline().unwrap());
        let status = operator.wait().await;
        let output = operator.log();
        assert!(status.code().is_some_and(|code| code != 0), "{flags:?}: {status}\n{output}");
        assert!(output.contains(message), "{flags:?} does not say `{message}`:\n{output}");
        assert!(!output.contains("hunter2"), "{flags:?} repeats a password:\n{output}");
    }
    for (number, argument) in ["--admin-address=127.0.0.1:0", "--help"].into_iter().enumerate() {
        let command = Operator::program(cluster.kubeconfig()).args(["run", argument]);
        let command = command.env("OKID_PORTAL_PROXY", "socks5://user:hunter2@proxy:1");
        let log = folder.path().join(format!("proxy-{number}"));
        let operator = Operator::start(command, log, folder.lifeline().unwrap());
        operator.wait().await;
        let output = operator.log();
        assert!(output.contains("OKID_PORTAL_PROXY"), "{output}");
        assert!(!output.contains("hunter2"), "{argument} repeats a password:\n{output}");
    }
    let nowhere = Operator::program(missing.as_ref()).args(["run", "--admin-address", "127.0.0.1:0"]);
    let operator = Operator::start(nowhere, folder.path().join("nowhere"), folder.lifeline().unwrap());
    assert!(!operator.wait().await.success());
    assert!(operator.log().contains("find the cluster: set KUBECONFIG"), "{}", operator.log());
}

pub(crate) fn says(line: &Value, words: &str) -> bool {
    line["message"].as_str().is_some_and(|message| message.contains(words))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resources_that_share_a_key_share_its_rate_limit() {
    let world = World::builder().launch(Launch::new().flags(["--key-qps", "5"])).start().await;
    for number in 0..15 {
        world.apply(&format!("person-{number}"), json!({"polling": {"minInterval": "1h"}})).await;
    }
    world.until_portal("fifteen creates", |world| world.creates() == 15).await;
    let creates = world.sandbox().creates();
    let took = creates[14].since_start.saturating_sub(creates[0].since_start);
    // Fourteen after the first, at five per second.
    assert!(took >= Duration::from_millis(2500), "{took:?}");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_created_at_the_named_portal_or_else_at_the_default_one() {
    let mut world = World::builder().portals(2).without_operator().start().await;
    let (first, second) = (world.portal(0).url(), world.portal(1).url());
    world.start(Launch::new().flags(["--default-portal", &second, "--link-path", "/verify"])).await;
    let named = world.create_session("named", json!({"portal": format!("{first}/")})).await;
    let unnamed = world.create_session("unnamed", json!({})).await;
    assert!(world.portal(0).session(&named).is_some());
    assert!(world.portal(1).session(&unnamed).is_some());
    let link = world.get("named").await.status_or_default().portal_url;
    assert_eq!(link, Some(format!("{first}/verify?verification_id={named}")));
    let link = world.get("unnamed").await.status_or_default().portal_url;
    assert_eq!(link, Some(format!("{second}/verify?verification_id={unnamed}")));

    // The default may change; a session stays at its portal.
    assert_eq!(world.operator().stop().await.code(), Some(0));
    world.start(Launch::new().flags(["--default-portal", &first])).await;
    world.portal(1).finish(&unnamed, Verdict::Verified).unwrap();
    world.until("unnamed", |seen| seen.phase() == Some(Phase::Verified)).await;
    assert_eq!(world.creates(), 2);
    world.finish().await;
}
