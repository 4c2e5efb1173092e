//! What holds for everything that the chart renders.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

use crate::helm::{Document, case, chart, read, render_with, rendered};

const HOOK: &str = "helm.sh/hook";
const DELETE_POLICY: &str = "helm.sh/hook-delete-policy";

#[test]
fn the_definition_is_that_of_the_code_and_is_kept() {
    let expected = okid_operator::api::definition();
    for (case, rendered) in rendered() {
        let definition = rendered.find("CustomResourceDefinition", "verifications.okid.io");
        if case == "shard" {
            assert!(definition.is_none(), "crds.enabled is false");
            continue;
        }
        let definition = definition.unwrap();
        let read: CustomResourceDefinition = serde_json::from_value(definition.object.clone()).unwrap();
        assert!(read.spec == expected.spec, "{case}: {}", definition.text);
        let kept = if case == "minimal" { "" } else { "keep" };
        assert_eq!(definition.annotation("helm.sh/resource-policy"), kept, "{case}");
        assert_eq!(definition.annotation(HOOK), "", "Helm upgrades no hook: {case}");
        for (name, value) in expected.metadata.annotations.iter().flatten() {
            assert_eq!(definition.annotation(name), value, "{case}");
        }
    }
}

#[test]
fn every_object_has_the_common_labels_and_annotations() {
    let own = |document: &&Document| document.object["metadata"]["labels"]["helm.sh/chart"].is_string();
    for (case, rendered) in rendered() {
        let others = rendered.documents.iter().filter(|document| !own(document));
        let expected = match case.as_str() {
            "extras" => 2,
            "openshift" | "sandbox-route" => 1,
            _ => 0,
        };
        assert_eq!(others.count(), expected, "{case}: all but extraObjects");
    }
    for document in case("extras").documents.iter().filter(own) {
        let labels = &document.object["metadata"]["labels"];
        assert_eq!(labels["example.com/team"], "identity", "{}", document.text);
        assert_eq!(document.annotation("example.com/owner"), "identity@example.com", "{}", document.text);
    }
}

#[test]
fn a_selector_has_no_label_that_an_upgrade_changes() {
    for rendered in rendered().values() {
        for deployment in rendered.of_kind("Deployment") {
            let spec = &deployment.object["spec"];
            let selector = spec["selector"]["matchLabels"].as_object().unwrap();
            let names: Vec<_> = selector.keys().collect();
            assert_eq!(
                names,
                ["app.kubernetes.io/component", "app.kubernetes.io/instance", "app.kubernetes.io/name"]
            );
            for (name, value) in selector {
                assert_eq!(&spec["template"]["metadata"]["labels"][name], value);
            }
        }
    }
}

#[test]
fn several_replicas_have_a_disruption_budget_and_elect_a_leader() {
    for (case, rendered) in rendered() {
        let replicas = rendered.deployment()["spec"]["replicas"].as_u64().unwrap();
        let budgets = rendered.of_kind("PodDisruptionBudget").len();
        assert_eq!(budgets, usize::from(replicas > 1 && case != "minimal"), "{case}");
        let elects = rendered.flags("--leader-elect") == ["true"];
        assert_eq!(elects, replicas > 1, "{case}");
    }
    let single = render_with("default", &["replicas=1"]).unwrap();
    assert!(single.of_kind("PodDisruptionBudget").is_empty());
    assert_eq!(single.flags("--leader-elect"), ["true"], "a rolling update has two for a moment");
}

#[test]
fn the_user_is_left_to_the_image_and_to_the_cluster() {
    for (case, rendered) in rendered() {
        for document in &rendered.documents {
            let template = &document.object["spec"]["template"]["spec"];
            let pod = if document.kind() == "Pod" { &document.object["spec"] } else { template };
            if pod.is_null() {
                continue;
            }
            let context = &pod["securityContext"];
            assert_eq!(context["runAsNonRoot"], true, "{case}");
            let chosen = ["runAsUser", "runAsGroup"].map(|field| &context[field]);
            assert_eq!(chosen, [&Value::Null; 2], "{case}");
            for container in pod["containers"].as_array().unwrap() {
                assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true, "{case}");
                assert!(container["resources"]["limits"]["memory"].is_string(), "{case}");
                assert!(container["resources"]["limits"]["cpu"].is_null() || case == "scheduling", "{case}");
            }
        }
    }
}

