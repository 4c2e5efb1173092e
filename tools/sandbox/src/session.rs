//! One verification session: its state and how acts and time move it.
//!
//! Pure: time is an argument. Kept small, because a benchmark holds a hundred thousand of them.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::clock::later;
use crate::person::{Act, Document, Person, Verdict};

/// The modules a session goes through, in order; shared by all sessions made with it.
pub(crate) type Flow = Arc<[String]>;

/// How far a module is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// Not begun.
    Pending,
    /// Begun.
    InProgress,
    /// Done.
    Completed,
    /// Tried without success; may be tried again.
    Failed,
    /// Left out.
    Skipped,
}

impl Progress {
    /// The word on the wire.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// Where a session stands.
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
    /// A word that a test put there; it does not move by itself.
    Said(Box<str>),
}

impl Status {
    /// The word on the wire.
    pub(crate) fn word(&self) -> &str {
        match self {
            Self::Generated => "generated",
            Self::Initiated => "initiated",
            Self::InProgress => "in_progress",
            Self::Validating => "validating",
            Self::NeedsManualReview => "needs_manual_review",
            Self::Verified => "verified",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Said(word) => word,
        }
    }

    /// The person still has something to do, so the session can run out.
    pub(crate) fn waits_for_the_person(&self) -> bool {
        matches!(self, Self::Generated | Self::Initiated | Self::InProgress)
    }

    pub(crate) fn has_ended(&self) -> bool {
        matches!(self, Self::Verified | Self::Rejected | Self::Expired)
    }
}

/// Why an act was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ActError {
    /// No session has this id.
    #[error("find the session: no such verification id")]
    UnknownSession,
    /// The flow has no module of this name.
    #[error("find the module: the session's flow does not name it")]
    UnknownModule,
    /// The session has ended; only a verdict or a word can still change it.
    #[error("act on the session: it has ended")]
    Ended,
}

/// One session.
#[derive(Debug)]
pub(crate) struct Session {
    /// The key that made it, and alone may read it.
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
    /// Acts that are still to come, in the order of their time.
    script: VecDeque<(Timestamp, Act)>,
    /// Calls for its details, and for its images.
    pub(crate) details_calls: u32,
    pub(crate) image_calls: u32,
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
            details_calls: 0,
            image_calls: 0,
        }
    }

    /// Gives the session to a scripted person from `now` on, in place of any earlier one.
    pub(crate) fn follow(&mut self, person: &Person, now: Timestamp) {
        let mut steps: Vec<_> =
            person.steps.iter().map(|step| (later(now, step.after), step.act.clone())).collect();
        steps.sort_by_key(|(at, _)| *at);
        self.script = steps.into();
    }

    /// Brings the session up to `now`: what its person did meanwhile, and whether it ran out.
    pub(crate) fn catch_up(&mut self, now: Timestamp) {
        while let Some((at, _)) = self.script.front()
            && *at <= now
        {
            let Some((at, act)) = self.script.pop_front() else {
                break;
            };
            self.run_out(at);
            // A scripted person who comes too late finds the door closed; that is no error.
            let _ = self.act(&act, at);
        }
        self.run_out(now);
    }

    fn run_out(&mut self, now: Timestamp) {
        if self.expires_at <= now && self.status.waits_for_the_person() {
            self.become_status(Status::Expired, self.expires_at);
        }
    }

    /// Does one act at `now`. The session must have caught up.
    pub(crate) fn act(&mut self, act: &Act, now: Timestamp) -> Result<(), ActError> {
        match act {
            Act::Open => {
                if self.status == Status::Generated {
                    self.become_status(Status::Initiated, now);
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
                self.become_status(said_by(*verdict), now);
                Ok(())
            }
            Act::Say(word) => {
                self.become_status(Status::Said(word.as_str().into()), now);
                Ok(())
            }
        }
    }

    fn mark(&mut self, module: &str, to: Progress, now: Timestamp) -> Result<(), ActError> {
        let place = self.flow.iter().position(|name| name == module).ok_or(ActError::UnknownModule)?;
        if self.status.has_ended() {
            return Err(ActError::Ended);
        }
        if module == "document" && matches!(to, Progress::Completed | Progress::Failed) {
            self.attempts = self.attempts.saturating_add(1);
        }
        if let Some(progress) = self.progress.get_mut(place) {
            *progress = to;
        }
        self.updated_at = now;
        if !matches!(self.status, Status::Said(_) | Status::NeedsManualReview) {
            self.status = if self.is_through() { Status::Validating } else { Status::InProgress };
        }
        Ok(())
    }

    fn become_status(&mut self, status: Status, at: Timestamp) {
        self.status = status;
        self.updated_at = at;
    }

    /// Every module is completed or left out.
    pub(crate) fn is_through(&self) -> bool {
        self.progress.iter().all(|progress| matches!(progress, Progress::Completed | Progress::Skipped))
    }

    pub(crate) fn progress_of(&self, module: &str) -> Option<Progress> {
        let place = self.flow.iter().position(|name| name == module)?;
        self.progress.get(place).copied()
    }

    /// The module the person has to do next.
    pub(crate) fn next_module(&self) -> Option<&str> {
        self.flow
            .iter()
            .zip(&self.progress)
            .find(|(_, progress)| !matches!(progress, Progress::Completed | Progress::Skipped))
            .map(|(module, _)| module.as_str())
    }

    /// Has an accepted image of the document.
    pub(crate) fn has_document(&self) -> bool {
        self.attempts > 0 && self.progress_of("document") == Some(Progress::Completed)
    }
}

