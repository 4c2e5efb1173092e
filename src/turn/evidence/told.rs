//! What a store complains of, told in the log: one line when it begins and one when it ends. A store that does not answer is
//! told once for all who use it, a refusal for the namespace that it is about.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use kube::ResourceExt;
use tokio::time::Instant;

use crate::{api::Verification, evidence::StoreTrouble};

use super::{Archive, NotNow, place::Place};

/// Most stores whose trouble is remembered; with more it is told again.
const MOST: usize = 1024;
/// Trouble that comes back in this time is the same one; it is told again once it has lasted as long.
const SAME: Duration = Duration::from_mins(1);

/// Whose trouble it is: a namespace, or nobody's alone, and a store.
type Whose = (String, String);

/// The last trouble of each store.
#[derive(Debug, Default)]
pub struct ToldTroubles {
    last: Mutex<HashMap<Whose, Told>>,
}

#[derive(Debug)]
struct Told {
    trouble: StoreTrouble,
    /// When it began, or came back.
    since: Instant,
    ended: Option<Instant>,
    /// It came back soon, and was not told again.
    is_quiet: bool,
}

impl ToldTroubles {
    /// There is trouble; whether that is to be told.
    fn begins(&self, whose: Whose, trouble: StoreTrouble, now: Instant) -> bool {
        // Every change under the lock is complete before it can panic.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() >= MOST && !last.contains_key(&whose) {
            last.clear();
        }
        if let Some(told) = last.get_mut(&whose).filter(|told| told.trouble == trouble) {
            match told.ended.take() {
                None if told.is_quiet && now >= told.since + SAME => {
                    told.is_quiet = false;
                    return true;
                }
                None => return false,
                Some(ended) if now < ended + SAME => {
                    (told.since, told.is_quiet) = (now, true);
                    return false;
                }
                Some(_) => {}
            }
        }
        last.insert(whose, Told { trouble, since: now, ended: None, is_quiet: false });
        true
    }

    /// There is no such trouble any more; which one there was, if its end is to be told.
    fn ends(&self, whose: &Whose, now: Instant) -> Option<StoreTrouble> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let told = last.get_mut(whose).filter(|told| told.ended.is_none())?;
        told.ended = Some(now);
        (!told.is_quiet).then_some(told.trouble)
    }
}

impl Archive {
    /// Tells what the store complains of, if that is new, and that it does not any more. Names neither the store nor
    /// anything that it said.
    pub(super) fn tell(&self, object: &Verification, place: &Place, end: &Result<(), NotNow>) {
        let trouble = match end {
            Ok(()) => None,
            Err(NotNow::Store(trouble)) => Some(*trouble),
            Err(NotNow::Conflict(_)) => Some(StoreTrouble::Conflict),
            Err(
                NotNow::Later(_)
                | NotNow::AskAgainAt(_)
                | NotNow::Changed
                | NotNow::Destination(_)
                | NotNow::Trouble(_),
            ) => return,
        };
        self.tell_changes(object, place, "evidence is not stored", trouble);
    }

    /// Tells what keeps evidence from being removed, if that is new, and that it does not any more.
    pub(super) fn tell_removal(&self, object: &Verification, place: &Place, trouble: Option<StoreTrouble>) {
        self.tell_changes(object, place, "evidence is not removed", trouble);
    }

    fn tell_changes(
        &self,
        object: &Verification,
        place: &Place,
        what: &'static str,
        trouble: Option<StoreTrouble>,
    ) {
        let (namespace, name, now) =
            (object.namespace().unwrap_or_default(), object.name_any(), Instant::now());
        let of_all =
            (String::new(), format!("{} {}", place.store.endpoint(), place.store.location().bucket()));
        let own = (namespace.clone(), format!("{} {what}", place.store.location()));
        let (whose, others): (_, &[&Whose]) = match trouble {
            Some(trouble) if trouble.is_silence() => (&of_all, &[]),
            Some(_) => (&own, &[&of_all]),
            None => (&own, &[&own, &of_all]),
        };
        for trouble in others.iter().filter_map(|whose| self.told.ends(whose, now)) {
            tracing::info!(namespace, name, why = trouble.label(), "this trouble with a store is over");
        }
        if let Some(trouble) = trouble
            && self.told.begins(whose.clone(), trouble, now)
        {
            tracing::warn!(namespace, name, why = trouble.label(), trouble = %trouble, "{what}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::NoAnswer;

    const MISSING: StoreTrouble = StoreTrouble::BucketMissing;
    const REGION: StoreTrouble = StoreTrouble::Misconfigured("region");

    fn of(namespace: &str) -> Whose {
        (namespace.to_owned(), "s3://evidence".to_owned())
    }

    #[test]
    fn each_trouble_is_told_when_it_begins_and_when_it_ends() {
        let (told, now) = (ToldTroubles::default(), Instant::now());
        assert!(told.begins(of("a"), MISSING, now));
        assert!(!told.begins(of("a"), MISSING, now));
        assert!(told.begins(of("b"), MISSING, now), "others are told for themselves");
        assert!(told.begins(of("a"), REGION, now));
        assert_eq!(told.ends(&of("a"), now), Some(REGION));
        assert_eq!(told.ends(&of("a"), now), None, "once");
        assert!(told.begins(of("a"), REGION, now + SAME), "it is another one by then");
    }

    #[test]
    fn a_trouble_that_comes_and_goes_is_two_lines_until_it_stays() {
        let (told, begun) = (ToldTroubles::default(), Instant::now());
        let trouble = StoreTrouble::NoAnswer(NoAnswer::TimedOut);
        let mut lines = 0;
        for second in 0..90 {
            let now = begun + Duration::from_secs(second);
            lines += usize::from(told.begins(of(""), trouble, now));
            lines += usize::from(told.ends(&of(""), now).is_some());
        }
        assert_eq!(lines, 2);
        let later = begun + Duration::from_secs(100);
        assert!(!told.begins(of(""), trouble, later));
        assert!(told.begins(of(""), trouble, later + SAME), "it lasts");
        assert_eq!(told.ends(&of(""), later + SAME), Some(trouble));
    }
}
