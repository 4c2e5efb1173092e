//! Resolves the destination that a verification names: a store of the administrator, or a URL with credentials of the
//! namespace. May depend on `context` and `destination`, and on `cluster` (Secrets) and `store`.

use std::{collections::BTreeMap, sync::Arc};

use kube::ResourceExt;

use super::{
    context::{Evidence, EvidenceContext},
    destination::{DestinationError, DestinationRefused, ResolvedDestination},
};
use crate::{
    api::{Destination, EvidenceSpec, Verification},
    cluster::ReadSecret,
    lifecycle::{EvidenceError, KeyFault},
    store::{Folder, InvalidOptions, Location, Options, RetryPolicy, Store},
};

impl EvidenceContext {
    /// Whether the operator's administrator allows these images to be stored.
    pub(super) fn permit(&self, spec: &EvidenceSpec) -> Result<(), DestinationRefused> {
        let forbidden = spec.images.iter().map(|image| image.kind).find(|kind| self.forbidden.contains(kind));
        forbidden.map_or(Ok(()), |kind| Err(DestinationRefused::Forbidden(kind)))
    }
}

impl Evidence {
    /// Why the destination is refused, as far as is known before anything is stored.
    pub(crate) async fn refuse_destination(&self, object: &Verification) -> Option<DestinationRefused> {
        let spec = object.spec.evidence.as_ref()?;
        if let Err(refusal) = self.context.permit(spec) {
            return Some(refusal);
        }
        match self.resolve(object, &spec.destination).await {
            Err(DestinationError::Refused(refusal)) => Some(refusal),
            // A Secret that does not exist yet may be created in time.
            Ok(_) | Err(DestinationError::Evidence(_)) => None,
        }
    }

    /// Resolves a destination; connects to no store.
    pub(super) async fn resolve(
        &self,
        object: &Verification,
        destination: &Destination,
    ) -> Result<ResolvedDestination, DestinationError> {
        let namespace = object.namespace().unwrap_or_default();
        let folder = Folder::new(&namespace, &object.name_any(), &object.uid().unwrap_or_default())?;
        let store = match destination {
            Destination { store: Some(name), .. } => self.context.stores.find(name, &namespace)?,
            Destination { url: Some(url), credentials_secret_ref: Some(secret), store: None } => {
                let location = Location::parse(url)?;
                let entries =
                    self.credentials(&namespace, &secret.name).await.map_err(DestinationError::Evidence)?;
                self.open(location, &entries)?
            }
            Destination { .. } => return Err(DestinationRefused::Nowhere.into()),
        };
        let prefix = folder.url(store.location());
        let endpoint_limit = self.context.limits.endpoint_limit(store.endpoint());
        Ok(ResolvedDestination { store, folder, prefix, endpoint_limit })
    }

    fn open(
        &self,
        location: Location,
        entries: &BTreeMap<String, Vec<u8>>,
    ) -> Result<Arc<Store>, InvalidOptions> {
        let entries = entries.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
        let options = Options::of_secret(location.scheme(), entries, &self.context.endpoints)?;
        Store::new(location, &options, &self.context.http, RetryPolicy::default()).map(Arc::new)
    }

    async fn credentials(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<BTreeMap<String, Vec<u8>>, EvidenceError> {
        match self.cluster.secrets().data(namespace, name).await {
            Ok(Ok(data)) => Ok(data),
            Ok(Err(KeyFault::SecretForbidden)) => Err(EvidenceError::StoreSecretForbidden),
            Ok(Err(
                KeyFault::SecretNotFound | KeyFault::KeyMissing | KeyFault::KeyEmpty | KeyFault::KeyMalformed,
            )) => Err(EvidenceError::StoreSecretNotFound),
            Err(ReadSecret) => Err(EvidenceError::StoreSecretUnread),
        }
    }
}
