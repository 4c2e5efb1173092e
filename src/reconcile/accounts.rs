//! Who asks which portal: what live verifications share, each kept once.

use std::{collections::HashSet, sync::Arc};

use crate::{api::SecretKeyRef, portal::PortalUrl};
use parking_lot::Mutex;

/// A portal and the Secret with the key for it; the Secret lies in the namespace of who uses it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Account {
    /// Whom to ask.
    pub(crate) portal: PortalUrl,
    /// Where the key is.
    pub(crate) secret: SecretKeyRef,
}

/// Every account that a live verification uses.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    kept: Mutex<HashSet<Arc<Account>>>,
    portals: Mutex<HashSet<Arc<str>>>,
}

impl Accounts {
    /// The account, shared with all who use the same one.
    pub(crate) fn share(&self, account: Account) -> Arc<Account> {
        let mut kept = self.kept.lock();
        if let Some(shared) = kept.get(&account) {
            return Arc::clone(shared);
        }
        if kept.len() == kept.capacity() {
            kept.retain(|account| Arc::strong_count(account) > 1);
        }
        let shared = Arc::new(account);
        kept.insert(Arc::clone(&shared));
        shared
    }

    /// The URL of a portal, shared with all whose session lives there.
    pub(crate) fn portal(&self, url: &Arc<str>) -> Arc<str> {
        let mut kept = self.portals.lock();
        if let Some(shared) = kept.get(url) {
            return Arc::clone(shared);
        }
        if kept.len() == kept.capacity() {
            kept.retain(|url| Arc::strong_count(url) > 1);
        }
        kept.insert(Arc::clone(url));
        Arc::clone(url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::portal::AllowedPortals;

    #[test]
    fn an_account_is_kept_once_and_forgotten_when_nobody_uses_it() {
        let allowed = AllowedPortals::new(&["https://portal.test".to_owned()], false).unwrap();
        let portal = allowed.iter().next().unwrap();
        let account = |name: usize| Account {
            portal: portal.clone(),
            secret: SecretKeyRef { name: name.to_string(), key: "apiKey".to_owned() },
        };
        let accounts = Accounts::default();
        let first = accounts.share(account(0));
        assert!(Arc::ptr_eq(&first, &accounts.share(account(0))));
        for other in 1..100 {
            accounts.share(account(other));
        }
        assert!(Arc::ptr_eq(&first, &accounts.share(account(0))));
        assert!(accounts.kept.lock().len() < 20);
    }
}
