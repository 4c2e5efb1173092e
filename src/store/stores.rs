//! The administrator's named stores: a YAML file that is read once at start-up. No I/O.
//!
//! ```yaml
//! stores:
//! - name: evidence
//!   url: s3://evidence/kyc
//!   options:
//!     aws_region: eu-central-1
//!   namespaces: [team-a, team-b]      # or ["*"]
//! ```
//!
//! A named store may use the operator's own identity. Each namespace writes below `<url>/<namespace>`, because every
//! [`Folder`](super::path::Folder) begins with the namespace. Errors name the file, the store and the field but contain no
//! value, which may be a key.

use std::{collections::BTreeMap, sync::Arc};

use serde_norway::{Mapping, Value};

use super::{
    client::Store,
    http::StoreHttp,
    location::{InvalidLocation, Location},
    options::{InvalidOptions, Options},
    path::is_label,
    retry::RetryPolicy,
};

/// The most stores in one file.
const MAX_STORES: usize = 100;

/// The named stores; none by default.
#[derive(Debug, Default)]
pub struct Stores {
    stores: BTreeMap<String, NamedStore>,
}

#[derive(Debug)]
struct NamedStore {
    store: Arc<Store>,
    namespaces: AllowedNamespaces,
}

#[derive(Debug)]
enum AllowedNamespaces {
    All,
    Listed(Vec<String>),
}

/// The store does not exist, or not for this namespace. The error does not say which, because a namespace must not learn the
/// names of other stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no store of this name is available to this namespace")]
pub struct NotForNamespace;

/// An invalid stores file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {reason}")]
pub struct InvalidStores {
    file: String,
    reason: InvalidFile,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum InvalidFile {
    #[error("this is not valid YAML")]
    Yaml,
    #[error("write a list of stores under `stores`, and nothing else")]
    Top,
    #[error("write at most {MAX_STORES} stores")]
    Many,
    #[error("store {0}: write fields: name, url, options, namespaces")]
    NoFields(Position),
    #[error("store {0}: `{1}` is not a field of a store; the fields are name, url, options and namespaces")]
    UnknownField(Position, String),
    #[error("store {0}: name: write 1 to 63 lower-case letters, digits and -")]
    Name(Position),
    #[error("store {0}: name: another store has the same name")]
    SameName(Position),
    #[error("store {0}: url: write an address that starts with s3://, gs://, az:// or file:///")]
    NoUrl(Position),
    #[error("store {0}: url: {1}")]
    Url(Position, InvalidLocation),
    #[error("store {0}: options: write names and values, each value as text, true, false or a number")]
    NoOptions(Position),
    #[error("store {0}: options: {1}")]
    Options(Position, InvalidOptions),
    #[error("store {0}: namespaces: write a list of names, or [\"*\"] for all")]
    Namespaces(Position),
}

/// A store of the file: its position from 1, and its name once that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Position(usize, Option<String>);

impl std::fmt::Display for Position {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.1 {
            Some(name) => write!(formatter, "{name}"),
            None => write!(formatter, "{}", self.0),
        }
    }
}

impl Stores {
    /// Parses the file's text. `environment` are the variables of the process: see [`Options::of_administrator`].
    ///
    /// # Errors
    ///
    /// [`InvalidStores`] for the first error.
    pub fn read(
        file: &str,
        text: &str,
        environment: &[(String, String)],
        http: &StoreHttp,
        retry_policy: RetryPolicy,
    ) -> Result<Self, InvalidStores> {
        let read = || {
            let mut stores = BTreeMap::new();
            for (index, entry) in list(text)?.into_iter().enumerate() {
                let mut position = Position(index + 1, None);
                let (name, named) = read_store(&mut position, entry, environment, http, retry_policy)?;
                if stores.insert(name, named).is_some() {
                    return Err(InvalidFile::SameName(position));
                }
            }
            Ok(Self { stores })
        };
        read().map_err(|reason| InvalidStores { file: file.to_owned(), reason })
    }

    /// The store of this name, for this namespace.
    ///
    /// # Errors
    ///
    /// [`NotForNamespace`].
    pub fn find(&self, name: &str, namespace: &str) -> Result<Arc<Store>, NotForNamespace> {
        let named = self.stores.get(name).ok_or(NotForNamespace)?;
        let is_allowed = match &named.namespaces {
            AllowedNamespaces::All => true,
            AllowedNamespaces::Listed(list) => list.iter().any(|listed| listed == namespace),
        };
        if is_allowed { Ok(named.store.clone()) } else { Err(NotForNamespace) }
    }

    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.stores.keys().map(String::as_str)
    }
}

