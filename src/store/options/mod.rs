//! Which keys a credentials Secret may hold, and what their values may be. Pure.
//!
//! The keys have the names of `object_store`'s options. A Secret belongs to a namespace, and its author must not gain anything
//! that the operator has. So it must contain its own credentials, may not refer to files, to the cloud's metadata server or to
//! another source of identity, and leads to no host but the clouds' own and the administrator's [`Endpoints`]. Values that
//! become part of a host name, such as a region, are limited to characters that cannot form another host. No error contains a
//! value.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    hash::{BuildHasher, RandomState},
    sync::LazyLock,
};

use secrecy::{ExposeSecret, SecretString};

use super::{endpoints::Endpoints, location::Scheme};
use known::{Shape, canonical, is_decided};
use value::{check, endpoint, is_true};

mod effect;
mod known;
mod server;
#[cfg(test)]
mod tests;
mod value;

/// Hashes credentials with a key of this process, so that a hash reveals nothing.
static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// The options of one store. Its `Debug` output has no values.
#[derive(Clone)]
pub struct Options {
    /// By the library's name of each option.
    values: BTreeMap<String, SecretString>,
    /// Whether plain http may be used.
    pub(crate) allow_plain_http: bool,
    /// Whether they are from a Secret of a namespace.
    is_of_namespace: bool,
}

/// Why options cannot be used. Names the key, never the value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOptions {
    /// This kind of store has no such option.
    #[error("{key} is not an option of {} stores", scheme.as_str())]
    Unknown {
        /// The key as written, at most 64 characters.
        key: String,
        /// The kind of store.
        scheme: Scheme,
    },
    /// No store has such an option. The key is not shown, because readers of the error may not be allowed to read the Secret.
    #[error("one of its entries is not an option of {} stores", scheme.as_str())]
    Foreign {
        /// The kind of store.
        scheme: Scheme,
    },
    /// The option has no effect, because one that it needs is missing.
    #[error("{key} has no effect without {without}")]
    NoEffect {
        /// The option.
        key: String,
        /// What is missing.
        without: &'static str,
    },
    /// The option has no effect, because another one takes precedence.
    #[error("{key} has no effect together with {by}")]
    Overruled {
        /// The option.
        key: String,
        /// The other one.
        by: &'static str,
    },
    /// Objects would be stored elsewhere than the store's address says.
    #[error("{key}: {why}")]
    Elsewhere {
        /// The option.
        key: String,
        /// What to write instead.
        why: &'static str,
    },
    /// The option may not be set in a Secret.
    #[error("{key} may only be set by the operator's administrator, for a named store")]
    Reserved {
        /// The option.
        key: String,
    },
    /// The option is set twice, under two names.
    #[error("{key} is set twice, under two names")]
    Twice {
        /// The option.
        key: String,
    },
    /// The credentials are incomplete without it.
    #[error("{key} is missing")]
    Missing {
        /// The option, or several to choose from.
        key: &'static str,
    },
    /// Only the administrator may use a local folder.
    #[error("a folder can only be used as a named store")]
    Folder,
    /// The value is invalid.
    #[error("the value of {key} is invalid")]
    Malformed {
        /// The option.
        key: String,
    },
    /// The option would change how the operator stores objects.
    #[error("{key} is set by the operator")]
    Decided {
        /// The option.
        key: String,
    },
    /// The endpoint is not allowed.
    #[error("{key} is not on the list of allowed endpoints")]
    EndpointNotAllowed {
        /// The option.
        key: String,
    },
    /// Each option is valid, but together they are not.
    #[error("the options are incomplete: check the credentials")]
    Unusable,
    /// The option forbids plain http, which the endpoint uses.
    #[error("{key} forbids plain http, but the endpoint uses it")]
    PlainHttpDenied {
        /// The option.
        key: String,
    },
    /// The option allows plain http, which no endpoint uses.
    #[error("{key} allows plain http, but no allowed endpoint of this Secret uses it")]
    PlainHttp {
        /// The option.
        key: String,
    },
}

