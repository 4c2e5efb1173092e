//! `okid-operator check`: whether an installed operator is ready and serves metrics, and whether its account has every
//! permission that it needs. `helm test` runs it with the operator's own `ServiceAccount`.

use std::{
    fmt::{self, Display, Formatter},
    time::Duration,
};

use bytes::Bytes;
use http::Uri;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    clock::Clock,
    cluster::{Cluster, Connect, connect},
    metrics::Metrics,
    permissions::{self, Objects, Permission, Scope},
    settings::{CheckSettings, Namespace},
};

/// How long the operator may take to become ready.
const READY_WITHIN: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_secs(1);
const RESPONSE_WITHIN: Duration = Duration::from_secs(10);
/// Far more than the metrics have, which is some tens of kilobytes.
const MOST_BYTES: usize = 16 * 1024 * 1024;
/// A metric that every operator has.
const A_METRIC: &str = "okid_build_info";

/// Why a check could not be made, or failed.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// There is no client for the API server.
    #[error(transparent)]
    Cluster(#[from] Connect),
    /// Something is not as it must be.
    #[error("{0} of {1} checks failed")]
    Failed(usize, usize),
}

/// One check.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    what: String,
    result: CheckResult,
}

/// The result of one check.
#[derive(Debug, PartialEq, Eq)]
enum CheckResult {
    Ok,
    Failed(String),
    /// Nothing was checked, for this reason.
    Skipped(&'static str),
}

/// Where a permission is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place<'a> {
    Cluster,
    Namespace(&'a str),
    /// It is not checked.
    Skipped(&'static str),
}

impl CheckResult {
    fn of(problem: Option<String>) -> Self {
        problem.map_or(Self::Ok, Self::Failed)
    }
}

impl Display for Finding {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let what = &self.what;
        match &self.result {
            CheckResult::Ok => write!(formatter, "ok      {what}"),
            CheckResult::Failed(problem) => write!(formatter, "FAILED  {what}: {problem}"),
            CheckResult::Skipped(why) => write!(formatter, "skipped {what}: {why}"),
        }
    }
}

/// Checks an installed operator, and passes a line about each thing that is checked to `report`.
///
/// # Errors
///
/// [`CheckError`].
pub async fn check(settings: &CheckSettings, report: impl Fn(&str)) -> Result<(), CheckError> {
    let cluster = connect(Clock::start(), "check", None, Metrics::new().into()).await?;
    let mut findings = Vec::new();
    if let Some(url) = &settings.admin_url {
        findings.push(readiness(url.as_str()).await);
        findings.push(metrics(url.as_str()).await);
    }
    for (permission, place) in needed(settings) {
        findings.push(right(&cluster, permission, place, settings).await);
    }
    for finding in &findings {
        report(&finding.to_string());
    }
    let made = findings.iter().filter(|finding| !matches!(finding.result, CheckResult::Skipped(_)));
    match findings.iter().filter(|finding| matches!(finding.result, CheckResult::Failed(_))).count() {
        0 => Ok(()),
        failed => Err(CheckError::Failed(failed, made.count())),
    }
}

/// The permissions of an operator with these settings, each with where it is checked.
fn needed(settings: &CheckSettings) -> Vec<(&'static Permission, Place<'_>)> {
    let watched: Vec<_> = settings.namespaces.iter().map(Namespace::as_str).collect();
    let places = |permission: &Permission| match permission.scope {
        Scope::WatchedNamespaces if watched.is_empty() => vec![Place::Cluster],
        Scope::WatchedNamespaces => watched.iter().copied().map(Place::Namespace).collect(),
        Scope::OwnNamespace => vec![own_place(permission, settings)],
    };
    permissions::RUN
        .iter()
        .flat_map(|permission| places(permission).into_iter().map(move |place| (permission, place)))
        .collect()
}

/// Where a permission for the operator's own namespace is checked.
fn own_place<'a>(permission: &Permission, settings: &'a CheckSettings) -> Place<'a> {
    let own = settings.pod_namespace.as_deref();
    if !permission.is_for_leader_election() {
        return own.map_or(Place::Skipped("pass --pod-namespace to check it"), Place::Namespace);
    }
    if settings.leader_lease_name.is_none() {
        return Place::Skipped("pass --leader-lease-name to check it, if the operator elects a leader");
    }
    let namespace = settings.leader_lease_namespace.as_ref().map(Namespace::as_str).or(own);
    namespace.map_or(
        Place::Skipped("pass --leader-lease-namespace or --pod-namespace to check it"),
        Place::Namespace,
    )
}

