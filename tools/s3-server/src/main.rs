//! An S3 server that keeps its buckets in a folder and checks signatures: the store of the end-to-end test.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow};
use clap::Parser;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// An S3 server that keeps its buckets in a folder. For tests only.
#[derive(Debug, Parser)]
#[command(version)]
struct Settings {
    /// Address to listen on.
    #[arg(long, env = "S3_SERVER_LISTEN", default_value = "127.0.0.1:9000")]
    listen: SocketAddr,
    /// The folder. Each folder in it is a bucket.
    #[arg(long)]
    folder: PathBuf,
    /// A bucket to create; repeatable.
    #[arg(long = "bucket")]
    buckets: Vec<String>,
    /// The id of the only access key.
    #[arg(long, env = "AWS_ACCESS_KEY_ID")]
    access_key_id: String,
    /// Its secret.
    #[arg(long, env = "AWS_SECRET_ACCESS_KEY", hide_env_values = true)]
    secret_access_key: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    let Settings { listen, folder, buckets, access_key_id, secret_access_key } = Settings::parse();
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for Ctrl-C")?;
    for bucket in buckets {
        std::fs::create_dir_all(folder.join(bucket)).context("create a bucket")?;
    }
    // The library's own error cannot leave its thread.
    let files = FileSystem::new(&folder).map_err(|error| anyhow!("open the folder: {error:?}"))?;
    let mut builder = S3ServiceBuilder::new(files);
    builder.set_auth(SimpleAuth::from_single(access_key_id, secret_access_key));
    let service = builder.build();
    let listener = TcpListener::bind(listen).await.with_context(|| format!("listen on {listen}"))?;
    let serve = async {
        loop {
            let (stream, _) = listener.accept().await.context("accept a connection")?;
            let service = service.clone();
            tokio::spawn(async move {
                // If the connection breaks, the client has to connect again.
                let _ =
                    Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
            });
        }
    };
    tokio::select! {
        ended = serve => ended,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}
