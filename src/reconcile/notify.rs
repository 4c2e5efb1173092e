//! What a notification of a portal leads to: a poll of its session, and what is learned from that poll. May depend on
//! `reconciler`, `cache_entry`, `observe`, `requested_polls`, `early_notifications`, `announcements` and `sessions`, and on
//! `lifecycle`, `index` and `workqueue`.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    announcements::News, cache_entry::CacheEntry, observe::Observed, reconciler::Reconciler,
    sessions::SessionKey,
};
use crate::{
    api::{Outcome, Verification},
    fairness::FairnessKey,
    index::RecordId,
    lifecycle::{Facts, LocalState, Stage, poll_schedule},
    portal::{PortalUrl, VerificationId},
    priority::Priority,
    workqueue::Disposition,
};

/// A poll tells what notifications announce only if the one that requested it arrived less than this before.
const TELLS_WITHIN: Duration = Duration::from_mins(1);

/// The live verification that has a session.
struct Holder {
    record_id: RecordId,
    fairness_key: FairnessKey,
    /// The priority of a poll that the schedule plans.
    planned: Priority,
}

impl Reconciler {
    /// Notes that a portal has something new about a session. False if no live verification has that session: then the
    /// notification is kept for a minute.
    pub(crate) fn notified(&self, portal: &PortalUrl, id: &VerificationId) -> bool {
        let session = self.sessions.key(portal.as_str(), id);
        if let Some(holder) = self.holder_of(session) {
            self.request_poll(&holder);
            return true;
        }
        self.early_notifications.keep(portal.as_str(), session, Instant::now());
        // The verification may have got its session in between, and have found no notification.
        if let Some(holder) = self.holder_of(session)
            && self.early_notifications.take(session, Instant::now())
        {
            self.request_poll(&holder);
        }
        false
    }

    fn holder_of(&self, session: SessionKey) -> Option<Holder> {
        let uid = self.sessions.holder(session)?;
        let index = self.index();
        let record_id = index.find_by_short_uid(uid)?;
        Some(Holder::of(record_id, index.view(record_id)?.payload))
    }

    /// Requests the poll of a verification whose session was notified before the verification had it.
    pub(super) fn request_if_notified(&self, record_id: RecordId) {
        let found = self.index().view(record_id).and_then(|view| {
            let entry = view.payload;
            Some((entry.session?, Holder::of(record_id, entry)))
        });
        if let Some((session, holder)) = found
            && self.early_notifications.take(session, Instant::now())
        {
            self.request_poll(&holder);
        }
    }

    fn request_poll(&self, holder: &Holder) {
        let Holder { record_id, fairness_key, planned } = *holder;
        if let Some(wanted) = self.requested_polls.request(record_id, fairness_key, Instant::now()) {
            self.queue.schedule_by(record_id, wanted.from, wanted.priority(planned), fairness_key);
        }
    }

    /// What follows a reconcile, no later than a requested poll that may not be sent yet.
    pub(super) fn no_later_than_requested(
        &self,
        record_id: RecordId,
        disposition: Disposition,
    ) -> Disposition {
        let Disposition::At(at, priority, fairness_key) = disposition else { return disposition };
        match self.requested_polls.wanted_later(record_id, Instant::now()) {
            Some(wanted) if wanted.from < at => {
                Disposition::At(wanted.from, wanted.priority(priority), fairness_key)
            }
            _ => disposition,
        }
    }

    /// Learns from a poll that showed something new. `notified_at`: when the notification arrived that had requested it.
    pub(super) fn learn(&self, observed: &Observed, news: News, notified_at: Option<Instant>) {
        let (Some(account), Some(key)) = (&observed.account, &observed.key) else { return };
        if tells_anything(notified_at, Instant::now())
            && self.announcements.learn(&account.portal, key.identity(), news, notified_at)
        {
            tracing::info!(
                portal = account.portal.host(),
                "notifications announce less than they did; polling more often"
            );
        }
    }
}

impl Holder {
    fn of(record_id: RecordId, entry: &CacheEntry) -> Self {
        let planned = entry.poll_context().map_or(Priority::Active, |context| context.baseline.priority());
        Self { record_id, fairness_key: entry.fairness_key, planned }
    }
}

/// Whether what a poll showed tells something about notifications: if one requested it long before, it may have been about
/// something else, and one about the news may have been lost.
fn tells_anything(notified_at: Option<Instant>, now: Instant) -> bool {
    notified_at.is_none_or(|notified_at| now.saturating_duration_since(notified_at) < TELLS_WITHIN)
}

/// What a reconcile showed that was new: the status before it and after, and what was remembered after it.
pub(super) fn news(
    before: &Verification,
    written: Option<&Verification>,
    facts: &Facts,
    after: &LocalState,
) -> Option<News> {
    let status = before.status.as_ref()?;
    let outcome = written.and_then(|written| written.status.as_ref()?.outcome);
    if status.outcome.is_none() && matches!(outcome, Some(Outcome::Verified | Outcome::Rejected)) {
        let schedule = poll_schedule(status, &facts.local_state, facts.bounds, facts.times());
        return Some(News::Verdict {
            was_near: matches!(schedule.stage, Stage::Finishing | Stage::InReview),
        });
    }
    // The portal's own stamp: what status shows may lag behind.
    let (known, stamp) = (facts.local_state.updated_at?, after.updated_at?);
    (outcome.is_none() && stamp > known).then_some(News::Progress)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{Phase, VerificationStatus},
        lifecycle::fixtures,
    };

    fn with(status: VerificationStatus) -> Verification {
        Verification { status: Some(status), ..fixtures::verification("alice") }
    }

    #[test]
    fn a_verdict_is_news_and_near_only_if_it_was_known_that_the_person_had_finished() {
        let news_of = |phase, outcome| {
            let before = fixtures::open(phase);
            let after = VerificationStatus { outcome: Some(outcome), ..before.clone() };
            news(&with(before), Some(&with(after)), &fixtures::facts(), &LocalState::default())
        };
        let verdict = |was_near| Some(News::Verdict { was_near });
        assert_eq!(news_of(Phase::AwaitingUser, Outcome::Verified), verdict(false));
        assert_eq!(news_of(Phase::Processing, Outcome::Verified), verdict(true));
        assert_eq!(news_of(Phase::InReview, Outcome::Rejected), verdict(true));
        assert_eq!(news_of(Phase::AwaitingUser, Outcome::Expired), None, "portals need not announce it");
    }

    #[test]
    fn a_poll_that_was_requested_more_than_a_minute_before_tells_nothing_about_notifications() {
        let now = Instant::now();
        let tells = |age| tells_anything(Some(now), now + age);
        assert!(tells_anything(None, now), "the news was not announced");
        assert!(tells(Duration::from_secs(59)));
        assert!(!tells(TELLS_WITHIN), "as where `spec.polling.minInterval` held it back");
    }

    #[test]
    fn progress_is_news_once_the_portals_own_stamp_has_moved() {
        let news_of = |known, stamp| {
            let mut facts = fixtures::facts();
            facts.local_state.updated_at = known;
            let after = LocalState { updated_at: stamp, ..LocalState::default() };
            news(&with(fixtures::open(Phase::AwaitingUser)), None, &facts, &after)
        };
        let [first, later] = [0, 10].map(|seconds| Some(fixtures::after(seconds)));
        assert_eq!(news_of(first, later), Some(News::Progress));
        for (known, stamp) in [(first, first), (later, first), (None, first), (first, None)] {
            assert_eq!(news_of(known, stamp), None);
        }
    }
}
