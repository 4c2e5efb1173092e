//! When a 404 for an image means that the portal does not have it. Pure.
//! An absent image is listed in the manifest and is never requested again, so one 404 is not enough: a verdict can
//! precede the images that it is based on, and during a rollout of the portal a gateway may respond in its place.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

use super::{evidence::UploadOutcome, since::Since};

/// How many 404s of unclear origin make an image absent.
const UNCLEAR_TIMES: u32 = 3;
/// The least time between the first and the last of them.
const UNCLEAR_FOR: Duration = Duration::from_mins(10);

/// Where a 404 for an image came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Missing {
    /// The portal; the body says so.
    ByThePortal,
    /// The portal or a gateway.
    Unclear,
}

/// What follows from a 404 for an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Absence {
    /// The portal does not have it.
    Absent,
    /// The image is requested once more at this time, before the manifest is written.
    AskAgainAt(Timestamp),
    /// It is not known yet.
    NotKnown,
}

/// The 404s of unclear origin that this process has seen for the images of one verification, and when the portal last
/// answered for the session. A restart loses them, and the ten minutes begin again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Misses {
    images: BTreeMap<String, Since<()>>,
    details_at: Option<Timestamp>,
}

impl Misses {
    /// Adds what one attempt to store has met.
    pub(super) fn add(&mut self, stored: &UploadOutcome, now: Timestamp) {
        for stem in &stored.unclear {
            let before = self.images.get(stem).copied();
            self.images.insert(stem.clone(), Since::one_more(before, (), now));
        }
        if stored.details_answered {
            self.details_at = Some(now);
        }
    }

    /// Whether no such 404 was seen.
    pub(super) fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// Bytes on the heap, approximately.
    #[must_use]
    pub(crate) fn heap(&self) -> usize {
        self.images.keys().map(|stem| stem.len() + size_of::<(String, Since<()>)>()).sum()
    }

    /// Whether one more 404 makes an image absent. The portal must also have answered for the session between the first
    /// and the last of them.
    pub(super) fn are_enough(&self, stem: &str, now: Timestamp) -> bool {
        self.images.get(stem).is_some_and(|before| {
            before.count + 1 >= UNCLEAR_TIMES
                && before.lasted(now, UNCLEAR_FOR)
                && self.details_at.is_some_and(|answered| answered >= before.since)
        })
    }
}
