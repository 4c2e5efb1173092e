//! When an image that was answered with 404 counts as absent. Pure.
//!
//! What is absent is listed in the manifest, and is never requested again. So one answer is not enough: a verdict can precede
//! the images that it is based on, and while a portal is rolled out a gateway may answer in its place.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

use super::{evidence::UploadOutcome, since::Since};

/// An image that may not have been answered for by the portal is absent if that was the answer so often, …
const UNCLEAR_TIMES: u32 = 3;
/// … the first and the last so far apart.
const UNCLEAR_FOR: Duration = Duration::from_mins(10);

/// Who answered 404 for an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Missing {
    /// The portal, by its own word.
    ByThePortal,
    /// The portal, or a gateway.
    Unclear,
}

/// What follows from a 404 for an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// The portal does not have it.
    Absent,
    /// It is requested once more then, before the manifest is written.
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
    pub(super) fn are_enough(&self, stem: &str, now: Timestamp) -> bool {
        self.images.get(stem).is_some_and(|before| {
            before.count + 1 >= UNCLEAR_TIMES
                && before.lasted(now, UNCLEAR_FOR)
                && self.details_at.is_some_and(|answered| answered >= before.since)
        })
    }
}
