//! Reads the command line and the environment. An empty variable counts as not set, list entries are trimmed, and an
//! error names the variable that a wrong value came from.

use std::process::ExitCode;

use clap::{
    Arg, ArgMatches, Args, Command as Clap, CommandFactory as _, FromArgMatches,
    builder::Resettable,
    error::{ContextKind, ContextValue, ErrorKind},
    parser::ValueSource,
};

use super::{CommandLine, InvalidSettings, Settings, flags::Flags};

impl CommandLine {
    /// Reads the arguments and the environment of this process.
    ///
    /// # Errors
    ///
    /// The exit code, after help, version or error was printed.
    pub fn read() -> Result<Self, ExitCode> {
        let mut command = without_empty_variables(Self::command());
        // Arguments have their display names only once the command is built.
        command.build();
        let matches = command.clone().try_get_matches();
        matches.and_then(|matches| Self::from_arg_matches(&matches)).map_err(|error| {
            // If standard error is closed, the exit code still tells.
            let _ = error.print();
            if let Some(variable) = variable_of(&command, &error) {
                eprintln!("\nThe value comes from the environment variable {variable}.");
            }
            u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
        })
    }
}

impl Args for Settings {
    fn augment_args(command: Clap) -> Clap {
        Flags::augment_args(command)
    }

    fn augment_args_for_update(command: Clap) -> Clap {
        Flags::augment_args_for_update(command)
    }
}

impl FromArgMatches for Settings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let flags = Flags::from_arg_matches(matches)?;
        let settings = Self::try_from(flags).map_err(|invalid| usage_error(&invalid))?;
        Ok(Self { variables: variables(matches), ..settings })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// An error of the command line that does not repeat the value.
fn usage_error(invalid: &InvalidSettings) -> clap::Error {
    let mut error = clap::Error::raw(ErrorKind::ValueValidation, format!("{invalid}\n"));
    error.insert(ContextKind::InvalidArg, ContextValue::String(invalid.flag().to_owned()));
    error
}

/// The command without the variables that are empty.
fn without_empty_variables(command: Clap) -> Clap {
    let unset = |argument: Arg| {
        let is_empty = argument.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
        if is_empty { argument.env(Resettable::Reset) } else { argument }
    };
    command.mut_subcommands(|subcommand| subcommand.mut_args(unset))
}

/// The variables that a value was taken from.
fn variables(matches: &ArgMatches) -> Vec<String> {
    let is_used =
        |argument: &&Arg| matches.value_source(argument.get_id().as_str()) == Some(ValueSource::EnvVariable);
    let name = |argument: &Arg| argument.get_env().map(|name| name.to_string_lossy().into_owned());
    let run = Flags::augment_args(Clap::new("run"));
    run.get_arguments().filter(is_used).filter_map(name).collect()
}

/// The variable that an unusable value came from, if it did not come from a flag.
fn variable_of(command: &Clap, error: &clap::Error) -> Option<String> {
    let Some(ContextValue::String(invalid)) = error.get(ContextKind::InvalidArg) else { return None };
    let flag = invalid.split(' ').next().and_then(|flag| flag.strip_prefix("--"))?;
    let mut arguments = command.find_subcommand("run")?.get_arguments();
    let argument = arguments.find(|argument| argument.get_long() == Some(flag))?;
    let variable = argument.get_env().filter(|variable| std::env::var_os(variable).is_some())?;
    let is_given = std::env::args_os().any(|given| {
        let given = given.to_string_lossy();
        let rest = given.strip_prefix("--").and_then(|given| given.strip_prefix(flag));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    });
    (!is_given).then(|| variable.to_string_lossy().into_owned())
}
