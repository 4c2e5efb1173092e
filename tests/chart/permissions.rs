//! The chart and the example grant what the list in the code says, with its reasons, in every case.

use std::collections::{BTreeMap, BTreeSet};

use okid_operator::permissions::{Objects, Permission, RELEASE_FINALIZERS, RUN, Scope, TTL_AFTER_FINISHED};
use serde_json::Value;

use crate::helm::{Document, RELEASE, Rendered, case, rendered, repository, texts};

/// Where a role applies: a namespace, or the whole cluster.
pub(crate) type Place = Option<String>;

/// Group, resource, name of the only object, verb, reason.
pub(crate) type Grant = (String, String, Option<String>, String, String);

/// What the code's list grants where.
pub(crate) type Grants = BTreeMap<Place, BTreeSet<Grant>>;

const CLUSTER: Place = None;

/// The reasons in the comments of a role, in the order of its verbs.
fn reasons(role: &Document) -> Vec<(String, String)> {
    let lines = role.text.lines().filter_map(|line| line.trim_start().strip_prefix("- "));
    let commented = lines.filter_map(|line| line.split_once(" # "));
    commented.map(|(verb, reason)| (verb.trim().to_owned(), reason.trim().to_owned())).collect()
}

/// What a role grants.
fn grants(role: &Document) -> Vec<Grant> {
    let mut reasons = reasons(role).into_iter();
    let mut all = Vec::new();
    for rule in role.object["rules"].as_array().unwrap() {
        let [group] = texts(&rule["apiGroups"]).try_into().unwrap();
        let [resource] = texts(&rule["resources"]).try_into().unwrap();
        let name = texts(&rule["resourceNames"]).pop();
        for verb in texts(&rule["verbs"]) {
            let reason = reasons.next();
            let reason = reason
                .filter(|(commented, _)| *commented == verb)
                .unwrap_or_else(|| panic!("{}: no comment says why {resource} needs {verb}", role.name()));
            all.push((group.clone(), resource.clone(), name.clone(), verb, reason.1));
        }
    }
    all
}

/// What an account is granted where, by all roles that are bound to it.
fn granted(rendered: &Rendered, account: &str) -> Grants {
    let mut all = Grants::new();
    for binding in ["RoleBinding", "ClusterRoleBinding"].into_iter().flat_map(|kind| rendered.of_kind(kind)) {
        let subject = &binding.object["subjects"][0];
        if subject["name"] != account {
            continue;
        }
        assert_eq!(subject["namespace"], RELEASE);
        let role = &binding.object["roleRef"];
        let (kind, name) = (role["kind"].as_str().unwrap(), role["name"].as_str().unwrap());
        let is_bound = |document: &&Document| {
            (document.kind(), document.name(), document.namespace()) == (kind, name, binding.namespace())
        };
        let role = rendered.documents.iter().find(is_bound).unwrap();
        let grants = grants(role);
        let (count, grants) = (grants.len(), BTreeSet::from_iter(grants));
        assert_eq!(count, grants.len(), "{name} grants something twice");
        all.entry(binding.namespace().map(str::to_owned)).or_default().extend(grants);
    }
    all
}

/// What the list in the code grants where.
pub(crate) fn expected(permissions: &[Permission], rendered: &Rendered) -> Grants {
    let watched = rendered.flags("--namespace");
    let lease = rendered.flags("--leader-lease-name").pop();
    let lease_namespace: Place =
        rendered.flags("--leader-lease-namespace").pop().or_else(|| Some(RELEASE.to_owned()));
    let deployment = rendered.deployment()["metadata"]["name"].as_str().map(str::to_owned);
    let mut all = Grants::new();
    let relevant =
        permissions.iter().filter(|permission| lease.is_some() || !permission.is_for_leader_election());
    for permission in relevant {
        let Permission { scope, api_group, resource, objects, verb, reason } = *permission;
        let name = match objects {
            Objects::All => None,
            Objects::Lease => lease.clone(),
            Objects::Deployment => deployment.clone(),
        };
        let places: Vec<Place> = match scope {
            Scope::WatchedNamespaces if watched.is_empty() => vec![CLUSTER],
            Scope::WatchedNamespaces => watched.iter().cloned().map(Some).collect(),
            Scope::OwnNamespace if permission.is_for_leader_election() => vec![lease_namespace.clone()],
            Scope::OwnNamespace => vec![Some(RELEASE.to_owned())],
        };
        for place in places {
            let grant =
                (api_group.to_owned(), resource.to_owned(), name.clone(), verb.to_owned(), reason.to_owned());
            all.entry(place).or_default().insert(grant);
        }
    }
    all
}

