use super::{value::MAX_VALUE_BYTES, *};
use crate::store::location::Location;

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

fn flaw(scheme: Scheme, entries: &[(&str, &str)]) -> String {
    let flaw = read(scheme, entries).unwrap_err();
    assert!(!format!("{flaw} {flaw:?}").contains("canary"), "{flaw:?}");
    flaw.to_string()
}

#[test]
fn credentials_of_each_cloud_are_taken() {
    let s3 = read(Scheme::S3, &[ID, KEY, REGION, ("AWS_SESSION_TOKEN", "t\n")]).unwrap();
    assert_eq!(
        s3.iter().collect::<Vec<_>>(),
        [ID, REGION, KEY, ("aws_session_token", "t")],
        "by the library's names, without the new line at the end"
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
        flaw(Scheme::S3, &[ID, KEY, ("aws_acess_key", "canary")]),
        "aws_acess_key is no option of s3 stores"
    );
    assert_eq!(flaw(Scheme::S3, &[ID, KEY, ACCOUNT]), "azure_storage_account_name is no option of s3 stores");
    assert_eq!(flaw(Scheme::Gs, &[ID]), "aws_access_key_id is no option of gs stores");
    let long = format!("aws_{}", "key_".repeat(60));
    assert!(flaw(Scheme::Az, &[(&long, "canary")]).len() < 100);
}

#[test]
fn a_name_that_is_like_no_option_is_not_repeated() {
    for name in ["zz_root_password", "aws_root_password", "payroll.db", "x", "azure-key", "aws__key"] {
        assert_eq!(flaw(Scheme::S3, &[(name, "canary")]), "one of its entries is no option of s3 stores");
    }
    for typo in ["aws_acess_key", "aws_regoin", "AWS_SECRET_ACCES_KEY", "acount_key", "endpoint_uri"] {
        assert_eq!(flaw(Scheme::S3, &[(typo, "canary")]), format!("{typo} is no option of s3 stores"));
    }
    let of_file = Options::of_administrator(Scheme::S3, [("zz_root_password", "canary")], &[]).unwrap_err();
    assert_eq!(
        of_file.to_string(),
        "zz_root_password is no option of s3 stores",
        "the file is the reader's own"
    );
}

#[test]
fn a_value_that_an_option_cannot_have_is_blamed_on_that_option() {
    for (key, value) in [
        ("aws_checksum_algorithm", "crc32c"),
        ("aws_server_side_encryption", "AES-256"),
        ("aws_server_side_encryption", "sse-c"),
        ("aws_request_payer", "requester"),
        ("aws_virtual_hosted_style_request", "2"),
    ] {
        let malformed = format!("the value of {key} cannot be used");
        assert_eq!(flaw(Scheme::S3, &[ID, KEY, (key, value)]), malformed);
        if value != "sse-c" {
            let flaw = Options::of_administrator(Scheme::S3, [(key, value)], &[]).unwrap_err();
            assert_eq!(flaw.to_string(), malformed);
        }
    }
}

