//! The real operator between two stand-ins, with a hundred thousand live verifications. Touches processes.

use std::path::Path;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use control_plane::Progress;
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::cluster::Cluster;
use super::operator::{Operator, Run};
use super::population::{LIVE, Population};
use super::portal::{Port, Portal};
use super::session::allowed;

/// `bench-key` in base 64.
const KEY: &str = "YmVuY2gta2V5";
/// How long the sessions have been there.
const AGE: Duration = Duration::from_mins(20);
/// How long the first look at everybody may take, the list included.
const KNOWN_WITHIN: Duration = Duration::from_mins(5);
const TICK: Duration = Duration::from_millis(500);

/// Everything that runs. The fields are in the order of their end.
pub(super) struct Rig {
    pub(super) operator: Operator,
    pub(super) portal: Portal,
    pub(super) cluster: Cluster,
    progress: Progress,
    _runtime: Runtime,
    _folder: TempDir,
}

/// How the portal is asked.
pub(super) struct Asked {
    /// `spec.polling`, both bounds; none for the operator's own schedule.
    pub(super) interval: Option<Duration>,
    /// How long the portal takes to answer.
    pub(super) latency: Duration,
}

impl Rig {
    /// Starts everything, and waits until each verification was looked at once.
    pub(super) fn start(progress: Progress, program: &Path, what: &str, asked: &Asked) -> Result<Self> {
        let folder = tempfile::tempdir().context("make a temporary folder")?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("start tokio's runtime")?;
        let (cluster, portal) = runtime.block_on(async {
            let port = Port::bind().await?;
            let population = Arc::new(Population {
                portal: allowed(&port.url())?,
                created_at: Timestamp::from_second(before_now(AGE)?).context("name an instant")?,
                interval: asked.interval,
            });
            let cluster = Cluster::start(population.clone(), KEY).await?;
            anyhow::Ok((cluster, Portal::start(port, population, asked.latency)?))
        })?;
        let kubeconfig = folder.path().join("kubeconfig");
        let authority = folder.path().join("portal.pem");
        std::fs::write(&kubeconfig, cluster.kubeconfig()).context("write a kubeconfig")?;
        std::fs::write(&authority, portal.authority()).context("write the portal's certificate")?;
        let arguments =
            ["--portal-qps", "0", "--key-qps", "0", "--portal-ca-file", &authority.to_string_lossy()]
                .map(str::to_owned);
        let run = Run {
            kubeconfig: &kubeconfig,
            portal: &portal.url(),
            arguments: &arguments,
            folder: folder.path(),
            needs: None,
        };
        let operator = Operator::start(program, run)?;
        let rig = Self { operator, portal, cluster, progress, _runtime: runtime, _folder: folder };
        let listed = Instant::now();
        rig.wait(&format!("{what}: listing {LIVE} verifications"), KNOWN_WITHIN, |rig| {
            rig.operator.is_ready()
        })?;
        eprintln!("{what}: listed after {:.1} s", listed.elapsed().as_secs_f64());
        rig.wait(&format!("{what}: the first look at each"), KNOWN_WITHIN, |rig| {
            Ok(rig.portal.book().known() >= u64::from(LIVE))
        })?;
        Ok(rig)
    }

    /// Waits until something holds.
    fn wait(&self, what: &str, within: Duration, holds: impl Fn(&Self) -> Result<bool>) -> Result<()> {
        let mut task = self.progress.start(what.to_owned());
        let since = Instant::now();
        while !holds(self)? {
            ensure!(since.elapsed() < within, "{what}: not done within {} s", within.as_secs());
            sleep(TICK);
            task.tick();
        }
        task.end("done");
        Ok(())
    }

    /// Lets everything run, and does something each half second.
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
    Ok(Timestamp::now().as_second() - i64::try_from(age.as_secs()).context("go back in time")?)
}