fn account(pod: &Value) -> &str {
    pod["spec"]["template"]["spec"]["serviceAccountName"].as_str().unwrap()
}

#[test]
fn the_operator_is_granted_exactly_what_the_list_in_the_code_says() {
    for (case, rendered) in rendered() {
        let granted = granted(rendered, account(rendered.deployment()));
        if case == "minimal" {
            assert!(granted.is_empty(), "rbac.create is false");
        } else {
            // Only this case has the value rbac.ttlAfterFinished.
            let optional = if case == "identity" { TTL_AFTER_FINISHED } else { &[] };
            assert_eq!(granted, expected(&[RUN, optional].concat(), rendered), "{case}");
        }
    }
}

#[test]
fn the_hook_is_granted_exactly_what_the_list_in_the_code_says() {
    for (case, rendered) in rendered() {
        for job in rendered.of_kind("Job") {
            let granted = granted(rendered, account(&job.object));
            assert_eq!(granted, expected(RELEASE_FINALIZERS, rendered), "{case}");
        }
    }
}

#[test]
fn with_a_list_of_namespaces_only_people_have_cluster_roles() {
    let rendered = case("namespaces");
    assert!(rendered.of_kind("ClusterRoleBinding").is_empty());
    let names: Vec<_> = rendered.of_kind("ClusterRole").iter().map(|role| role.name().to_owned()).collect();
    assert_eq!(names, ["okid-operator-edit"]);
}

#[test]
fn in_the_namespace_of_its_lease_the_operator_may_do_nothing_else() {
    let rendered = case("shard");
    let granted = granted(rendered, account(rendered.deployment()));
    let resources = |place: &str| -> BTreeSet<&str> {
        granted[&Some(place.to_owned())].iter().map(|(_, resource, ..)| resource.as_str()).collect()
    };
    assert_eq!(resources("okid-leases"), BTreeSet::from(["leases"]));
    assert_eq!(resources(RELEASE), BTreeSet::from(["events"]));
}

#[test]
fn no_rule_has_a_wildcard() {
    for (case, rendered) in rendered() {
        for document in &rendered.documents {
            for rule in document.object["rules"].as_array().into_iter().flatten() {
                let all =
                    ["apiGroups", "resources", "verbs", "resourceNames"].map(|field| texts(&rule[field]));
                assert!(!all.concat().iter().any(|text| text.contains('*')), "{case}: {}", document.text);
            }
        }
    }
}

#[test]
fn nobody_but_the_operator_may_write_a_status() {
    for (case, rendered) in rendered() {
        let operators = account(rendered.deployment());
        for role in ["Role", "ClusterRole"].into_iter().flat_map(|kind| rendered.of_kind(kind)) {
            let writes = role.text.contains("verifications/status");
            let is_bound_to_operator = rendered.documents.iter().any(|document| {
                document.object["roleRef"]["name"] == role.name()
                    && document.object["subjects"][0]["name"] == operators
            });
            assert!(!writes || is_bound_to_operator, "{case}: {}", role.name());
        }
    }
}

#[test]
fn people_who_may_edit_get_verifications_and_people_who_may_view_only_if_asked() {
    let labels = |case: &str, role: &str| -> Vec<String> {
        let role = crate::helm::case(case).find("ClusterRole", role);
        let labels =
            role.and_then(|role| role.object["metadata"]["labels"].as_object()).into_iter().flatten();
        labels
            .filter_map(|(name, _)| name.split_once("/aggregate-to-"))
            .map(|(_, to)| to.to_owned())
            .collect()
    };
    assert_eq!(labels("default", "okid-operator-edit"), ["admin", "edit"]);
    assert!(labels("default", "okid-operator-view").is_empty());
    assert_eq!(labels("identity", "okid-operator-view"), ["view"]);
    assert!(labels("shard", "okid-shard1-edit").is_empty());
    let view = case("identity").find("ClusterRole", "okid-operator-view").unwrap();
    assert_eq!(texts(&view.object["rules"][0]["verbs"]), ["get", "list", "watch"]);
}

#[test]
fn the_example_for_plain_manifests_grants_what_the_list_in_the_code_says() {
    let text = std::fs::read_to_string(repository("examples/operator/rbac.yaml")).unwrap();
    let example = Rendered::parse(&text);
    // As the chart without values.
    assert_eq!(granted(&example, RELEASE), expected(RUN, case("default")));
}
