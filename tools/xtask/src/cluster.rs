//! `cargo xtask cluster`: a Kubernetes cluster in the background. Starts processes.
//!
//! A process of its own, the keeper, holds the cluster. `up` starts it and `down` ends it. The keeper holds a lock for as long
//! as it lives, so that no two clusters have one name, and so that its end is noticed however it ends.

use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Subcommand;
use control_plane::Progress;
use control_plane::cluster::{self, Cluster, ClusterPrograms, missing_packages};
use serde::{Deserialize, Serialize};

use crate::cargo::run as run_command;
use crate::control_plane::print_exports;
use crate::interrupt::{interruption, runtime};

/// More than the sum of what a start waits for.
const READY_WITHIN: Duration = Duration::from_mins(15);
const ENDED_WITHIN: Duration = Duration::from_mins(2);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Run a Kubernetes cluster with one node in the background, without Docker.
///
/// Pods run in it, and images are loaded from archives (`cargo xtask image`). It needs Linux, root, and a few Debian packages,
/// which `up` installs with apt. It lives in namespaces of its own: when it ends, even if it is killed, nothing is left.
#[derive(Debug, clap::Args)]
#[command(after_help = "Try it:
  cargo xtask cluster up
  cargo xtask image sandbox
  cargo xtask cluster load target/image/okid-sandbox.tar
  cargo xtask cluster down

This machine reaches the node at the address of the API server, and Services there by their NodePort.
NetworkPolicies are not enforced.")]
pub(crate) struct Arguments {
    /// Which cluster; several can run at once.
    #[arg(long, global = true, default_value = "okid")]
    name: String,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Start the cluster, and print how to reach it. The first time, its programs are built, which takes about 15 minutes.
    Up,
    /// Load an image from an archive into the cluster.
    Load {
        /// The archive, in the format of OCI or Docker.
        archive: PathBuf,
    },
    /// End the cluster.
    Down,
    /// Hold the cluster until SIGTERM.
    #[command(hide = true)]
    Keep,
}

/// What the keeper writes for the other commands once the cluster is ready.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    folder: PathBuf,
    kubeconfig: PathBuf,
}

