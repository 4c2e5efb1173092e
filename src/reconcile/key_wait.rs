//! Who waits for a key asks for its Secret and for nothing else: neither the resource is read nor anything written until
//! there is one. What that costs the API server follows the number of Secrets, because those are read once for all.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::Instant;

use super::{Reconciler, accounts::Account, fast_path::FastPath, observe::Observed};
use crate::{
    cluster::{Found, ReadSecret},
    index::RecordId,
    lifecycle::{
        Conclusion, Deadline, KeyFault, SECRET_READ_AGAIN, STALLED_AFTER, State, Step, Wait, key_sought_again,
    },
    portal::KeyIdentity,
    priority::Priority,
    workqueue::Disposition,
};

/// What keeps a verification from its next call, as long as its Secret stays as it is.
#[derive(Clone, Debug)]
pub(crate) struct KeyWait {
    /// Where the key is looked for.
    account: Arc<Account>,
    awaited: Awaited,
    /// When something else than the key asks for a whole turn.
    until: Timestamp,
    priority: Priority,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    /// A usable key, or another fault than this one, which lasts since then.
    Usable(KeyFault, Timestamp),
    /// Another key than the one that the portal refuses.
    AnotherThan(KeyIdentity),
}

impl KeyWait {
    /// When to look again, if what was found is no news; nothing, if it is, or if something else than a key is due.
    fn again(&self, found: &Found, now: Timestamp) -> Option<Timestamp> {
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

impl Reconciler {
    /// What the next turn has to find in the Secret before it reads anything else, if it is a key that is waited for.
    pub(crate) fn key_wait(
        &self,
        step: &Step,
        state: &State,
        observed: &Observed,
        conclusion: &Conclusion,
    ) -> Option<KeyWait> {
        let Observed { facts, account, key, budget: _, since: _ } = observed;
        let Step::Wait(wait) = step else { return None };
        let Deadline::Ahead(deadline) = facts.deadline else { return None };
        let now = facts.now;
        let refused = || Some(Awaited::AnotherThan(key.as_deref()?.identity()));
        let local_state = &conclusion.local_state;
        let (awaited, until) = match wait {
            Wait::Key(fault) => {
                (Awaited::Usable(*fault, local_state.key_missing.unwrap_or(now)), Timestamp::MAX)
            }
            Wait::KeyRejected(until) => (refused()?, *until),
            Wait::Due(at) if local_state.refused_key.is_some() => (refused()?, *at),
            Wait::Due(_) | Wait::Paused(_) | Wait::Breaker(_) | Wait::Rate(_) | Wait::InFlight(_) => {
                return None;
            }
        };
        // What is refused is shown as Stalled after a grace.
        let grace = local_state
            .blocker_kind
            .and_then(|blocker_kind| blocker_kind.since.checked_add(STALLED_AFTER).ok());
        let grace = grace.filter(|end| *end > now).unwrap_or(Timestamp::MAX);
        let end = match state {
            // What is owed of the evidence is given up after a while.
            State::Finished(_) => {
                now.checked_add(jiff::SignedDuration::from_hours(1)).unwrap_or(Timestamp::MAX)
            }
            State::Fresh
            | State::Claimed
            | State::Refused
            | State::OutcomeUnknown
            | State::Open { .. }
            | State::Settled
            | State::Inconsistent(_) => deadline,
        };
        let account = self.accounts.share(account.clone()?);
        let until = until.min(grace).min(end);
        Some(KeyWait { account, awaited, until, priority: conclusion.priority })
    }

    /// Asks for the Secret of one that waits for its key; nothing, if no key is what it waits for.
    pub(crate) async fn await_key(&self, record_id: RecordId) -> Option<FastPath> {
        let (namespace, wait, fairness_key) = {
            let index = self.index();
            let view = index.view(record_id).filter(|view| !view.deleting && !view.leaving)?;
            (view.namespace.to_owned(), view.payload.key_wait()?.clone(), view.payload.fairness_key)
        };
        let found = self.secrets.key(&namespace, &wait.account.secret).await;
        let again = wait.again(&found, self.clock.now());
        Some(again.map_or(FastPath::Reconcile(None), |again| {
            let when = self.clock.instant(again).max(Instant::now());
            FastPath::Nothing(Disposition::At(when, wait.priority, fairness_key))
        }))
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
