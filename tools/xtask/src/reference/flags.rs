//! `docs/reference/flags.md`: the flags and environment variables of `okid-operator run`. Pure.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use clap::{Arg, ArgAction, CommandFactory as _};
use okid_operator::settings::CommandLine;

use super::{GENERATED, code};

/// The page.
pub(crate) fn page() -> Result<String> {
    let mut command = CommandLine::command();
    // Arguments know their value names only once the command is built.
    command.build();
    let run = command.find_subcommand("run").context("find the subcommand run")?;
    let mut page = format!("{GENERATED}\n\n# Flags and environment variables\n\n");
    writeln!(
        page,
        "The settings of `okid-operator run`. Each flag can also be set by an environment variable. If both are set, the flag \
         wins. An environment variable that is set but empty counts as not set. Durations are written as hours, minutes and \
         seconds, such as `90s`, `5m` or `1h30m`."
    )?;
    let mut heading = None;
    for flag in run.get_arguments().filter(|flag| flag.get_help_heading().is_some()) {
        if flag.get_help_heading() != heading {
            heading = flag.get_help_heading();
            writeln!(page, "\n## {}", heading.unwrap_or_default())?;
        }
        write_flag(&mut page, flag)?;
    }
    Ok(page)
}

fn write_flag(page: &mut String, flag: &Arg) -> Result<()> {
    let name = flag.get_long().context("name a flag")?;
    let variable = flag.get_env().context("name the variable of a flag")?.to_string_lossy();
    let mut facts = vec![format!("Environment: {}", code(&variable))];
    if matches!(flag.get_action(), ArgAction::SetTrue) {
        facts.push("value: none, or `true` and `false` in the environment".to_owned());
    } else {
        let values: Vec<_> = flag.get_possible_values().iter().map(|value| code(value.get_name())).collect();
        let value_name = flag.get_value_names().and_then(<[_]>::first).map_or("", |name| name.as_str());
        facts.push(if values.is_empty() {
            format!("value: {value_name}")
        } else {
            format!("value: {}", values.join(", "))
        });
        let defaults: Vec<_> =
            flag.get_default_values().iter().map(|value| code(&value.to_string_lossy())).collect();
        if !defaults.is_empty() {
            facts.push(format!("default: {}", defaults.join(", ")));
        }
    }
    let help = flag.get_long_help().or(flag.get_help()).context("describe a flag")?.to_string();
    let help = help.trim_end_matches('.');
    writeln!(page, "\n### --{name}\n\n{help}.\n\n{}.", facts.join("; "))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_is_on_the_page_with_its_variable_and_default() {
        let page = page().unwrap();
        let command = CommandLine::command();
        let flags: Vec<_> = command.find_subcommand("run").unwrap().get_arguments().collect();
        assert!(flags.len() > 15);
        for flag in flags {
            assert!(page.contains(&format!("### --{}\n", flag.get_long().unwrap())), "{flag}");
            assert!(page.contains(&code(flag.get_env().unwrap().to_str().unwrap())), "{flag}");
        }
        assert!(page.contains("default: `60s`") && page.contains("`unredacted`, `front`, `back`"), "{page}");
    }
}