fn said_by(verdict: Verdict) -> Status {
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
    fn a_person_who_does_every_module_leaves_the_session_validating() {
        let mut session = session();
        let person = Person::typical(Duration::from_secs(1), Verdict::Verified);
        session.follow(&person, second(0));
        let words = (0..=6).map(|at| {
            session.catch_up(second(at));
            session.status.word().to_owned()
        });
        let seen: Vec<_> = words.collect();
        let told =
            ["generated", "initiated", "in_progress", "in_progress", "in_progress", "validating", "verified"];
        assert_eq!(seen, told);
        assert_eq!(session.updated_at, second(6));
    }

    #[test]
    fn a_person_who_comes_after_the_expiry_finds_it_expired() {
        let mut session = session();
        let late = Person::new().then(Duration::from_secs(3601), Act::Complete("terms".into()));
        session.follow(&late, second(0));
        session.catch_up(second(9000));
        assert_eq!((session.status.word(), session.updated_at), ("expired", second(3600)));
        assert_eq!(session.progress_of("terms"), Some(Progress::Pending));
    }

    #[test]
    fn a_reviewer_may_take_longer_than_the_expiry() {
        let mut session = session();
        session.act(&Act::CompleteAll, second(1)).unwrap();
        session.act(&Act::Decide(Verdict::NeedsManualReview), second(2)).unwrap();
        session.catch_up(second(99_999));
        assert_eq!(session.status.word(), "needs_manual_review");
    }

    #[test]
    fn a_word_that_was_said_does_not_run_out() {
        let mut session = session();
        session.act(&Act::Say("generated".into()), second(1)).unwrap();
        session.catch_up(second(99_999));
        assert_eq!(session.status.word(), "generated");
    }

    #[test]
    fn an_ended_session_takes_no_module_but_a_new_verdict() {
        let mut session = session();
        session.act(&Act::Decide(Verdict::Verified), second(1)).unwrap();
        assert_eq!(session.act(&Act::Complete("terms".into()), second(2)), Err(ActError::Ended));
        session.act(&Act::Decide(Verdict::Rejected), second(3)).unwrap();
        assert_eq!(session.status.word(), "rejected");
        assert_eq!(session.act(&Act::Skip("selfie".into()), second(4)), Err(ActError::UnknownModule));
    }
}