#[test]
fn the_hook_before_an_uninstallation_has_an_account_of_its_own_and_leaves_its_log() {
    for (case, rendered) in rendered() {
        let hooks: Vec<_> =
            rendered.documents.iter().filter(|document| document.annotation(HOOK) == "pre-delete").collect();
        if case == "minimal" {
            assert!(hooks.is_empty());
            continue;
        }
        let [job] = rendered.of_kind("Job").try_into().unwrap();
        assert_eq!(job.annotation(HOOK), "pre-delete", "{case}");
        assert_eq!(job.annotation("helm.sh/hook-output-log-policy"), "hook-succeeded,hook-failed");
        // A Job that is deleted at once has no log.
        assert_eq!(job.annotation(DELETE_POLICY), "before-hook-creation");
        assert!(job.object["spec"]["ttlSecondsAfterFinished"].as_u64().unwrap() >= 3600);
        assert!(job.object["spec"]["activeDeadlineSeconds"].as_u64().unwrap() > 120);
        let account = &job.object["spec"]["template"]["spec"]["serviceAccountName"];
        let operators = &rendered.deployment()["spec"]["template"]["spec"]["serviceAccountName"];
        assert_ne!(account, operators, "{case}");
        for hook in hooks.iter().filter(|hook| hook.kind() != "Job") {
            assert!(hook.annotation("helm.sh/hook-weight").parse::<i32>().unwrap() < 0, "{}", hook.text);
            assert_eq!(hook.annotation(DELETE_POLICY), "before-hook-creation,hook-succeeded");
        }
        assert!(
            hooks
                .iter()
                .any(|hook| hook.kind() == "ServiceAccount" && hook.name() == account.as_str().unwrap())
        );
    }
}

#[test]
fn images_are_named_by_registry_tag_or_digest() {
    let image = |rendered: &crate::helm::Rendered| rendered.container()["image"].as_str().unwrap().to_owned();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(image(case("default")), format!("ghcr.io/okid-io/okid-operator:{version}"));
    let digest = format!("sha256:{}", "1".repeat(64));
    assert_eq!(image(case("identity")), format!("registry.example/mirror/okid-operator@{digest}"));
    for document in &case("identity").documents {
        let template = &document.object["spec"]["template"]["spec"];
        for container in template["containers"].as_array().into_iter().flatten() {
            assert_eq!(container["image"], image(case("identity")), "hooks use the operator's image");
            assert_eq!(template["imagePullSecrets"][0]["name"], "registry");
        }
    }
    let sandbox = case("sandbox").find("Deployment", "okid-operator-sandbox").unwrap();
    let container = &sandbox.object["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], "ghcr.io/okid-io/okid-sandbox:0.1.0");
}

#[test]
fn changed_stores_and_certificates_restart_the_pods() {
    let checksum = |rendered: &crate::helm::Rendered, name: &str| {
        let annotations = &rendered.deployment()["spec"]["template"]["metadata"]["annotations"];
        annotations[format!("checksum/{name}")].as_str().map(str::to_owned)
    };
    let stores = case("stores");
    let changed = render_with(
        "stores",
        &["evidence.stores=[{\"name\": \"a\", \"url\": \"s3://a\", \"namespaces\": [\"a\"]}]"],
    );
    assert_ne!(checksum(stores, "stores").unwrap(), checksum(&changed.unwrap(), "stores").unwrap());
    let authorities = case("private-ca");
    for name in ["portal-ca", "store-ca"] {
        assert!(checksum(authorities, name).is_some());
        assert!(authorities.find("ConfigMap", &format!("okid-operator-{name}")).is_some());
    }
    assert_eq!(checksum(case("default"), "stores"), None);
}

#[test]
fn without_prometheus_operator_no_monitor_is_rendered() {
    for (case, kind) in [("servicemonitor", "ServiceMonitor"), ("podmonitor", "PodMonitor")] {
        assert_eq!(crate::helm::case(case).of_kind(kind).len(), 1);
        let file = crate::helm::values_file(case);
        let chart = chart();
        let arguments = ["template", "okid", chart.to_str().unwrap(), "--values", file.to_str().unwrap()];
        let text = crate::helm::output(crate::helm::helm(&arguments)).unwrap();
        assert!(!text.contains("monitoring.coreos.com"), "{case}");
    }
    let monitor = &case("servicemonitor").of_kind("ServiceMonitor")[0].object["spec"];
    let service = case("servicemonitor").find("Service", "okid-operator-metrics").unwrap();
    assert_eq!(monitor["endpoints"][0]["port"], service.object["spec"]["ports"][0]["name"]);
    for (label, value) in monitor["selector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(&service.object["metadata"]["labels"][label], value);
    }
    let monitor = &case("podmonitor").of_kind("PodMonitor")[0].object["spec"];
    assert_eq!(monitor["podMetricsEndpoints"][0]["port"], case("podmonitor").container()["ports"][0]["name"]);
}

#[test]
fn the_sandbox_runs_only_where_it_is_asked_for_and_says_what_it_is() {
    for (case, rendered) in rendered() {
        let runs = rendered.documents.iter().any(|document| document.text.contains("okid-sandbox"));
        assert_eq!(runs, case.starts_with("sandbox"), "{case}");
    }
    let loud = "NOT FOR PRODUCTION";
    assert!(read("README.md").contains(loud) && read("templates/NOTES.txt").contains(loud));
    assert!(case("sandbox").documents.iter().any(|document| document.text.contains(loud)));
}
