//! Says why an object could not be decoded, without saying what is in it. Pure.

/// What is told when an error has a form that is not known here.
const UNKNOWN: &str = "does not have the form that this version expects";

/// The part of a decoding error that comes from the schema and not from the object.
///
/// serde quotes the value that it stumbled over, and in a Verification that may be the link or
/// the id. Kept are the kind of the error, names of our own fields, and what was expected.
pub(super) fn describe(error: &str) -> String {
    if error.starts_with("missing field `") || error.starts_with("duplicate field `") {
        return error.to_owned();
    }
    let Some((kind, rest)) = [
        "invalid type",
        "invalid value",
        "invalid length",
        "unknown variant",
    ]
    .into_iter()
    .find_map(|kind| Some((kind, error.strip_prefix(kind)?))) else {
        return UNKNOWN.to_owned();
    };
    // What was expected comes last; a value may hold the same words, so the last ones count.
    match rest.rsplit_once(", expected ") {
        Some((_, expected)) => format!("{kind}, expected {expected}"),
        None => kind.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_tells_what_was_expected_and_never_what_was_there() {
        for (error, told) in [
            ("missing field `spec`", "missing field `spec`"),
            (
                r#"invalid type: string "https://link", expected a boolean"#,
                "invalid type, expected a boolean",
            ),
            (
                r#"invalid value: string "a, expected b", expected RFC 3339"#,
                "invalid value, expected RFC 3339",
            ),
            (
                "unknown variant `ver_1`, expected `Direct` or `Select`",
                "unknown variant, expected `Direct` or `Select`",
            ),
            (
                "unknown variant `ver_1`, there are no variants",
                "unknown variant",
            ),
            (
                "invalid length 2, expected fewer",
                "invalid length, expected fewer",
            ),
            ("failed to parse \"https://link\"", UNKNOWN),
            ("unknown field `https://link`, expected `a`", UNKNOWN),
        ] {
            assert_eq!(describe(error), told);
        }
    }
}
