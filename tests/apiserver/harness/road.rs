//! The way from an operator to the API server, which a test can close. Touches the loopback interface.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use kube::config::Kubeconfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What becomes of bytes on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Traffic {
    /// They arrive.
    Flows,
    /// Connections are cut, and new ones too.
    Cut,
    /// Nothing arrives anywhere, and nobody is told.
    Stands,
    /// The API server hears everything, and its answers arrive nowhere.
    OneWay,
}

/// A TCP proxy in front of the API server. Dropping it cuts every connection.
#[derive(Debug)]
pub(crate) struct Road {
    kubeconfig: PathBuf,
    traffic: watch::Sender<Traffic>,
    task: JoinHandle<()>,
}

impl Road {
    /// Opens a road to the API server of a kubeconfig; the kubeconfig that leads over it lies in `folder`.
    pub(crate) async fn open(kubeconfig: &Path, folder: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen on the loopback interface");
        let near = listener.local_addr().expect("a listener has an address");
        let mut config = Kubeconfig::read_from(kubeconfig).expect("read the kubeconfig");
        let server = config
            .clusters
            .iter_mut()
            .find_map(|cluster| cluster.cluster.as_mut()?.server.as_mut())
            .expect("the kubeconfig names a server");
        let far: SocketAddr =
            server.trim_start_matches("https://").parse().expect("the server is an address and a port");
        *server = format!("https://{near}");
        let path = folder.join("over-the-road.kubeconfig");
        let text = serde_json::to_string(&config).expect("a kubeconfig is JSON");
        std::fs::write(&path, text).expect("write a kubeconfig");

        let (traffic, orders) = watch::channel(Traffic::Flows);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(carry(stream, far, orders.clone()));
            }
        });
        Self { kubeconfig: path, traffic, task }
    }

    /// The kubeconfig that leads over this road.
    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Changes what becomes of bytes from now on.
    pub(crate) fn set(&self, traffic: Traffic) {
        self.traffic.send_replace(traffic);
    }
}

impl Drop for Road {
    fn drop(&mut self) {
        self.task.abort();
        self.set(Traffic::Cut);
    }
}

async fn carry(near: TcpStream, far: SocketAddr, orders: watch::Receiver<Traffic>) {
    let Ok(far) = TcpStream::connect(far).await else { return };
    let ((near_out, near_in), (far_out, far_in)) = (near.into_split(), far.into_split());
    let there =
        push(near_out, far_in, orders.clone(), |traffic| matches!(traffic, Traffic::Flows | Traffic::OneWay));
    let back = push(far_out, near_in, orders, |traffic| traffic == Traffic::Flows);
    tokio::select! {
        () = there => {}
        () = back => {}
    }
}

/// Carries bytes one way while they may flow; ends with the connection, or when it is cut.
async fn push(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut orders: watch::Receiver<Traffic>,
    may_flow: fn(Traffic) -> bool,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let traffic = *orders.borrow_and_update();
        if traffic == Traffic::Cut {
            return;
        }
        if !may_flow(traffic) {
            if orders.changed().await.is_err() {
                return;
            }
            continue;
        }
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            changed = orders.changed() => match changed {
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
