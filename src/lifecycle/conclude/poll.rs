//! Conclusions of a poll: what the portal says about a session.

use std::time::Duration;

use super::{
    Conclusion, Draft, Requeue,
    create::PAUSE,
    wait::{SECRET_READ_AGAIN, fingerprint},
};
use crate::{
    api::{Outcome, Phase, Reason, SessionState},
    lifecycle::{
        blocker::Blocker,
        conditions::whole_seconds,
        event::Event,
        facts::{Deadline, PortalFact},
        interruption::{Interruption, Stall},
        poll_baseline::digest,
        portal_report::{PortalReport, PortalStatus, all_done, is_untouched, report, summary},
        schedule::{EXPIRY_GRACE, LONGEST, backoff, next_poll, poll_schedule},
        since::{Since, elapsed, later},
        state::OpenPhase,
    },
    portal::{error::PortalError, verification_id::VerificationId, wire::Details},
};

/// A change of progress is written at most this often.
const PROGRESS_SHOWN_EVERY: Duration = Duration::from_secs(10);
/// A portal may take this long to find a new session itself.
const YOUNG: Duration = Duration::from_mins(1);
/// This many polls in a row must be answered before a session may end by the portal's clock.
const GOOD_POLLS: u8 = 3;
/// The portal's status, the progress and `updated_at` must stay unchanged for this long before a session may end by the
/// portal's clock.
const STILL_FOR: Duration = Duration::from_hours(1);
/// This many 404s in a row mean that a session is not found, …
const NOT_FOUND: u32 = 3;
/// … if they came at least this far apart. A poll that a person requests in between confirms nothing.
const NOT_FOUND_AGAIN: Duration = Duration::from_mins(5);
/// A gateway may send a 404 in the portal's form. Without a 200 for another session since the first of them, they must
/// last this long to end a session.
const GONE_FOR: Duration = Duration::from_hours(24);

/// Outdated answers, older than an earlier answer of the portal, are believed after this many in a row or after this
/// time: by then the portal has gone back, such as to a backup.
const OUTDATED: (u32, Duration) = (5, Duration::from_mins(10));
/// Outdated answers that are nearer than this count as one. The schedule keeps polls further apart, a person's requests do not.
const OUTDATED_APART: Duration = Duration::from_millis(1800);
/// How soon to poll again after an outdated answer that says `expired`, or that came to the last poll. An `expired` that
/// comes sooner, because a person requests polls, confirms nothing.
const OUTDATED_AGAIN: Duration = Duration::from_secs(5);

