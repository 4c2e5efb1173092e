//! The programs of a cluster: those that are built once, and those of the machine.

use std::path::{Path, PathBuf};

use super::ClusterError;
use crate::kubernetes::KubernetesVersion;
use crate::programs::{FindError, Program, Programs, Source, build_missing, folder_of};
use crate::progress::Progress;

const CONTAINERD: &str = "github.com/containerd/containerd/v2/cmd/containerd@v2.4.2";
const SHIM: &str = "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2@v2.4.2";
const CTR: &str = "github.com/containerd/containerd/v2/cmd/ctr@v2.4.2";
const COREDNS: &str = "github.com/coredns/coredns@v1.15.0";

/// Built in this order, because each uses what the one before has compiled.
const PARTS: [Program; 9] = [
    Program { name: "kube-controller-manager", source: Source::Here, duration: "about two minutes" },
    Program { name: "kube-scheduler", source: Source::Here, duration: "about a quarter of a minute" },
    Program { name: "kubelet", source: Source::Here, duration: "about half a minute" },
    Program { name: "kube-proxy", source: Source::Here, duration: "about a quarter of a minute" },
    Program { name: "pause", source: Source::Here, duration: "a few seconds" },
    Program { name: "containerd", source: Source::Module(CONTAINERD), duration: "about a minute" },
    Program {
        name: "containerd-shim-runc-v2",
        source: Source::Module(SHIM),
        duration: "about a quarter of a minute",
    },
    Program { name: "ctr", source: Source::Module(CTR), duration: "about a quarter of a minute" },
    Program { name: "coredns", source: Source::Module(COREDNS), duration: "about two and a half minutes" },
];

/// Programs of the machine by their Debian packages. Every one of them runs as root.
const TOOLS: [(&str, &str); 8] = [
    ("conntrack", "conntrack"),
    ("ip", "iproute2"),
    ("mount", "mount"),
    ("nft", "nftables"),
    ("nsenter", "util-linux"),
    ("runc", "runc"),
    ("setpriv", "util-linux"),
    ("unshare", "util-linux"),
];
const TOOL_FOLDERS: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
const PLUGINS_PACKAGE: &str = "containernetworking-plugins";
/// Where Debian, Fedora and the plugins' own releases put them.
const PLUGIN_FOLDERS: [&str; 3] = ["/usr/lib/cni", "/usr/libexec/cni", "/opt/cni/bin"];
const PLUGINS: [&str; 2] = ["ptp", "host-local"];

/// Paths of the programs that are built for a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterPrograms {
    /// etcd, kube-apiserver and kubectl.
    pub control_plane: Programs,
    /// The folder with all others.
    pub folder: PathBuf,
}

impl ClusterPrograms {
    /// Finds the programs, and builds those that are missing, like [`Programs::find_or_build`].
    ///
    /// # Errors
    /// [`FindError`], which says what to do.
    pub fn find_or_build(progress: Progress) -> Result<Self, FindError> {
        let control_plane = Programs::find_or_build(progress)?;
        let folder = folder_of(KubernetesVersion::NEWEST, &PARTS)?;
        build_missing(&PARTS, &folder, progress)?;
        Ok(Self { control_plane, folder })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// The Debian packages of the programs that a cluster needs and this machine lacks.
#[must_use]
pub fn missing_packages() -> Vec<&'static str> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> =
        std::env::split_paths(&path).chain(TOOL_FOLDERS.iter().map(PathBuf::from)).collect();
    let mut missing: Vec<_> = TOOLS
        .iter()
        .filter(|(program, _)| !folders.iter().any(|folder| folder.join(program).is_file()))
        .map(|&(_, package)| package)
        .collect();
    if plugins().is_err() {
        missing.push(PLUGINS_PACKAGE);
    }
    missing.sort_unstable();
    missing.dedup();
    missing
}

/// The folder of the CNI plugins.
pub(super) fn plugins() -> Result<&'static Path, ClusterError> {
    PLUGIN_FOLDERS
        .iter()
        .map(Path::new)
        .find(|folder| PLUGINS.iter().all(|plugin| folder.join(plugin).is_file()))
        .ok_or(ClusterError::NoPlugins)
}
