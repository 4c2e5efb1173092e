//! How a resource shows that a Git repository would bring it back after a deletion.

use std::collections::BTreeMap;

use super::spec::Verification;

/// Set to `allow`, this annotation lets `spec.ttlAfterFinished` delete a resource that Git would bring back.
pub const TTL_IN_GITOPS: &str = "okid.io/ttl-in-gitops";

/// Labels of Flux's kustomize-controller and helm-controller.
const LABELS: [&str; 2] = ["kustomize.toolkit.fluxcd.io/name", "helm.toolkit.fluxcd.io/name"];
/// Annotations of Argo CD and Helm. `app.kubernetes.io/instance` and `app.kubernetes.io/managed-by` say nothing about Git,
/// because every chart sets them.
const ANNOTATIONS: [&str; 2] = ["argocd.argoproj.io/tracking-id", "meta.helm.sh/release-name"];

/// Whether a label of this name shows that Git would bring the resource back.
#[must_use]
pub fn is_git_ops_label(name: &str) -> bool {
    LABELS.contains(&name)
}

/// Whether an annotation of this name shows that Git would bring the resource back.
#[must_use]
pub fn is_git_ops_annotation(name: &str) -> bool {
    ANNOTATIONS.contains(&name)
}

/// Whether Git would bring the resource back after a deletion, and nobody has allowed it to be deleted all the same.
#[must_use]
pub fn is_kept_by_git_ops(object: &Verification) -> bool {
    let (labels, annotations) = (object.metadata.labels.as_ref(), object.metadata.annotations.as_ref());
    let has = |named: Option<&BTreeMap<String, String>>, is_mark: fn(&str) -> bool| {
        named.is_some_and(|named| named.keys().any(|name| is_mark(name)))
    };
    let is_allowed = annotations.and_then(|all| all.get(TTL_IN_GITOPS)).is_some_and(|value| value == "allow");
    !is_allowed && (has(labels, is_git_ops_label) || has(annotations, is_git_ops_annotation))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::fixtures;

    #[test]
    fn what_flux_argo_cd_or_helm_would_bring_back_is_kept_unless_that_is_allowed() {
        let marked = |labels: &[&str], annotations: &[(&str, &str)]| {
            let mut object = fixtures::verification("alice");
            let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
            object.metadata.labels = Some(labels.iter().map(|name| pair(name, "apps")).collect());
            object.metadata.annotations =
                Some(annotations.iter().map(|(name, value)| pair(name, value)).collect());
            is_kept_by_git_ops(&object)
        };
        assert!(!marked(&[], &[]));
        for label in LABELS {
            assert!(marked(&[label], &[]), "{label}");
            assert!(!marked(&[label], &[(TTL_IN_GITOPS, "allow")]), "{label}");
            assert!(marked(&[label], &[(TTL_IN_GITOPS, "yes")]), "{label}");
        }
        for annotation in ANNOTATIONS {
            assert!(marked(&[], &[(annotation, "apps")]), "{annotation}");
        }
        let of_every_chart = ["app.kubernetes.io/instance", "app.kubernetes.io/managed-by"];
        assert!(!marked(&of_every_chart, &[]));
    }
}
