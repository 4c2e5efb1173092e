//! Which server an endpoint names.

use super::*;
use crate::store::location::Location;

#[test]
fn one_server_has_one_name() {
    let at = |url: &str, entries: &[(&str, &str)]| {
        let location = Location::parse(url).unwrap();
        let options = Options::of_administrator(location.scheme(), entries.iter().copied(), &[]).unwrap();
        options.endpoint(&location).unwrap()
    };
    let amazon = "https://s3.eu-central-1.amazonaws.com";
    for entries in [
        &[REGION][..],
        &[("aws_default_region", "EU-Central-1")],
        &[REGION, ("aws_virtual_hosted_style_request", "true")],
        &[("aws_endpoint", "https://S3.eu-central-1.amazonaws.com:443/")],
        &[
            ("aws_endpoint", "https://evidence.s3.eu-central-1.amazonaws.com"),
            ("virtual_hosted_style_request", "1"),
        ],
    ] {
        assert_eq!(at("s3://evidence/kyc", entries), amazon, "{entries:?}");
    }
    assert_eq!(at("s3://evidence.eu", &[REGION]), amazon);
    assert_eq!(at("s3://evidence", &[]), "https://s3.us-east-1.amazonaws.com");
    assert_eq!(
        at("gs://evidence", &[]),
        at("gs://other", &[("base_url", "https://storage.googleapis.com/")])
    );
    let account = "https://evidence.blob.core.windows.net";
    assert_eq!(at("az://kyc", &[("account_name", "Evidence")]), account);
    assert_eq!(
        at("az://kyc", &[ACCOUNT, ("azure_endpoint", "https://Evidence.blob.core.windows.net/")]),
        account
    );
    let emulator = [ACCOUNT, ("azure_endpoint", "http://127.0.0.1:10000/evidence")];
    assert_eq!(at("az://kyc", &emulator), "http://127.0.0.1:10000");
    assert_ne!(at("file:///a", &[]), at("file:///b", &[]));
}

#[test]
fn an_endpoint_that_puts_objects_elsewhere_than_the_address_says_is_refused() {
    const VIRTUAL: (&str, &str) = ("aws_virtual_hosted_style_request", "true");
    let refused = |url: &str, entries: &[(&str, &str)]| {
        let location = Location::parse(url).unwrap();
        let options = Options::of_administrator(location.scheme(), entries.iter().copied(), &[]).unwrap();
        let error = options.endpoint(&location).unwrap_err();
        assert!(matches!(error, InvalidOptions::Elsewhere { .. }), "{error:?}");
        error.to_string()
    };
    let s3 = |endpoint| refused("s3://evidence", &[("aws_endpoint", endpoint)]);
    let style = |endpoint| refused("s3://evidence", &[("aws_endpoint", endpoint), VIRTUAL]);
    for endpoint in ["http://127.0.0.1:19000", "https://minio.example", "https://other.minio.example"] {
        assert!(style(endpoint).starts_with("aws_endpoint: in virtual-hosted style its host must begin"));
    }
    assert!(style("https://evidence.minio.example/kyc").starts_with("aws_endpoint: its path"));
    assert!(s3("https://minio.example/other").starts_with("aws_endpoint: its path"));
    assert!(s3("https://evidence.minio.example").starts_with("aws_endpoint: its host begins"));
    assert!(s3("https://other.s3.eu-central-1.amazonaws.com").starts_with("aws_endpoint: write the host"));
    assert!(refused("s3://evidence.eu", &[VIRTUAL]).contains("a name with a dot"));
    let google = |endpoint| refused("gs://evidence", &[("google_base_url", endpoint)]);
    assert!(google("https://evidence.storage.googleapis.com").starts_with("google_base_url: write the host"));
    assert!(google("http://127.0.0.1:4443/evidence").starts_with("google_base_url: its path"));
    let azure = [ACCOUNT, ("azure_endpoint", "https://evidence.blob.core.windows.net/kyc")];
    assert!(refused("az://kyc", &azure).starts_with("azure_storage_endpoint: its path"));
}
