//! Objects are where status says they are, for every pair of options that a store accepts.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    path::{Path, PathBuf},
};

use control_plane::Folder as TempFolder;
use okid_operator::{
    store::{Endpoints, Folder, HttpSettings, Location, Options, Scheme, Store, StoreError, StoreHttp},
    tls,
};
use s3s::{
    S3Result,
    auth::SimpleAuth,
    host::{S3Host, VirtualHost},
    service::S3ServiceBuilder,
};
use s3s_fs::FileSystem;

use crate::harness::{RETRY_POLICY, TestStore, put_in, serve};

/// A host whose subdomains are buckets, as with Amazon, and `MinIO` with a domain.
struct Buckets;

const HOST: &str = "store.test";

impl S3Host for Buckets {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        let name = host.split(':').next().unwrap_or(host);
        let bucket = name.strip_suffix(HOST).and_then(|bucket| bucket.strip_suffix('.'));
        let shared = VirtualHost::new(HOST);
        Ok(match bucket {
            Some(bucket) => shared.with_bucket(bucket),
            None => shared,
        })
    }
}

type Entries = Vec<(&'static str, String)>;

/// The common options, with each pair of the others.
fn pairs(common: &Entries, others: &Entries) -> Vec<Entries> {
    let mut all = vec![common.clone()];
    for (index, one) in others.iter().enumerate() {
        all.push([common.as_slice(), std::slice::from_ref(one)].concat());
        for other in others[index + 1..].iter().filter(|other| other.0 != one.0) {
            all.push([common.as_slice(), &[one.clone(), other.clone()]].concat());
        }
    }
    all
}

/// The store with these options from a Secret or from the administrator's file, if they are accepted.
fn open(url: &str, entries: &Entries, is_named: bool, allowed: &[String], http: &StoreHttp) -> Option<Store> {
    let location = Location::parse(url).unwrap();
    let options = if is_named {
        let entries = entries.iter().map(|(key, value)| (*key, value.as_str()));
        Options::of_administrator(location.scheme(), entries, &[])
    } else {
        let entries = entries.iter().map(|(key, value)| (*key, value.as_bytes()));
        Options::of_secret(location.scheme(), entries, &Endpoints::new(allowed).unwrap())
    };
    Store::new(location, &options.ok()?, http, RETRY_POLICY).ok()
}

async fn put(store: &Store, folder: &Folder) -> Result<(), StoreError> {
    put_in(store, folder, "front-original.jpg", b"abc").await.map(drop)
}

/// The folder of one case; the namespace's name could be a bucket's.
fn folder(case: usize) -> Folder {
    Folder::new("team-a", "customer", &format!("0b1e6d5c-7c0e-4b0e-9d57-{case:012}")).unwrap()
}

/// The relative path of every image below a folder.
fn files(root: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_some_and(|extension| extension == "jpg") {
                found.insert(entry.strip_prefix(root).unwrap().to_owned());
            }
        }
    }
    found
}

#[tokio::test]
async fn objects_are_in_s3_where_status_says_whatever_options_are_accepted() {
    const BUCKETS: [&str; 2] = ["evidence", "evidence.eu"];
    let disk = TempFolder::create("okid-s3-").unwrap();
    for bucket in BUCKETS {
        std::fs::create_dir(disk.path().join(bucket)).unwrap();
    }
    let mut builder = S3ServiceBuilder::new(FileSystem::new(disk.path()).unwrap());
    builder.set_auth(SimpleAuth::from_single("operator", "horse"));
    builder.set_host(Buckets);
    let (address, _tasks) = serve(builder.build()).await;
    let at = |host: &str| format!("http://{host}:{}", address.port());
    let names = [HOST.to_owned(), format!("evidence.{HOST}"), format!("evidence.eu.{HOST}")];
    let hosts: Vec<_> = names.iter().map(|name| (name.clone(), IpAddr::from([127, 0, 0, 1]))).collect();
    let settings = HttpSettings { hosts, ..HttpSettings::default() };
    let http = StoreHttp::new(&settings, tls::client_config(None).unwrap()).unwrap();

    let common =
        vec![("aws_access_key_id", "operator".to_owned()), ("aws_secret_access_key", "horse".to_owned())];
    let mut others: Entries = [HOST, "127.0.0.1"].map(|host| ("aws_endpoint", at(host))).to_vec();
    others.push(("aws_endpoint", format!("{}/evidence", at(HOST))));
    others.push(("aws_endpoint", format!("{}/other", at(HOST))));
    others.push(("aws_endpoint_url_s3", at(HOST)));
    let words = [
        ("aws_virtual_hosted_style_request", "true"),
        ("aws_virtual_hosted_style_request", "false"),
        ("aws_region", "eu-central-1"),
        ("aws_default_region", "eu-west-1"),
        ("aws_session_token", "token"),
        ("aws_unsigned_payload", "true"),
        ("aws_checksum_algorithm", "sha256"),
        ("aws_checksum_algorithm", "crc64nvme"),
        ("aws_request_payer", "true"),
        ("aws_server_side_encryption", "AES256"),
        ("aws_server_side_encryption", "aws:kms"),
        ("aws_sse_kms_key_id", "key"),
        ("aws_sse_bucket_key_enabled", "true"),
        ("allow_http", "true"),
    ];
    others.extend(words.map(|(name, value)| (name, value.to_owned())));
    // What no operator could know: that a host is another bucket's.
    let own = |url: &str| {
        let host = format!("{}.{HOST}", Location::parse(url).unwrap().bucket());
        [others.as_slice(), &[("aws_endpoint", at(&host))]].concat()
    };
    let allowed: Vec<_> = others
        .iter()
        .filter(|(name, _)| name.starts_with("aws_endpoint"))
        .map(|(_, url)| url.clone())
        .collect();
    let allowed: BTreeSet<_> = allowed.into_iter().chain(names.iter().map(|name| at(name))).collect();
    let allowed: Vec<_> = allowed.into_iter().collect();

    let mut expected = BTreeSet::new();
    let (mut case, mut in_virtual_hosts) = (0, 0);
    for (url, is_named) in [
        ("s3://evidence/kyc", false),
        ("s3://evidence", true),
        ("s3://evidence.eu/a.b/c", false),
        ("s3://evidence.eu", true),
    ] {
        for entries in pairs(&common, &own(url)) {
            // The test does not call Amazon itself.
            if !entries.iter().any(|(name, _)| name.starts_with("aws_endpoint")) {
                continue;
            }
            let Some(store) = open(url, &entries, is_named, &allowed, &http) else { continue };
            case += 1;
            let folder = folder(case);
            let stored = put(&store, &folder).await;
            assert_eq!(stored, Ok(()), "{url} {entries:?}");
            let address = folder.url(store.location());
            expected.insert(PathBuf::from(address.strip_prefix("s3://").unwrap()).join("front-original.jpg"));
            let is_virtual = |(name, value): &(&str, String)| name.contains("virtual") && value == "true";
            in_virtual_hosts += usize::from(entries.iter().any(is_virtual));
        }
    }
    let found = files(disk.path());
    let elsewhere: Vec<_> = found.symmetric_difference(&expected).collect();
    assert!(elsewhere.is_empty(), "{elsewhere:?}");
    assert!(case > 100 && in_virtual_hosts == 4, "{case} {in_virtual_hosts}");
}

