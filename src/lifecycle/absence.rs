//! When an image that was answered with 404 counts as absent. Pure.
//!
//! What is absent is listed in the manifest, and is never asked for again. So one answer is not enough: a verdict can precede
//! the images that it was made of, and while a portal is rolled out somebody on the way answers in its place.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

use super::{
    evidence::{UploadOutcome, Wanted},
    facts::Facts,
    local_state::{Since, later},
};

/// In the portal's word an image is absent only if the portal says so this long after the verdict was seen, or later.
const ASKED_ONCE_MORE_AFTER: Duration = Duration::from_secs(30);
/// An image that may not have been answered for by the portal is absent if that was the answer so often, …
const UNCLEAR_TIMES: u32 = 3;
/// … the first and the last so far apart.
const UNCLEAR_FOR: Duration = Duration::from_mins(10);

/// Who answered 404 for an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Missing {
    /// The portal, by its own word.
    ByThePortal,
    /// The portal, or somebody on the way.
    Unclear,
}

/// What follows from a 404 for an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// The portal does not have it.
    Absent,
    /// It is asked for once more then, before the manifest is written.
    AskAgainAt(Timestamp),
    /// Nothing, yet.
    NotKnown,
}

/// The 404s of unclear origin that this process has seen for the images of one verification, and whether the portal
/// answered for the session meanwhile. Gone with a restart: then the ten minutes begin anew.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Misses {
    images: BTreeMap<String, Since<()>>,
    details_at: Option<Timestamp>,
}

impl Misses {
    /// Adds what one pass has met.
    pub(super) fn add(&mut self, stored: &UploadOutcome, now: Timestamp) {
        for stem in &stored.unclear {
            let before = self.images.get(stem).copied();
            self.images.insert(stem.clone(), Since::one_more(before, (), now));
        }
        if stored.details_answered {
            self.details_at = Some(now);
        }
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// Bytes on the heap, about.
    #[must_use]
    pub fn heap(&self) -> usize {
        self.images.keys().map(|stem| stem.len() + size_of::<(String, Since<()>)>()).sum()
    }

    /// Whether one more makes an image absent: by then the portal must have answered for the session between the first
    /// and the last of them.
    fn are_enough(&self, stem: &str, now: Timestamp) -> bool {
        self.images.get(stem).is_some_and(|before| {
            before.count + 1 >= UNCLEAR_TIMES
                && before.lasted(now, UNCLEAR_FOR)
                && self.details_at.is_some_and(|answered| answered >= before.since)
        })
    }
}

impl Facts {
    /// What follows from a 404 for an image. `details_answered`: whether the portal answered for the session, with 200,
    /// after that 404. It need not be asked where [`needs_details`](Self::needs_details) says so.
    #[must_use]
    pub fn absence(&self, wanted: &Wanted, who: Missing, details_answered: bool) -> Absence {
        match who {
            // It is asked for again in any case, for ten minutes.
            Missing::ByThePortal if wanted.required => Absence::Absent,
            Missing::ByThePortal => match self.asked_once_more_at() {
                Some(at) => Absence::AskAgainAt(at),
                // JSON can be a gateway's too; then it answers for the details as well.
                None if details_answered => Absence::Absent,
                None => Absence::NotKnown,
            },
            Missing::Unclear if self.local_state.misses.are_enough(&wanted.stem(), self.now) => {
                Absence::Absent
            }
            Missing::Unclear => Absence::NotKnown,
        }
    }

    /// Whether the portal is to be asked for the details of the session after that 404.
    #[must_use]
    pub fn needs_details(&self, wanted: &Wanted, who: Missing) -> bool {
        match who {
            Missing::ByThePortal => !wanted.required && self.asked_once_more_at().is_none(),
            Missing::Unclear => true,
        }
    }

    /// When what the portal does not have is asked for once more; nothing, once that time has come.
    ///
    /// The verdict was seen when status says so, also by an earlier process. Where that lies in the future, by a clock that
    /// was wrong, the time counts from when this process began to store.
    fn asked_once_more_at(&self) -> Option<Timestamp> {
        let begun = self.local_state.storing_since.unwrap_or(self.now);
        let seen = self.evidence.verdict_at.map_or(begun, |verdict_at| verdict_at.min(begun));
        Some(later(seen, ASKED_ONCE_MORE_AFTER)).filter(|at| *at > self.now)
    }
}
