//! How the command line and the environment are read: a variable that is empty is unset, what stands in a list is trimmed,
//! and a value that cannot be used is named with the variable that it came from.

use std::{ffi::OsStr, process::ExitCode};

use clap::{
    Arg, ArgMatches, Command as Clap, CommandFactory as _, FromArgMatches as _,
    builder::{EnumValueParser, PossibleValue, Resettable, StringValueParser, TypedValueParser},
    error::{ContextKind, ContextValue},
    parser::ValueSource,
};

use super::{Command, CommandLine, ForbiddenImage};

impl CommandLine {
    /// Reads the arguments of this process and its environment.
    ///
    /// # Errors
    ///
    /// The status to end with, after the usage, the help, or what is wrong was printed.
    pub fn read() -> Result<Self, ExitCode> {
        let mut command = without_empty_variables(Self::command());
        // An argument cannot be named before.
        command.build();
        let read = command.clone().try_get_matches();
        let read = read.and_then(|matches| {
            let mut line = Self::from_arg_matches(&matches)?;
            if let (Command::Run(run), Some(("run", matches))) = (&mut line.command, matches.subcommand()) {
                run.variables = variables(&command, matches);
            }
            Ok(line)
        });
        read.map_err(|error| {
            // There is nobody to tell if this fails.
            let _ = error.print();
            if let Some(variable) = variable_of(&command, &error) {
                eprintln!("\nthe value is that of the environment variable {variable}");
            }
            u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
        })
    }
}

/// The command line without the variables that are empty.
fn without_empty_variables(command: Clap) -> Clap {
    let unset = |argument: Arg| {
        let is_empty = argument.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
        if is_empty { argument.env(Resettable::Reset) } else { argument }
    };
    command.mut_subcommand("run", |run| run.mut_args(unset))
}

fn arguments(command: &Clap) -> impl Iterator<Item = &Arg> {
    command.find_subcommand("run").into_iter().flat_map(Clap::get_arguments)
}

/// The variables that a value was taken from.
fn variables(command: &Clap, matches: &ArgMatches) -> Vec<String> {
    let is_used =
        |argument: &&Arg| matches.value_source(argument.get_id().as_str()) == Some(ValueSource::EnvVariable);
    let name = |argument: &Arg| argument.get_env().map(|name| name.to_string_lossy().into_owned());
    arguments(command).filter(is_used).filter_map(name).collect()
}

/// The variable that an unusable value came from, if it was none of the arguments.
fn variable_of(command: &Clap, error: &clap::Error) -> Option<String> {
    let Some(ContextValue::String(named)) = error.get(ContextKind::InvalidArg) else { return None };
    let argument = arguments(command).find(|argument| argument.to_string() == *named)?;
    let variable = argument.get_env().filter(|variable| std::env::var_os(variable).is_some())?;
    let flag = format!("--{}", argument.get_long()?);
    let is_flag = |given: &String| {
        given.strip_prefix(&flag).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    };
    let is_given = std::env::args_os().any(|given| is_flag(&given.to_string_lossy().into_owned()));
    (!is_given).then(|| variable.to_string_lossy().into_owned())
}

/// Takes the entries of a list, each without spaces around it.
pub(super) fn trimmed() -> impl TypedValueParser<Value = String> {
    StringValueParser::new().map(|entry| entry.trim().to_owned())
}

/// The same of a list of kinds of images.
#[derive(Clone, Debug)]
pub(super) struct Image(EnumValueParser<ForbiddenImage>);

impl Image {
    pub(super) fn new() -> Self {
        Self(EnumValueParser::new())
    }
}

impl TypedValueParser for Image {
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
