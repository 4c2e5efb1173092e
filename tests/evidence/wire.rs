//! The effect of every option of a Secret on the requests that are sent.

use std::{
    collections::{BTreeSet, HashSet},
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use okid_operator::store::{Endpoints, Location, Options, Scheme, Store, StoreError};
use parking_lot::Mutex;
use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use tokio::task::JoinSet;

use crate::harness::{RETRY_POLICY, http, of, put, put_as, put_in, serve, service_account};

/// A recorded request.
#[derive(Clone, Debug)]
struct Recorded {
    method: Method,
    target: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Recorded {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// A store that records every request and accepts it; it also issues tokens.
struct Recorder {
    url: String,
    requests: Arc<Mutex<Vec<Recorded>>>,
    _tasks: JoinSet<()>,
}

impl Recorder {
    /// A store that overwrites, or refuses to.
    async fn start(overwrites: bool) -> Self {
        Self::start_overwriting(if overwrites { usize::MAX } else { 0 }).await
    }

    /// A store that overwrites an object this many times.
    async fn start_overwriting(times: usize) -> Self {
        let times = Arc::new(AtomicUsize::new(times));
        let requests = Arc::new(Mutex::new(Vec::<Recorded>::new()));
        let (seen, taken) = (requests.clone(), Arc::new(Mutex::new(HashSet::new())));
        let (address, tasks) = serve(service_fn(move |request: Request<Incoming>| {
            let (seen, taken, times) = (seen.clone(), taken.clone(), times.clone());
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let (method, target) = (parts.method.clone(), parts.uri.to_string());
                seen.lock().push(Recorded { method, target: target.clone(), headers: parts.headers, body });
                let is_free = taken.lock().insert(target);
                let overwrites =
                    || times.fetch_update(Relaxed, Relaxed, |times| times.checked_sub(1)).is_ok();
                let (status, answer) = match parts.method {
                    Method::POST => (200, r#"{"access_token": "given-out", "expires_in": 3600}"#),
                    _ if is_free || overwrites() => (201, ""),
                    _ => (412, "<Error><Code>PreconditionFailed</Code></Error>"),
                };
                let response = Response::builder().status(status).header("etag", "\"1\"");
                Ok::<_, Infallible>(response.body(Full::<Bytes>::from(answer)).unwrap())
            }
        }))
        .await;
        Self { url: format!("http://{address}"), requests, _tasks: tasks }
    }

    fn count(&self) -> usize {
        self.requests.lock().len()
    }

    /// The store with these options.
    fn store(&self, scheme: Scheme, entries: &[(&str, String)]) -> Store {
        let location = Location::parse(&format!("{}://evidence/kyc", scheme.as_str())).unwrap();
        let endpoints = Endpoints::new(&[&self.url, &format!("{}/account", self.url)]).unwrap();
        let entries = entries.iter().map(|(key, value)| (*key, value.as_bytes()));
        let options = Options::of_secret(scheme, entries, &endpoints).unwrap();
        Store::new(location, &options, &http(), RETRY_POLICY).unwrap()
    }

    /// The requests that store one object with these options.
    async fn sent(&self, scheme: Scheme, entries: &[(&str, String)]) -> Vec<Recorded> {
        self.requests.lock().clear();
        put(&self.store(scheme, entries), b"abc").await.ok();
        self.requests.lock().clone()
    }
}

/// The effect of an option on a request.
type Shows = fn(&Recorded) -> bool;

/// An option, the entries to set it with, and its effect.
struct Row {
    option: &'static str,
    entries: Vec<(&'static str, String)>,
    shows: Shows,
}

fn row(option: &'static str, entries: &[(&'static str, &str)], shows: Shows) -> Row {
    let entries = entries.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Row { option, entries, shows }
}

fn s3() -> Vec<Row> {
    const KMS: (&str, &str) = ("aws_server_side_encryption", "aws:kms");
    let of = |option, value: &str, shows| row(option, &[(option, value)], shows);
    vec![
        of("aws_access_key_id", "AKIAOTHER", |sent| {
            sent.header("authorization").contains("Credential=AKIAOTHER/")
        }),
        of("aws_region", "eu-north-9", |sent| sent.header("authorization").contains("/eu-north-9/s3/")),
        of("aws_session_token", "token", |sent| sent.header("x-amz-security-token") == "token"),
        of("aws_unsigned_payload", "true", |sent| sent.header("x-amz-content-sha256") == "UNSIGNED-PAYLOAD"),
        of("aws_checksum_algorithm", "sha256", |sent| !sent.header("x-amz-checksum-sha256").is_empty()),
        of("aws_checksum_algorithm", "crc64nvme", |sent| !sent.header("x-amz-checksum-crc64nvme").is_empty()),
        of("aws_request_payer", "true", |sent| sent.header("x-amz-request-payer") == "requester"),
        of("aws_server_side_encryption", "AES256", |sent| {
            sent.header("x-amz-server-side-encryption") == "AES256"
        }),
        of("aws_server_side_encryption", "aws:kms:dsse", |sent| {
            sent.header("x-amz-server-side-encryption") == "aws:kms:dsse"
        }),
        row("aws_sse_kms_key_id", &[KMS, ("aws_sse_kms_key_id", "key")], |sent| {
            sent.header("x-amz-server-side-encryption-aws-kms-key-id") == "key"
        }),
        row("aws_sse_bucket_key_enabled", &[KMS, ("aws_sse_bucket_key_enabled", "true")], |sent| {
            sent.header("x-amz-server-side-encryption-bucket-key-enabled") == "true"
        }),
    ]
}

fn azure(recorder: &Recorder) -> Vec<Row> {
    let of = |option, value: &str, shows| row(option, &[(option, value)], shows);
    let client = [
        ("azure_storage_account_key", ""),
        ("azure_storage_authority_host", recorder.url.as_str()),
        ("azure_storage_client_id", "this-client"),
        ("azure_storage_client_secret", "this-secret"),
        ("azure_storage_tenant_id", "this-tenant"),
    ];
    vec![
        row(
            "azure_storage_account_name",
            &[("azure_storage_account_name", "other"), ("azure_storage_endpoint", &recorder.url)],
            |sent| sent.header("authorization").starts_with("SharedKey other:"),
        ),
        row(
            "azure_storage_sas_key",
            &[("azure_storage_account_key", ""), ("azure_storage_sas_key", "sv=1&sig=this")],
            |sent| sent.target.contains("sig=this"),
        ),
        row(
            "azure_storage_token",
            &[("azure_storage_account_key", ""), ("azure_storage_token", "this")],
            |sent| sent.header("authorization") == "Bearer this",
        ),
        of("azure_storage_account_key", "b3RoZXI=", |sent| {
            sent.header("authorization").starts_with("SharedKey account:")
        }),
        row("azure_storage_client_id", &client, |sent| {
            String::from_utf8_lossy(&sent.body).contains("client_id=this-client")
        }),
        row("azure_storage_client_secret", &client, |sent| {
            String::from_utf8_lossy(&sent.body).contains("client_secret=this-secret")
        }),
        row("azure_storage_tenant_id", &client, |sent| sent.target.starts_with("/this-tenant/")),
        row("azure_storage_authority_host", &client, |sent| sent.method == Method::POST),
    ]
}

/// Options that every row needs, or that only confirm what the administrator allows, with the tests of their effects.
const SHOWN_OTHERWISE: [&str; 8] = [
    // Otherwise no request reaches the recorder.
    "aws_endpoint",
    "google_base_url",
    "azure_storage_endpoint",
    // `an_option_without_effect_is_refused`, `plain_http_is_used_for_an_allowed_endpoint_only`.
    "allow_http",
    // `objects_are_in_s3_where_status_says_whatever_options_are_accepted`.
    "aws_virtual_hosted_style_request",
    // `wrong_credentials_are_distinguished_from_missing_permissions`.
    "aws_secret_access_key",
    "google_service_account_key",
    "azure_storage_account_key",
];

/// Each row has its effect with its entries, and not without them.
async fn assert_effects(recorder: &Recorder, scheme: Scheme, base: &[(&'static str, String)], rows: &[Row]) {
    let plain = recorder.sent(scheme, base).await;
    assert!(!plain.is_empty());
    for Row { option, entries, shows } in rows {
        let mut with = base.to_vec();
        with.retain(|(name, _)| entries.iter().all(|(other, _)| other != name));
        with.extend(entries.iter().filter(|(_, value)| !value.is_empty()).cloned());
        let sent = recorder.sent(scheme, &with).await;
        assert!(sent.iter().any(shows), "{option} shows nowhere in {sent:?}");
        if *option != "azure_storage_account_key" {
            assert!(!plain.iter().any(shows), "{option} shows without it in {plain:?}");
        }
    }
    let shown: BTreeSet<_> = rows.iter().map(|row| row.option).chain(SHOWN_OTHERWISE).collect();
    let missing: Vec<_> = Options::in_secrets(scheme).filter(|name| !shown.contains(name)).collect();
    assert_eq!(missing, Vec::<&str>::new());
}

#[tokio::test]
async fn every_option_of_a_secret_has_its_effect_on_requests() {
    let recorder = Recorder::start(false).await;
    let base = [
        ("aws_access_key_id", "AKIAEXAMPLE".to_owned()),
        ("aws_secret_access_key", "horse".to_owned()),
        ("aws_endpoint", recorder.url.clone()),
    ];
    assert_effects(&recorder, Scheme::S3, &base, &s3()).await;

    let base = [
        ("azure_storage_account_name", "account".to_owned()),
        ("azure_storage_account_key", "a2V5".to_owned()),
        ("azure_storage_endpoint", format!("{}/account", recorder.url)),
    ];
    assert_effects(&recorder, Scheme::Az, &base, &azure(&recorder)).await;

    let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let base =
        [("google_service_account_key", service_account(&pair)), ("google_base_url", recorder.url.clone())];
    let bearer = [("google_service_account_key", ""), ("google_bearer_token", "this")];
    let rows = [row("google_bearer_token", &bearer, |sent| sent.header("authorization") == "Bearer this")];
    assert_effects(&recorder, Scheme::Gs, &base, &rows).await;
}

#[tokio::test]
async fn a_store_that_overwrites_is_detected_and_gets_no_further_object() {
    let base = |recorder: &Recorder| {
        [
            ("aws_access_key_id", "AKIAEXAMPLE".to_owned()),
            ("aws_secret_access_key", "horse".to_owned()),
            ("aws_endpoint", recorder.url.clone()),
        ]
    };
    let recorder = Recorder::start(true).await;
    let store = recorder.store(Scheme::S3, &base(&recorder));
    assert_eq!(put(&store, b"abc").await, Err(StoreError::NoConditionalWrites));
    let sent = recorder.requests.lock().clone();
    assert_eq!(sent.len(), 3, "the object, and the check twice");
    assert!(sent.iter().all(|sent| sent.header("if-none-match") == "*" && sent.body == "abc"), "{sent:?}");
    assert_eq!(put_as(&store, "details.json", b"{}").await, Err(StoreError::NoConditionalWrites));
    assert_eq!(recorder.count(), 3, "nothing can be overwritten any more");
    let others = put_in(&store, &of("team-b"), "front-original.jpg", b"abc").await;
    assert_eq!(others, Err(StoreError::NoConditionalWrites));
    assert_eq!(recorder.count(), 6, "each namespace has its own check");

    // As if the object were removed between two requests.
    let recorder = Recorder::start_overwriting(1).await;
    let store = recorder.store(Scheme::S3, &base(&recorder));
    assert!(!put(&store, b"abc").await.unwrap().already_existed);
    assert!(!put_as(&store, "details.json", b"{}").await.unwrap().already_existed);
    assert_eq!(recorder.count(), 4, "the question once more, and no question for the next");

    let recorder = Recorder::start(false).await;
    let store = recorder.store(Scheme::S3, &base(&recorder));
    for (number, name) in ["front-original.jpg", "back-original.jpg", "details.json"].into_iter().enumerate()
    {
        assert!(!put_as(&store, name, b"abc").await.unwrap().already_existed);
        assert_eq!(recorder.count(), number + 2, "one request each, and one for the question");
    }
}
