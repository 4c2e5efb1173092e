//! Finds the programs of the control plane, and builds those that are missing. Reads the environment, writes the user's
//! cache folder, and runs `go`.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use etcetera::BaseStrategy as _;
use sha2::{Digest as _, Sha256};

use crate::kubernetes::KubernetesVersion;
use crate::process::{self, ProcessError};
use crate::progress::Progress;

const MODULE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/programs");
const ASSETS: &str = "KUBEBUILDER_ASSETS";
/// The Go module for another version of Kubernetes, in the folder of its programs.
const VERSION_MODULE: &str = "module";
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// A program that can be built.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) source: Source,
    /// How long a cold build takes on two cores, to show it.
    pub(crate) duration: &'static str,
}

/// Where the source of a program is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source {
    /// In the Go module of this crate, at `cmd/NAME`, with the newest version of Kubernetes.
    Here,
    /// In another version of Kubernetes, at `cmd/NAME`.
    Kubernetes(KubernetesVersion),
    /// A package of another Go module with its version, such as `example.com/module/cmd/name@v1.0.0`. The module must have no
    /// replacements. The last part of the package's path is the name of the program.
    Module(&'static str),
    /// A package of a Go module of this repository, or of one that it requires.
    Local {
        /// The folder of the Go module.
        module: &'static str,
        /// The package: relative to the folder, or its import path.
        package: &'static str,
    },
}

const ETCD: &str = "etcd";
const KUBE_APISERVER: &str = "kube-apiserver";
const KUBECTL: &str = "kubectl";

/// The programs of a control plane. etcd is the same for every version of Kubernetes.
fn parts(version: KubernetesVersion) -> [Program; 3] {
    let source =
        if version == KubernetesVersion::NEWEST { Source::Here } else { Source::Kubernetes(version) };
    [
        Program { name: ETCD, source: Source::Here, duration: "about a minute" },
        Program { name: KUBE_APISERVER, source, duration: "about five minutes" },
        Program { name: KUBECTL, source, duration: "about half a minute" },
    ]
}

/// Why the programs were neither found nor built.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// `KUBEBUILDER_ASSETS` names a folder that lacks a program.
    #[error("KUBEBUILDER_ASSETS names {}, which has no {program}: add it, or unset the variable to build the programs", folder.display())]
    Incomplete {
        /// The folder.
        folder: PathBuf,
        /// The first program that is missing.
        program: &'static str,
    },
    /// The home folder is unknown.
    #[error("find the user's cache folder: set HOME or XDG_CACHE_HOME")]
    CacheFolder(#[source] etcetera::HomeDirError),
    /// A file of the Go module cannot be read.
    #[error("read {} of the Go module that the programs are built from", path.display())]
    ReadModule {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The source of a version of Kubernetes cannot be downloaded.
    #[error("download Kubernetes {0}: run `go mod download k8s.io/kubernetes@{0}` to see why it fails")]
    Download(KubernetesVersion),
    /// The cache folder cannot be written.
    #[error("write {}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// `go` is not in `PATH`.
    #[error(
        "go is not in PATH: install Go 1.26 or newer (https://go.dev/dl), or set KUBEBUILDER_ASSETS to a folder with etcd, kube-apiserver and kubectl"
    )]
    GoMissing,
    /// `go build` cannot be run.
    #[error("run go build")]
    RunGo(#[source] ProcessError),
    /// `go build` failed.
    #[error("build {program}: `go build` exited with {status}; the end of its output:\n{output}")]
    Build {
        /// The program.
        program: &'static str,
        /// Its exit status.
        status: std::process::ExitStatus,
        /// The last lines of its output.
        output: String,
    },
}

/// Paths of the programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    /// etcd, the database.
    pub etcd: PathBuf,
    /// kube-apiserver.
    pub kube_apiserver: PathBuf,
    /// kubectl, the command line client.
    pub kubectl: PathBuf,
}

impl Programs {
    /// Finds the programs in the folder that `KUBEBUILDER_ASSETS` names, or else in the user's cache folder, where it builds
    /// missing ones from the Go module in this crate. The first build takes minutes, and needs Go and its module proxy. Only
    /// one process builds at a time.
    ///
    /// # Errors
    /// [`FindError`], which says what to do.
    pub fn find_or_build(progress: Progress) -> Result<Self, FindError> {
        if let Some(assets) = std::env::var_os(ASSETS).filter(|value| !value.is_empty()) {
            return Self::complete(PathBuf::from(assets));
        }
        Self::of_version(KubernetesVersion::NEWEST, progress)
    }

    /// Finds the programs of a version of Kubernetes in the user's cache folder, and builds missing ones, like
    /// [`Self::find_or_build`]. `KUBEBUILDER_ASSETS` is ignored, because the versions in its folder are unknown.
    ///
    /// # Errors
    /// [`FindError`], which says what to do.
    pub fn of_version(version: KubernetesVersion, progress: Progress) -> Result<Self, FindError> {
        let parts = parts(version);
        let folder = folder_of(version, &parts)?;
        build_missing(&parts, &folder, progress)?;
        Ok(Self::within(&folder))
    }

