//! Builds the library's stores from a location and options. Opens no connection.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use object_store::{
    ClientOptions, ObjectStore, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey},
    azure::{AzureConfigKey, MicrosoftAzure, MicrosoftAzureBuilder},
    client::HttpClient,
    gcp::{GoogleCloudStorage, GoogleCloudStorageBuilder, GoogleConfigKey},
};

use super::{
    files::{Disk, Modes},
    http::StoreHttp,
    location::{Location, Scheme},
    options::{InvalidOptions, Options},
    signing::{KnownDigest, Signing},
};

/// A store of the library, or a local folder. Not `Debug`, because the library would print some credentials.
pub(crate) enum Backend {
    S3(Box<S3>),
    Gs(GoogleCloudStorage),
    Az(Azure),
    File(Disk),
}

/// How a store is reached.
pub(crate) enum Transport<'a> {
    Network(&'a dyn ObjectStore),
    Disk(&'a Disk),
}

/// S3, and what its requests are signed with.
pub(crate) struct S3 {
    pub(crate) store: AmazonS3,
    pub(crate) signing: Signing,
}

/// Azure, and what the operator's own requests to it need.
pub(crate) struct Azure {
    pub(crate) store: MicrosoftAzure,
    pub(crate) account: String,
    /// The container's address, without a slash at the end.
    pub(crate) container: String,
    pub(crate) http: HttpClient,
}

impl Backend {
    /// Builds the store. The credentials are those of the options; the operator's own only where the options say so.
    ///
    /// The error names the invalid option: the one without which the others are valid.
    pub(crate) fn new(
        location: &Location,
        options: &Options,
        http: &StoreHttp,
    ) -> Result<Self, InvalidOptions> {
        Self::build(location, options, http).map_err(|error| {
            let is_to_blame = |name: &str| Self::build(location, &options.without(name), http).is_ok();
            match options.iter().find(|(name, _)| is_to_blame(name)) {
                Some((name, _)) => InvalidOptions::Malformed { key: name.to_owned() },
                None => error,
            }
        })
    }

    fn build(location: &Location, options: &Options, http: &StoreHttp) -> Result<Self, InvalidOptions> {
        let client = ClientOptions::new().with_allow_http(options.allow_plain_http);
        // The operator retries itself: the library's own retries would take three minutes.
        let never = RetryConfig { max_retries: 0, retry_timeout: Duration::ZERO, ..RetryConfig::default() };
        match location.scheme() {
            Scheme::S3 => {
                let signing = Signing::default();
                let builder = AmazonS3Builder::new()
                    .with_crypto_provider(Arc::new(signing.clone()))
                    .with_client_options(client)
                    .with_retry(never)
                    .with_http_connector(http.clone())
                    .with_bucket_name(location.bucket())
                    // One response for each object, not one for all.
                    .with_disable_bulk_delete(true);
                let builder = options.iter().try_fold(builder, |builder, (name, value)| {
                    name.parse().map(|key: AmazonS3ConfigKey| builder.with_config(key, value))
                });
                let store = build(builder.and_then(AmazonS3Builder::build))?;
                Ok(Self::S3(Box::new(S3 { store, signing })))
            }
            Scheme::Gs => {
                let builder = GoogleCloudStorageBuilder::new()
                    .with_client_options(client)
                    .with_retry(never)
                    .with_http_connector(http.clone())
                    .with_bucket_name(location.bucket());
                let builder = options.iter().try_fold(builder, |builder, (name, value)| {
                    name.parse().map(|key: GoogleConfigKey| builder.with_config(key, value))
                });
                build(builder.and_then(GoogleCloudStorageBuilder::build)).map(Self::Gs)
            }
            Scheme::Az => {
                let builder = MicrosoftAzureBuilder::new()
                    .with_client_options(client)
                    .with_retry(never)
                    .with_http_connector(http.clone())
                    .with_container_name(location.bucket());
                let builder = options.iter().try_fold(builder, |builder, (name, value)| {
                    name.parse().map(|key: AzureConfigKey| builder.with_config(key, value))
                });
                let store = build(builder.and_then(MicrosoftAzureBuilder::build))?;
                let account = options.get("azure_storage_account_name").unwrap_or_default().to_owned();
                let service = options.get("azure_storage_endpoint").map_or_else(
                    || format!("https://{account}.blob.core.windows.net"),
                    |endpoint| endpoint.trim_end_matches('/').to_owned(),
                );
                let container = format!("{service}/{}", location.bucket());
                Ok(Self::Az(Azure { store, account, container, http: http.client(options.allow_plain_http) }))
            }
            Scheme::File => {
                let modes = Modes { file: options.mode("file_mode"), folder: options.mode("dir_mode") };
                Ok(Self::File(Disk::new(Path::new("/").join(location.prefix()), modes)))
            }
        }
    }

    /// How it is reached.
    pub(crate) fn transport(&self) -> Transport<'_> {
        match self {
            Self::S3(s3) => Transport::Network(&s3.store),
            Self::Gs(store) => Transport::Network(store),
            Self::Az(azure) => Transport::Network(&azure.store),
            Self::File(disk) => Transport::Disk(disk),
        }
    }

    /// Uses this SHA-256 of these bytes to sign requests, where the store needs one, until the returned guard is dropped.
    pub(crate) fn know(&self, bytes: &Bytes, sha256: [u8; 32]) -> Option<KnownDigest<'_>> {
        match self {
            Self::S3(s3) => Some(s3.signing.know(bytes, sha256)),
            Self::Gs(_) | Self::Az(_) | Self::File(_) => None,
        }
    }

    /// Whether the store supports content types and attributes.
    pub(crate) const fn has_attributes(&self) -> bool {
        match self {
            Self::S3(_) | Self::Gs(_) | Self::Az(_) => true,
            Self::File(_) => false,
        }
    }
}

