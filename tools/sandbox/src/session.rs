//! One verification session: its state, and how acts and time change it.
//!
//! Pure: time is an argument. May depend on [`person`](crate::person). It is small, because a benchmark has a hundred thousand
//! of them.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::clock::later;
use crate::person::{Act, Document, Person, Verdict};

/// The modules of a session, in order; shared by all sessions with the same flow.
pub(crate) type Flow = Arc<[String]>;

/// The progress of a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// Not started.
    Pending,
    /// Started.
    InProgress,
    /// Done.
    Completed,
    /// Failed; may be tried again.
    Failed,
    /// Skipped.
    Skipped,
}

impl Progress {
    /// The name in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// The status of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Status {
    Generated,
    Initiated,
    InProgress,
    Validating,
    NeedsManualReview,
    Verified,
    Rejected,
    Expired,
    /// A text that a test set; it does not change automatically.
    Custom(Box<str>),
}

impl Status {
    /// The name in JSON.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Generated => "generated",
            Self::Initiated => "initiated",
            Self::InProgress => "in_progress",
            Self::Validating => "validating",
            Self::NeedsManualReview => "needs_manual_review",
            Self::Verified => "verified",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Custom(name) => name,
        }
    }

    /// Whether the person still has something to do, so that the session can expire.
    pub(crate) fn waits_for_the_person(&self) -> bool {
        matches!(self, Self::Generated | Self::Initiated | Self::InProgress)
    }

    pub(crate) fn is_finished(&self) -> bool {
        matches!(self, Self::Verified | Self::Rejected | Self::Expired)
    }
}

/// Why an act was not applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ActError {
    /// No session has this id.
    #[error("find the session: no such verification id")]
    UnknownSession,
    /// The flow has no module of this name.
    #[error("find the module: the session's flow does not name it")]
    UnknownModule,
    /// The session has finished; only `Decide` and `SetStatus` can still change it.
    #[error("change the session: it has finished")]
    Finished,
}

/// One session.
#[derive(Debug)]
pub(crate) struct Session {
    /// The key that created it and that alone may read it.
    pub(crate) key: Arc<str>,
    pub(crate) flow: Flow,
    /// One entry per module of the flow.
    pub(crate) progress: Box<[Progress]>,
    pub(crate) status: Status,
    pub(crate) created_at: Timestamp,
    pub(crate) expires_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    /// How often a document was uploaded.
    pub(crate) attempts: u32,
    pub(crate) document: Document,
    /// Future acts, in the order of their times.
    script: VecDeque<(Timestamp, Act)>,
    pub(crate) details_requests: u32,
    pub(crate) image_requests: u32,
}

impl Session {
    pub(crate) fn new(key: Arc<str>, flow: Flow, now: Timestamp, expires_at: Timestamp) -> Self {
        let progress = flow.iter().map(|_| Progress::Pending).collect();
        Self {
            key,
            flow,
            progress,
            status: Status::Generated,
            created_at: now,
            expires_at,
            updated_at: now,
            attempts: 0,
            document: Document::IdCard,
            script: VecDeque::new(),
            details_requests: 0,
            image_requests: 0,
        }
    }

    /// Assigns a scripted person from `now` on, in place of any earlier one.
    pub(crate) fn follow(&mut self, person: &Person, now: Timestamp) {
        let mut steps: Vec<_> =
            person.steps.iter().map(|step| (later(now, step.after), step.act.clone())).collect();
        steps.sort_by_key(|(at, _)| *at);
        self.script = steps.into();
    }

    /// Applies everything that happened until `now`: the acts of its person, and the expiry.
    pub(crate) fn catch_up(&mut self, now: Timestamp) {
        while let Some((at, _)) = self.script.front()
            && *at <= now
        {
            let Some((at, act)) = self.script.pop_front() else {
                break;
            };
            self.expire(at);
            // A scripted person who is too late changes nothing; that is not an error.
            let _ = self.act(&act, at);
        }
        self.expire(now);
    }

    fn expire(&mut self, now: Timestamp) {
        if self.expires_at <= now && self.status.waits_for_the_person() {
            self.set_status(Status::Expired, self.expires_at);
        }
    }

    /// Applies one act at `now`. The session must have caught up.
    pub(crate) fn act(&mut self, act: &Act, now: Timestamp) -> Result<(), ActError> {
        match act {
            Act::Open => {
                if self.status == Status::Generated {
                    self.set_status(Status::Initiated, now);
                }
                Ok(())
            }
            Act::Begin(module) => self.mark(module, Progress::InProgress, now),
            Act::Complete(module) => self.mark(module, Progress::Completed, now),
            Act::Fail(module) => self.mark(module, Progress::Failed, now),
            Act::Skip(module) => self.mark(module, Progress::Skipped, now),
            Act::Show(document) => {
                self.document = *document;
                Ok(())
            }
            Act::CompleteAll => {
                let flow = Arc::clone(&self.flow);
                flow.iter().try_for_each(|module| self.mark(module, Progress::Completed, now))
            }
            Act::Decide(verdict) => {
                self.set_status(status_of(*verdict), now);
                Ok(())
            }
            Act::SetStatus(name) => {
                self.set_status(Status::Custom(name.as_str().into()), now);
                Ok(())
            }
        }
    }

