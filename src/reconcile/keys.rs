//! The keys of a resource, and the one to call the portal with: a session is asked with the key that created it, the
//! current one or the one from before a rotation. May depend on `reconciler` and `accounts`, and on `cluster` (Secrets) and
//! `portal` (keys).

use std::sync::Arc;

use super::{accounts::UsedKey, reconciler::Reconciler};
use crate::{
    api::{ApiKeySecretRef, SecretKeyRef, Session},
    cluster::{ReadSecret, Secrets},
    lifecycle::{KeyFault, KeyVersion},
    portal::{ApiKey, KeyIdentity},
};

/// The keys that were found in the Secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FoundKeys {
    /// The current one, if there is a usable one.
    pub(super) current: Option<KeyIdentity>,
    /// The one from before a rotation.
    pub(super) previous: PreviousKey,
}

/// The key from before a rotation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum PreviousKey {
    /// It is not looked for: the spec names none, or the current key created the session, or there is no session.
    #[default]
    NotNeeded,
    /// There is no usable one.
    Absent,
    /// This one.
    Usable(KeyIdentity),
}

/// The key to call with, or why there is none, and what it was chosen from.
#[derive(Debug)]
pub(super) struct ChosenKey {
    pub(super) key: Result<Arc<ApiKey>, KeyFault>,
    pub(super) version: KeyVersion,
    pub(super) found: FoundKeys,
}

impl ChosenKey {
    /// Chooses for a session with this fingerprint, if there is one. The previous key is given if it was looked for.
    fn of(
        current: Result<Arc<ApiKey>, KeyFault>,
        previous: Option<Result<Arc<ApiKey>, KeyFault>>,
        created: impl Fn(&ApiKey) -> bool,
    ) -> Self {
        let identity = |key: &Result<Arc<ApiKey>, KeyFault>| key.as_ref().ok().map(|key| key.identity());
        let found = FoundKeys {
            current: identity(&current),
            previous: match previous.as_ref().map(identity) {
                None => PreviousKey::NotNeeded,
                Some(None) => PreviousKey::Absent,
                Some(Some(identity)) => PreviousKey::Usable(identity),
            },
        };
        match previous {
            Some(Ok(previous)) if created(&previous) => {
                Self { key: Ok(previous), version: KeyVersion::Previous, found }
            }
            Some(_) | None => Self { key: current, version: KeyVersion::Current, found },
        }
    }

    /// The key as part of an account.
    pub(super) fn used(&self) -> Option<UsedKey> {
        let identity = self.key.as_ref().ok()?.identity();
        Some(UsedKey { identity, version: self.version })
    }
}

impl Reconciler {
    /// The key to call with: for a session that was recorded, the one whose fingerprint it has. If neither has it, or there
    /// is no session, the current one.
    pub(super) async fn choose_key(
        &self,
        namespace: &str,
        secret: &ApiKeySecretRef,
        (uid, session): (&str, Option<&Session>),
    ) -> Result<ChosenKey, ReadSecret> {
        let fingerprint = session.and_then(|session| session.key_fingerprint.as_deref());
        // A status from a backup was written for another resource, and so was its fingerprint.
        let uid = session.and_then(|session| session.uid.as_deref()).unwrap_or(uid);
        let created = |key: &ApiKey| fingerprint.is_some_and(|known| key.fingerprint(uid) == known);
        let previous = secret.previous().filter(|_| fingerprint.is_some());
        look_up(self.cluster.secrets(), namespace, (&secret.current(), previous.as_ref()), created).await
    }
}

