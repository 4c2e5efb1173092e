//! Where the evidence of a verification is kept.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use kube::ResourceExt;
use tokio::time::{Instant, timeout};

use super::{batch::EvidenceContext, limits::EndpointLimit};
use crate::{
    api::{Destination, ImageKind, Verification},
    fairness::{FairnessKey, Permit},
    lifecycle::EvidenceError,
    reconcile::Reconciler,
    store::{
        Folder, InvalidLocation, InvalidOptions, InvalidPath, Location, NotForNamespace, Options,
        RetryPolicy, Store, StorePass, StoreUser,
    },
};

/// Where the evidence of one verification is kept.
pub(crate) struct ResolvedDestination {
    pub(crate) store: Arc<Store>,
    pub(crate) folder: Folder,
    /// The folder as a url.
    pub(crate) prefix: String,
    /// What its endpoint may take.
    pub(crate) endpoint_limit: Arc<EndpointLimit>,
}

impl ResolvedDestination {
    /// Names it within this process.
    pub(crate) fn name(&self) -> String {
        format!("{}\n{}", self.store.endpoint(), self.prefix)
    }
}

/// Why there is no place for evidence.
pub(crate) enum DestinationError {
    /// It may not be kept as asked; only a person can change that.
    Refused(DestinationRefused),
    /// PortalError that may end by itself.
    Evidence(EvidenceError),
}

/// Why evidence may not be kept as asked. Repeats no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DestinationRefused {
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

impl<T: Into<DestinationRefused>> From<T> for DestinationError {
    fn from(refusal: T) -> Self {
        Self::Refused(refusal.into())
    }
}

impl Reconciler {
    /// Why evidence may not be kept where it was asked to be, as far as is known before anything is stored.
    pub(crate) async fn refuse_destination(&self, object: &Verification) -> Option<DestinationRefused> {
        let spec = object.spec.evidence.as_ref()?;
        if let Err(refusal) = self.evidence.permit(spec) {
            return Some(refusal);
        }
        match self.place(object, &spec.destination).await {
            Err(DestinationError::Refused(refusal)) => Some(refusal),
            // A Secret that is not there yet may come in time.
            Ok(_) | Err(DestinationError::Evidence(_)) => None,
        }
    }

    /// Opens the place; connects to no store.
    pub(crate) async fn place(
        &self,
        object: &Verification,
        destination: &Destination,
    ) -> Result<ResolvedDestination, DestinationError> {
        let namespace = object.namespace().unwrap_or_default();
        let folder = Folder::new(&namespace, &object.name_any(), &object.uid().unwrap_or_default())?;
        let store = match destination {
            Destination { store: Some(name), .. } => self.evidence.stores.find(name, &namespace)?,
            Destination { url: Some(url), credentials_secret_ref: Some(secret), store: None } => {
                let location = Location::parse(url)?;
                let entries =
                    self.credentials(&namespace, &secret.name).await.map_err(DestinationError::Evidence)?;
                self.open(location, &entries)?
            }
            Destination { .. } => return Err(DestinationRefused::Nowhere.into()),
        };
        let prefix = folder.url(store.location());
        let endpoint_limit = self.evidence.limits.endpoint_limit(store.endpoint());
        Ok(ResolvedDestination { store, folder, prefix, endpoint_limit })
    }

    fn open(
        &self,
        location: Location,
        entries: &BTreeMap<String, Vec<u8>>,
    ) -> Result<Arc<Store>, InvalidOptions> {
        let entries = entries.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
        let options = Options::of_secret(location.scheme(), entries, &self.evidence.endpoints)?;
        Store::new(location, &options, &self.evidence.http, RetryPolicy::default()).map(Arc::new)
    }

    async fn credentials(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<BTreeMap<String, Vec<u8>>, EvidenceError> {
        match self.secrets.data(namespace, name).await {
            Ok(Ok(data)) => Ok(data),
            Ok(Err(_)) => Err(EvidenceError::AccessDenied),
            Err(_) => Err(EvidenceError::StoreUnavailable),
        }
    }
}

/// Leave to use a store, and the places for it, over all and at its endpoint.
pub(crate) struct StoreAccess<'a> {
    pub(crate) pass: StorePass<'a>,
    /// How long the places were waited for.
    pub(crate) waited: Duration,
    _at_endpoint: Permit,
    _overall: Permit,
}

impl EvidenceContext {
    /// Waits for the places that whoever stores or removes must have; none if the store is silent. The endpoint's own
    /// place comes first: whoever waits for that keeps nobody else waiting. Namespaces take turns at both.
    pub(crate) async fn enter(&self, place: &ResolvedDestination) -> Option<StoreAccess<'_>> {
        let begun = Instant::now();
        let whose = FairnessKey::of_namespace(place.folder.namespace());
        let at_endpoint = place.endpoint_limit.places.acquire(whose, 0).await;
        let pass = self.admit_to_store(place)?;
        let overall = self.places.acquire(whose, 0).await;
        Some(StoreAccess { pass, waited: begun.elapsed(), _at_endpoint: at_endpoint, _overall: overall })
    }

    /// As [`enter`](Self::enter), for no longer than that; none also if the places do not come in that time.
    pub(crate) async fn enter_within(
        &self,
        place: &ResolvedDestination,
        longest: Duration,
    ) -> Option<StoreAccess<'_>> {
        timeout(longest, self.enter(place)).await.ok().flatten()
    }

    /// Leave to use the store; none while it is silent for whoever asks, or for everybody.
    fn admit_to_store(&self, place: &ResolvedDestination) -> Option<StorePass<'_>> {
        self.breaker.admit(StoreUser {
            endpoint: place.store.endpoint().to_owned(),
            bucket: place.store.location().bucket().to_owned(),
            namespace: place.folder.namespace().to_owned(),
            credentials: place.store.credentials(),
        })
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use crate::{
        store::{Endpoints, HttpSettings, StoreHttp, Stores},
        tls::client_config,
    };

    use super::*;

    fn archive() -> EvidenceContext {
        let http = StoreHttp::new(&HttpSettings::default(), client_config(None).unwrap()).unwrap();
        EvidenceContext::new(Stores::default(), Endpoints::new::<&str>(&[]).unwrap(), http, vec![])
    }

    fn place(archive: &EvidenceContext, namespace: &str) -> ResolvedDestination {
        let folder = Folder::new(namespace, "alice", "0b1e6d5c-7c0e-4b0e-9d57-1f6a8e7f2a10").unwrap();
        let location = Location::parse("file:///evidence").unwrap();
        let options = Options::of_administrator(location.scheme(), [], &[]).unwrap();
        let store = Arc::new(Store::new(location, &options, &archive.http, RetryPolicy::default()).unwrap());
        let endpoint_limit = archive.limits.endpoint_limit(store.endpoint());
        ResolvedDestination { prefix: folder.url(store.location()), store, folder, endpoint_limit }
    }

    #[tokio::test(start_paused = true)]
    async fn who_gets_no_place_in_time_goes_and_another_namespace_finds_one() {
        let archive = archive();
        let (crowded, other) = (place(&archive, "team-a"), place(&archive, "team-b"));
        let held: Vec<_> =
            (0..100).filter_map(|_| archive.enter(&crowded).now_or_never().flatten()).collect();
        assert!(!held.is_empty() && held.len() < 100);
        let minute = Duration::from_mins(1);
        assert!(archive.enter_within(&crowded, minute).await.is_none());
        assert!(archive.enter_within(&other, minute).await.is_some());
    }
}
