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
    Ok(Details { id, current: read_word(current), updated_at: read_time(updated_at), progress })
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The guide's step 2, word for word, its ellipses included where they are JSON.
    const GUIDE_CREATED: &str = r#"{ "verificationId": "ver_abc123...", "expiresAt": "2024-01-01T12:00:00Z", "modules": {}, "flow": ["terms", "document", "liveness"] }"#;

    /// The guide's step 4.
    const GUIDE_DETAILS: &str = r#"{ "verification_id": "ver_abc123...", "status": { "current": "verified", "updated_at": "2024-01-01T12:00:00Z", "progress": { "document": "completed", "liveness": "completed", "form_data": "completed" } }, "results": { "document": {}, "liveness": {}, "form_data": {} } }"#;

    fn noon() -> Timestamp {
        "2024-01-01T12:00:00Z".parse().unwrap()
    }

    fn id(text: &str) -> VerificationId {
        VerificationId::parse(text).unwrap()
    }

    #[test]
    fn the_guides_create_answer_is_read_whole() {
        assert_eq!(
            read_created(GUIDE_CREATED.as_bytes()),
            Ok(Created {
                id: id("ver_abc123..."),
                expires_at: Some(noon()),
                flow: ["terms", "document", "liveness"].map(String::from).to_vec(),
                modules: vec![],
            })
        );
    }

    #[test]
    fn the_guides_details_are_read_whole_but_for_the_results() {
        let progress = ["document", "liveness", "form_data"];
        assert_eq!(
            read_details(GUIDE_DETAILS.as_bytes()),
            Ok(Details {
                id: Some(id("ver_abc123...")),
                current: Some("verified".into()),
                updated_at: Some(noon()),
                progress: progress.map(|module| (module.into(), "completed".into())).into(),
            })
        );
    }

    #[test]
    fn details_need_neither_results_nor_all_modules() {
        let body = r#"{"verification_id":"ver_abc123...","status":{"current":"verified","updated_at":"2024-01-01T12:00:00Z","progress":{"document":"completed","liveness":"completed"}}}"#;
        let details = read_details(body.as_bytes()).unwrap();
        assert_eq!(details.progress.len(), 2);
    }

    #[test]
    fn an_odd_optional_field_never_loses_the_id() {
        let nested = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        for odd in [
            "null",
            "true",
            "12",
            "1e999",
            "\"\"",
            "\"soon\"",
            "\"\\ud800\"",
            "[]",
            "{}",
            "[[1],{}]",
            r#"{"a":1,"a":2}"#,
            &nested,
        ] {
            for field in ["expiresAt", "flow", "modules", "somethingNew"] {
                let body = format!(r#"{{"{field}":{odd},"verificationId":"ver_1"}}"#);
                let created =
                    read_created(body.as_bytes()).unwrap_or_else(|trouble| panic!("{body:.80}: {trouble}"));
                assert_eq!(created.id, id("ver_1"));
                assert_eq!(created.expires_at, None);
            }
        }
    }

    #[test]
    fn flow_and_modules_may_be_lists_or_objects() {
        let body =
            r#"{"verificationId":"v","flow":{"terms":{},"document":1},"modules":["liveness",7,"form_data"]}"#;
        let created = read_created(body.as_bytes()).unwrap();
        assert_eq!(created.flow, ["terms", "document"]);
        assert_eq!(created.modules, ["liveness", "form_data"]);
    }

    #[test]
    fn an_expiry_is_kept_only_if_kubernetes_can_write_it() {
        let expiry = |text: &str| {
            let body = format!(r#"{{"verificationId":"v","expiresAt":"{text}"}}"#);
            read_created(body.as_bytes()).unwrap().expires_at
        };
        assert!(expiry("9999-12-30T00:00:00Z").is_some());
        assert!(expiry("1970-01-01T00:00:00Z").is_some());
        assert!(expiry("2024-01-01T12:00:00.123456+02:00").is_some());
        for refused in [
            "-000001-01-01T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "+010000-01-01T00:00:00Z",
            "2024-01-01",
            "2024-01-01T12:00:00",
        ] {
            assert_eq!(expiry(refused), None, "{refused}");
        }
    }

    #[test]
    fn what_is_not_one_json_object_is_unusable() {
        let deep = "[".repeat(10_000);
        let deep_object = r#"{"a":"#.repeat(10_000);
        let bodies: [&[u8]; 16] = [
            b"",
            b" ",
            b"null",
            b"[]",
            b"\"ver_1\"",
            br#"["ver_1"]"#,
            br#"{"verificationId":"ver_1""#,
            br#"{"verificationId":"ver_1"} x"#,
            br#"{"verificationId":"ver_1","expiresAt":NaN}"#,
            b"\xEF\xBB\xBF{\"verificationId\":\"ver_1\"}",
            br#"{"verificationId":"ver_1","verificationId":"ver_2"}"#,
            b"<html><body>verificationId</body></html>",
            b"{\"verificationId\":\"\xFF\"}",
            b"\0",
            deep.as_bytes(),
            deep_object.as_bytes(),
        ];
        for body in bodies {
            assert_eq!(read_created(body), Err(UnusableAnswer::NotAnObject), "{}", body.escape_ascii());
        }
    }

    #[test]
    fn a_create_without_a_fit_id_is_unusable() {
        let long = format!("\"{}\"", "a".repeat(129));
        for text in [
            "null",
            "1",
            "\"\"",
            "\".\"",
            "\"..\"",
            "\"../x\"",
            "\"a/b\"",
            "\"a\\r\\nb\"",
            "\"a b\"",
            "\"a%2fb\"",
            "\"é\"",
            "[\"a\"]",
            &long,
        ] {
            let body = format!(r#"{{"verificationId":{text}}}"#);
            assert_eq!(read_created(body.as_bytes()), Err(UnusableAnswer::NoUsableId), "{text}");
        }
        assert_eq!(read_created(b"{}"), Err(UnusableAnswer::NoUsableId));
    }

    #[test]
    fn details_of_any_shape_are_read_as_far_as_they_go() {
        let read = |body: &str| read_details(body.as_bytes()).unwrap();
        assert_eq!(read("{}"), Details::default());
        assert_eq!(read(r#"{"verification_id":7,"status":null}"#), Details::default());
        assert_eq!(read(r#"{"status":"verified"}"#).current.as_deref(), Some("verified"));
        assert_eq!(read(r#"{"status":["verified"]}"#).current, None);
        assert_eq!(read(r#"{"status":{"current":1,"updated_at":5,"progress":[]}}"#), Details::default());
        assert_eq!(read(r#"{"status":{"current":" VERIFIED"}}"#).current.as_deref(), Some(" VERIFIED"));
        let mixed = read(r#"{"status":{"progress":{"document":"completed","liveness":{"state":1}}}}"#);
        assert_eq!(mixed.progress, [("document".into(), "completed".into())].into());
    }

    #[test]
    fn contradicting_details_are_unusable() {
        for body in [
            r#"{"verification_id":"a","verification_id":"b"}"#,
            r#"{"status":{"current":"verified","current":"rejected"}}"#,
            r#"{"status":{"progress":{"document":"completed","document":"failed"}}}"#,
        ] {
            assert_eq!(read_details(body.as_bytes()), Err(UnusableAnswer::NotAnObject), "{body}");
        }
    }

    #[test]
    fn deep_results_are_skipped_without_a_trace() {
        let results = format!("{}\"Jane Doe\"{}", r#"{"a":["#.repeat(10_000), "]}".repeat(10_000));
        let body = format!(r#"{{"verification_id":"v","results":{results}}}"#);
        let details = read_details(body.as_bytes()).unwrap();
        assert!(!format!("{details:?}").contains("Jane"));
    }

    #[test]
    fn counts_and_lengths_are_bounded() {
        let many: Vec<String> =
            (0..10_000).map(|n| format!(r#""module{n}":"{}""#, "ä".repeat(700))).collect();
        let body = format!(
            r#"{{"status":{{"current":"{}","progress":{{{}}}}}}}"#,
            "x".repeat(1 << 20),
            many.join(",")
        );
        let details = read_details(body.as_bytes()).unwrap();
        assert_eq!(details.current.unwrap().len(), MAX_WORD_BYTES);
        assert_eq!(details.progress.len(), MAX_ENTRIES);
        assert!(details.progress.values().all(|state| state.len() == MAX_WORD_BYTES));
        let names: Vec<String> = (0..1_000).map(|n| format!("\"{n}\"")).collect();
        let created =
            read_created(format!(r#"{{"verificationId":"v","flow":[{}]}}"#, names.join(",")).as_bytes())
                .unwrap();
        assert_eq!(created.flow.len(), MAX_ENTRIES);
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let name = prop_oneof![
            "verificationId|verification_id|status|current|updated_at|progress|flow|modules|expiresAt",
            ".{0,8}"
        ];
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            "ver_[a-z]{1,4}|verified|2024-01-01T12:00:00Z|.{0,40}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::hash_map(name.clone(), inner, 0..6)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_bytes_make_reading_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            let _ = read_created(&bytes);
            let _ = read_details(&bytes);
        }

        #[test]
        fn every_json_is_read_within_its_bounds(json in any_json()) {
            let body = json.to_string();
            if let Ok(created) = read_created(body.as_bytes()) {
                prop_assert_eq!(json["verificationId"].as_str(), Some(created.id.as_str()));
            }
            prop_assert_eq!(read_details(body.as_bytes()).is_ok(), json.is_object());
        }
    }
}
