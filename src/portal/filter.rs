//! Skips the members of a JSON object that nobody reads, while their bytes pass by: what a portal adds to its answers, such as
//! portraits among the `results`, takes no memory and hides nothing.
//!
//! Pure. No parser: what is kept is parsed afterwards, so that nothing is believed that is no JSON object. The bytes of a
//! skipped value are looked at only as far as it takes to find its end.

/// Longest name of a member that is compared, in bytes.
const LONGEST_NAME: usize = 64;

/// Takes the bytes of one JSON object, however they are cut into pieces, and hands on all but the values of the members that
/// are not named: in their place stands `null`.
#[derive(Debug)]
pub(super) struct MemberFilter {
    names: &'static [&'static str],
    state: Position,
}

#[derive(Debug)]
enum Position {
    /// Before the object.
    Before,
    /// Between two members, before the name of the next one.
    Between,
    /// In a name.
    Name { name: Vec<u8>, has_escapes: bool, escaped: bool },
    /// Behind a name.
    Named { kept: bool },
    /// In a value.
    Value { kept: bool, depth: usize, in_text: bool, escaped: bool },
    /// Behind the object, or in something else: all of it is handed on.
    Through,
}

impl MemberFilter {
    /// Keeps the members of these names.
    pub(super) const fn new(names: &'static [&'static str]) -> Self {
        Self { names, state: Position::Before }
    }

    /// Takes the next piece, and appends what is kept of it.
    pub(super) fn take(&mut self, piece: &[u8], kept: &mut Vec<u8>) {
        for byte in piece {
            self.step(*byte, kept);
        }
    }

    fn step(&mut self, byte: u8, out: &mut Vec<u8>) {
        match &mut self.state {
            Position::Value { kept, depth: _, in_text: in_text @ true, escaped } => {
                if *kept {
                    out.push(byte);
                }
                (*in_text, *escaped) = in_text_after(byte, *escaped);
            }
            Position::Value { kept, depth, in_text, escaped: _ } => {
                let ends = *depth == 0 && matches!(byte, b',' | b'}' | b']');
                if *kept || ends {
                    out.push(byte);
                }
                match byte {
                    b',' if ends => self.state = Position::Between,
                    _ if ends => self.state = Position::Through,
                    b'"' => *in_text = true,
                    b'{' | b'[' => *depth += 1,
                    b'}' | b']' => *depth -= 1,
                    _ => {}
                }
            }
            Position::Before => {
                out.push(byte);
                match byte {
                    b'{' => self.state = Position::Between,
                    b' ' | b'\t' | b'\r' | b'\n' => {}
                    _ => self.state = Position::Through,
                }
            }
            Position::Between => {
                out.push(byte);
                match byte {
                    b'"' => {
                        self.state = Position::Name { name: Vec::new(), has_escapes: false, escaped: false };
                    }
                    b'}' => self.state = Position::Through,
                    _ => {}
                }
            }
            Position::Name { name, has_escapes, escaped } => {
                out.push(byte);
                *has_escapes |= byte == b'\\';
                let (in_name, is_escaped) = in_text_after(byte, *escaped);
                *escaped = is_escaped;
                if !in_name {
                    // Whoever writes a name with escapes may mean any.
                    let kept = *has_escapes || self.names.iter().any(|known| known.as_bytes() == name);
                    self.state = Position::Named { kept };
                } else if name.len() <= LONGEST_NAME {
                    name.push(byte);
                }
            }
            Position::Named { kept } => {
                out.push(byte);
                if byte == b':' {
                    if !*kept {
                        out.extend_from_slice(b"null");
                    }
                    self.state = Position::Value { kept: *kept, depth: 0, in_text: false, escaped: false };
                }
            }
            Position::Through => out.push(byte),
        }
    }
}

