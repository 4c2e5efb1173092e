//! `cargo xtask e2e`: the chart in a cluster whose Pods run. Starts processes.

mod command;
mod environment;
mod idle;
mod kubelet;
mod leader;
mod namespaces;
mod outcomes;
mod portal;
mod readme;
mod release;
mod report;
mod store;
mod verification;

use std::process::ExitCode;

use anyhow::Result;

use self::environment::{Environment, Source};
use self::release::{NAMESPACE, REPLICAS};
use self::report::{Report, figure};
use self::verification::Name;
use crate::cluster;
use crate::image::{self, Built, Program, VERSION};

/// The tag of the image that the release is upgraded to. It has the same program.
const OTHER_TAG: &str = "other";
/// A Verification that has the operator's finalizer when the release is uninstalled.
const KEPT: Name<'_> = Name("default", "kept");
/// Seconds for the whole test, without the builds of the images.
const DONE_WITHIN: f64 = 480.0;

/// Install the chart in a cluster whose Pods run, and test the operator there.
///
/// Builds the images, starts a cluster, installs the chart with Helm, and runs checks with a sandbox portal and a store that
/// run as Pods. The manifests are in tests/e2e. Prints each step with its time, and figures with their goals. A figure fails
/// the test only at three times its goal, because other load on the machine distorts all of them.
#[derive(Debug, clap::Args)]
#[command(after_help = "With kind, as CI does:  cargo xtask e2e --cluster kind    (tests/kind/README.md)")]
pub(crate) struct Arguments {
    /// Where the cluster comes from.
    #[arg(long = "cluster", value_enum, default_value_t = Source::Local)]
    source: Source,
    /// Build the programs without optimization, which takes a fraction of the time.
    #[arg(long)]
    dev: bool,
    /// Where this machine cannot run a local cluster, say so and succeed.
    #[arg(long)]
    optional: bool,
}

pub(crate) fn run(&Arguments { source, dev, optional }: &Arguments) -> Result<ExitCode> {
    if source == Source::Local
        && let Err(error) = cluster::prepare()
    {
        if !optional {
            return Err(error);
        }
        eprintln!("NOT RUN: the end-to-end test (cargo xtask e2e): {error:#}");
        return Ok(ExitCode::SUCCESS);
    }
    let mut report = Report::new();
    let images = Images::build(dev)?;
    report.done("images built");
    let mut report = Report::new();
    let mut environment = Environment::start(source)?;
    report.done("cluster started");
    let result = test(&mut environment, &mut report, &images);
    if result.is_err() {
        eprintln!("{}", state(&environment));
    }
    let ended = environment.end();
    result?;
    ended?;
    report.done("cluster ended");
    figure("everything from built images", report.total().as_secs_f64(), "s", DONE_WITHIN)?;
    Ok(ExitCode::SUCCESS)
}

fn test(environment: &mut Environment, report: &mut Report, images: &Images) -> Result<()> {
    let are_loaded = images.load(environment)?;
    if are_loaded {
        report.done("images loaded");
    }
    release::install(environment, report)?;
    idle::permissions(environment, report)?;
    idle::requests(environment, report)?;
    idle::memory(environment, images.is_optimized)?;
    release::test(environment, report)?;

    release::configure(environment, report)?;
    readme::first_verification(environment, report)?;
    store::evidence_is_stored(environment, report)?;
    outcomes::each_end(environment, report)?;
    outcomes::chart_is_ready_with_the_link(environment, report)?;
    outcomes::chart_fails_on_rejected(environment, report)?;

    leader::is_replaced(environment, report)?;
    kubelet::restarts(environment, report)?;
    namespaces::are_deleted(environment, report)?;
    if are_loaded {
        release::change_image(environment, report, OTHER_TAG)?;
    } else {
        report.skipped("the upgrade to another image: images are not loaded into this cluster");
    }
    store::store_to_be_deleted(environment, KEPT)?;
    idle::memory(environment, images.is_optimized)?;
    release::uninstall(environment, report, KEPT)
}

/// The built programs of the images.
struct Images {
    operator: Built,
    sandbox: Built,
    s3_server: Built,
    is_optimized: bool,
}

impl Images {
    fn build(dev: bool) -> Result<Self> {
        Ok(Self {
            operator: image::build(Program::Operator, dev)?,
            sandbox: image::build(Program::Sandbox, dev)?,
            // Nothing of it is measured.
            s3_server: image::build(Program::S3Server, true)?,
            is_optimized: !dev,
        })
    }

    /// Writes the images and loads them, and returns whether the cluster took them.
    fn load(&self, environment: &Environment) -> Result<bool> {
        let images = [
            (Program::Operator, &[VERSION, OTHER_TAG][..], &self.operator),
            (Program::Sandbox, &[VERSION], &self.sandbox),
            (Program::S3Server, &["e2e"], &self.s3_server),
        ];
        for (program, tags, built) in images {
            let archive = environment.folder().path().join("image.tar");
            image::write(&archive, program, tags, built)?;
            if !environment.load(&archive)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// What explains a failure: Pods, Verifications, events, and the last lines of the operator's log.
fn state(environment: &Environment) -> String {
    let namespace = ["--namespace", NAMESPACE];
    let commands = [
        vec!["get", "pods", "--all-namespaces", "--output=wide"],
        vec!["get", "verifications", "--all-namespaces"],
        [&["get", "events", "--sort-by=.metadata.creationTimestamp"], &namespace[..]].concat(),
        [&["logs", REPLICAS, "--prefix", "--tail=40"], &namespace[..]].concat(),
    ];
    let outputs = commands.iter().map(|command| {
        let line = command.join(" ");
        let output = environment.kubectl(command).unwrap_or_else(|error| format!("{error:#}"));
        format!("$ kubectl {line}\n{output}")
    });
    outputs.collect::<Vec<_>>().join("\n")
}