#[test]
fn what_does_nothing_beside_the_others_is_refused() {
    const SSE: &str = "aws_server_side_encryption";
    const KMS: (&str, &str) = ("aws_sse_kms_key_id", "k");
    const BUCKET_KEY: (&str, &str) = ("aws_sse_bucket_key_enabled", "true");
    const TOKEN: (&str, &str) = ("azure_storage_token", "t");
    const CLIENT: [(&str, &str); 3] =
        [("azure_client_id", "i"), ("azure_client_secret", "s"), ("azure_tenant_id", "t")];
    const HOST: (&str, &str) = ("azure_authority_host", "https://minio.example");
    let client = [&[ACCOUNT][..], &CLIENT].concat();
    let both = [&[ACCOUNT, TOKEN][..], &CLIENT].concat();
    for (scheme, entries, said) in [
        (Scheme::S3, &[ID, KEY, KMS][..], "aws_sse_kms_key_id has no effect without"),
        (Scheme::S3, &[ID, KEY, (SSE, "AES256"), KMS], "aws_sse_kms_key_id has no effect without"),
        (Scheme::S3, &[ID, KEY, BUCKET_KEY], "aws_sse_bucket_key_enabled has no effect without"),
        (
            Scheme::S3,
            &[ID, KEY, (SSE, "aws:kms:dsse"), BUCKET_KEY],
            "aws_sse_bucket_key_enabled has no effect",
        ),
        (Scheme::S3, &[ID, KEY, REGION, ("aws_default_region", "x")], "aws_region is there twice"),
        (
            Scheme::S3,
            &[
                ID,
                KEY,
                ("aws_endpoint", "https://minio.example"),
                ("aws_endpoint_url_s3", "https://minio.example"),
            ],
            "aws_endpoint_url_s3 is there twice",
        ),
        (
            Scheme::S3,
            &[ID, KEY, ("aws_endpoint", "http://minio.plain.example:9000"), ("allow_http", "false")],
            "allow_http says no to plain http",
        ),
        (
            Scheme::Gs,
            &[("google_service_account_key", SERVICE_ACCOUNT), ("google_bearer_token", "t")],
            "google_service_account_key has no effect beside google_bearer_token",
        ),
        (
            Scheme::Az,
            &[ACCOUNT, TOKEN, ("account_key", "a2V5")],
            "azure_storage_account_key has no effect beside azure_storage_token",
        ),
        (Scheme::Az, &both, "azure_storage_client_id has no effect beside azure_storage_token"),
        (
            Scheme::Az,
            &[ACCOUNT, TOKEN, HOST],
            "azure_storage_authority_host has no effect beside azure_storage_token",
        ),
    ] {
        let said_now = flaw(scheme, entries);
        assert!(said_now.starts_with(said), "{said_now}");
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
fn what_does_nothing_in_an_administrators_file_is_refused_and_in_the_environment_passed_over() {
    let with = |given: &[(&str, &str)], variables: &[(&str, &str)]| with(Scheme::S3, given, variables);
    for (given, said) in [
        (&[("aws_role_arn", "r")][..], "aws_role_arn has no effect without aws_web_identity_token_file"),
        (&[ID], "aws_access_key_id has no effect without aws_secret_access_key"),
        (
            &[ID, KEY, ("aws_imdsv1_fallback", "true")],
            "aws_imdsv1_fallback has no effect beside aws_access_key_id",
        ),
        (&[ID, KEY, ("skip_signature", "true")], "aws_access_key_id has no effect beside aws_skip_signature"),
        (&[("aws_server_side_encryption", "sse-c")], "aws_sse_customer_key_base64 is missing"),
        (&[("allow_http", "true")], "allow_http has no effect without an address that begins with http://"),
        (&[("aws_endpoint", "http://minio"), ("allow_http", "no")], "allow_http says no to plain http"),
    ] {
        let said_now = with(given, &[]).unwrap_err().to_string();
        assert!(said_now.starts_with(said), "{said_now}");
    }
    assert!(with(&[ID, KEY], &[("AWS_IMDSV1_FALLBACK", "true"), ("AWS_ALLOW_HTTP", "true")]).is_ok());
    let key_alone = with(&[], &[("AWS_SSE_KMS_KEY_ID", "k")]).unwrap_err().to_string();
    assert!(
        key_alone.starts_with("aws_sse_kms_key_id has no effect"),
        "who wrote it there expects it: {key_alone}"
    );
}

#[test]
fn the_file_goes_before_the_environment_whatever_the_name_of_the_variable() {
    let variables = [
        ("AWS_DEFAULT_REGION", "eu-west-3"),
        ("AWS_ENDPOINT_URL", "http://every.example"),
        ("AWS_ENDPOINT_URL_S3", "http://s3.example"),
        ("AWS_REGION", "eu-west-1"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let read = |given: &[(&str, &str)]| {
        let options = Options::of_administrator(Scheme::S3, given.iter().copied(), &variables).unwrap();
        ["aws_region", "aws_endpoint"].map(|name| options.get(name).unwrap().to_owned())
    };
    assert_eq!(read(&[]), ["eu-west-1", "http://s3.example"], "the more special variable");
    let given = [("aws_default_region", "eu-north-1"), ("aws_endpoint", "https://MINIO.example:443/")];
    assert_eq!(read(&given), ["eu-north-1", "https://minio.example"]);
}

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
        let flaw = options.endpoint(&location).unwrap_err();
        assert!(matches!(flaw, InvalidOptions::Elsewhere { .. }), "{flaw:?}");
        flaw.to_string()
    };
    let s3 = |endpoint| refused("s3://evidence", &[("aws_endpoint", endpoint)]);
    let style = |endpoint| refused("s3://evidence", &[("aws_endpoint", endpoint), VIRTUAL]);
    for endpoint in ["http://127.0.0.1:19000", "https://minio.example", "https://other.minio.example"] {
        assert!(style(endpoint).starts_with("aws_endpoint: in virtual-hosted style its host begins"));
    }
    assert!(style("https://evidence.minio.example/kyc").starts_with("aws_endpoint: its path"));
    assert!(s3("https://minio.example/other").starts_with("aws_endpoint: its path"));
    assert!(s3("https://evidence.minio.example").starts_with("aws_endpoint: its host begins"));
    assert!(s3("https://other.s3.eu-central-1.amazonaws.com").starts_with("aws_endpoint: write the host"));
    assert!(refused("s3://evidence.eu", &[VIRTUAL]).contains("a bucket with a dot"));
    let google = |endpoint| refused("gs://evidence", &[("google_base_url", endpoint)]);
    assert!(google("https://evidence.storage.googleapis.com").starts_with("google_base_url: write the host"));
    assert!(google("http://127.0.0.1:4443/evidence").starts_with("google_base_url: its path"));
    let azure = [ACCOUNT, ("azure_endpoint", "https://evidence.blob.core.windows.net/kyc")];
    assert!(refused("az://kyc", &azure).starts_with("azure_storage_endpoint: its path"));
}

#[test]
fn nothing_that_leads_to_the_operators_identity_may_come_from_a_secret() {
    let mut refused = 0;
    for (scheme, keys) in [
        (
            Scheme::S3,
            &[
                "aws_metadata_endpoint",
                "aws_imdsv1_fallback",
                "aws_container_credentials_relative_uri",
                "aws_container_credentials_full_uri",
                "aws_container_authorization_token_file",
                "aws_web_identity_token_file",
                "aws_role_arn",
                "aws_role_session_name",
                "aws_endpoint_url_sts",
                "aws_skip_signature",
                "skip_signature",
            ][..],
        ),
        (
            Scheme::Gs,
            &[
                "google_service_account",
                "service_account_path",
                "google_application_credentials",
                "google_skip_signature",
            ],
        ),
        (
            Scheme::Az,
            &[
                "azure_msi_endpoint",
                "identity_endpoint",
                "azure_object_id",
                "azure_msi_resource_id",
                "azure_federated_token_file",
                "azure_skip_signature",
                "azure_fabric_token_service_url",
                "azure_fabric_workload_host",
                "azure_credential_type",
            ],
        ),
    ] {
        for key in keys {
            let reserved = InvalidOptions::Reserved { key: (*key).to_owned() };
            assert_eq!(read(scheme, &[(key, "canary")]).unwrap_err(), reserved);
            refused += 1;
        }
    }
    assert_eq!(refused, 24);
    for (scheme, key) in [
        (Scheme::S3, "aws_bucket"),
        (Scheme::S3, "aws_conditional_put"),
        (Scheme::S3, "proxy_url"),
        (Scheme::S3, "aws_allow_invalid_certificates"),
        (Scheme::Gs, "google_bucket"),
        (Scheme::Az, "azure_container_name"),
        (Scheme::Az, "azure_storage_use_emulator"),
        (Scheme::Az, "azure_use_azure_cli"),
    ] {
        let decided = InvalidOptions::Decided { key: key.to_owned() };
        assert_eq!(read(scheme, &[(key, "canary")]).unwrap_err(), decided);
    }
}

#[test]
fn incomplete_credentials_never_fall_back_on_the_operators_own() {
    for (scheme, entries, missing) in [
        (Scheme::S3, &[][..], "aws_access_key_id"),
        (Scheme::S3, &[ID], "aws_secret_access_key"),
        (Scheme::S3, &[KEY], "aws_access_key_id"),
        (Scheme::S3, &[REGION], "aws_access_key_id"),
        (Scheme::Gs, &[], "google_service_account_key"),
        (Scheme::Az, &[], "azure_storage_account_name"),
        (Scheme::Az, &[("account_key", "a2V5")], "azure_storage_account_name"),
        (Scheme::Az, &[ACCOUNT], "azure_storage_account_key"),
        (Scheme::Az, &[ACCOUNT, ("client_id", "i"), ("tenant_id", "t")], "azure_storage_client_secret"),
        (Scheme::Az, &[ACCOUNT, ("account_key", "a2V5"), ("client_id", "i")], "azure_storage_client_secret"),
    ] {
        assert_eq!(flaw(scheme, entries), format!("{missing} is missing"), "{entries:?}");
    }
}

#[test]
fn an_endpoint_must_be_on_the_administrators_list() {
    for key in ["aws_endpoint", "aws_endpoint_url", "AWS_ENDPOINT_URL_S3", "endpoint"] {
        let allowed = read(Scheme::S3, &[ID, KEY, (key, "https://minio.example/")]).unwrap();
        assert!(!allowed.allow_plain_http);
        for other in
            ["https://evil.example", "http://minio.example", "http://169.254.169.254", "minio.example"]
        {
            assert_eq!(
                flaw(Scheme::S3, &[ID, KEY, (key, other)]),
                format!("{key} is not on the list of allowed endpoints")
            );
        }
    }
    for (scheme, key) in [
        (Scheme::Gs, "google_base_url"),
        (Scheme::Az, "azure_endpoint"),
        (Scheme::Az, "azure_authority_host"),
    ] {
        assert!(
            flaw(scheme, &[(key, "https://evil.example")]).ends_with("not on the list of allowed endpoints")
        );
    }
}

#[test]
fn plain_http_is_spoken_to_an_allowed_endpoint_only() {
    let plain = ("aws_endpoint", "http://minio.plain.example:9000");
    let asked = ("aws_allow_http", "true");
    assert!(read(Scheme::S3, &[ID, KEY, plain]).unwrap().allow_plain_http);
    assert!(read(Scheme::S3, &[ID, KEY, plain, asked]).unwrap().allow_plain_http);
    assert!(!read(Scheme::S3, &[ID, KEY, ("allow_http", "false")]).unwrap().allow_plain_http);
    assert!(flaw(Scheme::S3, &[ID, KEY, asked]).starts_with("aws_allow_http asks for plain http"));
    let tls = ("aws_endpoint", "https://minio.example");
    assert!(flaw(Scheme::S3, &[ID, KEY, tls, asked]).starts_with("aws_allow_http asks for plain http"));
}

#[test]
fn what_becomes_part_of_a_host_cannot_make_another_one() {
    for region in ["evil.example/", "x#", "a.b", "x@evil", "", " eu-1", &"a".repeat(33)] {
        assert_eq!(
            flaw(Scheme::S3, &[ID, KEY, ("aws_region", region)]),
            "the value of aws_region cannot be used"
        );
    }
    for account in ["evil.example/", "a.b", "a@b", "a/b", "a#"] {
        let flaw = flaw(Scheme::Az, &[("azure_storage_account_name", account)]);
        assert_eq!(flaw, "the value of azure_storage_account_name cannot be used");
    }
    let tenant = ("azure_tenant_id", "../../evil");
    assert_eq!(flaw(Scheme::Az, &[tenant]), "the value of azure_tenant_id cannot be used");
}

#[test]
fn a_service_account_cannot_name_another_address_or_skip_authentication() {
    for extra in [r#","gcs_base_url":"http://169.254.169.254"}"#, r#","disable_oauth":true}"#] {
        let key = SERVICE_ACCOUNT.replace('}', extra);
        let flaw = flaw(Scheme::Gs, &[("google_service_account_key", &key)]);
        assert_eq!(flaw, "the value of google_service_account_key cannot be used");
    }
    let with_token_uri = SERVICE_ACCOUNT.replace('}', r#","token_uri":"https://evil.example"}"#);
    let options = read(Scheme::Gs, &[("google_service_account_key", &with_token_uri)]).unwrap();
    assert!(options.iter().all(|(_, value)| !value.contains("evil")));
}

#[test]
fn values_that_no_header_can_hold_are_refused() {
    for value in
        ["canary\nx", "canary\r", "canaryä", "canary\0", " canary", "", &"x".repeat(MAX_VALUE_BYTES + 1)]
    {
        let flaw = flaw(Scheme::S3, &[ID, KEY, ("aws_session_token", value)]);
        assert_eq!(flaw, "the value of aws_session_token cannot be used");
    }
    let binary = [(ID.0, &b"\xff\xfe"[..])];
    assert!(Options::of_secret(Scheme::S3, binary, &endpoints()).is_err());
}

#[test]
fn one_option_under_two_names_is_refused() {
    let twice = flaw(Scheme::S3, &[ID, KEY, ("access_key_id", "canary")]);
    assert_eq!(twice, "aws_access_key_id is there twice, under two names");
}

#[test]
fn a_folder_can_only_be_a_named_store() {
    for entries in [&[][..], &[ID, KEY]] {
        assert_eq!(flaw(Scheme::File, entries), "a folder can only be a named store");
    }
}

#[test]
fn the_administrator_may_use_the_operators_identity() {
    let variables = [
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/evidence"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/secrets/token"),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_BUCKET", "other"),
        ("AWS_NOT_AN_OPTION", "x"),
        ("PROXY_URL", "http://proxy.example"),
        ("AZURE_CLIENT_ID", "x"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let options = Options::of_administrator(Scheme::S3, [REGION], &variables).unwrap();
    assert_eq!(
        options.iter().collect::<Vec<_>>(),
        [
            REGION,
            ("aws_role_arn", "arn:aws:iam::1:role/evidence"),
            ("aws_web_identity_token_file", "/var/run/secrets/token")
        ]
    );
    let plain = Options::of_administrator(Scheme::S3, [("aws_endpoint", "http://minio:9000")], &[]).unwrap();
    assert!(plain.allow_plain_http);
    assert!(Options::of_administrator(Scheme::S3, [("aws_bucket", "x")], &[]).is_err());
    assert!(Options::of_administrator(Scheme::S3, [("timeout", "1s")], &[]).is_err());
    assert!(Options::of_administrator(Scheme::File, [("anything", "x")], &[]).is_err());
}

fn with(
    scheme: Scheme,
    given: &[(&str, &str)],
    variables: &[(&str, &str)],
) -> Result<Vec<String>, InvalidOptions> {
    let variables: Vec<_> = variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let options = Options::of_administrator(scheme, given.iter().copied(), &variables)?;
    Ok(options.iter().map(|(name, _)| name.to_owned()).collect())
}

#[test]
fn credentials_are_never_mixed_of_the_file_and_the_environment() {
    const AWS: &[(&str, &str)] = &[
        ("AWS_ACCESS_KEY_ID", "x"),
        ("AWS_SECRET_ACCESS_KEY", "x"),
        ("AWS_SESSION_TOKEN", "x"),
        ("AWS_ROLE_ARN", "x"),
        ("AWS_ROLE_SESSION_NAME", "x"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "x"),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "x"),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "x"),
        ("AWS_REGION", "eu-west-1"),
    ];
    const AZURE: &[(&str, &str)] = &[
        ("AZURE_CLIENT_ID", "x"),
        ("AZURE_TENANT_ID", "x"),
        ("AZURE_FEDERATED_TOKEN_FILE", "x"),
        ("AZURE_CLIENT_SECRET", "x"),
        ("AZURE_STORAGE_ACCOUNT_KEY", "x"),
        ("AZURE_AUTHORITY_HOST", "https://login.example"),
    ];
    const GOOGLE: &[(&str, &str)] =
        &[("GOOGLE_APPLICATION_CREDENTIALS", "x"), ("GOOGLE_SERVICE_ACCOUNT", "x")];
    let application = [("azure_client_id", "i"), ("azure_client_secret", "s"), ("azure_tenant_id", "t")];
    for (scheme, given, variables, taken) in [
        (Scheme::S3, &[ID, KEY][..], AWS, &["aws_region"][..]),
        (Scheme::S3, &[("aws_skip_signature", "true")], AWS, &["aws_region"]),
        // Its own role, with the token that the pod was given.
        (
            Scheme::S3,
            &[("aws_role_arn", "r")],
            AWS,
            &[
                "aws_container_authorization_token_file",
                "aws_container_credentials_full_uri",
                "aws_region",
                "aws_role_session_name",
                "aws_web_identity_token_file",
            ],
        ),
        (Scheme::Az, &[ACCOUNT, ("azure_storage_sas_token", "s")], AZURE, &["azure_storage_authority_host"]),
        (Scheme::Az, &[&[ACCOUNT][..], &application].concat(), AZURE, &["azure_storage_authority_host"]),
        (Scheme::Gs, &[("google_bearer_token", "t")], GOOGLE, &[]),
    ] {
        let mut expected: Vec<_> = taken.iter().map(|name| (*name).to_owned()).collect();
        expected.extend(given.iter().filter_map(|(name, _)| canonical(scheme, name)));
        expected.sort();
        assert_eq!(with(scheme, given, variables).unwrap(), expected, "{given:?}");
    }
    assert_eq!(with(Scheme::S3, &[REGION], AWS).unwrap().len(), AWS.len());
    let client = with(Scheme::Az, &[("azure_client_id", "i")], AZURE).unwrap();
    assert_eq!(client.len(), AZURE.len() - 1, "no key of the account, which would go before the client");
}

#[test]
fn a_variable_without_a_value_is_none() {
    let variables = [("AWS_SESSION_TOKEN", ""), ("AWS_REGION", " "), ("AWS_ENDPOINT_URL", "")];
    assert_eq!(with(Scheme::S3, &[ID, KEY], &variables).unwrap(), [ID.0, KEY.0]);
    assert_eq!(with(Scheme::S3, &[], &variables).unwrap(), Vec::<String>::new());
    let flaw = with(Scheme::S3, &[("aws_region", "")], &[]).unwrap_err();
    assert_eq!(flaw.to_string(), "the value of aws_region cannot be used", "the file is to be corrected");
}

#[test]
fn every_option_that_is_a_credential_is_one_of_the_library() {
    for name in known::credentials() {
        let schemes = [Scheme::S3, Scheme::Gs, Scheme::Az];
        let known = schemes.into_iter().find_map(|scheme| canonical(scheme, name));
        assert_eq!(known.as_deref(), Some(name));
    }
}

#[test]
fn a_folder_is_told_modes_that_let_the_operator_itself_in_and_nothing_else() {
    let folder =
        |entries: &[(&str, &str)]| Options::of_administrator(Scheme::File, entries.iter().copied(), &[]);
    let options = folder(&[("file_mode", "0640"), ("DIR_MODE", "750")]).unwrap();
    assert_eq!((options.mode("file_mode"), options.mode("dir_mode")), (Some(0o640), Some(0o750)));
    assert_eq!(folder(&[]).unwrap().mode("file_mode"), None);
    for (key, value) in [
        ("file_mode", "0440"),
        ("file_mode", "888"),
        ("file_mode", "4640"),
        ("file_mode", "rw-r-----"),
        ("file_mode", "00640"),
        ("file_mode", "60"),
        ("file_mode", "+640"),
        ("dir_mode", "0600"),
        ("dir_mode", "1777"),
    ] {
        let flaw = folder(&[(key, value)]).unwrap_err();
        assert_eq!(flaw, InvalidOptions::Malformed { key: key.to_owned() }, "{value}");
    }
    let unknown = InvalidOptions::Unknown { key: "aws_region".to_owned(), scheme: Scheme::File };
    assert_eq!(folder(&[("aws_region", "eu-central-1")]).unwrap_err(), unknown);
    let secret = Options::of_secret(Scheme::File, [("file_mode", &b"0640"[..])], &endpoints());
    assert_eq!(secret.unwrap_err(), InvalidOptions::Folder);
}
