//! The known options: what a Secret may contain, what the operator sets itself, and which are credentials. Pure.

use object_store::{aws::AmazonS3ConfigKey, azure::AzureConfigKey, gcp::GoogleConfigKey};

use crate::store::location::Scheme;

/// The kind of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Printable ASCII.
    Text,
    /// `true` or `false`.
    Flag,
    /// The name of a checksum.
    Checksum,
    /// The server-side encryption.
    Encryption,
    /// A region, which becomes part of a host name.
    Region,
    /// An Azure account, which becomes part of a host name.
    Account,
    /// An Azure tenant, which becomes part of a path.
    Tenant,
    /// An endpoint from the administrator's list.
    Endpoint,
    /// Whether plain http is allowed.
    PlainHttp,
    /// The JSON of a Google service account.
    ServiceAccount,
    /// The octal mode of a file that its owner may read and write.
    FileMode,
    /// The octal mode of a folder in which its owner may do everything.
    DirMode,
}

const S3: [(&str, Shape); 13] = [
    ("aws_access_key_id", Shape::Text),
    ("aws_secret_access_key", Shape::Text),
    ("aws_session_token", Shape::Text),
    ("aws_region", Shape::Region),
    ("aws_endpoint", Shape::Endpoint),
    ("aws_virtual_hosted_style_request", Shape::Flag),
    ("aws_unsigned_payload", Shape::Flag),
    ("aws_checksum_algorithm", Shape::Checksum),
    ("aws_request_payer", Shape::Flag),
    ("aws_server_side_encryption", Shape::Encryption),
    ("aws_sse_kms_key_id", Shape::Text),
    ("aws_sse_bucket_key_enabled", Shape::Flag),
    ("allow_http", Shape::PlainHttp),
];

const GS: [(&str, Shape); 4] = [
    ("google_service_account_key", Shape::ServiceAccount),
    ("google_bearer_token", Shape::Text),
    ("google_base_url", Shape::Endpoint),
    ("allow_http", Shape::PlainHttp),
];

const AZ: [(&str, Shape); 10] = [
    ("azure_storage_account_name", Shape::Account),
    ("azure_storage_account_key", Shape::Text),
    ("azure_storage_sas_key", Shape::Text),
    ("azure_storage_token", Shape::Text),
    ("azure_storage_client_id", Shape::Text),
    ("azure_storage_client_secret", Shape::Text),
    ("azure_storage_tenant_id", Shape::Tenant),
    ("azure_storage_authority_host", Shape::Endpoint),
    ("azure_storage_endpoint", Shape::Endpoint),
    ("allow_http", Shape::PlainHttp),
];

/// Named like the mount options of a network share.
const FILE: [(&str, Shape); 2] = [("file_mode", Shape::FileMode), ("dir_mode", Shape::DirMode)];

/// Options that the operator sets itself, most of them from the store's address.
const DECIDED: [&str; 12] = [
    "aws_bucket",
    "aws_conditional_put",
    "aws_copy_if_not_exists",
    "aws_disable_bulk_delete",
    "aws_disable_tagging",
    "aws_s3_express",
    "google_bucket",
    "azure_container_name",
    "azure_disable_tagging",
    "azure_storage_use_emulator",
    "azure_use_fabric_endpoint",
    "azure_use_azure_cli",
];

/// Options that are credentials by themselves.
const PROOFS: [&str; 14] = [
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_session_token",
    "aws_skip_signature",
    "google_service_account",
    "google_service_account_key",
    "google_application_credentials",
    "google_bearer_token",
    "google_skip_signature",
    "azure_storage_account_key",
    "azure_storage_sas_key",
    "azure_storage_token",
    "azure_storage_client_secret",
    "azure_skip_signature",
];

/// Options that say where the cloud issues an identity.
const IDENTITIES: [&str; 13] = [
    "aws_role_arn",
    "aws_web_identity_token_file",
    "aws_container_credentials_relative_uri",
    "aws_container_credentials_full_uri",
    "aws_container_authorization_token_file",
    "azure_federated_token_file",
    "azure_msi_endpoint",
    "azure_object_id",
    "azure_msi_resource_id",
    "azure_fabric_token_service_url",
    "azure_fabric_workload_host",
    "azure_fabric_session_token",
    "azure_fabric_cluster_identifier",
];

/// Options that complete credentials and identities.
const DETAILS: [&str; 4] =
    ["aws_role_session_name", "azure_storage_client_id", "azure_storage_tenant_id", "azure_credential_type"];

