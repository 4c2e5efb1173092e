//! Serves HTTP on a loopback port.

use std::{error::Error, net::SocketAddr};

use http::{Request, Response};
use hyper::{
    body::{Body, Incoming},
    service::Service,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use tokio::{net::TcpListener, task::JoinSet};

/// Serves at its own port until the tasks are dropped.
pub(crate) async fn serve<Answer, Content>(service: Answer) -> (SocketAddr, JoinSet<()>)
where
    Answer: Service<Request<Incoming>, Response = Response<Content>> + Clone + Send + 'static,
    Answer::Future: Send,
    Answer::Error: Into<Box<dyn Error + Send + Sync>>,
    Content: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
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
    (address, tasks)
}
