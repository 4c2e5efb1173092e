//! One control plane. Starts processes and listens on the loopback interface.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rand::RngExt as _;

use crate::folder::Folder;
use crate::kubeconfig::kubeconfig;
use crate::ports::free_ports;
use crate::process::{self, Child, Lifeline, ProcessError, Signal};
use crate::programs::Programs;

const READY_WITHIN: Duration = Duration::from_mins(5);
const POLL_INTERVAL: Duration = Duration::from_millis(100);
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// A port is free when it is chosen, but may be in use when the server listens a moment later.
const ATTEMPTS: u32 = 3;
const PORT_IN_USE: &str = "address already in use";
/// Of the requests of `ServiceAccounts`: who asked for what, without content.
const AUDIT_POLICY: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  userGroups: [system:serviceaccounts]
- level: None
";
/// In megabytes. A log of this size is continued in another file.
const AUDIT_LOG_SIZE: &str = "4096";

/// Why a control plane did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The folder of the control plane cannot be created.
    #[error("create a temporary folder for the control plane")]
    Folder(#[source] io::Error),
    /// A file or a folder of the control plane cannot be written.
    #[error("write {}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// No port of the loopback interface is free.
    #[error("find a free port on 127.0.0.1")]
    Port(#[source] io::Error),
    /// A process cannot be started or supervised.
    #[error("run the control plane")]
    Process(#[from] ProcessError),
    /// kubectl cannot be started.
    #[error("run {}", path.display())]
    Kubectl {
        /// The path of kubectl.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A server exited.
    #[error("{program} exited ({status}) before the control plane was ready; the end of its log:\n{log}")]
    Exited {
        /// The server.
        program: &'static str,
        /// Its exit status.
        status: std::process::ExitStatus,
        /// The last lines of its log.
        log: String,
    },
    /// The API server was not ready in time.
    #[error("the API server was not ready within {} s: {response}; the end of its log:\n{log}", READY_WITHIN.as_secs())]
    NotReady {
        /// The last response.
        response: String,
        /// The last lines of its log.
        log: String,
    },
}

/// A user who authenticates by a token, in addition to the administrator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The bearer token.
    pub token: String,
    /// The name, as in a `RoleBinding`.
    pub name: String,
    /// The groups; `system:masters` may do everything.
    pub groups: Vec<String>,
}

/// A running etcd and API server. Dropping this value stops both and removes their folder.
///
/// The fields are dropped in this order.
#[derive(Debug)]
pub struct ControlPlane {
    api_server: Child,
    etcd: Child,
    folder: Folder,
    programs: Programs,
    ports: Ports,
    flags: Vec<String>,
    url: String,
    token: String,
}

/// Where the servers listen, on 127.0.0.1.
#[derive(Clone, Copy, Debug)]
struct Ports {
    etcd_client: u16,
    etcd_peer: u16,
    api_server: u16,
}

impl ControlPlane {
    /// Starts etcd and the API server, and waits until the API server is ready, which takes about 5 seconds.
    ///
    /// The API server authorizes by RBAC and authenticates the administrator and `users` by token. The admission plugin
    /// `ServiceAccount` is disabled, because nothing creates the default `ServiceAccount` of a namespace. The limits for
    /// requests in flight are far above the defaults, so that parallel tests do not throttle each other. The requests of
    /// `ServiceAccounts` are in `audit.log` beside the kubeconfig: one JSON object a line, without content.
    ///
    /// # Errors
    /// [`StartError`], with the end of the log of the server that failed.
    pub fn start(programs: &Programs, users: &[User]) -> Result<Self, StartError> {
        Self::start_with(programs, users, &[])
    }

    /// As [`ControlPlane::start`], with further flags of the API server, such as `--feature-gates=WatchList=false`.
    ///
    /// # Errors
    /// As [`ControlPlane::start`].
    pub fn start_with(programs: &Programs, users: &[User], flags: &[&str]) -> Result<Self, StartError> {
        let mut attempt = 1;
        loop {
            match Self::try_start(programs, users, flags) {
                Err(StartError::Exited { log, .. }) if log.contains(PORT_IN_USE) && attempt < ATTEMPTS => {
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    fn try_start(programs: &Programs, users: &[User], flags: &[&str]) -> Result<Self, StartError> {
        let folder = Folder::create("okid-control-plane-").map_err(StartError::Folder)?;
        let token = random_token();
        let administrator =
            User { token: token.clone(), name: "admin".into(), groups: vec!["system:masters".into()] };
        write(&folder.path().join("tokens.csv"), &tokens(std::iter::once(&administrator).chain(users)))?;
        write(&folder.path().join("audit-policy.yaml"), AUDIT_POLICY)?;
        let flags: Vec<_> = flags.iter().copied().map(str::to_owned).collect();

        let [etcd_client, etcd_peer, api_server] = free_ports().map_err(StartError::Port)?;
        let ports = Ports { etcd_client, etcd_peer, api_server };
        let etcd = start_etcd(programs, &folder, ports)?;
        let api_server = start_api_server(programs, &folder, &etcd, ports, &flags)?;

        let url = format!("https://127.0.0.1:{}", ports.api_server);
        let programs = programs.clone();
        let control_plane = Self { api_server, etcd, folder, programs, ports, flags, url, token };
        write(&control_plane.kubeconfig_path(), &control_plane.kubeconfig())?;
        control_plane.wait_until_ready()?;
        Ok(control_plane)
    }

    /// The API server's address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The administrator's bearer token, which also works for the API server's `/metrics`.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The file with the certificate authority of the API server, in PEM.
    #[must_use]
    pub fn certificate_authority_path(&self) -> PathBuf {
        self.folder.path().join("certificates/apiserver.crt")
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> String {
        kubeconfig(&self.url, &self.certificate_authority_path(), "admin", &self.token)
    }

    /// The kubeconfig of a user that [`ControlPlane::start`] was given.
    #[must_use]
    pub fn kubeconfig_of(&self, user: &User) -> String {
        kubeconfig(&self.url, &self.certificate_authority_path(), &user.name, &user.token)
    }

    /// The file with the administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig_path(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// The folder of this control plane, which is removed with it; suitable for the logs of programs that use it.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The programs that it runs.
    #[must_use]
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// kubectl with the administrator's kubeconfig, and with its caches in [`ControlPlane::folder`].
    #[must_use]
    pub fn kubectl(&self) -> std::process::Command {
        let mut command = std::process::Command::new(&self.programs.kubectl);
        command.env("KUBECONFIG", self.kubeconfig_path());
        command.env("KUBECACHEDIR", self.folder.path().join("kubectl-cache"));
        command
    }

    /// Keeps the API server alive until programs that need it have exited.
    ///
    /// # Errors
    /// [`ProcessError::Lifeline`].
    pub fn lifeline(&self) -> Result<Lifeline, ProcessError> {
        self.api_server.lifeline()
    }

    /// The process of the API server.
    #[must_use]
    pub fn api_server(&self) -> &Child {
        &self.api_server
    }

    /// The process of etcd.
    #[must_use]
    pub fn etcd(&self) -> &Child {
        &self.etcd
    }

    /// Stops the API server, then etcd, with TERM, and with KILL after 5 s. Then removes the folder.
    ///
    /// # Errors
    /// If a process cannot be stopped.
    pub fn stop(self) -> Result<(), ProcessError> {
        self.stop_servers()
    }

    pub(crate) fn stop_servers(&self) -> Result<(), ProcessError> {
        self.api_server.stop(Signal::Terminate, STOP_WITHIN)?;
        self.etcd.stop(Signal::Terminate, STOP_WITHIN)?;
        Ok(())
    }

    /// Starts both servers again, where they listened before. `prepare` is called with etcd's address before the API server
    /// is started.
    pub(crate) fn start_servers(&mut self, prepare: impl FnOnce(&str)) -> Result<(), StartError> {
        self.etcd = start_etcd(&self.programs, &self.folder, self.ports)?;
        prepare(&client_url(self.ports));
        self.api_server =
            start_api_server(&self.programs, &self.folder, &self.etcd, self.ports, &self.flags)?;
        self.wait_until_ready()
    }

    /// The folder with etcd's data.
    pub(crate) fn data(&self) -> PathBuf {
        data(&self.folder)
    }

    /// Waits for `/readyz`, which includes the roles of RBAC, and for the namespace `default`, which is created a moment later.
    fn wait_until_ready(&self) -> Result<(), StartError> {
        let since = Instant::now();
        let authority = self.certificate_authority_path();
        loop {
            for (program, server) in [("etcd", &self.etcd), ("kube-apiserver", &self.api_server)] {
                if let Some(status) = server.try_wait()? {
                    return Err(StartError::Exited { program, status, log: server.log_tail() });
                }
            }
            let missing = if authority.is_file() {
                self.refusal(&["/readyz", "/api/v1/namespaces/default"])?
            } else {
                Some("it has no certificate yet".to_owned())
            };
            let Some(response) = missing else { return Ok(()) };
            if since.elapsed() >= READY_WITHIN {
                return Err(StartError::NotReady { response, log: self.api_server.log_tail() });
            }
            sleep(POLL_INTERVAL);
        }
    }

    /// The error of kubectl for the first of these paths that fails.
    fn refusal(&self, paths: &[&str]) -> Result<Option<String>, StartError> {
        for path in paths {
            let Output { status, stdout: _, stderr } = self
                .kubectl()
                .args(["get", "--request-timeout=5s", "--raw", path])
                .output()
                .map_err(|source| StartError::Kubectl { path: self.programs.kubectl.clone(), source })?;
            if !status.success() {
                return Ok(Some(String::from_utf8_lossy(&stderr).trim().to_owned()));
            }
        }
        Ok(None)
    }
}

fn data(folder: &Folder) -> PathBuf {
    folder.path().join("etcd")
}

fn client_url(ports: Ports) -> String {
    format!("http://127.0.0.1:{}", ports.etcd_client)
}

/// Starts etcd without fsync, because its data need not survive a crash of the machine.
fn start_etcd(programs: &Programs, folder: &Folder, ports: Ports) -> Result<Child, StartError> {
    let client_url = client_url(ports);
    let peer_url = format!("http://127.0.0.1:{}", ports.etcd_peer);
    let etcd = process::Command::new(&programs.etcd)
        .arg("--data-dir")
        .arg(data(folder))
        .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url])
        .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
        .args(["--initial-cluster", &format!("default={peer_url}")])
        .args(["--unsafe-no-fsync", "--log-level", "error"])
        .needs(folder.lifeline().map_err(StartError::Folder)?)
        .start(folder.path().join("etcd.log"))?;
    Ok(etcd)
}

fn start_api_server(
    programs: &Programs,
    folder: &Folder,
    etcd: &Child,
    ports: Ports,
    flags: &[String],
) -> Result<Child, StartError> {
    let certificates = folder.path().join("certificates");
    // The server generates this key with its certificate, before it reads it for the tokens of ServiceAccounts.
    let key = certificates.join("apiserver.key");
    let api_server = process::Command::new(&programs.kube_apiserver)
        .args(["--etcd-servers", &client_url(ports)])
        .args(["--bind-address", "127.0.0.1", "--advertise-address", "127.0.0.1"])
        .args(["--secure-port", &ports.api_server.to_string()])
        .arg("--cert-dir")
        .arg(certificates)
        .arg("--token-auth-file")
        .arg(folder.path().join("tokens.csv"))
        .args(["--service-account-issuer", "https://127.0.0.1"])
        .arg("--service-account-key-file")
        .arg(&key)
        .arg("--service-account-signing-key-file")
        .arg(&key)
        .args(["--authorization-mode", "RBAC"])
        .args(["--disable-admission-plugins", "ServiceAccount"])
        .args(["--service-cluster-ip-range", "10.0.0.0/24", "--endpoint-reconciler-type", "none"])
        .args(["--max-requests-inflight", "4000", "--max-mutating-requests-inflight", "2000"])
        .arg("--audit-policy-file")
        .arg(folder.path().join("audit-policy.yaml"))
        .arg("--audit-log-path")
        .arg(folder.path().join("audit.log"))
        .args(["--audit-log-maxsize", AUDIT_LOG_SIZE])
        .args(flags)
        .needs(etcd.lifeline()?)
        .start(folder.path().join("kube-apiserver.log"))?;
    Ok(api_server)
}

pub(crate) fn random_token() -> String {
    format!("{:032x}", rand::rng().random::<u128>())
}

/// The API server's token file: token, name, id, and the groups in one field.
pub(crate) fn tokens<'a>(users: impl Iterator<Item = &'a User>) -> String {
    let mut lines = String::new();
    for User { token, name, groups } in users {
        let fields = [token, name, name, &groups.join(",")];
        lines += &fields.map(|field| format!("\"{}\"", field.replace('"', "\"\""))).join(",");
        lines += "\n";
    }
    lines
}

fn write(path: &Path, text: &str) -> Result<(), StartError> {
    fs::write(path, text).map_err(|source| StartError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_one_line_with_the_groups_in_one_field() {
        let user = User { token: "t".into(), name: "a \"b\"".into(), groups: vec!["x".into(), "y".into()] };
        assert_eq!(tokens(std::iter::once(&user)), "\"t\",\"a \"\"b\"\"\",\"a \"\"b\"\"\",\"x,y\"\n");
    }
}
