//! Writes an image as an OCI archive, without a container engine. Pure: the same image always has the same bytes.
//!
//! `docker load`, `podman load`, `kind load image-archive` and `ctr images import` read such an archive. The formats are those
//! of the OCI image specification 1.1, and Docker's `manifest.json` beside them for versions of Docker that know no other.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::path::Path;

use flate2::{Compression, write::GzEncoder};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// An image for Linux with one layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Each with registry, repository and tag, such as `ghcr.io/example/program:1.0.0`.
    pub names: Vec<String>,
    /// The architecture as Go names it, such as `amd64`.
    pub architecture: String,
    /// How a container of the image runs.
    pub config: Config,
    /// The files; their folders are added.
    pub files: Vec<File>,
}

/// How a container runs. The fields are those of `config` in the OCI image specification.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Config {
    /// User and group, as numbers.
    pub user: String,
    /// Ports that the program listens on, such as `8080/tcp`.
    #[serde(serialize_with = "with_empty_values")]
    pub exposed_ports: BTreeSet<String>,
    /// Environment variables as `NAME=VALUE`.
    pub env: Vec<String>,
    /// The program and the arguments that it always has.
    pub entrypoint: Vec<String>,
    /// The other arguments, which a Pod's `args` replace.
    pub cmd: Vec<String>,
    /// What describes the image.
    pub labels: BTreeMap<String, String>,
}

/// A set as the specification has it: an object whose values are empty objects.
fn with_empty_values<S: Serializer>(set: &BTreeSet<String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(set.iter().map(|key| (key, json!({}))))
}

/// A file of an image, owned by root.
#[derive(Clone, PartialEq, Eq)]
pub struct File {
    /// The path without a slash at the beginning.
    pub path: String,
    /// The permissions, such as `0o755`.
    pub mode: u32,
    /// The bytes.
    pub content: Vec<u8>,
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { path, mode, content } = self;
        write!(f, "{path} {mode:o} ({} bytes)", content.len())
    }
}

/// The bytes of an archive, and what identifies its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    /// The archive.
    pub bytes: Vec<u8>,
    /// Digest of the compressed layer.
    pub layer: String,
    /// Size of the compressed layer in bytes, which is what a node downloads.
    pub layer_size: usize,
    /// Digest of the manifest, by which a registry knows the image.
    pub manifest: String,
}

/// The architecture of this machine as Go names it.
#[must_use]
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Writes an image as an archive.
///
/// # Errors
/// If a path of a file cannot be stored in a tar archive.
pub fn archive(image: &Image) -> io::Result<Archive> {
    let Image { names, architecture, config, files } = image;
    let tree = layer(files)?;
    let mut compressed = GzEncoder::new(Vec::new(), Compression::default());
    compressed.write_all(&tree)?;
    let layer = Blob::new(LAYER_TYPE, compressed.finish()?);
    let config = Blob::json(
        CONFIG_TYPE,
        &json!({
            "architecture": architecture,
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [digest(&tree)]},
        }),
    );
    let manifest = Blob::json(
        MANIFEST_TYPE,
        &json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": config.descriptor(),
            "layers": [layer.descriptor()],
        }),
    );
    let entry = |name: &String| {
        let mut entry = manifest.descriptor();
        entry["platform"] = json!({"architecture": architecture, "os": "linux"});
        entry["annotations"] = json!({
            "io.containerd.image.name": name,
            "org.opencontainers.image.ref.name": tag(name),
        });
        entry
    };
    let entries: Vec<_> = names.iter().map(entry).collect();
    let index = json!({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": entries});
    let docker = json!([{"Config": config.path(), "RepoTags": names, "Layers": [layer.path()]}]);

    let mut archive = Tree::default();
    archive.file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    archive.file("index.json", 0o644, index.to_string().as_bytes())?;
    archive.file("manifest.json", 0o644, docker.to_string().as_bytes())?;
    for blob in [&config, &layer, &manifest] {
        archive.file(&blob.path(), 0o644, &blob.bytes)?;
    }
    Ok(Archive {
        bytes: archive.finish()?,
        layer: layer.digest,
        layer_size: layer.bytes.len(),
        manifest: manifest.digest,
    })
}

/// The part of an image's name after the colon; a registry may have a port.
fn tag(name: &str) -> &str {
    let repository = name.rfind('/').map_or(0, |slash| slash + 1);
    name.get(repository..).and_then(|last| last.split_once(':')).map_or("latest", |(_, tag)| tag)
}

fn layer(files: &[File]) -> io::Result<Vec<u8>> {
    let mut tree = Tree::default();
    let mut files: Vec<_> = files.iter().collect();
    files.sort_by(|one, other| one.path.cmp(&other.path));
    for File { path, mode, content } in files {
        tree.file(path, *mode, content)?;
    }
    tree.finish()
}

/// A tar archive whose entries have no owner and no time.
struct Tree {
    builder: tar::Builder<Vec<u8>>,
    folders: BTreeSet<String>,
}

impl Default for Tree {
    fn default() -> Self {
        Self { builder: tar::Builder::new(Vec::new()), folders: BTreeSet::new() }
    }
}

impl Tree {
    /// Adds a file, and those of its folders that are not there yet.
    fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        let mut folders: Vec<_> = Path::new(path).ancestors().skip(1).filter_map(Path::to_str).collect();
        folders.reverse();
        for folder in folders.into_iter().filter(|folder| !folder.is_empty()) {
            if self.folders.insert(folder.to_owned()) {
                self.entry(&format!("{folder}/"), tar::EntryType::Directory, 0o755, &[])?;
            }
        }
        self.entry(path, tar::EntryType::Regular, mode, content)
    }

    fn entry(&mut self, path: &str, kind: tar::EntryType, mode: u32, content: &[u8]) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        self.builder.append_data(&mut header, path, content)
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        self.builder.into_inner()
    }
}