/// For Google and Azure: the requested path is the one that status says, below the account if the host does not name it.
async fn assert_requested_paths(
    test_store: TestStore,
    account: &str,
    common: &[&str],
    others: Entries,
) -> usize {
    let http = StoreHttp::new(&HttpSettings::default(), tls::client_config(None).unwrap()).unwrap();
    let entry = |name: &&str| test_store.secret().iter().find(|(other, _)| other == name).unwrap().clone();
    let common: Entries = common.iter().map(entry).collect();
    let allowed: BTreeSet<_> = others.iter().filter(|(_, url)| url.starts_with("http")).collect();
    let allowed: Vec<_> = allowed.into_iter().map(|(_, url)| url.clone()).collect();
    let mut case = 0;
    let scheme = test_store.url().split_once("://").unwrap().0;
    for (url, is_named) in
        [(format!("{scheme}://evidence/a.b/c"), false), (format!("{scheme}://evidence"), true)]
    {
        for entries in pairs(&common, &others) {
            if !entries.iter().any(|(_, url)| url.starts_with("http")) {
                continue;
            }
            let Some(store) = open(&url, &entries, is_named, &allowed, &http) else { continue };
            case += 1;
            let folder = folder(case);
            assert_eq!(put(&store, &folder).await, Ok(()), "{url} {entries:?}");
            let passed = test_store.proxy().passed();
            let said = folder.url(store.location()).replacen(&format!("{scheme}://"), account, 1);
            assert_eq!(passed.last().unwrap().path, format!("{said}/front-original.jpg"), "{entries:?}");
        }
    }
    case
}

#[tokio::test]
async fn objects_are_in_google_where_status_says_whatever_options_are_accepted() {
    let test_store = TestStore::google().await.unwrap();
    let at = test_store.proxy().url();
    let others = vec![
        ("google_base_url", at.clone()),
        ("google_base_url", format!("{at}/evidence")),
        ("google_bearer_token", "token".to_owned()),
        ("allow_http", "true".to_owned()),
    ];
    assert!(assert_requested_paths(test_store, "/", &["google_service_account_key"], others).await >= 4);
}

#[tokio::test]
async fn objects_are_in_azure_where_status_says_whatever_options_are_accepted() {
    let Some(test_store) = TestStore::azure().await else { return };
    let at = test_store.proxy().url();
    let others = vec![
        ("azure_storage_endpoint", format!("{at}/devstoreaccount1")),
        ("azure_storage_endpoint", format!("{at}/devstoreaccount1/evidence")),
        ("azure_storage_endpoint", format!("{at}/evidence")),
        ("azure_storage_authority_host", at.clone()),
        ("azure_storage_token", "token".to_owned()),
        ("allow_http", "true".to_owned()),
    ];
    let common = ["azure_storage_account_name", "azure_storage_account_key"];
    assert!(assert_requested_paths(test_store, "/devstoreaccount1/", &common, others).await >= 4);
}

#[tokio::test]
async fn objects_are_in_a_folder_where_status_says() {
    let disk = TempFolder::create("okid-evidence-").unwrap();
    let http = StoreHttp::new(&HttpSettings::default(), tls::client_config(None).unwrap()).unwrap();
    for (case, below) in ["a", "a.b/c_d"].into_iter().enumerate() {
        let root = disk.path().join(below);
        std::fs::create_dir_all(&root).unwrap();
        let url = format!("file://{}", root.display());
        let names: Vec<_> = Options::in_secrets(Scheme::File).collect();
        let modes: Entries = names.into_iter().map(|name| (name, "700".to_owned())).collect();
        for (index, entries) in pairs(&Vec::new(), &modes).iter().enumerate() {
            let store = open(&url, entries, true, &[], &http).unwrap();
            let folder = folder(10 * case + index);
            put(&store, &folder).await.unwrap();
            let said = folder.url(store.location());
            assert!(Path::new(said.strip_prefix("file://").unwrap()).join("front-original.jpg").is_file());
        }
    }
}
