//! The flags of `okid-operator run` and their help. Each one can also be set by an environment variable.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use clap::{ArgAction, Args, builder::BoolishValueParser};

use ipnet::IpNet;

use super::{
    parsers::{ImageParser, namespaces, trimmed},
    selector::Selector,
    values::{ForbiddenImage, LeaseName, LinkPath, Namespace, RateLimit, network},
};
use crate::{
    api::Duration,
    portal::DEFAULT_PORTAL,
    telemetry::{LogFilter, LogFormat},
};

const PORTALS: &str = "Portals";
const EVIDENCE: &str = "Evidence";
const OPERATION: &str = "Operation";
const LEADER_ELECTION: &str = "Leader election";
const WEBHOOK: &str = "Notifications of portals";
const OWN_POD: &str = "The operator's own Pod";
const LOGS: &str = "Logs";

/// What the flags say, before values that depend on each other are checked.
#[derive(Args)]
#[command(
    after_help = "The operator finds the cluster the way kubectl does: by KUBECONFIG, ~/.kube/config, or the Pod's \
                  ServiceAccount. It connects through the proxy that the kubeconfig's proxy-url or HTTPS_PROXY names, \
                  unless the API server is on this machine or NO_PROXY lists its host. These proxies do not apply to \
                  portals and stores; --portal-proxy applies to portals only.\n\nAn environment variable that is set \
                  but empty counts as not set."
)]
pub(super) struct Flags {
    /// URL of a portal that Verifications may use; repeatable or comma-separated. The first one is the default portal.
    #[arg(long = "allowed-portal", env = "OKID_ALLOWED_PORTALS", value_name = "URL", value_delimiter = ',', value_parser = trimmed(), default_value = DEFAULT_PORTAL, help_heading = PORTALS)]
    pub(super) allowed_portals: Vec<String>,
    /// Portal for Verifications that name none. It must be one of the allowed portals.
    #[arg(long, env = "OKID_DEFAULT_PORTAL", value_name = "URL", help_heading = PORTALS)]
    pub(super) default_portal: Option<String>,
    /// Allow portals with http:// URLs. Anyone on the network path can then read the API key.
    #[arg(long, env = "OKID_ALLOW_PLAIN_HTTP", value_parser = BoolishValueParser::new(), help_heading = PORTALS)]
    pub(super) allow_plain_http: bool,
    /// Path of the identity check page at the portal, such as /verify. The link in `status.portalUrl` leads there.
    #[arg(long, env = "OKID_LINK_PATH", value_name = "PATH", default_value = "/", help_heading = PORTALS)]
    pub(super) link_path: LinkPath,
    /// HTTP proxy for requests to portals, such as `http://proxy.example:3128`. The proxy variables of the environment do
    /// not apply to portals. Set a URL with a password by environment variable: everyone who can list processes can read flags.
    #[arg(long, env = "OKID_PORTAL_PROXY", hide_env_values = true, value_name = "URL", help_heading = PORTALS)]
    pub(super) portal_proxy: Option<String>,
    /// PEM file with additional certificate authorities to trust for portals.
    #[arg(long, env = "OKID_PORTAL_CA_FILE", value_name = "FILE", help_heading = PORTALS)]
    pub(super) portal_ca_file: Option<PathBuf>,
    /// Maximum requests per second to each portal, shared fairly between namespaces; 0 means no limit.
    #[arg(long, env = "OKID_PORTAL_QPS", value_name = "N", default_value = "200", help_heading = PORTALS)]
    pub(super) portal_qps: RateLimit,
    /// Maximum requests per second to each portal with one API key; 0 means no limit.
    #[arg(long, env = "OKID_KEY_QPS", value_name = "N", default_value = "50", help_heading = PORTALS)]
    pub(super) key_qps: RateLimit,

    /// YAML file with the named stores that Verifications may use for evidence (docs/evidence/operate.md).
    #[arg(long, env = "OKID_STORES_FILE", value_name = "FILE", help_heading = EVIDENCE)]
    pub(super) stores_file: Option<PathBuf>,
    /// URL of an object store outside AWS, Azure and Google Cloud, such as `https://minio.example:9000`, that credentials
    /// from a namespace may name as their endpoint; repeatable or comma-separated. An http:// URL allows plain HTTP.
    #[arg(long = "allowed-store-endpoint", env = "OKID_ALLOWED_STORE_ENDPOINTS", value_name = "URL", value_delimiter = ',', value_parser = trimmed(), help_heading = EVIDENCE)]
    pub(super) allowed_store_endpoints: Vec<String>,
    /// PEM file with additional certificate authorities to trust for stores.
    #[arg(long, env = "OKID_STORE_CA_FILE", value_name = "FILE", help_heading = EVIDENCE)]
    pub(super) store_ca_file: Option<PathBuf>,
    /// Kind of image that is never stored as evidence; repeatable or comma-separated.
    #[arg(long = "forbid-image", env = "OKID_FORBID_IMAGES", value_name = "KIND", value_delimiter = ',', value_parser = ImageParser::new(), help_heading = EVIDENCE)]
    pub(super) forbidden_images: Vec<ForbiddenImage>,