    fn mark(&mut self, module: &str, to: Progress, now: Timestamp) -> Result<(), ActError> {
        let position = self.flow.iter().position(|name| name == module).ok_or(ActError::UnknownModule)?;
        if self.status.is_finished() {
            return Err(ActError::Finished);
        }
        if module == "document" && matches!(to, Progress::Completed | Progress::Failed) {
            self.attempts = self.attempts.saturating_add(1);
        }
        if let Some(progress) = self.progress.get_mut(position) {
            *progress = to;
        }
        self.updated_at = now;
        if !matches!(self.status, Status::Custom(_) | Status::NeedsManualReview) {
            self.status = if self.is_complete() { Status::Validating } else { Status::InProgress };
        }
        Ok(())
    }

    fn set_status(&mut self, status: Status, at: Timestamp) {
        self.status = status;
        self.updated_at = at;
    }

    /// Whether every module is completed or skipped.
    pub(crate) fn is_complete(&self) -> bool {
        self.progress.iter().all(|progress| matches!(progress, Progress::Completed | Progress::Skipped))
    }

    pub(crate) fn progress_of(&self, module: &str) -> Option<Progress> {
        let position = self.flow.iter().position(|name| name == module)?;
        self.progress.get(position).copied()
    }

    /// The next module for the person.
    pub(crate) fn next_module(&self) -> Option<&str> {
        self.flow
            .iter()
            .zip(&self.progress)
            .find(|(_, progress)| !matches!(progress, Progress::Completed | Progress::Skipped))
            .map(|(module, _)| module.as_str())
    }

    /// Whether there is an accepted image of the document.
    pub(crate) fn has_document(&self) -> bool {
        self.attempts > 0 && self.progress_of("document") == Some(Progress::Completed)
    }
}

fn status_of(verdict: Verdict) -> Status {
    match verdict {
        Verdict::Verified => Status::Verified,
        Verdict::Rejected => Status::Rejected,
        Verdict::NeedsManualReview => Status::NeedsManualReview,
        Verdict::Expired => Status::Expired,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn session() -> Session {
        let flow = ["terms", "document", "liveness", "form_data"].map(str::to_owned);
        Session::new("key".into(), Arc::from(flow), second(0), second(3600))
    }

    #[test]
    fn a_person_who_completes_every_module_gets_the_session_validated() {
        let mut session = session();
        let person = Person::typical(Duration::from_secs(1), Verdict::Verified);
        session.follow(&person, second(0));
        let statuses = (0..=6).map(|at| {
            session.catch_up(second(at));
            session.status.name().to_owned()
        });
        let seen: Vec<_> = statuses.collect();
        let expected =
            ["generated", "initiated", "in_progress", "in_progress", "in_progress", "validating", "verified"];
        assert_eq!(seen, expected);
        assert_eq!(session.updated_at, second(6));
    }

    #[test]
    fn a_person_who_is_later_than_the_expiry_finds_it_expired() {
        let mut session = session();
        let late = Person::new().then(Duration::from_secs(3601), Act::Complete("terms".into()));
        session.follow(&late, second(0));
        session.catch_up(second(9000));
        assert_eq!((session.status.name(), session.updated_at), ("expired", second(3600)));
        assert_eq!(session.progress_of("terms"), Some(Progress::Pending));
    }

    #[test]
    fn a_reviewer_may_take_longer_than_the_expiry() {
        let mut session = session();
        session.act(&Act::CompleteAll, second(1)).unwrap();
        session.act(&Act::Decide(Verdict::NeedsManualReview), second(2)).unwrap();
        session.catch_up(second(99_999));
        assert_eq!(session.status.name(), "needs_manual_review");
    }

    #[test]
    fn a_status_that_was_set_does_not_expire() {
        let mut session = session();
        session.act(&Act::SetStatus("generated".into()), second(1)).unwrap();
        session.catch_up(second(99_999));
        assert_eq!(session.status.name(), "generated");
    }

    #[test]
    fn a_finished_session_accepts_a_new_verdict_but_no_module() {
        let mut session = session();
        session.act(&Act::Decide(Verdict::Verified), second(1)).unwrap();
        assert_eq!(session.act(&Act::Complete("terms".into()), second(2)), Err(ActError::Finished));
        session.act(&Act::Decide(Verdict::Rejected), second(3)).unwrap();
        assert_eq!(session.status.name(), "rejected");
        assert_eq!(session.act(&Act::Skip("selfie".into()), second(4)), Err(ActError::UnknownModule));
    }
}
