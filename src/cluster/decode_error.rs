//! Describes why an object could not be decoded, without quoting it. Pure.

/// The description of an error of an unknown form.
const UNKNOWN: &str = "does not have the form that this version expects";

/// The part of a decoding error that comes from the schema and not from the object.
///
/// serde quotes the value that it could not decode, and in a Verification that may be the link or the id. What remains
/// is the kind of the error, the names of our own fields, and what was expected. `serde_json` and `serde-value` write
/// the same errors with different capitals and punctuation.
pub(crate) fn describe(error: &str) -> String {
    let mut letters = error.chars();
    let first = letters.next().unwrap_or_default().to_ascii_lowercase();
    let error = format!("{first}{}", letters.as_str());
    if error.starts_with("missing field ") || error.starts_with("duplicate field ") {
        return error;
    }
    let kind = ["invalid type", "invalid value", "invalid length", "unknown variant"]
        .into_iter()
        .find(|kind| error.starts_with(kind));
    let Some(kind) = kind else {
        return UNKNOWN.to_owned();
    };
    // What was expected comes last; a value may contain the same words, so the last occurrence counts.
    let expected = [", expected ", ". Expected "]
        .into_iter()
        .filter_map(|separator| Some(error.rfind(separator)? + separator.len()))
        .max()
        .and_then(|start| error.get(start..));
    match expected {
        Some(expected) => format!("{kind}, expected {expected}"),
        None => kind.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_was_expected_and_never_what_was_found() {
        for (error, description) in [
            ("missing field `spec`", "missing field `spec`"),
            ("Missing field spec", "missing field spec"),
            (
                r#"invalid type: string "https://link", expected a boolean"#,
                "invalid type, expected a boolean",
            ),
            (r#"Invalid type string "https://link". Expected a boolean"#, "invalid type, expected a boolean"),
            (
                r#"invalid value: string "a, expected b", expected RFC 3339"#,
                "invalid value, expected RFC 3339",
            ),
            (
                r#"invalid value: string "a. Expected b", expected RFC 3339"#,
                "invalid value, expected RFC 3339",
            ),
            (
                "unknown variant `ver_1`, expected `Direct` or `Select`",
                "unknown variant, expected `Direct` or `Select`",
            ),
            (
                "Unknown variant ver_1. Expected one of Direct, Select",
                "unknown variant, expected one of Direct, Select",
            ),
            ("unknown variant `ver_1`, there are no variants", "unknown variant"),
            ("invalid length 2, expected fewer", "invalid length, expected fewer"),
            ("failed to parse \"https://link\"", UNKNOWN),
            ("unknown field `https://link`, expected `a`", UNKNOWN),
            ("", UNKNOWN),
        ] {
            assert_eq!(describe(error), description);
        }
    }
}
