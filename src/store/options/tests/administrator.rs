//! What an administrator's file and the operator's environment may say, and which of the two counts.

use super::*;

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
fn an_option_without_effect_is_refused_in_a_file_and_ignored_in_the_environment() {
    let with = |given: &[(&str, &str)], variables: &[(&str, &str)]| with(Scheme::S3, given, variables);
    for (given, expected) in [
        (&[("aws_role_arn", "r")][..], "aws_role_arn has no effect without aws_web_identity_token_file"),
        (&[ID], "aws_access_key_id has no effect without aws_secret_access_key"),
        (
            &[ID, KEY, ("aws_imdsv1_fallback", "true")],
            "aws_imdsv1_fallback has no effect together with aws_access_key_id",
        ),
        (
            &[ID, KEY, ("skip_signature", "true")],
            "aws_access_key_id has no effect together with aws_skip_signature",
        ),
        (&[("aws_server_side_encryption", "sse-c")], "aws_sse_customer_key_base64 is missing"),
        (&[("allow_http", "true")], "allow_http has no effect without an address that begins with http://"),
        (&[("aws_endpoint", "http://minio"), ("allow_http", "no")], "allow_http forbids plain http"),
    ] {
        let message = with(given, &[]).unwrap_err().to_string();
        assert!(message.starts_with(expected), "{message}");
    }
    assert!(with(&[ID, KEY], &[("AWS_IMDSV1_FALLBACK", "true"), ("AWS_ALLOW_HTTP", "true")]).is_ok());
    let key_alone = with(&[], &[("AWS_SSE_KMS_KEY_ID", "k")]).unwrap_err().to_string();
    assert!(
        key_alone.starts_with("aws_sse_kms_key_id has no effect"),
        "its author expects it to apply: {key_alone}"
    );
}

#[test]
fn the_file_takes_precedence_over_the_environment_whatever_the_variable() {
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
    assert_eq!(read(&[]), ["eu-west-1", "http://s3.example"], "the more specific variable");
    let given = [("aws_default_region", "eu-north-1"), ("aws_endpoint", "https://MINIO.example:443/")];
    assert_eq!(read(&given), ["eu-north-1", "https://minio.example"]);
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

#[test]
fn credentials_of_the_file_and_the_environment_are_never_mixed() {
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
        // Its own role, with the pod's token.
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
    assert_eq!(
        client.len(),
        AZURE.len() - 1,
        "no key of the account, which would take precedence over the client"
    );
}

#[test]
fn a_variable_without_a_value_does_not_count() {
    let variables = [("AWS_SESSION_TOKEN", ""), ("AWS_REGION", " "), ("AWS_ENDPOINT_URL", "")];
    assert_eq!(with(Scheme::S3, &[ID, KEY], &variables).unwrap(), [ID.0, KEY.0]);
    assert_eq!(with(Scheme::S3, &[], &variables).unwrap(), Vec::<String>::new());
    let error = with(Scheme::S3, &[("aws_region", "")], &[]).unwrap_err();
    assert_eq!(error.to_string(), "the value of aws_region is invalid", "the file is to be corrected");
}

#[test]
fn a_folder_takes_only_modes_that_give_the_operator_access() {
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
        let error = folder(&[(key, value)]).unwrap_err();
        assert_eq!(error, InvalidOptions::Malformed { key: key.to_owned() }, "{value}");
    }
    let unknown = InvalidOptions::Unknown { key: "aws_region".to_owned(), scheme: Scheme::File };
    assert_eq!(folder(&[("aws_region", "eu-central-1")]).unwrap_err(), unknown);
    let secret = Options::of_secret(Scheme::File, [("file_mode", &b"0640"[..])], &endpoints());
    assert_eq!(secret.unwrap_err(), InvalidOptions::Folder);
}
