//! `xtask fake`: the fake store and portal of a bench, as processes of their own. Listens on the loopback interface.
//!
//! In the process of the bench a fake would share CPU time and memory with the plain loop that is measured there.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use control_plane::process::{Child, Command, Lifeline};
use okid_sandbox::{Sandbox, Verdict};
use tokio::runtime::Runtime;

use super::store;
use crate::interrupt::interruption;
use crate::out;

/// The beginning of its first line, before the address.
const LISTENING: &str = "listening on ";
const WITHIN: Duration = Duration::from_secs(15);

/// Runs a fake for a bench until SIGTERM or Ctrl-C.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Fake {
    /// An S3 server.
    Store {
        /// Folder of its buckets.
        folder: PathBuf,
    },
    /// A portal whose sessions are all verified.
    Portal {
        /// The API key that it accepts.
        key: String,
        /// Number of sessions.
        sessions: usize,
        /// Size of each image in bytes.
        image_bytes: usize,
    },
}

pub(crate) fn run(fake: &Fake) -> Result<ExitCode> {
    runtime()?.block_on(async {
        let interruption = interruption()?;
        match fake {
            Fake::Store { folder } => {
                out::line(format_args!("{LISTENING}{}", store::start(folder).await?));
                interruption.await;
            }
            Fake::Portal { key, sessions, image_bytes } => {
                let builder = Sandbox::builder().key(key).records(0).image_bytes(*image_bytes);
                let sandbox = builder.try_start().await.context("start the sandbox portal")?;
                for id in sandbox.seed(*sessions) {
                    sandbox.finish(&id, Verdict::Verified).context("verify a session")?;
                }
                out::line(format_args!("{LISTENING}{}", sandbox.address()));
                interruption.await;
                sandbox.stop().await;
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// A running fake. Dropping it kills the process.
pub(super) struct FakeProcess {
    pub(super) address: SocketAddr,
    _process: Child,
}

impl FakeProcess {
    /// Starts a fake by running this program, and waits until it listens.
    pub(super) fn start(arguments: &[&str], folder: &Path, needs: Option<Lifeline>) -> Result<Self> {
        let mut command =
            Command::new(std::env::current_exe().context("find this program")?).arg("fake").args(arguments);
        if let Some(needs) = needs {
            command = command.needs(needs);
        }
        let name = arguments.first().copied().unwrap_or_default();
        let process = command.start(folder.join(format!("{name}.log")))?;
        let line = process.wait_for_line(LISTENING, WITHIN)?;
        let address = line.split(LISTENING).last().unwrap_or_default();
        let address = address.parse().context("read the address of the fake")?;
        Ok(Self { address, _process: process })
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// A runtime with as many threads as the operator has.
pub(super) fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("start tokio's runtime")
}
