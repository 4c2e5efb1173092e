//! What the portal's answers say: JSON in, our own words out.
//!
//! Pure: no client, clock, randomness, logging or `async`. The source is the vendor's integration
//! guide, steps 2 and 4. It names fields but gives no schema, so reading is tolerant: unknown
//! fields are skipped, every field but the id of a create is optional, and a field of another type
//! than expected counts as missing. A create that made a session must not be lost because its date
//! is a number.
//!
//! Three things are never tolerated, because nothing sound can be read from them: text that is not
//! one JSON object (a byte order mark in front of it included), an object that names a field we
//! read twice, and an id that does not fit [`VerificationId`].

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::verification_id::VerificationId;

/// The members of a create's answer that are read.
pub(super) const CREATED_MEMBERS: &[&str] = &["verificationId", "expiresAt", "flow", "modules"];

/// The members of a poll's answer that are read.
pub(super) const DETAILS_MEMBERS: &[&str] = &["verification_id", "status"];

/// Most entries kept of any list or object of an answer; the rest is dropped.
pub const MAX_ENTRIES: usize = 64;

/// Longest text kept of any word of an answer, in bytes; the rest is cut off.
pub const MAX_WORD_BYTES: usize = 1024;

/// An answer that cannot be used, whatever its status code was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnusableAnswer {
    /// The body is not one JSON object in UTF-8, or names a field that is read here twice.
    #[error("the portal's answer is not a JSON object")]
    NotAnObject,
    /// A create's answer has no id, or one that does not fit [`VerificationId`].
    #[error("the portal's answer names no usable verification id")]
    NoUsableId,
}

/// The answer to `POST /api/generate-verification`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// The new session.
    pub id: VerificationId,
    /// When the portal will end the session; `None` when it does not say so in RFC 3339, or names
    /// a year outside of 1970 to 9999.
    pub expires_at: Option<Timestamp>,
    /// The steps the person goes through, in order, such as `terms`, `document`, `liveness`.
    pub flow: Vec<String>,
    /// The names of the configured modules; the guide shows `{...}`, so values are not read.
    pub modules: Vec<String>,
    /// The portal's time when it answered, from the answer's headers; `None` where they do not say.
    pub date: Option<Timestamp>,
}

/// The answer to `GET /api/get-verification-details/{id}`, without its `results`: they are
/// personal data and are skipped while reading.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// The session that the answer is about; `None` when it names none, or an unfit one.
    pub id: Option<VerificationId>,
    /// The portal's word for the state, exactly as written but for its length.
    pub current: Option<String>,
    /// When that state last changed, by the portal's clock.
    pub updated_at: Option<Timestamp>,
    /// The state of each module, such as `document: completed`.
    pub progress: BTreeMap<String, String>,
    /// The portal's time when it answered, from the answer's headers; `None` where they do not say, or where the answer
    /// does not name the session that was asked for.
    pub date: Option<Timestamp>,
}

/// Reads the answer to a create.
///
/// # Errors
///
/// [`UnusableAnswer`] when no session can be told from it. It may exist all the same.
pub fn read_created(body: &[u8]) -> Result<Created, UnusableAnswer> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer<'a> {
        #[serde(borrow)]
        verification_id: Option<&'a RawValue>,
        #[serde(borrow)]
        expires_at: Option<&'a RawValue>,
        #[serde(borrow)]
        flow: Option<&'a RawValue>,
        #[serde(borrow)]
        modules: Option<&'a RawValue>,
    }

    let Answer { verification_id, expires_at, flow, modules } = read_object(body)?;
    Ok(Created {
        id: read_id(verification_id).ok_or(UnusableAnswer::NoUsableId)?,
        expires_at: read_time(expires_at),
        flow: read_names(flow),
        modules: read_names(modules),
        date: None,
    })
}

/// Reads the answer to a look.
///
/// # Errors
///
/// [`UnusableAnswer::NotAnObject`]. An answer without an id or a state is not an error here: what
/// that means is decided where it is known which session was asked for.
pub fn read_details(body: &[u8]) -> Result<Details, UnusableAnswer> {
    #[derive(Deserialize)]
    struct Answer<'a> {
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

    let Answer { verification_id, status } = read_object(body)?;
    let id = read_id(verification_id);
    let Some(status) = status.filter(|raw| is_object(raw)) else {
        // A plain word in place of the object is read as the state.
        return Ok(Details { id, current: read_word(status), ..Details::default() });
    };
    let Status { current, updated_at, progress } = read_object(status.get().as_bytes())?;
    let progress = match progress.filter(|raw| is_object(raw)) {
        None => BTreeMap::new(),
        Some(raw) => read_object::<Members>(raw.get().as_bytes())?
            .0
            .into_iter()
            .filter_map(|(module, state)| Some((module, read_word(Some(state))?)))
            .collect(),
    };
    Ok(Details { id, current: read_word(current), updated_at: read_time(updated_at), progress, date: None })
}

/// Reads one JSON object. Serde would take a list for a struct, in the order of its fields.
fn read_object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, UnusableAnswer> {
    if json.trim_ascii_start().first() != Some(&b'{') {
        return Err(UnusableAnswer::NotAnObject);
    }
    serde_json::from_slice(json).map_err(|_| UnusableAnswer::NotAnObject)
}

fn is_object(raw: &RawValue) -> bool {
    raw.get().starts_with('{')
}

fn read_text(raw: Option<&RawValue>) -> Option<String> {
    serde_json::from_str(raw?.get()).ok()
}

fn read_id(raw: Option<&RawValue>) -> Option<VerificationId> {
    VerificationId::parse(&read_text(raw)?).ok()
}

fn read_word(raw: Option<&RawValue>) -> Option<String> {
    read_text(raw).map(cut)
}

fn read_time(raw: Option<&RawValue>) -> Option<Timestamp> {
    let time: Timestamp = read_text(raw)?.parse().ok()?;
    // A timestamp ends with the year 9999 by itself, as Kubernetes' date-time does.
    (time >= Timestamp::UNIX_EPOCH).then_some(time)
}

/// The texts of a list, or the names in an object; anything else has none.
fn read_names(raw: Option<&RawValue>) -> Vec<String> {
    let Some(raw) = raw else {
        return Vec::new();
    };
    if is_object(raw) {
        return read_object::<Members>(raw.get().as_bytes())
            .map(|members| members.0.into_iter().map(|(name, _)| name).collect())
            .unwrap_or_default();
    }
    serde_json::from_str::<Vec<&RawValue>>(raw.get())
        .unwrap_or_default()
        .into_iter()
        .filter_map(|entry| read_word(Some(entry)))
        .take(MAX_ENTRIES)
        .collect()
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_WORD_BYTES));
    text.shrink_to_fit();
    text
}

/// The first [`MAX_ENTRIES`] members of an object, in its order, with their values unread.
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
                    let name = cut(name);
                    if members.iter().any(|(known, _)| *known == name) {
                        return Err(A::Error::custom("a name stands twice"));
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
