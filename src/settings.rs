//! The command line: flags and environment variables, checked once.

mod command_line;

use std::{net::SocketAddr, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum, builder::BoolishValueParser};
use clap_complete::Shell;
use url::Url;

use crate::{
    api::ImageKind,
    cluster::OwnPod,
    evidence::{
        EndpointLimits, EvidenceContext, OwnObjects, STORING_AT_ONCE, STORING_AT_ONCE_OF_ONE, StoreFailureLog,
    },
    fairness::FairSemaphore,
    portal::{AllowedPortals, DEFAULT_PORTAL, PortalUrl, budget::BudgetSettings},
    store::{ByteBudget, Endpoints, HttpSettings, RetryPolicy, StoreBreaker, StoreHttp, Stores},
    tls::{Authorities, InvalidTrust, trust},
};
use command_line::{Image, trimmed};

/// Longest path of the person's link. With the portal (256), the id (128) and the mode it fits into `status.portalUrl`.
const LINK_PATH_CHARS: usize = 512;

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
                  ServiceAccount. It is reached over the proxy that `proxy-url` of the kubeconfig or HTTPS_PROXY names, \
                  unless it runs on this machine or NO_PROXY names its host. Portals and stores are not: \
                  --portal-proxy is for portals alone.\n\nAn empty variable is an unset one."
)]
pub struct Run {
    /// Base URL of a portal that verifications may use; may be repeated, or a list with commas. The first is the default
    /// portal.
    #[arg(long = "allowed-portal", env = "OKID_ALLOWED_PORTALS", value_name = "URL", value_delimiter = ',', value_parser = trimmed(), default_value = DEFAULT_PORTAL)]
    pub allowed_portals: Vec<String>,
    /// The portal of a verification that names none; must be allowed.
    #[arg(long, env = "OKID_DEFAULT_PORTAL", value_name = "URL")]
    pub default_portal: Option<String>,
    /// Accept portals by http. The API key then travels readable for everyone on the way.
    #[arg(long, env = "OKID_ALLOW_PLAIN_HTTP", value_parser = BoolishValueParser::new())]
    pub allow_plain_http: bool,
    /// Path of the person's link at the portal, such as /verify where the page is not at /.
    #[arg(long, env = "OKID_LINK_PATH", value_name = "PATH", default_value = "/")]
    pub link_path: String,
    /// HTTP proxy for calls to the portal, such as `http://proxy.example:3128`. Proxy variables of the environment are
    /// ignored. Give one with a password by environment: flags are shown to everybody who lists processes.
    #[arg(long, env = "OKID_PORTAL_PROXY", hide_env_values = true, value_name = "URL")]
    pub portal_proxy: Option<String>,
    /// PEM file with further certificate authorities to trust for portals.
    #[arg(long, env = "OKID_PORTAL_CA_FILE", value_name = "FILE")]
    pub portal_ca_file: Option<std::path::PathBuf>,
    /// File with the stores that verifications may name for their evidence (docs/evidence.md).
    #[arg(long, env = "OKID_STORES_FILE", value_name = "FILE")]
    pub stores_file: Option<std::path::PathBuf>,
    /// Address of an object store that is none of the clouds' own, such as `https://minio.example:9000`; may be repeated,
    /// or a list with commas. Credentials of a namespace can name it as their endpoint. With http:// the store is spoken to in plain text.
    #[arg(
        long = "allowed-store-endpoint",
        env = "OKID_ALLOWED_STORE_ENDPOINTS",
        value_name = "URL",
        value_delimiter = ',',
        value_parser = trimmed()
    )]
    pub allowed_store_endpoints: Vec<String>,
    /// PEM file with further certificate authorities to trust for stores.
    #[arg(long, env = "OKID_STORE_CA_FILE", value_name = "FILE")]
    pub store_ca_file: Option<std::path::PathBuf>,
    /// Kind of image that may not be kept as evidence; may be repeated, or a list with commas.
    #[arg(
        long = "forbidden-image",
        env = "OKID_FORBIDDEN_IMAGES",
        value_name = "KIND",
        value_delimiter = ',',
        value_parser = Image::new()
    )]
    pub forbidden_images: Vec<ForbiddenImage>,
    /// Calls per second to one portal as a whole, which namespaces share; 0 for no limit.
    #[arg(long, env = "OKID_PORTAL_QPS", value_name = "N", default_value_t = 200.0)]
    pub portal_qps: f64,
    /// Calls per second to one portal with one key; 0 for no limit.
    #[arg(long, env = "OKID_KEY_QPS", value_name = "N", default_value_t = 50.0)]
    pub key_qps: f64,
    /// Watch one namespace instead of all.
    #[arg(long, env = "OKID_NAMESPACE", value_name = "NAME")]
    pub namespace: Option<String>,
    /// Reconciler that may be under way at once; one namespace has half of them at most. Raise it when `okid_turns_waiting` stays above 0; lower it to save memory.
    #[arg(long, env = "OKID_SLOTS", value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub slots: u32,
    /// Where /livez, /readyz and /metrics are served; on a machine without IPv6, `[::]` is 0.0.0.0.
    #[arg(long, env = "OKID_ADMIN_ADDRESS", value_name = "ADDRESS", default_value = "[::]:8080")]
    pub admin_address: SocketAddr,
    /// How long to wait at the end for what is in flight to be recorded, in seconds; a second SIGTERM or Ctrl-C ends it at
    /// once. Events may take ten seconds more. The pod's terminationGracePeriodSeconds, 30 unless set, must be longer than
    /// both together.
    #[arg(long, env = "OKID_GRACE_SECONDS", value_name = "SECONDS", default_value_t = 60)]
    pub grace_seconds: u64,
    /// Name of the operator's own Pod, by the downward API (`fieldRef: metadata.name`). With its namespace it takes the
    /// events of what is left behind in a namespace that takes none, such as one that is being deleted.
    #[arg(long, env = "OKID_POD_NAME", value_name = "NAME", requires = "pod_namespace")]
    pub pod_name: Option<String>,
    /// Namespace of the operator's own Pod, by the downward API (`fieldRef: metadata.namespace`).
    #[arg(long, env = "OKID_POD_NAMESPACE", value_name = "NAME", requires = "pod_name")]
    pub pod_namespace: Option<String>,
    /// Uid of the operator's own Pod, by the downward API (`fieldRef: metadata.uid`): `kubectl describe pod` shows only
    /// events that carry it.
    #[arg(long, env = "OKID_POD_UID", value_name = "UID")]
    pub pod_uid: Option<String>,
    /// How logs are written.
    #[arg(long, env = "OKID_LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,
    /// What is logged, as `tracing` directives: warn, info, or `okid_operator=debug`. Only the operator's own lines are.
    #[arg(long, env = "OKID_LOG", value_name = "DIRECTIVES", default_value = "info")]
    pub log: String,
    /// The environment variables that a setting was taken from.
    #[arg(skip)]
    pub variables: Vec<String>,
}

