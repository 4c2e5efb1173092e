//! What this process remembers of each live verification: the payload of the table.

use std::hash::{DefaultHasher, Hash, Hasher};

use kube::ResourceExt;
use tokio::time::Instant;

use crate::{
    api::Verification,
    lifecycle::{Streaks, Urgency, first_turn},
    watch::Priority,
};

use super::Clock;

/// What is remembered of one verification.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Streaks of trouble and the schedule.
    pub streaks: Streaks,
    /// The claim that was found, and since when.
    pub claim: Option<Claim>,
    /// The lane of its portal and key.
    pub lane: u32,
}

/// A claim without a recorded answer.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// The number of the attempt.
    pub attempt: u32,
    /// When this process first saw it.
    pub seen: Instant,
    /// Whether this process knows that its request was not sent.
    pub never_sent: bool,
}

impl Memory {
    /// What is known of a verification that this process sees for the first time, and when its first turn is.
    #[must_use]
    pub fn first(object: &Verification, clock: Clock) -> (Self, Instant) {
        let now = clock.now();
        let status = object.status.clone().unwrap_or_default();
        let uid = object.uid().unwrap_or_default();
        let at = first_turn(&uid, &status, &object.spec, object.metadata.generation, seed(&uid), now);
        let streaks = Streaks { next: at, ..Streaks::default() };
        let memory = Self { streaks, claim: None, lane: lane(object) };
        (memory, at.map_or_else(Instant::now, |at| clock.instant(at)))
    }
}

/// The lane of a verification's portal and key: those who share a key share a lane.
#[must_use]
pub fn lane(object: &Verification) -> u32 {
    let mut hasher = DefaultHasher::new();
    (&object.spec.portal, object.namespace(), &object.spec.api_key_secret_ref.name).hash(&mut hasher);
    object.spec.api_key_secret_ref.key.hash(&mut hasher);
    u32::try_from(hasher.finish() >> 32).unwrap_or_default()
}

/// A hash of the uid: the only chance that the schedule knows.
#[must_use]
pub fn seed(uid: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    uid.hash(&mut hasher);
    hasher.finish()
}

/// The queue's name for an urgency.
pub(super) const fn priority(urgency: Urgency) -> Priority {
    match urgency {
        Urgency::Create => Priority::Create,
        Urgency::Nudge => Priority::Nudge,
        Urgency::Finishing => Priority::Finishing,
        Urgency::Active => Priority::Active,
        Urgency::Idle => Priority::Idle,
    }
}
