//! Which verification sends a probe when, while creates wait for a portal. State only.
//!
//! Several of them are chosen, one after another, because a single one might be deleted.

use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    index::RecordId,
    portal::{
        KeyIdentity, PortalUrl,
        budget::{PROBE_INTERVAL, ProbeWindow},
    },
};

/// Maximum number of verifications with a slot; the others come back when the window closes.
const MOST: usize = 10_000;
/// So many of each portal and key have a slot in any case, so that those of one namespace's keys do not take all.
const OF_EACH: usize = 4;

/// The portal and the key whose creates wait.
type Caller = (PortalUrl, KeyIdentity);

/// The verifications that are to send a probe, each at its own time.
#[derive(Debug, Default)]
pub(crate) struct ProbeSlots(Mutex<Slots>);

#[derive(Debug, Default)]
struct Slots {
    by_caller: HashMap<Caller, BTreeMap<Instant, RecordId>>,
    by_record: HashMap<RecordId, (Caller, Instant)>,
}

impl ProbeSlots {
    /// When that verification is to send a probe; `None` if others hold all slots of the window. It keeps its slot
    /// until that time, however often it is reconciled before.
    pub(super) fn assign(
        &self,
        record_id: RecordId,
        caller: Caller,
        window: ProbeWindow,
        now: Instant,
    ) -> Option<Instant> {
        let mut slots = self.0.lock();
        if let Some((held_by, slot)) = slots.by_record.get(&record_id)
            && (*held_by == caller && *slot > now && *slot < window.closes)
        {
            return Some(*slot);
        }
        slots.release(record_id);
        slots.release_past(&caller, now);
        let of_caller = slots.by_caller.get(&caller).map_or(0, BTreeMap::len);
        if slots.by_record.len() >= MOST && of_caller >= OF_EACH {
            return None;
        }
        let mut slot = window.opens.max(now);
        for taken in slots.by_caller.get(&caller).into_iter().flat_map(BTreeMap::keys) {
            if slot + PROBE_INTERVAL <= *taken {
                break;
            }
            slot = slot.max(*taken + PROBE_INTERVAL);
        }
        if slot >= window.closes {
            return None;
        }
        slots.by_caller.entry(caller.clone()).or_default().insert(slot, record_id);
        slots.by_record.insert(record_id, (caller, slot));
        Some(slot)
    }

    /// Releases the slot of a verification that is gone, or whose create no longer waits.
    pub(super) fn release(&self, record_id: RecordId) {
        self.0.lock().release(record_id);
    }
}

impl Slots {
    fn release(&mut self, record_id: RecordId) {
        let Some((caller, slot)) = self.by_record.remove(&record_id) else { return };
        if let Some(taken) = self.by_caller.get_mut(&caller) {
            taken.remove(&slot);
            if taken.is_empty() {
                self.by_caller.remove(&caller);
            }
        }
    }

