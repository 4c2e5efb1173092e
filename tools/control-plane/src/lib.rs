//! A real Kubernetes control plane without Docker: etcd and kube-apiserver as local processes, with their own folder, ports
//! and credentials. And a [`cluster`], which has all of a control plane and a node.
//!
//! Tests and developer commands use it; the operator does not. It needs a POSIX `sh` (Linux, macOS) and, for the first build
//! of the programs, Go. A [`ControlPlane`] has no controller-manager, so there is no garbage collection, no deletion of
//! namespaces and no default `ServiceAccount`. It has no node, so no pod runs.
//!
//! ```no_run
//! use control_plane::{ControlPlane, Programs, Progress};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let programs = Programs::find_or_build(Progress::detect())?;
//! let control_plane = ControlPlane::start(&programs, &[])?;
//! control_plane.kubectl().args(["get", "namespaces"]).status()?;
//! # Ok(())
//! # }
//! ```
//!
//! All functions block; in async code, call them from a thread that may block. Nothing is left behind, even if this process
//! is killed: [`process`] explains how.

mod backup;
pub mod cluster;
mod folder;
mod helm;
mod kubeconfig;
mod kubernetes;
pub mod oci;
mod ports;
pub mod process;
mod programs;
mod progress;
mod readers;
mod server;

pub use backup::Backup;
pub use folder::Folder;
pub use helm::helm;
pub use kubernetes::{KubernetesVersion, UnsupportedMinor};
pub use programs::{FindError, Programs, cache_folder, go_module};
pub use progress::{Progress, Task};
pub use readers::Reader;
pub use server::{ControlPlane, StartError, User};