impl Draft<'_> {
    pub(crate) fn adopt(mut self, id: &VerificationId, answer: &Result<Details, PortalError>) -> Conclusion {
        self.local_state.last_poll = Some(self.facts.now);
        match answer {
            Ok(details) if details.id.as_ref() == Some(id) => {
                self.take_over(id);
                self.answered(details)
            }
            Ok(_) => self.mismatch(),
            Err(PortalError::NotFound) => {
                self.inputs.credentials = self.credentials_unless_missing();
                self.not_found()
            }
            Err(error) => {
                self.inputs.credentials = self.credentials_unless_missing();
                let next = self.refused(error);
                let next = self.within_polling(next, error);
                self.finish(next)
            }
        }
    }

    fn take_over(&mut self, id: &VerificationId) {
        self.status.verification_id = Some(id.as_str().to_owned());
        let uid = self.facts.uid.clone();
        let now = whole_seconds(self.facts.now);
        let key = fingerprint(self.facts);
        let portal = match &self.facts.portal {
            PortalFact::Allowed(portal) => Some(portal.as_str().to_owned()),
            PortalFact::NotAllowed => None,
        };
        let session = self.session();
        session.state = Some(SessionState::Adopted);
        session.uid = Some(uid);
        session.created_at.get_or_insert(now);
        session.key_fingerprint = key;
        session.portal = session.portal.take().filter(|_| portal.is_none()).or(portal);
        self.events.push(Event::SessionAdopted);
    }

    pub(crate) fn poll(mut self, id: &VerificationId, answer: &Result<Details, PortalError>) -> Conclusion {
        self.local_state.last_poll = Some(self.facts.now);
        let error = match answer {
            Ok(details) if details.id.as_ref() == Some(id) => return self.answered(details),
            Ok(_) => {
                self.note_last_poll();
                return self.mismatch();
            }
            Err(error) => error,
        };
        self.inputs.interruption = self.lasting_interruption();
        self.inputs.credentials = self.credentials_unless_missing();
        self.note_last_poll();
        match error {
            PortalError::KeyRejected => self.poll_refused(Blocker::KeyRejected),
            PortalError::AccessDenied => self.poll_refused(Blocker::AccessDenied),
            PortalError::NotFound => self.not_found(),
            PortalError::Limited { retry_after } => {
                self.local_state.good_polls = 0;
                self.pause();
                let wait = self.not_too_soon(retry_after.unwrap_or_default().max(PAUSE));
                let at = later(self.facts.now, wait).max(self.regular());
                let next = self.due_at(at);
                self.finish(next)
            }
            PortalError::NotSent(_)
            | PortalError::Invalid
            | PortalError::Conflict
            | PortalError::Redirected
            | PortalError::Unconfigured
            | PortalError::Unclear { status: _ }
            | PortalError::Failed(_) => self.poll_failed(),
        }
    }

    /// Notes that the portal could be polled after the deadline and gave no answer, or an outdated one.
    fn note_last_poll(&mut self) {
        if self.deadline_has_passed() {
            self.local_state.last_polls_since.get_or_insert(self.facts.now);
        }
    }

    /// Whether the deadline has passed by now; the call may have been sent before it.
    fn deadline_has_passed(&self) -> bool {
        match self.facts.deadline {
            Deadline::Ahead(at) => at <= self.facts.now,
            Deadline::Passed { at: _, polled: _, overdue: _, long_ago: _ } => true,
        }
    }

    fn poll_refused(mut self, refusal: Blocker) -> Conclusion {
        let failures = self.one_more_failure();
        self.refused_key(refusal);
        let wait = self.facts.bounds.hold(backoff(
            Duration::from_mins(5),
            LONGEST,
            failures,
            self.facts.jitter_seed,
        ));
        let at = later(self.facts.now, wait);
        self.local_state.next = Some(at);
        let again = later(self.facts.now, SECRET_READ_AGAIN);
        self.finish(Requeue::At(at.min(again)))
    }

    /// When a failed adoption is retried. An adoption is a poll, so the bounds of the resource apply, except after a
    /// pause.
    fn within_polling(&mut self, next: Requeue, error: &PortalError) -> Requeue {
        let Some(planned) = self.local_state.next else { return next };
        let wait = elapsed(self.facts.now, planned);
        let wait = if matches!(error, PortalError::Limited { .. }) {
            self.not_too_soon(wait)
        } else {
            self.facts.bounds.hold(wait)
        };
        let at = later(self.facts.now, wait);
        self.local_state.next = Some(at);
        match next {
            Requeue::At(wake) if wake == planned => Requeue::At(at),
            Requeue::At(wake) => Requeue::At(wake.min(at)),
            Requeue::Now | Requeue::AwaitChange | Requeue::Done => next,
        }
    }

    /// A wait that is not shorter than the resource allows.
    fn not_too_soon(&self, wait: Duration) -> Duration {
        self.facts.bounds.min.map_or(wait, |min| wait.max(min))
    }

    fn poll_failed(mut self) -> Conclusion {
        let failures = self.one_more_failure();
        if self.failure_is_shown() {
            self.inputs.interruption = self.retry_interruption();
        }
        // A failure says nothing about the session, so the next poll comes sooner than after an answer. The breaker
        // limits the calls to the portal while many resources fail.
        let wait = backoff(Duration::from_secs(2), Duration::from_mins(2), failures, self.facts.jitter_seed);
        let next = self.due(self.facts.bounds.hold(wait));
        self.finish(next)
    }

    fn mismatch(mut self) -> Conclusion {
        // Reported once while it lasts.
        if self.local_state.failing.is_none() {
            self.events.push(Event::IdMismatch);
        }
        self.inputs.interruption = self.lasting_interruption();
        self.inputs.credentials = self.credentials_unless_missing();
        self.poll_failed()
    }

    fn not_found(mut self) -> Conclusion {
        let now = self.facts.now;
        self.local_state.good_polls = 0;
        let created = self.status.session.as_ref().and_then(|session| session.created_at);
        if self.has_session() && created.is_some_and(|created| elapsed(created, now) < YOUNG) {
            let at = self.regular();
            let next = self.due_at(at);
            return self.finish(next);
        }
        let spacing = self.facts.bounds.hold(NOT_FOUND_AGAIN);
        let before = self.local_state.not_found;
        let failures = Since::one_more_every(spacing, before, (), now);
        self.local_state.not_found = Some(failures);
        if failures.count < NOT_FOUND
            && self.interruption_before() != Interruption::Stalled(Stall::SessionNotFound)
        {
            self.inputs.interruption = Interruption::Retry;
            let is_early = before == Some(failures);
            let again = if is_early { failures.counts_again_at(spacing) } else { later(now, spacing) };
            let next = self.due_at(again);
            return self.finish(next);
        }
        // The portal answered 200 for another session since the first 404 in a row.
        let others_are_found = self.facts.polled_at.is_some_and(|polled_at| polled_at >= failures.since);
        let is_gone = others_are_found || failures.lasted(now, GONE_FOR);
        if self.has_session() && self.past_expiry_grace() && is_gone {
            return self.end(Outcome::Expired, Event::ExpiredAndGone);
        }
        let wait = self.facts.bounds.hold(LONGEST);
        self.stall(Stall::SessionNotFound, Some(Event::SessionNotFound));
        let next = self.due(wait);
        self.finish(next)
    }

    /// A 200 that names this session.
    fn answered(mut self, details: &Details) -> Conclusion {
        let report = report(details);
        let now = self.facts.now;
        self.inputs.credentials = Some(Reason::Accepted);
        self.local_state.failing = None;
        self.local_state.blocker_kind = None;
        self.local_state.not_found = None;
        self.local_state.paused = None;
        self.local_state.key_missing = None;
        self.local_state.refused_key = None;
        self.local_state.good_polls = self.local_state.good_polls.saturating_add(1);
        self.local_state.names_modules = !report.progress.is_empty();

        let is_outdated = self.is_outdated(&report);
        let confirms = self.local_state.expired_before && self.polled_long_ago();
        let asks_again = is_outdated && report.status == PortalStatus::End(Outcome::Expired) && !confirms;
        self.local_state.expired_before = asks_again;
        let is_verdict = matches!(report.status, PortalStatus::End(_)) && !asks_again;
        // The last poll must show the state after the deadline.
        let is_no_last_poll = is_outdated && !is_verdict && self.deadline_has_passed();
        if is_no_last_poll {
            self.note_last_poll();
        } else {
            self.local_state.last_answer = Some(now);
            self.local_state.last_polls_since = None;
            self.local_state.suspended_for = Duration::ZERO;
        }
        if asks_again || is_no_last_poll {
            let next = self.due(self.facts.bounds.hold(OUTDATED_AGAIN));
            return self.finish(next);
        }
        if let PortalStatus::End(outcome) = report.status {
            self.apply(&report, None);
            let event = match outcome {
                Outcome::Verified => Event::Verified,
                Outcome::Rejected => Event::Rejected,
                Outcome::Expired | Outcome::Failed => Event::Expired,
            };
            return self.end(outcome, event);
        }
        let shown_at = if is_outdated { None } else { self.note_progress(&report) };
        if !is_outdated && self.may_expire_by_clock(&report) {
            return self.end(Outcome::Expired, Event::ExpiredByClock);
        }
        let regular = self.regular();
        let at =
            shown_at.map_or(regular, |shown_at| regular.min(shown_at.max(self.facts.bounds.soonest(now))));
        let mut next = self.due_at(at);
        if self.deadline_has_passed() {
            // This was the last poll, so the schedule has nothing to wait for.
            next = Requeue::Now;
        }
        self.finish(next)
    }

    /// Whether an answer is older than an earlier one, as from a replica that lags behind. Counts such answers in a
    /// row, and believes them in the end.
    fn is_outdated(&mut self, report: &PortalReport) -> bool {
        let known = self.local_state.updated_at.or(self.status.portal_updated_at);
        let is_older = report.updated_at.is_some_and(|stamp| known.is_some_and(|known| stamp < known));
        let (most, longest) = OUTDATED;
        self.local_state.outdated = is_older
            .then(|| Since::one_more_every(OUTDATED_APART, self.local_state.outdated, (), self.facts.now))
            .filter(|failures| failures.count <= most && !failures.lasted(self.facts.now, longest));
        self.local_state.outdated.is_some()
    }

    /// Whether the poll before this one was long enough ago to be confirmed by this one.
    fn polled_long_ago(&self) -> bool {
        let polled = self.facts.local_state.last_poll;
        polled.is_none_or(|polled| elapsed(polled, self.facts.now) >= self.facts.bounds.hold(OUTDATED_AGAIN))
    }

    /// Takes over what changed. If a change was shown less than ten seconds ago, returns when this one may be shown.
    fn note_progress(&mut self, report: &PortalReport) -> Option<jiff::Timestamp> {
        let now = self.facts.now;
        let open = match report.status {
            PortalStatus::Open(open) => Some(open),
            PortalStatus::Unknown | PortalStatus::Missing | PortalStatus::End(_) => None,
        };
        let differs = self.progress_differs(report)
            || open.is_some_and(|open| self.status.phase != Some(open.phase()))
            || self.status_differs(report);
        let stamp_moved = self
            .local_state
            .updated_at
            .is_some_and(|before| report.updated_at.is_some_and(|stamp| stamp != before));
        if differs || stamp_moved {
            self.local_state.changed_at = Some(now);
            self.local_state.still_since = Some(now);
        }
        self.local_state.still_since.get_or_insert(now);
        self.local_state.updated_at = report.updated_at.or(self.local_state.updated_at);
        if !differs {
            self.local_state.seen = digest(report);
            return None;
        }
        let wait = self
            .local_state
            .shown_at
            .map(|shown_at| later(shown_at, PROGRESS_SHOWN_EVERY))
            .filter(|allowed_at| *allowed_at > now);
        if wait.is_none() {
            self.local_state.shown_at = Some(now);
            if report.status == PortalStatus::Unknown && self.status.portal_status != report.raw {
                self.events.push(Event::UnknownPortalStatus);
            }
            self.apply(report, open);
        }
        self.local_state.seen = digest(report).filter(|_| wait.is_none());
        wait
    }

    /// Modules that have not started count as no change if no progress was known.
    fn progress_differs(&self, report: &PortalReport) -> bool {
        let untouched = self.status.progress.is_empty() && is_untouched(report);
        self.status.progress != report.progress && !untouched
    }

    /// The first status of a new session is not a change: every session has one.
    fn status_differs(&self, report: &PortalReport) -> bool {
        let first = self.status.portal_status.is_none() && matches!(report.status, PortalStatus::Open(_));
        report.raw.is_some() && self.status.portal_status != report.raw && !first
    }

    fn apply(&mut self, report: &PortalReport, open: Option<OpenPhase>) {
        if let Some(open) = open {
            self.status.phase = Some(open.phase());
        }
        if report.raw.is_some() {
            self.status.portal_status.clone_from(&report.raw);
        }
        self.status.progress.clone_from(&report.progress);
        self.status.progress_summary = summary(&self.status.flow, &report.progress);
        if report.updated_at.is_some() {
            self.status.portal_updated_at = report.updated_at;
        }
    }

    /// Whether the session ended an hour ago or more by the portal's clock; false if that clock is unknown.
    fn past_expiry_grace(&self) -> bool {
        let end =
            poll_schedule(&self.status, &self.local_state, self.facts.bounds, self.facts.times()).expires_at;
        self.facts.portal_now.is_some() && end.is_some_and(|end| later(end, EXPIRY_GRACE) <= self.facts.now)
    }

    /// Whether nothing moved for an hour, as far as this process has polled and by the portal's own stamp.
    fn stands_still(&self, report: &PortalReport) -> bool {
        let since_stamp = report
            .updated_at
            .zip(self.facts.portal_now)
            .is_none_or(|(stamp, now)| later(stamp, STILL_FOR) <= now);
        let seen =
            self.local_state.still_since.is_some_and(|since| elapsed(since, self.facts.now) >= STILL_FOR);
        since_stamp && seen
    }

    /// Whether the session ended an hour ago or more, nothing moved for as long, the person has not finished, and the
    /// last three polls were answered.
    fn may_expire_by_clock(&self, report: &PortalReport) -> bool {
        let finished = matches!(self.status.phase, Some(Phase::Processing | Phase::InReview));
        self.past_expiry_grace()
            && self.stands_still(report)
            && self.local_state.good_polls >= GOOD_POLLS
            && !finished
            && !all_done(&self.status.flow, &self.status.progress)
    }

    fn regular(&self) -> jiff::Timestamp {
        let poll_schedule =
            poll_schedule(&self.status, &self.local_state, self.facts.bounds, self.facts.times());
        next_poll(&poll_schedule, self.facts.now, self.facts.spacing())
    }
}
