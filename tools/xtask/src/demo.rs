//! `cargo xtask demo`: one Verification from start to finish, with real processes. Starts processes.

mod environment;
mod evidence;
mod programs;
mod watch;

use std::pin::pin;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use okid_operator::api::VerificationStatus;

use self::environment::{Environment, Person};
use self::watch::{Line, Watch};
use crate::control_plane::print_exports;
use crate::interrupt::{interruption, runtime};
use crate::out;

/// The Verification of `examples/evidence-named-store.yaml`.
const NAME: &str = "frida";
/// A scripted person takes far less.
const DONE_WITHIN: Duration = Duration::from_mins(3);
const CHECK_INTERVAL: Duration = Duration::from_millis(200);

/// Show a Verification from `kubectl apply` to the verdict.
///
/// Builds what is missing, starts an API server, the sandbox portal and the operator, applies the examples, and lets a
/// scripted person complete the check. Prints each change of the resource and finally the stored evidence. Takes about half
/// a minute once everything is built, and removes everything at the end.
#[derive(Debug, clap::Args)]
#[command(after_help = "By hand:  cargo xtask demo --stay
          then open the printed link in a browser, and paste the two export lines into another terminal")]
pub(crate) struct Arguments {
    /// How the Verification ends.
    #[arg(long, value_enum, default_value_t = Outcome::Verified)]
    outcome: Outcome,
    /// Complete the check yourself in a browser; everything runs until Ctrl-C.
    #[arg(long, conflicts_with = "outcome")]
    stay: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Outcome {
    /// The person is verified.
    Verified,
    /// The person is rejected.
    Rejected,
    /// The session expires before the person is done.
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
    let environment = Environment::start(person.as_ref())?;
    let shown = runtime()?.block_on(async {
        // Until here, Ctrl-C ends this process, and the supervisors stop the others.
        let mut interruption = pin!(interruption()?);
        if stay {
            print_exports(&environment.kubeconfig_path(), environment.kubectl_path());
        }
        tokio::select! {
            biased;
            () = &mut interruption => return Ok(Shown::Interrupted),
            over = show(&environment, stay) => over?,
        }
        out::print(format_args!("\n{}", environment.store.tree()?));
        print_table(&environment).await?;
        if stay {
            eprintln!("# evidence: {}", environment.store.folder.display());
            eprintln!("# everything keeps running; Ctrl-C stops it");
            interruption.await;
            return Ok(Shown::Interrupted);
        }
        anyhow::Ok(Shown::Done)
    });
    let shown = shown.map_err(|error| environment.explain(error))?;
    let phase = match shown {
        Shown::Interrupted => None,
        Shown::Done => Some(environment.phase(NAME)?),
    };
    eprintln!("stopping");
    environment.stop()?;
    match phase {
        None => Ok(ExitCode::SUCCESS),
        Some(phase) if phase == outcome.phase() => {
            out::line(phase);
            Ok(ExitCode::SUCCESS)
        }
        Some(phase) => bail!("the Verification is {phase} and should be {}", outcome.phase()),
    }
}

/// How the demo ended.
enum Shown {
    Done,
    Interrupted,
}

/// Prints each change of the Verification until it is settled.
async fn show(environment: &Environment, stay: bool) -> Result<()> {
    let mut watch = Watch::start(environment.kubectl())?;
    environment.apply_examples()?;
    let settled = async {
        let mut last = None;
        let mut invited = false;
        while let Some(status) = watch.next().await? {
            let line = Line::of(&status);
            if last.as_ref() != Some(&line) {
                out::line(format_args!("{:6.1} s  {line}", environment.age().as_secs_f64()));
                last = Some(line);
            }
            if stay
                && !invited
                && let Some(link) = &status.portal_url
            {
                out::line(format_args!("open {link}\nand complete the check; Ctrl-C stops everything"));
                invited = true;
            }
            if is_settled(&status) {
                return Ok(());
            }
        }
        bail!("the watch of kubectl ended before the Verification was settled")
    };
    let limit =
        async { if stay { std::future::pending().await } else { tokio::time::sleep(DONE_WITHIN).await } };
    tokio::select! {
        settled = settled => settled,
        ended = process_exit(environment) => ended,
        () = limit => bail!("the Verification was not settled after {} s", DONE_WITHIN.as_secs()),
    }
}

fn is_settled(status: &VerificationStatus) -> bool {
    status.settled
}

/// Fails when a process has exited that should run.
async fn process_exit(environment: &Environment) -> Result<()> {
    loop {
        tokio::time::sleep(CHECK_INTERVAL).await;
        environment.check()?;
    }
}

async fn print_table(environment: &Environment) -> Result<()> {
    let mut kubectl = tokio::process::Command::from(environment.kubectl());
    kubectl.args(["get", "verifications", "--output", "wide"]).stderr(Stdio::inherit());
    let table = kubectl.output().await.context("run kubectl get")?;
    if !table.status.success() {
        bail!("kubectl get exited with {}", table.status);
    }
    out::line(format_args!("\n{}", String::from_utf8_lossy(&table.stdout)));
    Ok(())
}
