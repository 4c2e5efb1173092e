//! Sets up a world. Touches the control plane and the loopback interface.

use std::sync::Arc;

use control_plane::Folder;
use okid_sandbox::Sandbox;
use tokio::sync::Semaphore;

use super::evidence::new_s3;
use super::history::History;
use super::world::{SECRET, World, new_key};
use super::{Account, Cluster, Launch, all};

/// How many worlds run at the same time. They mostly wait, but each starts a process.
static PERMITS: Semaphore = Semaphore::const_new(12);

/// The parts of a world. See [`World::builder`].
#[must_use]
pub(crate) struct Builder {
    launch: Option<Launch>,
    cluster: Option<Arc<Cluster>>,
    portals: usize,
    secret: bool,
    s3: bool,
}

impl Builder {
    /// One portal, a Secret with a valid key, and an operator.
    pub(super) fn usual() -> Self {
        Self { launch: Some(Launch::new()), cluster: None, portals: 1, secret: true, s3: false }
    }

    /// Starts the operator with these options.
    pub(crate) fn launch(self, launch: Launch) -> Self {
        Self { launch: Some(launch), ..self }
    }

    /// Starts no operator.
    pub(crate) fn without_operator(self) -> Self {
        Self { launch: None, ..self }
    }

    /// Uses this control plane instead of the shared one. It has the definition.
    pub(crate) fn cluster(self, cluster: Cluster) -> Self {
        Self { cluster: Some(Arc::new(cluster)), ..self }
    }

    /// Sets the number of portals, which all know the key.
    pub(crate) fn portals(self, portals: usize) -> Self {
        Self { portals, ..self }
    }

    /// Adds an S3 server that the operator allows, and a Secret with its credentials.
    pub(crate) fn s3(self) -> Self {
        Self { s3: true, ..self }
    }

    /// Creates no Secret.
    pub(crate) fn without_secret(self) -> Self {
        Self { secret: false, ..self }
    }

    /// Sets up the world; the operator watches when this returns.
    pub(crate) async fn start(self) -> World {
        let Self { launch, cluster, portals: count, secret, s3 } = self;
        let permit = PERMITS.acquire().await.expect("the semaphore is never closed");
        let cluster = match cluster {
            Some(cluster) => cluster,
            None => Arc::clone(Cluster::shared().await),
        };
        let client = cluster.client().await;
        let namespace = cluster.new_namespace(&client).await;
        let account = Account::create(client.clone(), &namespace).await;
        account.grant(Some(&namespace), &all()).await;
        let folder = Folder::create("okid-operator-").expect("make a folder");
        let kubeconfig = account.kubeconfig(&cluster, folder.path()).await;
        let key = new_key();
        let mut portals = Vec::new();
        for _ in 0..count {
            portals.push(Sandbox::builder().key(&key).start().await);
        }
        let mut world = World {
            operator: None,
            history: History::start(client.clone(), &namespace),
            folder,
            logs: Vec::new(),
            keys: vec![key.clone()],
            finished: false,
            _permit: permit,
            cluster,
            client,
            account,
            kubeconfig,
            namespace,
            key,
            portals,
            s3: None,
        };
        if secret {
            world.secret(SECRET, &world.key.clone()).await;
        }
        if s3 {
            world.add_s3(new_s3().await).await;
        }
        if let Some(launch) = launch {
            world.start(launch).await;
        }
        world
    }
}
