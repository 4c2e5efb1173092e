//! The portals and Secret keys of live verifications, each stored once and shared. State only.

use std::{collections::HashSet, sync::Arc};

use parking_lot::Mutex;

use crate::{
    api::{ApiKeySecretRef, SecretKeyRef},
    lifecycle::KeyVersion,
    portal::{KeyIdentity, PortalUrl},
};

/// A portal, and the entries of the Secret with the keys for it, in the namespace of the verification.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Account {
    pub(crate) portal: PortalUrl,
    /// The entry with the key that sessions are created with.
    pub(super) current: SecretKeyRef,
    /// The entry with the key from before a rotation.
    pub(super) previous: Option<SecretKeyRef>,
    /// The key that the portal is called with, if there is one.
    used: Option<UsedKey>,
}

/// The key that the portal is called with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct UsedKey {
    pub(super) identity: KeyIdentity,
    pub(super) version: KeyVersion,
}

impl Account {
    /// The account of a resource that names this Secret.
    pub(super) fn new(portal: PortalUrl, secret: &ApiKeySecretRef, used: Option<UsedKey>) -> Self {
        Self { portal, current: secret.current(), previous: secret.previous(), used }
    }

    /// The entry with the key that the portal is called with, and that key.
    pub(super) fn used(&self) -> Option<(&SecretKeyRef, KeyIdentity)> {
        let UsedKey { identity, version } = self.used?;
        let entry = match version {
            KeyVersion::Current => &self.current,
            KeyVersion::Previous => self.previous.as_ref()?,
        };
        Some((entry, identity))
    }
}

/// Every account that a live verification uses.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    accounts: Mutex<HashSet<Arc<Account>>>,
    portals: Mutex<HashSet<Arc<str>>>,
}

impl Accounts {
    /// The account, shared by all verifications that use it.
    pub(crate) fn share(&self, account: Account) -> Arc<Account> {
        let mut known = self.accounts.lock();
        if let Some(shared) = known.get(&account) {
            return Arc::clone(shared);
        }
        if known.len() == known.capacity() {
            known.retain(|account| Arc::strong_count(account) > 1);
        }
        let shared = Arc::new(account);
        known.insert(Arc::clone(&shared));
        shared
    }

    /// The URL of a portal, shared by all verifications with a session there.
    pub(crate) fn portal(&self, url: &Arc<str>) -> Arc<str> {
        let mut known = self.portals.lock();
        if let Some(shared) = known.get(url) {
            return Arc::clone(shared);
        }
        if known.len() == known.capacity() {
            known.retain(|url| Arc::strong_count(url) > 1);
        }
        known.insert(Arc::clone(url));
        Arc::clone(url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::portal::AllowedPortals;

    #[test]
    fn an_account_is_held_once_and_forgotten_when_it_is_unused() {
        let allowed = AllowedPortals::new(&["https://portal.test".to_owned()], false).unwrap();
        let portal = allowed.iter().next().unwrap();
        let account = |name: usize| {
            let secret =
                ApiKeySecretRef { name: name.to_string(), key: "apiKey".to_owned(), previous_key: None };
            Account::new(portal.clone(), &secret, None)
        };
        let accounts = Accounts::default();
        let first = accounts.share(account(0));
        assert!(Arc::ptr_eq(&first, &accounts.share(account(0))));
        for other in 1..100 {
            accounts.share(account(other));
        }
        assert!(Arc::ptr_eq(&first, &accounts.share(account(0))));
        assert!(accounts.accounts.lock().len() < 20);
    }
}
