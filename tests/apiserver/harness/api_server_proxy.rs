//! A proxy between an operator and the API server, which a test can interrupt. Touches the loopback interface.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use kube::config::Kubeconfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What the proxy does with bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Traffic {
    /// It forwards them.
    Open,
    /// It closes connections, new ones included.
    Cut,
    /// It forwards nothing and keeps connections open.
    Stalled,
    /// It forwards requests and no responses.
    RequestsOnly,
}

/// A TCP proxy in front of the API server. Dropping it closes every connection.
#[derive(Debug)]
pub(crate) struct ApiServerProxy {
    kubeconfig: PathBuf,
    traffic: watch::Sender<Traffic>,
    task: JoinHandle<()>,
}

impl ApiServerProxy {
    /// Starts a proxy to the API server of a kubeconfig. The kubeconfig that leads through it is in `folder`.
    pub(crate) async fn start(kubeconfig: &Path, folder: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen on the loopback interface");
        let proxy = listener.local_addr().expect("a listener has an address");
        let mut config = Kubeconfig::read_from(kubeconfig).expect("read the kubeconfig");
        let address = config
            .clusters
            .iter_mut()
            .find_map(|cluster| cluster.cluster.as_mut()?.server.as_mut())
            .expect("the kubeconfig names a server");
        let server: SocketAddr =
            address.trim_start_matches("https://").parse().expect("the server is an address and a port");
        *address = format!("https://{proxy}");
        let path = folder.join("through-the-proxy.kubeconfig");
        let text = serde_json::to_string(&config).expect("a kubeconfig is JSON");
        std::fs::write(&path, text).expect("write a kubeconfig");

        let (traffic, mode) = watch::channel(Traffic::Open);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(forward(stream, server, mode.clone()));
            }
        });
        Self { kubeconfig: path, traffic, task }
    }

    /// The kubeconfig that leads through this proxy.
    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Changes what the proxy does with bytes from now on.
    pub(crate) fn set(&self, traffic: Traffic) {
        self.traffic.send_replace(traffic);
    }
}

impl Drop for ApiServerProxy {
    fn drop(&mut self) {
        self.task.abort();
        self.set(Traffic::Cut);
    }
}

async fn forward(client: TcpStream, server: SocketAddr, mode: watch::Receiver<Traffic>) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let ((client_read, client_write), (server_read, server_write)) =
        (client.into_split(), server.into_split());
    let there = forward_one_way(client_read, server_write, mode.clone(), |traffic| {
        matches!(traffic, Traffic::Open | Traffic::RequestsOnly)
    });
    let back = forward_one_way(server_read, client_write, mode, |traffic| traffic == Traffic::Open);
    tokio::select! {
        () = there => {}
        () = back => {}
    }
}

/// Forwards bytes in one direction while that is allowed. Returns when the connection ends or is cut.
async fn forward_one_way(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut mode: watch::Receiver<Traffic>,
    may_flow: fn(Traffic) -> bool,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let traffic = *mode.borrow_and_update();
        if traffic == Traffic::Cut {
            return;
        }
        if !may_flow(traffic) {
            if mode.changed().await.is_err() {
                return;
            }
            continue;
        }
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            changed = mode.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
        };
        let Ok(count @ 1..) = read else { return };
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
