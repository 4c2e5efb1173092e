//! S3: s3s-fs in this process, which checks signatures.

use control_plane::Folder as TempFolder;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use s3s_fs::FileSystem;
use tokio::{net::TcpListener, task::JoinSet};

use super::{Place, Proxy};

/// Stops the server when it is dropped.
struct Server {
    _tasks: JoinSet<()>,
    _folder: TempFolder,
}

pub(super) async fn start() -> Place {
    let folder = TempFolder::create("okid-s3-").unwrap();
    std::fs::create_dir(folder.path().join("evidence")).unwrap();
    let mut builder = S3ServiceBuilder::new(FileSystem::new(folder.path()).unwrap());
    builder.set_auth(SimpleAuth::from_single("operator", "correct horse"));
    let service = builder.build();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = service.clone();
            connections.spawn(async move {
                let _ =
                    Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
            });
            while connections.try_join_next().is_some() {}
        }
    });
    let proxy = Proxy::start(address).await;
    let endpoint = proxy.url();
    Place {
        url: "s3://evidence/kyc".to_owned(),
        secret: vec![
            ("aws_access_key_id", "operator".to_owned()),
            ("aws_secret_access_key", "correct horse".to_owned()),
            ("aws_region", "eu-central-1".to_owned()),
            ("aws_endpoint", endpoint.clone()),
        ],
        proxy: Some(proxy),
        endpoint,
        _alive: Box::new(Server { _tasks: tasks, _folder: folder }),
    }
}
