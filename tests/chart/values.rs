//! The values: each one is used, documented, and checked by the schema.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::helm::{Rendered, case, cases, chart, helm, output, read, render_with, values_file};

/// Groups of values that a template uses as a whole, by the name that it gives them.
const GROUPS: [(&str, &str); 4] =
    [("portals.ca", "ca"), ("evidence.ca", "ca"), ("image", "image"), ("sandbox.image", "image")];

/// The paths of all values in the schema.
fn paths() -> BTreeSet<String> {
    let schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
    let mut found = BTreeSet::new();
    collect(&schema, "", &mut found);
    assert!(found.remove("global"));
    assert!(found.len() > 90, "{}", found.len());
    found
}

fn collect(group: &Value, path: &str, found: &mut BTreeSet<String>) {
    for (key, value) in group["properties"].as_object().unwrap() {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        if value["additionalProperties"] == false && value["properties"].is_object() {
            collect(value, &path, found);
        } else {
            found.insert(path);
        }
    }
}

/// All templates.
fn templates() -> String {
    let mut text = String::new();
    let mut folders = vec![chart().join("templates")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                text += &std::fs::read_to_string(path).unwrap();
            }
        }
    }
    text
}

/// The paths after each occurrence of a prefix in a text.
fn references<'a>(text: &'a str, prefix: &str) -> BTreeSet<&'a str> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '.';
    let after = text.split(prefix).skip(1);
    after.map(|rest| rest.find(|letter| !is_part(letter)).map_or(rest, |end| &rest[..end])).collect()
}

#[test]
fn every_value_is_used_by_a_template() {
    let templates = templates();
    let used = references(&templates, ".Values.");
    let is_in_group = |path: &str| {
        GROUPS.iter().any(|(group, name)| {
            let key = path.strip_prefix(group).and_then(|rest| rest.strip_prefix('.'));
            used.contains(group)
                && key.is_some_and(|key| references(&templates, &format!("{name}.")).contains(key))
        })
    };
    let unused: Vec<_> =
        paths().into_iter().filter(|path| !used.contains(path.as_str()) && !is_in_group(path)).collect();
    assert!(unused.is_empty(), "{unused:?}");
}

#[test]
fn every_value_that_a_template_uses_exists() {
    let templates = templates();
    let known = paths();
    let exists =
        |path: &str| known.iter().any(|known| known == path || known.starts_with(&format!("{path}.")));
    let unknown: Vec<_> =
        references(&templates, ".Values.").into_iter().filter(|path| !exists(path)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

/// A value of a file, by its path.
fn value_at<'a>(values: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(values, |group, key| group.get(key))
}

#[test]
fn every_value_is_tried_by_a_case_and_changes_what_is_rendered() {
    let parse = |text: &str| -> Value { serde_norway::from_str(text).unwrap() };
    let defaults = parse(&read("values.yaml"));
    let cases: Vec<_> = cases()
        .into_iter()
        .map(|case| (parse(&std::fs::read_to_string(values_file(&case)).unwrap()), case))
        .collect();
    let texts = |rendered: &Rendered| -> Vec<String> {
        rendered.documents.iter().map(|document| document.text.clone()).collect()
    };
    let mut without_effect = Vec::new();
    for path in paths() {
        let default = value_at(&defaults, &path).unwrap();
        let mut trials = cases
            .iter()
            .filter(|(values, _)| value_at(values, &path).is_some_and(|value| value != default))
            .peekable();
        assert!(trials.peek().is_some(), "no case sets {path}");
        // A value may be refused without another one.
        let has_effect = trials.any(|(_, case)| {
            render_with(case, &[&format!("{path}={default}")])
                .map_or(true, |rendered| texts(&rendered) != texts(self::case(case)))
        });
        if !has_effect {
            without_effect.push(path);
        }
    }
    assert!(without_effect.is_empty(), "{without_effect:?}");
}

#[test]
fn every_value_is_documented_and_nothing_else_is() {
    let page = read("README.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | `"));
    let documented: BTreeSet<_> = rows.map(|(path, _)| path.to_owned()).collect();
    assert_eq!(documented, paths());
}

