//! The way to the API server over a proxy, and past one.

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

/// A proxy that leads to the API server alone, whatever it is asked for, and keeps what it was asked.
struct Proxy {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    async fn start(far: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen on the loopback interface");
        let port = listener.local_addr().expect("a listener has an address").port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (far, kept) = (far.clone(), Arc::clone(&kept));
                tokio::spawn(async move { lead(near, &far, &kept).await });
            }
        });
        Self { port, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().clone()
    }
}

async fn lead(near: TcpStream, far: &str, kept: &Mutex<Vec<String>>) -> Option<()> {
    let mut near = BufReader::new(near);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        near.read_line(&mut head).await.ok().filter(|read| *read > 0)?;
    }
    kept.lock().push(head);
    let mut far = TcpStream::connect(far).await.ok()?;
    near.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.ok()?;
    let early = near.buffer().len();
    let mut bytes = vec![0; early];
    near.read_exact(&mut bytes).await.ok()?;
    far.write_all(&bytes).await.ok()?;
    copy_bidirectional(&mut near.into_inner(), &mut far).await.ok()?;
    Some(())
}

/// A copy of the kubeconfig for another server, and with a proxy.
fn kubeconfig(world: &World, name: &str, server: Option<&str>, proxy: Option<&str>) -> PathBuf {
    let mut config = Kubeconfig::read_from(world.cluster.kubeconfig()).expect("read the kubeconfig");
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
    let config = Kubeconfig::read_from(world.cluster.kubeconfig()).expect("read the kubeconfig");
    let cluster = config.clusters[0].cluster.as_ref().expect("the kubeconfig has a cluster");
    cluster.server.as_ref().expect("it names a server").trim_start_matches("https://").to_owned()
}

/// What an operator does, and what it must not say.
async fn end(operator: Operator) -> String {
    operator.stop().await;
    let log = operator.log();
    assert!(!log.contains("hunter2"), "a password is told:\n{log}");
    log
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_server_is_reached_over_the_proxy_that_kubectl_would_use_and_no_other() {
    let mut world = World::builder().without_operator().start().await;
    let proxy = Proxy::start(server(&world)).await;
    let address = format!("http://user:hunter2@127.0.0.1:{}", proxy.port);
    let far = kubeconfig(&world, "far", Some(SERVER), None);
    let near = kubeconfig(&world, "near", None, None);
    let named = kubeconfig(&world, "named", Some(SERVER), Some(&address));
    let near_named = kubeconfig(&world, "near-named", None, Some(&address));
    let by_variable =
        |no_proxy: &str| vec![("HTTPS_PROXY", address.clone()), ("NO_PROXY", no_proxy.to_owned())];

    let over: [(&Path, Vec<(&str, String)>); 3] = [
        (&far, by_variable("127.0.0.1,169.254/16,")),
        (&far, vec![("https_proxy", address.clone())]),
        (&named, vec![("HTTPS_PROXY", "http://user:hunter2@127.0.0.1:9".to_owned())]),
    ];
    for (config, environment) in over {
        let before = proxy.asked().len();
        let operator = world.another(launch(config, &environment));
        operator.until_watching().await;
        end(operator).await;
        let asked = proxy.asked().split_off(before);
        assert!(!asked.is_empty());
        for head in asked {
            assert!(head.starts_with(&format!("CONNECT {SERVER}:443 HTTP/1.1\r\n")), "{head}");
            assert!(
                head.contains("Proxy-Authorization: Basic dXNlcjpodW50ZXIy\r\n"),
                "user:hunter2 in {head}"
            );
        }
    }

    let asked = proxy.asked().len();
    for (config, environment) in
        [(&near, by_variable("")), (&near, by_variable("example.com")), (&near_named, vec![])]
    {
        let operator = world.another(launch(config, &environment));
        operator.until_watching().await;
        end(operator).await;
    }
    for (config, environment) in [(&far, by_variable("localhost, .svc")), (&named, by_variable("*"))] {
        let operator = world.another(launch(config, &environment));
        let away = |line: &Value| line["definition"] == "verifications.okid.io" && line["level"] == "WARN";
        operator.until_logged("that the API server is away", away).await;
        end(operator).await;
    }
    assert_eq!(proxy.asked().len(), asked, "nothing of these went over the proxy");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trouble_with_a_proxy_or_a_kubeconfig_is_told_without_a_password() {
    let mut world = World::builder().without_operator().start().await;
    // A port that is held, so that nobody else listens there.
    let held = tokio::net::TcpSocket::new_v4().unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let nobody = format!("http://user:hunter2@{}", held.local_addr().unwrap());
    let named = kubeconfig(&world, "named", Some(SERVER), Some(&nobody));
    let operator = world.another(launch(&named, &[]));
    let away = |line: &Value| line["definition"] == "verifications.okid.io";
    let told = operator.until_logged("that the proxy is away", away).await;
    assert_eq!(told["reason"], json!("the proxy gives no connection: connection refused"));
    end(operator).await;

    let unusable = kubeconfig(&world, "unusable", Some(SERVER), Some("ftp://user:hunter2@proxy"));
    let broken = world.folder().join("broken");
    let text = "apiVersion: v1\nkind: Config\nclusters:\n- name: [no name]\n  cluster: {proxy-url: 'http://user:hunter2@proxy'}\n";
    std::fs::write(&broken, text).unwrap();
    for (config, sentence) in [
        (&unusable, "proxy-url of the kubeconfig must be the address of a proxy"),
        (&broken, "the kubeconfig is not one: it is no YAML, or has another form"),
    ] {
        let operator = world.another(launch(config, &[]));
        assert!(!operator.wait().await.success());
        let log = end(operator).await;
        assert!(log.contains(sentence), "{log}");
    }
    world.finish().await;
}