    /// The programs in a folder, which must have all of them.
    fn complete(folder: PathBuf) -> Result<Self, FindError> {
        match [ETCD, KUBE_APISERVER, KUBECTL].into_iter().find(|program| !folder.join(program).is_file()) {
            Some(program) => Err(FindError::Incomplete { folder, program }),
            None => Ok(Self::within(&folder)),
        }
    }

    fn within(folder: &Path) -> Self {
        Self {
            etcd: folder.join(ETCD),
            kube_apiserver: folder.join(KUBE_APISERVER),
            kubectl: folder.join(KUBECTL),
        }
    }
}

/// Builds those of the programs that are not in the folder yet.
pub(crate) fn build_missing(
    programs: &[Program],
    folder: &Path,
    progress: Progress,
) -> Result<(), FindError> {
    let missing = || programs.iter().filter(|program| !folder.join(program.name).is_file());
    if missing().next().is_none() {
        return Ok(());
    }
    fs::create_dir_all(folder).map_err(|source| FindError::Write { path: folder.to_owned(), source })?;
    let _lock = lock(&folder.join("lock"), progress)?;
    if !in_path("go") {
        return Err(FindError::GoMissing);
    }
    let of_kubernetes = |program: &Program| match program.source {
        Source::Kubernetes(version) => Some(version),
        Source::Here | Source::Module(_) | Source::Local { .. } => None,
    };
    if let Some(version) = missing().find_map(of_kubernetes) {
        write_module(version, folder, progress)?;
    }
    for program in missing() {
        build(program, folder, progress)?;
    }
    Ok(())
}

/// Waits until no other process builds. The lock is released with the file handle, even if the process is killed.
fn lock(path: &Path, progress: Progress) -> Result<File, FindError> {
    let failed = |source| FindError::Write { path: path.to_owned(), source };
    let file = File::create(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            progress.print("waiting for another process that builds the control plane");
            file.lock().map_err(failed)?;
        }
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    Ok(file)
}

/// Builds a program in another folder and then moves it, so that a program is never incomplete.
fn build(
    &Program { name, source, duration }: &Program,
    folder: &Path,
    progress: Progress,
) -> Result<(), FindError> {
    let partial = folder.join("partial");
    let log = folder.join(format!("{name}.log"));
    let mut task = progress.start(format!("building {name} (once, {duration})"));
    let go = go_command(name, source, folder, &partial).start(&log).map_err(FindError::RunGo)?;
    let status = loop {
        match go.wait(POLL_INTERVAL).map_err(FindError::RunGo)? {
            Some(status) => break status,
            None => task.tick(),
        }
    };
    if !status.success() {
        task.end("failed");
        return Err(FindError::Build { program: name, status, output: go.log_tail() });
    }
    let path = folder.join(name);
    fs::rename(partial.join(name), &path).map_err(|source| FindError::Write { path, source })?;
    // Neither the log nor the empty folder is needed any more. They do no harm if they stay.
    let _ = fs::remove_file(&log);
    let _ = fs::remove_dir(&partial);
    task.end("done");
    Ok(())
}

/// Writes the Go module in which programs of a version of Kubernetes are built, at [`VERSION_MODULE`] in a folder.
fn write_module(version: KubernetesVersion, folder: &Path, progress: Progress) -> Result<(), FindError> {
    let task = progress.start(format!("downloading Kubernetes {version}"));
    let Some(kubernetes) = go_module(&format!("k8s.io/kubernetes@{version}")) else {
        task.end("failed");
        return Err(FindError::Download(version));
    };
    task.end("done");
    let read = |file: &str| {
        let path = kubernetes.join(file);
        fs::read_to_string(&path).map_err(|source| FindError::ReadModule { path, source })
    };
    let module = folder.join(VERSION_MODULE);
    let write = |path: PathBuf, text: &str| {
        fs::write(&path, text).map_err(|source| FindError::Write { path, source })
    };
    fs::create_dir_all(&module).map_err(|source| FindError::Write { path: module.clone(), source })?;
    write(module.join("go.mod"), &version.go_mod(&read("go.mod")?))?;
    // Go adds the checksums of the staging modules.
    write(module.join("go.sum"), &read("go.sum")?)
}

