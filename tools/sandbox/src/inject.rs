//! Injects a fault into a request.
//!
//! Touches the request's own connection and real time. May depend on [`corrupt`], [`fault`](crate::fault) and
//! [`wire`](crate::wire). The normal response comes from `process`.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, DATE, LOCATION, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use futures::{StreamExt, future, stream};
use jiff::Timestamp;

use crate::clock::later;
use crate::connection::Connection;
use crate::corrupt;
use crate::fault::{Action, Cut, Fault, Gateway, Huge, Malformed, Moment, RetryAfter};
use crate::fault_queue::Injection;
use crate::wire::PortalResponse;

/// Whether processing a request has its effect, or only yields a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    Real,
    None,
}

/// The response, and the status that the client sees.
pub(crate) struct Outcome {
    pub(crate) response: Response,
    pub(crate) status: Option<u16>,
}

const CHALLENGE: &str = "<!DOCTYPE html><html lang=\"en-US\"><head><title>Just a moment...</title></head><body>\
    <noscript>Enable JavaScript and cookies to continue</noscript></body></html>";
const NGINX_502: &str = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n\
    <center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n";
const CHUNK: usize = 64 * 1024;
const MAX_ENDLESS: u64 = 1 << 30;
const MAX_HEADER: usize = 64 << 20;

/// Delays, processes and corrupts as the fault says.
pub(crate) async fn inject(
    injection: Injection,
    connection: &Connection,
    now: impl Fn() -> Timestamp,
    process: impl Fn(Effect) -> PortalResponse,
) -> Outcome {
    let Fault { moment, delay, action, call: _, times: _, key: _, session: _ } = injection.fault;
    let processed = match moment {
        Moment::After => Some(process(Effect::Real)),
        Moment::Before => None,
    };
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    if action == Action::Hang {
        injection.cleared.cancelled().await;
    }
    // Only a request with the normal response, if late, has its effect after the fault.
    let effect = match action {
        Action::Pass | Action::Hang | Action::Close => Effect::Real,
        Action::Respond { .. }
        | Action::Gateway(_)
        | Action::Redirect { .. }
        | Action::Cut(_)
        | Action::Drip { .. }
        | Action::Huge(_)
        | Action::Malformed(_)
        | Action::Edit(_)
        | Action::Raw { .. } => Effect::None,
    };
    let normal = processed.unwrap_or_else(|| process(effect));
    let response = match action {
        Action::Pass | Action::Hang => send(normal, now()),
        Action::Close => with(send(normal, now()), CONNECTION, HeaderValue::from_static("close")),
        Action::Respond { status, headers, body, retry_after } => {
            replace(status, &headers, body, retry_after.as_ref(), now())
        }
        Action::Gateway(gateway) => send(gateway_response(gateway), now()),
        Action::Redirect { status, location } => {
            let redirect = PortalResponse { status, content_type: "text/plain", body: Bytes::new() };
            with_text(send(redirect, now()), LOCATION, &location)
        }
        Action::Cut(position) => return cut(normal, position, connection, now()),
        Action::Drip { every } => drip(&normal, every, now()),
        Action::Huge(huge) => enlarge(normal, huge, now()),
        Action::Malformed(form) => send(malform(&normal, form), now()),
        Action::Edit(edits) => {
            let body = corrupt::edit(&normal.body, &edits);
            send(PortalResponse { body, ..normal }, now())
        }
        Action::Raw { text, times, end } => {
            let times = usize::try_from(times).unwrap_or(usize::MAX);
            connection.take_over((text.repeat(times) + &end).into(), false);
            return Outcome { response: Response::default(), status: None };
        }
    };
    Outcome { status: Some(response.status().as_u16()), response }
}

/// The HTTP response without any fault.
pub(crate) fn send(response: PortalResponse, now: Timestamp) -> Response {
    let PortalResponse { status, content_type, body } = response;
    respond(status, content_type, Body::from(body), now)
}

fn respond(status: u16, content_type: &'static str, body: Body, now: Timestamp) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let response = with(response, CONTENT_TYPE, HeaderValue::from_static(content_type));
    with_text(response, DATE, &date(now))
}

fn date(at: Timestamp) -> String {
    httpdate::fmt_http_date(at.into())
}

fn with(mut response: Response, name: HeaderName, value: HeaderValue) -> Response {
    response.headers_mut().insert(name, value);
    response
}

/// Omits a value that HTTP does not allow in a header.
fn with_text(response: Response, name: HeaderName, value: &str) -> Response {
    match HeaderValue::from_str(value) {
        Ok(value) => with(response, name, value),
        Err(_) => response,
    }
}

