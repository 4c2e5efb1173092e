//! `cargo xtask demo`: the whole way of one verification, on a stage of real processes. Touches processes.

mod evidence;
mod programs;
mod stage;
mod watch;

use std::pin::pin;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use okid_operator::api::VerificationStatus;

use self::stage::{Person, Stage};
use self::watch::{Line, Watch};
use crate::control_plane::print_exports;
use crate::interrupt::{interruption, runtime};
use crate::out;

/// The verification of `examples/evidence-named-store.yaml`.
const NAME: &str = "frida";
/// Far more than a person on a script takes.
const OVER_WITHIN: Duration = Duration::from_mins(3);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Shows a verification from `kubectl apply` to the verdict.
///
/// Builds what is missing, starts an API server, the sandbox portal and the operator, applies the examples, and lets a
/// scripted person walk through the portal. Prints each change of the resource and, when it is over, what is kept as
/// evidence: after about half a minute, once everything is built. Nothing is left behind.
#[derive(Debug, clap::Args)]
#[command(after_help = "By hand:  cargo xtask demo --stay
          then open the link it prints in a browser, and paste its two export lines into another terminal")]
pub(crate) struct Arguments {
    /// How the verification ends.
    #[arg(long, value_enum, default_value_t = Outcome::Verified)]
    outcome: Outcome,
    /// Without a scripted person: you go through the portal, and everything runs until Ctrl-C.
    #[arg(long, conflicts_with = "outcome")]
    stay: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Outcome {
    /// The person is verified.
    Verified,
    /// The person is rejected.
    Rejected,
    /// The person is too slow, and the session expires.
    Expired,
}

impl Outcome {
    fn phase(self) -> &'static str {
        match self {
            Self::Verified => "Verified",
            Self::Rejected => "Rejected",
            Self::Expired => "Expired",
        }
    }

    fn person(self) -> Person {
        match self {
            Self::Verified => Person { verdict: "verified", pace: "4s", expiry: "1h" },
            Self::Rejected => Person { verdict: "rejected", pace: "4s", expiry: "1h" },
            Self::Expired => Person { verdict: "verified", pace: "8s", expiry: "20s" },
        }
    }
}

pub(crate) fn run(&Arguments { outcome, stay }: &Arguments) -> Result<ExitCode> {
    let person = (!stay).then(|| outcome.person());
    let stage = Stage::set(person.as_ref())?;
    let shown = runtime()?.block_on(async {
        // Until here, Ctrl-C ends this process, and the watchers of the others end them.
        let mut interruption = pin!(interruption()?);
        if stay {
            print_exports(&stage.kubeconfig_path(), stage.kubectl_path());
        }
        tokio::select! {
            biased;
            () = &mut interruption => return Ok(Shown::Interrupted),
            over = show(&stage, stay) => over?,
        }
        out::print(format_args!("\n{}", stage.store.tree()?));
        print_table(&stage).await?;
        if stay {
            eprintln!("# the evidence: {}", stage.store.folder.display());
            eprintln!("# everything still runs; Ctrl-C ends it");
            interruption.await;
            return Ok(Shown::Interrupted);
        }
        anyhow::Ok(Shown::Over)
    });
    let shown = shown.map_err(|error| stage.explain(error))?;
    let phase = match shown {
        Shown::Interrupted => None,
        Shown::Over => Some(stage.phase(NAME)?),
    };
    eprintln!("ending");
    stage.clear()?;
    match phase {
        None => Ok(ExitCode::SUCCESS),
        Some(phase) if phase == outcome.phase() => {
            out::line(phase);
            Ok(ExitCode::SUCCESS)
        }
        Some(phase) => bail!("the verification is {phase}, and should be {}", outcome.phase()),
    }
}

/// How the show ended.
enum Shown {
    Over,
    Interrupted,
}

/// Prints each change of the verification until it is over.
async fn show(stage: &Stage, stay: bool) -> Result<()> {
    let mut watch = Watch::start(stage.kubectl())?;
    stage.apply_examples()?;
    let over = async {
        let mut last = None;
        let mut invited = false;
        while let Some(status) = watch.next().await? {
            let line = Line::of(&status);
            if last.as_ref() != Some(&line) {
                out::line(format_args!("{:6.1} s  {line}", stage.age().as_secs_f64()));
                last = Some(line);
            }
            if stay
                && !invited
                && let Some(link) = &status.portal_url
            {
                out::line(format_args!("open {link}\nand click through it; Ctrl-C ends everything"));
                invited = true;
            }
            if is_over(&status) {
                return Ok(());
            }
        }
        bail!("kubectl's watch ended before the verification was over")
    };
    let limit =
        async { if stay { std::future::pending().await } else { tokio::time::sleep(OVER_WITHIN).await } };
    tokio::select! {
        over = over => over,
        ended = a_process_ends(stage) => ended,
        () = limit => bail!("the verification was not over within {} s", OVER_WITHIN.as_secs()),
    }
}

fn is_over(status: &VerificationStatus) -> bool {
    status.settled
}

/// Returns, with an error, when a process that should run does not run any more.
async fn a_process_ends(stage: &Stage) -> Result<()> {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        stage.check()?;
    }
}

async fn print_table(stage: &Stage) -> Result<()> {
    let mut kubectl = tokio::process::Command::from(stage.kubectl());
    kubectl.args(["get", "verifications", "--output", "wide"]).stderr(Stdio::inherit());
    let table = kubectl.output().await.context("run kubectl get")?;
    if !table.status.success() {
        bail!("kubectl get ended with {}", table.status);
    }
    out::line(format_args!("\n{}", String::from_utf8_lossy(&table.stdout)));
    Ok(())
}
