//! The named stores of the operator's administrator: a file of YAML, read once at the start.
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
//! [`Folder`](super::path::Folder) begins with the namespace. Errors name the file, the store and the field, and repeat
//! no value: an option may be a key.

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

/// Most stores in one file.
const MAX_STORES: usize = 100;

/// The named stores. The default has none.
#[derive(Debug, Default)]
pub struct Stores {
    stores: BTreeMap<String, Named>,
}

#[derive(Debug)]
struct Named {
    store: Arc<Store>,
    namespaces: Namespaces,
}

#[derive(Debug)]
enum Namespaces {
    All,
    These(Vec<String>),
}

/// A store that does not exist, or not for this namespace. Which of both is not said: the names are nobody else's
/// business.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no store of this name for this namespace")]
pub struct NotForNamespace;

/// A file of stores that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {flaw}")]
pub struct InvalidStores {
    file: String,
    flaw: Flaw,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Flaw {
    #[error("this is not YAML")]
    Yaml,
    #[error("write a list of stores under `stores`, and nothing beside it")]
    Top,
    #[error("write at most {MAX_STORES} stores")]
    Many,
    #[error("store {0}: write fields: name, url, options, namespaces")]
    NoFields(Place),
    #[error("store {0}: `{1}` is no field of a store: name, url, options and namespaces are")]
    UnknownField(Place, String),
    #[error("store {0}: name: write 1 to 63 lower-case letters, digits and -")]
    Name(Place),
    #[error("store {0}: name: another store has the same")]
    SameName(Place),
    #[error("store {0}: url: write s3://, gs://, az:// or file:/// and where it is")]
    NoUrl(Place),
    #[error("store {0}: url: {1}")]
    Url(Place, InvalidLocation),
    #[error("store {0}: options: write names and values, each value as text, true, false or a number")]
    NoOptions(Place),
    #[error("store {0}: options: {1}")]
    Options(Place, InvalidOptions),
    #[error("store {0}: namespaces: write a list of names, or [\"*\"] for all")]
    Namespaces(Place),
}

/// Which store: its place in the file from 1, and its name once that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place(usize, Option<String>);

impl std::fmt::Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.1 {
            Some(name) => write!(formatter, "{name}"),
            None => write!(formatter, "{}", self.0),
        }
    }
}

impl Stores {
    /// Reads the file's text. `environment` are the variables of the process: see [`Options::of_administrator`].
    ///
    /// # Errors
    ///
    /// [`InvalidStores`] for the first thing that cannot be used.
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
                let mut place = Place(index + 1, None);
                let (name, named) = read_store(&mut place, entry, environment, http, retry_policy)?;
                if stores.insert(name, named).is_some() {
                    return Err(Flaw::SameName(place));
                }
            }
            Ok(Self { stores })
        };
        read().map_err(|flaw| InvalidStores { file: file.to_owned(), flaw })
    }

    /// The store of this name, for this namespace.
    ///
    /// # Errors
    ///
    /// [`NotForNamespace`].
    pub fn find(&self, name: &str, namespace: &str) -> Result<Arc<Store>, NotForNamespace> {
        let named = self.stores.get(name).ok_or(NotForNamespace)?;
        let is_for = match &named.namespaces {
            Namespaces::All => true,
            Namespaces::These(list) => list.iter().any(|listed| listed == namespace),
        };
        if is_for { Ok(named.store.clone()) } else { Err(NotForNamespace) }
    }

    /// The names, in the order of the alphabet.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.stores.keys().map(String::as_str)
    }
}

fn list(text: &str) -> Result<Vec<Value>, Flaw> {
    let Value::Mapping(top) = serde_norway::from_str(text).map_err(|_| Flaw::Yaml)? else {
        return Err(Flaw::Top);
    };
    let mut fields = top.into_iter();
    let (Some((key, Value::Sequence(list))), None) = (fields.next(), fields.next()) else {
        return Err(Flaw::Top);
    };
    if key.as_str() != Some("stores") {
        return Err(Flaw::Top);
    }
    if list.len() > MAX_STORES { Err(Flaw::Many) } else { Ok(list) }
}