async fn right(
    cluster: &Cluster,
    permission: &Permission,
    place: Place<'_>,
    settings: &CheckSettings,
) -> Finding {
    let object = match permission.objects {
        Objects::All | Objects::Deployment => None,
        Objects::Lease => settings.leader_lease_name.as_deref(),
    };
    let group = if permission.api_group.is_empty() { "core" } else { permission.api_group };
    let what = format!("may {} {} ({group})", permission.verb, permission.resource);
    let (what, namespace) = match place {
        Place::Cluster => (format!("{what} in the cluster"), None),
        Place::Namespace(namespace) => (format!("{what} in namespace {namespace}"), Some(namespace)),
        Place::Skipped(why) => return Finding { what, result: CheckResult::Skipped(why) },
    };
    let problem = match cluster.may(permission, namespace, object).await {
        Ok(true) => None,
        Ok(false) => Some(format!("not granted; it is needed because the operator {}", permission.reason)),
        Err(error) => Some(format!("the API server cannot be asked: {error}")),
    };
    Finding { what, result: CheckResult::of(problem) }
}

async fn readiness(url: &str) -> Finding {
    let since = Instant::now();
    loop {
        let problem = match get(url, "/readyz").await {
            Ok((200, _)) => None,
            Ok((code, body)) => Some(format!("{code} {}", body.trim())),
            Err(problem) => Some(problem),
        };
        if problem.is_none() || since.elapsed() >= READY_WITHIN {
            return Finding { what: format!("ready at {url}"), result: CheckResult::of(problem) };
        }
        sleep(PAUSE).await;
    }
}

async fn metrics(url: &str) -> Finding {
    let problem = match get(url, "/metrics").await {
        Ok((200, body)) if body.contains(A_METRIC) => None,
        Ok((200, _)) => Some(format!("there is no {A_METRIC}; this is not an okid-operator")),
        Ok((code, _)) => Some(code.to_string()),
        Err(problem) => Some(problem),
    };
    Finding { what: format!("metrics at {url}"), result: CheckResult::of(problem) }
}

/// The status code and the body of a response.
async fn get(url: &str, path: &str) -> Result<(u16, String), String> {
    let uri: Uri =
        format!("{}{path}", url.trim_end_matches('/')).parse().map_err(|_| "not a URL".to_owned())?;
    let client: Client<HttpConnector, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let response = async {
        let response = client.get(uri).await.map_err(|_| "no response".to_owned())?;
        let code = response.status().as_u16();
        let body = Limited::new(response.into_body(), MOST_BYTES).collect().await;
        let body = body.map_err(|_| "the response is not complete".to_owned())?.to_bytes();
        Ok((code, String::from_utf8_lossy(&body).into_owned()))
    };
    timeout(RESPONSE_WITHIN, response).await.unwrap_or_else(|_| Err("no response in time".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(namespaces: &[&str], lease: Option<&str>) -> CheckSettings {
        CheckSettings {
            admin_url: None,
            namespaces: namespaces.iter().map(|name| name.parse().unwrap()).collect(),
            leader_lease_name: lease.map(str::to_owned),
            leader_lease_namespace: None,
            pod_namespace: Some("okid-operator".to_owned()),
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
        let own_events = needed(&elsewhere).into_iter().filter(|(permission, _)| {
            permission.resource == "events" && permission.scope == Scope::OwnNamespace
        });
        assert!(own_events.map(|(_, place)| place).all(|place| place == Place::Namespace("okid-operator")));
    }

    #[test]
    fn what_cannot_be_checked_without_the_namespace_of_the_pod_is_said() {
        let unknown = CheckSettings { pod_namespace: None, ..settings(&[], Some("okid")) };
        assert!(is_skipped(&places(&unknown, "leases")));
        let skipped = needed(&unknown).into_iter().filter(|(_, place)| matches!(place, Place::Skipped(_)));
        assert!(skipped.map(|(permission, _)| permission.scope).all(|scope| scope == Scope::OwnNamespace));
        let finding =
            Finding { what: "may get leases".to_owned(), result: CheckResult::Skipped("pass a flag") };
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
}