impl Options {
    /// Parses a credentials Secret of a namespace. Keys are case-insensitive.
    ///
    /// # Errors
    ///
    /// [`InvalidOptions`] for the first key, in sorted order, that is unknown, not allowed or has an invalid value; then for
    /// incomplete credentials. Never falls back on the operator's own identity.
    pub fn of_secret<'a>(
        scheme: Scheme,
        entries: impl IntoIterator<Item = (&'a str, &'a [u8])>,
        endpoints: &Endpoints,
    ) -> Result<Self, InvalidOptions> {
        if scheme == Scheme::File {
            return Err(InvalidOptions::Folder);
        }
        let sorted: BTreeMap<&str, &[u8]> = entries.into_iter().collect();
        let mut options = Self { is_of_namespace: true, ..Self::empty() };
        let mut plain_http = None;
        for (written, value) in sorted {
            let shown = shown(written);
            let name = canonical(scheme, written).ok_or_else(|| {
                if known::resembles_an_option(written) {
                    InvalidOptions::Unknown { key: shown.clone(), scheme }
                } else {
                    InvalidOptions::Foreign { scheme }
                }
            })?;
            let (name, shape) = known::of_secret(scheme, &name).ok_or_else(|| {
                if is_decided(&name) {
                    InvalidOptions::Decided { key: shown.clone() }
                } else {
                    InvalidOptions::Reserved { key: shown.clone() }
                }
            })?;
            let text =
                std::str::from_utf8(value).map_err(|_| InvalidOptions::Malformed { key: shown.clone() })?;
            let text = check(shape, text.strip_suffix('\n').unwrap_or(text))
                .ok_or_else(|| InvalidOptions::Malformed { key: shown.clone() })?;
            let text = match shape {
                Shape::Endpoint => {
                    let allowed = endpoints
                        .permit(&text)
                        .ok_or_else(|| InvalidOptions::EndpointNotAllowed { key: shown.clone() })?;
                    options.allow_plain_http |= allowed.is_plain_http;
                    endpoint(&allowed.url).ok_or_else(|| InvalidOptions::Malformed { key: shown.clone() })?
                }
                Shape::PlainHttp => {
                    plain_http = Some((shown, is_true(&text)));
                    continue;
                }
                Shape::Text
                | Shape::Flag
                | Shape::Checksum
                | Shape::Encryption
                | Shape::Region
                | Shape::Account
                | Shape::Tenant
                | Shape::ServiceAccount
                | Shape::FileMode
                | Shape::DirMode => text,
            };
            options.insert(name, text, shown)?;
        }
        match plain_http {
            Some((key, true)) if !options.allow_plain_http => return Err(InvalidOptions::PlainHttp { key }),
            Some((key, false)) if options.allow_plain_http => {
                return Err(InvalidOptions::PlainHttpDenied { key });
            }
            Some(_) | None => {}
        }
        options.require_credentials(scheme)?;
        options.check_effects(scheme, &options.names())?;
        Ok(options)
    }

    /// Parses the options that the administrator gives a named store. They may use the operator's own identity: variables
    /// `AWS_…`, `GOOGLE_…` and `AZURE_…` of the process's `environment` that name options and are not empty apply where the
    /// administrator sets nothing else. If the options contain credentials, variables with credentials do not apply.
    ///
    /// # Errors
    ///
    /// [`InvalidOptions`] for the first key that is unknown, is set by the operator, or has an invalid value.
    pub fn of_administrator<'a>(
        scheme: Scheme,
        entries: impl IntoIterator<Item = (&'a str, &'a str)>,
        environment: &[(String, String)],
    ) -> Result<Self, InvalidOptions> {
        let mut options = Self::empty();
        let mut plain_http = None;
        for (written, value) in entries {
            let shown = shown(written);
            let name = canonical(scheme, written)
                .ok_or_else(|| InvalidOptions::Unknown { key: shown.clone(), scheme })?;
            if name == "allow_http" {
                let is_on = check(Shape::PlainHttp, value).map(|text| is_true(&text));
                let is_on = is_on.ok_or_else(|| InvalidOptions::Malformed { key: shown.clone() })?;
                plain_http = Some((shown, is_on));
            } else {
                options.insert_administrators(scheme, name, value, shown)?;
            }
        }
        options.check_plain_http(plain_http)?;
        let prefix = match scheme {
            Scheme::S3 => "AWS_",
            Scheme::Gs => "GOOGLE_",
            Scheme::Az => "AZURE_",
            Scheme::File => return Ok(options),
        };
        let given = options.names();
        let mut variables: Vec<_> = environment
            .iter()
            .filter(|(written, value)| written.starts_with(prefix) && !value.trim().is_empty())
            .collect();
        variables.sort_by_key(|(written, _)| known::is_general(written));
        for (written, value) in variables {
            if let Some(name) = canonical(scheme, written)
                && !is_decided(&name)
                && !options.values.contains_key(&name)
                && known::goes_with(&name, |other| given.contains(other))
            {
                options.insert_administrators(scheme, name, value, shown(written))?;
            }
        }
        options.check_effects(scheme, &given)?;
        Ok(options)
    }

    /// The options that a Secret for this kind of store may contain, by the library's names.
    pub fn in_secrets(scheme: Scheme) -> impl Iterator<Item = &'static str> {
        known::in_secrets(scheme).iter().map(|(name, _)| *name)
    }

    fn empty() -> Self {
        Self { values: BTreeMap::new(), allow_plain_http: false, is_of_namespace: false }
    }

    fn insert_administrators(
        &mut self,
        scheme: Scheme,
        name: String,
        value: &str,
        shown: String,
    ) -> Result<(), InvalidOptions> {
        if is_decided(&name) {
            return Err(InvalidOptions::Decided { key: shown });
        }
        let shape = match known::of_secret(scheme, &name) {
            // The administrator may supply an encryption key.
            Some((_, Shape::Encryption)) if value == "sse-c" => Shape::Text,
            Some((_, shape)) => shape,
            None => Shape::Text,
        };
        let malformed = || InvalidOptions::Malformed { key: shown.clone() };
        let text = check(shape, value).ok_or_else(malformed)?;
        let text = match shape {
            Shape::PlainHttp => {
                self.allow_plain_http |= is_true(&text);
                return Ok(());
            }
            Shape::Endpoint => {
                let text = endpoint(&text).ok_or_else(malformed)?;
                self.allow_plain_http |= text.starts_with("http://");
                text
            }
            Shape::Text
            | Shape::Flag
            | Shape::Checksum
            | Shape::Encryption
            | Shape::Region
            | Shape::Account
            | Shape::Tenant
            | Shape::ServiceAccount
            | Shape::FileMode
            | Shape::DirMode => text,
        };
        self.insert(name, text, shown)
    }

    /// Applies what the administrator sets for plain http, if it concerns an address in the options.
    fn check_plain_http(&mut self, requested: Option<(String, bool)>) -> Result<(), InvalidOptions> {
        match requested {
            Some((key, false)) if self.allow_plain_http => Err(InvalidOptions::PlainHttpDenied { key }),
            Some((key, true)) if !self.iter().any(|(_, value)| value.starts_with("http://")) => {
                Err(InvalidOptions::NoEffect { key, without: "an address that begins with http://" })
            }
            Some((_, true)) => {
                self.allow_plain_http = true;
                Ok(())
            }
            Some((_, false)) | None => Ok(()),
        }
    }

    fn insert(
        &mut self,
        name: impl Into<String>,
        value: String,
        shown: String,
    ) -> Result<(), InvalidOptions> {
        match self.values.insert(name.into(), SecretString::from(value)) {
            None => Ok(()),
            Some(_) => Err(InvalidOptions::Twice { key: shown }),
        }
    }

    /// Without complete credentials the library would use the operator's own.
    fn require_credentials(&self, scheme: Scheme) -> Result<(), InvalidOptions> {
        let has = |key: &str| self.values.contains_key(key);
        let require = |key| if has(key) { Ok(()) } else { Err(InvalidOptions::Missing { key }) };
        match scheme {
            Scheme::S3 => {
                require("aws_access_key_id")?;
                require("aws_secret_access_key")
            }
            Scheme::Gs if has("google_bearer_token") => Ok(()),
            Scheme::Gs => require("google_service_account_key"),
            Scheme::Az => {
                require("azure_storage_account_name")?;
                let client =
                    ["azure_storage_client_id", "azure_storage_client_secret", "azure_storage_tenant_id"];
                if client.into_iter().any(has) {
                    return client.into_iter().try_for_each(require);
                }
                if has("azure_storage_sas_key") || has("azure_storage_token") {
                    return Ok(());
                }
                require("azure_storage_account_key")
            }
            Scheme::File => Err(InvalidOptions::Folder),
        }
    }

    /// The value of an option, by the library's name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(ExposeSecret::expose_secret)
    }

    /// The value of an option that is a file mode.
    pub(crate) fn mode(&self, name: &str) -> Option<u32> {
        self.get(name).and_then(value::mode)
    }

    /// The other options without this one.
    pub(crate) fn without(&self, name: &str) -> Self {
        let mut options = self.clone();
        options.values.remove(name);
        options
    }

    /// Identifies the credentials of a namespace within this process; 0 for the operator's own.
    pub(crate) fn credentials(&self) -> u64 {
        if !self.is_of_namespace {
            return 0;
        }
        let is_credential = |name: &str| known::credentials().any(|known| known == name);
        HASHER.hash_one(self.iter().filter(|(name, _)| is_credential(name)).collect::<Vec<_>>())
    }

    fn names(&self) -> BTreeSet<String> {
        self.values.keys().cloned().collect()
    }

    /// The options, by the library's names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.iter().map(|(name, value)| (name.as_str(), value.expose_secret()))
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.values.keys()).finish()
    }
}

/// A key as errors show it.
fn shown(written: &str) -> String {
    written.chars().filter(char::is_ascii_graphic).take(64).collect()
}
