//! The verifications that wait for the portal's first response to a new key, and are woken when it arrives. State only.

use std::collections::{HashMap, hash_map::Entry};

use crate::{
    fairness::FairnessKey,
    index::RecordId,
    portal::{KeyIdentity, PortalError, PortalUrl},
};
use parking_lot::Mutex;

/// Maximum number of verifications that wait.
const MOST: usize = 50_000;

/// The verifications that wait, by portal and key, each with its fairness key.
#[derive(Debug, Default)]
pub(crate) struct FirstResponses(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    by_key: HashMap<(PortalUrl, KeyIdentity), HashMap<RecordId, FairnessKey>>,
    /// Their number, for all keys.
    number: usize,
}

impl FirstResponses {
    /// Adds a verification. The caller then checks whether the response is still awaited, and removes it if not. If
    /// there are too many, the earlier ones are forgotten and reconciled by their schedule.
    pub(crate) fn join(
        &self,
        portal: &PortalUrl,
        key: KeyIdentity,
        record_id: RecordId,
        fairness_key: FairnessKey,
    ) {
        let mut waiting = self.0.lock();
        if waiting.number >= MOST {
            *waiting = Waiting::default();
        }
        let of_key = waiting.by_key.entry((portal.clone(), key)).or_default();
        if of_key.insert(record_id, fairness_key).is_none() {
            waiting.number += 1;
        }
    }

    /// Removes a verification.
    pub(crate) fn leave(&self, portal: &PortalUrl, key: KeyIdentity, record_id: RecordId) {
        let mut waiting = self.0.lock();
        if let Entry::Occupied(mut of_key) = waiting.by_key.entry((portal.clone(), key)) {
            let was_there = of_key.get_mut().remove(&record_id).is_some();
            if of_key.get().is_empty() {
                of_key.remove();
            }
            waiting.number -= usize::from(was_there);
        }
    }

    /// Removes all that wait for this key, and returns those whose wait the answer ends. Without a response, or with a
    /// rejected key, none are returned: they are reconciled by their schedule, one after another, and join again.
    pub(crate) fn woken_by<T>(
        &self,
        portal: &PortalUrl,
        key: KeyIdentity,
        answer: &Result<T, PortalError>,
    ) -> HashMap<RecordId, FairnessKey> {
        let accepts_the_key = match answer {
            Ok(_) | Err(PortalError::Invalid | PortalError::NotFound | PortalError::Conflict) => true,
            Err(
                PortalError::NotSent(_)
                | PortalError::KeyRejected
                | PortalError::AccessDenied
                | PortalError::Redirected
                | PortalError::Unconfigured
                | PortalError::Limited { retry_after: _ }
                | PortalError::Unclear { status: _ }
                | PortalError::Failed(_),
            ) => false,
        };
        let mut waiting = self.0.lock();
        if waiting.by_key.is_empty() {
            return HashMap::new();
        }
        let ended = waiting.by_key.remove(&(portal.clone(), key)).unwrap_or_default();
        waiting.number -= ended.len();
        if accepts_the_key { ended } else { HashMap::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        index::Index,
        portal::{AllowedPortals, ApiKey, Failed},
    };

    fn record_id(index: &mut Index<()>, name: &str) -> RecordId {
        let meta = kube::core::ObjectMeta {
            name: Some(name.to_owned()),
            uid: Some(name.to_owned()),
            ..kube::core::ObjectMeta::default()
        };
        index.applied(&meta, |_| ()).record_id()
    }

    fn portal() -> PortalUrl {
        let allowed = AllowedPortals::new(&["https://portal.test".to_owned()], false).unwrap();
        allowed.iter().next().unwrap().clone()
    }

    fn key(text: &str) -> KeyIdentity {
        ApiKey::parse(text.as_bytes()).unwrap().identity()
    }

    fn number(waiters: &FirstResponses) -> (usize, usize) {
        let waiting = waiters.0.lock();
        assert_eq!(waiting.number, waiting.by_key.values().map(HashMap::len).sum::<usize>());
        (waiting.by_key.len(), waiting.number)
    }

    #[test]
    fn an_answer_that_accepts_the_key_wakes_all_that_wait_for_that_key_once() {
        let (portal, fairness_key) = (&portal(), FairnessKey::of_namespace("kyc"));
        let (waiters, mut index) = (FirstResponses::default(), Index::new());
        let record_ids = ["a", "b", "c"].map(|name| record_id(&mut index, name));
        waiters.join(portal, key("one"), record_ids[0], fairness_key);
        waiters.join(portal, key("one"), record_ids[1], fairness_key);
        waiters.join(portal, key("one"), record_ids[1], fairness_key);
        waiters.join(portal, key("two"), record_ids[2], fairness_key);
        assert_eq!(waiters.woken_by(portal, key("one"), &Ok(())).len(), 2);
        assert!(waiters.woken_by(portal, key("one"), &Ok(())).is_empty());
        assert!(waiters.woken_by(portal, key("two"), &Ok(())).contains_key(&record_ids[2]));
    }

    #[test]
    fn an_answer_that_does_not_accept_the_key_wakes_none_and_leaves_none_waiting() {
        let (portal, fairness_key) = (&portal(), FairnessKey::of_namespace("kyc"));
        let (waiters, mut index) = (FirstResponses::default(), Index::new());
        let record_id = record_id(&mut index, "a");
        for error in
            [PortalError::Failed(Failed::TimedOut), PortalError::KeyRejected, PortalError::AccessDenied]
        {
            waiters.join(portal, key("one"), record_id, fairness_key);
            assert!(waiters.woken_by(portal, key("one"), &Err::<(), _>(error)).is_empty());
            assert_eq!(number(&waiters), (0, 0));
        }
        waiters.join(portal, key("one"), record_id, fairness_key);
        waiters.leave(portal, key("one"), record_id);
        waiters.leave(portal, key("one"), record_id);
        assert_eq!(number(&waiters), (0, 0));
    }

    #[test]
    fn verifications_that_wait_for_a_response_that_never_arrives_are_bounded() {
        let (portal, fairness_key) = (&portal(), FairnessKey::of_namespace("kyc"));
        let (waiters, mut index) = (FirstResponses::default(), Index::new());
        let record_id = record_id(&mut index, "a");
        for number in 0..=MOST {
            waiters.join(portal, key(&format!("key-{number}")), record_id, fairness_key);
        }
        assert_eq!(number(&waiters), (1, 1));
        assert!(waiters.woken_by(portal, key(&format!("key-{MOST}")), &Ok(())).contains_key(&record_id));
    }
}
