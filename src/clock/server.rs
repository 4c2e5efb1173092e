//! A layer around the client that reads the `Date` of the API server's responses. May depend on `measured` and tower.

use std::task::{Context, Poll};

use futures::{FutureExt, future::BoxFuture};
use http::{HeaderMap, Request, Response, header::DATE};
use jiff::Timestamp;
use tower::{Layer, Service};

use super::{measured::Clock, offset::Dated};

/// Measures the API server's clock by its responses.
#[derive(Clone, Debug)]
pub(crate) struct ServerDates(pub Clock);

/// A client whose responses are measured.
#[derive(Clone, Debug)]
pub(crate) struct Measuring<S> {
    inner: S,
    clock: Clock,
}

impl<S> Layer<S> for ServerDates {
    type Service = Measuring<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Measuring { inner, clock: self.0.clone() }
    }
}

impl<S, I, O> Service<Request<I>> for Measuring<S>
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
        let clock = self.clock.clone();
        let sent = clock.local();
        let response = self.inner.call(request);
        response
            .inspect(move |response| {
                // A proxy may refuse a request, and has a clock of its own.
                let good = response.as_ref().ok().filter(|response| response.status().is_success());
                if let Some(date) = good.and_then(|response| date(response.headers())) {
                    clock.measure_server(Dated { sent, received: clock.local(), date });
                }
            })
            .boxed()
    }
}

fn date(headers: &HeaderMap) -> Option<Timestamp> {
    let date = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
    Timestamp::try_from(date).ok()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use jiff::SignedDuration;
    use tower::{ServiceExt, service_fn};

    use super::*;

    /// The clock after one response with that status and `Date`.
    async fn after(status: u16, date: &'static str) -> Clock {
        let clock = Clock::start();
        let responses = service_fn(move |_: Request<()>| {
            let response = Response::builder().status(status).header(DATE, date).body(()).unwrap();
            async { Ok::<_, Infallible>(response) }
        });
        ServerDates(clock.clone()).layer(responses).oneshot(Request::new(())).await.unwrap();
        clock
    }

    #[tokio::test]
    async fn the_api_servers_clock_is_measured_by_its_successful_responses() {
        let date = "Fri, 01 Jan 2100 00:00:00 GMT";
        let new_year: Timestamp = "2100-01-01T00:00:00Z".parse().unwrap();
        let clock = after(200, date).await;
        assert!(clock.now().duration_since(new_year).abs() < SignedDuration::from_secs(30));
        for (status, date) in [(502, date), (403, date), (200, "soon"), (200, "")] {
            assert_eq!(after(status, date).await.server_skew(), SignedDuration::ZERO, "{status} {date}");
        }
    }
}
