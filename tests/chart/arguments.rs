//! The arguments and the environment of the containers: the operator understands them, and they say what the values say.

use std::collections::BTreeSet;

use clap::{CommandFactory as _, Parser as _};
use okid_operator::portal::PortalUrl;
use okid_operator::settings::{Command, CommandLine};
use serde_json::Value;

use crate::helm::{Rendered, case, rendered, texts};

/// The settings of `okid-operator run` in a case.
pub(crate) fn settings(rendered: &Rendered) -> okid_operator::settings::Settings {
    match parse(&rendered.arguments()) {
        Command::Run(settings) => *settings,
        Command::Check(_) | Command::Crd | Command::ReleaseFinalizers(_) | Command::Completions { .. } => {
            panic!("the Deployment runs another command")
        }
    }
}

fn parse(arguments: &[String]) -> Command {
    let program = ["okid-operator".to_owned()];
    match CommandLine::try_parse_from(program.iter().chain(arguments)) {
        Ok(line) => line.command,
        Err(error) => panic!("{arguments:?}: {error}"),
    }
}

#[test]
fn the_operator_understands_the_arguments_of_every_case() {
    for (case, rendered) in rendered() {
        let settings = settings(rendered);
        let portals: Vec<_> = settings.allowed_portals.iter().map(PortalUrl::as_str).collect();
        assert!(portals.contains(&settings.default_portal.as_str()), "{case}");
        // The events may take ten seconds longer than the shutdown.
        let grace =
            rendered.deployment()["spec"]["template"]["spec"]["terminationGracePeriodSeconds"].as_u64();
        assert!(grace.unwrap() > settings.shutdown_grace_period.as_secs() + 10, "{case}: {grace:?}");
    }
}

#[test]
fn the_operator_knows_every_variable_that_the_chart_sets() {
    let command = CommandLine::command();
    let run = command.find_subcommand("run").unwrap();
    let known: BTreeSet<_> =
        run.get_arguments().filter_map(|flag| flag.get_env()?.to_str().map(str::to_owned)).collect();
    for (case, rendered) in rendered() {
        let variables = rendered.container()["env"].as_array().unwrap().iter();
        let names = variables.map(|variable| variable["name"].as_str().unwrap());
        for name in names.filter(|name| name.starts_with("OKID_")) {
            assert!(known.contains(name), "{case}: {name}");
        }
    }
}

#[test]
fn without_portals_the_default_is_the_one_that_the_notes_name() {
    let settings = settings(case("default"));
    assert_eq!(settings.default_portal.as_str(), okid_operator::portal::DEFAULT_PORTAL);
    assert!(crate::helm::read("templates/_helpers.tpl").contains(okid_operator::portal::DEFAULT_PORTAL));
    let sandbox = self::settings(case("sandbox"));
    assert_eq!(sandbox.default_portal.as_str(), "http://okid-operator-sandbox.okid-operator.svc:8090");
    let beside = self::settings(case("sandbox-beside-a-portal"));
    assert_eq!(beside.default_portal.as_str(), "https://verify.okid.example");
}

#[test]
fn portals_rates_and_images_reach_the_operator() {
    let plain = settings(case("plain-http"));
    assert_eq!((plain.portal_rate.get(), plain.key_rate.get()), (None, Some(2.5)));
    assert_eq!(plain.link_path.as_str(), "/verify");
    assert_eq!(settings(case("stores")).forbidden_images.len(), 2);
    assert_eq!(settings(case("scheduling")).max_concurrent_reconciles, 500);
    assert_eq!(case("namespaces").flags("--namespace"), ["team-a", "okid-operator"]);
    assert_eq!(case("shard").flags("--selector"), ["sharding.fluxcd.io/key=shard1"]);
}

#[test]
fn each_file_that_an_argument_names_is_mounted() {
    for (case, rendered) in rendered() {
        let container = rendered.container();
        let mounts = container["volumeMounts"].as_array().into_iter().flatten();
        let mounts: Vec<_> = mounts.map(|mount| mount["mountPath"].as_str().unwrap()).collect();
        for flag in [
            "--portal-ca-file",
            "--stores-file",
            "--store-ca-file",
            "--webhooks-file",
            "--webhook-tls-cert-file",
        ] {
            for file in rendered.flags(flag) {
                let folder = file.rsplit_once('/').unwrap().0;
                assert!(mounts.contains(&folder), "{case}: {file} is not in {mounts:?}");
            }
        }
        let volumes = rendered.deployment()["spec"]["template"]["spec"]["volumes"].as_array();
        assert_eq!(volumes.map_or(0, Vec::len), mounts.len(), "{case}");
    }
}

#[test]
fn the_stores_in_the_values_are_a_file_that_the_operator_reads() {
    use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
    use okid_operator::store::{HttpSettings, RetryPolicy, StoreHttp, Stores};

    let secret = case("stores").find("Secret", "okid-operator-stores").unwrap();
    let text = BASE64.decode(secret.object["data"]["stores.yaml"].as_str().unwrap()).unwrap();
    let text = String::from_utf8(text).unwrap();
    let trust = okid_operator::tls::client_config(None).unwrap();
    let http = StoreHttp::new(&HttpSettings::default(), trust).unwrap();
    let stores = Stores::read("stores.yaml", &text, &[], &http, RetryPolicy::default()).unwrap();
    assert_eq!(stores.names().collect::<Vec<_>>(), ["evidence", "evidence-gcs", "folder"]);
}

