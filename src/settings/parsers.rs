//! Parsers of flags that are lists. Spaces around an entry are dropped.

use std::ffi::OsStr;

use clap::{
    Arg, Command as Clap,
    builder::{EnumValueParser, PossibleValue, StringValueParser, TypedValueParser},
};

use super::values::{ForbiddenImage, Namespace};

/// Parses the entries of a list, without the spaces around them.
pub(super) fn trimmed() -> impl TypedValueParser<Value = String> {
    StringValueParser::new().map(|entry| entry.trim().to_owned())
}

/// Parses the entries of a list of namespaces. A list may end with a comma, so an entry may be empty.
pub(super) fn namespaces() -> impl TypedValueParser<Value = Option<Namespace>> {
    trimmed().try_map(|entry| if entry.is_empty() { Ok(None) } else { entry.parse().map(Some) })
}

/// Parses the entries of a list of image kinds, without the spaces around them.
#[derive(Clone, Debug)]
pub(super) struct ImageParser(EnumValueParser<ForbiddenImage>);

impl ImageParser {
    pub(super) fn new() -> Self {
        Self(EnumValueParser::new())
    }
}

impl TypedValueParser for ImageParser {
    type Value = ForbiddenImage;

    fn parse_ref(
        &self,
        command: &Clap,
        argument: Option<&Arg>,
        value: &OsStr,
    ) -> Result<Self::Value, clap::Error> {
        let text = value.to_string_lossy();
        self.0.parse_ref(command, argument, OsStr::new(text.trim()))
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        self.0.possible_values()
    }
}
