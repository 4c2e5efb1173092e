//! `cargo xtask bench`: the figures that this project promises, measured. Touches processes.

mod burst;
mod cluster;
mod evidence;
mod figure;
mod load;
mod number;
mod operator;
mod owed;
mod person;
mod population;
mod portal;
mod process;
mod prometheus;
mod rig;
mod schedule;
mod session;
mod stand_in;
mod store;
mod upload;
mod writes;

use std::process::ExitCode;
use std::thread::available_parallelism;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use control_plane::Progress;

use self::figure::{Figure, Table};
pub(crate) use self::stand_in::{StandIn, run as stand_in};
use crate::cargo::{build, exit_code, run as run_command};
use crate::out;

/// Measures what the operator costs, and compares it with its goals.
///
/// Prints one table: what was measured, the goal, and whether it holds. Lines without a goal explain the others. Ends
/// with status 1 if a goal does not hold. Everything runs on this machine, in optimised builds; other load on it shows
/// in the figures, so leave it alone meanwhile. docs/performance.md says how each figure comes about.
#[derive(Debug, clap::Args)]
#[command(after_help = "Quick:  cargo xtask bench schedule    seconds, once it is built
All:    cargo xtask bench             about twenty minutes")]
pub(crate) struct Arguments {
    /// What to measure; everything without a name.
    what: Option<Bench>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Bench {
    /// Requests and delay of the polling schedule, in a simulation of 20,000 people.
    Schedule,
    /// Memory of the operator with 100,000 live verifications (Linux).
    Memory,
    /// Processor and delay with 100,000 live verifications, each looked at every 30 s (Linux).
    Polls,
    /// Requests to the API server per verification, counted by a real API server.
    Writes,
    /// Time to the link and requests in a burst of new verifications, beside the least that the API server can do.
    Burst,
    /// Memory, speed and requests while 1,000 verifications store four images each (Linux; 6 GB of disk).
    Evidence,
}

impl Bench {
    fn measure(self) -> Result<Vec<Figure>> {
        let progress = Progress::detect();
        match self {
            Self::Schedule => schedule::measure(progress),
            Self::Memory => load::memory(progress, &operator::program()?),
            Self::Polls => load::polls(progress, &operator::program()?),
            Self::Writes => writes::measure(progress, &operator::program()?),
            Self::Burst => burst::measure(progress, &operator::program()?),
            Self::Evidence => evidence::measure(progress, &operator::program()?),
        }
    }
}

pub(crate) fn run(&Arguments { what }: &Arguments) -> Result<ExitCode> {
    if cfg!(debug_assertions) {
        return run_optimised(what);
    }
    let chosen = what.as_ref().map_or(Bench::value_variants(), std::slice::from_ref);
    let cores = available_parallelism().map_or_else(|_| "unknown".to_owned(), |cores| cores.to_string());
    let mut figures =
        vec![Figure::note("machine: cores", cores), Figure::note("machine: others' load before", load())];
    for bench in chosen {
        figures.extend(bench.measure()?);
    }
    out::line(Table(&figures));
    Ok(if figures.iter().all(Figure::holds) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How many wanted to run in the last minute, before anything was measured.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().filter(|load| !load.is_empty()).unwrap_or("unknown").to_owned()
}

/// Runs the same command in an optimised build: what stands in for others here must not be what is measured.
fn run_optimised(what: Option<Bench>) -> Result<ExitCode> {
    let mut programs = build(&["--release", "--package=xtask"])?;
    let xtask = programs.remove("xtask").context("find the built xtask")?;
    let name = what.and_then(|what| what.to_possible_value());
    let mut command = std::process::Command::new(xtask);
    command.arg("bench").args(name.iter().map(clap::builder::PossibleValue::get_name));
    Ok(exit_code(run_command(&mut command)?))
}
