//! What a notification of a portal leads to: a poll of its session, and what is learned from that poll. May depend on
//! `reconciler`, `observe`, `requested_polls`, `early_notifications`, `announcements` and `sessions`, and on `lifecycle`,
//! `index` and `workqueue`.

use tokio::time::Instant;

use super::{announcements::News, observe::Observed, reconciler::Reconciler, sessions::SessionKey};
use crate::{
    api::{Outcome, Verification},
    fairness::FairnessKey,
    index::RecordId,
    lifecycle::{Facts, LocalState, Spacing, Stage, jitter_seed, poll_schedule},
    portal::{PortalUrl, VerificationId},
    priority::Priority,
    workqueue::Disposition,
};

impl Reconciler {
    /// Notes that a portal has something new about a session. False if no live verification has that session: then the
    /// notification is kept for a minute.
    pub(crate) fn notified(&self, portal: &PortalUrl, id: &VerificationId) -> bool {
        let session = self.sessions.key(portal.as_str(), id);
        if let Some((record_id, fairness_key)) = self.with_session(session) {
            self.request_poll(record_id, fairness_key);
            return true;
        }
        self.early_notifications.keep(portal.as_str(), session, Instant::now());
        // The verification may have got its session in between, and have found no notification.
        if let Some((record_id, fairness_key)) = self.with_session(session)
            && self.early_notifications.take(session, Instant::now())
        {
            self.request_poll(record_id, fairness_key);
        }
        false
    }

    /// The live verification that has this session.
    fn with_session(&self, session: SessionKey) -> Option<(RecordId, FairnessKey)> {
        let uid = self.sessions.holder(session)?;
        let index = self.index();
        let record_id = index.find_by_short_uid(uid)?;
        Some((record_id, index.view(record_id)?.payload.fairness_key))
    }

    /// Requests the poll of a verification whose session was notified before the verification had it.
    pub(super) fn request_if_notified(&self, record_id: RecordId) {
        let session = self.index().view(record_id).and_then(|view| {
            let entry = view.payload;
            Some((entry.session?, entry.fairness_key))
        });
        if let Some((session, fairness_key)) = session
            && self.early_notifications.take(session, Instant::now())
        {
            self.request_poll(record_id, fairness_key);
        }
    }

    fn request_poll(&self, record_id: RecordId, fairness_key: FairnessKey) {
        if let Some(at) = self.requested_polls.request(record_id, Instant::now()) {
            self.queue.schedule_by(record_id, at, Priority::Requested, fairness_key);
        }
    }

    /// What follows a reconcile, no later than a requested poll that may not be sent yet.
    pub(super) fn no_later_than_requested(
        &self,
        record_id: RecordId,
        disposition: Disposition,
    ) -> Disposition {
        let Disposition::At(at, _, fairness_key) = disposition else { return disposition };
        match self.requested_polls.wanted_later(record_id, Instant::now()) {
            Some(wanted) if wanted < at => Disposition::At(wanted, Priority::Requested, fairness_key),
            _ => disposition,
        }
    }

    /// Learns from a poll that showed something new. If less is announced than it seemed, polls follow soon: they were
    /// planned for later.
    pub(super) fn learn(&self, observed: &Observed, news: News, was_requested: bool) {
        let (Some(account), Some(key)) = (&observed.account, &observed.key) else { return };
        if self.announcements.learn(&account.portal, key.identity(), news, was_requested) {
            tracing::info!(
                portal = account.portal.host(),
                "notifications announce less than they did; polling more often"
            );
            self.poll_sooner(&account.portal);
        }
    }

    /// Brings the polls of all sessions of a portal forward, spread as after a restart.
    fn poll_sooner(&self, portal: &PortalUrl) {
        let now = self.clock.now();
        let mut sooner = Vec::new();
        let mut index = self.index();
        let known: Vec<_> = index.iter().map(|(record_id, _)| record_id).collect();
        for record_id in known {
            let Some(uid) = index.view(record_id).map(|view| view.uid) else { continue };
            let Some(entry) = index.get_mut(record_id) else { continue };
            let (Some(context), Some(compact)) = (entry.poll_context(), entry.compact()) else { continue };
            if context.account.portal != *portal {
                continue;
            }
            let spread = context.baseline.spread(compact, now, Spacing::unstretched(jitter_seed(uid)));
            if let Some(due) = spread.due().filter(|due| compact.due().is_none_or(|planned| *due < planned)) {
                let priority = context.baseline.priority();
                entry.remember_compact(spread);
                sooner.push((record_id, self.clock.instant(due), priority, entry.fairness_key));
            }
        }
        drop(index);
        for (record_id, at, priority, fairness_key) in sooner {
            self.queue.schedule_by(record_id, at, priority, fairness_key);
        }
    }
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
