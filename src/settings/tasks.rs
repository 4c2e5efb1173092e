//! The settings of the subcommands that do one thing and end.

use clap::Args;

use super::{
    selector::Selector,
    values::{AdminUrl, Namespace},
};
use crate::telemetry::LogFormat;

/// The settings of `okid-operator release-finalizers`.
#[derive(Args, Debug)]
pub struct ReleaseSettings {
    /// Namespace to work in, instead of all; repeatable or comma-separated.
    #[arg(long = "namespace", value_name = "NAME", value_delimiter = ',')]
    pub namespaces: Vec<Namespace>,
    /// Label selector of the Verifications to work on, such as `sharding.fluxcd.io/key=shard1`.
    #[arg(long, value_name = "SELECTOR")]
    pub selector: Option<Selector>,
    /// Deployment of the operator, which is scaled to zero first: an operator that runs would add the finalizer again.
    #[arg(long, value_name = "NAME", requires = "pod_namespace")]
    pub stop_deployment: Option<String>,
    /// Label selector of that Deployment's Pods, whose end is awaited.
    #[arg(long, value_name = "SELECTOR", requires = "stop_deployment")]
    pub pod_selector: Option<Selector>,
    /// Namespace of that Deployment.
    #[arg(long, env = "OKID_POD_NAMESPACE", value_name = "NAME")]
    pub pod_namespace: Option<Namespace>,
    /// Format of log lines.
    #[arg(long, value_enum, default_value_t = LogFormat::Human)]
    pub log_format: LogFormat,
}

/// The settings of `okid-operator check`.
#[derive(Args, Debug)]
pub struct CheckSettings {
    /// URL where the operator serves /readyz and /metrics, such as `http://okid-operator-metrics:8080`.
    #[arg(long, value_name = "URL")]
    pub admin_url: Option<AdminUrl>,
    /// Namespace that the operator watches, instead of all; repeatable or comma-separated.
    #[arg(long = "namespace", value_name = "NAME", value_delimiter = ',')]
    pub namespaces: Vec<Namespace>,
    /// Name of the operator's Lease, if it elects a leader.
    #[arg(long, value_name = "NAME")]
    pub leader_lease_name: Option<String>,
    /// Namespace of that Lease, if it is not the Pod's.
    #[arg(long, value_name = "NAME", requires = "leader_lease_name")]
    pub leader_lease_namespace: Option<Namespace>,
    /// Whether the operator deletes Verifications at the end of their `spec.ttlAfterFinished`, which takes one more permission.
    #[arg(long)]
    pub ttl_after_finished: bool,
    /// Namespace of the operator's Pod, from the downward API.
    #[arg(long, env = "OKID_POD_NAMESPACE", value_name = "NAME")]
    pub pod_namespace: Option<Namespace>,
}
