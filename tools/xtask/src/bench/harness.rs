//! The real operator between a fake API server and a fake portal, with up to 100,000 live Verifications. Starts processes.

use std::path::Path;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use control_plane::Progress;
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::api_server::FakeApiServer;
use super::fake::runtime;
use super::operator::{Operator, Run};
use super::population::Population;
use super::portal::{Port, Portal};
use super::session::allowed;

/// `bench-key` in base64.
const KEY: &str = "YmVuY2gta2V5";
/// The age of the sessions at the start.
const AGE: Duration = Duration::from_mins(20);
/// How long the list, and then the first poll of every session, may take.
const FIRST_POLLS_WITHIN: Duration = Duration::from_mins(5);
const TICK: Duration = Duration::from_millis(500);

/// Everything that runs. The fields are dropped in this order.
pub(super) struct Harness {
    pub(super) operator: Operator,
    pub(super) portal: Portal,
    pub(super) api_server: FakeApiServer,
    progress: Progress,
    _runtime: Runtime,
    _folder: TempDir,
}

/// What is polled, and how the portal responds.
pub(super) struct Polling {
    /// The number of live Verifications.
    pub(super) live: u32,
    /// Both bounds of `spec.polling`; `None` for the operator's own schedule.
    pub(super) interval: Option<Duration>,
    /// How long the portal takes to respond.
    pub(super) latency: Duration,
    /// Bytes of `results` in the first response to each session. The portal holds these until all have been requested.
    pub(super) results: Option<usize>,
}

impl Harness {
    /// Starts everything, and waits until each session was polled once.
    pub(super) fn start(progress: Progress, program: &Path, what: &str, polling: &Polling) -> Result<Self> {
        Self::start_with(progress, program, what, polling, &[])
    }

    /// As [`Harness::start`], with further arguments of the operator.
    pub(super) fn start_with(
        progress: Progress,
        program: &Path,
        what: &str,
        polling: &Polling,
        further: &[String],
    ) -> Result<Self> {
        let folder = tempfile::tempdir().context("create a temporary folder")?;
        let runtime = runtime()?;
        let (api_server, portal) = runtime.block_on(async {
            let port = Port::bind().await?;
            let population = Arc::new(Population {
                portal: allowed(&port.url())?,
                live: polling.live,
                created_at: Timestamp::from_second(before_now(AGE)?)
                    .context("compute the start of the sessions")?,
                interval: polling.interval,
            });
            let api_server = FakeApiServer::start(population.clone(), KEY).await?;
            anyhow::Ok((api_server, Portal::start(port, population, polling)?))
        })?;
        let kubeconfig = folder.path().join("kubeconfig");
        let authority = folder.path().join("portal.pem");
        std::fs::write(&kubeconfig, api_server.kubeconfig()).context("write a kubeconfig")?;
        std::fs::write(&authority, portal.authority()).context("write the portal's certificate")?;
        let arguments =
            ["--portal-qps", "0", "--key-qps", "0", "--portal-ca-file", &authority.to_string_lossy()]
                .map(str::to_owned);
        let arguments = [&arguments[..], further].concat();
        let run = Run {
            kubeconfig: &kubeconfig,
            portal: &portal.url(),
            arguments: &arguments,
            folder: folder.path(),
            needs: None,
        };
        let operator = Operator::start(program, run)?;
        let harness = Self { operator, portal, api_server, progress, _runtime: runtime, _folder: folder };
        let listed = Instant::now();
        harness.wait(
            &format!("{what}: listing {} Verifications", polling.live),
            FIRST_POLLS_WITHIN,
            |harness| harness.operator.is_ready(),
        )?;
        eprintln!("{what}: listed after {:.1} s", listed.elapsed().as_secs_f64());
        harness.wait(&format!("{what}: polling each session once"), FIRST_POLLS_WITHIN, |harness| {
            Ok(harness.portal.history().polled_sessions() >= u64::from(polling.live))
        })?;
        Ok(harness)
    }

    /// Waits until a condition holds.
    pub(super) fn wait(
        &self,
        what: &str,
        within: Duration,
        holds: impl Fn(&Self) -> Result<bool>,
    ) -> Result<()> {
        let mut task = self.progress.start(what.to_owned());
        let since = Instant::now();
        while !holds(self)? {
            ensure!(since.elapsed() < within, "{what}: not done after {} s", within.as_secs());
            sleep(TICK);
            task.tick();
        }
        task.end("done");
        Ok(())
    }

    /// Lets everything run for some time, and calls `each` every half second.
    pub(super) fn run(&self, what: &str, time: Duration, mut each: impl FnMut() -> Result<()>) -> Result<()> {
        let mut task = self.progress.start(format!("{what} for {} s", time.as_secs()));
        let since = Instant::now();
        while since.elapsed() < time {
            sleep(TICK.min(time.saturating_sub(since.elapsed())));
            each()?;
            task.tick();
        }
        task.end("done");
        Ok(())
    }
}

fn before_now(age: Duration) -> Result<i64> {
    Ok(Timestamp::now().as_second()
        - i64::try_from(age.as_secs()).context("compute the start of the sessions")?)
}
