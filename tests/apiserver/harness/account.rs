//! The `ServiceAccount` of an operator: what it may do is what `okid_operator::permissions` lists, and its processes have its
//! token. Touches the API server.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use okid_operator::permissions::{self, Objects, RUN, Scope};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::{Cluster, holds, until};

/// The name of the operator's account, and of its Lease and its Deployment.
pub(crate) const ACCOUNT: &str = "okid-operator";

/// An entry of the lists in the code.
pub(crate) type Permission = &'static permissions::Permission;

/// A permission as a rule of a role.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Grant {
    group: &'static str,
    resource: &'static str,
    verb: &'static str,
    /// The names of the only objects that it is for.
    objects: Vec<String>,
}

/// A `ServiceAccount`.
pub(crate) struct Account {
    client: Client,
    namespace: String,
    /// The names of the Leases that it may get and update.
    leases: Vec<String>,
    /// What it may do in each namespace, and in all.
    granted: Mutex<BTreeMap<Option<String>, Vec<Grant>>>,
}

impl Account {
    /// Creates an account, which may do nothing.
    pub(crate) async fn create(client: Client, namespace: &str) -> Self {
        let account = json!({"metadata": {"name": ACCOUNT}});
        let account: ServiceAccount = serde_json::from_value(account).expect("an account");
        let api = Api::namespaced(client.clone(), namespace);
        api.create(&PostParams::default(), &account).await.expect("create a ServiceAccount");
        let (namespace, leases) = (namespace.to_owned(), vec![ACCOUNT.to_owned()]);
        Self { client, namespace, leases, granted: Mutex::default() }
    }

    /// The account of an operator that watches all namespaces, as the chart without values grants it. Its own namespace is
    /// `default`.
    pub(crate) async fn for_all_namespaces(cluster: &Cluster) -> Self {
        let account = Self::create(cluster.client().await, "default").await;
        account.grant(None, &of_scope(RUN, Scope::WatchedNamespaces)).await;
        account.grant(Some("default"), &of_scope(RUN, Scope::OwnNamespace)).await;
        account
    }

    /// Limits the permissions for Leases that are granted from now on to these.
    pub(crate) fn limit_to_leases(&mut self, leases: Vec<String>) {
        self.leases = leases;
    }

    /// Its name as a user.
    pub(crate) fn user(&self) -> String {
        format!("system:serviceaccount:{}:{ACCOUNT}", self.namespace)
    }

    /// Writes a kubeconfig with a token of it.
    pub(crate) async fn kubeconfig(&self, cluster: &Cluster, folder: &Path) -> PathBuf {
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &self.namespace);
        let request = TokenRequest::default();
        let token = api.create_token_request(ACCOUNT, &PostParams::default(), &request).await;
        let token = token.expect("request a token").status.expect("there is a token").token;
        let text = std::fs::read_to_string(cluster.kubeconfig()).expect("read the kubeconfig");
        let mut config: Value = serde_norway::from_str(&text).expect("a kubeconfig is YAML");
        config["users"][0]["user"] = json!({"token": token});
        let path = folder.join(format!("{}.kubeconfig", self.namespace));
        std::fs::write(&path, config.to_string()).expect("write a kubeconfig");
        path
    }

    /// Grants exactly these permissions in a namespace, or in all. They are in effect when this returns.
    pub(crate) async fn grant(&self, namespace: Option<&str>, permissions: &[Permission]) {
        let grants: Vec<_> = permissions.iter().map(|permission| self.grant_of(permission)).collect();
        let metadata = json!({"name": format!("{ACCOUNT}-of-{}", self.namespace)});
        let rules: Vec<_> = grants.iter().map(Grant::rule).collect();
        let role = json!({"metadata": metadata, "rules": rules});
        let subject = json!({"kind": "ServiceAccount", "name": ACCOUNT, "namespace": self.namespace});
        let binding = |kind: &str| {
            let role =
                json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": metadata["name"]});
            json!({"metadata": metadata, "roleRef": role, "subjects": [subject]})
        };
        let client = || self.client.clone();
        if let Some(namespace) = namespace {
            apply::<Role>(&Api::namespaced(client(), namespace), role).await;
            apply::<RoleBinding>(&Api::namespaced(client(), namespace), binding("Role")).await;
        } else {
            apply::<ClusterRole>(&Api::all(client()), role).await;
            apply::<ClusterRoleBinding>(&Api::all(client()), binding("ClusterRole")).await;
        }

        let mut granted = self.granted.lock().await;
        let before = granted.insert(namespace.map(str::to_owned), grants.clone()).unwrap_or_default();
        let added = grants.iter().find(|grant| !before.contains(grant)).map(|grant| (grant, true));
        let removed = before.iter().find(|grant| !grants.contains(grant)).map(|grant| (grant, false));
        // A role is replaced as a whole.
        let Some((grant, is_granted)) = added.or(removed) else { return };
        let is_applied = async || holds(self.may(namespace, grant).await == is_granted);
        until(is_applied, |()| "the API server does not apply the role".to_owned()).await;
    }

    fn grant_of(&self, permission: Permission) -> Grant {
        let permissions::Permission { api_group: group, resource, verb, .. } = *permission;
        let objects = match permission.objects {
            Objects::All => Vec::new(),
            Objects::Lease => self.leases.clone(),
            Objects::Deployment => vec![ACCOUNT.to_owned()],
        };
        Grant { group, resource, verb, objects }
    }

    async fn may(&self, namespace: Option<&str>, grant: &Grant) -> bool {
        let Grant { group, resource, verb, objects } = grant;
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let review = json!({"metadata": {}, "spec": {
            "user": self.user(),
            "resourceAttributes": {
                "namespace": namespace, "group": group, "resource": resource,
                "subresource": subresource, "name": objects.first(), "verb": verb,
            },
        }});
        let review: SubjectAccessReview = serde_json::from_value(review).expect("a review");
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let response = api.create(&PostParams::default(), &review).await.expect("ask for a review");
        response.status.is_some_and(|status| status.allowed)
    }
}

/// What the operator needs in one namespace for everything.
pub(crate) fn all() -> Vec<Permission> {
    RUN.iter().collect()
}

/// The permissions of a list that are needed where the operator watches, or in its own namespace.
pub(crate) fn of_scope(list: &'static [permissions::Permission], scope: Scope) -> Vec<Permission> {
    list.iter().filter(|permission| permission.scope == scope).collect()
}

impl Grant {
    fn rule(&self) -> Value {
        let Self { group, resource, verb, objects } = self;
        json!({"apiGroups": [group], "resources": [resource], "resourceNames": objects, "verbs": [verb]})
    }
}

/// Writes an object, which has a name and no type.
async fn apply<K>(api: &Api<K>, mut object: Value)
where
    K: Resource<DynamicType = ()> + Clone + Serialize + DeserializeOwned + std::fmt::Debug,
{
    object["apiVersion"] = json!(K::api_version(&()));
    object["kind"] = json!(K::kind(&()));
    let name = object["metadata"]["name"].as_str().expect("an object has a name").to_owned();
    let apply = PatchParams::apply("okid-tests").force();
    api.patch(&name, &apply, &Patch::Apply(&object)).await.expect("write an object");
}
