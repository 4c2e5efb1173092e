//! Connections to the API server through a proxy, and around one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kube::config::Kubeconfig;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Launch, Operator, World};

/// The name that only the proxy resolves; the certificate of every API server has it.
const SERVER: &str = "kubernetes.default.svc";

/// A proxy that always connects to the API server, and records the requests that it gets.
struct Proxy {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    async fn start(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen on the loopback interface");
        let port = listener.local_addr().expect("a listener has an address").port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let recorded = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, recorded) = (server.clone(), Arc::clone(&recorded));
                tokio::spawn(async move { connect(client, &server, &recorded).await });
            }
        });
        Self { port, requests }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().clone()
    }
}

async fn connect(client: TcpStream, server: &str, recorded: &Mutex<Vec<String>>) -> Option<()> {
    let mut client = BufReader::new(client);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        client.read_line(&mut head).await.ok().filter(|read| *read > 0)?;
    }
    recorded.lock().push(head);
    let mut server = TcpStream::connect(server).await.ok()?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.ok()?;
    let early = client.buffer().len();
    let mut bytes = vec![0; early];
    client.read_exact(&mut bytes).await.ok()?;
    server.write_all(&bytes).await.ok()?;
    copy_bidirectional(&mut client.into_inner(), &mut server).await.ok()?;
    Some(())
}

/// A copy of the kubeconfig with another server and a proxy.
fn kubeconfig(world: &World, name: &str, server: Option<&str>, proxy: Option<&str>) -> PathBuf {
    let mut config = Kubeconfig::read_from(world.kubeconfig()).expect("read the kubeconfig");
    let cluster = config.clusters[0].cluster.as_mut().expect("the kubeconfig has a cluster");
    if let Some(server) = server {
        cluster.server = Some(format!("https://{server}"));
    }
    cluster.proxy_url = proxy.map(str::to_owned);
    let path = world.folder().join(name);
    std::fs::write(&path, serde_json::to_string(&config).expect("a kubeconfig is JSON")).expect("write it");
    path
}

fn launch(kubeconfig: &Path, environment: &[(&str, String)]) -> Launch {
    let kubeconfig = kubeconfig.to_str().expect("a path in UTF-8");
    let launch = Launch::new().env("KUBECONFIG", kubeconfig);
    environment.iter().fold(launch, |launch, (name, value)| launch.env(*name, value))
}

fn server(world: &World) -> String {
    let config = Kubeconfig::read_from(world.kubeconfig()).expect("read the kubeconfig");
    let cluster = config.clusters[0].cluster.as_ref().expect("the kubeconfig has a cluster");
    cluster.server.as_ref().expect("it names a server").trim_start_matches("https://").to_owned()
}

/// Stops an operator and returns its log, which must not contain the password.
async fn end(operator: Operator) -> String {
    operator.stop().await;
    let log = operator.log();
    assert!(!log.contains("hunter2"), "a password is logged:\n{log}");
    log
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_server_is_reached_through_the_proxy_that_kubectl_would_use() {
    let mut world = World::builder().without_operator().start().await;
    let proxy = Proxy::start(server(&world)).await;
    let address = format!("http://user:hunter2@127.0.0.1:{}", proxy.port);
    let server = kubeconfig(&world, "server", Some(SERVER), None);
    let client = kubeconfig(&world, "client", None, None);
    let named = kubeconfig(&world, "named", Some(SERVER), Some(&address));
    let near_named = kubeconfig(&world, "client-named", None, Some(&address));
    let by_variable =
        |no_proxy: &str| vec![("HTTPS_PROXY", address.clone()), ("NO_PROXY", no_proxy.to_owned())];

    let over: [(&Path, Vec<(&str, String)>); 3] = [
        (&server, by_variable("127.0.0.1,169.254/16,")),
        (&server, vec![("https_proxy", address.clone())]),
        (&named, vec![("HTTPS_PROXY", "http://user:hunter2@127.0.0.1:9".to_owned())]),
    ];
    for (config, environment) in over {
        let before = proxy.requests().len();
        let operator = world.another(launch(config, &environment));
        operator.until_watching().await;
        end(operator).await;
        let requests = proxy.requests().split_off(before);
        assert!(!requests.is_empty());
        for head in requests {
            assert!(head.starts_with(&format!("CONNECT {SERVER}:443 HTTP/1.1\r\n")), "{head}");
            assert!(
                head.contains("Proxy-Authorization: Basic dXNlcjpodW50ZXIy\r\n"),
                "user:hunter2 in {head}"
            );
        }
    }

    let requests = proxy.requests().len();
    for (config, environment) in
        [(&client, by_variable("")), (&client, by_variable("example.com")), (&near_named, vec![])]
    {
        let operator = world.another(launch(config, &environment));
        operator.until_watching().await;
        end(operator).await;
    }
    for (config, environment) in [(&server, by_variable("localhost, .svc")), (&named, by_variable("*"))] {
        let operator = world.another(launch(config, &environment));
        let away = |line: &Value| line["definition"] == "verifications.okid.io" && line["level"] == "WARN";
        operator.until_logged("that the API server is away", away).await;
        end(operator).await;
    }
    assert_eq!(proxy.requests().len(), requests, "none of these connections went through the proxy");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxy_and_kubeconfig_errors_are_logged_without_passwords() {
    let mut world = World::builder().without_operator().start().await;
    // The port is reserved, so that nothing else listens there.
    let held = tokio::net::TcpSocket::new_v4().unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let unreachable = format!("http://user:hunter2@{}", held.local_addr().unwrap());
    let named = kubeconfig(&world, "named", Some(SERVER), Some(&unreachable));
    let operator = world.another(launch(&named, &[]));
    let away = |line: &Value| line["definition"] == "verifications.okid.io";
    let line = operator.until_logged("that the proxy is away", away).await;
    assert_eq!(line["reason"], json!("the proxy does not connect: connection refused"));
    end(operator).await;

    let unusable = kubeconfig(&world, "unusable", Some(SERVER), Some("ftp://user:hunter2@proxy"));
    let broken = world.folder().join("broken");
    let text = "apiVersion: v1\nkind: Config\nclusters:\n- name: [no name]\n  cluster: {proxy-url: 'http://user:hunter2@proxy'}\n";
    std::fs::write(&broken, text).unwrap();
    for (config, sentence) in [
        (&unusable, "proxy-url of the kubeconfig must be the address of a proxy"),
        (&broken, "the kubeconfig is not valid YAML or not a kubeconfig"),
    ] {
        let operator = world.another(launch(config, &[]));
        assert!(!operator.wait().await.success());
        let log = end(operator).await;
        assert!(log.contains(sentence), "{log}");
    }
    world.finish().await;
}