    /// Watch this namespace only, instead of all namespaces; repeatable or comma-separated. Each namespace has a watch of its
    /// own.
    #[arg(long = "namespace", env = "OKID_NAMESPACE", value_name = "NAME", value_delimiter = ',', value_parser = namespaces(), help_heading = OPERATION)]
    pub(super) namespaces: Vec<Option<Namespace>>,
    /// Watch only Verifications with these labels, in the syntax of `kubectl --selector`. Several operators can share the
    /// work by it, such as with `sharding.fluxcd.io/key=shard1`; each Verification should be selected by exactly one.
    #[arg(long, env = "OKID_SELECTOR", value_name = "SELECTOR", help_heading = OPERATION)]
    pub(super) selector: Option<Selector>,
    /// Maximum reconciles that run at the same time; one namespace uses at most half of them. Raise it if
    /// `okid_queue_depth` stays above 0; lower it to save memory.
    #[arg(long, env = "OKID_MAX_CONCURRENT_RECONCILES", value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000), help_heading = OPERATION)]
    pub(super) max_concurrent_reconciles: u32,
    /// Address that serves /livez, /readyz and /metrics. On a machine without IPv6, `[::]` means 0.0.0.0. From this machine,
    /// `PUT /log-filter` replaces --log-filter until the process ends.
    #[arg(long, env = "OKID_ADMIN_ADDRESS", value_name = "ADDRESS", default_value = "[::]:8080", help_heading = OPERATION)]
    pub(super) admin_address: SocketAddr,
    /// How long a shutdown waits until requests in flight are finished and recorded. A second SIGTERM or Ctrl-C ends the
    /// wait. Events may take 10s longer, so give the Pod a terminationGracePeriodSeconds (30 by default) that covers both.
    #[arg(long, env = "OKID_SHUTDOWN_GRACE_PERIOD", value_name = "DURATION", default_value = "60s", help_heading = OPERATION)]
    pub(super) shutdown_grace_period: Duration,

    #[command(flatten)]
    pub(super) leader: LeaderFlags,

    #[command(flatten)]
    pub(super) webhook: WebhookFlags,

    /// Name of this Pod, from the downward API (`fieldRef: metadata.name`). Events go to this Pod if their own namespace
    /// accepts none, for example because it is being deleted.
    #[arg(long, env = "OKID_POD_NAME", value_name = "NAME", requires = "pod_namespace", help_heading = OWN_POD)]
    pub(super) pod_name: Option<String>,
    /// Namespace of this Pod, from the downward API (`fieldRef: metadata.namespace`).
    #[arg(long, env = "OKID_POD_NAMESPACE", value_name = "NAME", requires = "pod_name", help_heading = OWN_POD)]
    pub(super) pod_namespace: Option<String>,
    /// UID of this Pod, from the downward API (`fieldRef: metadata.uid`). `kubectl describe pod` shows only events that
    /// carry it.
    #[arg(long, env = "OKID_POD_UID", value_name = "UID", help_heading = OWN_POD)]
    pub(super) pod_uid: Option<String>,

    /// IP address of this Pod, from the downward API (`fieldRef: status.podIP`). Other replicas forward notifications to it.
    #[arg(long, env = "OKID_POD_IP", value_name = "IP", help_heading = OWN_POD)]
    pub(super) pod_ip: Option<IpAddr>,

    /// Format of log lines.
    #[arg(long, env = "OKID_LOG_FORMAT", value_enum, default_value_t = LogFormat::Json, help_heading = LOGS)]
    pub(super) log_format: LogFormat,
    /// Log level (error, warn, info, debug) or `tracing` directives such as `okid_operator=debug`. Lines of libraries are
    /// never logged.
    #[arg(long, env = "OKID_LOG_FILTER", value_name = "DIRECTIVES", default_value = "info", help_heading = LOGS)]
    pub(super) log_filter: LogFilter,
}

