//! Who waits for a key asks for its Secret and for nothing else: neither the resource is read nor anything written until
//! there is one. What that costs the API server follows the number of Secrets, because those are read once for all.

use std::sync::Arc;

use jiff::Timestamp;

use super::accounts::Account;
use crate::{
    cluster::{Found, ReadSecret},
    lifecycle::{KeyFault, SECRET_READ_AGAIN, key_sought_again},
    portal::KeyIdentity,
    priority::Priority,
};

/// What keeps a verification from its next call, as long as its Secret stays as it is.
#[derive(Clone, Debug)]
pub(crate) struct KeyWait {
    /// Where the key is looked for.
    pub(super) account: Arc<Account>,
    pub(super) awaited: Awaited,
    /// When something else than the key asks for a whole turn.
    pub(super) until: Timestamp,
    pub(super) priority: Priority,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaited {
    /// A usable key, or another fault than this one, which lasts since then.
    Usable(KeyFault, Timestamp),
    /// Another key than the one that the portal refuses.
    AnotherThan(KeyIdentity),
}

impl KeyWait {
    /// When to look again, if what was found is no news; nothing, if it is, or if something else than a key is due.
    pub(super) fn again(&self, found: &Found, now: Timestamp) -> Option<Timestamp> {
        if self.until <= now {
            return None;
        }
        let regular = |awaited| match awaited {
            Awaited::Usable(_, since) => key_sought_again(since, now),
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
    fn who_waits_for_a_key_goes_on_when_there_is_one_or_another_fault_and_looks_again_until_then() {
        let wait = wait(Awaited::Usable(KeyFault::SecretNotFound, at(0)));
        let absent = Ok(Err(KeyFault::SecretNotFound));
        assert_eq!(wait.again(&absent, at(10)), Some(at(14)));
        assert_eq!(wait.again(&absent, at(700)), Some(at(760)));
        assert_eq!(wait.again(&absent, at(3_590)), Some(at(3_600)), "something else is due then");
        assert_eq!(wait.again(&absent, at(3_600)), None);
        assert_eq!(wait.again(&Err(ReadSecret), at(10)), Some(at(14)), "nobody knows");
        assert_eq!(wait.again(&Ok(Err(KeyFault::KeyMissing)), at(10)), None);
        assert_eq!(wait.again(&Ok(Ok(key("good"))), at(10)), None);
    }

    #[test]
    fn who_waits_for_another_key_than_the_refused_one_goes_on_when_the_secret_changes() {
        let wait = wait(Awaited::AnotherThan(key("refused").identity()));
        assert_eq!(wait.again(&Ok(Ok(key("refused"))), at(10)), Some(at(70)));
        assert_eq!(wait.again(&Ok(Ok(key("good"))), at(10)), None);
        assert_eq!(wait.again(&Ok(Err(KeyFault::SecretNotFound)), at(10)), None);
    }
}
