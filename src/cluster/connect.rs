//! The client for the API server: it finds the cluster as kubectl does, and connects through the proxy that kubectl
//! would use. May depend on the kubeconfig, the environment and `proxy`.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use http::{HeaderValue, Uri};
use hyper::rt::{Read, Write};
use hyper_timeout::TimeoutConnector;
use hyper_util::{
    client::legacy::{
        Client as HttpClient,
        connect::{
            Connection, HttpConnector,
            proxy::{SocksV5, Tunnel},
        },
    },
    rt::TokioExecutor,
};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder, ConfigExt as _, retry::RetryPolicy},
    config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt as _, layer::util::Stack, retry::RetryLayer};

use super::{
    error::ProxyFailed,
    events::note::OwnPod,
    proxy::{InvalidProxy, Protocol, Proxy, proxy},
    request_metrics::RequestMetrics,
    verifications::Cluster,
};
use crate::{
    clock::{Clock, ServerDates},
    metrics::Metrics,
};

/// Replaces the proxy of a kubeconfig, so that kube reads none from the environment: this module chooses the proxy.
const PLACEHOLDER_PROXY: &str = "http://127.0.0.1";

/// What measures each request of the client and its response.
type ClientLayers = Stack<ServerDates, RequestMetrics>;

/// Why a client for the API server cannot be made. Quotes no text of a kubeconfig, which may hold credentials.
#[derive(Debug, thiserror::Error)]
pub enum Connect {
    /// There is no usable kubeconfig and no `ServiceAccount`.
    #[error(
        "find the cluster: set KUBECONFIG, or run in a pod with a ServiceAccount; {}, and {in_cluster}",
        problem(kubeconfig)
    )]
    Find {
        /// The problem with the kubeconfig.
        kubeconfig: Box<KubeconfigError>,
        /// Why the process does not run in a pod.
        in_cluster: Box<InClusterError>,
    },
    /// The address of the proxy is invalid.
    #[error("choose the proxy to the API server")]
    Proxy(#[from] InvalidProxy),
    /// The client cannot be made.
    #[error("make a client for the API server")]
    Client(#[source] kube::Error),
}

/// The problem with a kubeconfig. The parser's own message is not used, because it quotes the file.
fn problem(error: &KubeconfigError) -> String {
    if let KubeconfigError::ReadConfig(error, path) = error {
        format!("the kubeconfig {} cannot be read ({})", path.display(), error.kind())
    } else if matches!(error, KubeconfigError::Parse(_)) {
        "the kubeconfig is not valid YAML or not a kubeconfig".to_owned()
    } else {
        format!("the kubeconfig cannot be used ({error})")
    }
}

/// Connects to the cluster of the kubeconfig or of the Pod. Its clock is measured by the dates of its responses. Events
/// are reported as that instance, which may run in that Pod.
///
/// # Errors
///
/// [`Connect`].
pub(crate) async fn connect(
    clock: Clock,
    instance: &str,
    own_pod: Option<OwnPod>,
    metrics: Arc<Metrics>,
) -> Result<Cluster, Connect> {
    let (config, of_kubeconfig) = find().await?;
    let variable = |name: &str| std::env::var(name).ok();
    let proxy = proxy(&config.cluster_url, of_kubeconfig.as_deref(), variable)?;
    if proxy.is_some() {
        tracing::info!("connecting to the API server through a proxy");
    }
    let layers = Stack::new(ServerDates(clock), RequestMetrics(Arc::clone(&metrics)));
    let client = client(config, proxy, &layers).map_err(Connect::Client)?;
    Ok(Cluster::new(client, instance, own_pod, metrics))
}

/// The cluster of the kubeconfig and its proxy, or else the cluster of the pod.
async fn find() -> Result<(Config, Option<String>), Connect> {
    let kubeconfig = match Kubeconfig::read() {
        Ok(kubeconfig) => of_kubeconfig(kubeconfig).await,
        Err(error) => Err(error),
    };
    let (mut config, proxy) = match kubeconfig {
        Ok(found) => found,
        Err(error) => match Config::incluster() {
            Ok(config) => (config, None),
            Err(in_cluster) => {
                return Err(Connect::Find { kubeconfig: Box::new(error), in_cluster: Box::new(in_cluster) });
            }
        },
    };
    config.apply_debug_overrides();
    Ok((config, proxy))
}

async fn of_kubeconfig(mut kubeconfig: Kubeconfig) -> Result<(Config, Option<String>), KubeconfigError> {
    let current = kubeconfig.current_context.as_deref();
    let context = kubeconfig.contexts.iter().find(|context| Some(context.name.as_str()) == current);
    let cluster = context.and_then(|context| context.context.as_ref()).map(|context| context.cluster.clone());
    let mut proxy = None;
    for named in &mut kubeconfig.clusters {
        let Some(known) = &mut named.cluster else { continue };
        let its_own = known.proxy_url.replace(PLACEHOLDER_PROXY.to_owned());
        if Some(&named.name) == cluster.as_ref() {
            proxy = its_own;
        }
    }
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.proxy_url = None;
    Ok((config, proxy))
}

fn client(config: Config, proxy: Option<Proxy>, layers: &ClientLayers) -> kube::Result<Client> {
    let Some(Proxy { protocol, address, credentials }) = proxy else {
        return Ok(ClientBuilder::try_from(config)?.with_layer(layers).build());
    };
    // As kube does; it fails if there is one already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    match protocol {
        Protocol::Http => through(config, layers, tunnel(address, credentials, connector)),
        Protocol::Https => {
            // The proxy's certificate is not issued by the cluster's CA.
            let connector = Config::new(address.clone()).rustls_https_connector_with_connector(connector)?;
            through(config, layers, tunnel(address, credentials, connector))
        }
        Protocol::Socks5 => {
            let socks = SocksV5::new(address, connector);
            let socks = match credentials {
                Some((user, password)) => socks.with_auth(user, password),
                None => socks,
            };
            through(config, layers, socks)
        }
    }
}

fn tunnel<C>(address: Uri, credentials: Option<(String, String)>, connector: C) -> Tunnel<C> {
    let tunnel = Tunnel::new(address, connector);
    let header = credentials.and_then(|(user, password)| {
        HeaderValue::try_from(format!("Basic {}", BASE64.encode(format!("{user}:{password}")))).ok()
    });
    match header {
        Some(header) => tunnel.with_auth(header),
        None => tunnel,
    }
}

/// The client that kube would build, on a connection through a proxy.
fn through<C>(config: Config, layers: &ClientLayers, connector: C) -> kube::Result<Client>
where
    C: Service<Uri> + Clone + Send + Sync + 'static,
    C::Response: Connection + Read + Write + Send + Unpin + 'static,
    C::Future: Send + 'static,
    C::Error: Into<BoxError> + 'static,
{
    let connector = connector.map_err(|error| ProxyFailed(error.into()));
    let mut connector = TimeoutConnector::new(config.rustls_https_connector_with_connector(connector)?);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    connector.set_reset_reader_on_write(config.reset_reader_on_write);
    let client: HttpClient<_, Body> = HttpClient::builder(TokioExecutor::new()).build(connector);
    let retry = config.default_retry.then(|| RetryLayer::new(RetryPolicy::server_retry()));
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(retry)
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(client);
    Ok(ClientBuilder::new(service, config.default_namespace).with_layer(layers).build())
}
