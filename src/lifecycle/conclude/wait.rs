//! Conclusions of waiting: nothing new is known but what is waited for.

use std::time::Duration;

use crate::{
    api::Reason,
    lifecycle::{
        conditions::{Overlay, Stall},
        facts::{Facts, Grievance, KeyFact, KeyFault, elapsed, later},
        past::Past,
        step::Wait,
    },
};

use super::{Conclusion, Draft, Next};

/// How long trouble with an open session is kept from status: an outage must not write every status.
pub(super) const OUTAGE_SHOWN_AFTER: Duration = Duration::from_mins(5);
/// How long a pause is kept from status.
const PAUSE_SHOWN_AFTER: Duration = Duration::from_mins(1);
/// How often the Secret is read again while its key is refused.
pub(super) const SECRET_READ_AGAIN: Duration = Duration::from_mins(1);
/// How often a missing key is looked for at first, and for how long.
const KEY_SOUGHT: (Duration, Duration) = (Duration::from_secs(5), Duration::from_mins(10));

impl Draft<'_> {
    pub(super) fn wait(mut self, wait: Wait, past: &Past) -> Conclusion {
        self.picture.overlay = self.standing_overlay();
        self.picture.credentials = self.credentials_unless_missing();
        let now = self.facts.now;
        let next = match wait {
            Wait::Key(fault) => self.wait_for_key(fault),
            Wait::KeyBad(until) => {
                self.picture.credentials = Some(match self.credentials_before() {
                    Some(denied @ (Reason::AccessDenied | Reason::KeyRotated)) => denied,
                    _ => Reason::KeyRejected,
                });
                if self.complain(Grievance::Key, Stall::KeyRejected) {
                    self.picture.overlay = Overlay::Stalled(Stall::KeyRejected);
                }
                Next::At(until.min(later(now, SECRET_READ_AGAIN)))
            }
            Wait::Paused(until) => {
                let since = *self.streaks.paused.get_or_insert(now);
                if elapsed(since, now) >= PAUSE_SHOWN_AFTER {
                    self.picture.overlay = Overlay::RateLimited;
                    Next::At(until)
                } else {
                    Next::At(until.min(later(since, PAUSE_SHOWN_AFTER)))
                }
            }
            Wait::Breaker(until) => {
                if self.trouble_is_shown() && *past != Past::Claimed {
                    self.picture.overlay = self.retry_overlay();
                }
                Next::At(until)
            }
            Wait::Rate(until) | Wait::Quiet(until) => Next::At(until),
            Wait::Due(at) if self.streaks.refused_key.is_some() => {
                Next::At(at.min(later(now, SECRET_READ_AGAIN)))
            }
            Wait::Due(at) => Next::At(at),
        };
        if !matches!(wait, Wait::Key(_)) && matches!(self.facts.key, KeyFact::Usable { .. }) {
            self.streaks.key_missing = None;
        }
        self.finish(next)
    }

    fn wait_for_key(&mut self, fault: KeyFault) -> Next {
        self.picture.credentials = Some(fault.reason());
        let since = *self.streaks.key_missing.get_or_insert(self.facts.now);
        let (often, long) = KEY_SOUGHT;
        let wait = if elapsed(since, self.facts.now) < long { often } else { SECRET_READ_AGAIN };
        Next::At(later(self.facts.now, wait))
    }

    /// Trouble shows at once while there is no link, and after five minutes where there is one.
    pub(super) fn trouble_is_shown(&self) -> bool {
        !self.has_session()
            || self.streaks.failing.is_some_and(|failing| failing.lasted(self.facts.now, OUTAGE_SHOWN_AFTER))
            || self.overlay_before() == Overlay::Retry
    }

    /// Trouble over a lost answer keeps saying that the answer was lost.
    pub(super) fn retry_overlay(&self) -> Overlay {
        match self.standing_overlay() {
            Overlay::Healing => Overlay::Healing,
            Overlay::Plain
            | Overlay::Retry
            | Overlay::RateLimited
            | Overlay::Stalled(_)
            | Overlay::Suspended => Overlay::Retry,
        }
    }

    /// What a pause that the portal asks for shows.
    pub(super) fn pause(&mut self) {
        let since = *self.streaks.paused.get_or_insert(self.facts.now);
        self.picture.overlay = if elapsed(since, self.facts.now) >= PAUSE_SHOWN_AFTER {
            Overlay::RateLimited
        } else {
            self.standing_overlay()
        };
    }
}

/// The fingerprint of the key that is used.
pub(super) fn fingerprint(facts: &Facts) -> Option<String> {
    match &facts.key {
        KeyFact::Usable { fingerprint } => Some(fingerprint.clone()),
        KeyFact::Missing(_) => None,
    }
}
