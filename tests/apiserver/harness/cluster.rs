//! The control plane that all tests of this program share. Touches processes and the API server.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use control_plane::{Backup, ControlPlane, Programs, Progress};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client, Config};
use okid_operator::api::definition;
use serde_json::json;
use tokio::sync::OnceCell;
use tokio::task::{block_in_place, spawn_blocking};
use tokio::time::timeout;

use super::{LIMIT, holds, until};

/// The kubeconfig of a control plane that runs already, and the client to use with it.
const KUBECONFIG: &str = "OKID_TEST_KUBECONFIG";
const KUBECTL: &str = "OKID_TEST_KUBECTL";

/// It is never dropped; the lifelines of etcd and the API server end with this process.
static SHARED: OnceCell<Arc<Cluster>> = OnceCell::const_new();

/// A control plane, and how to reach it as its administrator.
#[derive(Debug)]
pub(crate) struct Cluster {
    kubeconfig: PathBuf,
    kubectl: PathBuf,
    own: Option<ControlPlane>,
}

impl Cluster {
    /// The control plane of this program, with the definition installed.
    pub(crate) async fn shared() -> &'static Arc<Self> {
        SHARED
            .get_or_init(|| async {
                let given = std::env::var_os(KUBECONFIG).zip(std::env::var_os(KUBECTL));
                let cluster = match given {
                    Some((kubeconfig, kubectl)) => {
                        Self { kubeconfig: kubeconfig.into(), kubectl: kubectl.into(), own: None }
                    }
                    None => Self::start().await,
                };
                cluster.install_definition().await;
                Arc::new(cluster)
            })
            .await
    }

    /// A control plane of one test's own, without the definition.
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// As [`Cluster::start`], with further flags of the API server.
    pub(crate) async fn start_with(flags: &'static [&'static str]) -> Self {
        let own = spawn_blocking(|| {
            let programs =
                Programs::find_or_build(Progress::detect()).expect("find the control plane's programs");
            ControlPlane::start_with(&programs, &[], flags).expect("start a control plane")
        })
        .await
        .expect("start a control plane");
        Self { kubeconfig: own.kubeconfig_path(), kubectl: own.programs().kubectl.clone(), own: Some(own) }
    }

    /// Copies etcd's data. The API server is away meanwhile.
    pub(crate) fn back_up(&mut self) -> Backup {
        block_in_place(|| self.own().back_up()).expect("back up etcd")
    }

    /// Restores etcd from a copy. `prepare` is called with etcd's address before the API server is started again.
    pub(crate) fn restore(&mut self, backup: &Backup, prepare: impl FnOnce(&str)) {
        block_in_place(|| self.own().restore(backup, prepare)).expect("restore etcd");
    }

    fn own(&mut self) -> &mut ControlPlane {
        self.own.as_mut().expect("the control plane is this test's own")
    }

    /// The administrator's kubeconfig.
    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The API server's log of the requests of `ServiceAccounts`, which is beside the kubeconfig.
    pub(crate) fn audit_log(&self) -> PathBuf {
        self.kubeconfig.with_file_name("audit.log")
    }

    /// kubectl, as the administrator.
    pub(crate) fn kubectl(&self) -> Command {
        let mut kubectl = Command::new(&self.kubectl);
        kubectl.env("KUBECONFIG", &self.kubeconfig);
        // What it remembers of an API server at the same port, from another run, is of no use.
        kubectl.env("KUBECACHEDIR", self.kubeconfig.with_file_name("kubectl-cache"));
        kubectl
    }

    /// A client of the administrator. It belongs to the runtime of the test that asks for it.
    pub(crate) async fn client(&self) -> Client {
        let kubeconfig = Kubeconfig::read_from(&self.kubeconfig).expect("read the kubeconfig");
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .expect("understand the kubeconfig");
        Client::try_from(config).expect("make a client")
    }

    /// Installs the definition as it is in the code, and waits until the API server serves it.
    pub(crate) async fn install_definition(&self) {
        self.install(&definition()).await;
    }

    /// Installs a definition, and waits until the API server serves it.
    pub(crate) async fn install(&self, definition: &CustomResourceDefinition) {
        let api: Api<CustomResourceDefinition> = Api::all(self.client().await);
        let name = definition.metadata.name.clone().expect("the definition has a name");
        let apply = PatchParams::apply("okid-tests").force();
        api.patch(&name, &apply, &Patch::Apply(definition)).await.expect("install the definition");
        let established = await_condition(api, &name, conditions::is_crd_established());
        timeout(LIMIT, established)
            .await
            .expect("the definition is established in time")
            .expect("wait for it");
        self.until_discovered(&definition.spec.group).await;
    }

    /// Waits until kubectl would find a group, which is a moment after it is served.
    async fn until_discovered(&self, group: &str) {
        let client = self.client().await;
        let discovered = async || {
            let groups = client.list_api_groups_aggregated().await.expect("discover");
            let mut names = groups.items.iter().filter_map(|item| item.metadata.as_ref()?.name.as_deref());
            holds(names.any(|name| name == group))
        };
        until(discovered, |()| format!("the group {group} is not discovered")).await;
    }

    /// Removes the definition, and waits until it is gone.
    pub(crate) async fn remove_definition(&self) {
        let api: Api<CustomResourceDefinition> = Api::all(self.client().await);
        let name = definition().metadata.name.expect("the definition has a name");
        let uid =
            api.get(&name).await.expect("get the definition").metadata.uid.expect("an object has a uid");
        api.delete(&name, &DeleteParams::default()).await.expect("remove the definition");
        let gone = await_condition(api, &name, conditions::is_deleted(&uid));
        timeout(LIMIT, gone).await.expect("the definition is gone in time").expect("wait for it");
    }

    /// Creates a namespace with a unique name.
    pub(crate) async fn new_namespace(&self, client: &Client) -> String {
        let api: Api<Namespace> = Api::all(client.clone());
        let name = format!("test-{:016x}", rand::random::<u64>());
        let namespace = serde_json::from_value(json!({"metadata": {"name": name}})).expect("a namespace");
        api.create(&PostParams::default(), &namespace).await.expect("make a namespace");
        name
    }
}
