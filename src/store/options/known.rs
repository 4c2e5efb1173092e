//! The options there are: what each must be in a Secret, which ones the operator decides, and which are credentials. Pure.

use object_store::{aws::AmazonS3ConfigKey, azure::AzureConfigKey, gcp::GoogleConfigKey};

use crate::store::location::Scheme;

/// What a value must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Printable ASCII.
    Text,
    /// `true` or `false`.
    Flag,
    /// The name of a checksum.
    Checksum,
    /// How the store encrypts, with keys of its own or of a key management service.
    Encryption,
    /// A region's name: it becomes part of a host's name.
    Region,
    /// An Azure account: it becomes part of a host's name.
    Account,
    /// An Azure tenant: it becomes part of a path.
    Tenant,
    /// An address from the administrator's list.
    Endpoint,
    /// Whether plain http is allowed.
    PlainHttp,
    /// The JSON of a Google service account.
    ServiceAccount,
    /// The mode of a file, in octal: its owner may read and write it.
    FileMode,
    /// The mode of a folder, in octal: its owner may do everything with it.
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

/// Named as the mount options of a network share are.
const FILE: [(&str, Shape); 2] = [("file_mode", Shape::FileMode), ("dir_mode", Shape::DirMode)];

/// Options that say where and how the operator stores, which the address of the store and the operator decide.
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

/// Options that prove by themselves who asks.
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

/// Options that say where the cloud gives out an identity.
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

/// Options that belong to proofs and to identities.
const DETAILS: [&str; 4] =
    ["aws_role_session_name", "azure_storage_client_id", "azure_storage_tenant_id", "azure_credential_type"];

/// The library's own name of an option; none if it knows no such option for the scheme. Two names of the library's that
/// say the same thing are one option here: it would take one of them and pass over the other.
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

/// The options that a Secret may hold, and what each must be there; of folders, which no Secret names, those of a file.
pub(crate) const fn in_secrets(scheme: Scheme) -> &'static [(&'static str, Shape)] {
    match scheme {
        Scheme::S3 => &S3,
        Scheme::Gs => &GS,
        Scheme::Az => &AZ,
        Scheme::File => &FILE,
    }
}

/// One of them.
pub(crate) fn of_secret(scheme: Scheme, name: &str) -> Option<(&'static str, Shape)> {
    in_secrets(scheme).iter().find(|(known, _)| *known == name).copied()
}

/// Whether a variable is about every service: one about S3 goes before it where the environment has both.
pub(crate) fn is_general(variable: &str) -> bool {
    ["AWS_DEFAULT_REGION", "AWS_ENDPOINT", "AWS_ENDPOINT_URL"].contains(&variable)
}

/// Whether a name reads like an option of some store, as a misspelt one does: each of its words is one of theirs, or one
/// letter away from it.
pub(crate) fn looks_like_an_option(written: &str) -> bool {
    let written = written.to_ascii_lowercase();
    let options =
        [Scheme::S3, Scheme::Gs, Scheme::Az].into_iter().flat_map(in_secrets).map(|(name, _)| *name);
    let known: Vec<&str> =
        options.chain(DECIDED).chain(credentials()).flat_map(|name| name.split('_')).collect();
    written.split('_').all(|word| known.iter().any(|known| is_near(word, known)))
}

/// Whether two words are the same but for one letter that is missing, too many, another one, or swapped with the next.
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

/// Names without a cloud's prefix are about the HTTP client, which is ours.
pub(crate) fn is_decided(name: &str) -> bool {
    let has_prefix = ["aws_", "google_", "azure_"].iter().any(|prefix| name.starts_with(prefix));
    let is_ours = name == "allow_http" || FILE.iter().any(|(known, _)| *known == name);
    DECIDED.contains(&name) || !(has_prefix || is_ours)
}

/// Whether this option may be taken from the environment beside those that are `given`. What proves an identity is
/// taken whole from one place: parts of two are none, or send one identity's token to the other's host. The library
/// also prefers some to others, wherever they came from.
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

/// All that are credentials, or say where they are.
pub(crate) fn credentials() -> impl Iterator<Item = &'static str> {
    PROOFS.into_iter().chain(IDENTITIES).chain(DETAILS)
}
