//! What the images contain, and how their containers run. Pure. The Dockerfile says the same.

use clap::ValueEnum;
use control_plane::oci::{Config, File, Image, architecture};
use pem::Pem;

pub(super) const MEGABYTE: usize = 1_000_000;
/// Flags for the compiler. The program is linked with everything that it needs, so that it runs in an empty image. Its table
/// of addresses, which a program reads in full when it starts, is written in the compact format.
pub(super) const FLAGS: &str = "-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs";
/// A variable for the build of jemalloc on arm64, whose kernels have pages of up to 64 KiB. By default it serves those of the
/// machine that builds it.
pub(super) const ARM64_PAGES: (&str, &str) = ("JEMALLOC_SYS_WITH_LG_PAGE", "16");
/// Where programs look for CA certificates first.
pub(super) const CERTIFICATES: &str = "etc/ssl/certs/ca-certificates.crt";
/// User and group of every container, as numbers, so that Kubernetes sees that it is not root.
const USER: &str = "65532:65532";
const REGISTRY: &str = "ghcr.io/okid-io";

/// A program that has an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Program {
    /// The operator.
    Operator,
    /// The sandbox portal.
    Sandbox,
    /// The store of the end-to-end test.
    #[value(skip)]
    S3Server,
}

impl Program {
    /// The name of the package, its program and its image.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Operator => "okid-operator",
            Self::Sandbox => "okid-sandbox",
            Self::S3Server => "s3-server",
        }
    }

    /// The folder of the package in the repository.
    pub(crate) fn folder(self) -> &'static str {
        match self {
            Self::Operator => "",
            Self::Sandbox => "tools/sandbox",
            Self::S3Server => "tools/s3-server",
        }
    }

    fn description(self) -> &'static str {
        match self {
            Self::Operator => "okID identity checks as Kubernetes resources",
            Self::Sandbox => "A simulated okID portal to try the operator with; not for production",
            Self::S3Server => "An S3 server for the end-to-end test; not for production",
        }
    }
}

/// The default tag of an image.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

pub(super) fn image(program: Program, tags: &[&str], revision: &str, binary: Vec<u8>) -> Image {
    let name = program.name();
    Image {
        names: tags.iter().map(|tag| format!("{REGISTRY}/{name}:{tag}")).collect(),
        architecture: architecture().to_owned(),
        config: config(program, revision),
        files: vec![
            File { path: name.to_owned(), mode: 0o755, content: binary },
            File { path: CERTIFICATES.to_owned(), mode: 0o644, content: certificates().into_bytes() },
        ],
    }
}

pub(super) fn config(program: Program, revision: &str) -> Config {
    let (port, env, cmd) = match program {
        Program::Operator => ("8080/tcp", vec![], vec!["run"]),
        // By default these listen where only their own machine, here their own Pod, reaches them.
        Program::Sandbox => ("8090/tcp", vec!["OKID_SANDBOX_LISTEN=0.0.0.0:8090"], vec![]),
        Program::S3Server => ("9000/tcp", vec!["S3_SERVER_LISTEN=0.0.0.0:9000"], vec![]),
    };
    let labels = [
        ("title", program.name()),
        ("description", program.description()),
        ("licenses", env!("CARGO_PKG_LICENSE")),
        ("source", env!("CARGO_PKG_REPOSITORY")),
        ("version", VERSION),
        ("revision", revision),
    ];
    Config {
        user: USER.to_owned(),
        exposed_ports: [port.to_owned()].into(),
        env: env.into_iter().map(str::to_owned).collect(),
        entrypoint: vec![format!("/{}", program.name())],
        cmd: cmd.into_iter().map(str::to_owned).collect(),
        labels: labels
            .map(|(name, value)| (format!("org.opencontainers.image.{name}"), value.to_owned()))
            .into(),
    }
}

/// The certificates of the authorities that Mozilla trusts, in PEM.
fn certificates() -> String {
    let certificates = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter();
    pem::encode_many(&certificates.map(|der| Pem::new("CERTIFICATE", der.as_ref())).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ca_certificate_in_the_image_can_be_read() {
        let certificates = certificates();
        let found = okid_operator::tls::CaBundle::parse(certificates.as_bytes()).unwrap();
        assert_eq!(found.certificates.len(), webpki_root_certs::TLS_SERVER_ROOT_CERTS.len());
        assert_eq!(found.skipped_blocks, 0);
    }
}