/// A kind of image that may be forbidden as evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ForbiddenImage {
    /// The original, with a watermark.
    Unredacted,
    /// The front of the document.
    Front,
    /// The back of the document.
    Back,
}

impl From<ForbiddenImage> for ImageKind {
    fn from(image: ForbiddenImage) -> Self {
        match image {
            ForbiddenImage::Unredacted => Self::Unredacted,
            ForbiddenImage::Front => Self::Front,
            ForbiddenImage::Back => Self::Back,
        }
    }
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
    /// A rate that is none, by the name of its flag.
    #[error("{0} must be 0 (no limit) or a number of calls per second from 1 to 100000")]
    Rate(&'static str),
    /// A proxy that cannot be one. Does not repeat it, because it may hold a password.
    #[error(
        "--portal-proxy (OKID_PORTAL_PROXY) must be the address of an HTTP proxy, which begins with http:// or https://, \
         such as http://proxy.example:3128; a user and a password go before the host as user:password@, percent-encoded"
    )]
    PortalProxy,
    /// A path that is none.
    #[error(
        "--link-path must begin with /, hold no ? or #, and have at most 512 characters, such as /verify"
    )]
    LinkPath,
    /// No namespace is called that.
    #[error(
        "--namespace must be the name of a namespace: lower-case letters, digits and dashes, such as kyc"
    )]
    Namespace,
    /// The file with the stores cannot be read.
    #[error("read the file named by --stores-file")]
    StoresFile(#[source] std::io::Error),
    /// The file with the stores cannot be used.
    #[error("check --stores-file")]
    Stores(#[from] crate::store::InvalidStores),
    /// The client for the stores cannot be made.
    #[error("set up the client for the stores")]
    StoreHttp(#[from] crate::store::http::InvalidHttp),
    /// The certificates for portals cannot be used.
    #[error("check --portal-ca-file")]
    PortalTrust(#[source] InvalidTrust),
    /// The certificates for the stores cannot be used.
    #[error("check --store-ca-file")]
    StoreTrust(#[source] InvalidTrust),
    /// Nobody can be trusted, though no file of certificate authorities is given.
    #[error(transparent)]
    Trust(InvalidTrust),
    /// An endpoint that cannot be one.
    #[error("check --allowed-store-endpoint")]
    Endpoint(#[from] crate::store::InvalidEndpoint),
    /// The file with certificate authorities for portals cannot be read.
    #[error("read the file named by --portal-ca-file")]
    PortalCaFile(#[source] std::io::Error),
    /// The file with certificate authorities for stores cannot be read.
    #[error("read the file named by --store-ca-file")]
    StoreCaFile(#[source] std::io::Error),
}

/// The entries of a list that are not empty.
fn named(list: &[String]) -> impl Iterator<Item = &str> {
    list.iter().map(String::as_str).filter(|entry| !entry.is_empty())
}

impl Run {
    /// Tells what the operator is about to do, once its settings have been checked.
    pub fn tell(&self) {
        let list = |list: &[String]| named(list).collect::<Vec<_>>().join(", ");
        let forbidden = self.forbidden_images.iter().filter_map(ValueEnum::to_possible_value);
        let forbidden: Vec<_> = forbidden.map(|image| image.get_name().to_owned()).collect();
        tracing::info!(
            namespaces = self.namespace.as_deref().unwrap_or("all"),
            portals = list(&self.allowed_portals),
            default_portal = self.default_portal.as_deref().or_else(|| named(&self.allowed_portals).next()),
            store_endpoints = list(&self.allowed_store_endpoints),
            stores_file = self.stores_file.as_ref().map(|file| file.display().to_string()),
            forbidden_images = forbidden.join(", "),
            variables = self.variables.join(", "),
            "starting; an empty list allows or forbids nothing"
        );
        let files = [("--portal-ca-file", &self.portal_ca_file), ("--store-ca-file", &self.store_ca_file)];
        for (flag, file) in files {
            let pem = file.as_ref().and_then(|file| std::fs::read(file).ok());
            if let Some(Ok(found)) = pem.as_deref().map(Authorities::read) {
                let Authorities { certificates, passed_over } = found;
                tracing::info!(
                    flag,
                    certificates = certificates.len(),
                    passed_over,
                    "certificate authorities were read"
                );
            }
        }
    }

    /// The portals that may be asked, and the default one.
    ///
    /// # Errors
    ///
    /// [`InvalidSettings`], with a sentence that says what to do.
    pub fn portals(&self) -> Result<(AllowedPortals, PortalUrl), InvalidSettings> {
        let listed: Vec<_> = named(&self.allowed_portals).collect();
        let allowed = AllowedPortals::new(&listed, self.allow_plain_http).map_err(InvalidSettings::Portal)?;
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
        let rate = |flag, rate| match rate {
            0.0 => Ok(None),
            rate if (1.0..=100_000.0).contains(&rate) => Ok(Some(rate)),
            _ => Err(InvalidSettings::Rate(flag)),
        };
        let slots = usize::try_from(self.slots).unwrap_or(usize::MAX);
        Ok(BudgetSettings {
            portal_rate: rate("--portal-qps", self.portal_qps)?,
            key_rate: rate("--key-qps", self.key_qps)?,
            most_under_way: slots.saturating_mul(3).div_ceil(4) / self.allowed_portals.len().max(1),
            ..BudgetSettings::default()
        })
    }

    /// The path of the person's link.
    ///
    /// # Errors
    ///
    /// [`InvalidSettings::LinkPath`].
    pub fn link_path(&self) -> Result<String, InvalidSettings> {
        let fits = self.link_path.starts_with('/')
            && self.link_path.len() <= LINK_PATH_CHARS
            && self.link_path.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#".contains(&byte));
        if fits { Ok(self.link_path.clone()) } else { Err(InvalidSettings::LinkPath) }
    }

    /// The namespace to watch, if not all.
    ///
    /// # Errors
    ///
    /// [`InvalidSettings::Namespace`] for what is no label of RFC 1123.
    pub fn namespace(&self) -> Result<Option<&str>, InvalidSettings> {
        let Some(name) = self.namespace.as_deref() else { return Ok(None) };
        let fits = (1..=63).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !name.starts_with('-')
            && !name.ends_with('-');
        if fits { Ok(Some(name)) } else { Err(InvalidSettings::Namespace) }
    }

    /// The proxy for calls to portals. Whatever is no HTTP proxy is refused: the client would pass it by, and send the API
    /// key directly.
    ///
    /// # Errors
    ///
    /// [`InvalidSettings::PortalProxy`].
    pub fn portal_proxy(&self) -> Result<Option<Url>, InvalidSettings> {
        let Some(address) = &self.portal_proxy else { return Ok(None) };
        let url = Url::parse(address).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        url.map(Some).ok_or(InvalidSettings::PortalProxy)
    }

    /// Whom to trust for portals besides the machine's authorities, as PEM.
    ///
    /// # Errors
    ///
    /// [`InvalidSettings::PortalCaFile`].
    pub fn portal_ca(&self) -> Result<Option<Vec<u8>>, InvalidSettings> {
        self.portal_ca_file.as_ref().map(std::fs::read).transpose().map_err(InvalidSettings::PortalCaFile)
    }

    /// What evidence is stored with.
    ///
    /// # Errors
    ///
    /// [`InvalidSettings`], with a sentence that says what to do.
    pub fn archive(&self) -> Result<EvidenceContext, InvalidSettings> {
        let ca = self.store_ca_file.as_ref().map(std::fs::read).transpose();
        let ca = ca.map_err(InvalidSettings::StoreCaFile)?;
        let is_given = ca.is_some();
        let trust = trust(ca.as_deref()).map_err(|refusal| {
            if is_given { InvalidSettings::StoreTrust(refusal) } else { InvalidSettings::Trust(refusal) }
        })?;
        let http = StoreHttp::new(&HttpSettings::default(), trust)?;
        let stores = match &self.stores_file {
            None => Stores::default(),
            Some(file) => {
                let text = std::fs::read_to_string(file).map_err(InvalidSettings::StoresFile)?;
                let environment: Vec<_> = std::env::vars().collect();
                Stores::read(&file.display().to_string(), &text, &environment, &http, RetryPolicy::default())?
            }
        };
        Ok(EvidenceContext {
            own: OwnObjects::default(),
            stores,
            endpoints: Endpoints::new(&named(&self.allowed_store_endpoints).collect::<Vec<_>>())?,
            http,
            bytes: ByteBudget::default(),
            places: FairSemaphore::new(STORING_AT_ONCE, STORING_AT_ONCE_OF_ONE),
            limits: EndpointLimits::default(),
            breaker: StoreBreaker::default(),
            told: StoreFailureLog::default(),
            forbidden: self.forbidden_images.iter().map(|image| (*image).into()).collect(),
        })
    }

    /// The operator's own Pod, where it is told of one.
    #[must_use]
    pub fn own_pod(&self) -> Option<OwnPod> {
        let (name, namespace) = self.pod_name.clone().zip(self.pod_namespace.clone())?;
        Some(OwnPod { namespace, name, uid: self.pod_uid.clone() })
    }

    /// How long to wait at the end.
    #[must_use]
    pub const fn grace(&self) -> Duration {
        Duration::from_secs(self.grace_seconds)
    }
}
