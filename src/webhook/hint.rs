//! The session that a notification is about. Nothing else of its body is read. Pure.

use serde_json::Value;

use crate::portal::VerificationId;

/// The names under which an id may be: the guide writes both.
const NAMES: [&str; 2] = ["verification_id", "verificationId"];

/// The id in a notification's body, at the top or inside `data`.
pub(super) fn session_id(body: &[u8]) -> Option<VerificationId> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let id = |object: &Value| {
        let mut texts = NAMES.iter().filter_map(|name| object.get(name)?.as_str());
        texts.find_map(|text| VerificationId::parse(text).ok())
    };
    id(&body).or_else(|| id(body.get("data")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_found_at_the_top_or_inside_data_under_either_name() {
        for body in [
            r#"{"verification_id":"ver_1"}"#,
            r#"{"event":"verified","verificationId":"ver_1","status":{"current":"verified"}}"#,
            r#"{"data":{"verification_id":"ver_1"}}"#,
            r#"{"id":"evt_1","data":{"verificationId":"ver_1","verification_id":7}}"#,
            r#"{"verification_id":"ver_1","data":{"verification_id":"ver_2"}}"#,
            r#"{"verification_id":"not an id","verificationId":"ver_1"}"#,
        ] {
            assert_eq!(session_id(body.as_bytes()).unwrap().as_str(), "ver_1", "{body}");
        }
    }

    #[test]
    fn a_body_without_an_id_is_no_hint_whatever_else_it_is() {
        let deep = "[".repeat(60_000);
        for body in [
            "",
            "{}",
            "null",
            r#""ver_1""#,
            r#"["ver_1"]"#,
            r#"{"id":"ver_1"}"#,
            r#"{"verification_id":7}"#,
            r#"{"verification_id":"../ver_1"}"#,
            r#"{"data":"ver_1"}"#,
            r#"{"data":{"data":{"verification_id":"ver_1"}}}"#,
            r#"{"verification_id":"ver_1""#,
            deep.as_str(),
        ] {
            assert_eq!(session_id(body.as_bytes()), None);
        }
        assert_eq!(session_id(b"{\"verification_id\":\"ver_\xff\"}"), None, "not UTF-8");
    }
}
