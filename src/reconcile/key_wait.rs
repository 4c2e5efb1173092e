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
    /// What is awaited of the entry with the current key.
    pub(super) awaited: Awaited,
    /// What is awaited of the entry with the key from before a rotation, if the session may need that.
    pub(super) previous: Option<Awaited>,
    /// When something other than the key needs a reconcile.
    pub(super) until: Timestamp,
    pub(super) priority: Priority,
}

/// What is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaited {
    /// A usable key, or another fault than this one, which began then.
    Usable(KeyFault, Timestamp),
    /// A key other than this one, which the portal refuses or which did not create the session; any key, if there was
    /// none.
    AnotherThan(Option<KeyIdentity>),
}

impl KeyWait {
    /// When to read the Secret again if nothing has changed; `None` if it has, or if something else is due. The previous key
    /// is given if it is awaited.
    pub(super) fn again(
        &self,
        found: &KeyLookup,
        previous: Option<&KeyLookup>,
        now: Timestamp,
    ) -> Option<Timestamp> {
        if self.until <= now {
            return None;
        }
        let regular = |awaited| match awaited {
            Awaited::Usable(_, since) => missing_key_checked_at(since, now),
            Awaited::AnotherThan(_) => now.checked_add(SECRET_READ_AGAIN).unwrap_or(Timestamp::MAX),
        };
        let is_news = self.awaited.is_news(found)
            || self.previous.zip(previous).is_some_and(|(awaited, found)| awaited.is_news(found));
        (!is_news).then(|| regular(self.awaited).min(self.until))
    }
}

impl Awaited {
    /// Whether what was found may be what is awaited.
    fn is_news(self, found: &KeyLookup) -> bool {
        match (self, found) {
            (_, Err(ReadSecret)) => false,
            (Self::Usable(fault, _), Ok(Err(found))) => fault != *found,
            (Self::Usable(_, _), Ok(Ok(_))) => true,
            (Self::AnotherThan(known), Ok(found)) => known != found.as_ref().ok().map(|key| key.identity()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::ApiKeySecretRef,
        portal::{AllowedPortals, ApiKey},
    };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn wait(awaited: Awaited) -> KeyWait {
        let allowed = AllowedPortals::new(&["https://portal.test".to_owned()], false).unwrap();
        let portal = allowed.iter().next().unwrap().clone();
        let secret = ApiKeySecretRef {
            name: "okid".to_owned(),
            key: "apiKey".to_owned(),
            previous_key: Some("apiKeyOld".to_owned()),
        };
        let account = Arc::new(Account::new(portal, &secret, None));
        KeyWait { account, awaited, previous: None, until: at(3_600), priority: Priority::Create }
    }

    fn key(value: &str) -> Arc<ApiKey> {
        Arc::new(ApiKey::parse(value.as_bytes()).unwrap())
    }

    #[test]
    fn a_wait_for_a_key_ends_when_there_is_one_or_another_fault() {
        let wait = wait(Awaited::Usable(KeyFault::SecretNotFound, at(0)));
        let absent = Ok(Err(KeyFault::SecretNotFound));
        assert_eq!(wait.again(&absent, None, at(10)), Some(at(14)));
        assert_eq!(wait.again(&absent, None, at(700)), Some(at(760)));
        assert_eq!(wait.again(&absent, None, at(3_590)), Some(at(3_600)), "something else is due");
        assert_eq!(wait.again(&absent, None, at(3_600)), None);
        assert_eq!(wait.again(&Err(ReadSecret), None, at(10)), Some(at(14)), "unknown");
        assert_eq!(wait.again(&Ok(Err(KeyFault::KeyMissing)), None, at(10)), None);
        assert_eq!(wait.again(&Ok(Ok(key("good"))), None, at(10)), None);
    }

    #[test]
    fn a_wait_for_another_key_than_the_rejected_one_ends_when_the_secret_changes() {
        let wait = wait(Awaited::AnotherThan(Some(key("refused").identity())));
        assert_eq!(wait.again(&Ok(Ok(key("refused"))), None, at(10)), Some(at(70)));
        assert_eq!(wait.again(&Ok(Ok(key("good"))), None, at(10)), None);
        assert_eq!(wait.again(&Ok(Err(KeyFault::SecretNotFound)), None, at(10)), None);
    }

    #[test]
    fn a_wait_ends_when_the_secret_has_another_previous_key() {
        let identity = |value| Some(key(value).identity());
        let refused = Ok(Ok(key("new")));
        let wait = |previous| KeyWait { previous, ..wait(Awaited::AnotherThan(identity("new"))) };
        let again = |wait: &KeyWait, previous: KeyLookup| wait.again(&refused, Some(&previous), at(10));

        let without = wait(Some(Awaited::AnotherThan(None)));
        for fault in [KeyFault::KeyMissing, KeyFault::KeyEmpty] {
            assert_eq!(again(&without, Ok(Err(fault))), Some(at(70)), "there is still none");
        }
        assert_eq!(again(&without, Err(ReadSecret)), Some(at(70)), "unknown");
        assert_eq!(again(&without, Ok(Ok(key("old")))), None);

        let with = wait(Some(Awaited::AnotherThan(identity("old"))));
        assert_eq!(again(&with, Ok(Ok(key("old")))), Some(at(70)));
        assert_eq!(again(&with, Ok(Ok(key("older")))), None);
        assert_eq!(again(&with, Ok(Err(KeyFault::KeyMissing))), None);
        assert_eq!(again(&wait(None), Ok(Ok(key("old")))), Some(at(70)), "it is not needed");
    }
}
