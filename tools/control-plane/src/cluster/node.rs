//! The machine that a cluster runs on: namespaces of its own for processes, mounts and the network. Starts processes, and
//! configures the network.
//!
//! Its first process holds the process namespace. When that process ends, however it ends, the kernel kills every process in
//! the namespace, containers included, and then the mounts and the network devices are gone too.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use rand::RngExt as _;

use super::ClusterError;
use crate::process::{self, Child, Lifeline};

const FIRST_PROCESS: &str = include_str!("node.sh");
const STARTED: &str = "the node is there";
const STARTED_WITHIN: Duration = Duration::from_secs(30);
const STOPPED_WITHIN: Duration = Duration::from_mins(1);
/// Where administrators' programs are on most systems; the `PATH` of a root shell may lack them.
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A running node. Dropping this value kills everything in it.
#[derive(Debug)]
pub(super) struct Node {
    /// `unshare`, which has entered the mounts and the network of the node, and has started its first process.
    unshare: Child,
    address: Ipv4Addr,
    path: OsString,
}

impl Node {
    /// Creates the namespaces, and a network device between the node and the machine. `programs` is the folder of the
    /// cluster's programs.
    pub(super) fn start(programs: &Path, folder: Lifeline, log: &Path) -> Result<Self, ClusterError> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = [programs.as_os_str(), &path, SYSTEM_PATH.as_ref()].join(":".as_ref());
        let unshare = process::Command::new("unshare")
            .args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["sh", "-c", FIRST_PROCESS, "node"])
            .env("PATH", &path)
            // TERM does not end unshare.
            .grace(Duration::ZERO)
            .needs(folder)
            .start(log)?;
        unshare.wait_for_line(STARTED, STARTED_WITHIN)?;

        let mut random = rand::rng();
        let (device, subnet) =
            (format!("okid{:08x}", random.random::<u32>()), random.random_range(0..=255_u8));
        let node = Self { unshare, address: Ipv4Addr::new(10, 200, subnet, 1), path };
        node.connect(&device, Ipv4Addr::new(10, 200, subnet, 2))?;
        Ok(node)
    }

    /// Creates the pair of devices. The one on this machine disappears with the one in the node.
    fn connect(&self, device: &str, gateway: Ipv4Addr) -> Result<(), ClusterError> {
        let process = self.unshare.id().to_string();
        let here = |arguments: &[&str]| {
            run(std::process::Command::new("ip").args(arguments).env("PATH", &self.path))
        };
        let there = |arguments: &[&str]| {
            let mut nsenter = std::process::Command::new("nsenter");
            nsenter.args(["--target", &process, "--net", "ip"]).args(arguments).env("PATH", &self.path);
            run(&mut nsenter)
        };
        here(&["link", "add", device, "type", "veth", "peer", "name", "eth0", "netns", &process])?;
        here(&["address", "add", &format!("{gateway}/30"), "dev", device])?;
        here(&["link", "set", device, "up"])?;
        there(&["address", "add", &format!("{}/30", self.address), "dev", "eth0"])?;
        there(&["link", "set", "eth0", "up"])?;
        there(&["route", "add", "default", "via", &gateway.to_string()])
    }

    /// The address of the node, which this machine reaches too.
    pub(super) fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// A program that runs in the node. It ends with the process that is started here.
    pub(super) fn command(&self, program: &str) -> Result<process::Command, ClusterError> {
        let process = self.unshare.id();
        // The namespace of unshare's child: unshare itself is not in it.
        let processes = format!("--pid=/proc/{process}/ns/pid_for_children");
        Ok(process::Command::new("nsenter")
            .name(program)
            .args(["--target", &process.to_string(), "--mount", "--net", &processes, "--"])
            .args(["setpriv", "--pdeathsig", "TERM", program])
            .env("PATH", &self.path)
            .needs(self.unshare.lifeline()?))
    }

    /// Ends every process in the node, and waits until they are gone.
    pub(super) fn stop(self) -> Result<(), ClusterError> {
        let process = self.unshare.id();
        let processes = format!("--pid=/proc/{process}/ns/pid_for_children");
        // This command is in the node and is killed too, so that its result says nothing.
        let _ = output(
            std::process::Command::new("nsenter")
                .args(["--target", &process.to_string(), &processes, "--"])
                .args(["sh", "-c", "kill -s TERM 1"]),
        );
        if self.unshare.wait(STOPPED_WITHIN)?.is_none() {
            self.unshare.kill()?;
        }
        Ok(())
    }
}

/// Runs a command, which must succeed, and returns what it printed.
pub(super) fn output(command: &mut std::process::Command) -> Result<String, ClusterError> {
    let line = format!("{command:?}");
    let Output { status, stdout, stderr } = match std::process::Command::output(command) {
        Ok(output) => output,
        Err(source) => return Err(ClusterError::Run { line, source }),
    };
    if status.success() {
        return Ok(String::from_utf8_lossy(&stdout).into_owned());
    }
    let output = String::from_utf8_lossy(&stderr).trim().to_owned();
    Err(ClusterError::Failed { line, status, output })
}

fn run(command: &mut std::process::Command) -> Result<(), ClusterError> {
    output(command).map(drop)
}
