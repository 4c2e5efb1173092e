//! Google Cloud Storage: the part of the XML API that the operator uses, with real checks. A token must be a JWT that the
//! service account's key signed, creation is conditional by generation, and buckets that were not created do not exist.

use std::{collections::BTreeMap, convert::Infallible, fmt::Write, sync::Arc};

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use parking_lot::Mutex;
use rcgen::{KeyPair, PKCS_RSA_SHA256, PublicKeyData, RsaKeySize};

use super::{
    Proxy, TestStore,
    stores::{proxy::decode, serve},
};

const EMAIL: &str = "operator@project.iam.gserviceaccount.com";

struct Object {
    bytes: Bytes,
    headers: HeaderMap,
    generation: u64,
}

struct Server {
    public_key: Vec<u8>,
    objects: Mutex<BTreeMap<String, Object>>,
}

pub(super) async fn start() -> TestStore {
    let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let server = Arc::new(Server { public_key: pair.der_bytes().to_vec(), objects: Mutex::default() });
    let (address, tasks) = serve(service_fn(move |request| {
        let server = server.clone();
        async move { Ok::<_, Infallible>(server.answer(request).await) }
    }))
    .await;
    let proxy = Proxy::start(address);
    let endpoint = proxy.url();
    TestStore {
        url: "gs://evidence/kyc".to_owned(),
        secret: vec![
            ("google_service_account_key", service_account(&pair)),
            ("google_base_url", endpoint.clone()),
        ],
        proxy: Some(proxy),
        endpoint,
        _alive: Box::new(tasks),
    }
}

/// A service account's key as Google issues it.
pub(crate) fn service_account(pair: &KeyPair) -> String {
    serde_json::json!({
        "type": "service_account",
        "project_id": "project",
        "private_key_id": "1",
        "private_key": pair.serialize_pem(),
        "client_email": EMAIL,
        "token_uri": "https://oauth2.googleapis.com/token",
    })
    .to_string()
}

fn say(status: u16, code: &str) -> Response<Full<Bytes>> {
    let body = format!("<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code></Error>");
    Response::builder().status(status).body(Full::from(body)).unwrap()
}

impl Server {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        let Ok(body) = body.collect().await else { return say(400, "IncompleteBody") };
        if !self.is_signed(&parts.headers) {
            return say(401, "AuthenticationRequired");
        }
        let path = decode(parts.uri.path()).trim_start_matches('/').to_owned();
        let Some(key) = path.strip_prefix("evidence/").map(str::to_owned) else {
            let query = parts.uri.query().unwrap_or_default().to_owned();
            return if path == "evidence" { self.list(&query) } else { say(404, "NoSuchBucket") };
        };
        let mut objects = self.objects.lock();
        match parts.method {
            Method::PUT => {
                let condition =
                    parts.headers.get("x-goog-if-generation-match").map(http::HeaderValue::as_bytes);
                assert!(condition.is_some(), "nothing is ever written without a condition");
                let generation = objects.get(&key).map_or(0, |object| object.generation);
                if condition != Some(generation.to_string().as_bytes()) {
                    return say(412, "PreconditionFailed");
                }
                let mut headers = parts.headers;
                let kept = |name: &str| name == "content-type" || name.starts_with("x-goog-meta-");
                let others: Vec<_> = headers.keys().filter(|name| !kept(name.as_str())).cloned().collect();
                for name in others {
                    headers.remove(name);
                }
                objects.insert(key, Object { bytes: body.to_bytes(), headers, generation: generation + 1 });
                Response::builder().header("etag", "\"1\"").body(Full::default()).unwrap()
            }
            Method::GET | Method::HEAD => match objects.get(&key) {
                None => say(404, "NoSuchKey"),
                Some(object) => {
                    let mut response = Response::builder()
                        .header("etag", "\"1\"")
                        .header("last-modified", "Fri, 02 Jan 2026 03:04:05 GMT")
                        .header("x-goog-generation", object.generation)
                        .body(Full::from(object.bytes.clone()))
                        .unwrap();
                    response.headers_mut().extend(object.headers.clone());
                    response
                }
            },
            Method::DELETE => match objects.remove(&key) {
                None => say(404, "NoSuchKey"),
                Some(_) => Response::builder().status(204).body(Full::default()).unwrap(),
            },
            _ => say(405, "MethodNotAllowed"),
        }
    }

    fn list(&self, query: &str) -> Response<Full<Bytes>> {
        let prefix = url::form_urlencoded::parse(query.as_bytes())
            .find(|(name, _)| name == "prefix")
            .map(|(_, value)| value.into_owned())
            .unwrap_or_default();
        let mut body = "<ListBucketResult><IsTruncated>false</IsTruncated>".to_owned();
        for (key, object) in self.objects.lock().iter().filter(|(key, _)| key.starts_with(&prefix)) {
            write!(
                body,
                "<Contents><Key>{key}</Key><Generation>{}</Generation><Size>{}</Size>\
                 <LastModified>2026-01-02T03:04:05.000Z</LastModified><ETag>\"1\"</ETag></Contents>",
                object.generation,
                object.bytes.len()
            )
            .unwrap();
        }
        body.push_str("</ListBucketResult>");
        Response::new(Full::from(body))
    }

    /// Whether the request has a token that the service account's key signed (RFC 7519, RS256).
    fn is_signed(&self, headers: &HeaderMap) -> bool {
        let token =
            headers.get("authorization").and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let Some((signed, signature)) = token.and_then(|token| token.rsplit_once('.')) else { return false };
        let Ok(signature) = BASE64_URL_SAFE_NO_PAD.decode(signature) else { return false };
        let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.public_key);
        let claims = signed.split('.').nth(1).and_then(|claims| BASE64_URL_SAFE_NO_PAD.decode(claims).ok());
        let claims: Option<serde_json::Value> =
            claims.and_then(|claims| serde_json::from_slice(&claims).ok());
        key.verify(signed.as_bytes(), &signature).is_ok()
            && claims.is_some_and(|claims| claims["iss"] == EMAIL)
    }
}