/// A part of an archive that is addressed by its digest.
struct Blob {
    media_type: &'static str,
    bytes: Vec<u8>,
    digest: String,
}

impl Blob {
    fn new(media_type: &'static str, bytes: Vec<u8>) -> Self {
        let digest = digest(&bytes);
        Self { media_type, bytes, digest }
    }

    fn json(media_type: &'static str, value: &Value) -> Self {
        Self::new(media_type, value.to_string().into_bytes())
    }

    fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.digest, "size": self.bytes.len()})
    }

    fn path(&self) -> String {
        format!("blobs/{}", self.digest.replace(':', "/"))
    }
}

fn digest(bytes: &[u8]) -> String {
    let hex = Sha256::digest(bytes).iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    format!("sha256:{hex}")
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn image() -> Image {
        Image {
            names: vec!["registry.example:5000/team/program:1.2".into(), "program:latest".into()],
            architecture: "amd64".into(),
            config: Config {
                user: "65532:65532".into(),
                entrypoint: vec!["/program".into()],
                exposed_ports: ["80/tcp".to_owned()].into(),
                ..Config::default()
            },
            files: vec![
                File { path: "program".into(), mode: 0o755, content: b"binary".to_vec() },
                File {
                    path: "etc/ssl/certs/ca-certificates.crt".into(),
                    mode: 0o644,
                    content: b"pem".to_vec(),
                },
            ],
        }
    }

    /// Path, mode, owner, time and content of each entry.
    fn entries(archive: &[u8]) -> Vec<(String, u32, u64, u64, Vec<u8>)> {
        tar::Archive::new(archive)
            .entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let path = entry.path().unwrap().display().to_string();
                let mut content = Vec::new();
                entry.read_to_end(&mut content).unwrap();
                let header = entry.header();
                (path, header.mode().unwrap(), header.uid().unwrap(), header.mtime().unwrap(), content)
            })
            .collect()
    }

    fn content(archive: &[u8], path: &str) -> Vec<u8> {
        entries(archive).into_iter().find(|entry| entry.0 == path).unwrap().4
    }

    #[test]
    fn every_part_is_found_by_its_digest_and_has_its_size() {
        let Archive { bytes, layer, layer_size, manifest } = archive(&image()).unwrap();
        let blob = |descriptor: &Value| {
            let named = descriptor["digest"].as_str().unwrap();
            let blob = content(&bytes, &format!("blobs/{}", named.replace(':', "/")));
            assert_eq!(digest(&blob), named);
            assert_eq!(descriptor["size"], blob.len());
            blob
        };
        let parse = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
        let index = parse(&content(&bytes, "index.json"));
        assert_eq!(index["manifests"][0]["digest"], manifest);
        assert_eq!(
            index["manifests"][0]["annotations"]["io.containerd.image.name"],
            "registry.example:5000/team/program:1.2"
        );
        assert_eq!(index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"], "1.2");
        assert_eq!(index["manifests"][1]["digest"], index["manifests"][0]["digest"]);
        assert_eq!(index["manifests"][1]["annotations"]["io.containerd.image.name"], "program:latest");

        let manifest = parse(&blob(&index["manifests"][0]));
        assert_eq!(manifest["layers"][0]["digest"], layer);
        assert_eq!(manifest["layers"][0]["size"], layer_size);
        let config = parse(&blob(&manifest["config"]));
        let mut tree = Vec::new();
        flate2::read::GzDecoder::new(&*blob(&manifest["layers"][0])).read_to_end(&mut tree).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"][0], digest(&tree));
        assert_eq!(config["config"]["User"], "65532:65532");
        assert_eq!(config["config"]["Entrypoint"], json!(["/program"]));
        assert_eq!(config["config"]["ExposedPorts"], json!({"80/tcp": {}}));
    }

    #[test]
    fn a_layer_has_each_folder_once_and_no_time_and_root_as_owner() {
        let mut files = image().files;
        files.push(File { path: "etc/hosts".into(), mode: 0o644, content: Vec::new() });
        let tree = layer(&files).unwrap();
        let listed: Vec<_> = entries(&tree).into_iter().map(|(path, mode, ..)| (path, mode)).collect();
        let expected = [
            ("etc/", 0o755),
            ("etc/hosts", 0o644),
            ("etc/ssl/", 0o755),
            ("etc/ssl/certs/", 0o755),
            ("etc/ssl/certs/ca-certificates.crt", 0o644),
            ("program", 0o755),
        ];
        assert_eq!(listed, expected.map(|(path, mode)| (path.to_owned(), mode)));
        assert!(entries(&tree).iter().all(|&(_, _, owner, time, _)| (owner, time) == (0, 0)));
    }

    #[test]
    fn the_same_image_has_the_same_bytes_in_whatever_order_its_files_are_listed() {
        let mut other = image();
        other.files.reverse();
        assert_eq!(archive(&image()).unwrap(), archive(&other).unwrap());
    }

    #[test]
    fn the_tag_of_a_name_is_not_the_port_of_its_registry() {
        assert_eq!(tag("localhost:5000/program"), "latest");
        assert_eq!(tag("localhost:5000/program:1"), "1");
        assert_eq!(tag("program:2"), "2");
    }
}
