//! Does an ordered fault to a call.
//!
//! May touch: the call's own connection, and time to wait. What the portal would have answered it
//! learns from `process`.

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
use crate::deform;
use crate::fault::{Action, Cut, Fault, Gateway, Huge, Malformed, Moment, RetryAfter};
use crate::orders::Strike;
use crate::wire::Answer;

/// Whether what a request asks for is really done, or only answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    Yes,
    No,
}

/// What goes out, and the status that the client gets to see.
pub(crate) struct Delivery {
    pub(crate) response: Response,
    pub(crate) status: Option<u16>,
}

const CHALLENGE: &str = "<!DOCTYPE html><html lang=\"en-US\"><head><title>Just a moment...</title></head><body>\
    <noscript>Enable JavaScript and cookies to continue</noscript></body></html>";
const NGINX_502: &str = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n\
    <center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n";
const CHUNK: usize = 64 * 1024;
const MOST_ENDLESS: u64 = 1 << 30;
const LONGEST_HEADER: usize = 64 << 20;

/// Waits, processes and breaks as the fault says.
pub(crate) async fn perform(
    strike: Strike,
    connection: &Connection,
    now: impl Fn() -> Timestamp,
    process: impl Fn(Keep) -> Answer,
) -> Delivery {
    let Fault { moment, delay, action, call: _, times: _, key: _, session: _ } = strike.fault;
    let early = match moment {
        Moment::After => Some(process(Keep::Yes)),
        Moment::Before => None,
    };
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    if action == Action::Hang {
        strike.cleared.cancelled().await;
    }
    // Only a call that is answered as always, if late, does what it asks for after the fault.
    let keep = match action {
        Action::Pass | Action::Hang | Action::Close => Keep::Yes,
        Action::Answer { .. }
        | Action::Gateway(_)
        | Action::Redirect { .. }
        | Action::Cut(_)
        | Action::Drip { .. }
        | Action::Huge(_)
        | Action::Malformed(_)
        | Action::Edit(_)
        | Action::Raw { .. } => Keep::No,
    };
    let answer = early.unwrap_or_else(|| process(keep));
    let response = match action {
        Action::Pass | Action::Hang => send(answer, now()),
        Action::Close => with(send(answer, now()), CONNECTION, HeaderValue::from_static("close")),
        Action::Answer { status, headers, body, retry_after } => {
            replace(status, &headers, body, retry_after.as_ref(), now())
        }
        Action::Gateway(gateway) => send(gate(gateway), now()),
        Action::Redirect { status, location } => {
            let answer = Answer { status, content_type: "text/plain", body: Bytes::new() };
            with_text(send(answer, now()), LOCATION, &location)
        }
        Action::Cut(place) => return cut(answer, place, connection, now()),
        Action::Drip { every } => drip(&answer, every, now()),
        Action::Huge(huge) => swell(answer, huge, now()),
        Action::Malformed(form) => send(malform(&answer, form), now()),
        Action::Edit(edits) => {
            let body = deform::edit(&answer.body, &edits);
            send(Answer { body, ..answer }, now())
        }
        Action::Raw { text, times, end } => {
            let times = usize::try_from(times).unwrap_or(usize::MAX);
            connection.take_over((text.repeat(times) + &end).into(), false);
            return Delivery { response: Response::default(), status: None };
        }
    };
    Delivery { status: Some(response.status().as_u16()), response }
}

