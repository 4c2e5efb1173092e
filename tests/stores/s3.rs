//! S3: s3s-fs in this process, which checks signatures, behind a proxy.

use control_plane::Folder;
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use s3s_fs::FileSystem;
use tokio::task::JoinSet;

use super::{Proxy, serve};

/// The only bucket.
pub(crate) const BUCKET: &str = "evidence";

/// A server with one bucket and one account, until it is dropped.
pub(crate) struct S3 {
    /// The proxy in front of it.
    pub(crate) proxy: Proxy,
    /// The buckets, each a folder with one file per object.
    pub(crate) folder: Folder,
    /// The server's tasks.
    pub(crate) tasks: JoinSet<()>,
    access_key: String,
    secret_key: String,
}

impl S3 {
    pub(crate) async fn start(access_key: &str, secret_key: &str) -> Self {
        let folder = Folder::create("okid-s3-").unwrap();
        std::fs::create_dir(folder.path().join(BUCKET)).unwrap();
        let mut builder = S3ServiceBuilder::new(FileSystem::new(folder.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single(access_key, secret_key));
        let (address, tasks) = serve(builder.build()).await;
        let proxy = Proxy::start(address);
        Self { proxy, folder, tasks, access_key: access_key.to_owned(), secret_key: secret_key.to_owned() }
    }

    /// Removes the attributes of all objects, which s3s-fs keeps in files beside the buckets.
    pub(crate) fn forget_attributes(&self) {
        for entry in std::fs::read_dir(self.folder.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                std::fs::remove_file(path).unwrap();
            }
        }
    }

    /// The entries of a Secret for it.
    pub(crate) fn options(&self) -> Vec<(&'static str, String)> {
        vec![
            ("aws_access_key_id", self.access_key.clone()),
            ("aws_secret_access_key", self.secret_key.clone()),
            ("aws_region", "eu-central-1".to_owned()),
            ("aws_endpoint", self.proxy.url()),
        ]
    }
}
