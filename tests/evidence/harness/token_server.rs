//! Servers that issue credentials to a pod: STS, EKS Pod Identity, and Microsoft Entra. Each requires the pod's token.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1::Builder, service::service_fn};
use hyper_util::rt::TokioIo;
use rustls::{ServerConfig, pki_types::PrivatePkcs8KeyDer};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_rustls::TlsAcceptor;

use super::stores::serve;

/// The pod's token, which is in a file.
pub(crate) const POD_TOKEN: &str = "token-of-the-pod";
/// The role that the pod may assume.
pub(crate) const ROLE: &str = "arn:aws:iam::111122223333:role/evidence";
/// The token of the session that STS issues.
pub(crate) const SESSION: &str = "token-of-the-session";

/// Issues credentials until it is dropped.
pub(crate) struct TokenServer {
    pub(crate) url: String,
    /// The certificate to trust, as PEM; empty for plain http.
    pub(crate) authority: String,
    _tasks: JoinSet<()>,
}

impl TokenServer {
    /// The Security Token Service, which requires https.
    pub(crate) async fn sts(access_key: &'static str, secret_key: &'static str) -> Self {
        let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
        let tls =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![certified.cert.der().clone()], key.into())
                .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(stream) = acceptor.accept(stream).await else { continue };
                let service = service_fn(|request| async move {
                    Ok::<_, Infallible>(assume_role(&request, access_key, secret_key))
                });
                let _ =
                    Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service).await;
            }
        });
        Self { url, authority: certified.cert.pem(), _tasks: tasks }
    }

    /// The agent of EKS Pod Identity on the node.
    pub(crate) async fn pod_identity(access_key: &'static str, secret_key: &'static str) -> Self {
        let service = service_fn(move |request: Request<Incoming>| async move {
            let is_pod = request.headers().get("authorization").is_some_and(|token| token == POD_TOKEN);
            let credentials = serde_json::json!({
                "AccessKeyId": access_key,
                "SecretAccessKey": secret_key,
                "Token": SESSION,
                "Expiration": "2999-01-01T00:00:00Z",
            });
            Ok::<_, Infallible>(if is_pod { say(200, credentials.to_string()) } else { say(403, "") })
        });
        let (address, tasks) = serve(service).await;
        Self { url: format!("http://{address}"), authority: String::new(), _tasks: tasks }
    }

    /// Microsoft Entra, and below `/account` a store that accepts only its token, and one object.
    pub(crate) async fn entra() -> Self {
        let is_full = Arc::new(AtomicBool::new(false));
        let service = service_fn(move |request: Request<Incoming>| {
            let is_full = is_full.clone();
            async move {
                let path = request.uri().path().to_owned();
                if path.starts_with("/account/") {
                    let token = format!("Bearer {SESSION}");
                    let is_session =
                        request.headers().get("authorization").is_some_and(|other| *other == *token);
                    let _ = request.into_body().collect().await;
                    let status = match is_session {
                        true if is_full.swap(true, Ordering::Relaxed) => 409,
                        true => 201,
                        false => 403,
                    };
                    return Ok::<_, Infallible>(say(status, ""));
                }
                let form = request.into_body().collect().await.unwrap().to_bytes();
                let has = |name: &str, value: &str| has(&form, name, value);
                let is_pod = path == "/tenant/oauth2/v2.0/token"
                    && has("client_id", "client")
                    && has("client_assertion", POD_TOKEN);
                let token = serde_json::json!({"access_token": SESSION, "expires_in": 3600});
                Ok(if is_pod { say(200, token.to_string()) } else { say(401, "") })
            }
        });
        let (address, tasks) = serve(service).await;
        Self { url: format!("http://{address}"), authority: String::new(), _tasks: tasks }
    }
}

fn assume_role(request: &Request<Incoming>, access_key: &str, secret_key: &str) -> Response<Full<Bytes>> {
    let has =
        |name: &str, value: &str| has(request.uri().query().unwrap_or_default().as_bytes(), name, value);
    let is_pod = has("Action", "AssumeRoleWithWebIdentity")
        && has("RoleArn", ROLE)
        && has("WebIdentityToken", POD_TOKEN);
    if !is_pod {
        return say(400, "<ErrorResponse><Error><Code>InvalidIdentityToken</Code></Error></ErrorResponse>");
    }
    say(
        200,
        format!(
            "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>\
             <AccessKeyId>{access_key}</AccessKeyId><SecretAccessKey>{secret_key}</SecretAccessKey>\
             <SessionToken>{SESSION}</SessionToken><Expiration>2999-01-01T00:00:00Z</Expiration>\
             </Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
        ),
    )
}

fn has(form: &[u8], name: &str, value: &str) -> bool {
    url::form_urlencoded::parse(form).any(|(other, found)| other == name && found == value)
}

fn say(status: u16, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    Response::builder().status(status).header("etag", "\"1\"").body(Full::from(body.into())).unwrap()
}