/// The library's name of an option; `None` if there is no such option for the scheme. Two of the library's names for the same
/// setting count as one option: the library would use one of them and ignore the other.
pub(crate) fn canonical(scheme: Scheme, written: &str) -> Option<String> {
    let written = written.to_ascii_lowercase();
    match scheme {
        Scheme::S3 => written.parse::<AmazonS3ConfigKey>().ok().map(|key| match key.as_ref() {
            "aws_default_region" => "aws_region".to_owned(),
            "aws_endpoint_url_s3" => "aws_endpoint".to_owned(),
            other => other.to_owned(),
        }),
        Scheme::Gs => written.parse::<GoogleConfigKey>().ok().map(|key| key.as_ref().to_owned()),
        Scheme::Az => written.parse::<AzureConfigKey>().ok().map(|key| key.as_ref().to_owned()),
        Scheme::File => FILE.iter().any(|(known, _)| *known == written).then_some(written),
    }
}

/// The options that a Secret may contain, and their kinds; for folders, which no Secret can name, those of a stores file.
pub(crate) const fn in_secrets(scheme: Scheme) -> &'static [(&'static str, Shape)] {
    match scheme {
        Scheme::S3 => &S3,
        Scheme::Gs => &GS,
        Scheme::Az => &AZ,
        Scheme::File => &FILE,
    }
}

/// The kind of an option in a Secret, if it is allowed there.
pub(crate) fn of_secret(scheme: Scheme, name: &str) -> Option<(&'static str, Shape)> {
    in_secrets(scheme).iter().find(|(known, _)| *known == name).copied()
}

/// Whether a variable concerns every service: one for S3 takes precedence where the environment has both.
pub(crate) fn is_general(variable: &str) -> bool {
    ["AWS_DEFAULT_REGION", "AWS_ENDPOINT", "AWS_ENDPOINT_URL"].contains(&variable)
}

/// Whether a name resembles an option of some store, as a misspelt one does: each of its parts occurs in an option, or is one
/// letter away from one that does.
pub(crate) fn resembles_an_option(written: &str) -> bool {
    let written = written.to_ascii_lowercase();
    let options =
        [Scheme::S3, Scheme::Gs, Scheme::Az].into_iter().flat_map(in_secrets).map(|(name, _)| *name);
    let known: Vec<&str> =
        options.chain(DECIDED).chain(credentials()).flat_map(|name| name.split('_')).collect();
    written.split('_').all(|part| known.iter().any(|known| is_near(part, known)))
}

/// Whether two strings differ by at most one letter that is missing, added, replaced, or swapped with the next.
fn is_near(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let same = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    let (one, other) = (&one[same..], &other[same..]);
    match (one, other) {
        ([] | [_], []) | ([], [_]) => true,
        ([], [_, ..]) | ([_, ..], []) => false,
        ([a, after_a @ ..], [b, after_b @ ..]) => {
            let is_swapped = after_a.first() == Some(b)
                && after_b.first() == Some(a)
                && after_a.get(1..) == after_b.get(1..);
            is_swapped || after_a == after_b || after_a == other || one == after_b
        }
    }
}

/// Whether the operator sets an option itself. Names without a cloud's prefix configure the HTTP client, which is its own.
pub(crate) fn is_decided(name: &str) -> bool {
    let has_prefix = ["aws_", "google_", "azure_"].iter().any(|prefix| name.starts_with(prefix));
    let is_ours = name == "allow_http" || FILE.iter().any(|(known, _)| *known == name);
    DECIDED.contains(&name) || !(has_prefix || is_ours)
}

/// Whether this option may be taken from the environment together with those that are `given`. Credentials come from one source
/// only: parts of two are incomplete, or send one identity's token to another's host. The library also prefers some over
/// others, wherever they come from.
pub(crate) fn goes_with(name: &str, given: impl Fn(&str) -> bool) -> bool {
    let has = |names: &[&str]| names.iter().any(|name| given(name));
    if has(&PROOFS) {
        return !PROOFS.contains(&name) && !IDENTITIES.contains(&name) && !DETAILS.contains(&name);
    }
    if has(&["azure_storage_client_id"]) && name == "azure_storage_client_secret" {
        return true;
    }
    !(has(&IDENTITIES) || has(&["azure_storage_client_id"])) || !PROOFS.contains(&name)
}

/// All options that are credentials, or say where they are.
pub(crate) fn credentials() -> impl Iterator<Item = &'static str> {
    PROOFS.into_iter().chain(IDENTITIES).chain(DETAILS)
}