/// The flags of the leader election.
#[derive(Args)]
pub(super) struct LeaderFlags {
    /// Elect a leader among the replicas by a Lease; the others stand by. `--leader-elect=false` runs a single replica
    /// without a Lease.
    #[arg(long = "leader-elect", env = "OKID_LEADER_ELECT", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", action = ArgAction::Set, value_parser = BoolishValueParser::new(), help_heading = LEADER_ELECTION)]
    pub(super) elect: bool,
    /// How long the other replicas wait after the last renewal that they have seen, until one of them leads. Whole seconds.
    #[arg(long = "leader-lease-duration", env = "OKID_LEADER_LEASE_DURATION", value_name = "DURATION", default_value = "15s", help_heading = LEADER_ELECTION)]
    pub(super) lease_duration: Duration,
    /// How long the leader tries to renew the Lease before it steps down and exits. Shorter than the lease duration.
    #[arg(long = "leader-renew-deadline", env = "OKID_LEADER_RENEW_DEADLINE", value_name = "DURATION", default_value = "10s", help_heading = LEADER_ELECTION)]
    pub(super) renew_deadline: Duration,
    /// How often the leader renews the Lease, and the others look at it.
    #[arg(long = "leader-retry-period", env = "OKID_LEADER_RETRY_PERIOD", value_name = "DURATION", default_value = "2s", help_heading = LEADER_ELECTION)]
    pub(super) retry_period: Duration,
    /// Name of the Lease. By default it is okid-operator, followed by a hash of --namespace and --selector if one
    /// is given: installations that share the work must not share a Lease.
    #[arg(long = "leader-lease-name", env = "OKID_LEADER_LEASE_NAME", value_name = "NAME", help_heading = LEADER_ELECTION)]
    pub(super) lease_name: Option<LeaseName>,
    /// Namespace of the Lease. By default it is the operator's own: that of its Pod, or of the kubeconfig's context.
    #[arg(long = "leader-lease-namespace", env = "OKID_LEADER_LEASE_NAMESPACE", value_name = "NAME", help_heading = LEADER_ELECTION)]
    pub(super) lease_namespace: Option<Namespace>,
}

/// The flags of the receiver of notifications.
#[derive(Args)]
pub(super) struct WebhookFlags {
    /// Address that receives notifications of portals, such as `[::]:8443`. Without it, none are received. On a machine
    /// without IPv6, `[::]` means 0.0.0.0.
    #[arg(long = "webhook-address", env = "OKID_WEBHOOK_ADDRESS", value_name = "ADDRESS", requires = "file", help_heading = WEBHOOK)]
    pub(super) address: Option<SocketAddr>,
    /// YAML file with the names under which notifications arrive, and how they are checked (docs/webhooks.md).
    #[arg(long = "webhooks-file", env = "OKID_WEBHOOKS_FILE", value_name = "FILE", requires = "address", help_heading = WEBHOOK)]
    pub(super) file: Option<PathBuf>,
    /// PEM file with the certificate of that address. Without it, the address speaks plain HTTP, for an Ingress that ends
    /// TLS. The files are read again when they change.
    #[arg(long = "webhook-tls-cert-file", env = "OKID_WEBHOOK_TLS_CERT_FILE", value_name = "FILE", requires = "tls_key_file", help_heading = WEBHOOK)]
    pub(super) tls_cert_file: Option<PathBuf>,
    /// PEM file with the private key of that certificate.
    #[arg(long = "webhook-tls-key-file", env = "OKID_WEBHOOK_TLS_KEY_FILE", value_name = "FILE", requires = "tls_cert_file", help_heading = WEBHOOK)]
    pub(super) tls_key_file: Option<PathBuf>,
    /// Network of proxies, such as the Pods of an Ingress controller, whose X-Forwarded-For says where a call comes from;
    /// repeatable or comma-separated. Without it, all calls through a proxy share one rate.
    #[arg(long = "webhook-trusted-proxy", env = "OKID_WEBHOOK_TRUSTED_PROXIES", value_name = "CIDR", value_delimiter = ',', value_parser = network, help_heading = WEBHOOK)]
    pub(super) trusted_proxies: Vec<IpNet>,
    /// Maximum calls per second from one source that are not authentic; further ones get 429. 0 means no limit. Authentic
    /// calls do not count.
    #[arg(long = "webhook-source-rate", env = "OKID_WEBHOOK_SOURCE_RATE", value_name = "N", default_value = "100", help_heading = WEBHOOK)]
    pub(super) source_rate: RateLimit,
}
