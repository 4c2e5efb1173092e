//! The JSON of the portal's responses, parsed into types.
//!
//! Pure: no client, clock, randomness, logging or `async`. May depend on
//! [`verification_id`](super::verification_id). The source is the vendor's integration guide, steps 2 and 4. It names
//! fields but gives no schema, so parsing is tolerant: unknown fields are skipped, every field but the id of a create is
//! optional, and a field of an unexpected type counts as missing. A created session must not be lost because its date is
//! a number.
//!
//! Three things are never tolerated, because nothing sound can be read from them: text that is not one JSON object (a
//! leading byte order mark included), an object in which a field that is read occurs twice, and an id that is not a
//! [`VerificationId`].

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::verification_id::VerificationId;

/// The members of a create's response that are read.
pub(super) const CREATED_MEMBERS: &[&str] = &["verificationId", "expiresAt", "flow", "modules"];

/// The members of a poll's response that are read.
pub(super) const DETAILS_MEMBERS: &[&str] = &["verification_id", "status"];

/// Most entries of any list or object; the rest is dropped.
pub(crate) const MAX_ENTRIES: usize = 64;

/// Longest text of a value, in bytes; the rest is cut off.
pub(crate) const MAX_WORD_BYTES: usize = 1024;

/// A response that cannot be used, whatever its status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnusableResponse {
    /// The body is not one JSON object in UTF-8, or names a field that is read here twice.
    #[error("the portal's response is not a JSON object")]
    NotAnObject,
    /// A create's response has no id, or an invalid one.
    #[error("the portal's response contains no valid verification id")]
    NoUsableId,
}

/// The response to `POST /api/generate-verification`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// The new session.
    pub id: VerificationId,
    /// When the portal will expire the session; `None` if it is not in RFC 3339, or the year is outside 1970 to 9999.
    pub expires_at: Option<Timestamp>,
    /// The steps the person goes through, in order, such as `terms`, `document`, `liveness`.
    pub flow: Vec<String>,
    /// The names of the configured modules; the guide shows `{...}`, so values are not read.
    pub modules: Vec<String>,
    /// The portal's time, from the headers of the response; `None` if they do not say.
    pub date: Option<Timestamp>,
}

/// The response to `GET /api/get-verification-details/{id}` without its `results`, which are personal data and are skipped
/// while the body is read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// The session that the response is about; `None` if it names none, or an invalid one.
    pub id: Option<VerificationId>,
    /// The portal's status of the session, unchanged but for its length.
    pub current: Option<String>,
    /// When that status last changed, by the portal's clock.
    pub updated_at: Option<Timestamp>,
    /// The progress of each module, such as `document: completed`.
    pub progress: BTreeMap<String, String>,
    /// The portal's time, from the headers of the response; `None` if they do not say, or if the response does not name
    /// the requested session.
    pub date: Option<Timestamp>,
}

/// Parses the response to a create.
///
/// # Errors
///
/// [`UnusableResponse`] if it does not identify a session. The session may exist nevertheless.
pub(crate) fn parse_created(body: &[u8]) -> Result<Created, UnusableResponse> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        #[serde(borrow)]
        verification_id: Option<&'a RawValue>,
        #[serde(borrow)]
        expires_at: Option<&'a RawValue>,
        #[serde(borrow)]
        flow: Option<&'a RawValue>,
        #[serde(borrow)]
        modules: Option<&'a RawValue>,
    }

    let Body { verification_id, expires_at, flow, modules } = parse_object(body)?;
    Ok(Created {
        id: parse_id(verification_id).ok_or(UnusableResponse::NoUsableId)?,
        expires_at: parse_time(expires_at),
        flow: parse_names(flow),
        modules: parse_names(modules),
        date: None,
    })
}

/// Parses the response to a poll.
///
/// # Errors
///
/// [`UnusableResponse::NotAnObject`]. A response without an id or a status is not an error here: the caller decides what
/// it means, because it knows which session it requested.
pub(crate) fn parse_details(body: &[u8]) -> Result<Details, UnusableResponse> {
    #[derive(Deserialize)]
    struct Body<'a> {
        #[serde(borrow)]
        verification_id: Option<&'a RawValue>,
        #[serde(borrow)]
        status: Option<&'a RawValue>,
    }
    #[derive(Default, Deserialize)]
    struct Status<'a> {
        #[serde(borrow)]
        current: Option<&'a RawValue>,
        #[serde(borrow)]
        updated_at: Option<&'a RawValue>,
        #[serde(borrow)]
        progress: Option<&'a RawValue>,
    }

    let Body { verification_id, status } = parse_object(body)?;
    let id = parse_id(verification_id);
    let Some(status) = status.filter(|raw| is_object(raw)) else {
        // A plain string in place of the object is read as the status.
        return Ok(Details { id, current: parse_word(status), ..Details::default() });
    };
    let Status { current, updated_at, progress } = parse_object(status.get().as_bytes())?;
    let progress = match progress.filter(|raw| is_object(raw)) {
        None => BTreeMap::new(),
        Some(raw) => parse_object::<Members>(raw.get().as_bytes())?
            .0
            .into_iter()
            .filter_map(|(module, state)| Some((module, parse_word(Some(state))?)))
            .collect(),
    };
    Ok(Details { id, current: parse_word(current), updated_at: parse_time(updated_at), progress, date: None })
}

/// Parses one JSON object. Serde would also accept a list for a struct, in the order of its fields.
fn parse_object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, UnusableResponse> {
    if json.trim_ascii_start().first() != Some(&b'{') {
        return Err(UnusableResponse::NotAnObject);
    }
    serde_json::from_slice(json).map_err(|_| UnusableResponse::NotAnObject)
}

fn is_object(raw: &RawValue) -> bool {
    raw.get().starts_with('{')
}

fn parse_text(raw: Option<&RawValue>) -> Option<String> {
    serde_json::from_str(raw?.get()).ok()
}

fn parse_id(raw: Option<&RawValue>) -> Option<VerificationId> {
    VerificationId::parse(&parse_text(raw)?).ok()
}

fn parse_word(raw: Option<&RawValue>) -> Option<String> {
    parse_text(raw).map(truncate)
}

fn parse_time(raw: Option<&RawValue>) -> Option<Timestamp> {
    let time: Timestamp = parse_text(raw)?.parse().ok()?;
    // A timestamp never exceeds the year 9999, like Kubernetes' date-time.
    (time >= Timestamp::UNIX_EPOCH).then_some(time)
}

/// The strings of a list, or the names in an object; empty for anything else.
fn parse_names(raw: Option<&RawValue>) -> Vec<String> {
    let Some(raw) = raw else {
        return Vec::new();
    };
    if is_object(raw) {
        return parse_object::<Members>(raw.get().as_bytes())
            .map(|members| members.0.into_iter().map(|(name, _)| name).collect())
            .unwrap_or_default();
    }
    serde_json::from_str::<Vec<&RawValue>>(raw.get())
        .unwrap_or_default()
        .into_iter()
        .filter_map(|entry| parse_word(Some(entry)))
        .take(MAX_ENTRIES)
        .collect()
}

fn truncate(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_WORD_BYTES));
    text.shrink_to_fit();
    text
}

/// The first [`MAX_ENTRIES`] members of an object, in its order, with their values unparsed.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members: Vec<(String, &'de RawValue)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
                    let name = truncate(name);
                    if members.iter().any(|(known, _)| *known == name) {
                        return Err(A::Error::custom("a name occurs twice"));
                    }
                    if members.len() < MAX_ENTRIES {
                        members.push((name, value));
                    }
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests;
