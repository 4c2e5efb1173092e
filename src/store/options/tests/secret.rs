//! What a Secret may contain: nothing that gives it the operator's identity or sends objects to servers that are not allowed.

use super::*;

#[test]
fn a_secret_contains_nothing_that_leads_to_the_operators_identity() {
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
        assert_eq!(refusal(scheme, entries), format!("{missing} is missing"), "{entries:?}");
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
                refusal(Scheme::S3, &[ID, KEY, (key, other)]),
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
            refusal(scheme, &[(key, "https://evil.example")])
                .ends_with("not on the list of allowed endpoints")
        );
    }
}

#[test]
fn plain_http_is_used_for_an_allowed_endpoint_only() {
    let plain = ("aws_endpoint", "http://minio.plain.example:9000");
    let asked = ("aws_allow_http", "true");
    assert!(read(Scheme::S3, &[ID, KEY, plain]).unwrap().allow_plain_http);
    assert!(read(Scheme::S3, &[ID, KEY, plain, asked]).unwrap().allow_plain_http);
    assert!(!read(Scheme::S3, &[ID, KEY, ("allow_http", "false")]).unwrap().allow_plain_http);
    assert!(refusal(Scheme::S3, &[ID, KEY, asked]).starts_with("aws_allow_http allows plain http"));
    let tls = ("aws_endpoint", "https://minio.example");
    assert!(refusal(Scheme::S3, &[ID, KEY, tls, asked]).starts_with("aws_allow_http allows plain http"));
}

#[test]
fn values_that_become_part_of_a_host_cannot_form_another_one() {
    for region in ["evil.example/", "x#", "a.b", "x@evil", "", " eu-1", &"a".repeat(33)] {
        assert_eq!(
            refusal(Scheme::S3, &[ID, KEY, ("aws_region", region)]),
            "the value of aws_region is invalid"
        );
    }
    for account in ["evil.example/", "a.b", "a@b", "a/b", "a#"] {
        let error = refusal(Scheme::Az, &[("azure_storage_account_name", account)]);
        assert_eq!(error, "the value of azure_storage_account_name is invalid");
    }
    let tenant = ("azure_tenant_id", "../../evil");
    assert_eq!(refusal(Scheme::Az, &[tenant]), "the value of azure_tenant_id is invalid");
}

#[test]
fn a_service_account_cannot_name_another_address_or_skip_authentication() {
    for extra in [r#","gcs_base_url":"http://169.254.169.254"}"#, r#","disable_oauth":true}"#] {
        let key = SERVICE_ACCOUNT.replace('}', extra);
        let error = refusal(Scheme::Gs, &[("google_service_account_key", &key)]);
        assert_eq!(error, "the value of google_service_account_key is invalid");
    }
    let with_token_uri = SERVICE_ACCOUNT.replace('}', r#","token_uri":"https://evil.example"}"#);
    let options = read(Scheme::Gs, &[("google_service_account_key", &with_token_uri)]).unwrap();
    assert!(options.iter().all(|(_, value)| !value.contains("evil")));
}
