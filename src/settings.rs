//! The operator's settings: flags and environment variables, parsed once into values that cannot be wrong.
//!
//! Reads the arguments and the environment of the process; opens no file and no connection. May depend on the modules
//! whose types the values have: `api`, `cluster`, `portal`, `store` and `telemetry`.

mod command_line;
mod flags;
mod leader_election;
mod parsers;
mod selector;
mod tasks;
mod values;
mod webhook;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Parser, Subcommand};
use clap_complete::Shell;

use crate::{
    portal::{AllowedPortals, InvalidPortal, PortalUrl, budget::BudgetSettings},
    store::{Endpoints, InvalidEndpoint},
    telemetry::{LogFilter, LogFormat},
};
use flags::Flags;

pub(crate) use leader_election::InvalidTiming;
pub use leader_election::LeaderElection;
pub use selector::{InvalidSelector, Selector};
pub use tasks::{CheckSettings, ReleaseSettings};
pub use values::{
    AdminUrl, ForbiddenImage, InvalidPortalProxy, LinkPath, Namespace, PodReference, ProxyUrl, RateLimit,
};
pub use webhook::WebhookSettings;

/// okID identity checks as Kubernetes resources.
#[derive(Parser)]
#[command(
    name = "okid-operator",
    version,
    propagate_version = true,
    after_help = "Getting started:\n  okid-operator crd | kubectl apply --server-side -f -\n  okid-operator run\n\n\
                  Each flag of `run` can also be set by an environment variable; `okid-operator run --help` names them."
)]
pub struct CommandLine {
    /// The subcommand.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Subcommand)]
pub enum Command {
    /// Run the operator until SIGTERM or Ctrl-C.
    Run(Box<Settings>),
    /// Print the `CustomResourceDefinition`, for `kubectl apply --server-side -f -`.
    Crd,
    /// Check that an installed operator is ready, serves metrics, and has the permissions it needs; `helm test` runs this.
    ///
    /// Run it with the operator's own `ServiceAccount`.
    Check(CheckSettings),
    /// Remove the operator's finalizer from all Verifications, in at most two minutes; the chart runs this before an
    /// uninstallation.
    ///
    /// Without the finalizer, Verifications and their namespaces can be deleted while no operator runs. The log lists the
    /// evidence that stays in a store. An operator that is installed later adds the finalizer again.
    ReleaseFinalizers(ReleaseSettings),
    /// Print a shell completion script, such as `okid-operator completions bash`.
    Completions {
        /// The shell to complete commands in.
        shell: Shell,
    },
}

/// The settings of `okid-operator run`.
pub struct Settings {
    /// Portals that Verifications may use.
    pub allowed_portals: AllowedPortals,
    /// The portal of a Verification that names none; it is one of the allowed portals.
    pub default_portal: PortalUrl,
    /// Path of the identity check page at a portal.
    pub link_path: LinkPath,
    /// Proxy for requests to portals.
    pub portal_proxy: Option<ProxyUrl>,
    /// File with additional certificate authorities for portals.
    pub portal_ca_file: Option<PathBuf>,
    /// File with the named stores.
    pub stores_file: Option<PathBuf>,
    /// Store endpoints that credentials from a namespace may name.
    pub allowed_store_endpoints: Endpoints,
    /// File with additional certificate authorities for stores.
    pub store_ca_file: Option<PathBuf>,
    /// Kinds of images that are never stored.
    pub forbidden_images: Vec<ForbiddenImage>,
    /// Requests per second to each portal.
    pub portal_rate: RateLimit,
    /// Requests per second to each portal with one API key.
    pub key_rate: RateLimit,
    /// The namespaces to watch, each once and in order; none for all.
    pub namespaces: Vec<Namespace>,
    /// Which labels a Verification must have.
    pub selector: Option<Selector>,
    /// How many reconciles may run at the same time.
    pub max_concurrent_reconciles: usize,
    /// Where health and metrics are served.
    pub admin_address: SocketAddr,
    /// How long a shutdown waits for work in flight.
    pub shutdown_grace_period: Duration,
    /// How the leader is elected; `None` for a single replica without a Lease.
    pub leader_election: Option<LeaderElection>,
    /// How notifications of portals are received; `None` if they are not.
    pub webhook: Option<WebhookSettings>,
    /// The operator's own Pod, if it runs in one that says so.
    pub own_pod: Option<PodReference>,
    /// How log lines are written.
    pub log_format: LogFormat,
    /// Which log lines are written.
    pub log_filter: LogFilter,
    /// The environment variables that a value was taken from.
    pub variables: Vec<String>,
}

/// Flags that do not fit together, or a value that must not be repeated in an error.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidSettings {
    /// An entry of `--allowed-portal` is not the URL of a portal.
    #[error("check --allowed-portal: {0}")]
    AllowedPortal(InvalidPortal),
    /// `--allowed-portal` has no entry.
    #[error("--allowed-portal is empty; list at least one portal")]
    NoPortal,
    /// `--default-portal` is not allowed.
    #[error("--default-portal is not one of the allowed portals; add it with --allowed-portal")]
    DefaultPortal,
    /// `--portal-proxy` is not the URL of an HTTP proxy.
    #[error("--portal-proxy {0}")]
    PortalProxy(InvalidPortalProxy),
    /// An entry of `--allowed-store-endpoint` is not the URL of an endpoint.
    #[error("check --allowed-store-endpoint: {0}")]
    StoreEndpoint(InvalidEndpoint),
    /// The durations of the leader election do not fit together.
    #[error(transparent)]
    LeaderElection(#[from] InvalidTiming),
}

impl InvalidSettings {
    /// The flag whose value must change.
    #[must_use]
    pub(crate) const fn flag(&self) -> &'static str {
        match self {
            Self::AllowedPortal(_) | Self::NoPortal => "--allowed-portal",
            Self::DefaultPortal => "--default-portal",
            Self::PortalProxy(_) => "--portal-proxy",
            Self::StoreEndpoint(_) => "--allowed-store-endpoint",
            Self::LeaderElection(invalid) => invalid.flag(),
        }
    }
}

