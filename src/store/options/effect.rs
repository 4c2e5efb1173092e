//! Whether each option that was given does something beside the others: one that does nothing is a mistake of whoever gave
//! it, such as a key for an encryption that is not asked for. Pure.

use std::collections::BTreeSet;

use super::{InvalidOptions, Options, value::is_true};
use crate::store::location::Scheme;

/// A way to prove who asks. The library takes the first that is whole.
struct Way {
    /// What it needs; always whole where this is empty.
    needs: &'static [&'static str],
    /// What else belongs to it.
    takes: &'static [&'static str],
}

const S3: [Way; 6] = [
    Way { needs: &["aws_skip_signature"], takes: &[] },
    Way { needs: &["aws_access_key_id", "aws_secret_access_key"], takes: &["aws_session_token"] },
    Way {
        needs: &["aws_role_arn", "aws_web_identity_token_file"],
        takes: &["aws_role_session_name", "aws_endpoint_url_sts"],
    },
    Way { needs: &["aws_container_credentials_relative_uri"], takes: &[] },
    Way {
        needs: &["aws_container_credentials_full_uri", "aws_container_authorization_token_file"],
        takes: &[],
    },
    Way { needs: &[], takes: &["aws_metadata_endpoint", "aws_imdsv1_fallback"] },
];

const GS: [Way; 6] = [
    Way { needs: &["google_skip_signature"], takes: &[] },
    Way { needs: &["google_bearer_token"], takes: &[] },
    Way { needs: &["google_service_account_key"], takes: &[] },
    Way { needs: &["google_service_account"], takes: &[] },
    Way { needs: &["google_application_credentials"], takes: &[] },
    Way { needs: &[], takes: &[] },
];

const AZ: [Way; 8] = [
    Way { needs: &["azure_skip_signature"], takes: &[] },
    Way {
        needs: &[
            "azure_fabric_token_service_url",
            "azure_fabric_workload_host",
            "azure_fabric_session_token",
            "azure_fabric_cluster_identifier",
        ],
        takes: &["azure_storage_token"],
    },
    Way { needs: &["azure_storage_token"], takes: &[] },
    Way { needs: &["azure_storage_account_key"], takes: &[] },
    Way {
        needs: &["azure_storage_client_id", "azure_storage_tenant_id", "azure_federated_token_file"],
        takes: &["azure_storage_authority_host"],
    },
    Way {
        needs: &["azure_storage_client_id", "azure_storage_client_secret", "azure_storage_tenant_id"],
        takes: &["azure_storage_authority_host"],
    },
    Way { needs: &["azure_storage_sas_key"], takes: &[] },
    Way {
        needs: &[],
        takes: &["azure_storage_client_id", "azure_msi_endpoint", "azure_object_id", "azure_msi_resource_id"],
    },
];

impl Way {
    fn is_whole(&self, options: &Options) -> bool {
        self.needs.iter().all(|name| options.is_on(name))
    }

    fn has(&self, name: &str) -> bool {
        self.needs.contains(&name) || self.takes.contains(&name)
    }
}

impl Options {
    /// Whether each option of those that were `given` does something. Others come from the environment, which is not there
    /// for the store alone.
    pub(crate) fn check_effects(
        &self,
        scheme: Scheme,
        given: &BTreeSet<String>,
    ) -> Result<(), InvalidOptions> {
        self.check_encryption()?;
        let ways: &[Way] = match scheme {
            Scheme::S3 => &S3,
            Scheme::Gs => &GS,
            // It says itself which one is used.
            Scheme::Az if self.get("azure_credential_type").is_some() => &[],
            Scheme::Az => &AZ,
            Scheme::File => &[],
        };
        let Some((place, taken)) = ways.iter().enumerate().find(|(_, way)| way.is_whole(self)) else {
            return Ok(());
        };
        for name in given.iter().filter(|name| self.is_on(name) && !taken.has(name)) {
            let Some((other, way)) = ways.iter().enumerate().find(|(_, way)| way.has(name)) else { continue };
            let missing = way.needs.iter().copied().find(|needed| !self.is_on(needed));
            return Err(match (missing, taken.needs.first()) {
                (Some(missing), _) if other < place || taken.needs.is_empty() => {
                    InvalidOptions::NoEffect { key: name.clone(), without: missing }
                }
                (_, Some(by)) => InvalidOptions::Overruled { key: name.clone(), by },
                (_, None) => continue,
            });
        }
        Ok(())
    }

    /// What belongs to an encryption, and which one. Also from the environment: who wrote it there expects it.
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

    /// Whether an option is there, and not a flag that says no.
    fn is_on(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| !name.ends_with("_skip_signature") || is_true(value))
    }
}