/// Looks the keys up, the previous one only if the current one did not create the session.
async fn look_up(
    secrets: &Secrets,
    namespace: &str,
    (current_entry, previous_entry): (&SecretKeyRef, Option<&SecretKeyRef>),
    created: impl Fn(&ApiKey) -> bool,
) -> Result<ChosenKey, ReadSecret> {
    let did_create = |key: &Result<Arc<ApiKey>, KeyFault>| key.as_ref().is_ok_and(|key| created(key));
    let mut current = secrets.key(namespace, current_entry).await?;
    let Some(previous_entry) = previous_entry.filter(|_| !did_create(&current)) else {
        return Ok(ChosenKey::of(current, None, created));
    };
    let previous = secrets.key(namespace, previous_entry).await?;
    if !did_create(&previous) {
        // The Secret may have been read for that, and the keys may have changed places since the first look.
        current = secrets.key(namespace, current_entry).await?;
    }
    Ok(ChosenKey::of(current, Some(previous), created))
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
    use parking_lot::Mutex;
    use prometheus_client::metrics::counter::Counter;
    use serde_json::json;

    use super::*;
    use crate::cluster::test_client::client;

    fn key(text: &str) -> Arc<ApiKey> {
        Arc::new(ApiKey::parse(text.as_bytes()).unwrap())
    }

    fn identity(text: &str) -> KeyIdentity {
        key(text).identity()
    }

    #[test]
    fn a_session_is_asked_with_the_key_that_created_it_and_else_with_the_current_one() {
        let created_by = |name: &'static str| move |key: &ApiKey| key.identity() == identity(name);
        let both = || (Ok(key("new")), Some(Ok(key("old"))));
        let used = |(current, previous), created: &dyn Fn(&ApiKey) -> bool| {
            let chosen = ChosenKey::of(current, previous, created);
            (chosen.key.map(|key| key.identity()), chosen.version.is_previous())
        };
        assert_eq!(used(both(), &created_by("old")), (Ok(identity("old")), true));
        assert_eq!(used(both(), &created_by("older")), (Ok(identity("new")), false));
        assert_eq!(used((Ok(key("new")), None), &created_by("new")), (Ok(identity("new")), false));
        for fault in [KeyFault::KeyMissing, KeyFault::KeyEmpty, KeyFault::KeyMalformed] {
            let without_previous = (Ok(key("new")), Some(Err(fault)));
            assert_eq!(used(without_previous, &created_by("old")), (Ok(identity("new")), false));
            let without_current = || (Err(fault), Some(Ok(key("old"))));
            assert_eq!(used(without_current(), &created_by("old")), (Ok(identity("old")), true));
            assert_eq!(used(without_current(), &created_by("older")), (Err(fault), false));
        }
    }

    #[test]
    fn what_was_found_is_remembered_to_notice_another_key() {
        let found = |current, previous| ChosenKey::of(current, previous, |_: &ApiKey| false).found;
        let current = Some(identity("new"));
        let usable = PreviousKey::Usable(identity("old"));
        assert_eq!(found(Ok(key("new")), None), FoundKeys { current, previous: PreviousKey::NotNeeded });
        assert_eq!(found(Ok(key("new")), Some(Ok(key("old")))), FoundKeys { current, previous: usable });
        let absent = found(Err(KeyFault::KeyEmpty), Some(Err(KeyFault::KeyMissing)));
        assert_eq!(absent, FoundKeys { current: None, previous: PreviousKey::Absent });
    }

    #[tokio::test(start_paused = true)]
    async fn keys_that_change_places_between_two_looks_are_still_found() {
        let entries = Arc::new(Mutex::new(vec![("apiKey", "new")]));
        let served = Arc::clone(&entries);
        let client = client(move |_, _| {
            let data: serde_json::Map<_, _> = served
                .lock()
                .iter()
                .map(|(entry, value)| ((*entry).to_owned(), json!(BASE64.encode(value))))
                .collect();
            async move { (200, json!({"apiVersion": "v1", "kind": "Secret", "data": data})) }
        });
        let secrets = Secrets::new(client, Arc::default(), Counter::default());
        let entry = |key: &str| SecretKeyRef { name: "okid".to_owned(), key: key.to_owned() };
        let (current, previous) = (entry("apiKey"), entry("apiKeyOld"));
        secrets.key("kyc", &current).await.unwrap().unwrap();
        // The rotation is taken back. Only the look for the previous key reads the Secret again.
        *entries.lock() = vec![("apiKey", "old"), ("apiKeyOld", "new")];
        let created = |key: &ApiKey| key.identity() == identity("old");
        let chosen = look_up(&secrets, "kyc", (&current, Some(&previous)), created).await.unwrap();
        assert_eq!((chosen.key.unwrap().identity(), chosen.version), (identity("old"), KeyVersion::Current));
    }
}
