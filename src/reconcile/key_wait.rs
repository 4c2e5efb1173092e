//! A verification that waits for a key reads only its Secret: the resource is neither read nor written until there is a
//! key. The load on the API server follows the number of Secrets, because each is read once for all. State only.

use std::sync::Arc;

use jiff::Timestamp;

use super::accounts::Account;
use crate::{
    cluster::{KeyLookup, ReadSecret},
    lifecycle::{KeyFault, SECRET_READ_AGAIN, missing_key_checked_at},
    portal::KeyIdentity,
    priority::Priority,
};

/// A key that the next call waits for, as long as the Secret is unchanged.
#[derive(Clone, Debug)]
pub(crate) struct KeyWait {
    pub(super) account: Arc<Account>,
    pub(super) awaited: Awaited,
    /// When something other than the key needs a reconcile.
    pub(super) until: Timestamp,
    pub(super) priority: Priority,
}

/// What is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaited {
    /// A usable key, or another fault than this one, which began then.
    Usable(KeyFault, Timestamp),
    /// A key other than the one that the portal refuses.
    AnotherThan(KeyIdentity),
}

impl KeyWait {
    /// When to read the Secret again if nothing has changed; `None` if it has, or if something else is due.
    pub(super) fn again(&self, found: &KeyLookup, now: Timestamp) -> Option<Timestamp> {
        if self.until <= now {
            return None;
        }
        let regular = |awaited| match awaited {
            Awaited::Usable(_, since) => missing_key_checked_at(since, now),
            Awaited::AnotherThan(_) => now.checked_add(SECRET_READ_AGAIN).unwrap_or(Timestamp::MAX),
        };
        let is_news = match (self.awaited, found) {
            (_, Err(ReadSecret)) => false,
            (Awaited::Usable(fault, _), Ok(Err(found))) => fault != *found,
            (Awaited::AnotherThan(refused), Ok(Ok(key))) => refused != key.identity(),
            (Awaited::Usable(_, _), Ok(Ok(_))) | (Awaited::AnotherThan(_), Ok(Err(_))) => true,
        };
        (!is_news).then(|| regular(self.awaited).min(self.until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::SecretKeyRef,
        portal::{AllowedPortals, ApiKey},
    };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn wait(awaited: Awaited) -> KeyWait {
        let allowed = AllowedPortals::new(&["https://portal.test".to_owned()], false).unwrap();
        let portal = allowed.iter().next().unwrap().clone();
        let secret = SecretKeyRef { name: "okid".to_owned(), key: "apiKey".to_owned() };
        let account = Arc::new(Account { portal, secret });
        KeyWait { account, awaited, until: at(3_600), priority: Priority::Create }
    }

    fn key(value: &str) -> Arc<ApiKey> {
        Arc::new(ApiKey::parse(value.as_bytes()).unwrap())
    }

    #[test]
    fn a_wait_for_a_key_ends_when_there_is_one_or_another_fault() {
        let wait = wait(Awaited::Usable(KeyFault::SecretNotFound, at(0)));
        let absent = Ok(Err(KeyFault::SecretNotFound));
        assert_eq!(wait.again(&absent, at(10)), Some(at(14)));
        assert_eq!(wait.again(&absent, at(700)), Some(at(760)));
        assert_eq!(wait.again(&absent, at(3_590)), Some(at(3_600)), "something else is due");
        assert_eq!(wait.again(&absent, at(3_600)), None);
        assert_eq!(wait.again(&Err(ReadSecret), at(10)), Some(at(14)), "unknown");
        assert_eq!(wait.again(&Ok(Err(KeyFault::KeyMissing)), at(10)), None);
        assert_eq!(wait.again(&Ok(Ok(key("good"))), at(10)), None);
    }

    #[test]
    fn a_wait_for_another_key_than_the_rejected_one_ends_when_the_secret_changes() {
        let wait = wait(Awaited::AnotherThan(key("refused").identity()));
        assert_eq!(wait.again(&Ok(Ok(key("refused"))), at(10)), Some(at(70)));
        assert_eq!(wait.again(&Ok(Ok(key("good"))), at(10)), None);
        assert_eq!(wait.again(&Ok(Err(KeyFault::SecretNotFound)), at(10)), None);
    }
}
