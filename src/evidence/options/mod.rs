//! Which keys a credentials Secret may hold, and what their values may be. Pure.
//!
//! The keys are named as `object_store`'s options are. A Secret belongs to a namespace, and whoever writes it must gain
//! nothing that the operator has: so it must bring credentials of its own, may not point at files, at the machine's
//! metadata or at another way to an identity, and leads to no host but the clouds' own and the administrator's
//! [`Endpoints`]. What goes into the name of a host, such as a region, is held to letters that cannot make another
//! host. No error repeats a value.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use secrecy::{ExposeSecret, SecretString};

use super::{
    endpoints::Endpoints,
    location::{Location, Scheme},
};
use known::{Shape, canonical, is_decided};
use value::{check, is_true};

mod known;
#[cfg(test)]
mod tests;
mod value;

/// Options of one store. Prints no value.
#[derive(Clone)]
pub struct Options {
    /// By the library's own name of the option.
    values: BTreeMap<String, SecretString>,
    /// Whether plain http may be spoken.
    pub(super) allow_plain_http: bool,
}

/// Options that cannot be used. Names the key, never the value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOptions {
    /// No option of such a store.
    #[error("{key} is no option of {} stores", scheme.as_str())]
    Unknown {
        /// As it was written, at most 64 characters.
        key: String,
        /// The kind of store.
        scheme: Scheme,
    },
    /// An option, but not for a Secret.
    #[error("{key} may only be set by the operator's administrator, for a named store")]
    Reserved {
        /// The option.
        key: String,
    },
    /// The same option under two names.
    #[error("{key} is there twice, under two names")]
    Twice {
        /// The option.
        key: String,
    },
    /// Without it there are no credentials.
    #[error("{key} is missing")]
    Missing {
        /// The option, or several to choose from.
        key: &'static str,
    },
    /// A local folder belongs to the administrator.
    #[error("a folder can only be a named store")]
    Folder,
    /// The value makes no sense.
    #[error("the value of {key} cannot be used")]
    Malformed {
        /// The option.
        key: String,
    },
    /// Would change how the operator stores.
    #[error("{key} is decided by the operator")]
    Decided {
        /// The option.
        key: String,
    },
    /// Leads to a host that is not allowed.
    #[error("{key} is not on the list of allowed endpoints")]
    EndpointNotAllowed {
        /// The option.
        key: String,
    },
    /// Each option may be used, but together they make no store.
    #[error("the options do not make up a store: look at the credentials")]
    Unusable,
    /// Asks for plain http.
    #[error("{key} asks for plain http, which no allowed endpoint of this Secret has")]
    PlainHttp {
        /// The option.
        key: String,
    },
}