pub(crate) fn run(Arguments { name, action }: &Arguments) -> Result<ExitCode> {
    let files = Files::of(name)?;
    match action {
        Action::Up => up(&files),
        Action::Load { archive } => load(&files, archive),
        Action::Down => down(&files),
        Action::Keep => keep(&files),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// Checks that this machine can run a cluster, and installs the packages that it lacks.
pub(crate) fn prepare() -> Result<()> {
    ensure!(cfg!(target_os = "linux"), "a cluster needs Linux; elsewhere, use kind");
    let owner = fs::metadata("/proc/self").context("read the owner of this process")?.uid();
    ensure!(owner == 0, "a cluster needs root: it creates namespaces and mounts");
    install(&missing_packages())?;
    let namespaces = ["--mount", "--net", "--pid", "--fork", "true"];
    let status = Command::new("unshare").args(namespaces).status().context("run unshare")?;
    ensure!(status.success(), "a cluster needs namespaces and mounts, and root may not create them here");
    Ok(())
}

fn up(files: &Files) -> Result<()> {
    prepare()?;
    let programs = ClusterPrograms::find_or_build(Progress::detect())?;
    if files.is_held()? {
        eprintln!("a cluster runs already");
    } else {
        start(files)?;
    }
    let state = files.state()?.context("the cluster has just ended")?;
    print_exports(&state.kubeconfig, &programs.control_plane.kubectl);
    eprintln!("# `cargo xtask cluster down` ends it");
    Ok(())
}

/// Installs Debian packages.
fn install(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let packages = packages.join(" ");
    if !Path::new("/usr/bin/apt-get").is_file() {
        bail!("a cluster needs the programs of the Debian packages {packages}: install them first");
    }
    let commands = [vec!["update"], vec!["install", "--yes", "--no-install-recommends"]];
    for (index, mut arguments) in commands.into_iter().enumerate() {
        if index == 1 {
            arguments.extend(packages.split(' '));
        }
        let status = run_command(
            Command::new("apt-get").arg("-qq").args(&arguments).env("DEBIAN_FRONTEND", "noninteractive"),
        )?;
        ensure!(status.success(), "apt-get exited with {status}");
    }
    Ok(())
}

/// Starts the keeper, and waits until its cluster is ready.
fn start(files: &Files) -> Result<()> {
    files.forget()?;
    let log = File::create(files.log()).with_context(|| format!("write {}", files.log().display()))?;
    let program = std::env::current_exe().context("find this program")?;
    let mut keeper = Command::new(program)
        .args(["cluster", "keep", "--name"])
        .arg(files.name())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .process_group(0)
        .spawn()
        .context("start the process that holds the cluster")?;
    let mut task = Progress::detect().start("starting the cluster (about 15 seconds)".into());
    let since = Instant::now();
    while files.state()?.is_none() {
        if let Some(status) = keeper.try_wait().context("wait for the cluster")? {
            task.end("failed");
            let log = fs::read_to_string(files.log()).unwrap_or_default();
            bail!("the cluster did not start ({status}):\n{}", log.trim_end());
        }
        if since.elapsed() >= READY_WITHIN {
            task.end("failed");
            bail!("the cluster was not ready within {} s", READY_WITHIN.as_secs());
        }
        task.tick();
        sleep(POLL_INTERVAL);
    }
    task.end("done");
    Ok(())
}

fn load(files: &Files, archive: &Path) -> Result<()> {
    let state = files.running()?;
    let programs = ClusterPrograms::find_or_build(Progress::detect())?;
    cluster::load(&programs, &state.folder, archive)?;
    Ok(())
}

/// Ends the keeper, also while it starts the cluster. Waits until its lock is free and the folder of its cluster is gone.
fn down(files: &Files) -> Result<()> {
    let folder = files.state()?.map(|state| state.folder);
    if files.is_held()? {
        let status =
            Command::new("kill").args(["-s", "TERM", &files.keeper()?]).status().context("run kill")?;
        ensure!(status.success(), "kill exited with {status}");
    } else {
        eprintln!("no cluster runs");
    }
    let since = Instant::now();
    while files.is_held()? || folder.as_ref().is_some_and(|folder| folder.exists()) {
        ensure!(
            since.elapsed() < ENDED_WITHIN,
            "the cluster did not end within {} s",
            ENDED_WITHIN.as_secs()
        );
        sleep(POLL_INTERVAL);
    }
    files.forget()
}

fn keep(files: &Files) -> Result<()> {
    let _lock = files.hold()?;
    let programs = ClusterPrograms::find_or_build(Progress::Lines)?;
    let cluster = Cluster::start(&programs, &[])?;
    // Until signals are handled here, the supervisors end the cluster.
    runtime()?.block_on(async {
        let interruption = interruption()?;
        files.write(&State { folder: cluster.folder().to_owned(), kubeconfig: cluster.kubeconfig_path() })?;
        interruption.await;
        anyhow::Ok(())
    })?;
    cluster.stop()?;
    files.forget()
}

/// The files that the commands share, in the user's cache folder.
struct Files {
    folder: PathBuf,
}

impl Files {
    fn of(name: &str) -> Result<Self> {
        let folder = control_plane::cache_folder()?.join("cluster").join(name);
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        Ok(Self { folder })
    }

    fn name(&self) -> &OsStr {
        self.folder.file_name().unwrap_or_default()
    }

    fn state_path(&self) -> PathBuf {
        self.folder.join("state.json")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    fn lock_path(&self) -> PathBuf {
        self.folder.join("lock")
    }

    fn lock(&self) -> Result<File> {
        let path = self.lock_path();
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        file.with_context(|| format!("write {}", path.display()))
    }

    /// Takes the lock until the file is closed, and writes the id of this process into it.
    fn hold(&self) -> Result<File> {
        let mut file = self.lock()?;
        file.try_lock().context("a cluster runs already")?;
        file.set_len(0)
            .and_then(|()| write!(file, "{}", std::process::id()))
            .with_context(|| format!("write {}", self.lock_path().display()))?;
        Ok(file)
    }

    /// The process id of the keeper, if it lives.
    fn keeper(&self) -> Result<String> {
        let path = self.lock_path();
        fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    }

    /// Whether a keeper lives.
    fn is_held(&self) -> Result<bool> {
        match self.lock()?.try_lock() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error).context("lock the cluster"),
        }
    }

    /// Written under another name first, so that it is never incomplete.
    fn write(&self, state: &State) -> Result<()> {
        let partial = self.folder.join("state.partial");
        fs::write(&partial, serde_json::to_string(state)?)
            .and_then(|()| fs::rename(&partial, self.state_path()))
            .with_context(|| format!("write {}", self.state_path().display()))
    }

    /// `None` if no cluster is ready.
    fn state(&self) -> Result<Option<State>> {
        match fs::read(self.state_path()) {
            Ok(content) => {
                serde_json::from_slice(&content).map(Some).context("read the state of the cluster")
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("read {}", self.state_path().display())),
        }
    }

    fn running(&self) -> Result<State> {
        let state = if self.is_held()? { self.state()? } else { None };
        state.context("no cluster is ready: `cargo xtask cluster up` starts one")
    }

    fn forget(&self) -> Result<()> {
        match fs::remove_file(self.state_path()) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("remove {}", self.state_path().display()))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}
