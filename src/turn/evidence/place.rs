//! Where the evidence of a verification is kept.

use std::{collections::BTreeMap, sync::Arc};

use kube::ResourceExt;

use crate::{
    api::{Destination, Verification},
    evidence::{Folder, InvalidOptions, Location, Options, Patience, Store, StorePass},
    lifecycle::{DestinationFact, EvidenceTrouble},
    turn::Turns,
};

/// Where the evidence of one verification is kept.
pub(super) struct Place {
    pub(super) store: Arc<Store>,
    pub(super) folder: Folder,
    /// The folder as a url.
    pub(super) prefix: String,
}

impl Turns {
    /// Whether evidence may be kept where it was asked to be: as far as is known before anything is stored.
    pub(in crate::turn) async fn destination(&self, object: &Verification) -> DestinationFact {
        let Some(images) = object.spec.images.as_ref() else { return DestinationFact::Allowed };
        let namespace = object.namespace().unwrap_or_default();
        if !self.archive.may_keep(images, &namespace) {
            return DestinationFact::Refused;
        }
        match self.place(object, &images.destination).await {
            Err(EvidenceTrouble::DestinationRefused) => DestinationFact::Refused,
            // A Secret that is not there yet may come in time.
            Ok(_) | Err(_) => DestinationFact::Allowed,
        }
    }

    /// Opens the place; connects to no store.
    pub(super) async fn place(
        &self,
        object: &Verification,
        destination: &Destination,
    ) -> Result<Place, EvidenceTrouble> {
        let namespace = object.namespace().unwrap_or_default();
        let folder = Folder::new(&namespace, &object.name_any(), &object.uid().unwrap_or_default())
            .map_err(|_| EvidenceTrouble::DestinationRefused)?;
        let store = match destination {
            Destination { store: Some(name), .. } => {
                self.archive.stores.find(name, &namespace).map_err(|_| EvidenceTrouble::DestinationRefused)?
            }
            Destination { url: Some(url), credentials_secret_ref: Some(secret), store: None } => {
                let location = Location::parse(url).map_err(|_| EvidenceTrouble::DestinationRefused)?;
                let entries = self.credentials(&namespace, &secret.name).await?;
                self.open(location, &entries).map_err(|_| EvidenceTrouble::DestinationRefused)?
            }
            Destination { .. } => return Err(EvidenceTrouble::DestinationRefused),
        };
        let prefix = folder.url(store.location());
        Ok(Place { store, folder, prefix })
    }

    fn open(
        &self,
        location: Location,
        entries: &BTreeMap<String, Vec<u8>>,
    ) -> Result<Arc<Store>, InvalidOptions> {
        let entries = entries.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
        let options = Options::of_secret(location.scheme(), entries, &self.archive.endpoints)?;
        Store::new(location, &options, &self.archive.http, Patience::default()).map(Arc::new)
    }

    async fn credentials(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<BTreeMap<String, Vec<u8>>, EvidenceTrouble> {
        match self.secrets.data(namespace, name).await {
            Ok(Ok(data)) => Ok(data),
            Ok(Err(_)) => Err(EvidenceTrouble::AccessDenied),
            Err(_) => Err(EvidenceTrouble::StoreUnavailable),
        }
    }

    /// Leave to use the store; none while it is silent.
    pub(super) fn admit_to_store(
        &self,
        namespace: &str,
        destination: &Destination,
    ) -> Result<StorePass<'_>, EvidenceTrouble> {
        let Destination { url, credentials_secret_ref, store } = destination;
        let part = |part: Option<&str>| part.unwrap_or_default().to_owned();
        let name = if let Some(store) = store {
            vec![store.clone()]
        } else {
            let secret = credentials_secret_ref.as_ref().map(|secret| secret.name.as_str());
            vec![namespace.to_owned(), part(secret), part(url.as_deref())]
        };
        self.archive.breaker.admit(name.join("\n")).ok_or(EvidenceTrouble::StoreUnavailable)
    }
}
