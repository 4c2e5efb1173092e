//! A client of an API server that is a function, for tests. May depend on kube's client.

use std::sync::Arc;

use http::{Request, Response, request::Parts};
use http_body_util::BodyExt as _;
use kube::{Client, client::Body};
use serde_json::{Value, json};

/// A client whose requests that function responds to, with a code and a body. It gets the body that was sent as JSON,
/// which is null if there is none.
pub(crate) fn client<F, R>(respond: F) -> Client
where
    F: Fn(Parts, Value) -> R + Send + Sync + 'static,
    R: Future<Output = (u16, Value)> + Send + 'static,
{
    let respond = Arc::new(respond);
    let service = tower::service_fn(move |request: Request<Body>| {
        let respond = Arc::clone(&respond);
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            let (code, body) = respond(parts, serde_json::from_slice(&body).unwrap_or_default()).await;
            let response = Response::builder().status(code).body(Body::from(body.to_string().into_bytes()));
            response.map_err(tower::BoxError::from)
        }
    });
    Client::new(service, "default")
}

/// The response of an API server that refuses a request for that reason.
pub(crate) fn failure(code: u16, reason: &str) -> (u16, Value) {
    (code, json!({"kind": "Status", "status": "Failure", "message": "", "code": code, "reason": reason}))
}
