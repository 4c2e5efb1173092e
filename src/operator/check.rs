//! `okid-operator check`: whether an installed operator is ready and serves metrics, and whether its account has every
//! permission that it needs. `helm test` runs it with the operator's own `ServiceAccount`.

use std::{
    error::Error,
    fmt::{self, Display, Formatter},
    io,
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
    cluster::{Access, Cluster, Connect, connect},
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

/// Reports each check as it is made, so that a run that is cut off has said what it knew, and counts them.
struct Report<R> {
    line: R,
    made: usize,
    failed: usize,
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

impl<R: Fn(&str)> Report<R> {
    fn add(&mut self, finding: &Finding) {
        (self.line)(&finding.to_string());
        self.made += usize::from(!matches!(finding.result, CheckResult::Skipped(_)));
        self.failed += usize::from(matches!(finding.result, CheckResult::Failed(_)));
    }
}

/// Checks an installed operator, and passes a line about each thing that is checked to `report`.
///
/// # Errors
///
/// [`CheckError`].
pub async fn check(settings: &CheckSettings, report: impl Fn(&str)) -> Result<(), CheckError> {
    let cluster = connect(Clock::start(), "check", None, Metrics::new().into()).await?;
    let mut report = Report { line: report, made: 0, failed: 0 };
    if let Some(url) = &settings.admin_url {
        report.add(&readiness(url.as_str()).await);
        report.add(&metrics(url.as_str()).await);
    } else {
        let result = CheckResult::Skipped("pass --admin-url to check it");
        report.add(&Finding { what: "ready, and serves metrics".to_owned(), result });
    }
    check_permissions(&cluster, settings, &mut report).await;
    match report.failed {
        0 => Ok(()),
        failed => Err(CheckError::Failed(failed, report.made)),
    }
}

/// Checks the permissions. Once the API server cannot be asked, the rest are skipped: nothing is known about them.
async fn check_permissions<R: Fn(&str)>(cluster: &Cluster, settings: &CheckSettings, report: &mut Report<R>) {
    let account = match cluster.own_account().await {
        Ok(name) => Finding {
            what: format!("the API server answers; it knows this account as {name}"),
            result: CheckResult::Ok,
        },
        Err(error) => Finding {
            what: "the API server answers".to_owned(),
            result: CheckResult::Failed(error.to_string()),
        },
    };
    let mut can_ask = account.result == CheckResult::Ok;
    report.add(&account);
    for (permission, place) in needed(settings) {
        let place = if can_ask { place } else { Place::Skipped("the API server cannot be asked") };
        let finding = match may(cluster, permission, place, settings).await {
            Ok(finding) => finding,
            Err(finding) => {
                can_ask = false;
                finding
            }
        };
        report.add(&finding);
    }
}

/// The permissions of an operator with these settings, each with where it is checked.
fn needed(settings: &CheckSettings) -> Vec<(&'static Permission, Place<'_>)> {
    let watched: Vec<_> = if settings.namespaces.is_empty() {
        vec![Place::Cluster]
    } else {
        settings.namespaces.iter().map(|namespace| Place::Namespace(namespace.as_str())).collect()
    };
    let places = |permission: &Permission| match permission.scope {
        Scope::WatchedNamespaces => watched.clone(),
        Scope::OwnNamespace => vec![own_place(permission, settings)],
    };
    let optional_places = |permission: &Permission| {
        if settings.ttl_after_finished {
            places(permission)
        } else {
            vec![Place::Skipped("pass --ttl-after-finished to check it, if spec.ttlAfterFinished is used")]
        }
    };
    let run = permissions::RUN.iter().map(|permission| (permission, places(permission)));
    let ttl =
        permissions::TTL_AFTER_FINISHED.iter().map(|permission| (permission, optional_places(permission)));
    run.chain(ttl)
        .flat_map(|(permission, places)| places.into_iter().map(move |place| (permission, place)))
        .collect()
}

/// Where a permission for the operator's own namespace is checked.
fn own_place<'a>(permission: &Permission, settings: &'a CheckSettings) -> Place<'a> {
    let own = settings.pod_namespace.as_ref().map(Namespace::as_str);
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

/// Checks one permission. `Err` if the API server cannot be asked.
async fn may(
    cluster: &Cluster,
    permission: &Permission,
    place: Place<'_>,
    settings: &CheckSettings,
) -> Result<Finding, Finding> {
    let object = match permission.objects {
        Objects::All | Objects::Deployment => None,
        Objects::Lease => settings.leader_lease_name.as_deref(),
    };
    let group = if permission.api_group.is_empty() { "core" } else { permission.api_group };
    let what = format!("may {} {} ({group})", permission.verb, permission.resource);
    let (what, namespace) = match place {
        Place::Cluster => (format!("{what} in the cluster"), None),
        Place::Namespace(namespace) => (format!("{what} in namespace {namespace}"), Some(namespace)),
        Place::Skipped(why) => return Ok(Finding { what, result: CheckResult::Skipped(why) }),
    };
    let of_object = object.map(|name| format!(" for the object {name}")).unwrap_or_default();
    let not_granted = |doubt| {
        let reason = permission.reason;
        Some(format!("not granted{of_object}{doubt}; it is needed because the operator {reason}"))
    };
    let problem = match cluster.may(permission, namespace, object).await {
        Ok(Access::Granted) => None,
        Ok(Access::NotGranted) => not_granted(""),
        Ok(Access::Unknown) => not_granted(", or the API server failed to evaluate it"),
        Err(error) => {
            let result = CheckResult::Failed(format!("the API server cannot be asked: {error}"));
            return Err(Finding { what, result });
        }
    };
    Ok(Finding { what, result: CheckResult::of(problem) })
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
            let problem = problem
                .map(|problem| format!("not within {} s; the last try: {problem}", READY_WITHIN.as_secs()));
            return Finding { what: format!("ready at {url}"), result: CheckResult::of(problem) };
        }
        sleep(PAUSE).await;
    }
}

async fn metrics(url: &str) -> Finding {
    let problem = match get(url, "/metrics").await {
        Ok((200, body)) if body.contains(A_METRIC) => None,
        Ok((200, _)) => Some(format!("there is no {A_METRIC}; this is not an okid-operator")),
        Ok((code, _)) => Some(format!("the response is {code}")),
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
        let response = client.get(uri).await.map_err(|error| no_response(&error))?;
        let code = response.status().as_u16();
        let body = Limited::new(response.into_body(), MOST_BYTES).collect().await;
        let body = body.map_err(|_| "the response is not complete".to_owned())?.to_bytes();
        Ok((code, String::from_utf8_lossy(&body).into_owned()))
    };
    let too_late = || format!("no response within {} s", RESPONSE_WITHIN.as_secs());
    timeout(RESPONSE_WITHIN, response).await.unwrap_or_else(|_| Err(too_late()))
}

/// What this machine says about a request that has no response, such as a name without an address or a refused connection.
fn no_response(error: &(dyn Error + 'static)) -> String {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return format!("no response: {error}");
        }
        cause = error.source();
    }
    "no response".to_owned()
}

#[cfg(test)]
mod tests;
