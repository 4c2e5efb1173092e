//! What the chart's account may do, as the API server lists it for `kubectl auth can-i --list`.

use std::collections::BTreeSet;

use okid_operator::permissions::RUN;

use crate::cluster::Cluster;
use crate::helm::{RELEASE, Rendered, render_with};
use crate::objects::{cluster, kubectl, restricted};
use crate::permissions::expected;
use crate::until;

/// A resource with its group, or a path; the name of the only object; a verb.
type Access = (String, String, String);

/// What an account of the release's namespace may do in a namespace.
fn listed(cluster: &Cluster, namespace: &str, account: &str) -> BTreeSet<Access> {
    let account = format!("--as=system:serviceaccount:{RELEASE}:{account}");
    let question = ["auth", "can-i", "--list", "--namespace", namespace, &account];
    let (output, errors, succeeded) = kubectl(cluster, &question, "");
    assert!(succeeded && errors.is_empty(), "{errors}");
    // One line for each resource: its name, and lists of paths, names and verbs in brackets.
    let lines = output.lines().skip(1).map(|line| {
        let (resource, lists) = line.split_once('[').unwrap();
        let list = |list: &str| -> Vec<String> {
            list.trim_end().trim_end_matches(']').split_whitespace().map(str::to_owned).collect()
        };
        let [paths, names, verbs]: [Vec<String>; 3] =
            lists.split('[').map(list).collect::<Vec<_>>().try_into().unwrap();
        let resource = resource.trim().to_owned();
        let what = if paths.is_empty() { vec![resource] } else { paths };
        (what, if names.is_empty() { vec![String::new()] } else { names }, verbs)
    });
    let mut all = BTreeSet::new();
    for (what, names, verbs) in lines {
        for what in &what {
            for name in &names {
                all.extend(verbs.iter().map(|verb| (what.clone(), name.clone(), verb.clone())));
            }
        }
    }
    all
}

/// What the list in the code grants in a namespace.
fn needed(rendered: &Rendered, namespace: &str) -> BTreeSet<Access> {
    let places = [None, Some(namespace.to_owned())];
    let grants = expected(RUN, rendered);
    let grants = places.iter().filter_map(|place| grants.get(place)).flatten();
    let access = grants.map(|(group, resource, name, verb, _)| {
        let (resource, subresource) = resource.split_at(resource.find('/').unwrap_or(resource.len()));
        let group = if group.is_empty() { String::new() } else { format!(".{group}") };
        (format!("{resource}{group}{subresource}"), name.clone().unwrap_or_default(), verb.clone())
    });
    access.collect()
}

/// Checks that the account of a release may do what it needs in each of these namespaces, what every account may, and
/// nothing else.
async fn check(release: &str, set: &[&str], namespaces: &[&str]) {
    let cluster = cluster().await;
    for namespace in namespaces.iter().chain(&[RELEASE]) {
        restricted(cluster, namespace);
    }
    let fullname = format!("fullnameOverride=\"{release}\"");
    let rendered = render_with("default", &[&[fullname.as_str()], set].concat()).unwrap();
    let of_access = ["ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"];
    let documents = of_access.iter().flat_map(|kind| rendered.of_kind(kind));
    let texts: Vec<_> = documents.map(|document| document.text.as_str()).collect();
    let apply = ["apply", "--server-side", "--filename", "-"];
    let (_, errors, succeeded) = kubectl(cluster, &apply, &texts.join("\n---\n"));
    assert!(succeeded, "{errors}");
    for namespace in namespaces {
        let of_everybody = listed(cluster, namespace, "nobody");
        assert!(of_everybody.iter().any(|(what, ..)| what == "/openapi/*"), "{of_everybody:?}");
        let allowed: BTreeSet<_> = of_everybody.union(&needed(&rendered, namespace)).cloned().collect();
        let exactly = async || {
            let listed = listed(cluster, namespace, release);
            if listed == allowed { Ok(()) } else { Err(listed) }
        };
        let report = |listed: BTreeSet<Access>| {
            let (missing, more): (Vec<_>, Vec<_>) =
                (allowed.difference(&listed).collect(), listed.difference(&allowed).collect());
            format!("{release} in {namespace}: not granted {missing:#?}, granted besides {more:#?}")
        };
        until(exactly, report).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_server_lists_for_the_account_what_the_code_lists_and_nothing_else() {
    check("okid-access", &[], &["default", RELEASE]).await;
    let listed = ["watch.namespaces=[\"team-a\"]"];
    check("okid-access-one", &listed, &["default", "team-a", RELEASE]).await;
    let elsewhere = ["leaderElection.leaseNamespace=\"team-b\""];
    check("okid-access-lease", &elsewhere, &["default", "team-b", RELEASE]).await;
}
