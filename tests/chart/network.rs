//! The `NetworkPolicy` allows the ports that are in use, and no others. Its enforcement cannot be seen here: that takes a
//! network plugin.

use std::collections::BTreeSet;

use serde_json::Value;
use url::Url;

use crate::helm::{Rendered, case, render_with, rendered};

/// The ports of one rule.
fn ports(rule: &Value) -> BTreeSet<u64> {
    rule["ports"].as_array().unwrap().iter().map(|port| port["port"].as_u64().unwrap()).collect()
}

fn policy(rendered: &Rendered) -> Option<&Value> {
    rendered.of_kind("NetworkPolicy").first().map(|document| &document.object["spec"])
}

/// The ports of portals, proxy and stores that the operator's settings name.
fn used(rendered: &Rendered) -> BTreeSet<u64> {
    let mut urls = rendered.flags("--allowed-portal");
    urls.extend(rendered.flags("--allowed-store-endpoint"));
    let variables = rendered.container()["env"].as_array().unwrap().iter();
    urls.extend(
        variables
            .filter(|variable| variable["name"] == "OKID_PORTAL_PROXY")
            .filter_map(|variable| variable["value"].as_str().map(str::to_owned)),
    );
    urls.iter().map(|url| Url::parse(url).unwrap().port_or_known_default().unwrap().into()).collect()
}

#[test]
fn the_admin_port_is_the_same_everywhere() {
    for (case, rendered) in rendered() {
        let container = rendered.container();
        let port = container["ports"][0]["containerPort"].as_u64().unwrap();
        assert_eq!(rendered.flags("--admin-address"), [format!("[::]:{port}")], "{case}");
        assert_eq!(container["ports"][0]["name"], "admin");
        for probe in ["livenessProbe", "readinessProbe"] {
            assert_eq!(container[probe]["httpGet"]["port"], "admin", "{case}");
        }
        for service in rendered.of_kind("Service") {
            assert!(matches!(
                service.object["spec"]["ports"][0]["targetPort"].as_str(),
                Some("admin" | "http" | "webhook")
            ));
        }
        if let Some(policy) = policy(rendered) {
            assert_eq!(ports(&policy["ingress"][0]), BTreeSet::from([port]), "{case}");
        }
    }
}

#[test]
fn the_ports_of_portals_and_stores_are_allowed_and_no_others() {
    let mut count = 0;
    for (case, rendered) in rendered() {
        let Some(policy) = policy(rendered) else { continue };
        let mut expected = used(rendered);
        expected.insert(443);
        if case == "networkpolicy" {
            // The endpoint in the options of a store, and the port that the values add.
            expected.extend([9001, 8081]);
        }
        assert_eq!(ports(&policy["egress"][2]), expected, "{case}");
        assert_eq!(ports(&policy["egress"][0]), BTreeSet::from([53]), "{case}");
        count += 1;
    }
    assert!(count >= 2);
}

#[test]
fn whoever_may_scrape_the_metrics_the_pod_of_helm_test_reaches_them_too() {
    let rendered = case("networkpolicy");
    let [pod] = rendered.of_kind("Pod").try_into().unwrap();
    let labels = &pod.object["metadata"]["labels"];
    let from = policy(rendered).unwrap()["ingress"][0]["from"].as_array().unwrap();
    assert_eq!(from.len(), 3, "{from:?}");
    let selected = from[2]["podSelector"]["matchLabels"].as_object().unwrap();
    assert!(selected.contains_key("app.kubernetes.io/component"));
    assert!(selected.iter().all(|(name, value)| &labels[name] == value), "{selected:?} {labels}");
}

#[test]
fn each_network_is_a_peer_of_its_own() {
    let policy = policy(case("networkpolicy")).unwrap();
    let networks = |rule: &Value| -> Vec<String> {
        let peers = rule["to"].as_array().into_iter().flatten();
        peers.map(|peer| peer["ipBlock"]["cidr"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(networks(&policy["egress"][1]), ["10.0.0.1/32", "fd00::1/128"]);
    assert_eq!(ports(&policy["egress"][1]), BTreeSet::from([6443]));
    assert_eq!(networks(&policy["egress"][2]), ["198.51.100.0/24", "203.0.113.0/24"]);
    assert_eq!(networks(&policy["egress"][3]), ["169.254.169.254/32"]);
    assert_eq!(policy["ingress"][0]["from"].as_array().unwrap().len(), 3, "and the Pod of `helm test`");
    let anywhere = self::policy(case("plain-http")).unwrap();
    assert_eq!(ports(&anywhere["egress"][1]), BTreeSet::from([443, 6443]));
    assert!(anywhere["egress"].as_array().unwrap().iter().all(|rule| rule.get("to").is_none()));
}

#[test]
fn the_policy_selects_the_operators_pods_alone() {
    for rendered in rendered().values() {
        let Some(policy) = policy(rendered) else { continue };
        let labels = &rendered.deployment()["spec"]["selector"]["matchLabels"];
        assert_eq!(&policy["podSelector"]["matchLabels"], labels);
    }
}

#[test]
fn notifications_are_let_in_and_forwarded_between_the_operators_pods() {
    let rendered = case("webhook");
    let policy = policy(rendered).unwrap();
    let (receives, forwards) = (&policy["ingress"][1], &policy["egress"][3]);
    let port = rendered.container()["ports"][1]["containerPort"].as_u64().unwrap();
    assert_eq!(rendered.flags("--webhook-address"), [format!("[::]:{port}")]);
    assert_eq!([ports(receives), ports(forwards)], [BTreeSet::from([port]), BTreeSet::from([port])]);
    let labels = &rendered.deployment()["spec"]["selector"]["matchLabels"];
    assert_eq!(&receives["from"][1]["podSelector"]["matchLabels"], labels);
    assert_eq!(&forwards["to"][0]["podSelector"]["matchLabels"], labels);
    assert_eq!(receives["from"].as_array().unwrap().len(), 2, "the Ingress controller and the own Pods");
    let without = self::policy(case("networkpolicy")).unwrap();
    assert_eq!(without["ingress"].as_array().unwrap().len(), 1);
}

#[test]
fn calls_from_outside_keep_their_address_and_may_be_limited_to_networks() {
    let service = |case: &str, set: &[&str]| {
        let rendered = render_with(case, set).unwrap();
        let spec = &rendered.find("Service", "okid-operator-webhook").unwrap().object["spec"];
        (spec["externalTrafficPolicy"].clone(), spec["loadBalancerSourceRanges"].clone())
    };
    let networks = Value::from(vec!["198.51.100.0/24"]);
    assert_eq!(service("webhook", &[]), (Value::from("Cluster"), networks));
    let names = r#"webhook.names=[{"name": "okid", "secretName": "a", "secretKey": "a", "bearer": {}}]"#;
    for (kind, policy) in
        [("LoadBalancer", "Local".into()), ("NodePort", "Local".into()), ("ClusterIP", Value::Null)]
    {
        let kind = format!("webhook.service.type={kind:?}");
        assert_eq!(
            service("default", &["webhook.enabled=true", names, &kind]),
            (policy, Value::Null),
            "{kind}"
        );
    }
}