fn list(text: &str) -> Result<Vec<Value>, InvalidFile> {
    let Value::Mapping(top) = serde_norway::from_str(text).map_err(|_| InvalidFile::Yaml)? else {
        return Err(InvalidFile::Top);
    };
    let mut fields = top.into_iter();
    let (Some((key, Value::Sequence(list))), None) = (fields.next(), fields.next()) else {
        return Err(InvalidFile::Top);
    };
    if key.as_str() != Some("stores") {
        return Err(InvalidFile::Top);
    }
    if list.len() > MAX_STORES { Err(InvalidFile::Many) } else { Ok(list) }
}

fn read_store(
    position: &mut Position,
    entry: Value,
    environment: &[(String, String)],
    http: &StoreHttp,
    retry_policy: RetryPolicy,
) -> Result<(String, NamedStore), InvalidFile> {
    let Value::Mapping(fields) = entry else { return Err(InvalidFile::NoFields(position.clone())) };
    let field = |name: &str| fields.get(name);
    let name = field("name")
        .and_then(Value::as_str)
        .filter(|name| name.len() <= 63 && is_label(name))
        .ok_or_else(|| InvalidFile::Name(position.clone()))?;
    position.1 = Some(name.to_owned());
    if let Some(unknown) = unknown_field(&fields) {
        return Err(InvalidFile::UnknownField(position.clone(), unknown));
    }
    let url = field("url").and_then(Value::as_str).ok_or_else(|| InvalidFile::NoUrl(position.clone()))?;
    let location = Location::parse(url).map_err(|error| InvalidFile::Url(position.clone(), error))?;
    let values = match field("options") {
        None => Vec::new(),
        Some(Value::Mapping(options)) => {
            read_values(options).ok_or_else(|| InvalidFile::NoOptions(position.clone()))?
        }
        Some(_) => return Err(InvalidFile::NoOptions(position.clone())),
    };
    let entries = values.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let options = Options::of_administrator(location.scheme(), entries, environment)
        .map_err(|error| InvalidFile::Options(position.clone(), error))?;
    let namespaces = field("namespaces")
        .and_then(read_namespaces)
        .ok_or_else(|| InvalidFile::Namespaces(position.clone()))?;
    let store = Store::new(location, &options, http, retry_policy)
        .map_err(|error| InvalidFile::Options(position.clone(), error))?;
    Ok((name.to_owned(), NamedStore { store: Arc::new(store), namespaces }))
}

fn unknown_field(fields: &Mapping) -> Option<String> {
    let unknown = fields.keys().find(|key| {
        !key.as_str().is_some_and(|key| ["name", "url", "options", "namespaces"].contains(&key))
    })?;
    Some(unknown.as_str().unwrap_or("?").chars().filter(char::is_ascii_graphic).take(64).collect())
}

fn read_values(options: &Mapping) -> Option<Vec<(String, String)>> {
    options
        .iter()
        .map(|(name, value)| {
            let value = match value {
                Value::String(text) => text.clone(),
                Value::Bool(flag) => flag.to_string(),
                Value::Number(number) => number.to_string(),
                Value::Null | Value::Sequence(_) | Value::Mapping(_) | Value::Tagged(_) => return None,
            };
            Some((name.as_str()?.to_owned(), value))
        })
        .collect()
}