/// The answer as it goes out when nothing is broken.
pub(crate) fn send(answer: Answer, now: Timestamp) -> Response {
    let Answer { status, content_type, body } = answer;
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

/// Leaves a value out that HTTP does not allow in a header.
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
    let answer = match body {
        Some(body) => Answer { status, content_type: "application/json", body: body.into() },
        None => Answer::error(status),
    };
    let mut response = send(answer, now);
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

fn gate(gateway: Gateway) -> Answer {
    let (status, content_type, body) = match gateway {
        Gateway::Challenge => (403, "text/html; charset=UTF-8", CHALLENGE),
        Gateway::Empty { status } => (status, "text/plain", ""),
        Gateway::Nginx502 => (502, "text/html", NGINX_502),
        Gateway::Forbidden => (403, "application/json", r#"{"message":"Forbidden"}"#),
        Gateway::NoRoute => {
            (404, "application/json; charset=utf-8", r#"{"message":"no Route matched with those values"}"#)
        }
    };
    Answer { status, content_type, body: Bytes::from_static(body.as_bytes()) }
}

fn cut(answer: Answer, place: Cut, connection: &Connection, now: Timestamp) -> Delivery {
    let shown = match place {
        Cut::BeforeHeaders | Cut::Reset => {
            connection.take_over(Bytes::new(), place == Cut::Reset);
            return Delivery { response: Response::default(), status: None };
        }
        Cut::AfterHeaders => Bytes::new(),
        Cut::MidBody => answer.body.slice(..answer.body.len() / 2),
    };
    let Answer { status, content_type, body } = answer;
    let response = respond(status, content_type, broken_off(shown), now);
    Delivery { status: Some(status), response: with(response, CONTENT_LENGTH, body.len().into()) }
}

/// A body that ends in an error, on which the server drops the connection.
fn broken_off(shown: Bytes) -> Body {
    flushed(shown, Some(io::ErrorKind::ConnectionAborted))
}

/// A body of these bytes that ends, well or with an error, only after they went out: the server
/// flushes what it has while a body is not ready, and would else lose it with the connection.
fn flushed(shown: Bytes, error: Option<io::ErrorKind>) -> Body {
    let shown = (!shown.is_empty()).then_some(Ok(shown));
    let end = stream::once(async move {
        tokio::task::yield_now().await;
        error.map(|error| Err(io::Error::from(error)))
    });
    Body::from_stream(stream::iter(shown).chain(end.filter_map(future::ready)))
}

fn drip(answer: &Answer, every: Duration, now: Timestamp) -> Response {
    let body = Body::from_stream(stream::unfold(answer.body.clone(), move |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        tokio::time::sleep(every).await;
        let byte = rest.split_to(1);
        Some((Ok::<_, Infallible>(byte), rest))
    }));
    respond(answer.status, answer.content_type, body, now)
}

fn swell(answer: Answer, huge: Huge, now: Timestamp) -> Response {
    match huge {
        Huge::Endless { bytes } => respond(200, answer.content_type, endless(bytes.min(MOST_ENDLESS)), now),
        Huge::WrongLength { declared } => {
            let Answer { status, content_type, body } = answer;
            // A stream: of a body whose length it knows, the server would not claim another.
            let body = flushed(body, None);
            with(respond(status, content_type, body, now), CONTENT_LENGTH, declared.into())
        }
        Huge::Header { bytes } => {
            let value = "a".repeat(bytes.min(LONGEST_HEADER));
            with_text(send(answer, now), HeaderName::from_static("x-filler"), &value)
        }
    }
}

fn endless(bytes: u64) -> Body {
    let begin = Bytes::from_static(br#"{"verificationId":""#);
    let chunk = Bytes::from(vec![b'a'; CHUNK]);
    let first = stream::iter([Ok::<_, Infallible>(begin)]);
    let rest = stream::unfold(bytes, move |left| {
        let size = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
        let piece = chunk.slice(..size);
        async move { (size > 0).then_some((Ok(piece), left.saturating_sub(CHUNK as u64))) }
    });
    Body::from_stream(first.chain(rest))
}

fn malform(answer: &Answer, form: Malformed) -> Answer {
    let content_type = match form {
        Malformed::Html => "text/html; charset=utf-8",
        Malformed::Empty
        | Malformed::Truncated
        | Malformed::Bom
        | Malformed::TrailingGarbage
        | Malformed::DuplicateKeys
        | Malformed::Nan
        | Malformed::NotUtf8
        | Malformed::Nested { .. } => answer.content_type,
    };
    Answer { status: 200, content_type, body: deform::malform(&answer.body, form) }
}
