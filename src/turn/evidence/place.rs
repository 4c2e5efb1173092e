//! Where the evidence of a verification is kept.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use kube::ResourceExt;
use tokio::{
    sync::{OwnedSemaphorePermit, SemaphorePermit},
    time::Instant,
};

use crate::{
    api::{Destination, ImageKind, Verification},
    evidence::{
        Folder, InvalidLocation, InvalidOptions, InvalidPath, Location, NotForNamespace, Options, Patience,
        Store, StorePass, StoreUser,
    },
    lifecycle::EvidenceTrouble,
    turn::Turns,
};

use super::{Archive, lanes::Lane};

/// Where the evidence of one verification is kept.
pub(super) struct Place {
    pub(super) store: Arc<Store>,
    pub(super) folder: Folder,
    /// The folder as a url.
    pub(super) prefix: String,
    /// What its endpoint may take.
    pub(super) lane: Arc<Lane>,
}

impl Place {
    /// Names it within this process.
    pub(super) fn name(&self) -> String {
        format!("{}\n{}", self.store.endpoint(), self.prefix)
    }
}

/// Why there is no place for evidence.
pub(super) enum NoPlace {
    /// It may not be kept as asked; only a person can change that.
    Refused(RefuseDestination),
    /// Trouble that may end by itself.
    Trouble(EvidenceTrouble),
}

/// Why evidence may not be kept as asked. Repeats no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::turn) enum RefuseDestination {
    #[error("the operator's administrator forbids {0:?} images")]
    Forbidden(ImageKind),
    #[error("destination.store: {0}")]
    Store(#[from] NotForNamespace),
    #[error("destination.url: {0}")]
    Location(#[from] InvalidLocation),
    #[error("the Secret with the credentials of the store: {0}")]
    Options(#[from] InvalidOptions),
    #[error("{0}")]
    Folder(#[from] InvalidPath),
    #[error("destination: write url and credentialsSecretRef, or store")]
    Nowhere,
}

impl<T: Into<RefuseDestination>> From<T> for NoPlace {
    fn from(refusal: T) -> Self {
        Self::Refused(refusal.into())
    }
}

impl Turns {
    /// Why evidence may not be kept where it was asked to be, as far as is known before anything is stored.
    pub(in crate::turn) async fn refuse_destination(
        &self,
        object: &Verification,
    ) -> Option<RefuseDestination> {
        let images = object.spec.images.as_ref()?;
        if let Err(refusal) = self.archive.permit(images) {
            return Some(refusal);
        }
        match self.place(object, &images.destination).await {
            Err(NoPlace::Refused(refusal)) => Some(refusal),
            // A Secret that is not there yet may come in time.
            Ok(_) | Err(NoPlace::Trouble(_)) => None,
        }
    }

    /// Opens the place; connects to no store.
    pub(super) async fn place(
        &self,
        object: &Verification,
        destination: &Destination,
    ) -> Result<Place, NoPlace> {
        let namespace = object.namespace().unwrap_or_default();
        let folder = Folder::new(&namespace, &object.name_any(), &object.uid().unwrap_or_default())?;
        let store = match destination {
            Destination { store: Some(name), .. } => self.archive.stores.find(name, &namespace)?,
            Destination { url: Some(url), credentials_secret_ref: Some(secret), store: None } => {
                let location = Location::parse(url)?;
                let entries = self.credentials(&namespace, &secret.name).await.map_err(NoPlace::Trouble)?;
                self.open(location, &entries)?
            }
            Destination { .. } => return Err(RefuseDestination::Nowhere.into()),
        };
        let prefix = folder.url(store.location());
        let lane = self.archive.lanes.lane(store.endpoint());
        Ok(Place { store, folder, prefix, lane })
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
}

/// Leave to use a store, and the places for it, over all and at its endpoint.
pub(super) struct Entered<'a> {
    pub(super) pass: StorePass<'a>,
    /// How long the places were waited for.
    pub(super) waited: Duration,
    _at_endpoint: OwnedSemaphorePermit,
    _overall: SemaphorePermit<'a>,
}

impl Archive {
    /// Waits for the places that whoever stores or removes must have; none if the store is silent. The endpoint's own
    /// place comes first: whoever waits for that keeps nobody else waiting.
    pub(super) async fn enter(&self, place: &Place) -> Option<Entered<'_>> {
        let begun = Instant::now();
        let at_endpoint = Arc::clone(&place.lane.places).acquire_owned().await.ok()?;
        let pass = self.admit_to_store(place)?;
        let overall = self.places.acquire().await.ok()?;
        Some(Entered { pass, waited: begun.elapsed(), _at_endpoint: at_endpoint, _overall: overall })
    }

    /// Leave to use the store; none while it is silent for whoever asks, or for everybody.
    fn admit_to_store(&self, place: &Place) -> Option<StorePass<'_>> {
        self.breaker.admit(StoreUser {
            endpoint: place.store.endpoint().to_owned(),
            bucket: place.store.location().bucket().to_owned(),
            namespace: place.folder.namespace().to_owned(),
            credentials: place.store.credentials(),
        })
    }
}