impl TryFrom<Flags> for Settings {
    type Error = InvalidSettings;

    fn try_from(flags: Flags) -> Result<Self, InvalidSettings> {
        let allowed_portals = AllowedPortals::new(non_empty(&flags.allowed_portals), flags.allow_plain_http)
            .map_err(InvalidSettings::AllowedPortal)?;
        let default_portal = match &flags.default_portal {
            Some(url) => allowed_portals.permit(url).map_err(|_| InvalidSettings::DefaultPortal)?,
            None => allowed_portals.iter().next().cloned().ok_or(InvalidSettings::NoPortal)?,
        };
        let portal_proxy = flags.portal_proxy.as_deref().map(str::parse).transpose();
        let endpoints: Vec<_> = non_empty(&flags.allowed_store_endpoints).collect();
        let own_pod = flags.pod_name.zip(flags.pod_namespace);
        let mut namespaces: Vec<_> = flags.namespaces.into_iter().flatten().collect();
        namespaces.sort_unstable();
        namespaces.dedup();
        let selector = flags.selector.as_ref().map(Selector::as_str);
        let leader_election = LeaderElection::of(flags.leader, &namespaces, selector)?;
        Ok(Self {
            allowed_portals,
            default_portal,
            link_path: flags.link_path,
            portal_proxy: portal_proxy.map_err(InvalidSettings::PortalProxy)?,
            portal_ca_file: flags.portal_ca_file,
            stores_file: flags.stores_file,
            allowed_store_endpoints: Endpoints::new(&endpoints).map_err(InvalidSettings::StoreEndpoint)?,
            store_ca_file: flags.store_ca_file,
            forbidden_images: flags.forbidden_images,
            portal_rate: flags.portal_qps,
            key_rate: flags.key_qps,
            namespaces,
            selector: flags.selector,
            max_concurrent_reconciles: usize::try_from(flags.max_concurrent_reconciles).unwrap_or(usize::MAX),
            admin_address: flags.admin_address,
            shutdown_grace_period: flags.shutdown_grace_period.get(),
            leader_election,
            webhook: WebhookSettings::of(flags.webhook, flags.pod_ip),
            own_pod: own_pod.map(|(name, namespace)| PodReference { namespace, name, uid: flags.pod_uid }),
            log_format: flags.log_format,
            log_filter: flags.log_filter,
            variables: Vec::new(),
        })
    }
}

/// The entries of a list that are not empty, because a list may end with a comma.
fn non_empty(list: &[String]) -> impl Iterator<Item = &str> {
    list.iter().map(String::as_str).filter(|entry| !entry.is_empty())
}

impl Settings {
    /// How many requests each portal and each key may be sent.
    #[must_use]
    pub fn budget(&self) -> BudgetSettings {
        let portals = self.allowed_portals.iter().count().max(1);
        BudgetSettings {
            portal_rate: self.portal_rate.get(),
            key_rate: self.key_rate.get(),
            max_in_flight: self.max_concurrent_reconciles.saturating_mul(9).div_ceil(10) / portals,
            ..BudgetSettings::default()
        }
    }
}

#[cfg(test)]
mod tests;