/// Discards the library's error, which may contain a value.
fn build<T>(built: object_store::Result<T>) -> Result<T, InvalidOptions> {
    built.map_err(|_| InvalidOptions::Unusable)
}

#[cfg(test)]
mod tests {
    use super::super::{client::Store, endpoints::Endpoints, http::HttpSettings, retry::RetryPolicy};
    use super::*;
    use crate::tls;

    fn open(url: &str, secret: &[(&str, &str)]) -> Result<Store, InvalidOptions> {
        let http = StoreHttp::new(&HttpSettings::default(), tls::client_config(None).unwrap()).unwrap();
        let location = Location::parse(url).unwrap();
        let endpoints = Endpoints::new::<&str>(&[]).unwrap();
        let secret = secret.iter().map(|(key, value)| (*key, value.as_bytes()));
        let options = Options::of_secret(location.scheme(), secret, &endpoints)?;
        Store::new(location, &options, &http, RetryPolicy::default())
    }

    #[test]
    fn invalid_credentials_are_reported_by_name_and_without_their_value() {
        let account = r#"{"private_key":"canary","private_key_id":"1","client_email":"a@b"}"#;
        for (url, secret) in [
            ("gs://evidence", &[("google_service_account_key", account)][..]),
            (
                "az://evidence",
                &[("azure_storage_account_key", "no base64: canary"), ("azure_storage_account_name", "a")],
            ),
        ] {
            let error = open(url, secret).unwrap_err();
            assert_eq!(error, InvalidOptions::Malformed { key: secret[0].0.to_owned() }, "{url}");
            assert!(!error.to_string().contains("canary"));
        }
    }

    #[test]
    fn an_option_of_the_administrator_that_the_library_rejects_is_named() {
        let http = StoreHttp::new(&HttpSettings::default(), tls::client_config(None).unwrap()).unwrap();
        for (url, key, value) in [
            ("s3://evidence", "aws_imdsv1_fallback", "maybe"),
            ("az://evidence", "azure_storage_encryption_key", "no base64: canary"),
        ] {
            let location = Location::parse(url).unwrap();
            let account = ("azure_storage_account_name", "a");
            let given = [(key, value), account].into_iter().take(if url.starts_with("az") { 2 } else { 1 });
            let options = Options::of_administrator(location.scheme(), given, &[]).unwrap();
            let error = Store::new(location, &options, &http, RetryPolicy::default()).unwrap_err();
            assert_eq!(error, InvalidOptions::Malformed { key: key.to_owned() });
        }
    }

    #[test]
    fn a_store_prints_its_address_only() {
        let name = ("azure_storage_account_name", "a");
        for credentials in [
            &[name, ("azure_storage_sas_key", "sv=1&sig=canary")][..],
            &[name, ("azure_storage_token", "canary")],
        ] {
            assert_eq!(
                format!("{:?}", open("az://evidence/kyc", credentials).unwrap()),
                "Store(az://evidence/kyc)"
            );
        }
        let token = [("google_bearer_token", "canary")];
        assert_eq!(format!("{:?}", open("gs://evidence", &token).unwrap()), "Store(gs://evidence)");
    }
}
