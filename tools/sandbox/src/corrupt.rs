//! Edits or corrupts the JSON of a response.
//!
//! Pure. May depend on [`fault`](crate::fault).

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::fault::{Edit, Malformed};

const HTML: &str =
    "<!DOCTYPE html><html><head><title>Sign in</title></head><body><h1>Sign in</h1></body></html>";

/// A body that is not the documented JSON.
pub(crate) fn malform(body: &Bytes, form: Malformed) -> Bytes {
    match form {
        Malformed::Empty => Bytes::new(),
        Malformed::Html => Bytes::from_static(HTML.as_bytes()),
        Malformed::Truncated => body.slice(..body.len() / 2),
        Malformed::Bom => [b"\xef\xbb\xbf", &**body].concat().into(),
        Malformed::TrailingGarbage => [&**body, b"}\n{\"more\": tru"].concat().into(),
        Malformed::DuplicateKeys => {
            let rest = body.strip_prefix(b"{").unwrap_or(body);
            [br#"{"verificationId":"ver_first","verification_id":"ver_first","#, rest].concat().into()
        }
        Malformed::Nan => Bytes::from_static(br#"{"verificationId":NaN,"verification_id":NaN}"#),
        Malformed::NotUtf8 => {
            Bytes::from_static(b"{\"verificationId\":\"ver_\xff\xfe\",\"verification_id\":\"ver_\xff\xfe\"}")
        }
        Malformed::Nested { depth } => {
            let nest = nest(depth);
            format!(r#"{{"verificationId":{nest},"verification_id":{nest}}}"#).into()
        }
    }
}

/// The JSON with the edits applied in order. Anything else is unchanged.
pub(crate) fn edit(body: &Bytes, edits: &[Edit]) -> Bytes {
    let Ok(mut json) = serde_json::from_slice::<Value>(body) else {
        return body.clone();
    };
    let mut nests = Vec::new();
    for edit in edits {
        match edit {
            Edit::Set { at, value } => set(&mut json, at, value.clone()),
            Edit::Remove { at } => remove(&mut json, at),
            Edit::Fill { at, bytes } => set(&mut json, at, Value::String("a".repeat(*bytes))),
            Edit::Crowd { at, entries } => {
                let crowd: Map<_, _> =
                    (0..*entries).map(|n| (format!("field_{n}"), "completed".into())).collect();
                set(&mut json, at, Value::Object(crowd));
            }
            Edit::Nest { at, depth } => {
                // Inserted as text later: serializing a tree this deep would overflow the stack.
                let placeholder = format!("@nest {}@", nests.len());
                set(&mut json, at, Value::String(placeholder.clone()));
                nests.push((placeholder, *depth));
            }
        }
    }
    let text = nests.into_iter().fold(json.to_string(), |text, (placeholder, depth)| {
        text.replace(&format!("\"{placeholder}\""), &nest(depth))
    });
    text.into()
}

fn nest(depth: usize) -> String {
    "[".repeat(depth) + &"]".repeat(depth)
}

fn set(json: &mut Value, at: &str, value: Value) {
    if let Some(current) = json.pointer_mut(at) {
        *current = value;
    } else if let Some((parent, name)) = at.rsplit_once('/')
        && let Some(Value::Object(fields)) = json.pointer_mut(parent)
    {
        fields.insert(name.to_owned(), value);
    }
}

fn remove(json: &mut Value, at: &str) {
    if let Some((parent, name)) = at.rsplit_once('/')
        && let Some(Value::Object(fields)) = json.pointer_mut(parent)
    {
        fields.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(edits: &[Edit]) -> String {
        let body = Bytes::from_static(br#"{"status":{"current":"verified"}}"#);
        String::from_utf8(edit(&body, edits).to_vec()).unwrap()
    }

    #[test]
    fn edits_replace_add_and_remove_by_pointer() {
        let replace = Edit::Set { at: "/status/current".into(), value: Value::Null };
        let add = Edit::Set { at: "/results".into(), value: 7.into() };
        assert_eq!(edited(&[replace, add]), r#"{"results":7,"status":{"current":null}}"#);
        assert_eq!(edited(&[Edit::Remove { at: "/status/current".into() }]), r#"{"status":{}}"#);
        assert_eq!(
            edited(&[Edit::Remove { at: "/nothing/here".into() }]),
            r#"{"status":{"current":"verified"}}"#
        );
    }

    #[test]
    fn a_nest_of_any_depth_is_written_without_a_tree() {
        let text = edited(&[Edit::Nest { at: "/results".into(), depth: 200_000 }]);
        assert_eq!(text.matches('[').count(), 200_000);
        assert_eq!(text.matches(']').count(), 200_000);
    }
}