    fn release_past(&mut self, caller: &Caller, now: Instant) {
        while let Some((slot, record_id)) = self.by_caller.get(caller).and_then(BTreeMap::first_key_value)
            && *slot <= now
        {
            let record_id = *record_id;
            self.release(record_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::portal::{AllowedPortals, ApiKey};

    fn record_id(index: u32) -> RecordId {
        RecordId { index, tag: 0 }
    }

    fn caller(key: &str) -> Caller {
        let allowed = AllowedPortals::new(["https://portal.test"], false).unwrap();
        let key = ApiKey::parse(key.as_bytes()).unwrap();
        (allowed.iter().next().unwrap().clone(), key.identity())
    }

    /// A breaker that opened at that time for eight minutes.
    fn window(start: Instant) -> ProbeWindow {
        ProbeWindow { opens: start + PROBE_INTERVAL, closes: start + Duration::from_mins(8) }
    }

    /// The same after a probe.
    fn window_after(start: Instant, probe: Instant) -> ProbeWindow {
        ProbeWindow { opens: probe + PROBE_INTERVAL, ..window(start) }
    }

    #[test]
    fn verifications_come_one_after_another_to_send_a_probe_until_the_window_closes() {
        let (slots, caller, start) = (ProbeSlots::default(), caller("one"), Instant::now());
        for number in 1..16 {
            let slot = slots.assign(record_id(number), caller.clone(), window(start), start);
            assert_eq!(slot, Some(start + PROBE_INTERVAL * number));
        }
        assert_eq!(slots.assign(record_id(16), caller, window(start), start), None);
    }

    #[test]
    fn a_verification_that_is_refused_again_and_again_keeps_its_slot() {
        let (slots, caller, start) = (ProbeSlots::default(), caller("one"), Instant::now());
        let assign = |number, window, now| slots.assign(record_id(number), caller.clone(), window, now);
        let slot = |number| Some(start + PROBE_INTERVAL * number);
        for second in 0..30 {
            let now = start + Duration::from_secs(second);
            assert_eq!(assign(1, window(start), now), slot(1), "second {second}");
            assert_eq!(assign(2, window(start), now), slot(2), "second {second}");
        }
        // Its time has come, and it takes the next free slot.
        let now = start + PROBE_INTERVAL;
        assert_eq!(assign(1, window_after(start, now), now), slot(3));
        assert_eq!(assign(2, window_after(start, now), now), slot(2));
    }

    #[test]
    fn the_slot_of_a_verification_that_is_gone_is_free_for_the_next() {
        let (slots, caller, start) = (ProbeSlots::default(), caller("one"), Instant::now());
        let assign = |number| slots.assign(record_id(number), caller.clone(), window(start), start).unwrap();
        let first: Vec<_> = (1..=5).map(assign).collect();
        for number in 1..=5 {
            slots.release(record_id(number));
            slots.release(record_id(number));
        }
        assert!(slots.0.lock().by_caller.is_empty() && slots.0.lock().by_record.is_empty());
        let second: Vec<_> = (11..=15).map(assign).collect();
        assert_eq!(first, second);
        slots.release(record_id(12));
        assert_eq!(assign(20), start + PROBE_INTERVAL * 2, "between two others");
    }

    #[test]
    fn a_probe_is_sent_even_if_those_that_should_send_it_are_gone() {
        let (slots, caller, start) = (ProbeSlots::default(), caller("one"), Instant::now());
        let assign = |number, window, now| slots.assign(record_id(number), caller.clone(), window, now);
        let times: Vec<_> = (0..10).map(|number| assign(number, window(start), start).unwrap()).collect();
        for gone in 0..5 {
            let next = times[gone + 1..].iter().min().unwrap();
            assert!(*next <= start + PROBE_INTERVAL * u32::try_from(gone + 2).unwrap(), "{gone} are gone");
        }
        let now = times[5];
        let last = assign(20, window_after(start, now), now);
        assert_eq!(last, Some(start + PROBE_INTERVAL * 11), "behind those that may still come");
        assert_eq!(slots.0.lock().by_record.len(), 5, "the others are forgotten");
    }

    #[test]
    fn each_key_has_slots_of_its_own_and_beyond_a_few_of_each_all_of_them_are_bounded() {
        let (slots, start) = (ProbeSlots::default(), Instant::now());
        let assign = |number, key: &str| slots.assign(record_id(number), caller(key), window(start), start);
        assert_eq!(assign(1, "one"), Some(start + PROBE_INTERVAL));
        assert_eq!(assign(2, "two"), Some(start + PROBE_INTERVAL));
        assert_eq!(assign(1, "two"), Some(start + PROBE_INTERVAL * 2), "its key was changed");
        assert_eq!(assign(3, "one"), Some(start + PROBE_INTERVAL));
        for number in 4..=u32::try_from(MOST).unwrap() {
            assert!(assign(number, &format!("key-{number}")).is_some());
        }
        for number in 1..=4 {
            let slot = assign(20_000 + number, "one-more");
            assert_eq!(slot, Some(start + PROBE_INTERVAL * number), "a few for each, however many there are");
        }
        assert_eq!(assign(20_005, "one-more"), None);
        for number in 1..=5 {
            slots.release(record_id(number));
        }
        assert_eq!(assign(20_005, "one-more"), Some(start + PROBE_INTERVAL * 5));
    }
}
