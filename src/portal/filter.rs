//! Drops the members of a JSON object that are not read, while its bytes stream through: additions to a response, such as
//! portraits in its `results`, take no memory and hide nothing.
//!
//! Pure. May depend on nothing of this crate. It is not a parser: its output is parsed afterwards, which rejects what is
//! not a JSON object. The bytes of a dropped value are only inspected to find its end.

/// Longest member name that is compared, in bytes.
const LONGEST_NAME: usize = 64;

/// Filters the bytes of one JSON object, in chunks of any size. The value of each member that is not named becomes `null`.
#[derive(Debug)]
pub(super) struct MemberFilter {
    names: &'static [&'static str],
    state: Position,
}

#[derive(Debug)]
enum Position {
    /// Before the object.
    Before,
    /// Before the name of the next member.
    Between,
    /// Inside a name.
    Name { name: Vec<u8>, has_escapes: bool, escaped: bool },
    /// After a name.
    Named { retained: bool },
    /// Inside a value.
    Value { retained: bool, depth: usize, in_string: bool, escaped: bool },
    /// After the object, or inside something else: all of it passes.
    PassThrough,
}

impl MemberFilter {
    /// A filter that retains the members with these names.
    pub(super) const fn new(names: &'static [&'static str]) -> Self {
        Self { names, state: Position::Before }
    }

    /// Filters the next chunk and appends what is retained of it to `out`.
    pub(super) fn filter(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        for byte in chunk {
            self.step(*byte, out);
        }
    }

    fn step(&mut self, byte: u8, out: &mut Vec<u8>) {
        match &mut self.state {
            Position::Value { retained, depth: _, in_string: in_string @ true, escaped } => {
                if *retained {
                    out.push(byte);
                }
                (*in_string, *escaped) = in_string_after(byte, *escaped);
            }
            Position::Value { retained, depth, in_string, escaped: _ } => {
                let ends = *depth == 0 && matches!(byte, b',' | b'}' | b']');
                if *retained || ends {
                    out.push(byte);
                }
                match byte {
                    b',' if ends => self.state = Position::Between,
                    _ if ends => self.state = Position::PassThrough,
                    b'"' => *in_string = true,
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
                    _ => self.state = Position::PassThrough,
                }
            }
            Position::Between => {
                out.push(byte);
                match byte {
                    b'"' => {
                        self.state = Position::Name { name: Vec::new(), has_escapes: false, escaped: false };
                    }
                    b'}' => self.state = Position::PassThrough,
                    _ => {}
                }
            }
            Position::Name { name, has_escapes, escaped } => {
                out.push(byte);
                *has_escapes |= byte == b'\\';
                let (in_name, is_escaped) = in_string_after(byte, *escaped);
                *escaped = is_escaped;
                if !in_name {
                    // A name with escapes may be any name.
                    let retained = *has_escapes || self.names.iter().any(|known| known.as_bytes() == name);
                    self.state = Position::Named { retained };
                } else if name.len() <= LONGEST_NAME {
                    name.push(byte);
                }
            }
            Position::Named { retained } => {
                out.push(byte);
                if byte == b':' {
                    if !*retained {
                        out.extend_from_slice(b"null");
                    }
                    self.state =
                        Position::Value { retained: *retained, depth: 0, in_string: false, escaped: false };
                }
            }
            Position::PassThrough => out.push(byte),
        }
    }
}

/// Whether a string continues after this byte, and whether the next byte is escaped.
const fn in_string_after(byte: u8, escaped: bool) -> (bool, bool) {
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

    fn filtered<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> String {
        let mut filter = MemberFilter::new(NAMES);
        let mut retained = Vec::new();
        for chunk in chunks {
            filter.filter(chunk, &mut retained);
        }
        String::from_utf8_lossy(&retained).into_owned()
    }

    #[test]
    fn unread_members_are_dropped_and_the_rest_is_unchanged() {
        for (text, retained) in [
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
            assert_eq!(filtered([text.as_bytes()]), retained, "{text}");
        }
    }

    #[test]
    fn a_name_inside_a_dropped_value_is_not_a_member() {
        let text =
            r#"{"results":{"document":{"name":"\"},\"status\":{\"current\":\"verified\"}}"}},"status":"x"}"#;
        assert_eq!(filtered([text.as_bytes()]), r#"{"results":null,"status":"x"}"#);
    }

    #[test]
    fn a_dropped_value_of_any_size_takes_no_memory() {
        let mut filter = MemberFilter::new(NAMES);
        let mut retained = Vec::new();
        filter.filter(br#"{"results":{"portrait":""#, &mut retained);
        for _ in 0..64 {
            filter.filter(&[b'A'; 16 * 1024], &mut retained);
        }
        filter.filter(br#""}}"#, &mut retained);
        assert_eq!(retained, br#"{"results":null}"#);
        assert!(retained.capacity() < 256, "{}", retained.capacity());
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
        fn the_members_that_are_read_stay_the_same_in_any_object(object in members(json()), size in 1..9_usize, pretty: bool) {
            let object = Value::Object(object);
            let text = if pretty { serde_json::to_string_pretty(&object) } else { serde_json::to_string(&object) };
            let text = text.unwrap();
            let retained: Value = serde_json::from_str(&filtered(text.as_bytes().chunks(size))).unwrap();
            for (name, value) in object.as_object().unwrap() {
                let read = NAMES.contains(&name.as_str()) || name.contains(['"', '\\']);
                prop_assert_eq!(&retained[name], if read { value } else { &Value::Null });
            }
            prop_assert_eq!(retained.as_object().unwrap().len(), object.as_object().unwrap().len());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b"{}[]\",:\\".to_vec())], 0..64)) {
            let _ = filtered([bytes.as_slice()]);
        }
    }
}
