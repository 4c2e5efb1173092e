//! Azure: Microsoft's emulator Azurite, installed from npm into the user's cache.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Command as Blocking,
    time::Duration,
};

use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_STANDARD};
use control_plane::{
    Folder as TempFolder, Progress,
    process::{Child, Command},
};
use http::Method;
use object_store::{
    azure::{AzureAccessKey, AzureAuthorizer, AzureCredential},
    client::HttpRequestBody,
};

use super::{Proxy, TestStore, skip};

/// The last version that runs on Node.js 20.
const VERSION: &str = "3.35.0";
/// Azurite's account, which its documentation names.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// A shared access signature for the container, with these permissions, such as `rc`.
///
/// Built as
/// <https://learn.microsoft.com/rest/api/storageservices/create-service-sas#version-2020-12-06-and-later> says.
pub(crate) fn shared_access_signature(permissions: &str) -> String {
    const VERSION: &str = "2022-11-02";
    const EXPIRY: &str = "2999-01-01T00:00:00Z";
    let container = format!("/blob/{ACCOUNT}/evidence");
    // In this order. The empty fields would only restrict the signature further, or set headers of responses.
    let signed = [permissions, "", EXPIRY, &container, "", "", "", VERSION, "c", "", "", "", "", "", "", ""];
    let key = hmac::Key::new(hmac::HMAC_SHA256, &BASE64_STANDARD.decode(KEY).unwrap());
    let signature = BASE64_STANDARD.encode(hmac::sign(&key, signed.join("\n").as_bytes()));
    url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs([
            ("sv", VERSION),
            ("sr", "c"),
            ("sp", permissions),
            ("se", EXPIRY),
            ("sig", &signature),
        ])
        .finish()
}

pub(super) async fn start() -> Option<TestStore> {
    let program = match tokio::task::spawn_blocking(install).await.unwrap() {
        Ok(program) => program,
        Err(why) => {
            skip("the tests of Azure, because Azurite cannot run here, are", &why);
            return None;
        }
    };
    let folder = TempFolder::create("okid-azurite-").unwrap();
    let server = Command::new("node")
        .arg(program)
        .args(["--blobHost", "127.0.0.1", "--blobPort", "0", "--inMemoryPersistence"])
        .args(["--skipApiVersionCheck", "--disableTelemetry", "--silent"])
        .current_dir(folder.path())
        .needs(folder.lifeline().unwrap())
        .start(folder.path().join("azurite.log"))
        .unwrap();
    let (server, line) = tokio::task::spawn_blocking(move || {
        let line = server.wait_for_line("successfully listens on http://", Duration::from_mins(5));
        (server, line.unwrap())
    })
    .await
    .unwrap();
    let address = line.rsplit("http://").next().unwrap().trim().parse().unwrap();
    let proxy = Proxy::start(address);
    let endpoint = format!("{}/{ACCOUNT}", proxy.url());
    create_container(&format!("http://{address}/{ACCOUNT}/evidence?restype=container")).await;
    Some(TestStore {
        url: "az://evidence/kyc".to_owned(),
        secret: vec![
            ("azure_storage_account_name", ACCOUNT.to_owned()),
            ("azure_storage_account_key", KEY.to_owned()),
            ("azure_storage_endpoint", endpoint.clone()),
        ],
        proxy: Some(proxy),
        endpoint,
        _alive: Box::new((server, folder) as (Child, TempFolder)),
    })
}

async fn create_container(url: &str) {
    let mut request = http::Request::builder()
        .method(Method::PUT)
        .uri(url)
        .header("content-length", 0)
        .body(HttpRequestBody::empty())
        .unwrap();
    let credential = AzureCredential::AccessKey(AzureAccessKey::try_new(KEY).unwrap());
    AzureAuthorizer::new(&credential, ACCOUNT).try_authorize(&mut request).unwrap();
    let (parts, _) = request.into_parts();
    let answer = reqwest::Client::builder()
        .tls_backend_preconfigured(okid_operator::tls::client_config(None).unwrap())
        .no_proxy()
        .build()
        .unwrap()
        .request(Method::PUT, url)
        .headers(parts.headers)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 201, "the container is made");
}

/// Finds Azurite or installs it; the error says why neither is possible.
fn install() -> Result<PathBuf, String> {
    runs("node")?;
    let cache = cache()?;
    let folder = cache.join(format!("azurite-{VERSION}"));
    let program = folder.join("node_modules/azurite/dist/src/blob/main.js");
    if program.is_file() {
        return Ok(program);
    }
    runs("npm")?;
    std::fs::create_dir_all(&cache).map_err(|error| error.to_string())?;
    // Released with the file handle, also when the process is killed.
    let lock = File::create(cache.join("azurite.lock")).map_err(|error| error.to_string())?;
    lock.lock().map_err(|error| error.to_string())?;
    if program.is_file() {
        return Ok(program);
    }
    let partial = cache.join(format!("azurite-{VERSION}.partial"));
    let _ = std::fs::remove_dir_all(&partial);
    std::fs::create_dir_all(&partial).map_err(|error| error.to_string())?;
    let mut task = Progress::detect().start(format!("installing Azurite {VERSION} (once, some 20 s)"));
    let installed = npm(&partial, &mut task);
    task.end(if installed.is_ok() { "done" } else { "failed" });
    installed?;
    std::fs::rename(&partial, &folder).map_err(|error| error.to_string())?;
    Ok(program)
}

fn npm(folder: &Path, task: &mut control_plane::Task) -> Result<(), String> {
    let npm = Command::new("npm")
        .args(["install", "--no-audit", "--no-fund", "--omit=optional", "--prefix", "."])
        .arg(format!("azurite@{VERSION}"))
        .current_dir(folder)
        .start(folder.join("npm.log"))
        .map_err(|error| error.to_string())?;
    for _ in 0..1500 {
        match npm.wait(Duration::from_millis(200)).map_err(|error| error.to_string())? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(format!("npm ended with {status}: {}", npm.log_tail())),
            None => task.tick(),
        }
    }
    Err("npm took over five minutes".to_owned())
}

fn runs(program: &str) -> Result<(), String> {
    match Blocking::new(program).arg("--version").output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(_) | Err(_) => Err(format!("there is no {program} that runs")),
    }
}

fn cache() -> Result<PathBuf, String> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    base.or_else(home).map(|base| base.join("okid-operator")).ok_or_else(|| "there is no HOME".to_owned())
}
