//! The versions of Kubernetes whose API server can be built.

use std::fmt;
use std::str::FromStr;

/// A version of Kubernetes that the operator supports: of each minor, one patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KubernetesVersion(&'static str);

/// A minor that is not supported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no {requested} among the supported minors of Kubernetes: {}", KubernetesVersion::SUPPORTED.map(KubernetesVersion::minor).join(", "))]
pub struct UnsupportedMinor {
    requested: String,
}

impl KubernetesVersion {
    /// The newest one. The Go module of this crate requires it.
    pub const NEWEST: Self = Self("v1.37.2");

    /// All of them, the oldest first.
    pub const SUPPORTED: [Self; 6] =
        [Self("v1.32.13"), Self("v1.33.13"), Self("v1.34.4"), Self("v1.35.4"), Self("v1.36.3"), Self::NEWEST];

    /// The version, such as `v1.33.13`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0
    }

    /// The minor, such as `1.33`.
    #[must_use]
    pub fn minor(self) -> &'static str {
        let number = self.0.trim_start_matches('v');
        number.rsplit_once('.').map_or(number, |(minor, _)| minor)
    }

    /// The flags of Go's linker that stamp the version into a program. kubectl, Helm and features of CRDs read it.
    pub(crate) fn linker_flags(self) -> String {
        let (major, minor) = self.minor().split_once('.').unwrap_or_default();
        let version = "k8s.io/component-base/version";
        format!(
            "-s -w -X {version}.gitVersion={self} -X {version}.gitMajor={major} -X {version}.gitMinor={minor}"
        )
    }

    /// The `go.mod` of a module to build programs of this version in, made from that of Kubernetes. Kubernetes' own cannot be
    /// used elsewhere: it finds the staging modules in local folders.
    pub(crate) fn go_mod(self, kubernetes: &str) -> String {
        let staging = self.0.replacen("v1", "v0", 1);
        let requires = format!("\nrequire k8s.io/kubernetes {self}\n");
        let lines = kubernetes.lines().map(|line| match line.split_once(" => ./staging/src/") {
            Some((module, path)) => format!("{module} => {path} {staging}"),
            None if line.starts_with("module ") => "module okid.io/operator/control-plane".to_owned(),
            None => line.to_owned(),
        });
        lines.chain([requires]).collect::<Vec<_>>().join("\n")
    }
}

impl fmt::Display for KubernetesVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }
}

impl FromStr for KubernetesVersion {
    type Err = UnsupportedMinor;

    fn from_str(minor: &str) -> Result<Self, UnsupportedMinor> {
        let is_of_minor = |version: &Self| version.minor() == minor;
        Self::SUPPORTED
            .into_iter()
            .find(is_of_minor)
            .ok_or_else(|| UnsupportedMinor { requested: minor.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minor_names_its_version_and_another_one_is_refused_with_those_that_are_supported() {
        for version in KubernetesVersion::SUPPORTED {
            assert_eq!(version.minor().parse(), Ok(version));
        }
        assert_eq!("1.37".parse(), Ok(KubernetesVersion::NEWEST));
        let refusal = "1.3".parse::<KubernetesVersion>().unwrap_err().to_string();
        assert_eq!(
            refusal,
            "there is no 1.3 among the supported minors of Kubernetes: 1.32, 1.33, 1.34, 1.35, 1.36, 1.37"
        );
    }

    #[test]
    fn the_supported_minors_are_consecutive() {
        let minor = |version: KubernetesVersion| -> u32 {
            version.minor().strip_prefix("1.").unwrap().parse().unwrap()
        };
        assert!(KubernetesVersion::SUPPORTED.is_sorted_by(|one, next| minor(*one) + 1 == minor(*next)));
    }

    #[test]
    fn the_staging_modules_of_a_version_are_replaced_by_their_versions() {
        let kubernetes = "\
module k8s.io/kubernetes

go 1.24.0

require k8s.io/api v0.0.0

replace (
	k8s.io/api => ./staging/src/k8s.io/api
	k8s.io/kubectl => ./staging/src/k8s.io/kubectl
)
";
        let expected = "\
module okid.io/operator/control-plane

go 1.24.0

require k8s.io/api v0.0.0

replace (
	k8s.io/api => k8s.io/api v0.33.13
	k8s.io/kubectl => k8s.io/kubectl v0.33.13
)

require k8s.io/kubernetes v1.33.13
";
        let version: KubernetesVersion = "1.33".parse().unwrap();
        assert_eq!(version.go_mod(kubernetes), expected);
        assert!(version.linker_flags().ends_with("gitMajor=1 -X k8s.io/component-base/version.gitMinor=33"));
    }
}