/// Whether a text goes on behind that byte of it, and whether the byte after it is escaped.
const fn in_text_after(byte: u8, escaped: bool) -> (bool, bool) {
    match byte {
        _ if escaped => (true, false),
        b'\\' => (true, true),
        b'"' => (false, false),
        _ => (true, false),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::*;

    const NAMES: &[&str] = &["verification_id", "status"];

    fn filtered<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> String {
        let mut filter = MemberFilter::new(NAMES);
        let mut kept = Vec::new();
        for piece in pieces {
            filter.take(piece, &mut kept);
        }
        String::from_utf8_lossy(&kept).into_owned()
    }

    #[test]
    fn what_nobody_reads_is_skipped_and_the_rest_stays_as_it_is() {
        for (text, kept) in [
            (
                r#"{"verification_id":"a","results":{"x":[1,"}"]},"status":{"current":"b"}}"#,
                r#"{"verification_id":"a","results":null,"status":{"current":"b"}}"#,
            ),
            (
                r#" {"results" : "portrait \" , \\" , "status" : "s" } "#,
                r#" {"results" :null, "status" : "s" } "#,
            ),
            (r#"{"results":-1.5e3}"#, r#"{"results":null}"#),
            (r#"{"stat\u0075s":{"results":1}}"#, r#"{"stat\u0075s":{"results":1}}"#),
            ("{}", "{}"),
            (r#"[{"results":1}]"#, r#"[{"results":1}]"#),
            (r#"{"results":1"#, r#"{"results":null"#),
            (r#"{"results":1}{"results":1}"#, r#"{"results":null}{"results":1}"#),
        ] {
            assert_eq!(filtered([text.as_bytes()]), kept, "{text}");
        }
    }

    #[test]
    fn a_name_inside_of_what_is_skipped_is_no_member() {
        let text =
            r#"{"results":{"document":{"name":"\"},\"status\":{\"current\":\"verified\"}}"}},"status":"x"}"#;
        assert_eq!(filtered([text.as_bytes()]), r#"{"results":null,"status":"x"}"#);
    }

    #[test]
    fn a_skipped_value_of_any_size_takes_no_memory() {
        let mut filter = MemberFilter::new(NAMES);
        let mut kept = Vec::new();
        filter.take(br#"{"results":{"portrait":""#, &mut kept);
        for _ in 0..64 {
            filter.take(&[b'A'; 16 * 1024], &mut kept);
        }
        filter.take(br#""}}"#, &mut kept);
        assert_eq!(kept, br#"{"results":null}"#);
        assert!(kept.capacity() < 256, "{}", kept.capacity());
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::from),
            r#"[a-z"\\{}\[\],:\n€]{0,8}"#.prop_map(Value::String),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                members(inner).prop_map(Value::Object),
            ]
        })
    }

    fn members(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Map<String, Value>> {
        let name = prop_oneof![Just("status".to_owned()), Just("results".to_owned()), r#"[a-z"\\:{]{0,4}"#];
        prop::collection::vec((name, value), 0..4).prop_map(|list| list.into_iter().collect())
    }

    proptest! {
        #[test]
        fn whatever_the_object_what_is_read_of_it_stays_the_same(object in members(json()), size in 1..9_usize, pretty: bool) {
            let object = Value::Object(object);
            let text = if pretty { serde_json::to_string_pretty(&object) } else { serde_json::to_string(&object) };
            let text = text.unwrap();
            let kept: Value = serde_json::from_str(&filtered(text.as_bytes().chunks(size))).unwrap();
            for (name, value) in object.as_object().unwrap() {
                let read = NAMES.contains(&name.as_str()) || name.contains(['"', '\\']);
                prop_assert_eq!(&kept[name], if read { value } else { &Value::Null });
            }
            prop_assert_eq!(kept.as_object().unwrap().len(), object.as_object().unwrap().len());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b"{}[]\",:\\".to_vec())], 0..64)) {
            let _ = filtered([bytes.as_slice()]);
        }
    }
}
