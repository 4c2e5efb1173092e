//! Whether each option has an effect together with the others. One without effect is a mistake of its author, such as a key
//! for an encryption that is not enabled. Pure.

use std::collections::BTreeSet;

use super::{InvalidOptions, Options, value::is_true};
use crate::store::location::Scheme;

/// A source of credentials. The library uses the first that is complete.
struct CredentialSource {
    /// The required options; complete without any if empty.
    needs: &'static [&'static str],
    /// The optional ones.
    takes: &'static [&'static str],
}

const S3: [CredentialSource; 6] = [
    CredentialSource { needs: &["aws_skip_signature"], takes: &[] },
    CredentialSource {
        needs: &["aws_access_key_id", "aws_secret_access_key"],
        takes: &["aws_session_token"],
    },
    CredentialSource {
        needs: &["aws_role_arn", "aws_web_identity_token_file"],
        takes: &["aws_role_session_name", "aws_endpoint_url_sts"],
    },
    CredentialSource { needs: &["aws_container_credentials_relative_uri"], takes: &[] },
    CredentialSource {
        needs: &["aws_container_credentials_full_uri", "aws_container_authorization_token_file"],
        takes: &[],
    },
    CredentialSource { needs: &[], takes: &["aws_metadata_endpoint", "aws_imdsv1_fallback"] },
];

const GS: [CredentialSource; 6] = [
    CredentialSource { needs: &["google_skip_signature"], takes: &[] },
    CredentialSource { needs: &["google_bearer_token"], takes: &[] },
    CredentialSource { needs: &["google_service_account_key"], takes: &[] },
    CredentialSource { needs: &["google_service_account"], takes: &[] },
    CredentialSource { needs: &["google_application_credentials"], takes: &[] },
    CredentialSource { needs: &[], takes: &[] },
];

const AZ: [CredentialSource; 8] = [
    CredentialSource { needs: &["azure_skip_signature"], takes: &[] },
    CredentialSource {
        needs: &[
            "azure_fabric_token_service_url",
            "azure_fabric_workload_host",
            "azure_fabric_session_token",
            "azure_fabric_cluster_identifier",
        ],
        takes: &["azure_storage_token"],
    },
    CredentialSource { needs: &["azure_storage_token"], takes: &[] },
    CredentialSource { needs: &["azure_storage_account_key"], takes: &[] },
    CredentialSource {
        needs: &["azure_storage_client_id", "azure_storage_tenant_id", "azure_federated_token_file"],
        takes: &["azure_storage_authority_host"],
    },
    CredentialSource {
        needs: &["azure_storage_client_id", "azure_storage_client_secret", "azure_storage_tenant_id"],
        takes: &["azure_storage_authority_host"],
    },
    CredentialSource { needs: &["azure_storage_sas_key"], takes: &[] },
    CredentialSource {
        needs: &[],
        takes: &["azure_storage_client_id", "azure_msi_endpoint", "azure_object_id", "azure_msi_resource_id"],
    },
];

impl CredentialSource {
    fn is_complete(&self, options: &Options) -> bool {
        self.needs.iter().all(|name| options.is_on(name))
    }

    fn has(&self, name: &str) -> bool {
        self.needs.contains(&name) || self.takes.contains(&name)
    }
}

impl Options {
    /// Checks that each `given` option has an effect. Options from the environment are not checked, because it may serve other
    /// programs too.
    pub(crate) fn check_effects(
        &self,
        scheme: Scheme,
        given: &BTreeSet<String>,
    ) -> Result<(), InvalidOptions> {
        self.check_encryption()?;
        let sources: &[CredentialSource] = match scheme {
            Scheme::S3 => &S3,
            Scheme::Gs => &GS,
            // It names the source itself.
            Scheme::Az if self.get("azure_credential_type").is_some() => &[],
            Scheme::Az => &AZ,
            Scheme::File => &[],
        };
        let Some((used_index, used)) =
            sources.iter().enumerate().find(|(_, source)| source.is_complete(self))
        else {
            return Ok(());
        };
        for name in given.iter().filter(|name| self.is_on(name) && !used.has(name)) {
            let Some((index, source)) = sources.iter().enumerate().find(|(_, source)| source.has(name))
            else {
                continue;
            };
            let missing = source.needs.iter().copied().find(|needed| !self.is_on(needed));
            return Err(match (missing, used.needs.first()) {
                (Some(missing), _) if index < used_index || used.needs.is_empty() => {
                    InvalidOptions::NoEffect { key: name.clone(), without: missing }
                }
                (_, Some(by)) => InvalidOptions::Overruled { key: name.clone(), by },
                (_, None) => continue,
            });
        }
        Ok(())
    }

    /// Checks the options of encryption, also those from the environment, whose author expects them to apply.
    fn check_encryption(&self) -> Result<(), InvalidOptions> {
        let encryption = self.get("aws_server_side_encryption").unwrap_or_default();
        for (key, encryptions, without) in [
            (
                "aws_sse_kms_key_id",
                &["aws:kms", "aws:kms:dsse"][..],
                "aws_server_side_encryption: aws:kms or aws:kms:dsse",
            ),
            ("aws_sse_bucket_key_enabled", &["aws:kms"], "aws_server_side_encryption: aws:kms"),
            ("aws_sse_customer_key_base64", &["sse-c"], "aws_server_side_encryption: sse-c"),
        ] {
            if self.get(key).is_some() && !encryptions.contains(&encryption) {
                return Err(InvalidOptions::NoEffect { key: key.to_owned(), without });
            }
        }
        if encryption == "sse-c" && self.get("aws_sse_customer_key_base64").is_none() {
            return Err(InvalidOptions::Missing { key: "aws_sse_customer_key_base64" });
        }
        Ok(())
    }

    /// Whether an option is set, and is not a flag that is false.
    fn is_on(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| !name.ends_with("_skip_signature") || is_true(value))
    }
}