fn read_store(
    place: &mut Place,
    entry: Value,
    environment: &[(String, String)],
    http: &StoreHttp,
    retry_policy: RetryPolicy,
) -> Result<(String, Named), Flaw> {
    let Value::Mapping(fields) = entry else { return Err(Flaw::NoFields(place.clone())) };
    let field = |name: &str| fields.get(name);
    let name = field("name")
        .and_then(Value::as_str)
        .filter(|name| name.len() <= 63 && is_label(name))
        .ok_or_else(|| Flaw::Name(place.clone()))?;
    place.1 = Some(name.to_owned());
    if let Some(unknown) = unknown_field(&fields) {
        return Err(Flaw::UnknownField(place.clone(), unknown));
    }
    let url = field("url").and_then(Value::as_str).ok_or_else(|| Flaw::NoUrl(place.clone()))?;
    let location = Location::parse(url).map_err(|flaw| Flaw::Url(place.clone(), flaw))?;
    let values = match field("options") {
        None => Vec::new(),
        Some(Value::Mapping(options)) => {
            read_values(options).ok_or_else(|| Flaw::NoOptions(place.clone()))?
        }
        Some(_) => return Err(Flaw::NoOptions(place.clone())),
    };
    let entries = values.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let options = Options::of_administrator(location.scheme(), entries, environment)
        .map_err(|flaw| Flaw::Options(place.clone(), flaw))?;
    let namespaces =
        field("namespaces").and_then(read_namespaces).ok_or_else(|| Flaw::Namespaces(place.clone()))?;
    let store = Store::new(location, &options, http, retry_policy)
        .map_err(|flaw| Flaw::Options(place.clone(), flaw))?;
    Ok((name.to_owned(), Named { store: Arc::new(store), namespaces }))
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

fn read_namespaces(value: &Value) -> Option<Namespaces> {
    let names = value.as_sequence()?.iter().map(Value::as_str).collect::<Option<Vec<_>>>()?;
    match names.as_slice() {
        [] => None,
        ["*"] => Some(Namespaces::All),
        names if names.iter().all(|name| name.len() <= 63 && is_label(name)) => {
            Some(Namespaces::These(names.iter().map(|name| (*name).to_owned()).collect()))
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
        let flaw = read(text).unwrap_err();
        assert!(!format!("{flaw} {flaw:?}").contains("canary"), "{flaw:?}");
        flaw.to_string()
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
    fn a_file_that_cannot_be_used_names_file_store_and_field() {
        let store = |fields: &str| sentence(&format!("stores:\n- {{{fields}}}\n"));
        assert_eq!(sentence("a: ["), "stores.yaml: this is not YAML");
        let top = "stores.yaml: write a list of stores under `stores`, and nothing beside it";
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
            "stores.yaml: store one: `namespace` is no field of a store: name, url, options and namespaces are"
        );
        for options in ["canary", "[canary]", "{aws_region: [canary]}", "{aws_region: }"] {
            let sentence = store(&format!("name: one, url: 's3://evidence', options: {options}"));
            assert!(sentence.starts_with("stores.yaml: store one: options: write names"), "{sentence}");
        }
        assert_eq!(
            store("name: one, url: 's3://evidence', options: {aws_regoin: canary}"),
            "stores.yaml: store one: options: aws_regoin is no option of s3 stores"
        );
        for namespaces in ["", "canary", "[]", "[1]", "['*', team-a]", "[Team]", "[a/b]", "['..']"] {
            let sentence = store(&format!("name: one, url: 's3://evidence', namespaces: {namespaces}"));
            assert!(sentence.starts_with("stores.yaml: store one: namespaces: write a list"), "{sentence}");
        }
        let one = "{name: one, url: 'file:///a', namespaces: ['*']}";
        assert_eq!(
            sentence(&format!("stores: [{one}, {one}]")),
            "stores.yaml: store one: name: another store has the same"
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