#[test]
fn the_names_of_notifications_are_a_file_that_the_operator_reads_with_mounted_secrets() {
    use okid_operator::webhook::Endpoints;

    let rendered = case("webhook");
    let settings = settings(rendered);
    let map = rendered.find("ConfigMap", "okid-operator-webhooks").unwrap();
    let text = map.object["data"]["webhooks.yaml"].as_str().unwrap();
    let endpoints = Endpoints::parse(text, &settings.allowed_portals, &settings.default_portal).unwrap();
    assert_eq!(endpoints.names().collect::<Vec<_>>(), ["okid", "second"]);
    let volumes = rendered.deployment()["spec"]["template"]["spec"]["volumes"].as_array().unwrap();
    let volume = volumes.iter().find(|volume| volume["name"] == "webhooks").unwrap();
    let sources = volume["projected"]["sources"].as_array().unwrap();
    let secrets = sources.iter().map(|source| &source["secret"]).filter(|secret| secret.is_object());
    assert!(secrets.clone().all(|secret| secret["optional"] == true), "the operator starts without them");
    let paths = secrets.filter_map(|secret| secret["items"][0]["path"].as_str());
    for path in paths.clone() {
        assert!(text.contains(&format!("secretsFile: /etc/okid-operator/webhooks/{path}\n")), "{text}");
    }
    assert_eq!(paths.count(), 2);
    let webhook = settings.webhook.unwrap();
    assert!(webhook.certificate.is_some() && webhook.trusted_proxies.len() == 2);
    assert!(self::settings(case("default")).webhook.is_none());
}

#[test]
fn the_pods_of_hooks_run_commands_that_the_operator_has() {
    for (case, rendered) in rendered() {
        for job in rendered.of_kind("Job") {
            let container = &job.object["spec"]["template"]["spec"]["containers"][0];
            // In a Pod, it is a variable.
            let namespace = ["--pod-namespace=okid-operator".to_owned()];
            let arguments = [texts(&container["args"]), namespace.to_vec()].concat();
            let Command::ReleaseFinalizers(settings) = parse(&arguments) else {
                panic!("{case}: another command")
            };
            assert_eq!(
                settings.stop_deployment.as_deref(),
                rendered.deployment()["metadata"]["name"].as_str()
            );
            let selector = settings.pod_selector.unwrap();
            let labels = &rendered.deployment()["spec"]["selector"]["matchLabels"];
            let matched: BTreeSet<_> = selector.as_str().split(',').map(str::to_owned).collect();
            assert_eq!(matched, pairs(labels), "{case}");
        }
        let [pod] = rendered.of_kind("Pod").try_into().unwrap();
        let Command::Check(settings) = parse(&texts(&pod.object["spec"]["containers"][0]["args"])) else {
            panic!("{case}: another command")
        };
        let account = &rendered.deployment()["spec"]["template"]["spec"]["serviceAccountName"];
        assert_eq!(&pod.object["spec"]["serviceAccountName"], account, "{case}");
        let lease = rendered.flags("--leader-lease-name");
        assert_eq!(settings.leader_lease_name.as_ref(), lease.first(), "{case}");
        let lease_namespace = settings.leader_lease_namespace.map(|namespace| namespace.as_str().to_owned());
        assert_eq!(lease_namespace, rendered.flags("--leader-lease-namespace").pop(), "{case}");
        let namespaces: Vec<_> = settings.namespaces.iter().map(|name| name.as_str().to_owned()).collect();
        assert_eq!(namespaces, rendered.flags("--namespace"), "{case}");
        // Only this case has the value rbac.ttlAfterFinished.
        assert_eq!(settings.ttl_after_finished, case == "identity", "{case}");
        let url = settings.admin_url.map(|url| url.as_str().to_owned());
        let port = rendered.flags("--admin-address")[0].rsplit_once(':').unwrap().1.to_owned();
        for service in
            rendered.of_kind("Service").iter().filter(|service| service.name().ends_with("-metrics"))
        {
            let expected = format!("http://{}.okid-operator.svc:{port}", service.name());
            assert_eq!(url.as_deref(), Some(expected.as_str()), "{case}");
        }
    }
}

#[test]
fn hooks_have_the_further_variables_of_the_operator() {
    let rendered = case("extras");
    let operator = rendered.container();
    let [job] = rendered.of_kind("Job").try_into().unwrap();
    let [pod] = rendered.of_kind("Pod").try_into().unwrap();
    for spec in [&job.object["spec"]["template"]["spec"], &pod.object["spec"]] {
        let container = &spec["containers"][0];
        assert!(container["envFrom"].is_array() && container["envFrom"] == operator["envFrom"]);
        let variables = container["env"].as_array().unwrap();
        assert!(variables.iter().any(|variable| variable["name"] == "AWS_REGION"), "{variables:?}");
    }
}

fn pairs(labels: &Value) -> BTreeSet<String> {
    let labels = labels.as_object().unwrap().iter();
    labels.map(|(name, value)| format!("{name}={}", value.as_str().unwrap())).collect()
}
