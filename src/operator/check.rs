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

/// The result of one check.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    what: String,
    problem: Option<String>,
}

impl Display for Finding {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match &self.problem {
            None => write!(formatter, "ok      {}", self.what),
            Some(problem) => write!(formatter, "FAILED  {}: {problem}", self.what),
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
    match findings.iter().filter(|finding| finding.problem.is_some()).count() {
        0 => Ok(()),
        failed => Err(CheckError::Failed(failed, findings.len())),
    }
}

/// The permissions to check, each with its namespace; `None` means the whole cluster.
fn needed(settings: &CheckSettings) -> Vec<(&'static Permission, Option<&str>)> {
    let watched: Vec<_> = settings.namespaces.iter().map(Namespace::as_str).collect();
    let has_lease = settings.leader_lease_name.is_some();
    let relevant =
        permissions::RUN.iter().filter(|permission| has_lease || !permission.is_for_leader_election());
    relevant
        .flat_map(|permission| match permission.scope {
            Scope::WatchedNamespaces | Scope::Cluster if watched.is_empty() => vec![(permission, None)],
            Scope::WatchedNamespaces => watched.iter().map(|name| (permission, Some(*name))).collect(),
            Scope::Cluster => Vec::new(),
            Scope::OwnNamespace => {
                settings.pod_namespace.as_deref().map(|own| (permission, Some(own))).into_iter().collect()
            }
        })
        .collect()
}

async fn right(
    cluster: &Cluster,
    permission: &Permission,
    namespace: Option<&str>,
    settings: &CheckSettings,
) -> Finding {
    let object = match permission.objects {
        Objects::All | Objects::Deployment => None,
        Objects::Named(name) => Some(name),
        Objects::Lease => settings.leader_lease_name.as_deref(),
    };
    let group = if permission.api_group.is_empty() { "core" } else { permission.api_group };
    let place =
        namespace.map_or_else(|| "the cluster".to_owned(), |namespace| format!("namespace {namespace}"));
    let what = format!("may {} {} ({group}) in {place}", permission.verb, permission.resource);
    let problem = match cluster.may(permission, namespace, object).await {
        Ok(true) => None,
        Ok(false) => Some(format!("not granted; it is needed because the operator {}", permission.reason)),
        Err(error) => Some(format!("the API server cannot be asked: {error}")),
    };
    Finding { what, problem }
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
            return Finding { what: format!("ready at {url}"), problem };
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
    Finding { what: format!("metrics at {url}"), problem }
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
            pod_namespace: Some("okid-operator".to_owned()),
        }
    }

    fn places(settings: &CheckSettings, resource: &str) -> Vec<Option<String>> {
        let needed = needed(settings).into_iter().filter(|(permission, _)| permission.resource == resource);
        needed.map(|(_, place)| place.map(str::to_owned)).collect()
    }

    #[test]
    fn permissions_are_checked_where_the_operator_needs_them() {
        let all = settings(&[], Some("okid"));
        assert_eq!(places(&all, "secrets"), [None]);
        assert_eq!(places(&all, "customresourcedefinitions"), [None]);
        assert_eq!(places(&all, "leases").len(), 3);
        let two = settings(&["team-a", "team-b"], None);
        assert_eq!(places(&two, "secrets"), [Some("team-a".to_owned()), Some("team-b".to_owned())]);
        assert!(places(&two, "customresourcedefinitions").is_empty() && places(&two, "leases").is_empty());
    }

    #[test]
    fn a_finding_is_one_line_that_says_what_is_wrong() {
        let finding = |problem: Option<&str>| {
            Finding { what: "ready".to_owned(), problem: problem.map(str::to_owned) }.to_string()
        };
        assert_eq!(finding(None), "ok      ready");
        assert_eq!(finding(Some("503")), "FAILED  ready: 503");
    }
}
