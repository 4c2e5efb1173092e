//! A layer around the connector of creates: a connection that took too long carries no request. May depend on `clock` and
//! tower.
//!
//! The HTTP library has a timeout, but its clock stands still while the machine is suspended, and a process that was
//! stopped may find the connection before it finds that the timeout has passed. Meanwhile another replica may lead.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use tower::{BoxError, Layer, Service};

use crate::clock::Stopwatch;

/// Fails connections that took longer than this, suspension included.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConnectDeadline(pub(super) Duration);

/// A connector with a deadline.
#[derive(Clone, Debug)]
pub(super) struct WithDeadline<S> {
    inner: S,
    deadline: Duration,
}

/// The connection was established too late.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the connection was established too late")]
struct ConnectedTooLate;

impl<S> Layer<S> for ConnectDeadline {
    type Service = WithDeadline<S>;

    fn layer(&self, inner: S) -> Self::Service {
        WithDeadline { inner, deadline: self.0 }
    }
}

impl<S, R> Service<R> for WithDeadline<S>
where
    S: Service<R, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<S::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let (begun, deadline) = (Stopwatch::now(), self.deadline);
        let connecting = self.inner.call(request);
        async move {
            let connection = connecting.await?;
            if begun.is_older_than(deadline) {
                return Err(ConnectedTooLate.into());
            }
            Ok(connection)
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;
    use tower::{ServiceExt as _, service_fn};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_used_if_it_was_established_in_time() {
        let connect = async |taken: Duration| {
            let connector = service_fn(move |(): ()| async move {
                advance(taken).await;
                Ok::<_, BoxError>("a connection")
            });
            ConnectDeadline(Duration::from_secs(5)).layer(connector).oneshot(()).await
        };
        assert_eq!(connect(Duration::from_secs(4)).await.unwrap(), "a connection");
        assert!(connect(Duration::from_secs(6)).await.unwrap_err().is::<ConnectedTooLate>());
    }
}