fn read_namespaces(value: &Value) -> Option<AllowedNamespaces> {
    let names = value.as_sequence()?.iter().map(Value::as_str).collect::<Option<Vec<_>>>()?;
    match names.as_slice() {
        [] => None,
        ["*"] => Some(AllowedNamespaces::All),
        names if names.iter().all(|name| name.len() <= 63 && is_label(name)) => {
            Some(AllowedNamespaces::Listed(names.iter().map(|name| (*name).to_owned()).collect()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::super::http::HttpSettings;
    use super::*;
    use crate::tls;

    static HTTP: LazyLock<StoreHttp> = LazyLock::new(|| {
        StoreHttp::new(&HttpSettings::default(), tls::client_config(None).unwrap()).unwrap()
    });

    fn read(text: &str) -> Result<Stores, InvalidStores> {
        Stores::read("stores.yaml", text, &[], &HTTP, RetryPolicy::default())
    }

    fn sentence(text: &str) -> String {
        let error = read(text).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
        error.to_string()
    }

    const STATIC: &str = "{aws_access_key_id: AKIA, aws_secret_access_key: canary, aws_region: eu-central-1}";

    #[test]
    fn a_store_is_for_the_namespaces_it_names() {
        let stores = read(&format!(
            "stores:\n- {{name: one, url: 's3://evidence/kyc', options: {STATIC}, namespaces: [team-a, team-b]}}\n\
             - {{name: all, url: 'file:///var/evidence', namespaces: ['*']}}\n"
        ))
        .unwrap();
        assert_eq!(stores.names().collect::<Vec<_>>(), ["all", "one"]);
        let store = stores.find("one", "team-a").unwrap();
        assert_eq!(store.location().to_string(), "s3://evidence/kyc");
        assert_eq!(stores.find("one", "team-c").unwrap_err(), NotForNamespace);
        assert_eq!(stores.find("one", "*").unwrap_err(), NotForNamespace);
        assert_eq!(stores.find("two", "team-a").unwrap_err(), NotForNamespace);
        assert!(stores.find("all", "team-c").is_ok());
        assert!(!format!("{stores:?}").contains("canary"));
    }

    #[test]
    fn the_error_of_an_invalid_file_names_file_store_and_field() {
        let store = |fields: &str| sentence(&format!("stores:\n- {{{fields}}}\n"));
        assert_eq!(sentence("a: ["), "stores.yaml: this is not valid YAML");
        let top = "stores.yaml: write a list of stores under `stores`, and nothing else";
        for text in ["", "[]", "store: []", "stores: {}", "stores: []\nother: canary"] {
            assert_eq!(sentence(text), top, "{text}");
        }
        assert!(sentence("stores: [canary]").starts_with("stores.yaml: store 1: write fields"));
        assert!(store("url: 's3://evidence'").starts_with("stores.yaml: store 1: name: "));
        assert!(store("name: No").starts_with("stores.yaml: store 1: name: "));
        assert!(store("name: one").starts_with("stores.yaml: store one: url: "));
        assert!(store("name: one, url: 'https://x'").starts_with("stores.yaml: store one: url: start with"));
        assert_eq!(
            store("name: one, url: 's3://evidence', namespace: canary"),
            "stores.yaml: store one: `namespace` is not a field of a store; the fields are name, url, options and namespaces"
        );
        for options in ["canary", "[canary]", "{aws_region: [canary]}", "{aws_region: }"] {
            let sentence = store(&format!("name: one, url: 's3://evidence', options: {options}"));
            assert!(sentence.starts_with("stores.yaml: store one: options: write names"), "{sentence}");
        }
        assert_eq!(
            store("name: one, url: 's3://evidence', options: {aws_regoin: canary}"),
            "stores.yaml: store one: options: aws_regoin is not an option of s3 stores"
        );
        for namespaces in ["", "canary", "[]", "[1]", "['*', team-a]", "[Team]", "[a/b]", "['..']"] {
            let sentence = store(&format!("name: one, url: 's3://evidence', namespaces: {namespaces}"));
            assert!(sentence.starts_with("stores.yaml: store one: namespaces: write a list"), "{sentence}");
        }
        let one = "{name: one, url: 'file:///a', namespaces: ['*']}";
        assert_eq!(
            sentence(&format!("stores: [{one}, {one}]")),
            "stores.yaml: store one: name: another store has the same name"
        );
        let incomplete =
            "name: one, url: 's3://evidence', namespaces: ['*'], options: {aws_secret_access_key: canary}";
        assert!(store(incomplete).starts_with(
            "stores.yaml: store one: options: aws_secret_access_key has no effect without aws_access_key_id"
        ));
        let elsewhere = "name: one, url: 's3://evidence', namespaces: ['*'], \
                         options: {aws_endpoint: 'https://minio.example', aws_virtual_hosted_style_request: true}";
        assert!(
            store(elsewhere).starts_with("stores.yaml: store one: options: aws_endpoint: in virtual-hosted")
        );
    }
}
