//! The settings of the receiver of notifications.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use ipnet::IpNet;

use super::{flags::WebhookFlags, values::RateLimit};

/// How notifications of portals are received.
#[derive(Clone, Debug, PartialEq)]
pub struct WebhookSettings {
    /// Where they are received.
    pub address: SocketAddr,
    /// File with the names.
    pub file: PathBuf,
    /// Files with the certificate and its key; none for plain HTTP.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Proxies that say where a call comes from.
    pub trusted_proxies: Vec<IpNet>,
    /// Calls per second from one source that are not authentic.
    pub source_rate: RateLimit,
    /// The address of this Pod.
    pub pod_ip: Option<IpAddr>,
}

impl WebhookSettings {
    /// Nothing without an address.
    pub(super) fn of(flags: WebhookFlags, pod_ip: Option<IpAddr>) -> Option<Self> {
        let WebhookFlags { address, file, tls_cert_file, tls_key_file, trusted_proxies, source_rate } = flags;
        Some(Self {
            address: address?,
            file: file?,
            certificate: tls_cert_file.zip(tls_key_file),
            trusted_proxies,
            source_rate,
            pod_ip,
        })
    }
}