/// The command that builds a program into the folder `partial`.
fn go_command(name: &str, source: Source, folder: &Path, partial: &Path) -> process::Command {
    let build = |modules: &str, flags: &str, package: &str, folder: &Path| {
        process::Command::new("go")
            .args(["build", "-trimpath", "-buildvcs=false", modules, "-ldflags", flags, "-o"])
            .arg(partial.join(name))
            .arg(package)
            .current_dir(folder)
    };
    let go = match source {
        Source::Here => {
            let flags = KubernetesVersion::NEWEST.linker_flags();
            build("-mod=readonly", &flags, &format!("./cmd/{name}"), Path::new(MODULE))
        }
        Source::Kubernetes(version) => {
            let package = format!("k8s.io/kubernetes/cmd/{name}");
            build("-mod=mod", &version.linker_flags(), &package, &folder.join(VERSION_MODULE))
        }
        Source::Module(package) => process::Command::new("go")
            .args(["install", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", package])
            .env("GOBIN", partial),
        Source::Local { module, package } => build("-mod=readonly", "-s -w", package, Path::new(module)),
    };
    go.env("CGO_ENABLED", "0").env("GOWORK", "off").env_remove("GOOS").env_remove("GOARCH")
}

/// The folder with the files of a Go module, such as `example.com/module@v1.0.0`, which is downloaded if it is missing. `None`
/// if it cannot be downloaded.
#[must_use]
pub fn go_module(module: &str) -> Option<PathBuf> {
    let output = std::process::Command::new("go")
        .args(["mod", "download", "-json", module])
        .env("GOWORK", "off")
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    // The output is one JSON object with one field on each line.
    let folder =
        text.lines().find_map(|line| line.trim().strip_prefix("\"Dir\": \"")?.strip_suffix("\","))?;
    Some(PathBuf::from(folder)).filter(|folder| output.status.success() && folder.is_dir())
}

fn in_path(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

/// This project's folder in the user's cache folder. It is outside `target/`, so that it survives `cargo clean` and serves all
/// clones.
///
/// # Errors
/// [`FindError::CacheFolder`].
pub fn cache_folder() -> Result<PathBuf, FindError> {
    let strategy = etcetera::choose_base_strategy().map_err(FindError::CacheFolder)?;
    Ok(strategy.cache_dir().join("okid-operator"))
}

/// One folder for each version of Kubernetes, of the Go module and of the programs.
pub(crate) fn folder_of(version: KubernetesVersion, programs: &[Program]) -> Result<PathBuf, FindError> {
    let module = Path::new(MODULE);
    let mut digest = digest_of(module, &["go.mod", "go.sum"])?;
    for Program { name, source, duration: _ } in programs {
        let source = match source {
            Source::Here => read(module.join("cmd").join(name).join("main.go"))?,
            Source::Kubernetes(version) => version.as_str().as_bytes().to_vec(),
            Source::Module(package) | Source::Local { module: _, package } => package.as_bytes().to_vec(),
        };
        digest.update(Sha256::digest(source));
    }
    let stamp = stamp_of(digest);
    Ok(cache_folder()?.join("control-plane").join(format!("{version}-{stamp}")))
}

/// The digest of the digests of these files.
pub(crate) fn digest_of(folder: &Path, files: &[&str]) -> Result<Sha256, FindError> {
    let mut digest = Sha256::new();
    for file in files {
        digest.update(Sha256::digest(read(folder.join(file))?));
    }
    Ok(digest)
}

fn read(path: PathBuf) -> Result<Vec<u8>, FindError> {
    fs::read(&path).map_err(|source| FindError::ReadModule { path, source })
}

/// The first six bytes of a digest in hexadecimal digits, for the name of a folder.
pub(crate) fn stamp_of(digest: Sha256) -> String {
    digest.finalize().iter().take(6).fold(String::new(), |stamp, byte| stamp + &format!("{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_the_environment_names_must_have_every_program() {
        let folder = tempfile::tempdir().unwrap();
        for program in [ETCD, KUBE_APISERVER] {
            fs::write(folder.path().join(program), "").unwrap();
        }
        let error = Programs::complete(folder.path().to_owned()).unwrap_err();
        assert!(error.to_string().contains("has no kubectl"), "{error}");

        fs::write(folder.path().join(KUBECTL), "").unwrap();
        let programs = Programs::complete(folder.path().to_owned()).unwrap();
        assert_eq!(programs.kubectl, folder.path().join("kubectl"));
    }

    #[test]
    fn the_module_requires_the_newest_version() {
        let module = fs::read_to_string(Path::new(MODULE).join("go.mod")).unwrap();
        assert!(module.contains(&format!("k8s.io/kubernetes {}\n", KubernetesVersion::NEWEST)));
    }

    #[test]
    fn each_version_has_its_own_api_server_and_kubectl_and_the_same_etcd() {
        let mut folders = Vec::new();
        for version in KubernetesVersion::SUPPORTED {
            let parts = parts(version);
            folders.push(folder_of(version, &parts).unwrap());
            let commands = parts.map(|Program { name, source, duration: _ }| {
                format!("{:?}", go_command(name, source, Path::new("/cache"), Path::new("/partial")))
            });
            let [etcd, others @ ..] = &commands;
            assert!(etcd.contains("./cmd/etcd"), "{etcd}");
            for command in others {
                assert!(command.contains(&format!("gitVersion={version} ")), "{command}");
            }
        }
        folders.dedup();
        assert_eq!(folders.len(), KubernetesVersion::SUPPORTED.len());
    }
}
