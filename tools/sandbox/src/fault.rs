//! The faults that can be injected, as data. The admin endpoint accepts the same as JSON.
//!
//! Pure. May depend on [`wire`](crate::wire). `fault_queue` selects the fault for a request, `inject` carries it out.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::wire::Endpoint;

/// The requests to which a fault applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// `POST /api/generate-verification`.
    Create,
    /// `GET /api/get-verification-details/{id}`.
    Details,
    /// All four image endpoints.
    Image,
    /// Every endpoint of the guide.
    Any,
}

impl Call {
    pub(crate) fn covers(self, endpoint: Endpoint) -> bool {
        match self {
            Self::Any => true,
            Self::Create => endpoint == Endpoint::Create,
            Self::Details => endpoint == Endpoint::Details,
            Self::Image => !matches!(endpoint, Endpoint::Create | Endpoint::Details),
        }
    }
}

/// Whether the portal processes the request before the fault. It matters for creates: `After` leaves a real session behind,
/// `Before` does not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// The request is not processed. If the action needs a response to corrupt, the portal invents one, with an id that
    /// belongs to no session.
    #[default]
    Before,
    /// The request is processed, then the fault happens.
    After,
}

/// A fault: for which requests, how often, when, and what happens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The requests to which it applies.
    pub call: Call,
    /// To how many of them; `None` for all until it is cleared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// Only requests with this API key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Only requests for this verification id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Before or after the request is processed.
    #[serde(default)]
    pub moment: Moment,
    /// A delay (real time, milliseconds in JSON) before the action.
    #[serde(default, rename = "delay_ms", with = "crate::clock::millis")]
    pub delay: Duration,
    /// What happens.
    pub action: Action,
}

/// What happens to a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It gets the normal response: for a fault that is only a delay.
    Pass,
    /// Nothing, until the client disconnects or the fault is cleared; then it gets the normal response.
    Hang,
    /// It gets this response in place of the normal one.
    Respond {
        /// 200 to 999. (Interim responses: see [`Action::Raw`].)
        status: u16,
        /// Further headers, or other values for the usual ones.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        headers: BTreeMap<String, String>,
        /// The body; without it the documented error of this status.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        body: Option<String>,
        /// A `Retry-After` header.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after: Option<RetryAfter>,
    },
    /// It gets the response of a gateway in front of the portal.
    Gateway(Gateway),
    /// 301, 302, 307, 308 or any other status, to any location.
    Redirect {
        /// The status.
        status: u16,
        /// The `Location` header.
        location: String,
    },
    /// The connection is cut.
    Cut(Cut),
    /// The response arrives one byte at a time.
    Drip {
        /// Milliseconds between two bytes.
        #[serde(default = "default_drip", rename = "every_ms", with = "crate::clock::millis")]
        every: Duration,
    },
    /// Far more bytes than expected.
    Huge(Huge),
    /// A 200 whose body is not the documented JSON.
    Malformed(Malformed),
    /// The normal response with its JSON edited, in order.
    Edit(Vec<Edit>),
    /// These bytes are written to the connection in place of a response, and it is closed. Only sensible with HTTP/1.1.
    Raw {
        /// What is written.
        text: String,
        /// Written this many times before `end`.
        #[serde(default = "once")]
        times: u32,
        /// Written last, once.
        #[serde(default)]
        end: String,
    },
    /// It gets the normal response, then the connection is closed (`Connection: close`).
    Close,
}

fn default_drip() -> Duration {
    Duration::from_millis(100)
}

fn once() -> u32 {
    1
}

/// Responses of gateways, proxies and firewalls as seen in practice. They say nothing about a key, a session or an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gateway {
    /// 403 with an HTML page that challenges the browser.
    Challenge,
    /// A status without a body.
    Empty {
        /// The status, such as 401, 403 or 404.
        status: u16,
    },
    /// nginx's own 502, as HTML.
    Nginx502,
    /// 403 `{"message":"Forbidden"}`, as AWS API Gateway responds.
    Forbidden,
    /// 404 `{"message":"no Route matched with those values"}`, as Kong responds.
    NoRoute,
}

/// A `Retry-After` header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryAfter {
    /// A number of seconds.
    Seconds(u64),
    /// A date that many seconds from the sandbox's time.
    Date(u64),
    /// Any text.
    Text(String),
}

/// Where a connection is cut. Whether the request is processed before is the fault's [`Moment`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// Before any byte of the response.
    BeforeHeaders,
    /// As `BeforeHeaders`, with a TCP reset in place of an orderly close.
    Reset,
    /// The headers arrive completely, and nothing of the body.
    AfterHeaders,
    /// Half of the body arrives.
    MidBody,
}

