//! The command line: flags and environment variables, checked once.

use std::{net::SocketAddr, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::portal::{AllowedPortals, PortalUrl, budget::BudgetSettings};

/// The portal of okID's own guide.
const PORTAL: &str = "https://verify.test.okid.io";

/// okID identity checks as Kubernetes resources.
#[derive(Debug, Parser)]
#[command(
    name = "okid-operator",
    version,
    propagate_version = true,
    after_help = "First steps:\n  okid-operator crd | kubectl apply --server-side -f -\n  okid-operator run\n\n\
                  Every flag of `run` can be given by environment too; its help names the variables."
)]
pub struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the operator until it is told to stop (SIGTERM or Ctrl-C).
    Run(Box<Run>),
    /// Print the custom resource definition, for `kubectl apply --server-side -f -`.
    Crd,
    /// Print a completion script, for example `okid-operator completions bash`.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// The operator's settings.
#[derive(Debug, Args)]
#[command(
    after_help = "The cluster is found as kubectl finds it: KUBECONFIG, ~/.kube/config, or the pod's own \
                        ServiceAccount."
)]
pub struct Run {
    /// Base URL of a portal that verifications may use; may be repeated. The first is the default portal.
    #[arg(long = "allowed-portal", env = "OKID_ALLOWED_PORTALS", value_name = "URL", value_delimiter = ',', default_value = PORTAL)]
    pub allowed_portals: Vec<String>,
    /// The portal of a verification that names none; must be allowed.
    #[arg(long, env = "OKID_DEFAULT_PORTAL", value_name = "URL")]
    pub default_portal: Option<String>,
    /// Accept portals by http. The API key then travels readable for everyone on the way.
    #[arg(long, env = "OKID_ALLOW_PLAIN_HTTP")]
    pub allow_plain_http: bool,
    /// Path of the person's link at the portal.
    #[arg(long, env = "OKID_LINK_PATH", value_name = "PATH", default_value = "/")]
    pub link_path: String,
    /// Proxy for calls to the portal. Proxy variables of the environment are ignored.
    #[arg(long, env = "OKID_PORTAL_PROXY", value_name = "URL")]
    pub portal_proxy: Option<url::Url>,
    /// PEM file with further certificate authorities to trust for portals.
    #[arg(long, env = "OKID_PORTAL_CA_FILE", value_name = "FILE")]
    pub portal_ca_file: Option<std::path::PathBuf>,
    /// Calls per second to one portal with one key; 0 for no limit.
    #[arg(long, env = "OKID_RATE", value_name = "N", default_value_t = 50.0)]
    pub rate: f64,
    /// Watch one namespace instead of all.
    #[arg(long, env = "OKID_NAMESPACE", value_name = "NAME")]
    pub namespace: Option<String>,
    /// Turns that may be under way at once.
    #[arg(long, env = "OKID_SLOTS", value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub slots: u32,
    /// Where /livez, /readyz and /metrics are served.
    #[arg(long, env = "OKID_ADMIN_ADDRESS", value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    pub admin_address: SocketAddr,
    /// How long to wait at the end for what is in flight to be recorded, in seconds.
    #[arg(long, env = "OKID_GRACE_SECONDS", value_name = "SECONDS", default_value_t = 60)]
    pub grace_seconds: u64,
    /// How logs are written.
    #[arg(long, env = "OKID_LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,
    /// What is logged, as `tracing` directives.
    #[arg(long, env = "OKID_LOG", value_name = "DIRECTIVES", default_value = "info")]
    pub log: String,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Human,
}

/// A setting that makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum InvalidSettings {
    /// A portal that cannot be one.
    #[error("check --allowed-portal")]
    Portal(#[source] crate::portal::InvalidPortal),
    /// The default portal is not among the allowed ones.
    #[error("--default-portal is not among the allowed portals; add it with --allowed-portal")]
    DefaultPortal,
    /// A rate that is none.
    #[error("--rate must be 0 (no limit) or a number of calls per second from 1 to 100000")]
    Rate,
    /// A path that is none.
    #[error("--link-path must begin with / and hold no ? or #")]
    LinkPath,
    /// The file with certificate authorities cannot be read.
    #[error("read the file named by --portal-ca-file")]
    CaFile(#[source] std::io::Error),
}

impl Run {
    /// The portals that may be asked, and the default one.
    ///
    /// # Errors
    ///
    /// [`InvalidSettings`], with a sentence that says what to do.
    pub fn portals(&self) -> Result<(AllowedPortals, PortalUrl), InvalidSettings> {
        let allowed = AllowedPortals::new(&self.allowed_portals, self.allow_plain_http)
            .map_err(InvalidSettings::Portal)?;
        let default = match &self.default_portal {
            Some(named) => allowed.permit(named).ok(),
            None => allowed.iter().next().cloned(),
        };
        default.map(|default| (allowed, default)).ok_or(InvalidSettings::DefaultPortal)
    }

    /// The settings of every budget.
    ///
    /// # Errors
    ///
    /// [`InvalidSettings::Rate`].
    pub fn budget(&self) -> Result<BudgetSettings, InvalidSettings> {
        let rate = match self.rate {
            0.0 => None,
            rate if (1.0..=100_000.0).contains(&rate) => Some(rate),
            _ => return Err(InvalidSettings::Rate),
        };
        Ok(BudgetSettings { rate, ..BudgetSettings::default() })
    }

    /// The path of the person's link.
    ///
    /// # Errors
    ///
    /// [`InvalidSettings::LinkPath`].
    pub fn link_path(&self) -> Result<String, InvalidSettings> {
        let fits = self.link_path.starts_with('/') && !self.link_path.contains(['?', '#', ' ']);
        if fits { Ok(self.link_path.clone()) } else { Err(InvalidSettings::LinkPath) }
    }

    /// Further certificate authorities, as PEM.
    ///
    /// # Errors
    ///
    /// [`InvalidSettings::CaFile`].
    pub fn portal_ca(&self) -> Result<Option<Vec<u8>>, InvalidSettings> {
        self.portal_ca_file.as_ref().map(std::fs::read).transpose().map_err(InvalidSettings::CaFile)
    }

    /// How long to wait at the end.
    #[must_use]
    pub const fn grace(&self) -> Duration {
        Duration::from_secs(self.grace_seconds)
    }
}
