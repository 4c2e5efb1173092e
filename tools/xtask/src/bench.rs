//! `cargo xtask bench`: measures the figures that this project promises. Starts processes.

mod api_server;
mod arrivals;
mod burst;
mod crowd;
mod evidence;
mod fake;
mod harness;
mod large;
mod load;
mod number;
mod operator;
mod pending;
mod person;
mod population;
mod portal;
mod prometheus;
mod responses;
mod result;
mod schedule;
mod session;
mod store;
mod tenants;
mod upload;
mod webhook;
mod writes;

use std::process::ExitCode;
use std::thread::available_parallelism;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use control_plane::Progress;

pub(crate) use self::fake::{Fake, run as fake};
use self::result::{BenchResult, Table};
use crate::cargo::{build, exit_code, run as run_command};
use crate::out;

/// Measures what the operator costs and compares it with the goals.
///
/// Prints one table: what was measured, the goal, and whether it is met. Lines without a goal explain the others. Exits
/// with status 1 if a goal is missed. Everything runs on this machine, in optimized builds. Other load distorts the
/// results, so run nothing else on the machine. docs/performance.md describes each measurement.
#[derive(Debug, clap::Args)]
#[command(after_help = "One:  cargo xtask bench schedule    takes seconds once it is built
All:  cargo xtask bench             takes about twenty minutes")]
pub(crate) struct Arguments {
    /// What to measure [default: everything]
    what: Option<Bench>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Bench {
    /// Requests and delay of the polling schedule, simulated for 20,000 people.
    Schedule,
    /// Memory of the operator with 100,000 live Verifications (Linux).
    Memory,
    /// CPU time and delay with 100,000 live Verifications, each polled every 30 s (Linux).
    Polls,
    /// Memory of the operator while 1,000 large responses of a portal arrive at once (Linux).
    Responses,
    /// Requests to the API server per Verification, counted by a real API server.
    Writes,
    /// Time to the link and number of requests in a burst of new Verifications, compared with a minimal client.
    Burst,
    /// Time to the link in one namespace, alone and beside another namespace with a thousand Verifications or more.
    Tenants,
    /// Memory, throughput and requests while 1,000 Verifications store four images each (Linux; needs 6 GB of disk).
    Evidence,
    /// Polls, delays and processor time with notifications of the portal, and with forged ones (Linux).
    Webhook,
}

impl Bench {
    fn measure(self) -> Result<Vec<BenchResult>> {
        let progress = Progress::detect();
        match self {
            Self::Schedule => schedule::measure(progress),
            Self::Memory => load::memory(progress, &operator::program()?),
            Self::Polls => load::polls(progress, &operator::program()?),
            Self::Responses => responses::measure(progress, &operator::program()?),
            Self::Writes => writes::measure(progress, &operator::program()?),
            Self::Burst => burst::measure(progress, &operator::program()?),
            Self::Tenants => tenants::measure(progress, &operator::program()?),
            Self::Evidence => evidence::measure(progress, &operator::program()?),
            Self::Webhook => webhook::measure(progress, &operator::program()?),
        }
    }
}

pub(crate) fn run(&Arguments { what }: &Arguments) -> Result<ExitCode> {
    if cfg!(debug_assertions) {
        return run_optimized(what);
    }
    let chosen = what.as_ref().map_or(Bench::value_variants(), std::slice::from_ref);
    let cores = available_parallelism().map_or_else(|_| "unknown".to_owned(), |cores| cores.to_string());
    let mut results = vec![
        BenchResult::note("machine: cores", cores),
        BenchResult::note("machine: load average before", load()),
    ];
    for bench in chosen {
        results.extend(bench.measure()?);
    }
    out::line(Table(&results));
    Ok(if results.iter().all(BenchResult::holds) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The load average of the last minute, before anything is measured.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().filter(|load| !load.is_empty()).unwrap_or("unknown").to_owned()
}

/// Runs the same command in an optimized build, so that the fakes are not what is measured.
fn run_optimized(what: Option<Bench>) -> Result<ExitCode> {
    let mut programs = build(&["--release", "--package=xtask"])?;
    let xtask = programs.remove("xtask").context("find the built xtask")?;
    let name = what.and_then(|what| what.to_possible_value());
    let mut command = std::process::Command::new(xtask);
    command.arg("bench").args(name.iter().map(clap::builder::PossibleValue::get_name));
    Ok(exit_code(run_command(&mut command)?))
}
