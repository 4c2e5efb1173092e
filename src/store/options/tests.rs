//! Each option alone, and together with others.

use super::{value::MAX_VALUE_BYTES, *};

mod administrator;
mod endpoint;
mod secret;

const REGION: (&str, &str) = ("aws_region", "eu-central-1");
const ID: (&str, &str) = ("aws_access_key_id", "AKIAEXAMPLE");
const KEY: (&str, &str) = ("aws_secret_access_key", "canary/secret+key");
const ACCOUNT: (&str, &str) = ("azure_storage_account_name", "evidence");
const SERVICE_ACCOUNT: &str =
    r#"{"type":"service_account","private_key":"canary","private_key_id":"1","client_email":"a@b"}"#;

fn endpoints() -> Endpoints {
    Endpoints::new(&["https://minio.example", "http://minio.plain.example:9000"]).unwrap()
}

fn read(scheme: Scheme, entries: &[(&str, &str)]) -> Result<Options, InvalidOptions> {
    let entries = entries.iter().map(|(key, value)| (*key, value.as_bytes()));
    Options::of_secret(scheme, entries, &endpoints())
}

fn refusal(scheme: Scheme, entries: &[(&str, &str)]) -> String {
    let error = read(scheme, entries).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
    error.to_string()
}

#[test]
fn credentials_of_each_cloud_are_accepted() {
    let s3 = read(Scheme::S3, &[ID, KEY, REGION, ("AWS_SESSION_TOKEN", "t\n")]).unwrap();
    assert_eq!(
        s3.iter().collect::<Vec<_>>(),
        [ID, REGION, KEY, ("aws_session_token", "t")],
        "by the library's names, without the trailing newline"
    );
    assert!(!format!("{s3:?}").contains("canary"));
    assert!(read(Scheme::Gs, &[("google_service_account_key", SERVICE_ACCOUNT)]).is_ok());
    assert!(read(Scheme::Gs, &[("google_bearer_token", "t")]).is_ok());
    for credentials in [
        &[("azure_storage_account_key", "a2V5")][..],
        &[("azure_storage_sas_token", "sv=1&sig=x")],
        &[("azure_storage_token", "t")],
        &[("azure_client_id", "i"), ("azure_client_secret", "s"), ("azure_tenant_id", "t")],
    ] {
        assert!(read(Scheme::Az, &[&[ACCOUNT], credentials].concat()).is_ok(), "{credentials:?}");
    }
}

#[test]
fn an_unknown_key_is_named() {
    assert_eq!(
        refusal(Scheme::S3, &[ID, KEY, ("aws_acess_key", "canary")]),
        "aws_acess_key is not an option of s3 stores"
    );
    assert_eq!(
        refusal(Scheme::S3, &[ID, KEY, ACCOUNT]),
        "azure_storage_account_name is not an option of s3 stores"
    );
    assert_eq!(refusal(Scheme::Gs, &[ID]), "aws_access_key_id is not an option of gs stores");
    let long = format!("aws_{}", "key_".repeat(60));
    assert!(refusal(Scheme::Az, &[(&long, "canary")]).len() < 100);
}

#[test]
fn a_key_that_resembles_no_option_is_not_shown() {
    for name in ["zz_root_password", "aws_root_password", "payroll.db", "x", "azure-key", "aws__key"] {
        assert_eq!(
            refusal(Scheme::S3, &[(name, "canary")]),
            "one of its entries is not an option of s3 stores"
        );
    }
    for typo in ["aws_acess_key", "aws_regoin", "AWS_SECRET_ACCES_KEY", "acount_key", "endpoint_uri"] {
        assert_eq!(refusal(Scheme::S3, &[(typo, "canary")]), format!("{typo} is not an option of s3 stores"));
    }
    let of_file = Options::of_administrator(Scheme::S3, [("zz_root_password", "canary")], &[]).unwrap_err();
    assert_eq!(
        of_file.to_string(),
        "zz_root_password is not an option of s3 stores",
        "the reader of the error wrote the file"
    );
}

#[test]
fn an_invalid_value_is_reported_with_its_option() {
    for (key, value) in [
        ("aws_checksum_algorithm", "crc32c"),
        ("aws_server_side_encryption", "AES-256"),
        ("aws_server_side_encryption", "sse-c"),
        ("aws_request_payer", "requester"),
        ("aws_virtual_hosted_style_request", "2"),
    ] {
        let malformed = format!("the value of {key} is invalid");
        assert_eq!(refusal(Scheme::S3, &[ID, KEY, (key, value)]), malformed);
        if value != "sse-c" {
            let error = Options::of_administrator(Scheme::S3, [(key, value)], &[]).unwrap_err();
            assert_eq!(error.to_string(), malformed);
        }
    }
}