/// Ways to send too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Huge {
    /// A chunked body that begins like JSON and continues for this many bytes (at most 1 GiB).
    Endless {
        /// How many.
        bytes: u64,
    },
    /// The normal body with a false `Content-Length`.
    WrongLength {
        /// The declared length.
        declared: u64,
    },
    /// The normal response with a header of this length (at most 64 MiB).
    Header {
        /// How long.
        bytes: usize,
    },
}

/// Bodies that are not the documented JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Malformed {
    /// No body.
    Empty,
    /// An HTML page, as `text/html`.
    Html,
    /// The first half of the response.
    Truncated,
    /// The response after a byte order mark.
    Bom,
    /// The response followed by more text.
    TrailingGarbage,
    /// The response with both spellings of the id added in front, with another value.
    DuplicateKeys,
    /// A number that does not exist in JSON.
    Nan,
    /// Bytes that are not UTF-8, inside a string.
    NotUtf8,
    /// Nested arrays in place of the id.
    Nested {
        /// How many.
        depth: usize,
    },
}

/// A change to the JSON of a response; `at` is a JSON pointer such as `/status/current`. A pointer to nothing changes
/// nothing, but its last part may be new.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Edit {
    /// Sets a value.
    Set {
        /// Where.
        at: String,
        /// What.
        value: Value,
    },
    /// Removes a value.
    Remove {
        /// Where.
        at: String,
    },
    /// Sets a string of this many letters.
    Fill {
        /// Where.
        at: String,
        /// How long.
        bytes: usize,
    },
    /// Sets an object with this many fields.
    Crowd {
        /// Where.
        at: String,
        /// How many.
        entries: usize,
    },
    /// Sets nested arrays.
    Nest {
        /// Where.
        at: String,
        /// How many.
        depth: usize,
    },
}

impl Fault {
    /// A fault for every such request until it is cleared, before the request is processed.
    #[must_use]
    pub fn new(call: Call, action: Action) -> Self {
        Self {
            call,
            times: None,
            key: None,
            session: None,
            moment: Moment::Before,
            delay: Duration::ZERO,
            action,
        }
    }

    /// Only for the next request.
    #[must_use]
    pub fn once(self) -> Self {
        self.times(1)
    }

    /// Only for this many requests.
    #[must_use]
    pub fn times(self, times: u32) -> Self {
        Self { times: Some(times), ..self }
    }

    /// Only for requests with this API key.
    #[must_use]
    pub fn key(self, key: impl Into<String>) -> Self {
        Self { key: Some(key.into()), ..self }
    }

    /// Only for requests for this verification id.
    #[must_use]
    pub fn session(self, id: impl Into<String>) -> Self {
        Self { session: Some(id.into()), ..self }
    }

    /// After the request has been processed: a create leaves a real session behind.
    #[must_use]
    pub fn after(self) -> Self {
        Self { moment: Moment::After, ..self }
    }

    /// Waits this long (real time) before the action.
    #[must_use]
    pub fn delay(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }
}

impl Action {
    /// The documented error of this status.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self::Respond { status, headers: BTreeMap::new(), body: None, retry_after: None }
    }

    /// This status with this body.
    #[must_use]
    pub fn body(status: u16, body: impl Into<String>) -> Self {
        Self::Respond { status, headers: BTreeMap::new(), body: Some(body.into()), retry_after: None }
    }

    /// This status (429, 503) with a `Retry-After` header.
    #[must_use]
    pub fn retry_after(status: u16, after: RetryAfter) -> Self {
        Self::Respond { status, headers: BTreeMap::new(), body: None, retry_after: Some(after) }
    }

    /// The response of a gateway.
    #[must_use]
    pub const fn gateway(gateway: Gateway) -> Self {
        Self::Gateway(gateway)
    }

    /// A redirect.
    #[must_use]
    pub fn redirect(status: u16, location: impl Into<String>) -> Self {
        Self::Redirect { status, location: location.into() }
    }

    /// Sets one value of the response's JSON.
    #[must_use]
    pub fn set(at: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::Edit(vec![Edit::Set { at: at.into(), value: value.into() }])
    }

    /// Removes one value of the response's JSON.
    #[must_use]
    pub fn remove(at: impl Into<String>) -> Self {
        Self::Edit(vec![Edit::Remove { at: at.into() }])
    }

    /// Sets one value of the response's JSON to a string of this many letters.
    #[must_use]
    pub fn fill(at: impl Into<String>, bytes: usize) -> Self {
        Self::Edit(vec![Edit::Fill { at: at.into(), bytes }])
    }
}
