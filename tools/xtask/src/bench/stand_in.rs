//! `xtask stand-in`: what stands in for others in a bench, as a process of its own. Touches a port of the loopback
//! interface.
//!
//! In the process of the bench it would share its processor time and memory with what it is compared with.

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

/// What its first line begins with; its address follows.
const LISTENS: &str = "listens on ";
const WITHIN: Duration = Duration::from_secs(15);

/// Stands in for somebody else in a bench, until it is told to stop.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum StandIn {
    /// An S3 server.
    Store {
        /// Where it keeps its buckets.
        folder: PathBuf,
    },
    /// A portal with sessions that are over, all verified.
    Portal {
        /// The API key it knows.
        key: String,
        /// How many sessions.
        sessions: usize,
        /// Bytes of an image.
        image_bytes: usize,
    },
}

pub(crate) fn run(stand_in: &StandIn) -> Result<ExitCode> {
    runtime()?.block_on(async {
        let interruption = interruption()?;
        match stand_in {
            StandIn::Store { folder } => {
                println!("{LISTENS}{}", store::start(folder).await?);
                interruption.await;
            }
            StandIn::Portal { key, sessions, image_bytes } => {
                let builder = Sandbox::builder().key(key).records(0).image_bytes(*image_bytes);
                let sandbox = builder.try_start().await.context("start the sandbox portal")?;
                for id in sandbox.seed(*sessions) {
                    sandbox.finish(&id, Verdict::Verified).context("verify a session")?;
                }
                println!("{LISTENS}{}", sandbox.address());
                interruption.await;
                sandbox.stop().await;
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// A running stand-in. Dropping it kills it.
pub(super) struct Running {
    pub(super) address: SocketAddr,
    _process: Child,
}

impl Running {
    /// Starts one by this program's own command line, and waits until it listens.
    pub(super) fn start(arguments: &[&str], folder: &Path, needs: Option<Lifeline>) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe().context("find this program")?)
            .arg("stand-in")
            .args(arguments);
        if let Some(needs) = needs {
            command = command.needs(needs);
        }
        let name = arguments.first().copied().unwrap_or_default();
        let process = command.start(folder.join(format!("{name}.log")))?;
        let line = process.wait_for_line(LISTENS, WITHIN)?;
        let address = line.split(LISTENS).last().unwrap_or_default();
        let address = address.parse().context("read the address of a stand-in")?;
        Ok(Self { address, _process: process })
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// As many threads as the operator has.
pub(super) fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("start tokio's runtime")
}
