//! What the operator may do at the API server, and why: one entry for each verb. The chart and
//! `examples/operator/rbac.yaml` grant exactly these permissions, with these reasons; tests compare them. Depends on nothing
//! of this crate.

/// A permission for one verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission {
    /// Where the permission is needed.
    pub scope: Scope,
    /// The API group; empty for the core group.
    pub api_group: &'static str,
    /// The plural of the resource, with a subresource after a slash.
    pub resource: &'static str,
    /// The objects that it is limited to.
    pub objects: Objects,
    /// The verb.
    pub verb: &'static str,
    /// What the verb is used for.
    pub reason: &'static str,
}

/// Where a permission is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In each namespace that is watched.
    WatchedNamespaces,
    /// In the namespace of the operator's Pod. What is for leader election is needed in the namespace of the Lease, which may
    /// be another one.
    OwnNamespace,
}

/// The objects that a permission is limited to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objects {
    /// All objects of the resource.
    All,
    /// The Lease of the leader election.
    Lease,
    /// The operator's Deployment.
    Deployment,
}

const fn permission(
    scope: Scope,
    (api_group, resource): (&'static str, &'static str),
    objects: Objects,
    (verb, reason): (&'static str, &'static str),
) -> Permission {
    Permission { scope, api_group, resource, objects, verb, reason }
}

const VERIFICATIONS: (&str, &str) = ("okid.io", "verifications");
const STATUS: (&str, &str) = ("okid.io", "verifications/status");
const SECRETS: (&str, &str) = ("", "secrets");
const EVENTS: (&str, &str) = ("events.k8s.io", "events");
const LEASES: (&str, &str) = ("coordination.k8s.io", "leases");
const SCALE: (&str, &str) = ("apps", "deployments/scale");
const PODS: (&str, &str) = ("", "pods");

/// What `okid-operator run` needs. Those for Leases are needed only with leader election.
pub const RUN: &[Permission] = &[
    permission(
        Scope::WatchedNamespaces,
        VERIFICATIONS,
        Objects::All,
        ("watch", "follows the resources that are not settled"),
    ),
    permission(
        Scope::WatchedNamespaces,
        VERIFICATIONS,
        Objects::All,
        (
            "list",
            "lists them where the API server has no streaming lists, and one now and then to notice a restored backup",
        ),
    ),
    permission(
        Scope::WatchedNamespaces,
        VERIFICATIONS,
        Objects::All,
        ("get", "reads one resource before a reconcile that may change it"),
    ),
    permission(
        Scope::WatchedNamespaces,
        VERIFICATIONS,
        Objects::All,
        ("patch", "adds and removes the finalizer of evidence with deletionPolicy: Delete; nothing else"),
    ),
    permission(
        Scope::WatchedNamespaces,
        STATUS,
        Objects::All,
        (
            "patch",
            "writes the claim before a create, and all that status shows. Grant it to nobody else: it can forge a verdict",
        ),
    ),
    permission(
        Scope::WatchedNamespaces,
        SECRETS,
        Objects::All,
        (
            "get",
            "reads one by its name when needed: the API key, and the credentials of a store. Never lists",
        ),
    ),
    permission(
        Scope::WatchedNamespaces,
        EVENTS,
        Objects::All,
        ("create", "reports what has happened to a Verification"),
    ),
    permission(
        Scope::WatchedNamespaces,
        EVENTS,
        Objects::All,
        ("patch", "counts an event that happens again"),
    ),
    permission(
        Scope::OwnNamespace,
        EVENTS,
        Objects::All,
        ("create", "reports about its own Pod what a namespace that is being deleted accepts no event for"),
    ),
    permission(
        Scope::OwnNamespace,
        LEASES,
        Objects::All,
        ("create", "creates the Lease once; a name cannot limit this verb"),
    ),
    permission(Scope::OwnNamespace, LEASES, Objects::Lease, ("get", "sees who leads")),
    permission(
        Scope::OwnNamespace,
        LEASES,
        Objects::Lease,
        ("update", "acquires, renews and releases the leadership"),
    ),
];

/// What `okid-operator run` needs to delete Verifications at the end of their `spec.ttlAfterFinished`. Optional: without it
/// they stay and show the reason `DeletionForbidden`.
pub const TTL_AFTER_FINISHED: &[Permission] = &[permission(
    Scope::WatchedNamespaces,
    VERIFICATIONS,
    Objects::All,
    ("delete", "deletes a finished resource whose spec.ttlAfterFinished has passed; nothing else"),
)];

/// What `okid-operator release-finalizers` needs.
pub const RELEASE_FINALIZERS: &[Permission] = &[
    permission(
        Scope::WatchedNamespaces,
        VERIFICATIONS,
        Objects::All,
        ("list", "finds the resources that have the operator's finalizer"),
    ),
    permission(Scope::WatchedNamespaces, VERIFICATIONS, Objects::All, ("patch", "removes the finalizer")),
    permission(
        Scope::OwnNamespace,
        SCALE,
        Objects::Deployment,
        ("patch", "stops the operator, which would add the finalizer again"),
    ),
    permission(
        Scope::OwnNamespace,
        PODS,
        Objects::All,
        ("list", "waits until the operator's Pods have ended"),
    ),
];

impl Permission {
    /// Whether it is needed only with leader election.
    #[must_use]
    pub fn is_for_leader_election(&self) -> bool {
        (self.api_group, self.resource) == LEASES
    }
}