#[test]
fn a_value_with_a_typo_is_refused_at_every_level() {
    for (typo, named) in [
        ("replica=3", "replica"),
        ("portals.allow=[]", "allow"),
        ("portals.ca.configmapName=\"a\"", "configmapName"),
        (
            "evidence.stores=[{\"name\": \"a\", \"url\": \"s3://a\", \"namespaces\": [\"a\"], \"region\": \"b\"}]",
            "region",
        ),
        ("metrics.serviceMonitor.intervall=\"30s\"", "intervall"),
        ("networkPolicy.apiServer.cidr=[]", "cidr"),
    ] {
        let refusal = render_with("default", &[typo]).unwrap_err();
        assert!(refusal.contains("additional properties") && refusal.contains(named), "{typo}: {refusal}");
    }
}

#[test]
fn a_value_of_the_wrong_kind_is_refused() {
    for wrong in [
        "replicas=\"two\"",
        "portals.requestsPerSecond=0.5",
        "portals.allowed=[\"verify.okid.example\"]",
        "evidence.forbiddenImages=[\"redacted\"]",
        "watch.namespaces=[\"Team_A\"]",
        "image.digest=\"latest\"",
        "logs.format=\"xml\"",
        "webhook.service.externalTrafficPolicy=\"\"",
        "evidence.stores=[{\"name\": \"a\", \"url\": \"http://a\", \"namespaces\": [\"a\"]}]",
    ] {
        let refusal = render_with("default", &[wrong]).unwrap_err();
        assert!(refusal.contains("values don't meet the specifications of the schema"), "{wrong}: {refusal}");
    }
}

#[test]
fn values_that_contradict_each_other_are_refused_with_advice() {
    for (case, set, advice) in [
        ("default", &["leaderElection.enabled=false"][..], "enable it, or run one replica"),
        ("servicemonitor", &["metrics.podMonitor.enabled=true"], "enable one of them"),
        ("servicemonitor", &["metrics.service.enabled=false"], "enable metrics.podMonitor"),
        ("stores", &["evidence.storesSecret.name=\"a\""], "use one of them"),
        ("private-ca", &["portals.ca.secretName=\"a\""], "portals.ca: set only one of"),
        ("secrets", &["evidence.ca.configMapName=\"a\""], "evidence.ca: set only one of"),
        ("secrets", &["portals.proxy.url=\"http://a\""], "portals.proxy: set only one of"),
        ("openshift", &["portals.default=\"https://b\""], "add it there"),
        ("default", &["portals.default=\"https://b\""], "add it there"),
        ("plain-http", &["portals.allowPlainHttp=false"], "needs portals.allowPlainHttp"),
        (
            "sandbox",
            &["portals.proxy.url=\"http://a\""],
            "requests to the sandbox would go through the proxy",
        ),
        ("default", &["webhook.enabled=true"], "add one for each portal"),
        ("webhook", &["webhook.ingress.host=\"\""], "webhook.ingress.host"),
        ("webhook", &["webhook.httpRoute.parentRefs=[]"], "name the Gateway"),
        ("webhook", &["webhook.service.type=\"NodePort\""], "use networkPolicy.webhookFrom"),
    ] {
        let refusal = render_with(case, set).unwrap_err();
        assert!(refusal.contains(advice), "{set:?}: {refusal}");
    }
}

#[test]
fn every_case_passes_a_strict_lint() {
    let cases = cases();
    assert!(cases.len() >= 12, "{cases:?}");
    for case in cases {
        let (chart, values) = (chart(), values_file(&case));
        let arguments = ["lint", "--strict", chart.to_str().unwrap(), "--values", values.to_str().unwrap()];
        let linted = output(helm(&arguments));
        assert!(linted.as_ref().is_ok_and(|text| text.contains("0 chart(s) failed")), "{case}: {linted:?}");
    }
}

#[test]
fn the_chart_has_the_version_of_the_operator() {
    let chart: Value = serde_norway::from_str(&read("Chart.yaml")).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!((&chart["version"], &chart["appVersion"]), (&Value::from(version), &Value::from(version)));
    let images = chart["annotations"]["artifacthub.io/images"].as_str().unwrap();
    assert_eq!(images.matches(&format!(":{version}\n")).count(), 2, "{images}");
}

#[test]
fn a_cluster_without_stable_selectable_fields_is_refused() {
    let render = |version: &str| {
        let chart = chart();
        let arguments = ["template", "okid", chart.to_str().unwrap(), "--kube-version", version];
        output(helm(&arguments))
    };
    let refusal = render("v1.31.9").unwrap_err();
    assert!(refusal.contains(">=1.32.0-0"), "{refusal}");
    render("v1.32.0-eks-a1b2c3").unwrap();
}
