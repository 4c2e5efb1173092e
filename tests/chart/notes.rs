//! What the notes of a release say, in every case.

use k8s_openapi::api::core::v1::Secret;
use serde_json::Value;

use crate::arguments::settings;
use crate::helm::{RELEASE, Rendered, cases, chart, helm, output, rendered, values_file};
use crate::objects::{cluster, kubectl, restricted};

/// The notes of a case, for a cluster without prometheus-operator.
fn notes(case: &str) -> String {
    notes_with(case, &[])
}

/// The same, with further values.
fn notes_with(case: &str, set: &[&str]) -> String {
    let (chart, values) = (chart(), values_file(case));
    let mut values = vec!["--values", values.to_str().unwrap()];
    values.extend(set.iter().flat_map(|value| ["--set-json", value]));
    let release = ["install", RELEASE, chart.to_str().unwrap(), "--namespace", RELEASE];
    let dry_run = ["--dry-run=client", "--output", "json"];
    let text = output(helm(&[&release[..], &values[..], &dry_run].concat())).unwrap();
    let release: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    release["info"]["notes"].as_str().unwrap().to_owned()
}

/// The manifest at the end of the notes, and the namespace that it is applied in.
pub(crate) fn first_verification(notes: &str) -> (String, String) {
    let (before, rest) = notes.rsplit_once("<<END\n").expect("the notes have a manifest");
    let (manifest, _) = rest.split_once("\nEND").expect("the manifest has an end");
    let (_, command) = before.rsplit_once("kubectl --namespace ").expect("the manifest has a command");
    (manifest.to_owned(), command.split(' ').next().unwrap().to_owned())
}

/// Whether the operator of a case works on the Verification in the notes, with a portal and a Secret that it has.
fn assert_works(case: &str, rendered: &Rendered, notes: &str) {
    let settings = settings(rendered);
    let (manifest, namespace) = first_verification(notes);
    let verification: Value = serde_norway::from_str(&manifest).unwrap();

    let watched = rendered.flags("--namespace");
    assert!(watched.is_empty() || watched.contains(&namespace), "{case}: {namespace}");
    for selector in rendered.flags("--selector") {
        let (label, value) = selector.split_once('=').unwrap();
        assert_eq!(verification["metadata"]["labels"][label], value, "{case}");
    }
    let portal = verification["spec"]["portal"].as_str().unwrap_or(settings.default_portal.as_str());
    assert!(settings.allowed_portals.iter().any(|allowed| allowed.as_str() == portal), "{case}: {portal}");
    assert!(notes.contains(&format!("uses {}.", settings.default_portal.as_str())), "{case}: {notes}");

    let secret = verification["spec"]["apiKeySecretRef"]["name"].as_str().unwrap();
    if let Some(document) = rendered.find("Secret", secret) {
        let secret: Secret = serde_json::from_value(document.object.clone()).unwrap();
        assert!(secret.data.unwrap().contains_key("apiKey"), "{case}");
        assert!(portal.contains("-sandbox."), "{case}: {portal}");
    } else {
        let create = format!("kubectl --namespace {namespace} create secret generic {secret} ");
        assert!(notes.contains(&create), "{case}: {notes}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_notes_of_every_case_end_with_a_verification_that_is_accepted_and_worked_on() {
    let cluster = cluster().await;
    cluster.install_definition().await;
    for (case, rendered) in rendered() {
        let notes = notes(case);
        assert_works(case, rendered, &notes);
        let (manifest, namespace) = first_verification(&notes);
        restricted(cluster, &namespace);
        let apply = ["--namespace", &namespace, "apply", "--dry-run=server", "--filename", "-"];
        // Other tests have an alice.
        let manifest = manifest.replace("  name: alice\n", "  name: from-the-notes\n");
        let (applied, errors, succeeded) = kubectl(cluster, &apply, &manifest);
        assert!(succeeded && errors.is_empty(), "{case}: {errors}");
        assert_eq!(applied, "verification.okid.io/from-the-notes created (server dry run)\n", "{case}");
    }
}

#[test]
fn the_notes_say_what_is_skipped_and_what_is_left_to_the_administrator() {
    for case in cases() {
        let notes = notes(&case);
        for (text, expected) in [
            ("SKIPPED: the ServiceMonitor, because", case == "servicemonitor"),
            ("SKIPPED: the PodMonitor, because", case == "podmonitor"),
            ("crds.enabled is false", case == "shard"),
            ("releaseFinalizers.enabled is false", case == "minimal"),
            ("NOT FOR PRODUCTION", case.starts_with("sandbox")),
        ] {
            assert_eq!(notes.contains(text), expected, "{case}: {text}");
        }
    }
}

#[test]
fn the_notes_warn_of_a_proxy_that_is_not_trusted_to_say_where_calls_come_from() {
    let warns =
        |set: &[&str]| notes_with("webhook", set).contains("WARNING: webhook.trustedProxies is empty");
    let empty = "webhook.trustedProxies=[]";
    let (no_ingress, no_route) = ("webhook.ingress.enabled=false", "webhook.httpRoute.enabled=false");
    assert!(!warns(&[]));
    assert!(warns(&[empty, no_route]) && warns(&[empty, no_ingress]));
    assert!(!warns(&[empty, no_ingress, no_route]), "calls come from their senders");
}