impl Options {
    /// Reads a credentials Secret of a namespace. Keys may be written in any case.
    ///
    /// # Errors
    ///
    /// [`InvalidOptions`] for the first key, in the order of the alphabet, that is none, may not be there or has a value
    /// that cannot be used; then for credentials that are not complete. Never falls back on an identity of the
    /// operator's own.
    pub fn of_secret<'a>(
        scheme: Scheme,
        entries: impl IntoIterator<Item = (&'a str, &'a [u8])>,
        endpoints: &Endpoints,
    ) -> Result<Self, InvalidOptions> {
        if scheme == Scheme::File {
            return Err(InvalidOptions::Folder);
        }
        let sorted: BTreeMap<&str, &[u8]> = entries.into_iter().collect();
        let mut options = Self::none();
        let mut plain_http_asked = None;
        for (written, value) in sorted {
            let shown = shown(written);
            let name = canonical(scheme, written)
                .ok_or_else(|| InvalidOptions::Unknown { key: shown.clone(), scheme })?;
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
                    let endpoint = endpoints
                        .permit(&text)
                        .ok_or_else(|| InvalidOptions::EndpointNotAllowed { key: shown.clone() })?;
                    options.allow_plain_http |= endpoint.is_plain_http;
                    endpoint.url
                }
                Shape::PlainHttp => {
                    plain_http_asked = is_true(&text).then(|| shown.clone());
                    continue;
                }
                Shape::Text
                | Shape::Flag
                | Shape::Region
                | Shape::Account
                | Shape::Tenant
                | Shape::ServiceAccount
                | Shape::FileMode
                | Shape::DirMode => text,
            };
            options.insert(name, text, shown)?;
        }
        if let Some(key) = plain_http_asked.filter(|_| !options.allow_plain_http) {
            return Err(InvalidOptions::PlainHttp { key });
        }
        options.require_credentials(scheme)?;
        Ok(options)
    }

    /// Reads the options that the administrator gives a named store. They may use the operator's own identity:
    /// `environment` are the variables of the process, of which `AWS_…`, `GOOGLE_…` and `AZURE_…` that name options
    /// and are not empty are taken where the administrator said nothing else. If the options bring credentials, none are
    /// taken.
    ///
    /// # Errors
    ///
    /// [`InvalidOptions`] for the first key that is none, is decided by the operator, or has a value that cannot be used.
    pub fn of_administrator<'a>(
        scheme: Scheme,
        entries: impl IntoIterator<Item = (&'a str, &'a str)>,
        environment: &[(String, String)],
    ) -> Result<Self, InvalidOptions> {
        let mut options = Self::none();
        for (written, value) in entries {
            let shown = shown(written);
            let name = canonical(scheme, written)
                .ok_or_else(|| InvalidOptions::Unknown { key: shown.clone(), scheme })?;
            options.take_administrators(scheme, name, value, shown)?;
        }
        let prefix = match scheme {
            Scheme::S3 => "AWS_",
            Scheme::Gs => "GOOGLE_",
            Scheme::Az => "AZURE_",
            Scheme::File => return Ok(options),
        };
        let given: BTreeSet<String> = options.values.keys().cloned().collect();
        let variables = environment
            .iter()
            .filter(|(written, value)| written.starts_with(prefix) && !value.trim().is_empty());
        for (written, value) in variables {
            if let Some(name) = canonical(scheme, written)
                && !is_decided(&name)
                && !options.values.contains_key(&name)
                && known::goes_with(&name, |other| given.contains(other))
            {
                options.take_administrators(scheme, name, value, shown(written))?;
            }
        }
        Ok(options)
    }

    fn none() -> Self {
        Self { values: BTreeMap::new(), allow_plain_http: false }
    }

    fn take_administrators(
        &mut self,
        scheme: Scheme,
        name: String,
        value: &str,
        shown: String,
    ) -> Result<(), InvalidOptions> {
        if is_decided(&name) {
            return Err(InvalidOptions::Decided { key: shown });
        }
        let shape = known::of_secret(scheme, &name).map_or(Shape::Text, |(_, shape)| shape);
        let text = check(shape, value).ok_or_else(|| InvalidOptions::Malformed { key: shown.clone() })?;
        match shape {
            Shape::PlainHttp => {
                self.allow_plain_http |= is_true(&text);
                return Ok(());
            }
            Shape::Endpoint => self.allow_plain_http |= text.starts_with("http://"),
            Shape::Text
            | Shape::Flag
            | Shape::Region
            | Shape::Account
            | Shape::Tenant
            | Shape::ServiceAccount
            | Shape::FileMode
            | Shape::DirMode => {}
        }
        self.insert(name, text, shown)
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

    /// Without complete credentials the library would look for the operator's own.
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

    /// One option, by the library's own name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(ExposeSecret::expose_secret)
    }

    /// The mode that an option says, if it is there.
    pub(super) fn mode(&self, name: &str) -> Option<u32> {
        self.get(name).and_then(value::mode)
    }

    /// Which server a store with these options is at.
    pub(super) fn endpoint(&self, location: &Location) -> String {
        let deciding: &[&str] = match location.scheme() {
            Scheme::S3 => &["aws_endpoint_url_s3", "aws_endpoint", "aws_region"],
            Scheme::Gs => &["google_base_url"],
            Scheme::Az => &["azure_storage_endpoint", "azure_storage_account_name"],
            Scheme::File => return location.to_string(),
        };
        let named = deciding.iter().find_map(|name| self.get(name)).unwrap_or_default();
        format!("{} {named}", location.scheme().as_str())
    }

    /// The options, by the library's own names.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.iter().map(|(name, value)| (name.as_str(), value.expose_secret()))
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.values.keys()).finish()
    }
}

/// A key as an error may show it.
fn shown(written: &str) -> String {
    written.chars().filter(char::is_ascii_graphic).take(64).collect()
}