fn replace(
    status: u16,
    headers: &BTreeMap<String, String>,
    body: Option<String>,
    retry_after: Option<&RetryAfter>,
    now: Timestamp,
) -> Response {
    let replacement = match body {
        Some(body) => PortalResponse { status, content_type: "application/json", body: body.into() },
        None => PortalResponse::error(status),
    };
    let mut response = send(replacement, now);
    if let Some(after) = retry_after {
        let value = match after {
            RetryAfter::Seconds(seconds) => seconds.to_string(),
            RetryAfter::Date(seconds) => date(later(now, Duration::from_secs(*seconds))),
            RetryAfter::Text(text) => text.clone(),
        };
        response = with_text(response, RETRY_AFTER, &value);
    }
    for (name, value) in headers {
        if let Ok(name) = HeaderName::try_from(name.as_str()) {
            response = with_text(response, name, value);
        }
    }
    response
}

fn gateway_response(gateway: Gateway) -> PortalResponse {
    let (status, content_type, body) = match gateway {
        Gateway::Challenge => (403, "text/html; charset=UTF-8", CHALLENGE),
        Gateway::Empty { status } => (status, "text/plain", ""),
        Gateway::Nginx502 => (502, "text/html", NGINX_502),
        Gateway::Forbidden => (403, "application/json", r#"{"message":"Forbidden"}"#),
        Gateway::NoRoute => {
            (404, "application/json; charset=utf-8", r#"{"message":"no Route matched with those values"}"#)
        }
    };
    PortalResponse { status, content_type, body: Bytes::from_static(body.as_bytes()) }
}

fn cut(normal: PortalResponse, position: Cut, connection: &Connection, now: Timestamp) -> Outcome {
    let sent = match position {
        Cut::BeforeHeaders | Cut::Reset => {
            connection.take_over(Bytes::new(), position == Cut::Reset);
            return Outcome { response: Response::default(), status: None };
        }
        Cut::AfterHeaders => Bytes::new(),
        Cut::MidBody => normal.body.slice(..normal.body.len() / 2),
    };
    let PortalResponse { status, content_type, body } = normal;
    let response = respond(status, content_type, aborted(sent), now);
    Outcome { status: Some(status), response: with(response, CONTENT_LENGTH, body.len().into()) }
}

/// A body that ends with an error, on which the server drops the connection.
fn aborted(sent: Bytes) -> Body {
    flushed(sent, Some(io::ErrorKind::ConnectionAborted))
}

/// A body of these bytes that ends, normally or with an error, only after they were sent: the server flushes what it has
/// while a body is not ready, and would otherwise lose it with the connection.
fn flushed(bytes: Bytes, error: Option<io::ErrorKind>) -> Body {
    let bytes = (!bytes.is_empty()).then_some(Ok(bytes));
    let end = stream::once(async move {
        tokio::task::yield_now().await;
        error.map(|error| Err(io::Error::from(error)))
    });
    Body::from_stream(stream::iter(bytes).chain(end.filter_map(future::ready)))
}

fn drip(normal: &PortalResponse, every: Duration, now: Timestamp) -> Response {
    let body = Body::from_stream(stream::unfold(normal.body.clone(), move |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        tokio::time::sleep(every).await;
        let byte = rest.split_to(1);
        Some((Ok::<_, Infallible>(byte), rest))
    }));
    respond(normal.status, normal.content_type, body, now)
}

fn enlarge(normal: PortalResponse, huge: Huge, now: Timestamp) -> Response {
    match huge {
        Huge::Endless { bytes } => respond(200, normal.content_type, endless(bytes.min(MAX_ENDLESS)), now),
        Huge::WrongLength { declared } => {
            let PortalResponse { status, content_type, body } = normal;
            // A stream, because the server would not declare a false length for a body whose length it knows.
            let body = flushed(body, None);
            with(respond(status, content_type, body, now), CONTENT_LENGTH, declared.into())
        }
        Huge::Header { bytes } => {
            let value = "a".repeat(bytes.min(MAX_HEADER));
            with_text(send(normal, now), HeaderName::from_static("x-filler"), &value)
        }
    }
}

fn endless(bytes: u64) -> Body {
    let begin = Bytes::from_static(br#"{"verificationId":""#);
    let chunk = Bytes::from(vec![b'a'; CHUNK]);
    let first = stream::iter([Ok::<_, Infallible>(begin)]);
    let rest = stream::unfold(bytes, move |left| {
        let size = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
        let part = chunk.slice(..size);
        async move { (size > 0).then_some((Ok(part), left.saturating_sub(CHUNK as u64))) }
    });
    Body::from_stream(first.chain(rest))
}

fn malform(normal: &PortalResponse, form: Malformed) -> PortalResponse {
    let content_type = match form {
        Malformed::Html => "text/html; charset=utf-8",
        Malformed::Empty
        | Malformed::Truncated
        | Malformed::Bom
        | Malformed::TrailingGarbage
        | Malformed::DuplicateKeys
        | Malformed::Nan
        | Malformed::NotUtf8
        | Malformed::Nested { .. } => normal.content_type,
    };
    PortalResponse { status: 200, content_type, body: corrupt::malform(&normal.body, form) }
}
