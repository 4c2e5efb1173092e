//! A label selector, in the syntax of `kubectl --selector`. Pure.

use std::str::FromStr;

/// The most characters: a longer one does not fit into the address of a request.
const MOST_CHARS: usize = 1024;

/// A label selector, such as `team=kyc` or `sharding.fluxcd.io/key in (one, two)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector(String);

/// The text is not a [`Selector`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "write a label selector as for kubectl, such as team=kyc, team!=kyc, team, !team, or team in (kyc, hr), separated by \
     commas"
)]
pub struct InvalidSelector;

impl Selector {
    /// The selector as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Selector {
    type Err = InvalidSelector;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let fits = text.len() <= MOST_CHARS
            && requirements(text).is_some_and(|all| all.into_iter().all(is_requirement));
        if fits { Ok(Self(text.to_owned())) } else { Err(InvalidSelector) }
    }
}

/// The requirements of a selector: what commas outside of parentheses separate. Nothing if parentheses do not match.
fn requirements(text: &str) -> Option<Vec<&str>> {
    let (mut found, mut start, mut is_inside) = (Vec::new(), 0, false);
    for (index, character) in text.char_indices() {
        match character {
            '(' if is_inside => return None,
            '(' => is_inside = true,
            ')' if !is_inside => return None,
            ')' => is_inside = false,
            ',' if !is_inside => {
                found.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    found.push(&text[start..]);
    (!is_inside).then_some(found)
}

fn is_requirement(text: &str) -> bool {
    let text = text.trim();
    if let Some(key) = text.strip_prefix('!') {
        return is_key(key.trim());
    }
    if let Some(inside) = text.strip_suffix(')') {
        let Some((before, values)) = inside.split_once('(') else { return false };
        let mut words = before.split_whitespace();
        let (Some(key), Some("in" | "notin"), None) = (words.next(), words.next(), words.next()) else {
            return false;
        };
        return is_key(key) && values.split(',').all(|value| is_value(value.trim()));
    }
    let operators = ["!=", "==", "="];
    match operators.iter().find_map(|operator| text.split_once(operator)) {
        None => is_key(text),
        Some((key, value)) => is_key(key.trim()) && is_value(value.trim()),
    }
}

/// A label's key: a name, perhaps after a DNS subdomain and a slash.
fn is_key(text: &str) -> bool {
    let (prefix, name) = text.split_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
    let is_prefix = |prefix: &str| {
        prefix.len() <= 253
            && prefix.split('.').all(|label| {
                is_value(label)
                    && !label.is_empty()
                    && !label.contains(|c: char| c == '_' || c.is_ascii_uppercase())
            })
    };
    !name.is_empty() && is_value(name) && prefix.is_none_or(is_prefix)
}

/// A label's value, which may be empty: letters, digits, and between them dashes, underscores and dots.
fn is_value(text: &str) -> bool {
    let is_end = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && is_end(bytes.first())
        && is_end(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_has_the_syntax_of_kubectl() {
        for text in [
            "team",
            "!team",
            "! team",
            "team=kyc",
            "team==kyc",
            "team!=kyc",
            " team = kyc ,tier != a.b_c-D",
            "team=",
            "sharding.fluxcd.io/key=shard1",
            "!sharding.fluxcd.io/key",
            "team in (kyc,hr)",
            "team notin ( kyc , hr ),tier",
            "team in (kyc)",
        ] {
            assert_eq!(text.parse::<Selector>().map(|found| found.0), Ok(text.trim().to_owned()), "{text}");
        }
        for text in [
            "",
            " ",
            ",",
            "team,",
            "=kyc",
            "team!==kyc",
            "team===kyc",
            "team! =kyc",
            "team=k yc",
            "team in kyc",
            "team in (kyc",
            "team in kyc)",
            "team in ((kyc))",
            "team into (kyc)",
            "in (kyc)",
            "-team",
            "team=-kyc",
            "/team",
            "a/b/c",
            "A_b/team",
            "team=ünï",
            "team=a&watch=false",
            &format!("team={}", "a".repeat(64)),
            &format!("team in ({})", "a,".repeat(1000)),
        ] {
            assert_eq!(text.parse::<Selector>(), Err(InvalidSelector), "{text}");
        }
    }
}
