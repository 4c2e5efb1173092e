//! The faults that can be ordered, as data. The admin endpoint takes the same as JSON.
//!
//! Pure: `orders` says when a fault's turn has come, `perform` does it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::wire::Endpoint;

/// The calls a fault applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// `POST /api/generate-verification`.
    Create,
    /// `GET /api/get-verification-details/{id}`.
    Details,
    /// All four image calls.
    Image,
    /// Every call of the contract.
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

/// Whether the portal does what it was asked before the fault strikes. It matters for creates:
/// `After` leaves a real session behind, `Before` leaves none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// The request is not processed. Where the action needs an answer to break, the portal
    /// invents one, with an id that no session has.
    #[default]
    Before,
    /// The request is processed, then the fault strikes.
    After,
}

/// A fault: which calls, how often, when, and what happens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The calls it applies to.
    pub call: Call,
    /// How many of them; `None` until it is cleared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// Only calls with this API key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Only calls for this verification id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Before or after the request is processed.
    #[serde(default)]
    pub moment: Moment,
    /// A pause (real time, milliseconds in JSON) before the action.
    #[serde(default, rename = "delay_ms", with = "crate::clock::millis")]
    pub delay: Duration,
    /// What happens.
    pub action: Action,
}

/// What happens to a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It is answered as always: for a fault that is only a delay.
    Pass,
    /// Nothing, until the client leaves or the fault is cleared; then it is answered as always.
    Hang,
    /// This answer in place of the portal's own.
    Answer {
        /// 200 to 999. (Interim answers: see [`Action::Raw`].)
        status: u16,
        /// More headers, or other values for the usual ones.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        headers: BTreeMap<String, String>,
        /// The body; without it the documented error of this status.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        body: Option<String>,
        /// A `Retry-After` header.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after: Option<RetryAfter>,
    },
    /// What a gateway on the way answers in the portal's place.
    Gateway(Gateway),
    /// 301, 302, 307, 308 or any other status, to any place.
    Redirect {
        /// The status.
        status: u16,
        /// The `Location` header.
        location: String,
    },
    /// The connection is cut.
    Cut(Cut),
    /// The answer comes one byte at a time.
    Drip {
        /// Milliseconds between two bytes.
        #[serde(default = "drip_pace", rename = "every_ms", with = "crate::clock::millis")]
        every: Duration,
    },
    /// Far more than was asked for.
    Huge(Huge),
    /// A 200 whose body is not what was promised.
    Malformed(Malformed),
    /// The portal's own answer with some of its JSON changed, in order.
    Edit(Vec<Edit>),
    /// These bytes straight onto the connection in place of an answer, which is then closed.
    /// Only sensible with HTTP/1.1.
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
    /// Answered as always, then the connection is closed (`Connection: close`).
    Close,
}

fn drip_pace() -> Duration {
    Duration::from_millis(100)
}

fn once() -> u32 {
    1
}

/// Answers of gateways, proxies and firewalls, as they are seen in the wild. None of them knows anything of a key, a
/// session or an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gateway {
    /// 403 with an HTML page that wants a browser to prove itself.
    Challenge,
    /// A status without a body.
    Empty {
        /// The status, such as 401, 403 or 404.
        status: u16,
    },
    /// nginx's own 502, as HTML.
    Nginx502,
    /// 403 `{"message":"Forbidden"}`, as AWS API Gateway answers.
    Forbidden,
    /// 404 `{"message":"no Route matched with those values"}`, as Kong answers.
    NoRoute,
}

/// A `Retry-After` header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryAfter {
    /// So many seconds, as a number.
    Seconds(u64),
    /// The same as a date, counted from the sandbox's clock.
    Date(u64),
    /// Any text.
    Text(String),
}

/// Where a connection is cut. Before or after processing is the fault's [`Moment`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// No byte of an answer.
    BeforeHeaders,
    /// As `BeforeHeaders`, with a TCP reset in place of an orderly end.
    Reset,
    /// The headers arrive whole, and nothing of the body.
    AfterHeaders,
    /// Half of the body arrives.
    MidBody,
}

