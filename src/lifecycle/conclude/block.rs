//! What prevents a session from being created: shown from the first attempt on, and reported once.

use std::time::Duration;

use jiff::Timestamp;

use super::Draft;
use crate::{
    api::{Condition, ConditionType},
    lifecycle::{
        blocker::{Blocker, GRACE},
        event::Event,
        interruption::{Interruption, Stall},
        since::{Since, elapsed, later},
    },
};

/// A resource that waits for a blocker that its own attempts have not met shows it after this time plus a random share
/// of [`SHOWN_WITHIN`]: an outage must not write every status at once.
const SHOWN_AFTER: Duration = Duration::from_secs(30);
/// Such writes are spread over this many seconds.
const SHOWN_WITHIN: u64 = 60;

impl Draft<'_> {
    /// Shows a blocker that an attempt has just met. One that only a person can resolve becomes Stalled after the grace
    /// period, or at once if it was already shown as Stalled, by this process or an earlier one. An attempt that says
    /// nothing about it leaves it unchanged.
    pub(super) fn block(&mut self, blocker: Blocker) {
        let Some(blocker_kind) = blocker.blocker_kind() else {
            self.inputs.interruption = match self.lasting_interruption() {
                lasting @ (Interruption::RetryingCreate | Interruption::Stalled(_))
                    if blocker != Blocker::RequestConflict =>
                {
                    lasting
                }
                Interruption::None
                | Interruption::Blocked(_)
                | Interruption::Retry
                | Interruption::RateLimited
                | Interruption::RetryingCreate
                | Interruption::Suspended
                | Interruption::Stalled(_) => Interruption::Blocked(blocker),
            };
            return;
        };
        let failures = Since::one_more(self.local_state.blocker_kind, blocker_kind, self.facts.now);
        self.local_state.blocker_kind = Some(failures);
        let was_stalled = match self.interruption_before() {
            Interruption::Stalled(Stall::Refused(before)) => before.blocker_kind() == Some(blocker_kind),
            Interruption::Stalled(_)
            | Interruption::None
            | Interruption::Blocked(_)
            | Interruption::Retry
            | Interruption::RateLimited
            | Interruption::RetryingCreate
            | Interruption::Suspended => false,
        };
        self.inputs.interruption = if was_stalled || failures.lasted(self.facts.now, GRACE) {
            Interruption::Stalled(Stall::Refused(blocker))
        } else if self.has_session() {
            self.lasting_interruption()
        } else {
            Interruption::Blocked(blocker)
        };
    }

    /// Shows what other resources have met, while there is no session and this one has waited for the same long enough.
    /// Returns the time to show it, if that is still ahead.
    pub(super) fn block_behind(&mut self, blocker: Blocker) -> Option<Timestamp> {
        let now = self.facts.now;
        let since = *self.local_state.blocked_since.get_or_insert(now);
        let lasting = self.lasting_interruption();
        if self.has_session() || lasting != Interruption::None {
            self.inputs.interruption = lasting;
            return None;
        }
        let shown_after = SHOWN_AFTER + Duration::from_secs(self.facts.jitter_seed % SHOWN_WITHIN);
        if elapsed(since, now) < shown_after {
            self.inputs.interruption = lasting;
            return Some(later(since, shown_after));
        }
        self.inputs.interruption = Interruption::Blocked(blocker);
        None
    }

    /// Reports the cause that Ready shows before there is a link, once per change.
    pub(super) fn report_blocker(&mut self) {
        if self.has_session() {
            return;
        }
        let event = match (self.inputs.interruption, self.inputs.interruption.blocker()) {
            (Interruption::RateLimited, _) => Event::RateLimited,
            (_, Some(blocker)) => Event::Blocked(blocker),
            (_, None) => return,
        };
        let before = Condition::find(&self.before.conditions, ConditionType::Ready);
        if before.is_none_or(|before| before.reason != event.reason()) {
            self.events.push(event);
        }
    }
}
