//! The environment variables of the operator.

use control_plane::Folder;
use serde_json::{Value, json};

use crate::harness::{Cluster, Launch, Operator, World};

/// Every environment variable of `run`, as listed in its help.
async fn variables() -> Vec<String> {
    let folder = Folder::create("okid-operator-").unwrap();
    let help = Operator::program("nowhere".as_ref()).args(["run", "--help"]);
    let operator = Operator::start(help, folder.path().join("help"), folder.lifeline().unwrap());
    assert!(operator.wait().await.success());
    let log = operator.log();
    let names = log.split("[env: ").skip(1).filter_map(|rest| rest.split(['=', ']']).next());
    names.map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_variable_counts_as_unset() {
    let mut world = World::builder().without_operator().start().await;
    let variables = variables().await;
    assert!(variables.len() >= 17 && variables.iter().all(|name| name.starts_with("OKID_")), "{variables:?}");
    let launch = variables.iter().fold(Launch::new(), |launch, name| launch.env(name, ""));
    let operator = world.another(launch);
    operator.until_watching().await;
    operator.stop().await;
    let folder = Folder::create("okid-operator-").unwrap();
    let check = Operator::program("nowhere".as_ref()).args(["check"]).env("OKID_POD_NAMESPACE", "");
    let check = Operator::start(check, folder.path().join("check"), folder.lifeline().unwrap());
    check.wait().await;
    assert!(check.log().contains("find the cluster"), "{}", check.log());
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_are_trimmed_and_startup_logs_what_is_watched_and_allowed() {
    let mut world = World::builder().without_operator().start().await;
    let portals = "https://one.example, https://two.example ,";
    let launch = Launch::new()
        .allow(Vec::<String>::new())
        .env("OKID_ALLOWED_PORTALS", portals)
        .env("OKID_ALLOWED_STORE_ENDPOINTS", " https://minio.example:9000 ")
        .env("OKID_FORBID_IMAGES", "front, back");
    let operator = world.another(launch);
    let starting =
        |line: &Value| line["message"].as_str().is_some_and(|message| message.starts_with("starting"));
    let line = operator.until_logged("its settings", starting).await;
    assert_eq!(line["namespaces"], json!(world.namespace));
    assert_eq!(line["portals"], "https://one.example, https://two.example");
    assert_eq!(line["default_portal"], "https://one.example");
    assert_eq!(line["store_endpoints"], "https://minio.example:9000");
    assert_eq!(line["forbidden_images"], "front, back");
    let variables = "OKID_ALLOWED_PORTALS, OKID_ALLOWED_STORE_ENDPOINTS, OKID_FORBID_IMAGES";
    assert_eq!(line["variables"], variables);
    operator.until_watching().await;
    operator.stop().await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalid_value_is_reported_with_its_variable() {
    let cluster = Cluster::shared().await;
    let folder = Folder::create("okid-operator-").unwrap();
    for (variable, value) in [
        ("OKID_SHUTDOWN_GRACE_PERIOD", "soon"),
        ("OKID_MAX_CONCURRENT_RECONCILES", "0"),
        ("OKID_FORBID_IMAGES", "front, side"),
        ("OKID_ALLOW_PLAIN_HTTP", "perhaps"),
        ("OKID_NAMESPACE", "Team_A"),
        ("OKID_DEFAULT_PORTAL", "https://elsewhere.example"),
    ] {
        let command = Operator::program(cluster.kubeconfig()).args(["run", "--admin-address", "127.0.0.1:0"]);
        let log = folder.path().join(variable);
        let operator = Operator::start(command.env(variable, value), log, folder.lifeline().unwrap());
        assert!(!operator.wait().await.success());
        assert!(operator.log().contains(variable), "{variable}:\n{}", operator.log());
    }
}

#[test]
fn a_reader_that_stops_early_causes_no_error() {
    for command in [&["crd"][..], &["completions", "bash"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut operator = std::process::Command::new(env!("CARGO_BIN_EXE_okid-operator"));
        let operator = operator.args(command).stdout(writer).output().unwrap();
        let message = String::from_utf8(operator.stderr).unwrap();
        assert!(
            operator.status.success() && message.is_empty(),
            "{command:?}: {} {message}",
            operator.status
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_log_has_no_colours_in_a_file() {
    let folder = Folder::create("okid-operator-").unwrap();
    let command = Operator::program("nowhere".as_ref()).args(["run", "--log-format", "human"]);
    let command = command.args(["--admin-address", "127.0.0.1:0"]);
    let operator = Operator::start(command, folder.path().join("log"), folder.lifeline().unwrap());
    assert!(!operator.wait().await.success());
    let log = operator.log();
    assert!(log.contains("starting") && !log.contains('\u{1b}'), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_certificate_authorities_the_error_names_the_cause_and_no_unused_flag() {
    let folder = Folder::create("okid-operator-").unwrap();
    let nothing = folder.path().display().to_string();
    let command = Operator::program("nowhere".as_ref()).args(["run", "--admin-address", "127.0.0.1:0"]);
    let command = command.env("SSL_CERT_FILE", format!("{nothing}/missing")).env("SSL_CERT_DIR", &nothing);
    let operator = Operator::start(command, folder.path().join("log"), folder.lifeline().unwrap());
    assert!(!operator.wait().await.success());
    let log = operator.log();
    assert!(log.contains("this machine has no CA certificates"), "{log}");
    assert!(!log.contains("-ca-file"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn startup_logs_what_a_ca_bundle_has_and_names_the_line_of_an_invalid_certificate() {
    let folder = Folder::create("okid-operator-").unwrap();
    let pem = rcgen::generate_simple_self_signed(["ca.example".to_owned()]).unwrap().cert.pem();
    let trusted = pem.replace("CERTIFICATE", "TRUSTED CERTIFICATE");
    let bundle = folder.path().join("bundle.pem");
    let run = |name: &str| {
        let command = Operator::program("nowhere".as_ref()).args(["run", "--admin-address", "127.0.0.1:0"]);
        let command = command.arg("--portal-ca-file").arg(&bundle);
        Operator::start(command, folder.path().join(name), folder.lifeline().unwrap())
    };
    std::fs::write(&bundle, format!("\u{feff}{pem}{trusted}{pem}")).unwrap();
    let operator = run("valid");
    let of_bundle = |line: &Value| line["flag"] == "--portal-ca-file";
    let line = operator.until_logged("what the bundle has", of_bundle).await;
    assert_eq!((&line["certificates"], &line["skipped_blocks"]), (&json!(2), &json!(1)));
    operator.wait().await;

    let invalid = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    std::fs::write(&bundle, format!("{pem}{invalid}")).unwrap();
    let operator = run("invalid");
    assert!(!operator.wait().await.success());
    let (log, line) = (operator.log(), pem.lines().count() + 1);
    let sentence = format!("check --portal-ca-file: the block that begins at line {line} ");
    assert!(log.contains(&sentence), "{log}");
}