#[test]
fn an_option_without_effect_is_refused() {
    const SSE: &str = "aws_server_side_encryption";
    const KMS: (&str, &str) = ("aws_sse_kms_key_id", "k");
    const BUCKET_KEY: (&str, &str) = ("aws_sse_bucket_key_enabled", "true");
    const TOKEN: (&str, &str) = ("azure_storage_token", "t");
    const CLIENT: [(&str, &str); 3] =
        [("azure_client_id", "i"), ("azure_client_secret", "s"), ("azure_tenant_id", "t")];
    const HOST: (&str, &str) = ("azure_authority_host", "https://minio.example");
    let client = [&[ACCOUNT][..], &CLIENT].concat();
    let both = [&[ACCOUNT, TOKEN][..], &CLIENT].concat();
    for (scheme, entries, expected) in [
        (Scheme::S3, &[ID, KEY, KMS][..], "aws_sse_kms_key_id has no effect without"),
        (Scheme::S3, &[ID, KEY, (SSE, "AES256"), KMS], "aws_sse_kms_key_id has no effect without"),
        (Scheme::S3, &[ID, KEY, BUCKET_KEY], "aws_sse_bucket_key_enabled has no effect without"),
        (
            Scheme::S3,
            &[ID, KEY, (SSE, "aws:kms:dsse"), BUCKET_KEY],
            "aws_sse_bucket_key_enabled has no effect",
        ),
        (Scheme::S3, &[ID, KEY, REGION, ("aws_default_region", "x")], "aws_region is set twice"),
        (
            Scheme::S3,
            &[
                ID,
                KEY,
                ("aws_endpoint", "https://minio.example"),
                ("aws_endpoint_url_s3", "https://minio.example"),
            ],
            "aws_endpoint_url_s3 is set twice",
        ),
        (
            Scheme::S3,
            &[ID, KEY, ("aws_endpoint", "http://minio.plain.example:9000"), ("allow_http", "false")],
            "allow_http forbids plain http",
        ),
        (
            Scheme::Gs,
            &[("google_service_account_key", SERVICE_ACCOUNT), ("google_bearer_token", "t")],
            "google_service_account_key has no effect together with google_bearer_token",
        ),
        (
            Scheme::Az,
            &[ACCOUNT, TOKEN, ("account_key", "a2V5")],
            "azure_storage_account_key has no effect together with azure_storage_token",
        ),
        (Scheme::Az, &both, "azure_storage_client_id has no effect together with azure_storage_token"),
        (
            Scheme::Az,
            &[ACCOUNT, TOKEN, HOST],
            "azure_storage_authority_host has no effect together with azure_storage_token",
        ),
    ] {
        let message = refusal(scheme, entries);
        assert!(message.starts_with(expected), "{message}");
    }
    for (scheme, entries) in [
        (Scheme::S3, &[ID, KEY, (SSE, "aws:kms"), KMS, BUCKET_KEY][..]),
        (Scheme::S3, &[ID, KEY, (SSE, "aws:kms:dsse"), KMS]),
        (Scheme::S3, &[ID, KEY, (SSE, "AES256")]),
        (Scheme::S3, &[ID, KEY, ("aws_default_region", "eu-west-1")]),
        (Scheme::Az, &[&client[..], &[HOST]].concat()),
    ] {
        assert!(read(scheme, entries).is_ok(), "{entries:?}");
    }
}

#[test]
fn values_that_no_header_can_hold_are_refused() {
    for value in
        ["canary\nx", "canary\r", "canaryä", "canary\0", " canary", "", &"x".repeat(MAX_VALUE_BYTES + 1)]
    {
        let error = refusal(Scheme::S3, &[ID, KEY, ("aws_session_token", value)]);
        assert_eq!(error, "the value of aws_session_token is invalid");
    }
    let binary = [(ID.0, &b"\xff\xfe"[..])];
    assert!(Options::of_secret(Scheme::S3, binary, &endpoints()).is_err());
}

#[test]
fn one_option_under_two_names_is_refused() {
    let twice = refusal(Scheme::S3, &[ID, KEY, ("access_key_id", "canary")]);
    assert_eq!(twice, "aws_access_key_id is set twice, under two names");
}

#[test]
fn a_folder_can_only_be_used_as_a_named_store() {
    for entries in [&[][..], &[ID, KEY]] {
        assert_eq!(refusal(Scheme::File, entries), "a folder can only be used as a named store");
    }
}

#[test]
fn every_credential_is_an_option_of_the_library() {
    for name in known::credentials() {
        let schemes = [Scheme::S3, Scheme::Gs, Scheme::Az];
        let known = schemes.into_iter().find_map(|scheme| canonical(scheme, name));
        assert_eq!(known.as_deref(), Some(name));
    }
}
