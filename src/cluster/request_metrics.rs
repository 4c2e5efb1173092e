//! A layer around the client that measures how long the API server takes to respond. May depend on `metrics` and tower.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use futures::{FutureExt, future::BoxFuture};
use http::{Method, Request, Response, Uri};
use tokio::time::Instant;
use tower::{Layer, Service};

use crate::metrics::Metrics;

/// Measures every request of a client until its response begins.
#[derive(Clone)]
pub(super) struct RequestMetrics(pub(super) Arc<Metrics>);

/// A client whose requests are measured.
#[derive(Clone)]
pub(super) struct MeasuredClient<S> {
    inner: S,
    metrics: Arc<Metrics>,
}

impl<S> Layer<S> for RequestMetrics {
    type Service = MeasuredClient<S>;

    fn layer(&self, inner: S) -> Self::Service {
        MeasuredClient { inner, metrics: Arc::clone(&self.0) }
    }
}

impl<S, I, O> Service<Request<I>> for MeasuredClient<S>
where
    S: Service<Request<I>, Response = Response<O>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<I>) -> Self::Future {
        let metrics = Arc::clone(&self.metrics);
        let Operation { verb, resource } = Operation::of(request.method(), request.uri());
        let timer = Timer { metrics, verb, resource, started: Instant::now() };
        self.inner.call(request).inspect(move |_| drop(timer)).boxed()
    }
}

/// Observes the duration of a request when it is dropped, with the response or because its deadline passed.
struct Timer {
    metrics: Arc<Metrics>,
    verb: &'static str,
    resource: String,
    started: Instant,
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.metrics.api_server_request(self.verb, &self.resource, self.started.elapsed());
    }
}

/// What a request does, in Kubernetes' terms: `patch` of `verifications/status`.
#[derive(Debug, PartialEq, Eq)]
struct Operation {
    verb: &'static str,
    resource: String,
}

impl Operation {
    fn of(method: &Method, uri: &Uri) -> Self {
        let mut path: Vec<_> = uri.path().split('/').filter(|segment| !segment.is_empty()).collect();
        let version = match path.first() {
            Some(&"api") => 2,
            Some(&"apis") => 3,
            Some(_) | None => path.len(),
        };
        path.drain(..version.min(path.len()));
        if path.len() > 2 && path[0] == "namespaces" {
            path.drain(..2);
        }
        let resource = match path[..] {
            [resource] | [resource, _] => resource.to_owned(),
            [resource, _, subresource] => format!("{resource}/{subresource}"),
            _ => "other".to_owned(),
        };
        let is_watch = || uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "watch=true"));
        let is_collection = path.len() == 1;
        let verb = match method.as_str() {
            "GET" if is_watch() => "watch",
            "GET" if is_collection => "list",
            "GET" => "get",
            "POST" => "create",
            "PUT" => "update",
            "PATCH" => "patch",
            "DELETE" if is_collection => "deletecollection",
            "DELETE" => "delete",
            _ => "other",
        };
        Self { verb, resource }
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, time::Duration};

    use tower::{ServiceExt, service_fn};

    use super::*;

    #[test]
    fn a_request_is_named_by_its_verb_and_resource() {
        let verifications = "/apis/okid.io/v1alpha1/namespaces/kyc/verifications";
        for (method, path, verb, resource) in [
            ("GET", "/apis/okid.io/v1alpha1/verifications?limit=500", "list", "verifications"),
            ("GET", "/apis/okid.io/v1alpha1/verifications?limit=5&watch=true", "watch", "verifications"),
            ("GET", &format!("{verifications}/alice"), "get", "verifications"),
            ("GET", &format!("{verifications}?"), "list", "verifications"),
            ("PATCH", &format!("{verifications}/alice"), "patch", "verifications"),
            ("PATCH", &format!("{verifications}/alice/status?force=true"), "patch", "verifications/status"),
            ("PUT", &format!("{verifications}/alice/status"), "update", "verifications/status"),
            ("GET", "/api/v1/namespaces/kyc/secrets/okid", "get", "secrets"),
            ("POST", "/apis/events.k8s.io/v1/namespaces/kyc/events", "create", "events"),
            ("GET", "/api/v1/namespaces/kyc", "get", "namespaces"),
            ("GET", "/openapi/v3/apis/okid.io/v1alpha1", "get", "other"),
            ("GET", "/version", "get", "other"),
            ("GET", "/", "get", "other"),
            ("GET", "/api", "get", "other"),
        ] {
            let operation = Operation::of(&method.parse().unwrap(), &path.parse().unwrap());
            let expected = Operation { verb, resource: resource.to_owned() };
            assert_eq!(operation, expected, "{method} {path}");
        }
    }

    /// Reads a Secret from a server that responds after that time, and gives up at that deadline. Returns the metrics, and
    /// whether there was a response.
    async fn read_secret(responds_after: Duration, deadline: Duration) -> (String, bool) {
        let metrics = Arc::new(Metrics::new());
        let server = service_fn(move |_: Request<()>| async move {
            tokio::time::sleep(responds_after).await;
            Ok::<_, Infallible>(Response::new(()))
        });
        let request = Request::get("/api/v1/namespaces/kyc/secrets/okid").body(()).unwrap();
        let call = RequestMetrics(Arc::clone(&metrics)).layer(server).oneshot(request);
        let has_responded = tokio::time::timeout(deadline, call).await.is_ok();
        (metrics.text().unwrap(), has_responded)
    }

    fn has_bucket(text: &str, bucket: &str, count: u32) -> bool {
        let labels = format!("{{le=\"{bucket}\",verb=\"get\",resource=\"secrets\"}}");
        text.contains(&format!("okid_api_server_request_duration_seconds_bucket{labels} {count}\n"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_measured_until_its_response_begins() {
        let (text, has_responded) = read_secret(Duration::from_millis(300), Duration::MAX).await;
        assert!(has_responded);
        assert!(has_bucket(&text, "0.25", 0) && has_bucket(&text, "0.5", 1), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_runs_into_its_deadline_is_measured_as_well() {
        let (text, has_responded) = read_secret(Duration::from_hours(1), Duration::from_millis(400)).await;
        assert!(!has_responded);
        assert!(has_bucket(&text, "0.25", 0) && has_bucket(&text, "0.5", 1), "{text}");
    }
}