/// Ways to send too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Huge {
    /// A chunked body that begins like JSON and goes on for so many bytes (at most 1 GiB).
    Endless {
        /// How many.
        bytes: u64,
    },
    /// The portal's own body under a false `Content-Length`.
    WrongLength {
        /// The length that is claimed.
        declared: u64,
    },
    /// The portal's own answer with a header this long (at most 64 MiB).
    Header {
        /// How long.
        bytes: usize,
    },
}

/// Bodies that are not the JSON that was promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Malformed {
    /// No body.
    Empty,
    /// An HTML page, as `text/html`.
    Html,
    /// The first half of the answer.
    Truncated,
    /// The answer behind a byte order mark.
    Bom,
    /// The answer with more text behind it.
    TrailingGarbage,
    /// The answer in which both spellings of the id come first with another value.
    DuplicateKeys,
    /// A number that JSON does not have.
    Nan,
    /// Bytes that are no UTF-8, inside a string.
    NotUtf8,
    /// Arrays in arrays in place of the id.
    Nested {
        /// How many.
        depth: usize,
    },
}

/// A change to the JSON of an answer; `at` is a JSON pointer such as `/status/current`.
/// A pointer into nothing changes nothing, but the last part of it may be new.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Edit {
    /// Puts a value there.
    Set {
        /// Where.
        at: String,
        /// What.
        value: Value,
    },
    /// Takes away what is there.
    Remove {
        /// Where.
        at: String,
    },
    /// Puts a string of so many letters there.
    Fill {
        /// Where.
        at: String,
        /// How long.
        bytes: usize,
    },
    /// Puts an object with so many fields there.
    Crowd {
        /// Where.
        at: String,
        /// How many.
        entries: usize,
    },
    /// Puts arrays in arrays there.
    Nest {
        /// Where.
        at: String,
        /// How many.
        depth: usize,
    },
}

impl Fault {
    /// A fault for every such call until it is cleared, before it is processed.
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

    /// Only for the next call.
    #[must_use]
    pub fn once(self) -> Self {
        self.times(1)
    }

    /// Only for the next so many calls.
    #[must_use]
    pub fn times(self, times: u32) -> Self {
        Self { times: Some(times), ..self }
    }

    /// Only for calls with this API key.
    #[must_use]
    pub fn key(self, key: impl Into<String>) -> Self {
        Self { key: Some(key.into()), ..self }
    }

    /// Only for calls for this verification id.
    #[must_use]
    pub fn session(self, id: impl Into<String>) -> Self {
        Self { session: Some(id.into()), ..self }
    }

    /// Strikes once the request has been processed: a create leaves a real session behind.
    #[must_use]
    pub fn after(self) -> Self {
        Self { moment: Moment::After, ..self }
    }

    /// Waits so long (real time) before it acts.
    #[must_use]
    pub fn delay(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }
}

impl Action {
    /// The documented error of this status.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self::Answer { status, headers: BTreeMap::new(), body: None, retry_after: None }
    }

    /// This status with this body.
    #[must_use]
    pub fn body(status: u16, body: impl Into<String>) -> Self {
        Self::Answer { status, headers: BTreeMap::new(), body: Some(body.into()), retry_after: None }
    }

    /// This status (429, 503) with a `Retry-After` header.
    #[must_use]
    pub fn retry_after(status: u16, after: RetryAfter) -> Self {
        Self::Answer { status, headers: BTreeMap::new(), body: None, retry_after: Some(after) }
    }

    /// What a gateway answers.
    #[must_use]
    pub const fn gateway(gateway: Gateway) -> Self {
        Self::Gateway(gateway)
    }

    /// A redirect.
    #[must_use]
    pub fn redirect(status: u16, location: impl Into<String>) -> Self {
        Self::Redirect { status, location: location.into() }
    }

    /// One value of the answer's JSON is another.
    #[must_use]
    pub fn set(at: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::Edit(vec![Edit::Set { at: at.into(), value: value.into() }])
    }

    /// One value of the answer's JSON is missing.
    #[must_use]
    pub fn remove(at: impl Into<String>) -> Self {
        Self::Edit(vec![Edit::Remove { at: at.into() }])
    }

    /// One value of the answer's JSON is a string of so many letters.
    #[must_use]
    pub fn fill(at: impl Into<String>, bytes: usize) -> Self {
        Self::Edit(vec![Edit::Fill { at: at.into(), bytes }])
    }
}
