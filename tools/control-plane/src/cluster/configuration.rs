//! The configuration files of the programs of a cluster. Pure.

use std::net::Ipv4Addr;
use std::path::Path;

use serde_json::json;

/// The name of the only node.
pub(super) const NODE: &str = "node";
/// The image that holds the namespaces of a Pod. No registry is asked for it.
pub(super) const PAUSE_IMAGE: &str = "docker.io/local/pause:1";
/// Addresses of Services. The first is that of the API server.
pub(super) const SERVICES: &str = "10.96.0.0/24";
const PODS: &str = "10.244.0.0/24";
const DOMAIN: &str = "cluster.local";

/// containerd, with everything that it writes below `folder`. `plugins` is the folder of the CNI plugins.
pub(super) fn containerd(folder: &Path, plugins: &Path) -> String {
    // A JSON string is a TOML string too.
    let path = |name: &str| json!(folder.join(name)).to_string();
    format!(
        r#"version = 3
root = {root}
state = {state}

[grpc]
address = {socket}

[plugins."io.containerd.internal.v1.opt"]
path = {opt}

[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{PAUSE_IMAGE}"

[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true

[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = [{plugins}]
conf_dir = {networks}

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
SystemdCgroup = false
"#,
        root = path("containerd/root"),
        state = path("containerd/state"),
        socket = path("containerd.sock"),
        opt = path("containerd/opt"),
        plugins = json!(plugins),
        networks = path("networks"),
    )
}

/// The network of the Pods: one pair of devices for each, and routes between them.
pub(super) fn network(folder: &Path) -> String {
    json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [{
            "type": "ptp",
            "ipMasq": false,
            "ipam": {
                "type": "host-local",
                "subnet": PODS,
                "routes": [{"dst": "0.0.0.0/0"}],
                "dataDir": folder.join("addresses"),
            },
        }],
    })
    .to_string()
}

/// The kubelet. Anyone who reaches the node may use its API: only this machine does.
pub(super) fn kubelet(folder: &Path, address: Ipv4Addr) -> String {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": address,
        "authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": false}},
        "authorization": {"mode": "AlwaysAllow"},
        "containerRuntimeEndpoint": format!("unix://{}", folder.join("containerd.sock").display()),
        "clusterDNS": [address],
        "clusterDomain": DOMAIN,
        "resolvConf": folder.join("resolv.conf"),
        "podLogsDir": folder.join("pod-logs"),
        "volumePluginDir": folder.join("volume-plugins"),
        // Both versions of cgroups, with or without a manager of them.
        "failCgroupV1": false,
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": false,
        "enforceNodeAllocatable": [],
        "oomScoreAdj": 0,
        "failSwapOn": false,
        // The disk and the memory are those of a developer's machine: they say nothing about this node.
        "evictionHard": {"memory.available": "1Mi", "nodefs.available": "0%", "imagefs.available": "0%"},
        "imageGCHighThresholdPercent": 100,
    })
    .to_string()
}

/// kube-proxy. It leaves the limits of connection tracking alone, which belong to the machine.
pub(super) fn kube_proxy(kubeconfig: &Path) -> String {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": kubeconfig},
        "hostnameOverride": NODE,
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
    })
    .to_string()
}

/// `CoreDNS`, for the names of Services. `context` is that of the kubeconfig.
pub(super) fn coredns(address: Ipv4Addr, kubeconfig: &Path, context: &str) -> String {
    let kubeconfig = kubeconfig.display();
    format!(
        "{DOMAIN}:53 {{
    bind {address}
    errors
    kubernetes {DOMAIN} {{
        kubeconfig {kubeconfig} {context}
    }}
    cache 5
}}
"
    )
}
